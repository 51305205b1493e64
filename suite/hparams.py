"""Hyperparameters, each declared once.

A benchmark's hyperparameters are a frozen dataclass whose fields are made by
`tunable` and `fixed`. Such a declaration holds the value, its log key, which
values make sense, what Closed allows, and how the value follows the batch. The
`--hp` flag, the line in the log, refusals, scaling studies and recipes from
convergence points all follow from it.
"""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import enum
import math
import re
import typing
from typing import Any

from suite import names

Key = str | Callable[[Any], str | None] | None
# Log keys that the global batch may have.
BATCH_KEYS = ('global_batch_size', 'train_batch_size')
# Metadata of a line in the log, from all hyperparameters.
Beside = Mapping[str, Callable[[Any], Any]]


class Division(enum.Enum):
  """Closed compares systems; Open lets people invent."""

  CLOSED = 'closed'
  OPEN = 'open'


class Scales(enum.Enum):
  """Ways in which a value follows the global batch."""

  RATE = 'grows with a power of the batch'
  STEPS = 'shrinks with the batch, so that epochs stay'
  DIVISOR = 'divides the batch'
  NEAREST = 'depends on the system; between two points, as in the nearer'


@dataclasses.dataclass(frozen=True)
class Rule:
  """Values that are allowed: `allows(value, hparams)`, and in words."""

  text: str  # completes 'Expected batch to be ...'
  allows: Callable[[Any, Any], bool]


def one_of(*choices: Any) -> Rule:
  """Allows the named values only."""
  text = 'one of ' + ', '.join(str(choice) for choice in choices)
  return Rule(text, lambda value, _: value in choices)


def numbers(text: str, allows: Callable[[Any], bool]) -> Rule:
  """A rule for a number, or for every number of a tuple, at least one."""

  def all_of(value, _):
    values = value if isinstance(value, tuple) else (value,)
    return bool(values) and all(map(allows, values))

  return Rule(text, all_of)


def divisor_of(name: str) -> Rule:
  """Allows what divides another hyperparameter."""
  return Rule(
    f'a divisor of {name}',
    lambda value, hp: value > 0 and getattr(hp, name) % value == 0,
  )


POSITIVE = numbers('positive', lambda value: value > 0)
NOT_NEGATIVE = numbers('0 or more', lambda value: value >= 0)
SHARE = numbers('from 0 to 1', lambda value: 0 <= value <= 1)
BELOW_ONE = numbers('0 or more and below 1', lambda value: 0 <= value < 1)
RISING = Rule(
  'positive and rising',
  lambda value, _: (
    list(value) == sorted(set(value)) and min(value, default=1) > 0
  ),
)


@dataclasses.dataclass(frozen=True)
class Declared:
  """One hyperparameter of one set, with all that its declaration says."""

  name: str
  value: Any
  key: str | None  # the log's key; None: not logged for these values
  tunable: bool
  valid: Rule | None  # holds in every division; None: any value of the type
  rule: Rule | None  # holds in Closed
  scales: Scales | None
  help: str
  beside: Mapping[str, Any]  # metadata of its line in the log
  also: str | None = None  # a second key that rules want it under

  @property
  def allowed(self) -> str:
    """'positive; Closed: fixed', for lists of hyperparameters."""
    closed = self.rule.text if self.rule else 'any'
    closed = f'Closed: {closed if self.tunable else "fixed"}'
    return f'{self.valid.text}; {closed}' if self.valid else closed


@dataclasses.dataclass(frozen=True)
class Fault:
  """A value that is not allowed."""

  name: str  # of the hyperparameter
  expected: str  # completes 'Expected batch to be ...'
  got: str

  def __str__(self) -> str:
    return f'Expected {self.name} to be {self.expected}, got {self.got}.'


def tunable(
  default: Any,
  text: str,
  *,
  key: Key = None,
  valid: Rule | None = None,
  rule: Rule | None = None,
  scales: Scales | None = None,
  beside: Beside | None = None,
  also: str | None = None,
) -> Any:
  """A field that Closed lets submitters set, within `rule` if there is one.

  `key` is its official log key, or a function of the hyperparameters that
  returns it (None: not logged). Without one it is logged as `podium_<name>`.
  `valid` says which values make sense, in any division: without it numbers must
  be positive; a text needs one. `beside` is metadata of its line in the log,
  `also` a second key that official rules want the value under.
  """
  return _field(default, text, key, True, valid, rule, scales, beside, also)


def fixed(
  default: Any, text: str, *, key: Key = None, valid: Rule | None = None
) -> Any:
  """A field that Closed keeps as the reference has it; see `tunable`."""
  return _field(default, text, key, False, valid)


def accumulation_steps(valid: Rule | None = None) -> Any:
  """The field of the parts that a step is done in; a divisor of the batch."""
  return tunable(
    1,
    'Parts that a step is done in, to need less memory.',
    key='gradient_accumulation_steps',
    valid=valid or divisor_of('global_batch_size'),
    scales=Scales.NEAREST,
  )


def compute_dtype(text: str) -> Any:
  """The field of the number format that `text` is computed in."""
  return tunable('float32', text, valid=one_of('float32', 'bfloat16'))


def epochs_between_evals(default: int) -> Any:
  """The field of the epochs from one eval to the next; needs `max_epochs`."""
  rule = Rule(
    'positive and up to max_epochs',
    lambda value, hp: 0 < value <= hp.max_epochs,
  )
  return fixed(default, 'Epochs from one eval to the next.', valid=rule)


def base_learning_rate(default: float, text: str, **how: Any) -> Any:
  """The field of the learning rate that a schedule starts from."""
  how = {'key': 'opt_base_learning_rate', **how}
  return tunable(default, text, scales=Scales.RATE, **how)


def warmup_steps(default: int, text: str, **how: Any) -> Any:
  """The field of the steps until the learning rate is highest."""
  how = {'key': 'opt_learning_rate_warmup_steps', **how}
  return tunable(default, text, scales=Scales.STEPS, **how)


@dataclasses.dataclass(frozen=True)
class Moments:
  """Fields of an optimizer with two moments, under its official log keys.

  Each is declared by `tunable` unless `declare` says `fixed`.
  """

  name: str  # in log keys
  decay: str = 'weight_decay'  # in the log key of the weight decay

  def beta(
    self, number: int, default: float, declare: Any = tunable, **how: Any
  ) -> Any:
    """The field of a moment's decay; 1: the mean, 2: the mean square."""
    return declare(
      default,
      f'Decay of the {("mean gradient", "mean square")[number - 1]}.',
      key=f'opt_{self.name}_beta_{number}',
      valid=BELOW_ONE,
      **how,
    )

  def epsilon(self, default: float, declare: Any = tunable, **how: Any) -> Any:
    """The field of the term that keeps a step finite."""
    text = 'Added to the root of the mean square.'
    how = {'key': f'opt_{self.name}_epsilon', 'valid': NOT_NEGATIVE, **how}
    return declare(default, text, **how)

  def weight_decay(
    self, default: float, declare: Any = tunable, **how: Any
  ) -> Any:
    """The field of the weight decay."""
    how = {'key': f'opt_{self.name}_{self.decay}', **how}
    return declare(default, 'Weight decay.', valid=NOT_NEGATIVE, **how)


ADAM = Moments('adam')
LAMB = Moments('lamb', decay='weight_decay_rate')


def declared(hparams: Any) -> list[Declared]:
  """Every hyperparameter in the order of its declaration."""
  return [
    Declared(
      name=field.name,
      value=getattr(hparams, field.name),
      key=_log_key(field, hparams),
      tunable=field.metadata['tunable'],
      valid=field.metadata['valid'],
      rule=field.metadata['rule'],
      scales=field.metadata['scales'],
      help=field.metadata['help'],
      beside={
        name: found(hparams) for name, found in field.metadata['beside'].items()
      },
      also=field.metadata['also'],
    )
    for field in dataclasses.fields(hparams)
  ]


def logged(hparams: Any) -> dict[str, Any]:
  """Hyperparameters as the log has them: {key: value}."""
  return {
    key: each.value
    for each in declared(hparams)
    for key in (each.key, each.also)
    if key is not None
  }


def beside(hparams: Any) -> dict[str, Mapping[str, Any]]:
  """The metadata of lines in the log that have any: {key: {name: value}}."""
  return {d.key: d.beside for d in declared(hparams) if d.key and d.beside}


def batch(hparams: Any) -> Declared:
  """The hyperparameter that is the global batch; ValueError without one."""
  for each in declared(hparams):
    if each.key in BATCH_KEYS:
      return each
  raise ValueError(
    f'Expected a hyperparameter with the key {" or ".join(BATCH_KEYS)}, got '
    'none.'
  )


def batch_key(keys: Collection[str]) -> str:
  """The key of the global batch among a log's; without any, the usual one."""
  return next((key for key in BATCH_KEYS if key in keys), BATCH_KEYS[0])


def batch_in(values: Mapping[str, Any]) -> Any:
  """The global batch among a log's settings, by key; None without one."""
  return values.get(batch_key(values))


def each(value: Any, change: Callable[[Any], Any]) -> Any:
  """Changes a hyperparameter's number, or all numbers of a tuple."""
  if isinstance(value, tuple):
    return tuple(map(change, value))
  return change(value)


def largest_divisor(number: int, most: int) -> int:
  """The largest divisor of a number that is at most `most`."""
  return next(n for n in range(min(most, number), 0, -1) if number % n == 0)


def as_text(value: Any) -> str:
  """A value in the form that `override` and `--hp` read."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, list | tuple):
    return ','.join(map(as_text, value))
  return str(value)


def override(
  reference: Any, changes: Mapping[str, str], division: Division
) -> Any:
  """The reference's hyperparameters with `changes` ({name: text}) applied.

  Raises ValueError for unknown names (naming the nearest) and texts that are no
  values of their field's type, all at once, for a value that makes no sense,
  and, in Closed, for what the rules do not allow.
  """
  types = typing.get_type_hints(type(reference))
  values, wrong = {}, []
  for name, text in changes.items():
    try:
      names.require('hyperparameter', name, types)
      values[name] = _parse(name, text, types[name])
    except ValueError as error:
      wrong.append(str(error))
  if wrong:
    raise ValueError(' '.join(wrong))
  hparams = dataclasses.replace(reference, **values)
  require_valid(hparams)
  found = closed_faults(hparams, reference)
  if division is Division.CLOSED and found:
    raise ValueError(
      f'Not allowed in the Closed division: {" ".join(map(str, found))} '
      'To run it anyway, use --division=open.'
    )
  return hparams


def require_valid(hparams: Any) -> None:
  """ValueError naming the first value that makes no sense in any division."""
  for each in declared(hparams):
    for fault in _broken(each, each.valid, hparams):
      raise ValueError(str(fault))


def closed_faults(hparams: Any, reference: Any) -> list[Fault]:
  """Values that the Closed division does not allow."""
  found = []
  for given, expected in zip(
    declared(hparams), declared(reference), strict=True
  ):
    if not given.tunable and given.value != expected.value:
      text = f'{expected.value!r}, which Closed fixes'
      found.append(Fault(given.name, text, repr(given.value)))
    found += _broken(given, given.valid, hparams) or (
      _broken(given, given.rule, hparams)
    )
  return found


def _broken(given: Declared, rule: Rule | None, hparams: Any) -> list[Fault]:
  """The fault of a value that breaks a rule, beside what the rule compares."""
  if rule is None or rule.allows(given.value, hparams):
    return []
  others = (
    f'{name} is {getattr(hparams, name)!r}'
    for name in dict.fromkeys(re.findall(r'\w+', rule.text))
    if name in vars(hparams)
  )
  beside = ', '.join(others)
  got = f'{given.value!r} ({beside})' if beside else repr(given.value)
  return [Fault(given.name, rule.text, got)]


def _field(
  default,
  text,
  key,
  is_tunable,
  valid,
  rule=None,
  scales=None,
  beside=None,
  also=None,
):
  if valid is None and isinstance(default, str):
    raise TypeError(f'Expected `valid` of a text, got none for {default!r}.')
  if valid is None and not isinstance(default, bool):
    valid = POSITIVE
  metadata = {
    'help': text,
    'key': key,
    'tunable': is_tunable,
    'valid': valid,
    'rule': rule,
    'scales': scales,
    'beside': beside or {},
    'also': also,
  }
  return dataclasses.field(default=default, metadata=metadata)


def _log_key(field: dataclasses.Field, hparams: Any) -> str | None:
  key = field.metadata['key']
  if key is None:
    return f'podium_{field.name}'
  return key(hparams) if callable(key) else key


def _parse(name: str, text: str, kind: type) -> Any:
  try:
    if kind is bool:
      return {'true': True, 'false': False}[text.lower()]
    if typing.get_origin(kind) is tuple:
      item = typing.get_args(kind)[0]
      return tuple(item(part) for part in text.split(',') if text)
    value = kind(text)
  except (KeyError, ValueError):
    raise ValueError(
      f'Expected hyperparameter {name} as {_type_name(kind)}, got {text!r}.'
    ) from None
  if kind is float and not math.isfinite(value):
    raise ValueError(f'Expected a finite number as {name}, got {text!r}.')
  return value


def _type_name(kind: type) -> str:
  if typing.get_origin(kind) is tuple:
    return f'{typing.get_args(kind)[0].__name__}s with commas between'
  return kind.__name__
