"""Systems by name: what they are made of and the rates published of them.

A TPU slice is named as Google names it, 'v5e-256' or 'v5p-512'. The number
counts chips for v5e and v6e, and TensorCores, of which a chip has two, for v3,
v4, v5p and tpu7x: v5p-512 has 256 chips. 'v5e-256x2' is two such slices, joined
by the data centre's network. A cluster of GPUs is 'h100-64': 64 GPUs, eight a
host, as in a DGX.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import importlib.resources
import math
import re
import string

import yaml

from suite import names

GPUS_PER_HOST = 8
MAX_GPUS = 16384
MAX_SLICES = 64


@dataclasses.dataclass(frozen=True)
class System:
  """One system; rates are of a chip, bytes and operations a second."""

  name: str  # as it was asked for, with the number of slices
  kind: str  # 'v5e', 'h100'
  platform: str  # 'tpu' or 'gpu'
  slices: int  # joined by the wide network; 1 for GPUs
  topology: tuple[int, ...]  # chips along a slice's axes; (hosts, GPUs of one)
  chips: int  # of all slices
  chips_per_host: int
  devices_per_chip: int  # what JAX calls a device
  flops: Mapping[str, float]  # operations a second by dtype
  memory_bytes: int  # of one chip
  memory_bandwidth: float  # of one chip
  link_bandwidth: float  # of a link to a neighbour, or NVLink, in one direction
  wide_bandwidth: float  # a chip's share of the network of hosts or slices
  wraps: tuple[bool, ...]  # whether each axis of the torus is a ring
  sources: Mapping[str, str]  # where each number is from
  compiler_name: str = ''  # the compiler's name of it ...
  chip_config: str = ''  # ... and of its variant
  target: str = ''  # the compiler's description of a GPU

  @property
  def devices(self) -> int:
    """Number of JAX devices."""
    return self.chips * self.devices_per_chip

  @property
  def hosts(self) -> int:
    """Machines that drive the chips."""
    return max(1, self.chips // self.chips_per_host)

  @property
  def memory_per_device(self) -> int:
    """Bytes that one JAX device may use."""
    return self.memory_bytes // self.devices_per_chip

  def rate(self, dtype: str) -> float:
    """Operations a second and chip on `dtype`, or on what stands in for it."""
    if dtype in self.flops:
      return self.flops[dtype]
    if dtype.startswith('f8'):
      return self.flops.get('f8', self.flops['bf16'])
    return self.flops['bf16' if dtype in ('f16', 'bf16') else 'f32']

  def shape(self) -> str:
    """'16x16', '2 slices of 16x16', '8 hosts of 8'."""
    if self.platform == 'gpu':
      hosts, each = self.topology
      return f'{hosts} host{"s" if hosts > 1 else ""} of {each}'
    each = 'x'.join(str(axis) for axis in self.topology)
    return each if self.slices == 1 else f'{self.slices} slices of {each}'


def get(name: str) -> System:
  """The system of that name; ValueError that names the nearest ones."""
  match = re.fullmatch(r'(?P<kind>[a-z0-9]+)-(?P<size>\d+)(x(?P<n>\d+))?', name)
  kinds = {**_table()['tpu'], **_table()['gpu']}
  if not match or match['kind'] not in kinds:
    raise ValueError(
      f'Unknown system {name!r}{names.nearest(name, published())}; expected '
      'a kind, the size of a slice, and for several TPU slices their '
      f'number, as in v5e-256, v5e-256x2 or h100-64, of {", ".join(kinds)}.'
    )
  kind, size, slices = match['kind'], int(match['size']), int(match['n'] or 1)
  if kind in _table()['gpu']:
    return _gpu(name, kind, size, match['n'])
  return _slice(name, kind, size, slices)


def of_chips(kind: str, chips: int, slices: int = 1) -> System:
  """The TPU system whose slices have so many chips; ValueError if none has."""
  entry = _table()['tpu'][kind]
  by_chips = {_chips(shape): size for size, shape in entry['slices'].items()}
  if chips not in by_chips:
    near = sorted(sorted(by_chips, key=lambda n: abs(math.log(n / chips)))[:2])
    known = ' and '.join(f'{kind}-{by_chips[n]} of {n} chips' for n in near)
    raise ValueError(
      f'There is no slice of {chips} chips of {kind}; the nearest are {known}.'
    )
  more = f'x{slices}' if slices > 1 else ''
  return get(f'{kind}-{by_chips[chips]}{more}')


def several(text: str) -> list[System]:
  """The systems of 'v5e-8,v5e-16'; ValueError if there is none or one twice."""
  names = [name.strip() for name in text.split(',') if name.strip()]
  if not names:
    raise ValueError('--system is needed, such as v5e-8 or v5e-8,v5e-16.')
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f'--system names {", ".join(twice)} twice.')
  return [get(name) for name in names]


def of_devices(device_kind: str, devices: int) -> System | None:
  """The system of so many devices that JAX calls so; None for unknown ones.

  A part of a slice, or GPUs of which hosts have fewer than all, are none.
  """
  for kind, entry in kinds('gpu').items():
    whole = devices <= GPUS_PER_HOST or not devices % GPUS_PER_HOST
    if device_kind in entry['device_kinds'] and whole:
      return get(f'{kind}-{devices}')
  for kind, entry in kinds('tpu').items():
    if device_kind in entry['device_kinds']:
      for size in entry['slices']:
        system = get(f'{kind}-{size}')
        if system.devices == devices:
          return system
  return None


def kinds(platform: str) -> Mapping[str, Mapping]:
  """Kinds of chips of 'tpu' or 'gpu', and what is known of each."""
  return _table()[platform]


def devices_per_chip(kind: str) -> int:
  """Devices that JAX has on a chip of a kind; 1 of GPUs and CPUs."""
  return _table()['tpu'].get(kind, {}).get('devices_per_chip', 1)


def published() -> list[str]:
  """Every single slice by name, and clusters of GPUs up to 64 hosts."""
  slices = [
    f'{kind}-{size}'
    for kind, entry in _table()['tpu'].items()
    for size in entry['slices']
  ]
  clusters = [
    f'{kind}-{GPUS_PER_HOST * 2**power}'
    for kind in _table()['gpu']
    for power in range(7)
  ]
  return slices + clusters


def _chips(shape: str) -> int:
  return math.prod(int(axis) for axis in shape.split('x'))


def _slice(name: str, kind: str, size: int, slices: int) -> System:
  entry = _table()['tpu'][kind]
  if size not in entry['slices']:
    # The two that are nearest by ratio, in order.
    by_ratio = sorted(
      entry['slices'], key=lambda n: abs(math.log(n / max(size, 0.5)))
    )
    near = sorted(by_ratio[:2])
    raise ValueError(
      f'There is no slice {kind}-{size} ({entry["counts"]} are counted); the '
      f'nearest: {", ".join(f"{kind}-{each}" for each in near)}.'
    )
  if not 1 <= slices <= MAX_SLICES:
    raise ValueError(f'Expected 1 to {MAX_SLICES} slices, not {slices}.')
  topology = tuple(int(axis) for axis in entry['slices'][size].split('x'))
  chips = math.prod(topology)
  # A slice of eight v5e or v6e chips is one machine; larger ones are made of
  # machines with four.
  one_machine = len(topology) == 2 and entry['counts'] == 'chips' and chips <= 8
  return System(
    name=name,
    kind=kind,
    platform='tpu',
    slices=slices,
    topology=topology,
    chips=chips * slices,
    chips_per_host=chips
    if one_machine
    else min(chips, entry['chips_per_host']),
    devices_per_chip=entry['devices_per_chip'],
    wraps=_wraps(topology, entry['wraps_at']),
    compiler_name=entry['compiler_name'],
    chip_config=entry.get('chip_config', ''),
    **_rates(entry),
  )


def _wraps(topology: Sequence[int], at: int) -> tuple[bool, ...]:
  """Flags of the axes that are rings.

  A pod of two dimensions has rings along its whole length only; slices of three
  are rings in all dimensions from a cube of `at` chips a side on.
  """
  if len(topology) == 2:
    return tuple(axis == at for axis in topology)
  cubes = all(axis % at == 0 for axis in topology)
  return tuple(cubes for _ in topology)


def _gpu(name: str, kind: str, size: int, slices: str | None) -> System:
  if slices is not None:
    raise ValueError(
      f'{name}: only TPUs come in slices; {int(slices) * size} GPUs are '
      f'{kind}-{int(slices) * size}.'
    )
  if not 1 <= size <= MAX_GPUS or (
    size > GPUS_PER_HOST and size % GPUS_PER_HOST
  ):
    below = min(max(1, size // GPUS_PER_HOST) * GPUS_PER_HOST, MAX_GPUS)
    above = min(below + GPUS_PER_HOST, MAX_GPUS)
    raise ValueError(
      f'There is no {kind}-{size}: GPUs come up to {GPUS_PER_HOST} in a host, '
      f'and in whole hosts up to {MAX_GPUS}; the nearest: '
      f'{", ".join(f"{kind}-{each}" for each in sorted({below, above}))}.'
    )
  entry = _table()['gpu'][kind]
  per_host = min(size, GPUS_PER_HOST)
  return System(
    name=name,
    kind=kind,
    platform='gpu',
    slices=1,
    topology=(size // per_host, per_host),
    chips=size,
    chips_per_host=per_host,
    devices_per_chip=1,
    wraps=(False, False),
    target=string.Template(_table()['gpu_target']).substitute(entry['target']),
    **_rates(entry),
  )


def _rates(entry: Mapping) -> dict[str, object]:
  names = ('flops', 'memory_bytes', 'memory_bandwidth', 'link_bandwidth',
           'wide_bandwidth')  # fmt: skip
  return {name: entry[name] for name in names} | {'sources': entry['from']}


@functools.cache
def _table() -> Mapping[str, Mapping[str, Mapping]]:
  text = importlib.resources.files(__package__).joinpath('systems.yaml')
  return yaml.safe_load(text.read_text(encoding='utf-8'))
