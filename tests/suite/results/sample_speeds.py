"""Measured points as files of launch.speed have them."""


def program(name='train_step', **more):
  """A measured program as files have it."""
  return {
    'kind': name.partition(' ')[0],
    'name': name,
    'contents': {'samples': 64.0, 'tokens': 640.0},
    'rates': {'samples': 640.0, 'tokens': 6400.0},
    'steps': 100,
    'mean': 0.1,
    'median': 0.1,
    'interval': 0.002,
    'p5': 0.09,
    'p95': 0.11,
    'slowest': 0.2,
    'spread': 0.01,
    'host': 0.001,
    'processor': 0.2,
    'steady': True,
    'precise': True,
    'finite': True,
    'flops': 1e9,
    'flops_rate': 1e10,
    'of_measured_peak': 0.5,
    'of_published_peak': None,
    'memory': 2**20,
    'traffic': 10**6,
    'traffic_rate': 1e7,
    'of_memory_rate': None,
    'best': None,
    **more,
  }


def point(benchmark='resnet', *programs, **more):
  """A measured point as files have it."""
  return {
    'benchmark': benchmark,
    'draft': False,
    'size': 'tiny',
    'label': '',
    'division': 'closed',
    'input': 'device',
    'batch': 64,
    'batch_name': 'global_batch_size',
    'devices': 1,
    'processes': 1,
    'programs': list(programs or [program()]),
    'trace': None,
    'allocated': None,
    'compile': {'compile': 2.0, 'programs': 3, 'kept_from_before': 1},
    'published': [],
    'system': {'platform': 'cpu', 'processor': 'Two cores', 'cores': 2},
    'failed': '',
    **more,
  }


def failed(benchmark='resnet'):
  """A point that could not be measured."""
  return {
    'benchmark': benchmark, 'draft': False, 'size': 'tiny', 'label': '',
    'devices': 1, 'processes': 1, 'input': 'device', 'failed': 'out of memory',
  }  # fmt: skip
