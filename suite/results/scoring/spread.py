"""What of the spread of times is the system's, and what the algorithm's."""

from collections.abc import Sequence
import dataclasses
import math
import statistics


@dataclasses.dataclass(frozen=True)
class Part:
  """One quantity over several runs; `std` is that of a sample."""

  mean: float
  std: float | None  # None: of a single run nothing is known
  least: float
  most: float

  @property
  def relative(self) -> float | None:
    """The coefficient of variation."""
    return None if self.std is None else self.std / self.mean


@dataclasses.dataclass(frozen=True)
class Split:
  """The time of a run is its epochs times the seconds that each takes.

  Seconds per epoch say how fast a system is and are alike in all runs; epochs
  to the target are a matter of the algorithm and of luck. A change of a system
  shows in the former with far fewer runs.
  """

  unit: str  # what training is counted in: epoch_num, samples_count, ...
  system: Part  # seconds per unit
  algorithm: Part  # units to the target
  # Share of the variance of the logarithm of times that goes away where all
  # runs take as many units as another; None where times do not vary.
  algorithm_share: float | None


def part(values: Sequence[float]) -> Part | None:
  """Mean and spread of values; None where there are none."""
  if not values:
    return None
  std = statistics.stdev(values) if len(values) > 1 else None
  return Part(statistics.fmean(values), std, min(values), max(values))


def split(
  seconds: Sequence[float], reached: Sequence[float], unit: str
) -> Split | None:
  """The split of runs that met the target after `reached` units each.

  None where there are no runs, or one counts no units before its target.
  """
  if not seconds or min(reached) <= 0:
    return None
  paces = [s / r for s, r in zip(seconds, reached, strict=True)]
  return Split(
    unit=unit,
    system=part(paces),
    algorithm=part(reached),
    algorithm_share=_share(seconds, reached),
  )


def _share(seconds: Sequence[float], reached: Sequence[float]) -> float | None:
  if len(seconds) < 2:
    return None
  times = [math.log(value) for value in seconds]
  units = [math.log(value) for value in reached]
  paces = [t - u for t, u in zip(times, units, strict=True)]
  total = statistics.variance(times)
  if total < 1e-18:
    return None
  return min(1.0, max(0.0, 1 - statistics.variance(paces) / total))
