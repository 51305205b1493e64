"""Sentences of like length together: a few shapes, known before any data.

A sentence pair is as long as the longer of its sides. Every length has a
bucket; the batches of a bucket have one shape. Which pairs make up the batch of
a step depends on the seed and the step alone, and is the same on all hosts.
"""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import threading
from typing import Protocol

import numpy as np

from input_pipelines.reading import random_access

DISCARD, TRUNCATE = 'discard', 'truncate'
METHODS = (DISCARD, TRUNCATE)


@dataclasses.dataclass(frozen=True)
class Shape:
  """Shape of a global batch."""

  rows: int
  source: int  # tokens of a row
  target: int


@dataclasses.dataclass(frozen=True)
class Group:
  """The pairs of a global batch, and the row of each."""

  shape: Shape
  members: np.ndarray  # int64 [M], of all pairs
  row: np.ndarray  # int64 [M], rising


class Plan(Protocol):
  """Pairs that make up the batch of a step."""

  steps: int  # of an epoch
  pairs: int  # of an epoch
  max_length: int  # tokens of a side; what is longer is cut
  packed: bool  # whether several pairs share a row

  def group(self, seed: int, step: int) -> Group:
    """Returns the batch of a step, counted from 0 over all epochs."""


def shapes(
  tokens: int,
  max_length: int,
  *,
  first: int = 8,
  scale: float = 1.1,
  multiple: int = 1,
) -> tuple[Shape, ...]:
  """The shapes of all buckets, the shortest first.

  A bucket ends before `first`, the next before a length that is `scale` times
  that, or 1 longer; the last one holds `max_length`. As in the reference, rows
  are the tokens divided by that end, one more than the longest of the bucket.

  Args:
    tokens: of a side of a global batch, at most.
    max_length: of the longest pair.
    first: where the first bucket ends.
    scale: from one end to the next.
    multiple: rows are rounded down to a multiple of this.
  """
  if first < 2 or scale < 1 or max_length < 1 or multiple < 1:
    raise ValueError(
      'Expected first >= 2, scale, max_length and multiple >= 1, got '
      f'{first}, {scale}, {max_length} and {multiple}.'
    )
  ends = []
  end = first
  while end < max_length:
    ends.append(end)
    end = max(end + 1, int(end * scale))
  ends.append(max_length + 1)
  if tokens // ends[-1] < multiple:
    raise ValueError(
      f'Expected tokens for {multiple} rows of {ends[-1]}, got {tokens}.'
    )
  return tuple(
    Shape(tokens // end // multiple * multiple, end - 1, end - 1)
    for end in ends
  )


def equal_shapes(
  rows: int, max_length: int, *, count: int
) -> tuple[Shape, ...]:
  """Shapes of buckets of equal width, all of as many rows.

  A bucket ends before a multiple of the width, the last one with `max_length`.
  """
  width = -(-max_length // count)
  ends = {*range(width - 1, max_length, width)[: count - 1], max_length}
  return tuple(Shape(rows, end, end) for end in sorted(ends - {0}))


def pair_lengths(
  lengths: np.ndarray, *, max_length: int, method: str = DISCARD
) -> tuple[np.ndarray, np.ndarray]:
  """The pairs that are trained on, and how long their sides are then.

  Args:
    lengths: tokens of both sides, int [N, 2].
    max_length: of a side.
    method: for a pair with a longer side, 'discard' or 'truncate'.

  Returns:
    The numbers of the pairs, int64 [K], and their lengths, int64 [K, 2].
  """
  if method not in METHODS:
    raise ValueError(f'Expected a method of {METHODS}, got {method!r}.')
  if method == TRUNCATE:
    kept = np.arange(len(lengths))
  else:
    kept = np.flatnonzero(lengths.max(axis=1) <= max_length)
  if not len(kept):
    raise ValueError(
      f'Expected pairs of {max_length} tokens or fewer, got {len(lengths)} '
      'pairs that are longer.'
    )
  return kept, np.minimum(lengths[kept], max_length).astype(np.int64)


class Bucketed:
  """Batches of pairs of like length; see Plan.

  An epoch visits the pairs in a new order. A batch is due as soon as pairs fill
  it; batches that are not full are due at the end, the shortest first, so that
  an epoch holds every pair once.
  """

  packed = False

  def __init__(
    self,
    lengths: np.ndarray,
    shapes: Sequence[Shape],
    *,
    max_length: int,
    method: str = DISCARD,
  ):
    """`lengths` of both sides of all pairs, int [N, 2]; `shapes` rise."""
    ends = [min(shape.source, shape.target) for shape in shapes]
    if max_length > ends[-1]:
      raise ValueError(
        f'Expected a shape of {max_length} tokens, got {ends[-1]} as the '
        'longest.'
      )
    self.max_length = max_length
    self.shapes = tuple(shapes)
    self._pairs, sides = pair_lengths(
      lengths, max_length=max_length, method=method
    )
    self.pairs = len(self._pairs)
    longest = sides.max(axis=1)
    self._bucket = np.searchsorted(ends, longest).astype(np.uint16)
    self._rows = np.array([shape.rows for shape in shapes])
    self._count = np.bincount(self._bucket, minlength=len(shapes))
    # Where each bucket's pairs begin, once they are sorted by bucket.
    self._begin = np.cumsum(self._count) - self._count
    self.steps_of_shape = -(-self._count // self._rows)
    self.steps = int(self.steps_of_shape.sum())
    self._epochs = Epochs(self._epoch)

  def group(self, seed: int, step: int) -> Group:
    """See Plan."""
    epoch, step = divmod(step, self.steps)
    order, batches = self._epochs(seed, epoch)
    bucket, nth = batches[step]
    rows = self._rows[bucket]
    first = self._begin[bucket] + nth * rows
    end = min(first + rows, self._begin[bucket] + self._count[bucket])
    members = self._pairs[order[first:end]]
    return Group(self.shapes[bucket], members, np.arange(len(members)))

  def _epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs by bucket, int [K], and bucket and number of each batch."""
    places = np.arange(len(self._pairs))
    order = random_access.Order(len(places), seed, epoch)(places)
    by_bucket = np.argsort(self._bucket[order], kind='stable')
    batches, filled = [], []
    for bucket, rows in enumerate(self._rows):
      nth = np.arange(self.steps_of_shape[bucket])
      batches.append(np.stack([np.full_like(nth, bucket), nth], axis=1))
      # Where in the epoch the last of each batch's rows stands.
      whole = self._count[bucket] // rows
      last = self._begin[bucket] + (nth[:whole] + 1) * rows - 1
      rest = np.full(len(nth) - whole, len(order))
      filled += [by_bucket[last], rest]
    by_time = np.argsort(np.concatenate(filled), kind='stable')
    return order[by_bucket], np.concatenate(batches)[by_time]


class Full(Bucketed):
  """Full batches alone, in random order; see Plan.

  An epoch leaves out the pairs that fill no batch of their bucket: others each
  time.
  """

  def __init__(self, lengths: np.ndarray, shapes: Sequence[Shape], **how):
    """As of Bucketed."""
    super().__init__(lengths, shapes, **how)
    self.steps_of_shape = self._count // self._rows
    self.steps = int(self.steps_of_shape.sum())
    self.pairs = int((self.steps_of_shape * self._rows).sum())
    if not self.steps:
      raise ValueError(
        f'Expected pairs for a batch of {self._rows.min()} of one length, got '
        f'{self._count.max()}.'
      )

  def _epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """See Bucketed."""
    order, batches = super()._epoch(seed, epoch)
    batches = batches[np.lexsort((batches[:, 1], batches[:, 0]))]
    places = np.arange(len(batches))
    return order, batches[random_access.Order(len(places), seed, epoch)(places)]


class Epochs:
  """Makes the data of an epoch once, one epoch ahead, and keeps the last.

  Safe in threads.
  """

  def __init__(self, make):
    """`make(seed, epoch)`."""
    self._make = make
    self._lock = threading.Lock()
    self._made: dict[tuple[int, int], futures.Future] = {}
    self._pool = futures.ThreadPoolExecutor(1)

  def __call__(self, seed: int, epoch: int):
    with self._lock:
      wanted = [(seed, epoch), (seed, epoch + 1)]
      for each in wanted:
        if each not in self._made:
          self._made[each] = self._pool.submit(self._make, *each)
      # Other threads may still make the last batches of the previous epoch.
      keep = [(seed, epoch - 1), *wanted]
      self._made = {k: v for k, v in self._made.items() if k in keep}
      found = self._made[wanted[0]]
    return found.result()
