"""A run's log: mllog events, from process 0, refused in a wrong order."""

from collections.abc import Mapping
import contextlib
import json
import logging
import os
from typing import Any

from mlperf_logging.mllog import mllog

from suite import files
from suite.clock import Clock
from suite.log_keys import ABORTED, INTERRUPTED, RESUMED
from suite.log_keys import SUCCESS as SUCCESS

POINT, START, END = 'POINT_IN_TIME', 'INTERVAL_START', 'INTERVAL_END'

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
  (POINT, RESUMED): (('suspended',), 'run'),
  # A run may be aborted at any moment, also before its clock starts.
  (END, 'run_stop'): (('init', 'ready', 'run', 'block', 'eval'), 'stopped'),
}
_SETTING = (('init',), None)
_STATISTIC = (('block',), None)
_STOP = b'"run_stop"'  # in the line that ends a log
# mllog names the file and line this many frames above its own method: those of
# whoever called `event`, `start` or `end` here, past that method and `_write`.
_STACK_OFFSET = 3


class RunLog:
  """One log file for one run, written through mllog.

  Other processes than 0 pass `path=None`: they check the order and write
  nothing. Values must be plain Python: a device array would make mllog drop
  the line without an error. OSError for a line that the disk does not take: a
  run without its log has no result.
  """

  def __init__(
    self, path: str | None, clock: Clock, *, suspended: bool = False
  ):
    """Creates the file; FileExistsError if it is there: a log is one run's.

    A `suspended` one is there, of a run that another process began; it is not
    touched before `resume`.
    """
    self._path = path
    self._clock = clock
    self._stage = 'suspended' if suspended else 'new'
    self._sink = logging.Logger('podium.run_log', logging.INFO)
    if not suspended:
      self._open('x')
    self._mllog = mllog.MLLogger(self._sink, root_dir=str(files.ROOT))

  def _open(self, mode: str) -> None:
    if self._path is None:
      self._sink.addHandler(logging.NullHandler())
    else:
      self._sink.addHandler(_Handler(self._path, mode=mode))

  @property
  def stopped(self) -> bool:
    """True once run_stop is written."""
    return self._stage == 'stopped'

  @property
  def suspended(self) -> bool:
    """True until the run of the log is resumed."""
    return self._stage == 'suspended'

  def resume(self, metadata: Mapping[str, Any], *, at: float) -> None:
    """Says that the run resumes, and what had to be put right in the file."""
    mended = mend(self._path) if self._path else {}
    self._open('a')
    self._write(POINT, RESUMED, None, {**metadata, **mended}, at)

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

  def statistic(
    self, key: str, value: Any, metadata: Mapping[str, Any] | None = None
  ) -> None:
    """Writes what is known of a block's data, inside the block.

    The key is an official one, or begins with MADE.
    """
    self._write(POINT, key, value, metadata, None, _STATISTIC)

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
      with contextlib.suppress(OSError):  # of a line that was refused before
        handler.close()

  def _write(self, kind, key, value, metadata, at, otherwise=_SETTING) -> None:
    stages, after = _ORDER.get((kind, key), otherwise)
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


class _Handler(logging.FileHandler):
  """Writes lines, and raises where logging would print the error and go on."""

  def handleError(self, record: logging.LogRecord) -> None:
    """See logging.Handler; called while the error is handled."""
    del record
    raise


def complete(
  path: str, reason: str, *, before: Mapping[str, Any] | None = None
) -> bool:
  """Ends the log of a run whose process is gone: 'aborted', for `reason`.

  Who ends it from outside knows better: an 'aborted' that the process wrote
  itself gets this reason, which is the cause of what it saw. One that stood
  there `before` it began, and a success, stay. Half a line, as a killed process
  leaves, is cut off. No reader sees half of it, and two who do this at once
  leave one end. OSError if it cannot be written, ValueError if it is no log.

  Returns whether the log says `reason` now.
  """
  if not os.path.exists(path):
    return False
  found = ending(path)
  if found and (found == before or found.get('status') != ABORTED):
    return False
  lines = _content(path).splitlines(keepends=True)
  if lines and not lines[-1].endswith(b'\n'):
    lines.pop()
  at = None
  stops = [n for n, line in enumerate(lines) if _STOP in line]
  if found and stops:
    at = (_record(lines[stops[-1]].decode(errors='replace')) or {}).get(
      'time_ms'
    )
    del lines[stops[-1] :]
  copied = files.partial_path(path)
  try:
    with open(copied, 'xb') as file:
      file.writelines(lines)
    _end(copied, reason, at)
    os.replace(copied, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(copied)
  return True


def _end(path: str, reason: str, at: int | None) -> None:
  sink = logging.Logger('podium.run_log', logging.INFO)
  handler = _Handler(path)
  sink.addHandler(handler)
  metadata = {'status': ABORTED, 'reason': reason}
  mllog.MLLogger(sink, root_dir=str(files.ROOT)).end(
    'run_stop', metadata=metadata, time_ms=at
  )
  handler.close()


def ending(path: str) -> Mapping[str, Any] | None:
  """The metadata of a log's run_stop; None if it has none, or is not there."""
  try:
    lines = [line for line in _content(path).split(b'\n') if _STOP in line]
  except ValueError:
    return None
  record = _record(lines[-1].decode(errors='replace')) if lines else None
  return record['metadata'] if record else None


def resumes(path: str) -> list[Mapping[str, Any]]:
  """Facts about each resumption of a log's run."""
  lines = _content(path).decode(errors='replace').split('\n')
  records = [_record(line) for line in lines if RESUMED in line]
  return [
    {n: v for n, v in found['metadata'].items() if n not in ('file', 'lineno')}
    for found in records
    if found and found['key'] == RESUMED
  ]


def mend(path: str) -> dict[str, str]:
  """Puts a log right whose process died, for another to write on.

  A last line that was cut off is dropped, unless all of it is there but its
  newline. A run_stop that says 'aborted' becomes a point in time of another
  name: the run did not stop there after all. Returns what was done, in words;
  ValueError if the log says 'success'.
  """
  lines = _content(path).decode(errors='replace').splitlines(keepends=True)
  done = {}
  if lines and not lines[-1].endswith('\n'):
    if _record(lines[-1]):
      lines[-1] += '\n'
      done['mended'] = 'the last line had no end'
    else:
      cut = lines.pop()
      done['mended'] = f'a last line of {len(cut)} characters was cut off'
  for number, line in enumerate(lines):
    record = _record(line)
    if record and record['key'] == 'run_stop':
      lines[number] = _taken_back(path, line, record)
  files.write_text(path, ''.join(lines))
  return done


def _content(path: str) -> bytes:
  """Content of a log; ValueError, which names it, if it is none."""
  try:
    return files.read_bytes(path, files.MAX_LOG)
  except (OSError, ValueError) as error:
    raise ValueError(f'Cannot read {path}: {error}') from None


def _taken_back(path: str, line: str, record: Mapping[str, Any]) -> str:
  if record['metadata'].get('status') != ABORTED:
    raise ValueError(f'Expected a run to resume, got a finished one: {path}.')
  changed = {**record, 'key': INTERRUPTED, 'event_type': POINT}
  return line[: line.index('{')] + json.dumps(changed) + '\n'


def _record(line: str) -> Mapping[str, Any] | None:
  try:
    record = json.loads(line[line.index('{') :])
    whole = 'key' in record and isinstance(record['metadata'], Mapping)
  except (ValueError, KeyError, RecursionError):
    return None
  return record if whole else None
