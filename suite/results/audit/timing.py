"""Whether a log's times are milliseconds, go forward, and leave nothing out."""

from collections.abc import Iterator
import statistics

from suite.files import is_number
from suite.log_keys import RESUMED
from suite.results.audit import resumes
from suite.results.audit.claim import Claim
from suite.results.audit.findings import Finding
from suite.results.audit.log import Log, Record

# Events from several threads may swap by less than this; a changed clock or
# unit moves them by more.
_JITTER_MS = 1000.0
_GAP_MS = 60_000.0  # between startup and clock; the hosts only meet there
# Cold caches make a run's first epochs its slowest, not twice as fast.
_TOO_FAST = 0.5


def check(log: Log, claim: Claim) -> Iterator[Finding]:
  """What is wrong with the times of a log."""
  if log.odd_time:
    yield _unit(log, log.odd_time)
  yield from _backwards(log)
  yield from _durations(log)
  yield from _startup(log, claim)
  yield from _late_clock(log)


def startup_ms(log: Log) -> float | None:
  """From the first init_start to run_start: all that came before the clock."""
  starts, run = log.of('init_start'), log.first('run_start')
  if not starts or not run:
    return None
  return run.time_ms - min(start.time_ms for start in starts)


def _unit(log: Log, record: Record) -> Finding:
  units = ((1e9, 1e10, 'seconds'), (1e15, 1e16, 'microseconds'),
           (1e18, 1e19, 'nanoseconds'))  # fmt: skip
  unit = next(
    (f' (are these {u}?)' for a, b, u in units if a <= record.time_ms < b), ''
  )
  text = f'expected time_ms in milliseconds since 1970, got {record.time_ms}'
  return log.error(record.line, text + unit, 'time unit')


def _backwards(log: Log) -> Iterator[Finding]:
  for latest, record in log.backwards:
    back = latest.time_ms - record.time_ms
    text = (
      f'expected a time after that of line {latest.line}, '
      f'got one {back:g} ms before it'
    )
    make = log.error if back > _JITTER_MS else log.warning
    yield make(record.line, text, 'time goes forward')


def _durations(log: Log) -> Iterator[Finding]:
  started: dict[str, Record] = {}
  for record in log.timeline:
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
  """A first block that is far too fast began before the clock did."""
  spans = list(_seconds_per_epoch(log)) or list(_seconds_of_epochs(log))
  if len(spans) < 5:
    return
  # The last block may have been cut short.
  (first, line), others = spans[0], [took for took, _ in spans[1:-1]]
  usual = statistics.median(others)
  if usual >= 1.0 and first < _TOO_FAST * usual:
    text = f'expected about {usual:.3g} s per epoch as in later blocks, got'
    text += f' {first:.3g} s in the first: did the clock start late?'
    yield log.warning(line, text, 'late clock')


def _seconds_per_epoch(log: Log) -> Iterator[tuple[float, int]]:
  start: Record | None = None
  whole = True  # of a block that a run goes on in, part is done already
  for record in resumes.course(log):
    if record.key == RESUMED:
      whole = False
    elif record.key == 'block_start':
      start, whole = record if whole else None, True
    elif record.key == 'block_stop' and start:
      epochs = start.metadata.get('epoch_count')
      if is_number(epochs) and epochs > 0:
        yield (record.time_ms - start.time_ms) / 1000.0 / epochs, start.line
      start = None


def _seconds_of_epochs(log: Log) -> Iterator[tuple[float, int]]:
  """The same of logs that have a start and a stop for every epoch."""
  start: Record | None = None
  for record in log.timeline:
    if record.key == 'epoch_start':
      start = record
    elif record.key == 'epoch_stop' and start:
      yield (record.time_ms - start.time_ms) / 1000.0, start.line
      start = None


def _minutes(time_ms: float) -> str:
  return f'{time_ms / 60_000.0:.4g} min'
