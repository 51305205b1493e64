"""Stacked bars: time by part of each run, or of each set of runs."""

from collections.abc import Sequence
import dataclasses

from markupsafe import Markup

from suite.results.report import format as fmt
from suite.results.report import svg
from suite.results.report.figures import time_unit


@dataclasses.dataclass(frozen=True)
class Part:
  name: str
  seconds: float
  style: int


@dataclasses.dataclass(frozen=True)
class Bar:
  label: str
  parts: tuple[Part, ...]
  seconds: float


def bars(
  name: str,
  rows: Sequence[Bar],
  *,
  width: int,
  title: str,
  description: str,
) -> Markup:
  """Stacked horizontal bars, one a run, the parts in the same order."""
  thick, gap = (26, 12) if len(rows) <= 12 else (14, 5)
  left = max(svg.text_width(row.label) for row in rows) + 12
  totals = [fmt.duration(row.seconds) for row in rows]
  right = max(svg.text_width(total) for total in totals) + 10
  longest = max([row.seconds for row in rows] + [1e-9])
  unit, size = time_unit(longest)
  x = svg.Scale(0.0, longest / size, left, width - right)
  bottom = len(rows) * (thick + gap) + 2.0
  children = svg.x_ticks(x, bottom, unit, grid_top=0)
  for index, (row, total) in enumerate(zip(rows, totals, strict=True)):
    y = index * (thick + gap) + gap / 2
    children.append(_bar(row, total, x, y, thick, size))
  return svg.figure(
    name,
    *children,
    width=width,
    height=bottom + 42,
    title=title,
    description=description,
  )


def _bar(
  row: Bar, total: str, x: svg.Scale, y: float, thick: float, size: float
) -> Markup:
  middle = y + thick / 2 + 4.5
  children = [svg.text(0, middle, row.label, 'row-name')]
  edge = 0.0
  for part in row.parts:
    left, right = x(edge / size), x((edge + part.seconds) / size)
    edge += part.seconds
    if part.seconds > 0:
      children.append(_segment(row, part, left, right, y, thick))
  children.append(svg.text(x(edge / size) + 7, middle, total, 'total'))
  return svg.tag('g', *children)


def _segment(
  row: Bar, part: Part, left: float, right: float, y: float, thick: float
) -> Markup:
  share = part.seconds / row.seconds if row.seconds else 0.0
  width = max(right - left - 1.5, 0.5)
  children = [
    svg.tag('title', f'{part.name}: {fmt.duration(part.seconds)}'),
    svg.tag('rect', x=left, y=y, width=width, height=thick, rx=1.5),
  ]
  for words in (f'{part.name} {share * 100:.0f} %', f'{share * 100:.0f} %'):
    if thick > 20 and svg.text_width(words) + 12 < width:
      middle = y + thick / 2 + 4.5
      children.append(svg.text(left + 7, middle, words, 'share'))
      break
  return svg.tag('g', *children, class_=f'part part-{part.style}')
