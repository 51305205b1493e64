"""Several sentence pairs in a row: little padding, and one shape.

Which pairs share a row is found once, from their lengths alone, in windows of a
fixed random order, and is the same for all seeds and hosts; so the number of
steps is known before the data. Every epoch shuffles the rows.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from input_pipelines.reading import random_access
from input_pipelines.text import buckets

_WINDOW = 2048  # pairs
_AT_ONCE = 256  # windows
_ORDER = 0x70616B  # the seed of the order that windows are cut from


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of pairs."""

  members: np.ndarray  # int64 [K], pairs, row after row
  ends: np.ndarray  # int64 [R], where each row's end

  def __len__(self) -> int:
    return len(self.ends)


def pack(
  pairs: np.ndarray,
  lengths: np.ndarray,
  room: tuple[int, int],
  *,
  window: int = _WINDOW,
  progress: Callable[[int, int], None] | None = None,
) -> Rows:
  """Puts pairs into rows: of each window the longest first, where they fit.

  All windows are at their n-th pair at the same time, which is what makes this
  quick: a few seconds for the millions of pairs of WMT.

  Args:
    pairs: their numbers, int64 [K].
    lengths: of their sides, int64 [K, 2], none longer than a row.
    room: what a row holds of each side.
    window: pairs that may share rows.
    progress: told of the pairs that are done, and of all of them.
  """
  if (lengths.max(axis=0) > room).any():
    raise ValueError(
      f'Expected sides of {room} tokens or fewer, got '
      f'{tuple(lengths.max(axis=0).tolist())}.'
    )
  order = random_access.Order(len(pairs), _ORDER)(np.arange(len(pairs)))
  order = order.astype(np.int64)
  members, counts = [], []
  for first in range(0, len(pairs), window * _AT_ONCE):
    chunk = order[first : first + window * _AT_ONCE]
    chosen, rows = _pack_windows(lengths[chunk], room, window)
    members.append(pairs[chunk[chosen]])
    counts.append(rows)
    if progress:
      progress(first + len(chunk), len(pairs))
  return Rows(np.concatenate(members), np.cumsum(np.concatenate(counts)))


def _pack_windows(
  lengths: np.ndarray, room: tuple[int, int], window: int
) -> tuple[np.ndarray, np.ndarray]:
  """Packs several windows: members, int64 [K], and members of each row."""
  windows = -(-len(lengths) // window)
  # What fills the last window up takes no room, and is left out in the end.
  sides = np.zeros((windows * window, 2), np.int64)
  sides[: len(lengths)] = lengths
  sides = sides.reshape(windows, window, 2)
  by_length = np.argsort(-sides.max(axis=2), axis=1, kind='stable')
  sides = np.take_along_axis(sides, by_length[..., None], axis=1)
  row = _first_fit(sides.astype(np.int32), room)
  pair = by_length + np.arange(windows)[:, None] * window
  # Rows by window and number; the sort keeps the longest first within a row.
  key = (row + np.arange(windows)[:, None] * window).ravel()
  inside = pair.ravel() < len(lengths)
  key, pair = key[inside], pair.ravel()[inside]
  by_row = np.argsort(key, kind='stable')
  _, counts = np.unique(key, return_counts=True)
  return pair[by_row], counts


def _first_fit(sides: np.ndarray, room: tuple[int, int]) -> np.ndarray:
  """The first row with room for each pair: int [W, P, 2] -> int64 [W, P]."""
  windows, count, _ = sides.shape
  every = np.arange(windows)
  # What is left of the rows, int32 [W, R] for each side.
  source, target = (np.full((windows, 16), most, np.int32) for most in room)
  row = np.empty((windows, count), np.int64)
  for i in range(count):
    need = sides[:, i, 0, None], sides[:, i, 1, None]
    fits = (source >= need[0]) & (target >= need[1])
    found = fits.argmax(axis=1)
    if not fits[every, found].all():  # all rows of a window are too full
      found = np.where(fits[every, found], found, source.shape[1])
      source, target = (
        np.pad(left, ((0, 0), (0, left.shape[1])), constant_values=most)
        for left, most in zip((source, target), room, strict=True)
      )
    source[every, found] -= need[0][:, 0]
    target[every, found] -= need[1][:, 0]
    row[:, i] = found
  return row


def shared_evenly(
  shape: tuple[int, int], sequences: int
) -> tuple[np.ndarray, np.ndarray]:
  """Rows [R, L] full of so many equal sequences, whatever their tokens are.

  Returns:
    The number of each token's sequence in its row, from 1, and its place in
    that sequence, both int32 [R, L].
  """
  place = np.arange(shape[1], dtype=np.int32)
  number, within = np.divmod(place, -(-shape[1] // sequences))
  return (
    np.broadcast_to(1 + number, shape).copy(),
    np.broadcast_to(within, shape).copy(),
  )


def deal(counts: np.ndarray, batches: int, samples: int) -> list[np.ndarray]:
  """Rows with so many samples each -> those of every batch, as many samples.

  Rows are dealt out by their counts, and then exchanged where a batch has too
  many; so batches have equally many rows, but for one.

  Args:
    counts: int64 [R], of all batches together.
    batches: how many.
    samples: of each.

  Returns:
    The numbers of the rows, for each batch.
  """
  order = np.argsort(-counts, kind='stable')
  turns = np.arange(len(order)) // batches
  seat = np.arange(len(order)) % batches
  dealt = np.where(turns % 2, batches - 1 - seat, seat)
  held = [list(order[dealt == batch]) for batch in range(batches)]
  for _ in range(len(counts)):
    sums = np.array([counts[rows].sum() for rows in held])
    more, less = int(sums.argmax()), int(sums.argmin())
    if sums[more] == sums[less] == samples:
      return [np.array(rows) for rows in held]
    if not _exchange(counts, held[more], held[less], sums[more] - samples):
      break
  raise ValueError(
    f'Expected rows that {batches} batches of {samples} samples share, got '
    f'rows of {sorted({*counts.tolist()})} samples.'
  )


def _exchange(counts, more: list[int], less: list[int], surplus: int) -> bool:
  """Exchanges a row for one with fewer samples, of as much as may be."""
  one, other = (
    {int(counts[row]): i for i, row in enumerate(rows)} for rows in (more, less)
  )
  choices = [
    (count - fewer, i, j)
    for count, i in one.items()
    for fewer, j in other.items()
    if 0 < count - fewer <= max(1, surplus)
  ]
  if not choices:
    return False
  _, i, j = max(choices)
  more[i], less[j] = less[j], more[i]
  return True


class Packed:
  """Batches of rows of several pairs each; see buckets.Plan."""

  packed = True

  def __init__(
    self,
    lengths: np.ndarray,
    shape: buckets.Shape,
    *,
    max_length: int,
    method: str = buckets.DISCARD,
    progress: Callable[[int, int], None] | None = None,
  ):
    """`lengths` of both sides of all pairs, int [N, 2]; packs them."""
    self.max_length = max_length
    self.shapes = (shape,)
    pairs, sides = buckets.pair_lengths(
      lengths, max_length=max_length, method=method
    )
    room = (shape.source, shape.target)
    self.pairs = len(pairs)
    self.rows = pack(pairs, sides, room, progress=progress)
    self.steps = -(-len(self.rows) // shape.rows)
    self._epochs = buckets.Epochs(self._epoch)

  def group(self, seed: int, step: int) -> buckets.Group:
    """See buckets.Plan."""
    epoch, step = divmod(step, self.steps)
    shape = self.shapes[0]
    rows = self._epochs(seed, epoch)[
      step * shape.rows : (step + 1) * shape.rows
    ]
    ends = self.rows.ends
    first = np.where(rows > 0, ends[rows - 1], 0)
    counts = ends[rows] - first
    row = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    members = self.rows.members[np.repeat(first, counts) + within]
    return buckets.Group(shape, members, row)

  def _epoch(self, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch, int64 [R]."""
    places = np.arange(len(self.rows))
    order = random_access.Order(len(places), seed, epoch)(places)
    return order.astype(np.int64)
