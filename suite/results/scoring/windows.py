"""Picks the runs that count where more were made than a result takes."""

from collections.abc import Sequence
import dataclasses
import math

from suite.results.scoring.olympic import Olympic, olympic


@dataclasses.dataclass(frozen=True)
class Window:
  """Consecutive runs of a longer series, and how they were picked."""

  start: int  # index of the first run, in the order given
  score: Olympic
  scores: tuple[float | None, ...]  # seconds of every window, in order

  @property
  def runs(self) -> range:
    """The indices of the runs that count."""
    return range(self.start, self.start + len(self.score.values))


def median_window(
  seconds: Sequence[float | None], *, runs: int, dropped: int = 1
) -> Window:
  """The window of `runs` consecutive runs whose score is the median.

  `seconds` are in the order in which the runs were launched, which nobody can
  choose afterwards; None did not converge. A window without a score counts as
  infinitely slow. Of an even number of windows there is no middle one, and half
  way between two lies no set of runs: the slower of the two is taken, so that
  more runs never make a result better than chance would. Of windows with equal
  scores it is the first. Raises ValueError for fewer than `runs`.
  """
  if not 0 < runs <= len(seconds):
    raise ValueError(f'Expected at least {runs} runs, got {len(seconds)}.')
  scores = [
    olympic(seconds[start : start + runs], dropped=dropped, required=runs)
    for start in range(len(seconds) - runs + 1)
  ]
  order = sorted(range(len(scores)), key=lambda i: _rank(scores[i]))
  start = order[len(order) // 2]
  return Window(start, scores[start], tuple(s.seconds for s in scores))


def _rank(score: Olympic) -> float:
  return math.inf if score.seconds is None else score.seconds
