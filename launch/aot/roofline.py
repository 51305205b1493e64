"""The least time that a step can take on a system, from its published rates.

Three things take time on every chip: operations, main memory, and the network;
each is what the program asks for over what the system can do at best. With
perfect overlap a step takes as long as the slowest of them, with none as long
as their sum. Latencies, launch overheads and the host are left out, so a real
step is slower than the former; a program of many small collectives by much.

The network. A collective of B bytes over n chips sends B (n-1)/n bytes past
every chip, an all-reduce twice that (a scatter, then a gather), which rings
reach:

- In a TPU slice every axis of the torus that the group extends along carries a
  part: one link's bandwidth, or two where the axis is closed to a ring. Where
  the devices of one chip are in different groups, they share the chip's links.
- In a host of GPUs each sends at NVLink's bandwidth, through a switch. That
  switches can add up on the way (NVLink SHARP) is left out.
- Between slices, and between hosts of GPUs, each chip of a group sends at its
  share of the wide network, with its part of B. Levels may overlap: the slowest
  counts.
- A permutation sends each device's B once. An exchange of all with all sends
  B (n-1)/n of each device's B; in a torus that loads the links of a ring of k
  chips with k/8 times as much, of a line k/4, and the slowest axis counts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import math

from launch.aot.collectives import Collective
from launch.aot.systems import System

# Groups of a collective are alike; so many are looked at.
_SAMPLES = 4
_SHARED = ('all-reduce', 'all-gather', 'reduce-scatter')


@dataclasses.dataclass(frozen=True)
class Place:
  """Place of a device."""

  slice: int
  host: int
  chip: tuple[int, ...]  # place in the torus; of a GPU (host, its number)


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds that a step takes at least, by what takes them."""

  compute: float
  memory: float
  network: float

  @property
  def bound(self) -> str:
    """The part that takes longest."""
    parts = dataclasses.asdict(self)
    return max(parts, key=parts.get)

  @property
  def overlapped(self) -> float:
    """Seconds of a step, if everything overlaps."""
    return max(self.compute, self.memory, self.network)

  @property
  def serial(self) -> float:
    """Seconds of a step, if one waits for the other."""
    return self.compute + self.memory + self.network


def compute_seconds(operations: Mapping[str, float], system: System) -> float:
  """Seconds for operations, by type, on one device."""
  seconds = (n / system.rate(dtype) for dtype, n in operations.items())
  return sum(seconds) * system.devices_per_chip


def memory_seconds(bytes_per_device: float, system: System) -> float:
  """Seconds to move the bytes; the devices of a chip share its memory."""
  return bytes_per_device * system.devices_per_chip / system.memory_bandwidth


def network_seconds(
  collective: Collective, places: Sequence[Place], system: System
) -> float:
  """Seconds that all runs of a collective take."""
  groups = collective.groups[:_SAMPLES].tolist()
  # Devices of one chip that are in different groups send over the same links.
  crowd = _crowd(collective.groups, places)
  slowest = max(
    _group_seconds(collective, [places[i] for i in group], system)
    for group in groups
  )
  return slowest * crowd * collective.times


def crosses(collective: Collective, places: Sequence[Place]) -> str:
  """The widest border that a group crosses: 'slices', 'hosts', 'chips', ''."""
  members = [[places[i] for i in g] for g in collective.groups.tolist()]
  for name, of in (
    ('slices', lambda p: p.slice),
    ('hosts', lambda p: (p.slice, p.host)),
    ('chips', lambda p: (p.slice, p.chip)),
  ):
    if any(len({of(place) for place in group}) > 1 for group in members):
      return name
  return ''


def _group_seconds(
  collective: Collective, group: Sequence[Place], system: System
) -> float:
  chips = {(place.slice, place.chip) for place in group}
  kind, size = collective.kind, collective.bytes
  if len(chips) == 1:  # between the cores of a chip, through its memory
    return _passes(kind) * size / system.memory_bandwidth
  # Members in a host of GPUs or in a slice of TPUs, and their number.
  gpu = system.platform == 'gpu'
  wholes = Counter(chip[0] if gpu else number for number, chip in chips)
  near, far = max(wholes.values()), len(wholes)
  # What all share is sent in parts; what is a chip's own, by that chip.
  senders = len(chips) // far if kind in _SHARED else 1
  levels = [0.0]
  if near > 1:
    bandwidth = (
      system.link_bandwidth
      if gpu
      else _torus_bandwidth([chip for _, chip in chips], system, kind)
    )
    levels.append(_seconds(kind, size, near, bandwidth))
  if far > 1:
    levels.append(_seconds(kind, size, far, senders * system.wide_bandwidth))
  return max(levels)


def _seconds(kind: str, size: float, members: int, bandwidth: float) -> float:
  if kind in ('collective-permute', 'collective-broadcast'):
    return size / bandwidth
  return _passes(kind) * size * (members - 1) / members / bandwidth


def _passes(kind: str) -> int:
  return 2 if kind == 'all-reduce' else 1


def _torus_bandwidth(chips: Sequence, system: System, kind: str) -> float:
  """Bytes a second past a chip, over the axes that a group extends along."""
  axes = []
  for axis, places in enumerate(zip(*chips, strict=True)):
    length = len(set(places))
    if length < 2:
      continue
    ring = length == system.topology[axis] and system.wraps[axis]
    links = 2 if ring else 1
    if kind == 'all-to-all':
      # Bytes go along a quarter of a ring, or load the middle of a line.
      links *= 4 / length
    axes.append(links * system.link_bandwidth)
  return min(axes) if kind == 'all-to-all' else sum(axes)


def _crowd(groups, places: Sequence[Place]) -> int:
  """The most groups that one chip is in."""
  if len(groups) == 1:
    return 1
  chips: dict = {}
  for number, group in enumerate(groups.tolist()):
    for i in group:
      key = (places[i].slice, places[i].chip)
      chips.setdefault(key, set()).add(number)
  return max(len(numbers) for numbers in chips.values())


def model_utilization(
  model_operations: float, seconds: float, system: System
) -> float:
  """MFU: useful operations of a step over what all chips could have done."""
  if not seconds or not math.isfinite(seconds):
    return 0.0
  return model_operations / (seconds * system.flops['bf16'] * system.chips)
