"""Floating-point operations of a program as it was written.

Counted from StableHLO, before anything optimises it, with the shapes of the
whole batch on all devices. Operations are those of matrix products and
convolutions, two for a multiplication with its addition; positions of a
convolution that lie in padding or between dilated numbers are not counted. A
loop's body counts once an iteration, and so does what `jax.checkpoint`
computes again. (XLA's own count takes a loop's body once.)
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import math
import re
from typing import Any

import jax
from jaxlib.mlir import ir
import numpy as np

_DTYPES = {'f64': 'f64', 'f32': 'f32', 'f16': 'f16', 'bf16': 'bf16'}


@dataclasses.dataclass(frozen=True)
class Window:
  """Movement of a convolution's window along one dimension."""

  size: int
  stride: int = 1
  before: int = 0  # padding
  dilation: int = 1  # of the window
  base_dilation: int = 1  # of what it moves over


def count(lowered: jax.stages.Lowered) -> tuple[Counter[str], bool]:
  """Operations by the type that is multiplied, and whether they are certain.

  They are not where a loop has an unknown number of iterations: it counts once.
  """
  module = lowered.compiler_ir('stablehlo').operation
  functions = {
    ir.StringAttr(op.attributes['sym_name']).value: op
    for op in _inside(module.regions)
    if op.name == 'func.func'
  }
  return _Counts(functions).of('main')


def total(lowered: jax.stages.Lowered) -> float | None:
  """Operations of all types together; None if there are none or uncertain."""
  operations, certain = count(lowered)
  return float(operations.total()) or None if certain else None


def convolution(
  out: Sequence[int], into: Sequence[int], *, features: int,
  windows: Sequence[Window],
) -> int:  # fmt: skip
  """Operations of a convolution.

  `out` is the output's shape and `into` the input's spatial one; `features` is
  how many inputs each output sums at a place of the window. The last
  `len(windows)` numbers of `out` are its spatial ones.
  """
  places = [
    _places(size, length, window)
    for size, length, window in zip(
      out[len(out) - len(windows) :], into, windows, strict=True
    )
  ]
  rest = math.prod(out[: len(out) - len(windows)])
  return 2 * rest * features * math.prod(places)


@functools.lru_cache(maxsize=4096)
def _places(out: int, into: int, window: Window) -> int:
  """(output, window) pairs along a dimension that meet a number."""
  start = np.arange(out)[:, None] * window.stride - window.before
  place = start + np.arange(window.size) * window.dilation
  inside = (place >= 0) & (place % window.base_dilation == 0)
  return int((inside & (place // window.base_dilation < into)).sum())


class _Counts:
  """Counts of a module's functions; each is counted once and kept."""

  def __init__(self, functions: dict[str, Any]):
    self._functions = functions
    self._known: dict[str, tuple[Counter[str], bool]] = {}

  def of(self, name: str) -> tuple[Counter[str], bool]:
    """The count of the function of that name."""
    if name not in self._known:
      self._known[name] = self._count(self._functions[name].regions)
    return self._known[name]

  def _count(self, regions: Iterable[Any]) -> tuple[Counter[str], bool]:
    counted: Counter[str] = Counter()
    certain = True
    for op in _inside(regions):
      name, inner, times = op.name, None, 1
      if name == 'stablehlo.dot_general':
        counted[_dtype(op)] += _product(op)
      elif name == 'stablehlo.convolution':
        counted[_dtype(op)] += _convolution(op)
      elif name == 'func.call':
        inner = self.of(ir.FlatSymbolRefAttr(op.attributes['callee']).value)
      elif name in ('stablehlo.case', 'stablehlo.if'):  # the largest branch
        branches = [self._count([branch]) for branch in op.regions]
        inner = max(branches, key=lambda branch: branch[0].total())
      elif len(op.regions):
        inner = self._count(op.regions)
      if name == 'stablehlo.while' and inner[0]:
        trips = _trips(op)
        certain = certain and trips is not None
        times = trips or 1
      elif name == 'sdy.manual_computation':
        times = _manual(op)
      if inner:
        certain = certain and inner[1]
        for dtype, number in inner[0].items():
          counted[dtype] += times * number
    return counted, certain


def _inside(regions: Iterable[Any]) -> Iterator[Any]:
  """The operations in regions, not those in their own regions."""
  for region in regions:
    for block in region:
      for op in block:
        yield op.operation


def _shape(value) -> list[int]:
  return list(ir.RankedTensorType(value.type).shape)


def _dtype(op) -> str:
  element = str(ir.RankedTensorType(op.operands[0].type).element_type)
  return _DTYPES.get(element, element.lower().replace('i', 's', 1))


def _product(op) -> int:
  # The printed form is the same in all versions; the bindings' is not.
  text = str(op.attributes['dot_dimension_numbers'])
  axes = _list(text, 'lhs_contracting_dimensions')
  lhs = _shape(op.operands[0])
  return 2 * math.prod(_shape(op.results[0])) * math.prod(lhs[a] for a in axes)


def _convolution(op) -> int:
  numbers = str(op.attributes['dimension_numbers'])
  lhs, rhs, out = (
    _labels(part) for part in numbers.replace('->', 'x').split('x')
  )
  spatial = [label for label in out if label.isdigit()]
  windows = _windows(op, [rhs.index(label) for label in sorted(spatial)])
  results, inputs = _shape(op.results[0]), _shape(op.operands[0])
  return convolution(
    [results[out.index('b')], results[out.index('f')]]
    + [results[out.index(label)] for label in sorted(spatial)],
    [inputs[lhs.index(label)] for label in sorted(spatial)],
    features=_shape(op.operands[1])[rhs.index('i')],
    windows=windows,
  )


def _labels(text: str) -> list[str]:
  """'[b, 0, 1, f]' -> ['b', '0', '1', 'f']."""
  return [
    part.strip()
    for part in text[text.index('[') + 1 : text.index(']')].split(',')
  ]


def _windows(op, axes: list[int]) -> list[Window]:
  sizes = [_shape(op.operands[1])[axis] for axis in axes]

  def numbers(name, default):
    if name not in op.attributes:
      return [default] * len(sizes)
    return list(ir.DenseI64ArrayAttr(op.attributes[name]))

  padding = [0] * len(sizes)
  if 'padding' in op.attributes:
    pairs = list(ir.DenseIntElementsAttr(op.attributes['padding']))
    padding = [int(before) for before in pairs[::2]]
  return [
    Window(*window)
    for window in zip(
      sizes, numbers('window_strides', 1), padding,
      numbers('rhs_dilation', 1), numbers('lhs_dilation', 1), strict=True,
    )
  ]  # fmt: skip


def _list(text: str, name: str) -> list[int]:
  """The numbers of `name = [0, 1]`; none where it is not there."""
  start = text.find(f'{name} = [')
  if start < 0:
    return []
  inner = text[text.index('[', start) + 1 : text.index(']', start)]
  return [int(n) for n in inner.split(',') if n.strip()]


def _trips(loop) -> int | None:
  """Iterations of a loop of JAX's: a counter goes up by one to a bound."""
  for op in loop.regions[0].blocks[0]:
    op = op.operation
    if op.name != 'stablehlo.compare' or 'LT' not in str(
      op.attributes['comparison_direction']
    ):
      continue
    counter, bound = op.operands
    if not isinstance(counter.owner, ir.Block):
      return None
    start = loop.operands[ir.BlockArgument(counter).arg_number]
    first, last = _constant(start), _constant(bound)
    return None if first is None or last is None else max(0, last - first)
  return None


def _constant(value) -> int | None:
  """The integer that a value is known to be; None for any other."""
  owner = value.owner
  if isinstance(owner, ir.Block) or owner.name != 'stablehlo.constant':
    return None
  try:
    return int(ir.DenseIntElementsAttr(owner.attributes['value'])[0])
  except ValueError:  # a float
    return None


def _manual(op) -> int:
  """Devices that do a hand-partitioned part, whose shapes are those of one."""
  module = op
  while module.parent is not None:
    module = module.parent.operation
  sizes = {}
  for each in _inside(module.regions):
    if each.name == 'sdy.mesh':
      sizes |= dict(re.findall(r'"([^"]+)"=(\d+)', str(each)))
  manual = re.findall(r'"([^"]+)"', str(op.attributes['manual_axes']))
  return math.prod(int(sizes[axis]) for axis in manual)
