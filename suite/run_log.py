"""A run's log: mllog events, from process 0, refused in a wrong order."""

from collections.abc import Mapping
import json
import logging
import os
from typing import Any

from mlperf_logging.mllog import mllog

from suite.clock import Clock

POINT, START, END = 'POINT_IN_TIME', 'INTERVAL_START', 'INTERVAL_END'
SUCCESS, ABORTED = 'success', 'aborted'

# (type, key) -> the stages in which it may be written, and the stage after it
# (None: no change). Every other key is a setting, written during 'init'.
_ORDER = {
  (POINT, 'cache_clear'): (('new', 'init'), None),
  (START, 'init_start'): (('new',), 'init'),
  (END, 'init_stop'): (('init',), 'ready'),
  (START, 'run_start'): (('ready',), 'run'),
  (START, 'block_start'): (('run',), 'block'),
  (END, 'block_stop'): (('block',), 'run'),
  (START, 'eval_start'): (('run',), 'eval'),
  (POINT, 'eval_accuracy'): (('eval',), None),
  (END, 'eval_stop'): (('eval',), 'run'),
  # A run may be aborted at any moment, also before its clock starts.
  (END, 'run_stop'): (('init', 'ready', 'run', 'block', 'eval'), 'stopped'),
}
_SETTING = (('init',), None)
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# mllog names the file and line this many frames above its own method: those of
# whoever called `event`, `start` or `end` here, past that method and `_write`.
_STACK_OFFSET = 3


class RunLog:
  """One log file for one run, written through mllog.

  Other processes than 0 pass `path=None`: they check the order and write
  nothing. Values must be plain Python: a device array would make mllog drop
  the line without an error.
  """

  def __init__(self, path: str | None, clock: Clock):
    """Creates the file; FileExistsError if it is there: a log is one run's."""
    self._clock = clock
    self._stage = 'new'
    self._sink = logging.Logger('podium.run_log', logging.INFO)
    if path is None:
      self._sink.addHandler(logging.NullHandler())
    else:
      self._sink.addHandler(logging.FileHandler(path, mode='x'))
    self._mllog = mllog.MLLogger(self._sink, root_dir=_ROOT)

  @property
  def stopped(self) -> bool:
    """Whether run_stop was written."""
    return self._stage == 'stopped'

  def event(
    self,
    key: str,
    value: Any = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    at: float | None = None,
  ) -> None:
    """Writes a point in time; `at` in seconds, by default now."""
    self._write(POINT, key, value, metadata, at)

  def start(
    self,
    key: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    at: float | None = None,
  ) -> None:
    """Writes the start of an interval."""
    self._write(START, key, None, metadata, at)

  def end(
    self,
    key: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    at: float | None = None,
  ) -> None:
    """Writes the end of an interval."""
    self._write(END, key, None, metadata, at)

  def close(self) -> None:
    """Closes the file."""
    for handler in self._sink.handlers:
      handler.close()

  def _write(self, kind, key, value, metadata, at) -> None:
    stages, after = _ORDER.get((kind, key), _SETTING)
    if self._stage not in stages:
      raise RuntimeError(
        f'{key} ({kind}) belongs to the stage {" or ".join(stages)} of a log; '
        f'this one is at {self._stage!r}.'
      )
    metadata = dict(metadata or {})
    _require_plain(key, (value, metadata))
    seconds = self._clock.now() if at is None else at
    write = {POINT: self._mllog.event, START: self._mllog.start}
    write.get(kind, self._mllog.end)(
      key,
      value,
      metadata,
      time_ms=int(seconds * 1000),
      stack_offset=_STACK_OFFSET,
    )
    self._stage = after or self._stage


def _require_plain(key: str, values: Any) -> None:
  try:
    json.dumps(values, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise type(error)(
      f'The log takes plain, finite values; {key} got {values!r}: {error}'
    ) from None


def ending(path: str) -> Mapping[str, Any] | None:
  """The metadata of a log's run_stop; None if it has none, or is not there."""
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      lines = [line for line in file if '"run_stop"' in line]
    return json.loads(lines[-1][lines[-1].index('{') :])['metadata']
  except (OSError, IndexError, ValueError, KeyError):
    return None
