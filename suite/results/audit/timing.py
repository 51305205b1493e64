"""Checks that times are in milliseconds, increase, and leave no gap."""

from collections.abc import Iterator
import statistics
from typing import NamedTuple

from suite.files import is_number
from suite.log_keys import RESUMED
from suite.results.audit import order, resumes
from suite.results.audit.claim import Claim
from suite.results.audit.findings import Finding
from suite.results.audit.log import Log
from suite.results.audit.record import TIMELINE, Record

_GAP_MS = 60_000.0  # between startup and clock; the hosts only meet there
# Cold caches make a run's first epochs its slowest, not twice as fast.
_TOO_FAST = 0.5


def check(log: Log, claim: Claim) -> Iterator[Finding]:
  """Finds faults of the times of a log."""
  if log.odd_time:
    yield _unit(log, log.odd_time, claim)
  yield from _backwards(log, claim)
  yield from _durations(log)
  yield from _startup(log, claim)
  yield from _late_clock(log)


def startup_ms(log: Log) -> float | None:
  """Milliseconds before the clock: from the first init_start to run_start."""
  starts, run = log.of('init_start'), log.first('run_start')
  if not starts or not run:
    return None
  return run.time_ms - min(start.time_ms for start in starts)


def _unit(log: Log, record: Record, claim: Claim) -> Finding:
  units = ((1e9, 1e10, 'seconds'), (1e15, 1e16, 'microseconds'),
           (1e18, 1e19, 'nanoseconds'))  # fmt: skip
  unit = next(
    (f' (are these {u}?)' for a, b, u in units if a <= record.time_ms < b), ''
  )
  text = f'expected time_ms in milliseconds since 1970, got {record.time_ms}'
  decides = claim.ours or record.key in TIMELINE
  make = log.error if decides else log.warning
  return make(record.line, text + unit, 'time unit')


def _backwards(log: Log, claim: Claim) -> Iterator[Finding]:
  # Others' records are in the order of their times, wherever they stand.
  for latest, record in log.backwards:
    back = latest.time_ms - record.time_ms
    text = (
      f'expected a time after that of line {latest.line}, '
      f'got one {back:g} ms before it'
    )
    far = claim.ours and back > order.JITTER_MS
    make = log.error if far else log.warning
    yield make(record.line, text, 'time goes forward')


def _durations(log: Log) -> Iterator[Finding]:
  started: dict[str, Record] = {}
  # Where times never decrease, an interval can only be empty.
  ends = log.of('run_start', 'run_stop') if log.ordered else log.timeline
  for record in ends:
    name, _, end = record.key.rpartition('_')
    if end == 'start':
      started[name] = record
    elif end == 'stop' and name in started:
      start = started.pop(name)
      took = record.time_ms - start.time_ms
      if took < 0 or (took == 0 and name == 'run'):
        text = f'expected {record.key} later than {start.key}'
        text += f' (line {start.line}), got {took:g} ms between them'
        yield log.error(record.line, text, 'durations')


def _startup(log: Log, claim: Claim) -> Iterator[Finding]:
  stop, starts = log.first('init_stop'), log.of('init_start')
  if not stop or not starts:
    return
  allowance = claim.startup_allowance * 1000.0
  took = stop.time_ms - min(start.time_ms for start in starts)
  # Without an allowance all of the startup counts, and none is too long.
  if allowance and took >= allowance:
    text = f'expected a startup below {_minutes(allowance)}, got'
    text += f' {_minutes(took)}; what exceeds it is added to the score'
    # The official checker refuses such a log; our own rules only charge it.
    make = log.error if claim.official else log.warning
    yield make(stop.line, text, 'startup allowance')
  run = log.first('run_start')
  if run and run.time_ms - stop.time_ms > _GAP_MS:
    text = 'expected run_start right after init_stop, got it'
    text += f' {_minutes(run.time_ms - stop.time_ms)} later'
    yield log.warning(run.line, text, 'late clock')


def _late_clock(log: Log) -> Iterator[Finding]:
  """Finds a first block that is so fast that it began before the clock."""
  spans = list(_blocks(log)) or list(_seconds_of_epochs(log))
  if len(spans) < 5:
    return
  first, *others, _ = spans  # the last block may have been cut short
  usual = statistics.median(span.pace for span in others)
  long = statistics.median(span.seconds for span in others) >= 1.0
  if long and first.pace < _TOO_FAST * usual:
    text = f'expected about {usual:.3g} s per {first.unit} as in later blocks'
    text += f', got {first.pace:.3g} s in the first: did the clock start late?'
    yield log.warning(first.line, text, 'late clock')


class _Span(NamedTuple):
  """Time of a block, and how much it trained."""

  line: int
  seconds: float
  count: float
  unit: str = 'epoch'

  @property
  def pace(self) -> float:
    return self.seconds / self.count


def _blocks(log: Log) -> Iterator[_Span]:
  """Blocks that were trained without an interruption."""
  start: Record | None = None
  whole = True  # of a block that a run resumes in, part is done already
  for record in resumes.course_of(log, 'block_start', 'block_stop', RESUMED):
    if record.key == RESUMED:
      whole = False
    elif record.key == 'block_start':
      start, whole = record if whole else None, True
    elif record.key == 'block_stop' and start:
      seconds = (record.time_ms - start.time_ms) / 1000.0
      count, unit = start.metadata.get('epoch_count'), 'epoch'
      if not is_number(count):
        ends = [r.metadata.get('samples_count') for r in (start, record)]
        count = ends[1] - ends[0] if all(map(is_number, ends)) else 0
        unit = 'sample'
      if count > 0:
        yield _Span(start.line, seconds, count, unit)
      start = None


def _seconds_of_epochs(log: Log) -> Iterator[_Span]:
  """Epochs, of logs that have a start and a stop for each."""
  start: Record | None = None
  for record in log.of('epoch_start', 'epoch_stop'):
    if record.key == 'epoch_start':
      start = record
    elif record.key == 'epoch_stop' and start:
      seconds = (record.time_ms - start.time_ms) / 1000.0
      yield _Span(start.line, seconds, 1.0)
      start = None


def _minutes(time_ms: float) -> str:
  return f'{time_ms / 60_000.0:.4g} min'
