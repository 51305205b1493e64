"""Checks that a run's quality is a number in its unit and met the target."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from suite.files import is_number
from suite.results.audit import order, resumes
from suite.results.audit.claim import Claim
from suite.results.audit.findings import Finding, show
from suite.results.audit.log import Log
from suite.results.audit.record import Record

CONVERGED = 'converged'  # the rule that one run of a set may break


class Eval(NamedTuple):
  """The quality at one point of a run."""

  line: int
  at: float | None  # epochs, counted from 1, or samples, or steps
  unit: str | None  # 'epoch_num', 'samples_count' or 'step_num'
  time_ms: float
  quality: Mapping[str, float]


def check(log: Log, claim: Claim, found: Sequence[Eval]) -> Iterator[Finding]:
  """Finds faults of the evals of a log and of the end that they led to."""
  for record in log.of('eval_accuracy'):
    if _is_plain(record, claim):
      continue
    if fault := next(_value_faults(record, claim), None):
      yield log.error(record.line, *fault)
  yield from _outcome(log, claim, found)


def evals(log: Log, claim: Claim) -> list[Eval]:
  """The evals with a valid value; of those done again, the last."""
  found = []
  for record in resumes.course_of(log, 'eval_accuracy'):
    if _is_plain(record, claim) or not any(_value_faults(record, claim)):
      unit = claim.unit(record)
      at = record.metadata.get(unit)
      quality = _quality(record, claim)
      found.append(Eval(record.line, at, unit, record.time_ms, quality))
  return found


def bound(claim: Claim) -> bool:
  """Returns whether a log must meet a target that is known."""
  if not claim.closed and not claim.ours:
    return False
  return claim.size is not None or bool(claim.verdict and claim.verdict.met)


def met(claim: Claim, one: Eval) -> bool:
  """Returns whether an eval meets the target; False where it is unknown."""
  if claim.size is not None:
    return claim.size.target.met_by(one.quality)
  return claim.verdict is not None and claim.verdict.met.get(one.line, False)


def _is_plain(record: Record, claim: Claim) -> bool:
  """Returns whether a value is a sensible one of the metric asked for."""
  value = record.value
  if len(claim.metrics) != 1 or type(value) is not float:
    return False
  fraction = 0 < claim.target.at_least.get(claim.metrics[0], -1) <= 1
  return 0.0 <= value < (1.0 if fraction else 1e300)


def _quality(record: Record, claim: Claim) -> dict[str, float]:
  if isinstance(record.value, dict):
    return record.value
  metrics = claim.metrics
  other = record.metadata.get('metric')
  other = other if isinstance(other, str) else None
  name = metrics[0] if metrics else other
  if other in metrics:
    name = other  # some log each metric of an eval by itself
  return {name or 'eval_accuracy': record.value}


def _value_faults(record: Record, claim: Claim) -> Iterator[tuple[str, str]]:
  value, metrics = record.value, claim.metrics
  alone = record.metadata.get('metric') in metrics
  if len(metrics) > 1 and not isinstance(value, dict) and not alone:
    yield f'expected {", ".join(metrics)}, got {show(value)}', 'quality'
    return
  if isinstance(value, dict):
    for name in metrics or (() if value else ('eval_accuracy',)):
      if name not in value:
        yield f'expected a value of {name}, got {show(value)}', 'quality'
  for name, number in _quality(record, claim).items():
    if not is_number(number):
      text = f'expected a finite number as {show(name)}'
      yield f'{text}, got {show(number)}', 'quality'
    else:
      yield from _unit_faults(name, number, claim)


def _unit_faults(
  name: str, number: float, claim: Claim
) -> Iterator[tuple[str, str]]:
  if claim.target is None:
    return
  bounds = claim.target.as_dict().get(name, {})
  # A target between 0 and 1 to be exceeded is a fraction of a whole.
  if not 0 < bounds.get('at_least', -1) <= 1:
    if bounds and 'at_least' not in bounds and number < 0:
      text = f'expected {name} of 0 or more, got {number:g}'
      yield text, 'quality unit'
    return
  if number > 1:
    text = f'expected {name} as a fraction of 1, got {number:g}'
    yield text + ' (is it in percent?)', 'quality unit'
  elif number == 1 and claim.official and claim.size:
    # The official checker takes no perfect score for real either.
    yield f'expected {name} below 1, got {number:g}', 'quality unit'
  elif number < 0:
    yield f'expected {name} of 0 or more, got {number:g}', 'quality unit'


def _outcome(
  log: Log, claim: Claim, found: Sequence[Eval]
) -> Iterator[Finding]:
  stop = log.first('run_stop')
  if stop is None:
    return
  if order.aborted(log):
    reason = show(stop.metadata.get('reason', 'no reason'))
    text = f'expected status success, got aborted: {reason}'
    yield log.error(stop.line, text, CONVERGED)
  if found and bound(claim):
    yield from _target(log, claim, found, stop)


def _target(
  log: Log, claim: Claim, found: Sequence[Eval], stop: Record
) -> Iterator[Finding]:
  last = found[-1]
  target = claim.size.target if claim.size else claim.verdict.goal
  first_met = next((one for one in found if met(claim, one)), None)
  got = ', '.join(f'{n} {v:g}' for n, v in last.quality.items())
  if order.aborted(log):
    if met(claim, last):
      text = f'expected an aborted run to miss {target}, got {got}'
      yield log.warning(stop.line, text, 'status')
  elif first_met is None:
    text = f'expected {target} at the last eval, got {got}'
    yield log.error(last.line, text, 'target')
  elif not met(claim, last) and claim.name not in order.SCORED_AFTERWARDS:
    # The rules stop the clock when the target is known to be met: a run that
    # continues and loses it has not stopped there.
    text = f'expected {target} at the last eval, got {got}'
    text += f'; line {first_met.line} met it, but not the end'
    yield log.error(last.line, text, 'target')
  elif claim.ours and first_met is not last:
    text = f'expected the run to stop at line {first_met.line}'
    yield log.warning(last.line, text + ', got another eval', 'target')
