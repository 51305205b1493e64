"""Stacked bars: time by part of each run, or of each set of runs."""

from collections.abc import Mapping, Sequence
import dataclasses

from markupsafe import Markup

from suite.results.report import format as fmt
from suite.results.report import svg
from suite.results.report.figures import time_unit


@dataclasses.dataclass(frozen=True)
class Bar:
  """Time by part of one run, or of the mean run of a set."""

  label: str
  parts: Mapping[str, float]  # seconds by name
  seconds: float  # of the whole


def bars(
  name: str,
  rows: Sequence[Bar],
  styles: Mapping[str, int],
  *,
  width: int,
  title: str,
) -> Markup:
  """Stacked horizontal bars, one a run, the parts in the order of `styles`."""
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
    children.append(_bar(row, styles, total, x, y, thick, size))
  return svg.figure(
    name,
    *children,
    width=width,
    height=bottom + 42,
    title=title,
    description='; '.join(map(_words, rows)) + '.',
  )


def _words(row: Bar) -> str:
  parts = [f'{name} {fmt.duration(took)}' for name, took in row.parts.items()]
  return f'{row.label}: {", ".join(parts)}'


def _bar(row: Bar, styles, total, x: svg.Scale, y, thick, size) -> Markup:
  middle = y + thick / 2 + 4.5
  children = [svg.text(0, middle, row.label, 'row-name')]
  edge = 0.0
  for name, seconds in row.parts.items():
    left, right = x(edge / size), x((edge + seconds) / size)
    edge += seconds
    if seconds > 0:
      box = left, max(right - left - 1.5, 0.5), y, thick
      children.append(_segment(row, name, styles[name], *box))
  children.append(svg.text(x(edge / size) + 7, middle, total, 'total'))
  return svg.tag('g', *children)


def _segment(
  row: Bar, name: str, style: int, x: float, width: float, y: float, thick: int
) -> Markup:
  seconds = row.parts[name]
  share = seconds / row.seconds if row.seconds else 0.0
  children = [
    svg.tag('title', f'{name}: {fmt.duration(seconds)}'),
    svg.tag('rect', x=x, y=y, width=width, height=thick, rx=1.5),
  ]
  for words in (f'{name} {share * 100:.0f} %', f'{share * 100:.0f} %'):
    if thick > 20 and svg.text_width(words) + 12 < width:
      middle = y + thick / 2 + 4.5
      children.append(svg.text(x + 7, middle, words, 'share'))
      break
  return svg.tag('g', *children, class_=f'part part-{style}')
