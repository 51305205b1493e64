"""Points of the reference, and their verdict on a submission: pure numbers.

Where the text of the rules and the official checker differ, the checker is
followed: the rules say that it decides. It differs in that

- the standard deviation is that of the whole list, the fastest and slowest runs
  included, and of a population (the example of the rules leaves them out);
- a submission counts as two runs fewer than it has in the t-test, also where
  four are dropped on either side (unet3d: 38, not 32), while the runs of the
  reference are counted without all that are dropped;
- an interpolated point counts as twice a submission's runs, however many made
  its neighbours;
- pruning is one pass that never steps back, so that what it leaves may still
  hold a point above the line between its neighbours;
- the least mean is found by bisection to 0.0001, not exactly;
- times are normalised in every round that has points, not from v2.1 on.

In one thing the checker is not followed. It counts a run that did not converge
as 1e9 epochs or samples, which is among the fastest where a benchmark takes
more (gpt3). Here such a run is the slowest, as the rules have it.

The checker's bisection runs a t-test a step. With equal deviations on both
sides the test is a comparison with one number, so here the steps are the same
but the number is computed once.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import numpy as np

ALPHA = 0.05  # how often chance alone may reject the reference itself
PASSES = 'passes'
TOO_FAST = 'too fast'
MISSING = 'missing point'
NOT_CONVERGED = 'not converged'
TOO_FEW = 'too few runs'

_TOLERANCE = 1e-4  # of the bisection


@dataclasses.dataclass(frozen=True)
class Point:
  """Convergence of the reference at one batch size, and its settings."""

  name: str
  batch_size: int
  values: tuple[float, ...]  # epochs or samples to the target, one a run
  hparams: Mapping[str, Any]  # by the log's keys
  # Who made it, when, on what, in which precision; {} where nobody says.
  origin: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Expected:
  """Expected convergence at one batch size."""

  batch_size: int
  mean: float  # olympic, of the reference
  std: float
  minimum: float  # the least mean that passes
  sources: tuple[Point, ...]  # one point, or the two it is interpolated from

  @property
  def max_speedup(self) -> float:
    """Ratio of the reference's epochs to the fewest that pass."""
    return self.mean / self.minimum if self.minimum > 0 else math.inf


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Verdict of the points on a submission; `str` of it is a sentence."""

  status: str  # one of the constants above
  batch_size: int
  mean: float | None  # olympic mean of the submission
  expected: Expected | None  # None: there is nothing to compare with
  # The reference's mean over the submission's, or 1 if that is less. A score is
  # only multiplied by it where `passed`.
  factor: float
  text: str

  @property
  def passed(self) -> bool:
    """Returns whether the submission stands."""
    return self.status == PASSES

  def __str__(self) -> str:
    return self.text


@dataclasses.dataclass(frozen=True)
class Points:
  """The points of one benchmark, by batch size, and how it is scored."""

  benchmark: str
  points: tuple[Point, ...]
  runs: int  # runs that make a result
  dropped: int  # fastest runs, and as many slowest, that a mean leaves out
  unit: str = 'epochs'  # or 'samples', 'steps'
  slack: float = 0.0  # what the least mean is lowered by

  def __post_init__(self):
    """Raises ValueError for points that nothing can be judged by."""
    sizes = [point.batch_size for point in self.points]
    if not sizes or sizes != sorted(set(sizes)):
      raise ValueError(
        f'Expected points of {self.benchmark} in the order of their batch '
        f'sizes, each once, got {sizes}.'
      )
    if self.runs < 3:
      raise ValueError(
        f'Expected at least 3 runs a result of {self.benchmark}, '
        f'got {self.runs}.'
      )
    for point in self.points:
      _require_values(point, self.dropped)

  @functools.cached_property
  def expected(self) -> tuple[Expected, ...]:
    """Expectations at all points, also those that pruning drops."""
    return tuple(self._measured(point) for point in self.points)

  @functools.cached_property
  def pruned(self) -> tuple[Expected, ...]:
    """The points that count, as the package checker has it.

    First those at a smaller batch than the fastest go, then those slower than
    the line between their neighbours: a slow point must not excuse a submission
    that is fast for its batch size.
    """
    fastest = min(self.expected, key=lambda each: each.mean)
    kept = [e for e in self.expected if e.batch_size >= fastest.batch_size]
    i = 1
    while i < len(kept) - 1:
      line = _between(
        kept[i].batch_size, kept[i - 1], kept[i + 1], lambda each: each.mean
      )
      if kept[i].mean > line:
        del kept[i]
      else:
        i += 1
    return tuple(kept)

  def at(self, batch_size: int) -> Expected | None:
    """Expectation of the points that count at a batch size.

    None above the largest point; below the smallest it is that of the smallest.
    """
    if batch_size <= self.pruned[0].batch_size:
      return self.pruned[0]
    for low, high in zip(self.pruned, self.pruned[1:], strict=False):
      if batch_size == high.batch_size:
        return high
      if batch_size < high.batch_size:
        return self._interpolated(batch_size, low, high)
    return None

  def judge(self, batch_size: int, values: Sequence[float | None]) -> Verdict:
    """Judges runs by when they met the target; None: one that never did.

    A number of runs other than `runs` is judged anyway, as the checker
    does, by the least mean of a whole result.
    """
    for value in values:
      if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(
          f'Expected positive, finite {self.unit} to the target, got {value!r}.'
        )
    failed = sum(value is None for value in values)
    if failed > self.dropped:
      return self._unjudged(
        NOT_CONVERGED,
        batch_size,
        f'Not converged: {failed} of {len(values)} runs did not meet the '
        f'target, and only {self.dropped} may.',
      )
    if len(values) <= 2 * self.dropped:
      return self._unjudged(
        TOO_FEW,
        batch_size,
        f'Too few runs: nothing is left of {len(values)} without the '
        f'{self.dropped} fastest and as many slowest.',
      )
    order = sorted(math.inf if value is None else value for value in values)
    return self._compare(batch_size, _olympic(order, self.dropped))

  def _compare(self, batch_size: int, mean: float) -> Verdict:
    expected = self.at(batch_size)
    if expected is None:
      return self._unjudged(
        MISSING,
        batch_size,
        f'No reference: batch {batch_size} is above '
        f'{self.pruned[-1].batch_size}, the largest with a point; one must '
        'be provided.',
        mean,
      )
    below = batch_size < expected.batch_size
    if mean >= expected.minimum:
      status = PASSES
    else:
      status = MISSING if below else TOO_FAST
    ratio = expected.mean / mean
    return Verdict(
      status=status,
      batch_size=batch_size,
      mean=mean,
      expected=expected,
      factor=max(1.0, ratio),
      text=_sentence(status, batch_size, mean, expected, self.unit),
    )

  def _unjudged(
    self, status: str, batch_size: int, text: str, mean: float | None = None
  ) -> Verdict:
    return Verdict(status, batch_size, mean, None, 1.0, text)

  def _measured(self, point: Point) -> Expected:
    mean = _olympic(sorted(point.values), self.dropped)
    count = len(point.values) - 2 * self.dropped
    # Sorted, as the checker has it: a sum depends on its order a little.
    std = float(np.std(sorted(point.values)))
    return self._expected(point.batch_size, mean, std, count, (point,))

  def _interpolated(
    self, batch_size: int, low: Expected, high: Expected
  ) -> Expected:
    return self._expected(
      batch_size,
      _between(batch_size, low, high, lambda each: each.mean),
      _between(batch_size, low, high, lambda each: each.std),
      2 * self.runs,
      (*low.sources, *high.sources),
    )

  def _expected(self, batch_size, mean, std, count, sources) -> Expected:
    least = _least_mean(mean, std, count, self.runs - 2) - self.slack
    # The checker keeps the ratio to the mean and divides by it again, which
    # may move the last digit.
    minimum = mean / (mean / least) if least > 0 else 0.0
    return Expected(batch_size, mean, std, minimum, sources)


def _least_mean(mean: float, std: float, reference: int, runs: int) -> float:
  """The least mean that a one-sided t-test does not find faster.

  Both sides are taken to deviate by `std`; `reference` and `runs` count what
  each side's mean is of.
  """
  if std == 0:
    return mean
  freedom = reference + runs - 2
  error = std * math.sqrt(1 / reference + 1 / runs)
  # Of one run against one nothing is known of chance; the mean must be met.
  limit = mean - (_critical(freedom) * error if freedom else 0.0)
  low, high = 0.0, mean
  while high - low > _TOLERANCE:
    middle = (low + high) / 2
    low, high = (low, middle) if middle > limit else (middle, high)
  return (low + high) / 2


@functools.cache
def _critical(freedom: int) -> float:
  # Half of what a check of one log would wait for; only sets have points.
  from scipy import special

  return float(special.stdtrit(freedom, 1 - ALPHA))


def _olympic(ordered: Sequence[float], dropped: int) -> float:
  return float(np.mean(ordered[dropped : len(ordered) - dropped]))


def _between(batch_size: int, low: Expected, high: Expected, of) -> float:
  sizes = [low.batch_size, high.batch_size]
  return float(np.interp(batch_size, sizes, [of(low), of(high)]))


def _require_values(point: Point, dropped: int) -> None:
  if not 1 <= point.batch_size < 2**53:
    raise ValueError(
      f'Expected a positive batch size of {point.name}, got {point.batch_size}.'
    )
  if len(point.values) <= 2 * dropped:
    raise ValueError(
      f'Expected more than {2 * dropped} runs of {point.name}, '
      f'got {len(point.values)}.'
    )
  for value in point.values:
    if not (math.isfinite(value) and value > 0):
      raise ValueError(
        f'Expected positive, finite values of {point.name}, got {value!r}.'
      )


def _sentence(
  status: str, batch_size: int, mean: float, expected: Expected, unit: str
) -> str:
  took = f'{_number(mean)} {unit} on average at batch {batch_size}'
  reference = f'{_number(expected.mean)} of the reference'
  if len(expected.sources) > 1:
    low, high = (point.batch_size for point in expected.sources)
    reference += f' (interpolated between batches {low} and {high})'
  elif batch_size != expected.batch_size:
    reference += f' at {expected.batch_size}, its smallest batch'
  least = _number(expected.minimum)
  if status == PASSES and mean >= expected.mean:
    return f'Passes: {took}, no fewer than the {reference}.'
  if status == PASSES:
    return (
      f'Passes, to be normalised: {took}, fewer than the {reference} but not '
      f'fewer than {least}, the least that chance explains; times are '
      f'multiplied by {expected.mean / mean:.4f}.'
    )
  asks = '; a point for this batch must be provided' * (status == MISSING)
  return (
    f'Too fast: {took}, fewer than the {reference} and than {least}, the '
    f'least that chance explains{asks}.'
  )


def _number(value: float) -> str:
  return f'{value:,.0f}' if abs(value) >= 10_000 else f'{value:.6g}'
