"""Resumes a run that another process began, or sets it aside."""

from collections.abc import Mapping
import os
import sys
from typing import Any

from launch.cluster import alike, attempts, ranks
from launch.support import run_flags
from suite import files
from suite.hparams import Division
from suite.results.report.format import duration
from suite.run import run_log
from suite.run.checkpoint import Checkpoints, Position

LONG = 7 * 86400.0  # seconds without a process that are rarely meant
# State of a run's files; process 0 looks, and all act on what it found.
_NEW, _LEFT, _FINISHED, _NO_RECORD, _NO_LOG = range(5)


def origin(request: run_flags.Request, seed: int, data: str) -> dict[str, Any]:
  """Identifies a run: one that differs in any of it is another run."""
  code = alike.source_hash()
  return {**request.identity, 'seed': seed, 'data': data, 'code': code}


def find(output: str, run: int, checkpoints: Checkpoints) -> Position | None:
  """Position of the run in `output` to resume from; None: it starts again.

  All processes call it. ValueError for a run that cannot be resumed. Sets aside
  what is left of one that has no checkpoint yet.
  """
  found = ranks.agreed(_look(output, run) if ranks.is_primary() else 0)
  if found == _FINISHED:
    raise ValueError(
      f'--resume: run {run} in {output} is finished: give another --output or '
      '--run.'
    )
  if found == _NO_RECORD:
    raise ValueError(
      f'--resume: run {run} in {output} met its target, so there is nothing to '
      f'resume, but {files.record_path(output, run)} is missing: what it '
      'printed at its end says where it is.'
    )
  if found == _NO_LOG:
    raise ValueError(
      f'Expected the log of run {run} beside {checkpoints.directory}, got '
      'none: delete that folder for a new run.'
    )
  position = checkpoints.newest() if found == _LEFT else None
  if position is None and found == _LEFT:
    if count := checkpoints.count():
      raise ValueError(
        f'Expected a checkpoint that can be read in {checkpoints.directory}, '
        f'got {count} that cannot: delete that folder for a new run.'
      )
    checkpoints.close()
    ranks.agreed(0)  # all have closed the folder that goes now
    if ranks.is_primary():
      attempts.set_aside(output, run)
  if position is None and ranks.is_primary():
    print(
      'there is no checkpoint to resume from: the run starts again',
      file=sys.stderr,
    )
  return position


def _look(output: str, run: int) -> int:
  log_path = files.log_path(output, run)
  ending = run_log.ending(log_path) or {}
  if os.path.exists(files.record_path(output, run)):
    return _FINISHED
  if ending.get('status') == run_log.SUCCESS:
    return _NO_RECORD
  if os.path.exists(log_path):
    return _LEFT
  left = os.path.exists(files.checkpoints_path(output, run))
  return _NO_LOG if left else _NEW


def require_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
  """ValueError, naming what differs, unless the run is the one that was saved.

  Open may resume with other code; the seed is the saved one unless it is given.
  """
  changed = []
  for name, value in now.items():
    before = saved.get(name)
    if name == 'code' and now['division'] == Division.OPEN.value:
      continue
    if name == 'hyperparameters':
      changed += _changes(before or {}, value)
    elif before != value:
      changed.append(f'{name} was {before!r}, is {value!r}')
  if changed:
    raise ValueError(
      f'--resume: expected the run as it was started, got another: '
      f'{"; ".join(changed)}.'
    )


def require_time(saved_at: float, now: float) -> None:
  """Warns of a clock that seems wrong; times are in seconds since 1970.

  ValueError for one that shows a time before that of the checkpoint.
  """
  lost = now - saved_at
  if lost < 0:
    raise ValueError(
      f'--resume: expected a time after that of the checkpoint, got one '
      f'{duration(-lost)} before it: set the clock of this machine.'
    )
  if lost > LONG and ranks.is_primary():
    print(
      f'warning: by the clock of this machine the checkpoint is '
      f'{lost / 86400:.0f} days old, all of which counts as time of the run. '
      'If that is not so, end this now, set the clock, and resume again.',
      file=sys.stderr,
      flush=True,
    )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  return [
    f'{name} was {before.get(name)!r}, is {value!r}'
    for name, value in now.items()
    if before.get(name) != value
  ]
