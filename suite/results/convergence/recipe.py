"""Hyperparameters for a global batch: those of points, or between two of them.

At a point its own are given. Between two they are interpolated, as each is
declared to follow the batch:

- rates, and counts of steps, with a power of the batch (a straight line on
  logarithmic axes): a rate grows with the batch or its root, and steps for as
  many epochs shrink with it, and both are powers;
- a divisor of the batch: the largest that is not above the nearer point's;
- other numbers on a straight line: epochs of warm-up, momentum;
- what is no number, depends on the system, or would break a rule of the Closed
  division when interpolated, is taken from the point that is nearer on a
  logarithmic axis, or where that would break it too, from the other, or the
  reference.

Where the budget of epochs would end a run before the reference met its target,
it is raised as well.

Outside the range of the points nothing is known, and nothing is suggested.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import Any

from suite import hparams as hparams_lib
from suite.files import is_number
from suite.hparams import Declared, Fault, Scales
from suite.results.convergence.points import Point, Points

# What some files of points call a key of the log.
_ALIASES = {
  'epsilon': 'lars_epsilon',
  'opt_gradient_accumulation_steps': 'gradient_accumulation_steps',
  'optimizer': 'opt_name',
}
# Two values that differ by more than this many times the ratio of the batches
# are in two units: some published steps are epochs.
_APART = 10
_Chosen = dict[str, tuple[Any, str]]  # by name: a value, and why
# Epochs that a run may need, over the most that the reference needed.
_SPARE = 1.2


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Hyperparameters for one global batch, by our names, and their sources."""

  batch_size: int
  changes: Mapping[str, Any]  # from the reference; what --hp takes
  reasons: Mapping[str, str]  # of each change, in words
  left_out: Mapping[str, Any]  # keys of the points that are none of ours
  warnings: tuple[str, ...]
  sources: tuple[Point, ...]

  @property
  def flags(self) -> list[str]:
    """The flags that launch.train takes."""
    return [
      f'--hp={name}={hparams_lib.as_text(value)}'
      for name, value in self.changes.items()
    ]


def suggest(points: Points, batch_size: int, reference: Any) -> Recipe:
  """Hyperparameters for a global batch; `reference` is a benchmark's own.

  Raises ValueError outside the range of the points. Slow points count too: they
  are recipes that someone trained with.
  """
  sizes = [point.batch_size for point in points.points]
  if not sizes[0] <= batch_size <= sizes[-1]:
    raise ValueError(
      f'Nothing is known of {points.benchmark} at batch {batch_size}: the '
      f'points go from {sizes[0]} to {sizes[-1]}.'
    )
  high = next(p for p in points.points if p.batch_size >= batch_size)
  warnings = []
  if high.batch_size == batch_size:
    sources = (high,)
    chosen, left_out = _exact(high, reference)
  else:
    low = [p for p in points.points if p.batch_size < batch_size][-1]
    sources = (low, high)
    chosen, left_out = _interpolated(batch_size, low, high, reference)
    warnings.append(
      f'Interpolated between batches {low.batch_size} and {high.batch_size}: '
      'nobody has published a run with these.'
    )
  chosen |= _budget(points, sources, reference)
  warnings += [text for point in sources for text in _slow(points, point)]
  return Recipe(
    batch_size=batch_size,
    changes={name: value for name, (value, _) in chosen.items()},
    reasons={name: reason for name, (_, reason) in chosen.items()},
    left_out=left_out,
    warnings=tuple(warnings),
    sources=sources,
  )


def _exact(point: Point, reference: Any) -> tuple[_Chosen, dict[str, Any]]:
  ours, left_out = _ours(point, _with_batch(reference, point.batch_size))
  chosen = _asked(reference, point.batch_size)
  for declared, value in ours:
    chosen[declared.name] = (
      _cast(value, declared.value),
      f'as in {point.name}',
    )
  return chosen, left_out


def _interpolated(
  batch_size: int, low: Point, high: Point, reference: Any
) -> tuple[_Chosen, dict[str, Any]]:
  near, far = sorted(
    (low, high),
    key=lambda p: abs(math.log(p.batch_size) - math.log(batch_size)),
  )
  base = _with_batch(reference, batch_size)
  ours, left_out = _ours(near, base)
  others = {d.name: v for d, v in _ours(far, base)[0]}
  chosen = _asked(reference, batch_size)
  for declared, value in ours:
    other = others.get(declared.name)
    middle = _middle(declared.scales, batch_size, (near, value), (far, other))
    candidates = (
      middle,
      (value, f'as in {near.name}, the nearer'),
      (declared.value if other is None else other, f'as in {far.name}'),
      (declared.value, 'as in the reference'),
    )
    chosen[declared.name] = _allowed(declared, candidates, base, chosen)
  return chosen, left_out


def _middle(
  scales: Scales | None,
  batch_size: int,
  near: tuple[Point, Any],
  far: tuple[Point, Any],
) -> tuple[Any, str]:
  """A value for the batch, and the reason in words."""
  (near_point, a), (far_point, b) = near, far
  if scales is Scales.DIVISOR and isinstance(a, int):
    found = hparams_lib.largest_divisor(batch_size, a)
    return found, f'the largest divisor up to {a}, that of {near_point.name}'
  if a == b:
    return a, 'the same at both'
  numbers = is_number(a) and is_number(b)
  if not numbers or scales is Scales.NEAREST:
    return a, f'as in {near_point.name}, the nearer'
  x, y = near_point.batch_size, far_point.batch_size
  if a > 0 and b > 0 and scales in (Scales.RATE, Scales.STEPS):
    if max(a / b, b / a) > _APART * max(x / y, y / x):
      reason = f'{a:g} and {b:g} can hardly be in one unit'
      return a, f'as in {near_point.name}, the nearer: {reason}'
    share = math.log(batch_size / x) / math.log(y / x)
    return a * (b / a) ** share, f'on a power of the batch, {a:g} to {b:g}'
  share = (batch_size - x) / (y - x)
  return a + share * (b - a), f'on a straight line, {a:g} to {b:g}'


def _allowed(
  declared: Declared,
  candidates: Sequence[tuple[Any, str]],
  base: Any,
  chosen: _Chosen,
) -> tuple[Any, str]:
  """The first candidate that Closed allows, and why; else the first of all."""
  values = [(_cast(v, declared.value), reason) for v, reason in candidates]
  first, why = values[0]
  fault = _fault(declared, first, base, chosen)
  if fault is None:
    return first, why
  for value, reason in values[1:]:
    if _fault(declared, value, base, chosen) is None:
      return value, f'{reason}: it must be {fault.expected}'
  return first, why


def _fault(
  declared: Declared, value: Any, base: Any, chosen: _Chosen
) -> Fault | None:
  """Fault of a value, beside those chosen, in Closed; None if there is none."""
  values = {name: value for name, (value, _) in chosen.items()}
  hparams = dataclasses.replace(base, **values, **{declared.name: value})
  faults = hparams_lib.closed_faults(hparams, base)
  return next((f for f in faults if f.name == declared.name), None)


def _asked(reference: Any, batch_size: int) -> _Chosen:
  return {hparams_lib.batch(reference).name: (batch_size, 'as asked')}


def _budget(
  points: Points, sources: tuple[Point, ...], reference: Any
) -> _Chosen:
  most = max(value for point in sources for value in point.values)
  budget = getattr(reference, 'max_epochs', None)
  if points.unit != 'epochs' or not is_number(budget):
    return {}
  needed = math.ceil(_SPARE * most)
  if budget >= needed:
    return {}
  return {'max_epochs': (needed, f'the reference took up to {most:g}')}


def _ours(
  point: Point, reference: Any
) -> tuple[list[tuple[Declared, Any]], dict[str, Any]]:
  """A point's values by our declarations, and the keys that are not ours."""
  given = {_ALIASES.get(k, k): v for k, v in point.hparams.items()}
  # Keys depend on the optimizer, so that is set first.
  for declared in hparams_lib.declared(reference):
    if declared.key == 'opt_name' and isinstance(given.get('opt_name'), str):
      reference = dataclasses.replace(
        reference, **{declared.name: given['opt_name']}
      )
  found, left_out = [], {}
  for key, value in given.items():
    match = list(_matches(key, reference))
    if key in hparams_lib.BATCH_KEYS:
      continue
    if len(match) == 1:
      found.append((match[0], value))
    else:
      left_out[key] = value
  return found, left_out


def _matches(key: str, reference: Any) -> Iterator[Declared]:
  """Declarations whose key is this one, or ends in it: lars_, podium_."""
  declared = hparams_lib.declared(reference)
  exact = [d for d in declared if d.key == key]
  yield from exact or (d for d in declared if (d.key or '').endswith(f'_{key}'))


def _slow(points: Points, point: Point) -> Iterator[str]:
  if all(point not in each.sources for each in points.pruned):
    yield (
      f'{point.name} is slower than its neighbours would have it, so runs are '
      'held to a line below it.'
    )


def _with_batch(reference: Any, batch_size: int) -> Any:
  name = hparams_lib.batch(reference).name
  return dataclasses.replace(reference, **{name: batch_size})


def _cast(value: Any, like: Any) -> Any:
  """The value in the type of ours; a float to six digits, as people write."""
  if isinstance(like, int) and not isinstance(like, bool) and is_number(value):
    return round(value)
  if isinstance(like, float) and is_number(value):
    return float(f'{value:.6g}')
  return value
