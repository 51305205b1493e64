"""A small training, as a launcher makes it and as one process does."""

from collections.abc import Mapping, Sequence
import functools
import json
import pathlib
import sys
import tempfile
from typing import Any

from launch.jobs import description
from tests.launch import digits_data, processes

SEED = 3


def job(folder: str, hosts: int, **more: Any) -> description.Job:
  """A job of so many hosts with one CPU device each; it misses its target."""
  hparams = [f[5:].split('=') for f in processes.QUICK if f.startswith('--hp=')]
  return description.job(
    {
      'benchmark': 'resnet',
      'size': 'tiny',
      'division': 'open',
      'hparams': {name: int(value) for name, value in hparams},
      'hardware': 'cpu',
      'chips_per_host': 1,
      'hosts': hosts,
      'runs': 1,
      'data': digits_data.data_dir(),
      'output': f'{folder}/out put',
      'code': str(processes.ROOT),
      'python': sys.executable,
      'time_limit': '0:20:00',
      'flags': [f'--seed={SEED}', f'--compile_cache={folder}/cache'],
      **more,
    }
  )


def record(folder: str | pathlib.Path, run: int = 0) -> Mapping[str, Any]:
  """Files that a run left."""
  text = pathlib.Path(folder, f'run_{run}.json').read_text(encoding='utf-8')
  return json.loads(text)


@functools.cache
def alone(devices: int) -> Sequence[tuple[int, float]]:
  """Steps and losses of one process with so many devices."""
  with tempfile.TemporaryDirectory() as folder:
    done = processes.run(
      'launch.train',
      *processes.QUICK,
      f'--seed={SEED}',
      f'--output={folder}',
      f'--data_dir={digits_data.data_dir()}',
      environment={'JAX_NUM_CPU_DEVICES': str(devices)},
    )
    assert done.returncode == 1, done.stderr
    return record(folder)['losses']
