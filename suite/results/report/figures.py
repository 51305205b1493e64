"""The figures of the report, as SVG: run times and curves."""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from markupsafe import Markup

from suite.results.report import format as fmt
from suite.results.report import svg

STYLES = 6  # colours that stay apart for every kind of colour vision
_ROW = 17  # height of a row of labels
MARKERS = (  # one shape a style, drawn around 0, 0 with a radius near 1
  'M-1 0A1 1 0 1 0 1 0A1 1 0 1 0-1 0Z',
  'M-.9-.9H.9V.9H-.9Z',
  'M0-1.2L1.15.85H-1.15Z',
  'M0-1.3L1.3 0L0 1.3L-1.3 0Z',
  'M0 1.2L1.15-.85H-1.15Z',
  'M-1.2-.5H-.5V-1.2H.5V-.5H1.2V.5H.5V1.2H-.5V.5H-1.2Z',
)
_CROSS = 'M-1-1L1 1M-1 1L1-1'


@dataclasses.dataclass(frozen=True)
class Line:
  """One run in a figure; points are (x, y), all finite."""

  label: str
  short: str  # the label where there is little room
  points: tuple[tuple[float, float], ...]
  style: int | None = None  # colour and marker; None: one of many
  counts: bool = True  # whether the run is part of the mean
  failed: bool = False  # ends in a cross
  tooltip: str = ''


@dataclasses.dataclass(frozen=True)
class Bound:
  """One bound of the target: a level of a metric that ends a run."""

  metric: str
  side: str  # at_least or at_most
  value: float

  @property
  def words(self) -> str:
    return f'{self.side.replace("_", " ")} {fmt.plain(self.value)}'

  @property
  def level(self) -> str:
    return f'target {fmt.plain(self.value)}'


@dataclasses.dataclass(frozen=True)
class Band:
  """Range on the x axis in which other runs end, with their mean."""

  low: float
  middle: float
  high: float
  words: str


@dataclasses.dataclass(frozen=True)
class _End:
  """End of a run's curve on the page."""

  x: float
  y: float
  line: Line


def time_unit(longest: float) -> tuple[str, float]:
  """The unit of a time axis and how many seconds it has."""
  for unit, seconds in (('hours', 3600.0), ('minutes', 60.0)):
    if longest >= 4 * seconds:
      return unit, seconds
  return 'seconds', 1.0


def times(
  name: str,
  lines: Sequence[Line],
  *,
  mean: float | None,
  interval: Sequence[float] | None,
  width: int,
) -> Markup:
  """Each run's time as a mark on one axis, with the mean and its interval.

  Lines have one point each, whose x is in seconds; y is ignored.
  """
  seconds = [line.points[0][0] for line in lines]
  extent = [*seconds, *(interval or ()), *([mean] if mean else ())]
  unit, size = time_unit(max(extent))
  low, high = svg.widen(min(extent) / size, max(extent) / size, 0.12)
  x = svg.Scale(max(low, 0.0), high, 8.0, width - 8.0)
  words, rows = _label_rows(lines, width)
  top = float(rows * _ROW)
  places = [x(value / size) for value in seconds]
  radius = 6.5 if len(lines) <= STYLES else 4.0
  levels = _levels(places, 2 * radius + 1)
  bottom = top + 44 + 2 * radius * max(levels)
  heights = [bottom - 22 - level * (2 * radius + 1) for level in levels]
  children = []
  if interval:
    left, right = (x(max(bound / size, x.low)) for bound in interval)
    children.append(svg.box(left, top + 8, right, bottom, 'interval'))
  if mean is not None:
    children.append(
      svg.line(x(mean / size), top + 8, x(mean / size), bottom, 'mean')
    )
  children += svg.x_ticks(x, bottom, unit)
  ends = [_End(*spot) for spot in zip(places, heights, lines, strict=True)]
  children.append(_end_labels(ends, words, rows, start=0, end=width, top=0))
  children += [
    _run(end.line, _marker(end.line, end.x, end.y, radius)) for end in ends
  ]
  return svg.figure(
    name,
    *children,
    width=width,
    height=bottom + 42,
    title='Time to quality of every run',
    description=_times_in_words(lines, mean, interval),
  )


def curves(
  name: str,
  lines: Sequence[Line],
  *,
  x_label: str,
  y_label: str,
  width: int,
  bound: Bound | None = None,
  band: Band | None = None,
  logarithmic: bool = False,
) -> Markup:
  """One curve a run, labelled where it ends; with a bound its evals marked."""
  height = 420 if width > 600 else 330
  drawn = [line for line in lines if line.points]
  words, rows = _label_rows(drawn, width - 30)
  top = _ROW + 4 + rows * _ROW
  x, y = _axes(drawn, bound, band, width, (height, top + 10), logarithmic)
  y_name = f'{y_label}, logarithmic' if logarithmic else y_label
  y_name = fmt.shorten(y_name, svg.letters(width))
  children = [svg.text(0, 12, y_name, 'axis-name')]
  children += svg.x_ticks(x, y.start, x_label, grid_top=y.end)
  children += svg.y_axis(x, y)
  if band:
    children += _band(band, x, y)
  ends = [
    _End(x(line.points[-1][0]), y(line.points[-1][1]), line) for line in drawn
  ]
  children.append(
    _end_labels(ends, words, rows, start=30, end=width, top=_ROW + 4)
  )
  if bound:
    children += _bound(bound, x, y, width)
  children += [_curve(line, x, y, bound is not None) for line in drawn]
  if not drawn:
    middle = (x.start + x.end) / 2, (y.start + y.end) / 2
    words = 'nothing was recorded'
    children.append(svg.text(*middle, words, 'empty', text_anchor='middle'))
  return svg.figure(
    name,
    *children,
    width=width,
    height=height,
    title=f'{y_label} over {x_label}',
    description=_curves_in_words(drawn, bound, band, x_label),
  )


def thinned(
  points: Sequence[tuple[float, float]], limit: int
) -> tuple[tuple[float, float], ...]:
  """At most about `limit` points that keep the extremes of the curve."""
  if len(points) <= limit:
    return tuple(points)
  kept = {0, len(points) - 1}
  buckets = limit // 2
  for bucket in range(buckets):
    start = bucket * len(points) // buckets
    end = (bucket + 1) * len(points) // buckets
    inside = range(start, end)
    kept.add(min(inside, key=lambda i: points[i][1]))
    kept.add(max(inside, key=lambda i: points[i][1]))
  return tuple(points[index] for index in sorted(kept))


def _levels(places: Sequence[float], gap: float) -> list[int]:
  """Level of each mark, so that none hides another; 0 is lowest."""
  levels = [0] * len(places)
  edges: list[float] = []
  for index in sorted(range(len(places)), key=lambda i: places[i]):
    free = (n for n, edge in enumerate(edges) if places[index] - edge >= gap)
    levels[index] = next(free, len(edges))
    edges[levels[index] : levels[index] + 1] = [places[index]]
  return levels


def _axes(
  lines: Sequence[Line],
  bound: Bound | None,
  band: Band | None,
  width: int,
  depth: tuple[float, float],
  logarithmic: bool,
) -> tuple[svg.Scale, svg.Scale]:
  xs = [x for line in lines for x, _ in line.points] or [1.0]
  xs += [band.high] if band else []
  ys = [y for line in lines for _, y in line.points]
  ys += [bound.value] if bound else []
  ys = ys or [0.0, 1.0]
  if logarithmic:
    low, high = min(ys) / 1.15, max(ys) * 1.15
  else:
    low, high = svg.widen(min(ys), max(ys))
    if min(ys) >= 0:
      low = max(low, 0.0)
    if max(ys) <= 1 and min(ys) >= 0 and bound:
      high = min(high, 1.0)  # a share: there is nothing above 1
  height, top = depth
  y = svg.Scale(low, high, height - 46.0, top, logarithmic)
  x = svg.Scale(0.0, max(xs) * 1.02 or 1.0, svg.y_room(y), width - 12.0)
  return x, y


def _bound(
  bound: Bound, x: svg.Scale, y: svg.Scale, width: int
) -> list[Markup]:
  level = y(bound.value)
  below = level + svg.FONT + 4
  return [
    svg.line(x.start, level, x.end, level, 'target'),
    svg.text(
      x.start + 8,
      below if bound.side == 'at_least' else level - 7,
      fmt.shorten(bound.level, svg.letters(width / 2)),
      'target-name',
    ),
  ]


def _band(band: Band, x: svg.Scale, y: svg.Scale) -> list[Markup]:
  low, middle = x(max(band.low, x.low)), x(band.middle)
  return [
    svg.box(low, y.end, x(band.high), y.start, 'interval'),
    svg.line(middle, y.end, middle, y.start, 'mean'),
    svg.text(
      middle - 6, y.start - 8, band.words, 'band-name', text_anchor='end'
    ),
  ]


def _curve(line: Line, x: svg.Scale, y: svg.Scale, marks: bool) -> Markup:
  points = [(x(a), y(b)) for a, b in line.points]
  children = [svg.tag('path', d=svg.path(points), class_='curve')]
  if marks and line.style is not None and len(points) <= 40:
    small = 3.2 if x.end > 600 else 2.4
    children += [_marker(line, a, b, small) for a, b in points[:-1]]
  if line.failed:
    children.append(svg.shape(_CROSS, *points[-1], 5.0, 'cross'))
  elif marks:
    children.append(_marker(line, *points[-1], 4.8))
  return _run(line, *children)


def _run(line: Line, *children: Markup) -> Markup:
  title = svg.tag('title', line.tooltip or line.label)
  return svg.tag('g', title, *children, class_=_classes(line))


def _marker(line: Line, x: float, y: float, size: float) -> Markup:
  return svg.shape(MARKERS[line.style or 0], x, y, size, 'marker')


def _classes(line: Line) -> str:
  style = 'many' if line.style is None else str(line.style)
  return f'run run-{style}{"" if line.counts else " out"}'


def _label_rows(
  lines: Sequence[Line], room: float
) -> tuple[dict[str, str], int]:
  """Text of each label, and the number of rows for all.

  Where even numbers do not fit, only the runs that stand out are named.
  """
  special = [line for line in lines if line.failed or not line.counts]
  choices = (
    {line.label: line.label for line in lines},
    {line.label: line.short for line in lines},
    {line.label: line.short for line in special},
  )
  for words in choices:
    need = sum(_label_width(word) for word in words.values())
    if need <= 0.9 * room:
      return words, 1
  return choices[-1], math.ceil(need / (0.9 * room))


def _label_width(words: str) -> float:
  return svg.text_width(words) + 8


def _end_labels(
  ends: Sequence[_End],
  words: Mapping[str, str],
  rows: int,
  *,
  start: float,
  end: float,
  top: float,
) -> Markup:
  """Labels in rows from `top` down, each with a thin line to its run's end."""
  named = [item for item in ends if item.line.label in words]
  ordered = sorted(named, key=lambda item: item.x)
  leaders, names = [], []
  for row in range(rows):
    members = ordered[row::rows]
    widths = [_label_width(words[item.line.label]) for item in members]
    wanted = [item.x for item in members]
    centres = svg.spread(wanted, widths, start, end)
    low = top + row * _ROW
    for item, x in zip(members, centres, strict=True):
      bend = (item.x, top + rows * _ROW + 8)
      route = svg.path([(x, low + 15), bend, (item.x, item.y)])
      leaders.append(svg.tag('path', d=route, class_='leader'))
      names.append(_end_label(item.line, words[item.line.label], x, low + 12))
  return svg.tag('g', *leaders, *names)


def _end_label(line: Line, words: str, x: float, y: float) -> Markup:
  name = svg.text(x, y, words, 'run-name', text_anchor='middle')
  return svg.tag('g', name, class_=_classes(line))


def _times_in_words(
  lines: Sequence[Line],
  mean: float | None,
  interval: Sequence[float] | None,
) -> str:
  words = [f'{line.label}: {fmt.duration(line.points[0][0])}' for line in lines]
  if mean is not None:
    words.append(f'mean: {fmt.duration(mean)}')
  if interval:
    low, high = (fmt.duration(bound) for bound in interval)
    words.append(f'confidence interval from {low} to {high}')
  return '; '.join(words) + '.'


def _curves_in_words(
  lines: Sequence[Line], bound: Bound | None, band: Band | None, unit: str
) -> str:
  ends = [
    f'{line.label} ends at {fmt.quality(line.points[-1][1])} '
    f'after {fmt.count(round(line.points[-1][0], 1))} {unit}'
    for line in lines
  ]
  words = [bound.level, *ends] if bound else ends
  if band:
    low, high = fmt.count(band.low), fmt.count(band.high)
    words.append(f'the reference took {low} to {high} {unit}')
  return '; '.join(words) + '.'
