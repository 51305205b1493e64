"""Operations of a program as it was written, before anything optimises it.

Counted from StableHLO, whose shapes are those of the whole batch on all
devices: matrix products and convolutions, as `work` counts them.
"""

from collections import Counter
from collections.abc import Iterator
import math
import re
from typing import Any

from jaxlib.mlir import ir

from launch.aot import work

_DTYPES = {'f64': 'f64', 'f32': 'f32', 'f16': 'f16', 'bf16': 'bf16'}


def count(module: ir.Module) -> tuple[Counter[str], bool]:
  """-> operations by the type that is multiplied, and whether it is certain.

  It is not where a loop does not say how often it turns; such are counted once.
  """
  functions = {
    ir.StringAttr(op.attributes['sym_name']).value: op
    for op in _inside(module.operation)
    if op.name == 'func.func'
  }
  return _count(functions['main'], functions)


def _count(operation, functions) -> tuple[Counter[str], bool]:
  total: Counter[str] = Counter()
  certain = True
  for op in _inside(operation):
    inner, times = None, 1
    if op.name == 'stablehlo.dot_general':
      total[_dtype(op)] += _product(op)
    elif op.name == 'stablehlo.convolution':
      total[_dtype(op)] += _convolution(op)
    elif op.name == 'func.call':
      callee = ir.FlatSymbolRefAttr(op.attributes['callee']).value
      inner = _count(functions[callee], functions)
    elif op.name == 'stablehlo.while':
      trips = _trips(op)
      certain = certain and trips is not None
      times = trips or 1
      inner = _count(op, functions)
    elif op.name == 'sdy.manual_computation':
      times = _manual(op)
      inner = _count(op, functions)
    elif op.regions:
      inner = _count(op, functions)
    if inner:
      certain = certain and inner[1]
      for dtype, number in inner[0].items():
        total[dtype] += times * number
  return total, certain


def _inside(operation) -> Iterator[Any]:
  """The operations of its regions, not those of theirs."""
  for region in operation.regions:
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
  return work.convolution(
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


def _windows(op, axes: list[int]) -> list[work.Window]:
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
    work.Window(*window)
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
  """How often a loop of JAX's turns: a counter goes up by one to a bound."""
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
  for each in _inside(module):
    if each.name == 'sdy.mesh':
      sizes |= dict(re.findall(r'"([^"]+)"=(\d+)', str(each)))
  manual = re.findall(r'"([^"]+)"', str(op.attributes['manual_axes']))
  return math.prod(int(sizes[axis]) for axis in manual)
