"""Operations and memory traffic of a compiled program on one device.

Counted from the optimised program's text, as it is on TPUs and GPUs alike.
Operations are those of matrix products and convolutions, two for a
multiplication with its addition; positions of a convolution that lie in padding
or between dilated numbers are not counted.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import json
import math
import re

from launch.aot import hlo
from suite.run import flops

_PRODUCTS = re.compile(r'__cublas')
_CONVOLUTIONS = re.compile(
  r'__cudnn\$conv(Forward|BackwardInput|BackwardFilter|BiasActivationForward)'
)
# Neither read nor write: names for what others wrote.
_FREE = frozenset(
  {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while',
   'call', 'conditional', 'after-all', 'partition-id', 'replica-id', 'domain',
   'opt-barrier', 'add-dependency', 'async-start', 'async-update', 'iota'}
)  # fmt: skip
_READS_PART = frozenset({'dynamic-slice', 'gather', 'slice'})


def operations(module: hlo.Module) -> Counter[str]:
  """Operations of one run on one device, by the type that is multiplied."""
  counted: Counter[str] = Counter()
  for each in module.executed():
    done = _operations(each)
    if done:
      dtype, number = done
      counted[dtype] += number * each.times
  return counted


@dataclasses.dataclass
class Cost:
  """Cost of one instruction in a run, with all that is inside of it."""

  opcode: str
  operations: Counter[str]  # by type
  bytes: int  # of main memory


def costs(module: hlo.Module) -> dict[str, Cost]:
  """Costs of the instructions that a device runs one after another, by name."""
  found: dict[str, Cost] = {}
  last = None
  for each in module.executed():
    if not each.fused:
      moved = each.times * _moved(module, each) if _moves(each) else 0
      cost = Cost(each.instruction.opcode, Counter(), 0)
      last = found.setdefault(each.instruction.name, cost)
      last.bytes += moved
    if last and (done := _operations(each)):
      dtype, number = done
      last.operations[dtype] += number * each.times
  return found


def traffic(module: hlo.Module) -> int:
  """Bytes of main memory that one run reads and writes on one device.

  What an instruction or a fusion takes is read once and what it gives is
  written once, tiles included; what stays in a faster memory is not counted. A
  slice or a gather reads what it gives, an update in place writes what is new.
  """
  total = 0
  for each in module.executed():
    if not each.fused and _moves(each):
      total += each.times * _moved(module, each)
  return total


def _moves(each: hlo.Executed) -> bool:
  opcode = each.instruction.opcode
  return opcode not in _FREE and not opcode.endswith('-done')


def _operations(each: hlo.Executed) -> tuple[str, int] | None:
  instruction, computation = each.instruction, each.computation
  opcode = instruction.opcode
  if opcode == 'dot':
    lhs = hlo.leaves(computation.operand_shapes(instruction)[0])[0]
    axes = hlo.numbers(instruction.attribute('lhs_contracting_dims'))
    return lhs.dtype, _product(instruction, lhs, axes)
  if opcode == 'convolution':
    return _convolution(each, 'Forward')
  if opcode != 'custom-call':
    return None
  target = instruction.attribute('custom_call_target') or ''
  if kind := _CONVOLUTIONS.search(target):
    return _convolution(each, kind[1])
  if _PRODUCTS.search(target):
    lhs = hlo.leaves(computation.operand_shapes(instruction)[0])[0]
    return lhs.dtype, _product(instruction, lhs, _cublas_axes(instruction))
  return None


def _product(instruction, lhs: hlo.Array, axes: Sequence[int]) -> int:
  out = hlo.leaves(instruction.shape)[0]
  return 2 * out.elements * math.prod(lhs.dims[axis] for axis in axes)


def _cublas_axes(instruction: hlo.Instruction) -> Sequence[int]:
  start = instruction.attributes.index('backend_config=')
  text = instruction.attributes[start + len('backend_config=') :]
  config = json.JSONDecoder().raw_decode(text)[0]
  gemm = config.get('gemm_backend_config', config)
  numbers = gemm['dot_dimension_numbers']
  return tuple(int(n) for n in numbers['lhs_contracting_dimensions'])


def _convolution(each: hlo.Executed, kind: str) -> tuple[str, int]:
  """Operations of a convolution, or of a gradient of one in cuDNN's terms."""
  first, second, *_ = (
    hlo.leaves(shape)[0]
    for shape in each.computation.operand_shapes(each.instruction)
  )
  result = hlo.leaves(each.instruction.shape)[0]
  # (input, kernel, output) of the convolution that the window describes.
  lhs, rhs, out = {
    'BackwardInput': (result, second, first),
    'BackwardFilter': (first, result, second),
  }.get(kind, (first, second, result))
  labels = each.instruction.attribute('dim_labels')
  of_lhs, of_rhs, of_out = re.split('_|->', labels)
  spatial = sorted(label for label in of_out if label.isdigit())
  windows = (
    _windows(each.instruction.attribute('window'), len(spatial))
    if spatial
    else []  # a matrix product
  )
  sizes = [out.dims[of_out.index(label)] for label in spatial]
  outer = [out.dims[of_out.index(label)] for label in 'bf']
  number = flops.convolution(
    [*outer, *sizes],
    [lhs.dims[of_lhs.index(label)] for label in spatial],
    features=rhs.dims[of_rhs.index('i')],
    windows=windows,
  )
  return first.dtype, number


def _windows(text: str | None, rank: int) -> list[flops.Window]:
  """'{size=3x3 stride=2x2 pad=1_1x1_1}' -> a Window for each dimension."""
  fields = dict(part.split('=') for part in (text or '').strip('{}').split())

  def numbers(name, default):
    return [int(n) for n in fields[name].split('x')] if name in fields else (
      [default] * rank
    )  # fmt: skip

  padding = fields.get('pad', 'x'.join(['0_0'] * rank)).split('x')
  return [
    flops.Window(size, stride, int(pad.split('_')[0]), dilation, base)
    for size, stride, pad, dilation, base in zip(
      numbers('size', 1), numbers('stride', 1), padding,
      numbers('rhs_dilate', 1), numbers('lhs_dilate', 1), strict=True,
    )
  ]  # fmt: skip


def _moved(module: hlo.Module, each: hlo.Executed) -> int:
  instruction, computation = each.instruction, each.computation
  taken = {
    i: part
    for i in range(len(instruction.operands))
    if (part := _part(module, instruction, i)) is not None
  }
  given, read = _given(module, computation, instruction), 0
  for i, shape in enumerate(computation.operand_shapes(instruction)):
    whole = _in_memory(shape)
    read += min(taken.get(i, whole), whole)
  return read + given


def _part(
  module: hlo.Module, user: hlo.Instruction, operand: int
) -> int | None:
  """Bytes that `user` reads of an operand that it does not read whole."""
  if user.opcode == 'fusion':
    return _part_of_fusion(module, _fused(module, user), operand)
  if operand == 0 and user.opcode in _READS_PART:
    return _in_memory(user.shape)
  if operand == 0 and user.opcode in ('dynamic-update-slice', 'scatter'):
    return 0  # in place; `_given` counts what is new
  return None


def _part_of_fusion(
  module: hlo.Module, inner: hlo.Computation, operand: int
) -> int | None:
  (name,) = (
    instruction.name
    for instruction in inner.instructions.values()
    if instruction.opcode == 'parameter'
    and int(instruction.arguments) == operand
  )
  parts = [
    _part(module, user, i)
    for user in inner.instructions.values()
    for i, used in enumerate(user.operands)
    if used == name
  ]
  return None if None in parts or not parts else sum(parts)


def _given(
  module: hlo.Module, computation: hlo.Computation, root: hlo.Instruction
) -> int:
  """Bytes that an instruction writes; of an update in place, what is new."""
  if root.opcode == 'fusion':
    inner = _fused(module, root)
    return _given(module, inner, inner.root)
  if root.opcode == 'dynamic-update-slice':
    return _in_memory(computation.operand_shapes(root)[1])
  if root.opcode == 'scatter':
    # What is added to is read before.
    return 2 * _in_memory(computation.operand_shapes(root)[2])
  if root.opcode == 'tuple':
    return sum(
      _given(module, computation, computation.instructions[name])
      for name in root.operands
    )
  return _in_memory(root.shape)


def _fused(module: hlo.Module, fusion: hlo.Instruction) -> hlo.Computation:
  return module.computations[fusion.called['calls'][0]]


def _in_memory(shape: hlo.Shape) -> int:
  return sum(leaf.stored_bytes for leaf in hlo.leaves(shape) if not leaf.space)
