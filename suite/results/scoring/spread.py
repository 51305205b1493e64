"""Splits the spread of times between the system and the algorithm."""

from collections.abc import Sequence
import math
import statistics

from suite.results.records import Part, Split


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
