"""Results and scores as JSON holds them, made up for the tests."""

from collections.abc import Mapping, Sequence
import statistics

import numpy as np

from suite.results.records import RunRecord, Score, typed
from suite.results.report import page

_SETTINGS = (
  # name, value, reference, log key, tunable, what it is
  ('global_batch_size', 128, 128, 'global_batch_size', True, 'Rows a step.'),
  (
    'base_learning_rate',
    0.9,
    0.6,
    'opt_base_learning_rate',
    True,
    'The rate after the warm-up and before the decay.',
  ),
  ('warmup_epochs', 1, 1, 'opt_learning_rate_warmup_epochs', True, 'Epochs.'),
  (
    'weight_decay',
    0.0001,
    0.0001,
    'opt_weight_decay',
    False,
    'Pull of all weights but biases and norms towards zero.',
  ),
  ('momentum', 0.9, 0.9, 'opt_momentum', False, 'Of the velocity.'),
  ('label_smoothing', 0.1, 0.1, 'label_smoothing', False, 'Share.'),
  ('bf16', False, False, None, True, 'Compute in bfloat16.'),
)


def result(run: int = 0, *, epochs: int = 9, pace: float = 4.4, **changes):
  """A run that meets its target after some epochs, at `pace` seconds each."""
  random = np.random.default_rng(run)
  steps = 35 * epochs
  quality = 0.975 - 0.88 * np.exp(-np.arange(epochs) * 4.5 / epochs)
  quality[:-1] = np.minimum(
    quality[:-1] + random.normal(0, 0.01, epochs - 1), 0.969
  )
  quality[-1] = 0.9712 + 0.0003 * (run % 7)
  seconds = round(pace * epochs + 0.4, 3)
  made = {
    'format': 1,
    'benchmark': 'resnet',
    'size': 'tiny',
    'ruleset': 'podium-tiny-1',
    'division': 'closed',
    'run': run,
    'seed': int(random.integers(2**31)),
    'status': 'success',
    'reason': 'target met',
    'target': {'accuracy': {'at_least': 0.97}},
    'time_to_quality': seconds,
    'startup': _phase(
      11.0 + run % 5 / 2,
      {'build': 0.06, 'compile': 0.71, 'warm-up': 0.09, 'init': 0.08},
      allowance=1800.0,
    ),
    'timed': _phase(
      seconds,
      {'compute': 0.8, 'input': 0.04, 'eval': 0.13, 'checkpoint': 0.0},
    ),
    'evals': [
      {
        'at': {'epoch_num': epoch + 1},
        'step': 35 * (epoch + 1),
        'seconds': 0.4 + pace * (epoch + 1),
        'quality': {'accuracy': float(quality[epoch])},
      }
      for epoch in range(epochs)
    ],
    'losses': _losses(random, steps),
    'steps': steps,
    'samples': steps * 128,
    'samples_per_second': steps * 128 / seconds,
    'flops_per_step': 1.2e9,
    'hyperparameters': settings(),
    'system': {
      'host': 'bench-01',
      'processor': 'AMD EPYC 7B13',
      'cores': 2,
      'memory_gib': 7.8,
      'accelerator': 'cpu',
      'devices': 1,
      'processes': 1,
      'platform': 'cpu',
      'operating_system': 'Linux 6.1.0',
      'xla_flags': '',
    },
    'versions': {
      'podium-bench': '0.1.0',
      'python': '3.11.2',
      'jax': '0.10.2',
      'jaxlib': '0.10.2',
      'flax': '0.12.8',
      'numpy': '2.3.5',
      'commit': 'abc1234+changes',
    },
    'data': {'name': 'digits', 'fingerprint': 'sha256:' + 8 * '0123abcd'},
    'command': [
      *('python', '-m', 'launch.train', '--benchmark=resnet', '--size=tiny'),
      *('--output=results/a folder', f'--run={run}'),
    ],
    'started': '2026-11-23T15:00:00+00:00',
  }
  return made | changes


def failed(
  run: int = 0, reason: str = 'target not met in 30 epochs', **changes
):
  """A run that ends without meeting its target."""
  made = result(run, epochs=14)
  for item in made['evals']:
    item['quality']['accuracy'] *= 0.9
  stopped = {'status': 'aborted', 'reason': reason, 'time_to_quality': None}
  return made | stopped | changes


def results(runs: int = 5) -> list[dict]:
  """Runs that all meet the target, at somewhat different times."""
  epochs = (9, 10, 8, 9, 11, 10, 8)
  return [
    result(run, epochs=epochs[run % 7], pace=4.4 + 0.013 * (run * 17 % 40))
    for run in range(runs)
  ]


def runs_of(results: Sequence[Mapping]) -> list[RunRecord]:
  """The records of results."""
  return [typed(RunRecord, result, 'a run') for result in results]


def score_of(score: Mapping) -> Score:
  """The typed score."""
  return typed(Score, score, 'a score')


def build(
  results: Sequence[Mapping], made: Mapping | None = None, **changes
) -> page.Report:
  """The report of results and their score, by default as `score` makes it."""
  made = score(results, **changes) if made is None else made
  return page.build(runs_of(results), score_of(made))


def render(
  results: Sequence[Mapping], made: Mapping | None = None, **changes
) -> str:
  """The page of results and their score."""
  return build(results, made, **changes).html


def settings(**values) -> dict[str, dict]:
  """The hyperparameters of a result; one differs from the reference."""
  return {
    name: {
      'value': values.get(name, value),
      'reference': reference,
      'key': key,
      'tunable': tunable,
      'help': meaning,
    }
    for name, value, reference, key, tunable, meaning in _SETTINGS
  }


def score(results: Sequence[Mapping], **changes) -> dict:
  """A score of results: the mean without the fastest and the slowest."""
  times = [made['time_to_quality'] for made in results]
  missed = sum(time is None for time in times)
  valid = len(results) >= 3 and missed <= 1
  order = sorted(
    range(len(times)),
    key=lambda i: float('inf') if times[i] is None else times[i],
  )
  dropped = {order[0]: 'fastest', order[-1]: 'slowest'} if valid else {}
  kept = [times[i] for i in order if i not in dropped] if valid else []
  mean = statistics.fmean(kept) if kept else None
  std = statistics.stdev(kept) if len(kept) > 1 else None
  met = [made for made in results if made['time_to_quality'] is not None]
  made = {
    'benchmark': results[0]['benchmark'] if results else 'resnet',
    'size': 'tiny',
    'division': 'closed',
    'target': 'accuracy >= 0.97',
    'runs': len(results),
    'required_runs': 5,
    'score_seconds': mean,
    'values': [
      {
        'run': result['run'],
        'seed': result['seed'],
        'seconds': result['time_to_quality'],
        'reached': len(result['evals']),
        'unit': 'epoch_num',
        'quality': {},
        'batch_size': 128,
        'dropped': dropped.get(index),
        'status': result['status'],
      }
      for index, result in enumerate(results)
    ],
    'mean': mean,
    'std': std,
    'coefficient_of_variation': std / mean if std is not None else None,
    'interval': [mean - 2 * std, mean + 2 * std] if std is not None else None,
    'bootstrap': [mean - std, mean + std] if std is not None else None,
    'confidence': 0.95,
    'factor': 1.0,
    'unnormalised_seconds': mean,
    'window': None,
    'split': _split(met) if met else None,
    'convergence': None,
    'findings': [],
    'reason': None,
    'command': [
      *('python', '-m', 'launch.benchmark', '--benchmark=resnet'),
      *('--size=tiny', '--runs=5', '--output=results/a folder'),
    ],
  }
  return made | changes


def convergence(mean: float = 10.0, std: float = 1.0) -> dict:
  """Part of a score about the reference's convergence."""
  return {
    'status': 'passes',
    'text': 'Passes: 9 epochs on average.',
    'batch_size': 128,
    'mean': 9.0,
    'reference': {
      'batch_size': 128,
      'mean': mean,
      'std': std,
      'minimum': mean - std,
      'interpolated': False,
    },
  }


def _split(results: Sequence[Mapping]) -> dict:
  epochs = [len(made['evals']) for made in results]
  paces = [
    made['time_to_quality'] / count
    for made, count in zip(results, epochs, strict=True)
  ]
  return {
    'unit': 'epoch_num',
    'system': _part(paces),
    'algorithm': _part(epochs),
    'algorithm_share': 0.9 if len(results) > 1 else None,
  }


def _part(values: Sequence[float]) -> dict:
  mean = statistics.fmean(values)
  std = statistics.stdev(values) if len(values) > 1 else None
  return {
    'mean': mean,
    'std': std,
    'least': min(values),
    'most': max(values),
  }


def _phase(seconds: float, shares: Mapping[str, float], **more) -> dict:
  parts = {name: round(seconds * share, 3) for name, share in shares.items()}
  parts['other'] = seconds - sum(parts.values())
  return {'seconds': seconds, **more, 'parts': parts}


def _losses(random: np.random.Generator, steps: int) -> list[list[float]]:
  at = np.arange(0, steps, 5)
  losses = 0.55 + 1.8 * np.exp(-at / (steps / 5))
  losses *= np.exp(random.normal(0, 0.05, len(at)))
  return [
    [int(step), float(loss)] for step, loss in zip(at, losses, strict=True)
  ]
