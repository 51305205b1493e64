"""Several sets of runs on one axis of time: a row each, with its interval."""

from collections.abc import Sequence
import dataclasses

from markupsafe import Markup

from suite.results.report import format as fmt
from suite.results.report import svg
from suite.results.report.figures import MARKERS, STYLES, time_unit

_HEIGHT = 40
_LETTERS = 26  # of a label
_CIRCLE, _DIAMOND = MARKERS[0], MARKERS[3]


@dataclasses.dataclass(frozen=True)
class Row:
  """One set: its score, the interval of that, and the times of its runs."""

  label: str
  seconds: float | None  # None: there is no score
  interval: tuple[float, float] | None
  values: tuple[float, ...]
  style: int


def rows(
  name: str,
  sets: Sequence[Row],
  *,
  width: int,
  title: str,
  from_zero: bool = True,
) -> Markup:
  """A diamond for the score, a bar for its interval, circles for the runs.

  From zero lengths can be compared; otherwise the axis shows what differs.
  """
  seen = [
    s for row in sets for s in (*row.values, row.seconds) if s is not None
  ]
  unit, size = time_unit(max(seen, default=1.0))
  low, high = svg.widen(
    min(seen, default=0) / size, max(seen, default=1) / size
  )
  labels = [fmt.shorten(row.label, _LETTERS) for row in sets]
  totals = [_total(row) for row in sets]
  left = max(svg.text_width(label) for label in labels) + 14
  right = max(svg.text_width(total) for total in totals) + 12
  x = svg.Scale(0.0 if from_zero else max(low, 0.0), high, left, width - right)
  bottom = len(sets) * _HEIGHT + 4.0
  children = svg.x_ticks(x, bottom, unit, grid_top=0)
  for index, row in enumerate(sets):
    middle = index * _HEIGHT + _HEIGHT / 2 + 2
    children.append(svg.text(0, middle + 4.5, labels[index], 'row-name'))
    children.append(_row(row, x, middle, size))
    children.append(
      svg.text(width - right + 12, middle + 4.5, totals[index], 'total')
    )
  return svg.figure(
    name,
    *children,
    width=width,
    height=bottom + 42,
    title=title,
    description='; '.join(map(_words, sets)) + '.',
  )


def _row(row: Row, x: svg.Scale, middle: float, size: float) -> Markup:
  def place(seconds: float) -> float:
    return x(min(max(seconds / size, x.low), x.high))

  children = [svg.tag('title', _words(row))]
  if row.interval:
    start, end = map(place, row.interval)
    children.append(
      svg.tag('rect', x=start, y=middle - 7, width=max(end - start, 1.0),
              height=14, rx=2, class_='span')
    )  # fmt: skip
  for value in row.values:
    children.append(svg.shape(_CIRCLE, place(value), middle, 3.0, 'dot'))
  if row.seconds is not None:
    children.append(
      svg.shape(_DIAMOND, place(row.seconds), middle, 6.0, 'marker')
    )
  return svg.tag('g', *children, class_=f'run run-{row.style % STYLES}')


def _total(row: Row) -> str:
  return 'no score' if row.seconds is None else fmt.duration(row.seconds)


def _words(row: Row) -> str:
  words = f'{row.label}: {_total(row)}'
  if row.interval:
    low, high = map(fmt.duration, row.interval)
    words += f', interval {low} to {high}'
  return words
