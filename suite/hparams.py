"""Hyperparameters, each declared once: value, log key, and what Closed allows.

A benchmark's hyperparameters are a frozen dataclass whose fields are made by
`tunable` and `fixed`. From that one declaration follow the `--hp` flag, the
line in the log, and the check of the Closed division.
"""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import difflib
import enum
import math
import typing
from typing import Any

Key = str | Callable[[Any], str | None] | None
# Keys of the log that the global batch may have.
BATCH_KEYS = ('global_batch_size', 'train_batch_size')
# What the line in the log says beside the value, from all hyperparameters.
Beside = Mapping[str, Callable[[Any], Any]]


class Division(enum.Enum):
  """Closed compares systems; Open lets people invent."""

  CLOSED = 'closed'
  OPEN = 'open'

  @property
  def startup_allowance(self) -> float:
    """Seconds of startup that do not count (rules from v2.0 on)."""
    return {'closed': 30 * 60.0, 'open': 4 * 3600.0}[self.value]


@dataclasses.dataclass(frozen=True)
class Rule:
  """What Closed allows for one value: `allows(value, hparams)`, in words."""

  text: str
  allows: Callable[[Any, Any], bool]


def one_of(*choices: Any) -> Rule:
  """Only the named values."""
  text = 'one of ' + ', '.join(str(choice) for choice in choices)
  return Rule(text, lambda value, _: value in choices)


POSITIVE = Rule('positive', lambda value, _: value > 0)


@dataclasses.dataclass(frozen=True)
class Declared:
  """One hyperparameter of one set, with all that its declaration says."""

  name: str
  value: Any
  key: str | None  # the log's key; None: not logged for these values
  tunable: bool
  rule: Rule | None
  help: str
  beside: Mapping[str, Any]  # metadata of its line in the log


def tunable(
  default: Any,
  text: str,
  *,
  key: Key = None,
  rule: Rule | None = None,
  beside: Beside | None = None,
) -> Any:
  """A field that Closed lets submitters set, within `rule` if there is one.

  `key` is its official log key, or a function of the hyperparameters that
  returns it (None: not logged). Without one it is logged as `podium_<name>`.
  `beside` is metadata of its line.
  """
  return _field(default, text, key, True, rule, beside)


def fixed(default: Any, text: str, *, key: Key = None) -> Any:
  """A field that Closed keeps as the reference has it."""
  return _field(default, text, key, False, None)


def accumulation_steps() -> Any:
  """The field of the parts that a step is done in."""
  return tunable(
    1,
    'Parts that a step is done in, to need less memory.',
    key='gradient_accumulation_steps',
    rule=POSITIVE,
  )


def compute_dtype(text: str) -> Any:
  """The field of the format of what `text` says is computed in it."""
  return tunable('float32', text, rule=one_of('float32', 'bfloat16'))


def declared(hparams: Any) -> list[Declared]:
  """Every hyperparameter in the order of its declaration."""
  return [
    Declared(
      name=field.name,
      value=getattr(hparams, field.name),
      key=_log_key(field, hparams),
      tunable=field.metadata['tunable'],
      rule=field.metadata['rule'],
      help=field.metadata['help'],
      beside={
        name: found(hparams) for name, found in field.metadata['beside'].items()
      },
    )
    for field in dataclasses.fields(hparams)
  ]


def logged(hparams: Any) -> dict[str, Any]:
  """What the log says of the hyperparameters: {key: value}."""
  return {d.key: d.value for d in declared(hparams) if d.key is not None}


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
  """Which of a log's keys is the global batch; without any, the usual one."""
  return next((key for key in BATCH_KEYS if key in keys), BATCH_KEYS[0])


def batch_in(values: Mapping[str, Any]) -> Any:
  """The global batch among what a log says, by key; None without one."""
  return values.get(batch_key(values))


def each(value: Any, change: Callable[[Any], Any]) -> Any:
  """A hyperparameter's number changed, or all numbers of a tuple."""
  if isinstance(value, tuple):
    return tuple(map(change, value))
  return change(value)


def as_text(value: Any) -> str:
  """A value as `override` reads it, which is how flags are given it."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, list | tuple):
    return ','.join(map(as_text, value))
  return str(value)


def override(
  reference: Any, changes: Mapping[str, str], division: Division
) -> Any:
  """The reference's hyperparameters with `changes` ({name: text}) applied.

  Raises ValueError for an unknown name (naming the nearest), a text that is no
  value of the field's type, and, in Closed, for what the rules do not allow.
  """
  types = typing.get_type_hints(type(reference))
  values = {}
  for name, text in changes.items():
    if name not in types:
      raise ValueError(
        f'Unknown hyperparameter {name!r}{nearest(name, types)}; '
        f'there are {", ".join(types)}.'
      )
    values[name] = _parse(name, text, types[name])
  hparams = dataclasses.replace(reference, **values)
  faults = closed_faults(hparams, reference)
  if division is Division.CLOSED and faults:
    raise ValueError(
      'Not allowed in the Closed division: '
      + ' '.join(faults)
      + ' Use --division=open to run it all the same.'
    )
  return hparams


def closed_faults(hparams: Any, reference: Any) -> list[str]:
  """What the Closed division does not allow, one sentence each."""
  faults = []
  for given, expected in zip(
    declared(hparams), declared(reference), strict=True
  ):
    if not given.tunable and given.value != expected.value:
      faults.append(
        f'{given.name} is fixed at {expected.value!r}, not {given.value!r}.'
      )
    if given.rule and not given.rule.allows(given.value, hparams):
      faults.append(
        f'{given.name} must be {given.rule.text}, not {given.value!r}.'
      )
  return faults


def require_positive(hparams: Any, *names: str) -> None:
  """ValueError unless each of the named values is at least 1."""
  for name in names:
    if getattr(hparams, name) < 1:
      raise ValueError(
        f'{name} must be positive, not {getattr(hparams, name)}.'
      )


def nearest(name: str, names: typing.Iterable[str]) -> str:
  """', did you mean ...?' where one of `names` is close to `name`, else ''."""
  close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
  return f' (did you mean {close[0]!r}?)' if close else ''


def _field(default, text, key, is_tunable, rule, beside=None):
  metadata = {
    'help': text,
    'key': key,
    'tunable': is_tunable,
    'rule': rule,
    'beside': beside or {},
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
      f'Hyperparameter {name} takes {_type_name(kind)}, not {text!r}.'
    ) from None
  if kind is float and not math.isfinite(value):
    raise ValueError(f'Hyperparameter {name} must be finite, not {text!r}.')
  return value


def _type_name(kind: type) -> str:
  if typing.get_origin(kind) is tuple:
    return f'{typing.get_args(kind)[0].__name__}s with commas between'
  return kind.__name__
