"""The score of a set of runs: the olympic mean, and how far to trust it.

Of a benchmark's runs the fastest and the slowest are left out and the rest is
averaged. A run that did not converge counts as the slowest; more such runs
than are left out there leave no score.
"""

from collections.abc import Sequence
import dataclasses
import math
import statistics

from scipy import stats

from suite import clock
from suite.audit import LogSummary

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Score:
  """A score, in seconds, and what it rests on.

  `seconds` is the olympic mean. `mean`, `std` (of a sample) and
  `coefficient_of_variation` are of all runs that converged, those left out
  included: leaving out the extremes would flatter the spread.

  `interval` holds the olympic mean of many such sets with probability
  `CONFIDENCE`, by the method of Tukey and McLaughlin for trimmed means: with n
  runs, of which k are dropped on either side, it is

    seconds +- t(n - 2k - 1) * s_w / ((1 - 2k / n) * sqrt(n)),

  s_w being the standard deviation of the n values after each dropped one was
  replaced by the nearest that was kept. So a run that did not converge needs
  no value. It assumes runs that are independent and roughly symmetric in time,
  and is wide for five runs (two degrees of freedom), as honesty demands.
  """

  seconds: float | None
  values: tuple[float | None, ...]  # by run; None: did not converge
  fastest: tuple[int, ...]  # indices into `values` of the runs left out
  slowest: tuple[int, ...]
  mean: float | None
  std: float | None
  coefficient_of_variation: float | None
  interval: tuple[float, float] | None
  reason: str | None  # why there is no score, or none that is a result


def olympic(
  seconds: Sequence[float | None],
  *,
  dropped: int = 1,
  required: int | None = None,
) -> Score:
  """The mean without the `dropped` fastest and as many slowest runs.

  Args:
    seconds: time to quality of each run; None where it did not converge.
    dropped: runs that are left out on either side.
    required: runs that make a result; another number is scored all the same,
      with a `reason` that says so. None: any number.
  """
  for value in seconds:
    if value is not None and not (math.isfinite(value) and value > 0):
      raise ValueError(f'A time must be positive and finite, not {value!r}.')
  reason = _no_score(seconds, dropped)
  converged = [value for value in seconds if value is not None]
  spread = _Spread(converged)
  if reason:
    score, fastest, slowest, interval = None, (), (), None
  else:
    order = sorted(
      range(len(seconds)),
      key=lambda i: math.inf if seconds[i] is None else seconds[i],
    )
    kept = order[dropped : len(order) - dropped]
    score = statistics.fmean(seconds[i] for i in kept)
    fastest = tuple(order[:dropped])
    slowest = tuple(order[len(order) - dropped :])
    interval = _interval([seconds[i] for i in kept], dropped)
    reason = _no_result(len(seconds), required)
  return Score(
    seconds=score,
    values=tuple(seconds),
    fastest=fastest,
    slowest=slowest,
    mean=spread.mean,
    std=spread.std,
    coefficient_of_variation=spread.relative,
    interval=interval,
    reason=reason,
  )


def time_to_quality(summary: LogSummary, allowance: float) -> float | None:
  """Seconds from run_start to run_stop, and of startup beyond `allowance`.

  None if the run did not converge.
  """
  if not summary.converged:
    return None
  timed = (summary.run_stop_ms - summary.run_start_ms) / 1000.0
  return clock.time_to_quality(timed, summary.startup_ms / 1000.0, allowance)


class _Spread:
  """Mean and spread of the runs that converged, as far as they are known."""

  def __init__(self, values: Sequence[float]):
    self.mean = statistics.fmean(values) if values else None
    self.std = statistics.stdev(values) if len(values) > 1 else None
    self.relative = self.std / self.mean if self.std is not None else None


def _no_score(seconds: Sequence[float | None], dropped: int) -> str | None:
  failed = sum(value is None for value in seconds)
  if failed > dropped:
    return (
      f'No score: {failed} of {len(seconds)} runs did not converge, and only '
      f'{dropped} may.'
    )
  if len(seconds) <= 2 * dropped:
    return (
      f'No score: of {len(seconds)} runs nothing is left without the {dropped} '
      f'fastest and the {dropped} slowest.'
    )
  return None


def _no_result(runs: int, required: int | None) -> str | None:
  if required is None or runs == required:
    return None
  return f'Not a result: it takes {required} runs, and these are {runs}.'


def _interval(
  kept: Sequence[float], dropped: int
) -> tuple[float, float] | None:
  """The interval of `Score`; `kept` is in order. None for fewer than two."""
  if len(kept) < 2:
    return None
  count = len(kept) + 2 * dropped
  winsorised = [kept[0]] * dropped + list(kept) + [kept[-1]] * dropped
  error = statistics.stdev(winsorised) * math.sqrt(count) / len(kept)
  half = stats.t.ppf((1 + CONFIDENCE) / 2, len(kept) - 1) * error
  middle = statistics.fmean(kept)
  return float(middle - half), float(middle + half)
