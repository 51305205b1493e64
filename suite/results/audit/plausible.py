"""Finds numbers that are well-formed and that no honest run has.

The bounds are wide: no set of the published rounds that was looked at breaks
one that makes an error. What some of them do break makes a warning.
"""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import math
import statistics
import time
from typing import NamedTuple

from suite import rounds
from suite.files import is_number
from suite.log_keys import UNITS
from suite.results import published
from suite.results.audit import resumes
from suite.results.audit.claim import Claim
from suite.results.audit.findings import ERROR, Finding, show
from suite.results.audit.log import Log
from suite.results.audit.order import SCORED_AFTERWARDS
from suite.results.audit.quality import Eval, met
from suite.results.audit.record import TIMELINE, Record

_RULE = 'plausible'
DATES = 'dates'
_DAY_MS = 86_400_000.0
_SAME = 1e-6  # of a quality that is logged twice, once with fewer digits
_MANY = 3  # blocks or evals that are alike by no chance
_BLOCKS = 5  # that show how long one takes
_CLEAR = 0.5  # of the way from the target to perfection
_SLACK = 0.1  # of a place that is named beside the one that decides
_SHORT, _STEADY = 0.5, 0.75  # of the usual time of a block
_RECORD = 20.0  # a round improved on the one before by a factor of 4 at most
_OUTLIER = 10.0  # the widest spread of one published set is 4


def check(log: Log, claim: Claim, found: Sequence[Eval]) -> Iterator[Finding]:
  """Finds implausible numbers of one log and the evals in it."""
  yield from _dates(log, claim)
  yield from _blocks(log)
  yield from _evals_in_blocks(log)
  yield from _contradictions(log, claim)
  yield from _end(log, claim, found)
  yield from _qualities(log, claim, found)


def check_set(
  name: str, benchmark: str | None, seconds: Mapping[str, float]
) -> Iterator[Finding]:
  """Finds implausible times of a set: log -> seconds of each good run."""
  if len(seconds) < _MANY:
    return
  usual = statistics.median(seconds.values())
  record = published.fastest(benchmark or '')
  if record and usual < 60 * record.minutes / _RECORD:
    text = f'expected runs of {benchmark} of minutes ({record.minutes:g} is the'
    text += f' fastest published, of {record.round}), got {usual:.3g} s'
    yield Finding(ERROR, name, None, text, _RULE)
  for log, took in seconds.items():
    if took < usual / _OUTLIER:
      text = f'expected about {usual:.4g} s as of the other runs'
      yield Finding(ERROR, log, None, f'{text}, got {took:.4g} s', _RULE)


def _dates(log: Log, claim: Claim) -> Iterator[Finding]:
  start, stop = log.first('run_start'), log.first('run_stop')
  if start is None or (log.odd_time and log.odd_time.key in TIMELINE):
    return
  latest = max(start.time_ms, stop.time_ms if stop else 0.0)
  if latest > time.time() * 1000.0 + _DAY_MS:
    text = 'expected a run of the past, got times in the future'
    yield log.error(start.line, text, DATES)
    return
  name = rounds.of_ruleset(claim.ruleset)
  if not claim.ours and rounds.ended(name, start.time_ms):
    text = f'expected a run of round {name}, got one after that had ended'
    yield log.warning(start.line, text, DATES)


class _Block(NamedTuple):
  """A block of training, from its first start to its stop."""

  start: Record
  stop: Record
  starts: int  # some log one for each of its epochs

  @property
  def took(self) -> float:
    """Returns the milliseconds."""
    return self.stop.time_ms - self.start.time_ms


def _blocks(log: Log) -> Iterator[Finding]:
  """Blocks take time, and follow each other without holes."""
  blocks = list(_of(resumes.course_of(log, 'block_start', 'block_stop')))
  if len(blocks) >= _MANY and not any(block.took for block in blocks):
    text = f'expected blocks that take time, got {len(blocks)} of 0 ms'
    yield log.error(blocks[0].start.line, text, _RULE)
  yield from _short(log, blocks)
  holes = [
    after.start
    for before, after in itertools.pairwise(blocks)
    if _hole(before, after)
  ]
  if len(holes) >= _MANY and 2 * len(holes) >= len(blocks) - 1:
    text = 'expected blocks that follow each other, got holes between'
    text += f' {len(holes)} of {len(blocks)}'
    yield log.error(holes[0].line, text, _RULE)


def _short(log: Log, blocks: Sequence[_Block]) -> Iterator[Finding]:
  """One block took far less time than all others that are as long."""
  epochs = [show(block.start.metadata.get('epoch_count')) for block in blocks]
  alike = [
    block
    for block, each in zip(blocks, epochs, strict=True)
    if each == statistics.mode(epochs)
  ]
  if len(alike) < _BLOCKS:
    return
  usual = statistics.median(block.took for block in alike)
  least, second, *_ = sorted(alike, key=lambda block: block.took)
  if least.took < _SHORT * usual and second.took > _STEADY * usual:
    text = f'expected about {usual / 1000:.4g} s as of the other blocks'
    text += f', got {least.took / 1000:.4g} s'
    yield log.warning(least.stop.line, text, _RULE)


def _of(course: Sequence[Record]) -> Iterator[_Block]:
  starts: list[Record] = []
  for record in course:
    if record.key == 'block_start':
      starts.append(record)
    elif starts:
      yield _Block(starts[0], record, len(starts))
      starts = []


def _hole(before: _Block, after: _Block) -> bool:
  """Returns whether at least half a block is missing between two."""
  said = before.start.metadata
  first, count = said.get('first_epoch_num'), said.get('epoch_count')
  following = after.start.metadata.get('first_epoch_num')
  if not all(map(is_number, (first, count, following))) or count <= 0:
    return False
  whole = count * before.starts
  return following - first - whole >= 0.5 * whole


def _evals_in_blocks(log: Log) -> Iterator[Finding]:
  """Evals lie in the block before them, of logs where most of them do."""
  inside, outside = 0, []
  block: Record | None = None
  blocks = 0
  for record in resumes.course_of(log, 'block_start', 'eval_accuracy'):
    if record.key == 'block_start':
      block, blocks = record, blocks + 1
    elif record.key == 'eval_accuracy' and block:
      first = block.metadata.get('first_epoch_num')
      count = block.metadata.get('epoch_count')
      at = record.metadata.get('epoch_num')
      if not all(map(is_number, (first, count, at))) or count <= 0:
        continue
      # Epochs are counted from 0 or from 1.
      if first - count - 1 <= at <= first + 2 * count + 1:
        inside += 1
      elif blocks > 1:  # some log the first in another unit
        outside.append((record, block))
  if outside and inside >= len(outside):
    record, block = outside[0]
    text = f'expected an eval of the block in line {block.line}, got one after'
    text += f' epoch {show(record.metadata["epoch_num"])}'
    yield log.error(record.line, text, _RULE)


def _contradictions(log: Log, claim: Claim) -> Iterator[Finding]:
  """An eval has one result; two that decide alike are only untidy."""
  at: dict[tuple, list[Record]] = {}
  epoch, samples, step = UNITS
  for record in resumes.course_of(log, 'eval_accuracy'):
    if is_number(record.value):
      said = record.metadata.get
      place = said(epoch), said(samples), said(step), said('metric')
      at.setdefault(place, []).append(record)
  if len(at) < 2:
    return  # some number no evals
  for first, *others in at.values():
    for other in others:
      if not math.isclose(first.value, other.value, rel_tol=_SAME):
        met_by = claim.verdict.met if claim.verdict else {}
        alike = met_by.get(first.line) == met_by.get(other.line)
        make = log.warning if alike and met_by else log.error
        text = f'expected one quality of an eval, got {show(first.value)} in'
        text += f' line {first.line} and {show(other.value)}'
        yield make(other.line, text, _RULE)
        return


def _end(log: Log, claim: Claim, found: Sequence[Eval]) -> Iterator[Finding]:
  """The end of a run and the eval that decided it name the same place."""
  stop = log.first('run_stop')
  if stop is None or not found or claim.name in SCORED_AFTERWARDS:
    return
  last = found[-1]
  record = next(r for r in log.of('eval_accuracy') if r.line == last.line)
  for unit in UNITS:
    at, expected = stop.metadata.get(unit), record.metadata.get(unit)
    if not is_number(at) or not is_number(expected):
      continue
    # Some count from 0 here and from 1 there, or to the end of the batch.
    slack = 1.0 if unit == last.unit else max(1.0, _SLACK * abs(expected))
    if abs(at - expected) > slack:
      text = f'expected run_stop at {unit} {expected:g} as the last eval'
      yield log.error(stop.line, f'{text}, got {show(at)}', _RULE)
      return


def _qualities(
  log: Log, claim: Claim, found: Sequence[Eval]
) -> Iterator[Finding]:
  if claim.target is None or not claim.official or not claim.closed:
    return
  bounds = claim.target.as_dict()
  for one in found:
    for name, value in one.quality.items():
      if _beyond(bounds.get(name, {}), value):
        text = f'expected {name} near the target {claim.target}'
        yield log.warning(one.line, f'{text}, got {value:g}', _RULE)
        return
  if found and met(claim, found[0]):
    text = 'expected evals on the way to the target, got one that met it first'
    yield log.warning(found[0].line, text, _RULE)


def _beyond(bounds: Mapping[str, float], value: float) -> bool:
  """Returns whether a quality is far better than its target."""
  low, high = bounds.get('at_least'), bounds.get('at_most')
  if low is not None and 0 < low < 1:
    return value > low + _CLEAR * (1 - low)
  return high is not None and value < _CLEAR * high
