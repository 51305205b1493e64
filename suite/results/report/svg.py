"""Parts of SVG figures: tags, scales, axes and rows of labels."""

from collections.abc import Callable, Sequence
import dataclasses
import math

from markupsafe import Markup, escape

FONT = 12.5
CHARACTER = 0.58  # mean width of a character, as a share of the font size
_Y_TICKS = 5
_SHRINKS = 0.725  # the smallest share of its width that a figure is shown at


def tag(name: str, *children: object, **attributes: object) -> Markup:
  """One element; plain strings and attribute values are escaped.

  Underscores in attribute names become hyphens (stroke_width), a trailing one
  is dropped (class_). Attributes that are None are left out.
  """
  parts = [f'<{name}']
  for key, value in attributes.items():
    if value is not None:
      key = key.rstrip('_').replace('_', '-')
      parts.append(f' {key}="{escape(_text(value))}"')
  parts.append('>')
  parts.extend(escape(child) for child in children)
  parts.append(f'</{name}>')
  return Markup(''.join(parts))


def figure(
  name: str,
  *children: object,
  width: float,
  height: float,
  title: str,
  description: str,
) -> Markup:
  """A whole figure that a screen reader can name and describe.

  It shrinks with its box down to letters of 9 pixels; then the box scrolls.
  """
  return tag(
    'svg',
    tag('title', title, id=f'{name}-title'),
    tag('desc', description, id=f'{name}-desc'),
    *children,
    id=name,
    role='img',
    aria_labelledby=f'{name}-title {name}-desc',
    viewBox=f'0 0 {_text(width)} {_text(height)}',
    width=width,
    height=height,
    style=f'min-width: {_SHRINKS * width:.0f}px',
  )


def text(x: float, y: float, words: str, class_: str = '', **more) -> Markup:
  return tag('text', words, x=x, y=y, class_=class_ or None, **more)


def line(x0: float, y0: float, x1: float, y1: float, class_: str) -> Markup:
  return tag('line', x1=x0, y1=y0, x2=x1, y2=y1, class_=class_)


def box(x0: float, y0: float, x1: float, y1: float, class_: str) -> Markup:
  width, height = x1 - x0, y1 - y0
  return tag('rect', x=x0, y=y0, width=width, height=height, class_=class_)


def path(points: Sequence[tuple[float, float]]) -> str:
  """The `d` of a path through points [(x, y)]."""
  return 'M' + 'L'.join(f'{_text(x)} {_text(y)}' for x, y in points)


@dataclasses.dataclass(frozen=True)
class Scale:
  """From a value to a place on the page, linear or logarithmic."""

  low: float
  high: float
  start: float  # where `low` lies, in SVG units
  end: float
  logarithmic: bool = False

  def __call__(self, value: float) -> float:
    change: Callable = math.log if self.logarithmic else float
    low, high = change(self.low), change(self.high)
    share = (change(value) - low) / (high - low)
    return self.start + share * (self.end - self.start)

  def ticks(self, count: int) -> list[float]:
    if not self.logarithmic:
      return ticks(self.low, self.high, count)
    first = math.floor(math.log10(self.low))
    last = math.ceil(math.log10(self.high))
    leads = (1, 3) if last - first <= 3 else (1,)
    found = [10.0**n * lead for n in range(first, last + 1) for lead in leads]
    return [value for value in found if self.low <= value <= self.high]


def ticks(low: float, high: float, count: int) -> list[float]:
  """About `count` round numbers from low to high."""
  step = _step(low, high, count)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [index * step for index in range(first, last + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
  """Tick labels with the same number of decimals, as few as will do."""
  for decimals in range(7):
    texts = [f'{value:,.{decimals}f}' for value in values]
    if all(
      math.isclose(float(t.replace(',', '')), v, rel_tol=1e-6, abs_tol=1e-9)
      for t, v in zip(texts, values, strict=True)
    ):
      return texts
  return [f'{value:.3g}' for value in values]


def widen(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
  """A range with some room on both sides, never empty."""
  room = (high - low) * share or abs(high) * share or 1.0
  return low - room, high + room


def spread(
  wanted: Sequence[float], widths: Sequence[float], low: float, high: float
) -> list[float]:
  """Centres near the wanted ones, so that labels in a row do not overlap.

  Args:
    wanted: where each label would like its centre, ascending.
    widths: how wide each label is.
    low: where the row begins; the widths must fit between low and high.
    high: where the row ends.
  """
  centres = []
  edge = low
  for centre, width in zip(wanted, widths, strict=True):
    centres.append(max(centre, edge + width / 2))
    edge = centres[-1] + width / 2
  edge = high
  for index in reversed(range(len(centres))):
    centres[index] = min(centres[index], edge - widths[index] / 2)
    edge = centres[index] - widths[index] / 2
  return centres


def text_width(words: str) -> float:
  return len(words) * FONT * CHARACTER


def letters(width: float) -> int:
  """Number of characters that fit a width."""
  return int(width / (FONT * CHARACTER))


def shape(outline: str, x: float, y: float, size: float, kind: str) -> Markup:
  """An outline drawn around 0, 0, put at a place in a size."""
  place = f'translate({x:.1f} {y:.1f}) scale({size})'
  return tag('path', d=outline, transform=place, class_=kind)


def x_axis(
  x: Scale,
  y: float,
  label: str,
  values: Sequence[float],
  texts: Sequence[str],
  *,
  grid_top: float | None = None,
) -> list[Markup]:
  """The axis at height `y`; its grid lines reach up to `grid_top`.

  Values whose texts would overlap the text before are left out.
  """
  children, edge = [line(x.start, y, x.end, y, 'axis')], -math.inf
  for value, words in zip(values, texts, strict=True):
    half = text_width(words) / 2 + 5
    if x(value) - half < edge:
      continue
    edge = x(value) + half
    if grid_top is not None:
      children.append(line(x(value), grid_top, x(value), y, 'grid'))
    children.append(line(x(value), y, x(value), y + 4, 'axis'))
    children.append(text(x(value), y + 18, words, 'tick', text_anchor='middle'))
  name = text(x.end, y + 36, label, 'axis-name', text_anchor='end')
  return [*children, name]


def x_ticks(
  x: Scale, y: float, label: str, *, grid_top: float | None = None
) -> list[Markup]:
  """An `x_axis` with round numbers, as many as there is room for."""
  values = x.ticks(9 if x.end - x.start > 560 else 5)
  return x_axis(x, y, label, values, tick_texts(values), grid_top=grid_top)


def y_room(y: Scale) -> float:
  """The width of the labels of a `y_axis`."""
  texts = tick_texts(y.ticks(_Y_TICKS))
  return max([20.0, *map(text_width, texts)]) + 10


def y_axis(x: Scale, y: Scale) -> list[Markup]:
  """Labels beside the figure, and grid lines across it."""
  values = y.ticks(_Y_TICKS)
  children = []
  for value, words in zip(values, tick_texts(values), strict=True):
    children.append(line(x.start, y(value), x.end, y(value), 'grid'))
    children.append(
      text(x.start - 8, y(value) + 4, words, 'tick', text_anchor='end')
    )
  return children


def _text(value: object) -> str:
  if isinstance(value, float):
    return f'{value:.2f}'.rstrip('0').rstrip('.')
  return str(value)


def _step(low: float, high: float, count: int) -> float:
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  for lead in (1, 2, 5, 10):
    if rough <= lead * power * (1 + 1e-9):
      return lead * power
  return 10 * power
