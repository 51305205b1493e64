"""Times of steps that follow each other, and when there are enough of them.

A step is timed from the end of the step before it to its own, with others
dispatched ahead, as in a run; so what the host does in the meantime costs
nothing, unless the device waits for it.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import itertools
import math
import statistics
import time
from typing import Any

# Steps under way when the next is dispatched: `suite.run.loop`'s, which imports
# JAX; a test holds them together.
IN_FLIGHT = 2
# A measurement is precise when the 95 % interval of the median is this narrow.
PRECISE = 0.01
# Two rounds in a row with medians this close are steady.
STEADY = 0.02
_ROUNDS = 20  # that the time given is cut into
_LEAST = 1e-9  # seconds: no timer tells less
_SHORT = 10  # steps of a round
_FEWEST = 5  # rounds of a precise measurement
_PARTS = 5  # of a measurement, by whose medians its spread is told


@dataclasses.dataclass(frozen=True)
class Timers:
  """Seconds that have passed, and of work of all cores for this process."""

  wall: Callable[[], float] = time.perf_counter
  processor: Callable[[], float] = time.process_time


@dataclasses.dataclass(frozen=True)
class Step:
  """Seconds of one step."""

  seconds: float
  host: float  # until it was dispatched
  processor: float  # of all cores


@dataclasses.dataclass(frozen=True)
class Pace:
  """Steps one after another; times are in seconds."""

  steps: int
  mean: float
  median: float
  p5: float
  p95: float
  slowest: float
  host: float  # median of what the host needed for a step
  processor: float  # median
  # Of the times that tell most: the width of the 95 % interval of the median,
  # where there are enough, and the largest difference of the medians of five
  # parts; both over the median.
  interval: float | None
  spread: float
  steady: bool  # whether warming up came to an end

  @property
  def is_precise(self) -> bool:
    """Returns whether the interval of the median is narrow."""
    return self.interval is not None and self.interval <= PRECISE


def measure(
  dispatch: Callable[[], Any],
  wait: Callable[[Any], None],
  *,
  seconds: float,
  telling: Callable[[Step], float] = lambda step: step.seconds,
  agree: Callable[[int], int] | None = None,
  timers: Timers | None = None,
) -> Pace:
  """Times steps until they are steady and their median is precise.

  Args:
    dispatch: starts a step and returns what `wait` takes.
    wait: returns at the end of that step.
    seconds: after which no round of steps begins.
    telling: the time of a step that must be steady and precise.
    agree: returns the largest of a number on all hosts, where there are
      several, and waits for the steps under way: all dispatch as many.
    timers: for tests.
  """
  timers = timers or Timers()
  began = timers.wall()
  several, agree = agree is not None, agree or (lambda number: number)
  first = next(_steps(dispatch, wait, timers, ahead=0))
  if agree(int(first.seconds > seconds)):
    return summary([first], telling, steady=False)
  size = int(seconds / _ROUNDS / max(first.seconds, _LEAST))
  size = agree(max(1, size))
  # Slow steps are waited for one by one: what the host does then is nothing.
  ahead = IN_FLIGHT if size > 1 else 0
  # Between rounds the steps under way end unseen; so the next ones tell
  # nothing, unless there are few and the time between is short.
  skipped = ahead + 1 if ahead and (several or size > _SHORT) else 0
  size = max(size, skipped)
  rounds: list[list[Step]] = []
  told: list[list[float]] = []  # the same
  with contextlib.closing(_steps(dispatch, wait, timers, ahead)) as stream:
    more = 1
    while more:
      rounds.append([*itertools.islice(stream, skipped, skipped + size)])
      told.append([telling(step) for step in rounds[-1]])
      over = timers.wall() - began > seconds
      more = agree(int(not over and not _are_enough(told)))
  begin = settled(told)
  kept = rounds[len(rounds) // 2 if begin is None else begin :]
  return summary(
    [step for each in kept for step in each],
    telling,
    steady=begin is not None,
  )


def settled(rounds: Sequence[Sequence[float]]) -> int | None:
  """The first of two rounds in a row with medians that are close; None: no."""
  medians = [statistics.median(each) for each in rounds]
  for i, (one, next_one) in enumerate(itertools.pairwise(medians)):
    if abs(one - next_one) <= STEADY * one:
      return i
  return None


def summary(
  steps: Sequence[Step],
  telling: Callable[[Step], float] = lambda step: step.seconds,
  *,
  steady: bool = True,
) -> Pace:
  """The figures of steps in their order; see `measure`."""
  times = [step.seconds for step in steps]
  told = [telling(step) for step in steps]
  return Pace(
    steps=len(times),
    mean=statistics.fmean(times),
    median=statistics.median(times),
    p5=_percentile(times, 0.05),
    p95=_percentile(times, 0.95),
    slowest=max(times),
    host=statistics.median(step.host for step in steps),
    processor=statistics.median(step.processor for step in steps),
    interval=_width(told),
    spread=_spread(told),
    steady=steady,
  )


def interval(times: Sequence[float]) -> tuple[float, float] | None:
  """The 95 % interval of the median, by ranks alone; None for a few times."""
  count = len(times)
  reach = 1.96 * math.sqrt(count) / 2
  low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + 1 + reach)
  if low < 1:
    return None
  ordered = sorted(times)
  return ordered[low - 1], ordered[high - 1]


def _width(times: Sequence[float]) -> float | None:
  """Width of the interval of the median, over it."""
  found = interval(times)
  return found and (found[1] - found[0]) / (statistics.median(times) or _LEAST)


def _spread(times: Sequence[float]) -> float:
  ends = [len(times) * i // _PARTS for i in range(_PARTS + 1)]
  medians = [
    statistics.median(times[begin:end])
    for begin, end in itertools.pairwise(ends)
    if begin < end
  ]
  return (max(medians) - min(medians)) / (statistics.median(times) or _LEAST)


def _are_enough(rounds: Sequence[Sequence[float]]) -> bool:
  begin = settled(rounds)
  if begin is None or len(rounds) - begin < _FEWEST:
    return False
  width = _width([time for each in rounds[begin:] for time in each])
  return width is not None and width <= PRECISE


def _percentile(times: Sequence[float], share: float) -> float:
  """The nearest of the times."""
  return sorted(times)[round(share * (len(times) - 1))]


def _steps(
  dispatch: Callable[[], Any],
  wait: Callable[[Any], None],
  timers: Timers,
  ahead: int,
) -> Iterator[Step]:
  """Dispatches steps without end, and times those that have ended."""
  under_way: collections.deque[tuple[Any, float]] = collections.deque()
  ended = timers.wall(), timers.processor()
  try:
    while True:
      began = timers.wall(), timers.processor()
      step = dispatch()
      under_way.append((step, timers.wall() - began[0]))
      if len(under_way) <= ahead:
        continue
      step, host = under_way.popleft()
      wait(step)
      since = ended if ahead else began
      ended = timers.wall(), timers.processor()
      yield Step(ended[0] - since[0], host, ended[1] - since[1])
  finally:
    while under_way:
      wait(under_way.popleft()[0])
