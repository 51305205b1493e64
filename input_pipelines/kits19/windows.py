"""Sliding windows over volumes, and how devices share them.

Windows overlap by half, so a volume is cut into tiles of half a window's side,
and a window is eight tiles. What a net says of a tile is the sum over all
windows that hold it. Windows come in the order of their places; a tile is begun
by the first window that holds it and complete with the last. Between these a
device keeps it in a slot, of which as many are needed as tiles are open at a
time: about as many as a plane of the volume has.

A volume stays on one lane, a device or a group of them, so that its sums do not
depend on how many lanes there are.
"""

from collections.abc import Sequence
import dataclasses
import heapq
import itertools

IGNORED = 255  # label of a voxel that a window does not complete

_OCTANTS = tuple(itertools.product((0, 1), repeat=3))
Cut = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Axis:
  """Windows along one axis of a volume."""

  first: int  # voxel of the volume where what is kept of it begins
  size: int  # voxels that are kept
  front: int  # voxels of padding before them
  tiles: int  # with padding

  @property
  def windows(self) -> int:
    """Their number."""
    return self.tiles - 1

  def overlap(self, start: int, stop: int) -> tuple[slice, slice]:
    """Part that is kept: of padded voxels, from 0 on, and of the volume."""
    low = max(start, self.front)
    high = max(low, min(stop, self.front + self.size))
    shift = self.first - self.front
    return slice(low - start, high - start), slice(low + shift, high + shift)


def axis_of(size: int, side: int) -> Axis:
  """The reference's way to make an axis a multiple of half a window.

  Less than a quarter of a window too much is cut off on both sides, anything
  else is padded on both sides, and to a whole window at least.
  """
  tile = side // 2
  cut = size % tile
  cut = cut if cut < tile // 2 else 0
  kept = size - cut
  pad = -kept % tile
  pad += tile if kept + pad < side else 0
  return Axis(cut // 2, kept, pad // 2, (kept + pad) // tile)


@dataclasses.dataclass(frozen=True)
class Window:
  """One window, and what becomes of its eight tiles."""

  volume: int
  number: int  # of the volume's windows
  slots: tuple[int, ...]  # of each tile
  begins: tuple[bool, ...]  # whether it is the first that holds the tile
  # Voxels in the window and in the volume: all of them, and those of each tile
  # that it completes.
  overlap: tuple[Cut, Cut]
  completed: tuple[tuple[Cut, Cut], ...]


class Lanes:
  """The windows of some volumes, shared out to lanes in equal steps.

  The longest volumes are given out first, each to the lane that has least. In a
  step each lane has as many rows as the others; what is left of the shorter
  ones is None.
  """

  def __init__(
    self,
    shapes: Sequence[Sequence[int]],
    *,
    side: int,
    lanes: int,
    batch_size: int,
  ):
    """A batch of `batch_size` rows has those of one lane after another's."""
    self.side = side
    self._each = batch_size // lanes  # rows of a lane
    volumes = [over(i, shape, side) for i, shape in enumerate(shapes)]
    volumes.sort(key=len, reverse=True)  # stable
    self._windows = [[] for _ in range(lanes)]
    least = [(0, lane) for lane in range(lanes)]
    for windows in volumes:
      count, lane = heapq.heappop(least)
      self._windows[lane] += windows
      heapq.heappush(least, (count + len(windows), lane))
    self.steps = max(-(-len(each) // self._each) for each in self._windows)

  @property
  def slots(self) -> int:
    """Slots that a lane needs."""
    return 1 + max(
      slot for each in self._windows for w in each for slot in w.slots
    )

  @property
  def efficiency(self) -> float:
    """Share of all rows that are windows."""
    windows = sum(map(len, self._windows))
    return windows / (self.steps * self._each * len(self._windows))

  def rows(
    self, step: int, *, host: int = 0, hosts: int = 1
  ) -> list[Window | None]:
    """The rows of a batch that fall to a host; it has whole lanes."""
    share = len(self._windows) // hosts
    first = step * self._each
    rows = []
    for windows in self._windows[host * share : (host + 1) * share]:
      found = windows[first : first + self._each]
      rows += found + [None] * (self._each - len(found))
    return rows


def over(volume: int, shape: Sequence[int], side: int) -> list[Window]:
  """The windows of a volume in order, with a slot for every open tile."""
  axes = [axis_of(size, side) for size in shape]
  tile = side // 2
  slots: dict[tuple[int, ...], int] = {}  # of open tiles
  free, windows = [], []
  places = itertools.product(*(range(axis.windows) for axis in axes))
  for number, place in enumerate(places):
    start = [i * tile for i in place]
    keys = [
      tuple(map(sum, zip(place, octant, strict=True))) for octant in _OCTANTS
    ]
    begins = tuple(key not in slots for key in keys)
    for key in keys:
      if key not in slots:
        slots[key] = heapq.heappop(free) if free else len(slots)
    of_tiles = tuple(slots[key] for key in keys)
    complete = [
      key
      for key in keys
      if all(
        i == min(t, axis.windows - 1)
        for i, t, axis in zip(place, key, axes, strict=True)
      )
    ]
    for key in complete:
      heapq.heappush(free, slots.pop(key))
    windows.append(
      Window(
        volume,
        number,
        of_tiles,
        begins,
        _cut(axes, start, start, side),
        tuple(
          _cut(axes, start, [t * tile for t in key], tile) for key in complete
        ),
      )
    )
  return windows


def _cut(
  axes: Sequence[Axis], start: Sequence[int], first: Sequence[int], length: int
) -> tuple[Cut, Cut]:
  """Voxels from `first` on, in the window that begins at `start`, and there."""
  inside, there = [], []
  for axis, begin, low in zip(axes, start, first, strict=True):
    here, of_volume = axis.overlap(low, low + length)
    inside.append(slice(here.start + low - begin, here.stop + low - begin))
    there.append(of_volume)
  return tuple(inside), tuple(there)
