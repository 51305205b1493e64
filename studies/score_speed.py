r"""Times the scoring of a published round: 26 folders, about 10 MB of logs.

JAX_PLATFORMS=cpu python studies/score_speed.py

The logs are made here, in the form that submitters of ResNet-50 publish: five
runs a folder, eight ranks that each log their settings, an eval every four
epochs, and throughput lines between them. Every folder is audited and scored
as `launch.score` does it, and its score must be the one it was made with.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from suite.results import scoring

_FOLDERS = flags.DEFINE_integer('folders', 26, 'Folders to score.')
_MEGABYTES = flags.DEFINE_float('megabytes', 10.0, 'Logs of all of them.')
_TURNS = flags.DEFINE_integer('turns', 3, 'Times that all are scored.')

_NOON = 1_700_000_000_000  # ms since 1970
_RUNS, _EVALS, _RANKS = 5, 9, 8
_LINE = (
  ':::MLLOG {{"namespace": "", "time_ms": {time}, "event_type": "{kind}", '
  '"key": "{key}", "value": {value}, "metadata": {{"file": '
  '"/workspace/image_classification/train.py", "lineno": {line}{more}}}}}'
)
_SETTINGS = {
  'submission_benchmark': '"resnet"',
  'submission_org': '"acme"',
  'submission_division': '"closed"',
  'submission_status': '"onprem"',
  'submission_platform': '"8xA"',
  'global_batch_size': '3264',
  'opt_name': '"lars"',
  'lars_opt_base_learning_rate': '10.5',
  'lars_opt_end_learning_rate': '0.0001',
  'lars_opt_learning_rate_decay_poly_power': '2',
  'lars_opt_learning_rate_decay_steps': '13713',
  'lars_epsilon': '0',
  'lars_opt_learning_rate_warmup_epochs': '2',
  'lars_opt_momentum': '0.9',
  'lars_opt_weight_decay': '5e-05',
  'model_bn_span': '64',
  'gradient_accumulation_steps': '1',
  'train_samples': '1281167',
  'eval_samples': '50000',
}
_POINT, _START, _END = 'POINT_IN_TIME', 'INTERVAL_START', 'INTERVAL_END'


def main(argv):
  """Makes the logs, scores them, prints what it took."""
  del argv
  with tempfile.TemporaryDirectory() as root:
    seconds = _make(pathlib.Path(root))
    size = sum(p.stat().st_size for p in pathlib.Path(root).rglob('*.txt'))
    took = [_score(root, seconds) for _ in range(_TURNS.value)]
  best = min(took)
  print(
    f'{len(seconds)} folders, {size / 1e6:.1f} MB: {best:.2f} s at best, '
    f'{max(took):.2f} s at worst of {len(took)}; {size / 1e6 / best:.1f} MB/s'
  )


def _score(root: str, expected: dict[str, float]) -> float:
  before = time.perf_counter()
  found = {folder: scoring.score(folder) for folder in scoring.folders(root)}
  took = time.perf_counter() - before
  for folder, seconds in expected.items():
    got = found[folder].score_seconds
    if got is None or abs(got - seconds) > 1e-3:
      raise ValueError(
        f'Expected {seconds} s for {folder}, got {got}: '
        f'{found[folder].reason} {found[folder].findings[:3]}'
      )
  return took


def _make(root: pathlib.Path) -> dict[str, float]:
  """Writes the folders; their scores in seconds."""
  log_bytes = _MEGABYTES.value * 1e6 / (_FOLDERS.value * _RUNS)
  made = {}
  for system in range(_FOLDERS.value):
    folder = root / f'system_{system}' / 'resnet'
    folder.mkdir(parents=True)
    times = []
    for run in range(_RUNS):
      pace = 40_000 + 500 * ((7 * run + system) % 5) + system  # ms an epoch
      text = _log(run, system, pace, log_bytes)
      (folder / f'result_{run}.txt').write_text(text, encoding='utf-8')
      times.append(4 * _EVALS * pace / 1000)
    made[str(folder)] = statistics.fmean(sorted(times)[1:-1])
  return made


def _log(run: int, system: int, pace: int, log_bytes: float) -> str:
  now = _NOON + (run * 100 + system) * 10_000_000
  lines = [_event(now, 'cache_clear', 'true')]
  lines.append(_event(now + 1, 'init_start', kind=_START))
  for rank in range(_RANKS):
    seed = 1 + rank + _RANKS * (run + _RUNS * system)
    lines.append(_event(now + 2, 'seed', str(seed), line=100 + rank))
    lines += [_event(now + 2, key, v) for key, v in _SETTINGS.items()]
  lines.append(_event(now + 60_000, 'init_stop', kind=_END))
  start = now + 60_100
  lines.append(_event(start, 'run_start', kind=_START))
  left = log_bytes - sum(map(len, lines)) - 1300 * _EVALS
  between = max(0, int(left / 210 / _EVALS))
  for index in range(_EVALS):
    lines += _block(start + 4 * pace * index, index, pace, between)
  status = ', "status": "success"'
  stop = start + 4 * _EVALS * pace
  lines.append(_event(stop, 'run_stop', kind=_END, more=status))
  return '\n'.join(lines) + '\n'


def _block(now: int, index: int, pace: int, between: int) -> list[str]:
  """Four epochs and their eval."""
  end, last = now + 4 * pace, 4 * (index + 1)
  first = f', "first_epoch_num": {last - 3}'
  lines = [
    _event(now, 'block_start', kind=_START, more=f'{first}, "epoch_count": 4')
  ]
  for step in range(between):
    at = now + (4 * pace - 1000) * step // between
    lines.append(_event(at, 'tracked_stats', f'{{"throughput": {step}.5}}'))
  lines.append(_event(end - 500, 'block_stop', kind=_END, more=first))
  at, value = f', "epoch_num": {last}', 0.7595 if index == _EVALS - 1 else 0.5
  lines.append(_event(end - 400, 'eval_start', kind=_START, more=at))
  lines.append(_event(end - 10, 'eval_accuracy', str(value), more=at))
  lines.append(_event(end - 5, 'eval_stop', kind=_END, more=at))
  return lines


def _event(now, key, value='null', *, kind=_POINT, line=80, more='') -> str:
  return _LINE.format(
    time=now, key=key, value=value, kind=kind, line=line, more=more
  )


if __name__ == '__main__':
  app.run(main)
