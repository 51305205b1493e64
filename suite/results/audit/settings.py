"""Checks that settings are all there, once, allowed, and the data whole."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import Any

from suite import hparams as hparams_lib
from suite import names
from suite.files import is_number
from suite.results.audit.claim import Claim
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.log import Log

_HYPERPARAMETER = 'hyperparameter'
# (training, evaluation) samples of official benchmarks, from their references,
# where no rule file pins them.
_SAMPLES = {
  'bert': (None, (10_000,)),
  'flux1': ((1_099_776,), (29_696,)),
  'gnmt': (None, (3_003,)),
  'gnn': ((94_605_581,), (788_379,)),
  'llama2_70b_lora': ((3_901,), (173,)),
  'dlrm': ((4_195_197_692,), (89_137_318, 89_137_319)),
  'dlrm_dcnv2': ((4_195_197_692,), (89_137_319,)),
  'resnet': ((1_281_167,), (50_000,)),
  'retinanet': ((1_170_301,), (24_781,)),
  'rgat': ((94_605_581,), (788_379,)),
  'rnnt': (None, (2_703,)),
  'stable_diffusion': ((6_513_144,), (30_000,)),
  'transformer': ((4_590_101,), (3_003,)),
  'unet3d': ((168,), (42,)),
}
COUNTS = ('train_samples', 'eval_samples')
# Nearly all published logs of these count batches instead.
_IN_BATCHES = ('maskrcnn', 'retinanet', 'ssd')
_FAR = 10.0  # times too many or too few: other data, or batches
# Rounds of resolving: a key may depend on values that other keys hold.
_ROUNDS = 4


class _WrongType(ValueError):
  """A logged value that is no value of its field; the message says why."""


def rebuild(log: Log, claim: Claim) -> Any:
  """The hyperparameters that a log holds; the reference's where it has none.

  None where the benchmark is unknown.
  """
  if claim.size is None:
    return None
  hparams = claim.size.hparams
  for _ in range(_ROUNDS):
    changes = {}
    for declared in hparams_lib.declared(hparams):
      if declared.key in log.settings:
        try:
          changes[declared.name] = _value(log, declared, claim)
        except _WrongType:
          continue  # `check` tells of it
    rebuilt = dataclasses.replace(claim.size.hparams, **changes)
    if rebuilt == hparams:
      break
    hparams = rebuilt
  return hparams


def check(log: Log, claim: Claim) -> Iterator[Finding]:
  """Finds faults of the settings of a log."""
  said = str(log.value('cache_clear')).lower() in ('true', '1')
  yield from log.hold(
    'cache_clear',
    lambda value: value is True,
    'cache_clear = true before the run',
    'cold caches',
    missing=True,
    unsaid=WARNING,
    wrong=WARNING if said and not claim.ours else ERROR,
  )
  yield from _repeats(log, claim)
  yield from _seed(log, claim)
  yield from _samples(log, claim)
  yield from _sizes(log, claim)
  key = 'podium_may_skip_records'
  if claim.closed and key in log.settings:
    text = f'expected every record to be trained on, got {key} '
    yield log.error(log.line(key), text + show(log.value(key)), 'samples')
  if claim.hparams is not None:
    yield from _hyperparameters(log, claim)
    if claim.closed:
      yield from _closed(log, claim)


def _repeats(log: Log, claim: Claim) -> Iterator[Finding]:
  for key, setting in log.settings.items():
    if setting.count == 1 or not claim.is_setting(key) or claim.several(key):
      continue
    if setting.other:
      text = f'expected {key} once, got {setting.count} with different values'
      text += f': {show(setting.first.value)} in line {setting.first.line}'
      text += f', then {show(setting.other.value)}'
      yield log.error(setting.other.line, text, 'once')
    elif claim.ours or not claim.verdict or key not in claim.verdict.once:
      text = f'expected {key} once, got {setting.count} of the same value'
      yield log.warning(setting.first.line, text, 'once')


def _seed(log: Log, claim: Claim) -> Iterator[Finding]:
  setting = log.settings.get('seed')
  if setting is None:
    if claim.closed or claim.ours:
      # The official rules ask a log for none, but every log of a set.
      make = log.error if claim.ours else log.warning
      yield make(None, 'expected the seed of the run, got none', 'seed')
    return
  for record in filter(None, (setting.first, setting.other)):
    if not isinstance(record.value, int) or isinstance(record.value, bool):
      text = f'expected an integer as seed, got {show(record.value)}'
      # The official tool takes what int() takes, of a float the whole part.
      number = is_number(record.value) or _is_digits(record.value)
      fine = record.value is None or number
      make = log.warning if fine and not claim.ours else log.error
      yield make(record.line, text, 'seed')
  if setting.count > 1:
    text = f'expected one seed, got {setting.count}'
    yield log.warning(setting.first.line, text, 'seed')


def _is_digits(value: Any) -> bool:
  return isinstance(value, str) and value.strip().lstrip('+-').isdecimal()


def _samples(log: Log, claim: Claim) -> Iterator[Finding]:
  """Counts as declared; others' as known, of which a wrong one may be batches.

  Open may train on other data.
  """
  data = claim.size.data if claim.size else None
  known = dict(zip(COUNTS, _SAMPLES.get(claim.name, (None, None)), strict=True))
  for key in COUNTS:
    free = not claim.closed and key == 'train_samples'
    if data is not None and claim.ours:
      declared = {
        'train_samples': data.trained(claim.hparams),
        'eval_samples': data.eval_samples,
      }
      allowed, severity = (declared[key],), ERROR
    else:
      allowed, severity = known[key], WARNING
      batches = claim.name in _IN_BATCHES
      if allowed and not batches and far(log.value(key), allowed):
        severity = ERROR
    asks = f'a positive number as {key}'
    if allowed:
      asks = f'{key} {" or ".join(map(str, allowed))}'
    if not free:
      yield from log.hold(
        key,
        lambda value, allowed=allowed: (
          is_number(value) and (value in allowed if allowed else value > 0)
        ),
        asks,
        'samples',
        missing=data is not None and claim.ours,
        unsaid=ERROR if claim.ours else WARNING,
        wrong=severity,
      )


def far(value: Any, allowed: Sequence[float]) -> bool:
  """Returns whether a count is an order of magnitude off all allowed ones."""
  return is_number(value) and not any(
    each / _FAR < value < each * _FAR for each in allowed
  )


def _sizes(log: Log, claim: Claim) -> Iterator[Finding]:
  for key in (*hparams_lib.BATCH_KEYS, 'gradient_accumulation_steps'):
    # Some official rules take none, or 0, for one; others have their say.
    lenient = claim.verdict is not None and not claim.ours
    passes = WARNING if lenient else ERROR
    zero = is_number(log.value(key)) and log.value(key) == 0
    yield from log.hold(
      key,
      lambda value: is_number(value) and value > 0,
      f'a positive number as {key}',
      _HYPERPARAMETER,
      unsaid=passes,
      wrong=passes if zero else ERROR,
    )


def _hyperparameters(log: Log, claim: Claim) -> Iterator[Finding]:
  """Every hyperparameter that the declaration logs is there and of its type."""
  known = hparams_lib.logged(claim.hparams)
  for declared in hparams_lib.declared(claim.hparams):
    if declared.key is None:
      continue
    if declared.key in log.settings:
      try:
        _value(log, declared, claim)
      except _WrongType as error:
        make = log.error if claim.ours else log.warning
        yield make(log.line(declared.key), str(error), _HYPERPARAMETER)
    elif _asked(declared.key, claim):
      others = [key for key in log.settings if key not in known]
      text = f'expected {declared.key}, got none'
      text += names.nearest(declared.key, others[:200])
      if claim.ours:
        yield log.missing(declared.key, _HYPERPARAMETER, text)
      else:
        yield log.warning(None, text, _HYPERPARAMETER)


def _asked(key: str, claim: Claim) -> bool:
  """Returns whether a log must hold a key: ours only in our own logs."""
  return claim.ours or (claim.closed and not key.startswith('podium_'))


def _closed(log: Log, claim: Claim) -> Iterator[Finding]:
  """Faults by our declaration; others are held to the rules of their round."""
  make = log.error if claim.ours else log.warning
  keys = {d.name: d.key for d in hparams_lib.declared(claim.hparams)}
  try:
    faults = hparams_lib.closed_faults(claim.hparams, claim.size.hparams)
  except (ArithmeticError, TypeError, ValueError) as error:
    text = f'expected sensible hyperparameters, got some out of range: {error}'
    yield make(None, text, 'closed division')
    return
  for fault in faults:
    key = keys[fault.name]
    line = log.line(key) if key else None
    text = f'in {key or "the log"}: {fault}'
    yield make(line, text, 'closed division')


def _value(log: Log, declared: hparams_lib.Declared, claim: Claim) -> Any:
  """A logged value as its field's type, which the reference's value shows."""
  value = log.value(declared.key)
  like = getattr(claim.size.hparams, declared.name)
  if isinstance(like, tuple) and isinstance(value, list):
    return tuple(value)
  if is_number(like):
    if is_number(value) and type(like)(value) == value:
      return type(like)(value)
    if isinstance(like, float) and value == math.inf:
      return value  # of a bound: there is none
  elif type(like) is type(value):
    return value
  raise _WrongType(
    f'expected {declared.key} as {type(like).__name__}, got {show(value)}'
  )
