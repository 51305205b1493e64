"""Figures of quantities over devices or batches, on a doubling axis."""

from collections.abc import Sequence
import dataclasses
import math

from markupsafe import Markup

from suite.results.report import format as fmt
from suite.results.report import svg
from suite.results.report.figures import MARKERS, STYLES

_HEIGHT = 330
_TOP = 34
_LINE = 16  # height of a label


@dataclasses.dataclass(frozen=True)
class Trend:
  """One line; points are (x, y), x above 0, ascending."""

  label: str
  points: tuple[tuple[float, float], ...]
  dots: tuple[tuple[float, float], ...] = ()  # the runs behind the points
  style: int = 0
  context: bool = False  # others' figures, drawn as such
  ideal: bool = False  # no measurement


def trends(
  name: str,
  lines: Sequence[Trend],
  *,
  width: int,
  title: str,
  x_label: str,
  y_label: str,
) -> Markup:
  """Every line is labelled where it ends; y begins at zero."""
  lines = [line for line in lines if line.points]
  if not lines:
    raise ValueError(f'Expected a line to draw in {title!r}, got none.')
  seen = [spot for line in lines for spot in (*line.points, *line.dots)]
  letters = 22 if width > 600 else 15
  labels = [fmt.shorten(line.label, letters) for line in lines]
  right = max(svg.text_width(label) for label in labels) + 16
  y = svg.Scale(
    0.0, max(y for _, y in seen) * 1.06 or 1.0, _HEIGHT - 46.0, _TOP
  )
  x = _across([x for x, _ in seen], svg.y_room(y), width - right)
  children = [svg.text(0, 12, y_label, 'axis-name'), *svg.y_axis(x, y)]
  children += _x_axis(x, y.start, [a for a, _ in seen], x_label)
  children += [_line(line, x, y) for line in lines]
  children += _labels(lines, labels, x, y)
  return svg.figure(
    name,
    *children,
    width=width,
    height=_HEIGHT,
    title=title,
    description='; '.join(_words(line) for line in lines) + '.',
  )


def _across(values: Sequence[float], start: float, end: float) -> svg.Scale:
  low, high = min(values), max(values)
  if low == high:
    low, high = low / 2, high * 2
  room = (high / low) ** 0.03
  return svg.Scale(low / room, high * room, start, end, logarithmic=True)


def _x_axis(
  x: svg.Scale, y: float, values: Sequence[float], label: str
) -> list[Markup]:
  """Ticks at the values themselves, or where those are not round, by twos."""
  if any(value != int(value) for value in values):
    powers = range(math.ceil(math.log2(x.low)), int(math.log2(x.high)) + 1)
    values = [2.0**power for power in powers]
  values = sorted(set(values))
  return svg.x_axis(x, y, label, values, [f'{v:,.6g}' for v in values])


def _line(line: Trend, x: svg.Scale, y: svg.Scale) -> Markup:
  route = svg.path([(x(a), y(b)) for a, b in line.points])
  if line.ideal:
    return svg.tag('path', d=route, class_='target', fill='none')
  children = [
    svg.tag('title', _words(line)), svg.tag('path', d=route, class_='curve')
  ]  # fmt: skip
  children += [
    svg.shape(MARKERS[0], x(a), y(b), 3.0, 'dot') for a, b in line.dots
  ]
  size = 3.2 if line.context else 5.0
  children += [
    svg.shape(MARKERS[line.style], x(a), y(b), size, 'marker')
    for a, b in line.points
  ]
  return svg.tag('g', *children, class_=_classes(line))


def _labels(lines, labels, x: svg.Scale, y: svg.Scale) -> list[Markup]:
  """Beside the ends of the lines, moved apart where they would overlap."""
  order = sorted(range(len(lines)), key=lambda i: y(lines[i].points[-1][1]))
  centres = svg.spread(
    [y(lines[i].points[-1][1]) for i in order],
    [_LINE] * len(order),
    _TOP - _LINE,
    y.start + _LINE,
  )
  found = []
  for i, centre in zip(order, centres, strict=True):
    name = svg.text(x.end + 10, centre + 4, labels[i], 'run-name')
    found.append(svg.tag('g', name, class_=_classes(lines[i])))
  return found


def _classes(line: Trend) -> str:
  style = line.style % STYLES
  return f'run run-{style}{" out" if line.context else ""}'


def _words(line: Trend) -> str:
  spots = ', '.join(f'{y:.4g} at {x:,.6g}' for x, y in line.points)
  return f'{line.label}: {spots}'
