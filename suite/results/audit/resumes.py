"""Resumed runs: what a log repeats because another process continued it.

A run that is resumed from a checkpoint does some of its steps and evals again.
Its log says where it resumed; records after that place count as not done. The
rest must be in order as if nothing had happened.
"""

from collections.abc import Iterator, Sequence

from suite.files import is_number
from suite.log_keys import INTERRUPTED, RESUMED
from suite.results.audit.findings import Finding, show
from suite.results.audit.log import Log
from suite.results.audit.record import Record

RULE = 'resumed'
_MOST = 100  # times that a run is resumed; a log is untrusted
_LONG = 7 * 86400.0  # seconds; no run lasts as long
_ROUNDED_MS = 1000.0
_UNITS = ('first_epoch_num', 'samples_count', 'step_num')


def course(log: Log) -> Sequence[Record]:
  """The timeline without what was done again, and without withdrawn ends."""
  resumed = RESUMED in log.by_key or INTERRUPTED in log.by_key
  return courses(log)[-1] if resumed else log.timeline


def course_of(log: Log, *keys: str) -> Sequence[Record]:
  """The records of these keys of the course."""
  if RESUMED in log.by_key or INTERRUPTED in log.by_key:
    return [record for record in course(log) if record.key in keys]
  return log.of(*keys)


def courses(log: Log) -> list[list[Record]]:
  """The course as it stood before each time a run was resumed, and at last."""
  found, kept = [], []
  for record in log.timeline:
    if record.key == RESUMED and len(found) < _MOST:
      found.append(kept)
      kept = [*kept[: _cut(kept, record)], record]
    elif record.key != INTERRUPTED:
      kept.append(record)
  return [*found, kept]


def check(log: Log) -> Iterator[Finding]:
  """Finds faults of the places at which a run was resumed."""
  before: Record | None = None
  for record in log.timeline:
    if before is not None and before.key == INTERRUPTED:
      if record.key != RESUMED:
        yield _error(log, record, f'{RESUMED} after {INTERRUPTED}', record.key)
    elif (
      before is not None
      and before.key == RESUMED
      and record.key not in ('block_start', 'run_stop', INTERRUPTED, RESUMED)
    ):
      yield _error(log, record, f'block_start after {RESUMED}', record.key)
    if record.key == RESUMED:
      yield from _fields(log, record)
    before = record
  count = len(log.of(RESUMED))
  if count > _MOST:
    text = f'expected a run to be resumed {_MOST} times at most, got {count}'
    yield log.error(None, text, RULE)
  if before is not None and before.key in (INTERRUPTED, RESUMED):
    yield _error(log, before, f'records after {before.key}', 'none')


def _fields(log: Log, record: Record) -> Iterator[Finding]:
  if _place(record) is None:
    names = ' or '.join(_UNITS)
    text = f'metadata {names} with a number in {RESUMED}'
    yield _error(log, record, text, show(record.metadata))
  lost = record.metadata.get('lost_seconds')
  if not is_number(lost) or lost < 0:
    text = f'lost_seconds of 0 or more in {RESUMED}'
    yield _error(log, record, text, show(lost))
    return
  start = log.first('run_start')
  if start and lost * 1000.0 > record.time_ms - start.time_ms + _ROUNDED_MS:
    text = 'lost_seconds of at most the time since run_start'
    yield _error(log, record, text, show(lost))
  elif lost > _LONG:
    text = f'expected a run to be resumed within {_LONG / 86400:g} days, got '
    text += f'{lost / 86400:.1f}: was the clock of the machine right?'
    yield log.warning(record.line, text, RULE)


def _cut(kept: Sequence[Record], resumed: Record) -> int:
  """Start of the block that is resumed; the end if it is yet to begin."""
  place = _place(resumed)
  for number, record in enumerate(kept):
    if record.key == 'block_start' and place and _place(record) == place:
      return number
  return len(kept)


def _place(record: Record) -> tuple[str, float] | None:
  for unit in _UNITS:
    if is_number(value := record.metadata.get(unit)):
      return unit, value
  return None


def _error(log: Log, record: Record, expected: str, got: str) -> Finding:
  return log.error(record.line, f'expected {expected}, got {got}', RULE)
