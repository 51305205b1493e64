"""XLA's optimised program as text -> what runs in it, and how many times.

The text is that of `Compiled.as_text()`: a module of computations, of which one
is the entry; instructions call others (fusions, loops, branches, asynchronous
operations). `Module.executed` walks what runs.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import math
import re

_BITS = {
  'pred': 8, 's2': 2, 'u2': 2, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16,
  'u16': 16, 'f16': 16, 'bf16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64,
  'u64': 64, 'f64': 64, 'c64': 64, 'c128': 128, 'token': 0, 'opaque': 0,
}  # fmt: skip
_STRING = r'"(?:\\.|[^"\\])*"'
_MARKS = re.compile(rf'{_STRING}|[()\[\]{{}},]')
_ARRAY = re.compile(r'(?P<dtype>[a-z][a-z0-9]*)\[(?P<dims>[^\]]*)\]')
_COMMENT = re.compile(r'/\*.*?\*/')
_NAME = re.compile(r'%?([\w.\-]+)$')
_HEADER = re.compile(r'(ENTRY )?%?([\w.\-$]+) (\(.*)?\{$')
_START = re.compile(r'\s+(ROOT )?%?([\w.\-$]+) = ')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
  r'\b(calls|to_apply|body|condition|branch_computations|called_computations|'
  r'true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-$]+)'
)
# What runs once and for each element, which the caller's cost includes.
_APPLIES = frozenset(
  {'all-reduce', 'all-reduce-start', 'map', 'reduce', 'reduce-scatter',
   'reduce-window', 'scatter', 'select-and-scatter', 'sort'}
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Array:
  """One array: 'f32[8,128]{1,0:T(8,128)S(1)}'."""

  dtype: str
  dims: tuple[int, ...]
  order: tuple[int, ...] = ()  # dimensions, the fastest first
  tile: tuple[int, ...] = ()
  space: int = 0  # 0 is the chip's main memory

  @property
  def elements(self) -> int:
    """Number of elements."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """Bytes of its numbers."""
    return -(-self.elements * _bits(self.dtype) // 8)

  @property
  def stored_bytes(self) -> int:
    """Bytes that it takes where it lies, tiles being filled up."""
    dims = [self.dims[axis] for axis in self.order] or list(self.dims[::-1])
    for i, tile in enumerate(reversed(self.tile)):
      if i < len(dims):
        dims[i] = -(-dims[i] // tile) * tile
    return -(-math.prod(dims) * _bits(self.dtype) // 8)


Shape = Array | tuple['Shape', ...]


def leaves(shape: Shape) -> list[Array]:
  """The arrays of a shape, tuples taken apart."""
  if isinstance(shape, Array):
    return [shape]
  return [leaf for part in shape for leaf in leaves(part)]


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  opcode: str
  shape: Shape
  operands: tuple[str, ...]
  arguments: str  # between the parentheses, as written
  attributes: str
  root: bool

  def attribute(self, name: str) -> str | None:
    """The value of `name=`, up to the next attribute; None if it is not set."""
    match = re.search(rf'(?:^|, ){name}=', self.attributes)
    if not match:
      return None
    text = self.attributes[match.end() :]
    commas = (i for i, mark, depth in _marks(text) if mark == ',' and not depth)
    return text[: next(commas, None)]

  @functools.cached_property
  def called(self) -> Mapping[str, tuple[str, ...]]:
    """Computations that it names, by attribute."""
    return {
      kind: tuple(
        part.strip().lstrip('%') for part in names.strip('{}').split(',')
      )
      for kind, names in _CALLED.findall(re.sub(_STRING, '""', self.attributes))
    }


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in order, by name."""

  name: str
  instructions: Mapping[str, Instruction]

  @property
  def root(self) -> Instruction:
    """The instruction whose value the computation has."""
    for instruction in self.instructions.values():
      if instruction.root:
        return instruction
    return next(reversed(self.instructions.values()))

  def operand_shapes(self, instruction: Instruction) -> list[Shape]:
    """The shapes of what the instruction takes, in order."""
    return [self.instructions[name].shape for name in instruction.operands]


@dataclasses.dataclass(frozen=True)
class Executed:
  """An instruction as it runs."""

  instruction: Instruction
  computation: Computation
  times: int  # how often a run of the program does it, loops counted
  # False where a loop around it has an unknown number of iterations; it is
  # counted once.
  certain: bool
  fused: bool  # part of a fusion: it reads and writes no memory of its own


class Module:
  """A parsed program."""

  def __init__(self, text: str):
    """Raises ValueError if `text` is no HLO with an entry."""
    self.computations, self.entry = _parse(text)

  def executed(self) -> Iterator[Executed]:
    """Every instruction that runs; a loop's body once, with its `times`."""
    yield from self._walk(self.entry, 1, True, False)

  def _walk(self, name, times, certain, fused) -> Iterator[Executed]:
    computation = self.computations[name]
    for instruction in computation.instructions.values():
      yield Executed(instruction, computation, times, certain, fused)
      for callee, often, in_fusion in self._callees(instruction):
        known = often is not None
        yield from self._walk(
          callee, times * (often or 1), certain and known, fused or in_fusion
        )

  def _callees(self, instruction: Instruction):
    """(computation, times or None, fused) of what an instruction runs."""
    if instruction.opcode in _APPLIES:
      return
    called = instruction.called
    if instruction.opcode == 'while':
      trips = self._trips(instruction)
      yield called['body'][0], trips, False
      return
    fusion = instruction.opcode in ('fusion', 'custom-call')
    for kind, names in called.items():
      # A branch is counted as though all were taken: an upper bound.
      for name in names:
        if kind != 'condition' and name in self.computations:
          yield name, 1, fusion

  def _trips(self, loop: Instruction) -> int | None:
    """Iterations of a loop: as XLA notes them, or by the bound it tests."""
    noted = _TRIPS.search(loop.attributes)
    if noted:
      return int(noted[1])
    condition = self.computations[loop.called['condition'][0]]
    root = condition.root
    if root.opcode != 'compare' or root.attribute('direction') != 'LT':
      return None
    bound = condition.instructions[root.operands[1]]
    # Counters that XLA makes, and JAX's scans, start at 0 and go up by 1.
    if bound.opcode == 'constant' and bound.arguments.isdigit():
      return int(bound.arguments)
    return None


def parse_shape(text: str) -> Shape:
  """Reads a shape; ValueError if it is none."""
  text = _COMMENT.sub('', text).strip()
  if text.startswith('('):
    inner = text[1 : _closing(text, 0)]
    return tuple(parse_shape(part) for part in split(inner) if part.strip())
  match = _ARRAY.match(text)
  if not match:
    raise ValueError(f'Expected a shape such as f32[8,128], got {text!r}.')
  # A dimension may be bounded ('<=8'), which is the most that it can be.
  dims = numbers(match['dims'])
  return Array(match['dtype'], dims, *_layout(text[match.end() :]))


def split(text: str) -> list[str]:
  """Splits at the commas that are in no bracket and no string."""
  cuts = [i for i, mark, depth in _marks(text) if mark == ',' and not depth]
  ends = zip([0, *(i + 1 for i in cuts)], [*cuts, len(text)], strict=True)
  return [text[start:end] for start, end in ends] if text else []


def numbers(text: str | None) -> tuple[int, ...]:
  """The whole numbers of a list: '{0,1}' -> (0, 1); of None: ()."""
  return tuple(int(n) for n in re.findall(r'\d+', text or ''))


def _bits(dtype: str) -> int:
  if dtype in _BITS:
    return _BITS[dtype]
  match = re.match(r'f(\d)', dtype)  # f8e4m3fn and its kin, f4e2m1fn
  if not match:
    raise ValueError(f'Unknown element type {dtype!r} in a shape.')
  return int(match[1])


def _layout(text: str) -> tuple[tuple[int, ...], tuple[int, ...], int]:
  """'{1,0:T(8,128)(2,1)S(1)}' -> order, first tile, memory space."""
  if not text.startswith('{'):
    return (), (), 0
  order, _, rest = text[1 : text.index('}')].partition(':')
  tile = re.match(r'T\(([\d,]+)\)', rest)
  space = re.search(r'S\((\d+)\)', rest)
  return (
    numbers(order),
    numbers(tile[1]) if tile else (),
    int(space[1]) if space else 0,
  )


def _parse(text: str) -> tuple[dict[str, Computation], str]:
  computations, entry, name, lines = {}, '', '', {}
  for line in text.splitlines():
    if name and line.startswith('}'):
      computations[name] = Computation(name, lines)
      name = ''
    elif name:
      instruction = _instruction(line)
      if instruction:
        lines[instruction.name] = instruction
    elif header := _HEADER.match(line):
      name, lines = header[2], {}
      entry = name if header[1] else entry
  if not entry:
    raise ValueError('Expected the text of an HLO module, with an entry.')
  return computations, entry


def _instruction(line: str) -> Instruction | None:
  start = _START.match(line)
  if not start:
    return None
  rest = line[start.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  shape, rest = rest[:end], rest[end:].lstrip()
  opening = rest.index('(')
  closing = _closing(rest, opening)
  arguments = _COMMENT.sub('', rest[opening + 1 : closing])
  opcode = rest[:opening]
  # A constant's argument is its value, a parameter's its number.
  named = opcode not in ('constant', 'parameter')
  operands = tuple(_last_name(a) for a in split(arguments)) if named else ()
  return Instruction(
    start[2],
    opcode,
    parse_shape(shape),
    operands,
    arguments,
    rest[closing + 1 :].lstrip(', '),
    bool(start[1]),
  )


def _last_name(argument: str) -> str:
  """'f32[8]{0} %x' or '%x' -> 'x'."""
  match = _NAME.search(argument.strip())
  if not match:
    raise ValueError(f'Expected an operand, got {argument!r}.')
  return match[1]


def _closing(text: str, opening: int) -> int:
  """Index at which the bracket at `opening` closes."""
  for i, _, depth in _marks(text, opening):
    if not depth:
      return i
  raise ValueError(f'A bracket does not close: {text[:80]!r}')


def _marks(text: str, start: int = 0) -> Iterator[tuple[int, str, int]]:
  """(index, mark, depth after it) of brackets and commas outside strings."""
  depth = 0
  for found in _MARKS.finditer(text, start):
    mark = found[0]
    depth += (mark in '([{') - (mark in ')]}')
    if len(mark) == 1:
      yield found.start(), mark, depth
