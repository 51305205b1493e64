"""Collectives of a compiled program: kind, bytes, groups of devices.

XLA writes the groups of devices that take part in three ways: as lists, as an
iota that is reshaped and transposed ('[2,4]<=[4,2]T(1,0)'), and as axes of a
mesh ("mesh['a'=2,'b'=4] {'b'}"). Numbers are places in the program's devices.
"""

from collections.abc import Mapping
import dataclasses
import itertools
import math
import re

import numpy as np

from launch.aot import hlo

# Of its forms the one along a mesh has a comma and a '=' of its own.
_GROUPS = re.compile(
  r'replica_groups=(mesh\[[^\]]*\](?:, device_ids=\([^{]*\))? \{[^}]*\})'
)
KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
         'collective-permute', 'collective-broadcast')  # fmt: skip
# XLA's TPU compiler writes a reduce-scatter as a fusion of an all-reduce and of
# the slice that each device keeps.
_SCATTERS = 'all-reduce-scatter'


_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of a program, as often as it runs in it."""

  kind: str  # one of KINDS
  # Of the array that a device gives, or of the one that it gets where that is
  # larger (a gather), each time.
  bytes: int
  times: int  # how often the program does it
  certain: bool  # whether that is known; an unknown loop is counted once
  groups: np.ndarray  # places of devices, [groups, devices of a group]


def of_module(
  module: hlo.Module, devices: int, slices: int = 1
) -> list[Collective]:
  """The collectives of a program for so many devices, in order.

  An asynchronous one is what its start says. On TPUs a fused one is written
  again in each fusion that it runs beside; those have one channel, and are one.
  Between slices, which are equal parts of the devices, XLA has the hosts do it:
  what a device hands them for that says which collective it is.
  """
  found, seen = [], set()
  for each in module.executed():
    if across := _across_slices(each, devices, slices):
      found.append(across)
      continue
    kind = _kind(each)
    if kind is None:
      continue
    collective = _read(each, kind, devices)
    channel = each.instruction.attribute('channel_id')
    key = (kind, channel, collective.bytes)
    if each.fused and channel is not None:
      if key in seen:
        continue
      seen.add(key)
    if collective.groups.shape[1] > 1:
      found.append(collective)
  return found


def axis_of(groups: np.ndarray, shape: Mapping[str, int]) -> str:
  """The mesh axes that groups go along: 'data', 'data+model', 'part of data'.

  `shape` is the mesh's, {axis: devices}, in the order of its axes.
  """
  ids = np.arange(math.prod(shape.values())).reshape(tuple(shape.values()))
  wide = [axis for axis, size in shape.items() if size > 1]
  wanted = {frozenset(group) for group in groups.tolist()}
  for count in range(1, len(wide) + 1):
    for axes in itertools.combinations(wide, count):
      along = {frozenset(g) for g in _along(ids, shape, axes).tolist()}
      if wanted == along:
        return '+'.join(axes)
      if all(any(w <= whole for whole in along) for w in wanted):
        return 'part of ' + '+'.join(axes)
  return 'other'


def parse_groups(text: str, devices: int) -> np.ndarray:
  """'{{0,1},{2,3}}', '[2,2]<=[4]', "mesh['x'=4] {'x'}" -> [groups, size].

  No groups, '{}', are one of all devices. ValueError for anything else.
  """
  text = text.strip()
  if text.startswith('mesh['):
    return _mesh_groups(text)
  if text.startswith('['):
    shape, _, ids = text.replace(' ', '').partition('<=')
    groups = hlo.numbers(shape)
    return _iota(ids).reshape(groups if len(groups) == 2 else (1, -1))
  if text.startswith('{'):
    lists = re.findall(r'\{([\d,\s]+)\}', text)
    if not lists:
      return np.arange(devices)[None]
    return np.array([hlo.numbers(part) for part in lists])
  raise ValueError(f'Expected groups of devices, got {text!r}.')


def _kind(each: hlo.Executed) -> str | None:
  opcode = each.instruction.opcode.removesuffix('-start')
  if opcode == 'ragged-all-to-all':
    opcode = 'all-to-all'
  if opcode not in KINDS:
    return None
  if opcode == 'all-reduce' and each.computation.name.startswith(_SCATTERS):
    return 'reduce-scatter'
  return opcode


def _read(each: hlo.Executed, kind: str, devices: int) -> Collective:
  instruction = each.instruction
  shapes = each.computation.operand_shapes(instruction)
  if kind in ('collective-permute', 'collective-broadcast'):
    shapes = shapes[:1]  # others say where the result goes
  size = sum(leaf.bytes for shape in shapes for leaf in hlo.leaves(shape))
  groups = parse_groups(_groups_text(instruction), devices)
  if kind == 'all-gather':
    size *= groups.shape[1]
  return Collective(kind, size, each.times, each.certain, groups)


def _across_slices(
  each: hlo.Executed, devices: int, slices: int
) -> Collective | None:
  """Collective between slices, which goes through the hosts."""
  if each.instruction.opcode != 'send':
    return None
  asked = _BETWEEN_SLICES.search(each.instruction.attributes)
  if not asked:
    return None
  kind = asked[1].lower().replace('_', '-')
  kind = 'collective-permute' if kind == 'one-to-one' else kind
  if kind not in KINDS:
    raise ValueError(f'Unknown transfer between slices: {asked[1]!r}.')
  data = each.computation.operand_shapes(each.instruction)[0]
  size = sum(leaf.bytes for leaf in hlo.leaves(data))
  size *= slices if kind == 'all-gather' else 1
  groups = np.arange(devices).reshape(slices, -1).T
  return Collective(kind, size, each.times, each.certain, groups)


def _groups_text(instruction: hlo.Instruction) -> str:
  along = _GROUPS.search(instruction.attributes)
  if along:
    return along[1]
  for name in ('replica_groups', 'source_target_pairs'):
    if value := instruction.attribute(name):
      return value
  return '{}'


def _along(ids: np.ndarray, shape: Mapping[str, int], axes) -> np.ndarray:
  names = list(shape)
  last = [names.index(axis) for axis in axes]
  first = [i for i in range(len(names)) if i not in last]
  size = math.prod(shape[axis] for axis in axes)
  return ids.transpose(first + last).reshape(-1, size)


def _iota(text: str) -> np.ndarray:
  """'[4,2]T(1,0)' -> numbers from 0 on, reshaped, transposed and laid flat."""
  match = re.fullmatch(r'\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if not match:
    raise ValueError(f'Expected numbers such as [4,2]T(1,0), got {text!r}.')
  dims, order = map(hlo.numbers, match.groups())
  ids = np.arange(math.prod(dims)).reshape(dims)
  return (ids.transpose(order) if order else ids).reshape(-1)


def _mesh_groups(text: str) -> np.ndarray:
  """Groups along axes of a mesh, or along parts of one, as 'x':(2)4."""
  match = re.fullmatch(
    r'mesh\[(?P<axes>[^\]]*)\](?:, device_ids=\((?P<ids>.*)\))?'
    r' ?\{(?P<over>[^}]*)\}',
    text,
  )
  if not match:
    raise ValueError(f'Expected groups along axes of a mesh, got {text!r}.')
  sizes = {
    name: int(size)
    for name, size in re.findall(r"'?([\w.\-]+)'?=(\d+)", match['axes'])
  }
  listed = match['ids'] or f'[{math.prod(sizes.values())}]'
  ids = (
    _iota(listed) if listed.startswith('[') else np.array(hlo.numbers(listed))
  )
  parts: dict[str, list[tuple[int, bool]]] = {
    name: [(size, False)] for name, size in sizes.items()
  }
  for name, before, size in re.findall(
    r"'?([\w.\-]+)'?(?::\((\d+)\)(\d+))?", match['over']
  ):
    if name not in sizes:
      raise ValueError(f'{text!r} names no axis {name!r}.')
    parts[name] = (
      _cut(parts[name], int(before), int(size))
      if size
      else [(sizes[name], True)]
    )
  flat = [part for name in sizes for part in parts[name]]
  ids = ids.reshape([size for size, _ in flat])
  over = [i for i, (_, grouped) in enumerate(flat) if grouped]
  rest = [i for i, (_, grouped) in enumerate(flat) if not grouped]
  return ids.transpose(rest + over).reshape(
    -1, math.prod(flat[i][0] for i in over)
  )


def _cut(parts, before: int, size: int) -> list[tuple[int, bool]]:
  """Marks the part of an axis that has `before` steps outside it."""
  cut, outside = [], 1
  for length, grouped in parts:
    inner = before // outside if outside < before else 1
    if not grouped and outside <= before < outside * length:
      pieces = [(inner, False), (size, True), (length // inner // size, False)]
      cut += [piece for piece in pieces if piece[0] > 1]
    else:
      cut.append((length, grouped))
    outside *= length
  return cut
