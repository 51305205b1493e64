"""Checks that events are all there, once, in order, and fit each other."""

import collections
from collections.abc import Iterator, Mapping, Sequence

from suite.files import is_number
from suite.log_keys import INTERRUPTED, UNITS
from suite.results.audit import official, resumes
from suite.results.audit.claim import Claim
from suite.results.audit.findings import Finding, show
from suite.results.audit.log import Log
from suite.results.audit.record import Record

_NUMBERS = 'epoch numbers'  # the rule of places, by samples too
_BEGUN = ('block_', 'epoch_', 'eval_start')
_ONCE = ('init_stop', 'run_start', 'run_stop')
# As the official library writes it, and others.
_ABORTED = ('aborted', 'abort', 'fail', 'failed')
# Events from several threads may swap by less than this; a changed clock or
# unit moves them by more.
JITTER_MS = 1000.0
# Event that precedes the first of a kind; that of all others is run_start.
_AFTER = {'init_start': None, 'init_stop': 'init_start',
          'run_start': 'init_stop', INTERRUPTED: None}  # fmt: skip
# Type of an event by how its key ends; others are POINT_IN_TIME.
_ENDS = {'start': 'INTERVAL_START', 'stop': 'INTERVAL_END'}
# An event of the first kind needs one of each group in its metadata.
_METADATA = {
  'block_start': (('epoch_count', 'samples_count', 'step_num'),),
  'block_stop': (('first_epoch_num', 'samples_count', 'step_num'),),
  'epoch_start': (UNITS,), 'epoch_stop': (UNITS,), 'eval_start': (UNITS,),
  'eval_stop': (UNITS,), 'eval_accuracy': (UNITS,),
}  # fmt: skip
# The rules let these score saved checkpoints after the clock has stopped.
SCORED_AFTERWARDS = ('stable_diffusion',)
# Others play the games of an eval apart, with a model as it was.
_SCORED_APART = ('minigo',)


def check(log: Log, claim: Claim) -> Iterator[Finding]:
  """Finds events that are missing, repeated, out of order or inconsistent."""
  yield from _presence(log, claim)
  yield from _sequence(log, claim)
  yield from _settings(log, claim)
  yield from _fields(log)
  if claim.ours:
    yield from _course(log, claim)
  yield from _progress(log, claim)


def aborted(log: Log) -> bool:
  """Returns whether the log says that its run was aborted."""
  stop = log.first('run_stop')
  return stop is not None and stop.metadata.get('status') in _ABORTED


def _presence(log: Log, claim: Claim) -> Iterator[Finding]:
  counts = collections.Counter(
    {key: len(records) for key, records in log.by_key.items()}
  )
  for key in ('init_start', *_ONCE):
    if not counts[key]:
      yield log.missing(key, 'required event')
    elif counts[key] > 1 and (claim.ours or key != 'init_start'):
      yield _repeated(log, key, counts[key])
  if aborted(log) or not counts['run_start']:
    return  # such a run may have come to none of the following
  groups = (
    ('eval_accuracy',),
    ('block_start', 'epoch_start'),
    ('block_stop', 'epoch_stop'),
    ('eval_start', 'block_start'),
    ('eval_stop', 'block_stop'),
  )
  for group in groups:
    if not any(counts[key] for key in group):
      text = f'expected {" or ".join(group)}, got none'
      yield log.error(None, text, 'required event', group[0])


def _repeated(log: Log, key: str, count: int) -> Finding:
  second = log.of(key)[1]
  stop = log.first('run_stop')
  two_runs = key != 'run_stop' and stop is not None and second.line > stop.line
  why = 'two runs in one file' if two_runs else 'several processes or runs'
  text = f'expected {key} once, got {count}: {why}?'
  return log.error(second.line, text, 'one run in a log')


def _sequence(log: Log, claim: Claim) -> Iterator[Finding]:
  keys = [record.key for record in log.timeline]
  first = {key: keys.index(key) for key in log.by_key}
  beyond = len(keys)
  stopped = first.get('run_stop', beyond)
  told: set[str] = set()
  for number in _unsettled(keys, first):
    record = log.timeline[number]
    key, before = record.key, _AFTER.get(record.key, 'run_start')
    text = None
    if key == 'init_start' and first.get('init_stop', beyond) < number:
      text = 'expected init_start before init_stop'
    elif first.get(before, -1) >= number:
      text = f'expected {key} after {before}, got it before'
      early = log.first(before).time_ms - record.time_ms
      text = None if not claim.ours and early <= JITTER_MS else text
    elif stopped < number and _is_training(key, claim):
      text = f'expected nothing of the run after run_stop, got {key}'
      late = record.time_ms - log.first('run_stop').time_ms
      text = None if not claim.ours and late <= JITTER_MS else text
    if text and key not in told:
      # Others' processes may close or begin a block or an eval when the clock
      # has stopped: the time is that of run_stop anyway. A quality comes late.
      idle = not claim.ours and key.startswith(_BEGUN)
      closes = not claim.ours and key.endswith('_stop')
      after = stopped < number
      harmless = idle or closes if after else _early_eval(log, claim, key)
      # Others write the records of startup by another program, at any time.
      apart = key == 'run_start' and log.first(before).line < record.line
      harmless = harmless or (apart and not claim.ours)
      make = log.warning if harmless else log.error
      yield make(record.line, text, 'order')
      told.add(key)


def _unsettled(keys: Sequence[str], first: Mapping[str, int]) -> list[int]:
  """The places of records that may be out of order: not those in the midst."""
  start = max(first.get(key, 0) for key in ('init_start', *_ONCE[:2]))
  stop = max(start, first.get('run_stop', len(keys)))
  again = [n for n in range(start, stop) if keys[n] == 'init_start']
  return [*range(start), *again, *range(stop, len(keys))]


def _early_eval(log: Log, claim: Claim, key: str) -> bool:
  """Returns whether others evaluated before the clock, and on it as well."""
  start, evals = log.first('run_start'), log.of('eval_accuracy')
  decided = start and evals and evals[-1].time_ms >= start.time_ms
  return bool(decided) and not claim.ours and key.startswith('eval_')


def _is_training(key: str, claim: Claim) -> bool:
  if key.startswith('eval_'):
    apart = not claim.ours and claim.name in _SCORED_APART
    return not apart and claim.name not in SCORED_AFTERWARDS
  return key.startswith(('block_', 'epoch_', 'podium_'))


def _settings(log: Log, claim: Claim) -> Iterator[Finding]:
  stop, start = log.first('run_stop'), log.first('run_start')
  for key, setting in log.settings.items():
    limit, late = None, None
    if key == 'cache_clear':
      limit, late = start, 'run_start'
    elif key == 'submission_division' and _division_first(claim):
      limit, late = log.first('init_stop'), 'init_stop'
    elif claim.is_setting(key) or key == 'seed':
      limit, late = (start, 'run_start') if claim.ours else (stop, 'run_stop')
    if limit and setting.first.line > limit.line:
      text = f'expected {key} before {late} (line {limit.line})'
      text += ', got it after'
      # When others log a setting decides no time.
      make = log.error if claim.ours else log.warning
      yield make(setting.first.line, text, 'settings first')


def _division_first(claim: Claim) -> bool:
  """Returns whether the startup allowance depends on the division."""
  if claim.ours or claim.verdict is None:
    return True
  return official.order(claim.verdict.ruleset) >= (2, 0, 0)


def _fields(log: Log) -> Iterator[Finding]:
  for key, records in log.by_key.items():
    told: set[str] = set()
    kind = _ENDS.get(key.rpartition('_')[2], 'POINT_IN_TIME')
    for record in _unusual(key, kind, records):
      for text, rule in _faults(record, kind):
        if rule not in told:
          told.add(rule)
          make = log.warning if rule == 'event type' else log.error
          yield make(record.line, text, rule)


def _unusual(
  key: str, kind: str, records: Sequence[Record]
) -> Sequence[Record]:
  """Records that have another form than nearly all, which has no faults."""
  if key == 'run_stop':
    return records
  if key not in _METADATA:
    return [record for record in records if record.event_type != kind]
  place = {'block': 'first_epoch_num'}.get(key.partition('_')[0], 'epoch_num')
  return [
    record
    for record in records
    if record.event_type != kind
    or type((metadata := record.metadata).get(place)) is not int
    or (
      key == 'block_start'
      and (type(n := metadata.get('epoch_count')) is not int or n <= 0)
    )
  ]


def _faults(record: Record, kind: str) -> Iterator[tuple[str, str]]:
  key, metadata = record.key, record.metadata
  if record.event_type != kind:
    yield (
      f'expected event_type {kind} for {key}, got {show(record.event_type)}',
      'event type',
    )
  for group in _METADATA.get(key, ()):
    if not any(is_number(metadata.get(name)) for name in group):
      text = f'expected metadata {" or ".join(group)} with a number in {key}'
      got = {n: metadata[n] for n in group if n in metadata} or 'none'
      yield f'{text}, got {show(got)}', 'event metadata'
  if key == 'block_start' and 'epoch_count' in metadata:
    yield from _block_faults(metadata)
  if key == 'run_stop' and metadata.get('status') not in (
    'success',
    *_ABORTED,
  ):
    got = show(metadata.get('status'))
    text = f'expected metadata status success or aborted in run_stop, got {got}'
    yield text, 'event metadata'


def _block_faults(metadata: dict) -> Iterator[tuple[str, str]]:
  first, count = metadata.get('first_epoch_num'), metadata['epoch_count']
  if not is_number(first):
    text = 'expected metadata first_epoch_num with a number in block_start'
    yield f'{text}, got {show(first)}', 'event metadata'
  if not is_number(count) or count <= 0:
    yield (
      f'expected a positive epoch_count in block_start, got {show(count)}',
      'event metadata',
    )


def _course(log: Log, claim: Claim) -> Iterator[Finding]:
  """Checks blocks and evals as they were done, of each attempt of a run."""
  yield from resumes.check(log)
  found = {}  # a course holds much of the one before
  *attempts, last = resumes.courses(log)
  for records in (*attempts, last):
    cut_off = records is not last or aborted(log)
    found |= dict.fromkeys(_intervals(log, records, cut_off=cut_off))
    found |= dict.fromkeys(_epochs(log, records, claim))
    found |= dict.fromkeys(_samples(log, records))
  yield from found


def _intervals(
  log: Log, records: Sequence[Record], *, cut_off: bool
) -> Iterator[Finding]:
  """Blocks and evals follow each other; none nests in another."""
  inside: Record | None = None
  for record in records:
    name, _, end = record.key.rpartition('_')
    if name not in ('block', 'epoch', 'eval'):
      continue
    opened = inside and inside.key.rpartition('_')[0]
    if end == 'start' and inside:
      text = f'expected {opened}_stop before {record.key}'
      text += f' (line {inside.line} opened it)'
      yield log.error(record.line, text, 'intervals')
    if end != 'start' and opened != name:
      text = f'expected {name}_start before {record.key}, got none'
      yield log.error(record.line, text, 'intervals')
    inside = {'start': record, 'stop': None}.get(end, inside)
  if inside and not cut_off:
    text = f'expected an end of this {inside.key}, got none'
    yield log.error(inside.line, text, 'intervals')


def _epochs(
  log: Log, records: Sequence[Record], claim: Claim
) -> Iterator[Finding]:
  """Blocks of epochs join without a gap, and evals stand at their ends.

  Whole epochs are counted from 1: the first block of four is 1 to 4. Blocks of
  a fraction begin at what is done: 0, 0.05, 0.1.
  """
  first, end, start_at = None, None, None
  for record in records:
    key, metadata = record.key, record.metadata
    number = metadata.get('first_epoch_num')
    if key == 'block_start' and is_number(number):
      count = metadata.get('epoch_count')
      count = count if is_number(count) else 0
      from_one = count == round(count)
      before = claim.epochs_before if end is None else end
      yield from _expect(log, record, 'first_epoch_num', before + from_one)
      first, end = number, number + count - from_one
    elif key == 'block_stop' and first is not None:
      yield from _expect(log, record, 'first_epoch_num', first)
    elif key == 'eval_start' and end is not None:
      yield from _expect(log, record, 'epoch_num', end)
      start_at = metadata.get('epoch_num')
    elif key in ('eval_accuracy', 'eval_stop') and is_number(start_at):
      yield from _expect(log, record, 'epoch_num', start_at)


def _samples(log: Log, records: Sequence[Record]) -> Iterator[Finding]:
  """Blocks of samples join as well: each begins where the one before ended."""
  begun, done = None, 0.0
  for record in records:
    number = record.metadata.get('samples_count')
    if record.key == 'block_start' and is_number(number):
      yield from _expect(log, record, 'samples_count', done)
      begun = number
    elif record.key == 'block_stop' and begun is not None:
      if is_number(number) and number > begun:
        done = number
      else:
        text = f'expected samples_count above {begun:g} in block_stop'
        yield log.error(record.line, f'{text}, got {show(number)}', _NUMBERS)
    elif record.key.startswith('eval_') and begun is not None:
      yield from _expect(log, record, 'samples_count', done)


def _expect(
  log: Log, record: Record, name: str, expected: float
) -> Iterator[Finding]:
  got = record.metadata.get(name)
  # Fractions of an epoch are often logged with three digits.
  slack = 1e-6 if expected == round(expected) else 2e-3
  if not is_number(got) or abs(got - expected) > slack:
    text = f'expected {name} {expected:g} in {record.key}, got {show(got)}'
    yield log.error(record.line, text, _NUMBERS)


def _progress(log: Log, claim: Claim) -> Iterator[Finding]:
  latest: float | None = None
  for record in resumes.course_of(log, 'eval_accuracy'):
    here = claim.at(record)
    if here is None:
      continue
    if latest is not None and here < latest:
      make = log.error if claim.ours else log.warning
      text = f'expected evals to go forward from {latest:g}'
      yield make(record.line, f'{text}, got {here:g}', _NUMBERS)
      return
    latest = here
