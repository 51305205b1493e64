"""Brings clicks to random places: into buckets on disk, then each in order.

A bucket holds what becomes a shard of the data set, in the order it came in,
each click with its place. It fits into memory, where it is put in order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import json
import os

import numpy as np

from input_pipelines.criteo import CATEGORIES, COUNTS, scratch
from input_pipelines.reading import random_access
from input_pipelines.writing import files, work

# A click in a bucket; `place` is that among all of them.
ROW = np.dtype(
  [
    ('place', '<u4'),
    ('label', '<u4'),
    ('counts', '<i4', COUNTS),
    ('ids', '<i4', CATEGORIES),
  ]
)
_PIECE = 1 << 20  # clicks that are brought to their buckets at once


def two_pass(rows: Sequence[int], seed: int) -> Iterator[np.ndarray]:
  """Places of the clicks of each day, uint32 [rows], by two passes.

  Every click goes to a file that is drawn among those which are not full; there
  are as many and as large ones as days. Then each file gets a random order.
  """
  draws = np.random.default_rng(seed)
  first = np.cumsum([0, *rows[:-1]])
  orders = [random_access.Order(n, seed, day) for day, n in enumerate(rows)]
  used = np.zeros(len(rows), np.int64)
  for of_day in rows:
    places = np.empty(of_day, np.uint32)
    for at in range(0, of_day, _PIECE):
      end = min(at + _PIECE, of_day)
      file, nth = _drawn(draws, used, np.asarray(rows), end - at)
      for number, order in enumerate(orders):
        chosen = np.flatnonzero(file == number)
        places[at + chosen] = first[number] + order(nth[chosen])
    yield places


def _drawn(
  draws: np.random.Generator, used: np.ndarray, rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Files of some clicks, and how many came to each before: int64 [count].

  Adds them to `used`, int64 [files].
  """
  file, nth = np.empty((2, count), np.int64)
  at = 0
  while at < count:
    free = np.flatnonzero(used < rows)
    drawn = free[draws.integers(len(free), size=count - at)]
    before = used[drawn] + _nth_of_its_kind(drawn, len(rows))
    over = np.flatnonzero(before >= rows[drawn])
    # Those after the first that finds its file full draw again.
    taken = over[0] if len(over) else len(drawn)
    file[at : at + taken], nth[at : at + taken] = drawn[:taken], before[:taken]
    used += np.bincount(drawn[:taken], minlength=len(rows))
    at += taken
  return file, nth


def _nth_of_its_kind(kinds: np.ndarray, count: int) -> np.ndarray:
  """Counts equal ones before each: int64 [N] -> int64 [N]."""
  order = np.argsort(kinds.astype(np.uint16), kind='stable')
  sizes = np.bincount(kinds, minlength=count)
  nth = np.empty(len(kinds), np.int64)
  nth[order] = np.arange(len(kinds)) - np.repeat(
    np.cumsum(sizes) - sizes, sizes
  )
  return nth


def seeded(
  rows: Sequence[int],
  seed: int,
  folder: str,
  progress: work.Progress | None = None,
) -> Iterator[np.ndarray]:
  """Places of the clicks of each day by NumPy's `seed` and `shuffle`.

  They are made once, in memory or files of twice 4 bytes a click, and kept in
  `folder`. `progress` is told of the clicks, of which the first half is drawn
  in one call.
  """
  path, total = os.path.join(folder, 'places'), sum(rows)
  if not os.path.exists(path):
    places = _drawn_at_once(total, seed, folder, progress or (lambda *_: None))
    with files.replacing(path) as file:
      places.tofile(file)
  ends = np.cumsum(rows)
  places = np.memmap(path, np.uint32, 'r', shape=(total,))
  for first, end in zip(ends - rows, ends, strict=True):
    yield np.asarray(places[first:end])


def _drawn_at_once(
  total: int, seed: int, folder: str, progress: work.Progress
) -> np.ndarray:
  """The place of each click by NumPy's shuffle of all: uint32 [total]."""
  progress(0, total)
  source = scratch.zeros(total, np.uint32, folder)
  for at in range(0, total, _PIECE):
    source[at : at + _PIECE] = np.arange(at, min(at + _PIECE, total))
  np.random.RandomState(seed).shuffle(source)
  places = scratch.zeros(total, np.uint32, folder)
  for at in range(0, total, _PIECE):
    piece = source[at : at + _PIECE]
    places[piece] = np.arange(at, at + len(piece), dtype=np.uint32)
    progress((total + at + len(piece)) // 2, total)
  return places


class Buckets:
  """Files of clicks: bucket i has the places from ends[i - 1] to ends[i]."""

  def __init__(self, folder: str, ends: Sequence[int]):
    """`ends` is rising."""
    self._folder = folder
    self._ends = np.asarray(ends)

  def fill(
    self,
    places: Iterable[np.ndarray],
    clicks: Callable[[int, int, int], np.ndarray],
    *,
    threads: int | None = None,
    progress: work.Progress | None = None,
  ) -> None:
    """Brings all clicks to their buckets; resumes after the last whole day.

    Args:
      places: of each day, uint32 [rows]; clicks without a place are cut off.
      clicks: called with day, first and end: those as `ROW`, without place.
      threads: that bring a piece each; None for one a core.
      progress: told of the clicks.
    """
    os.makedirs(self._folder, exist_ok=True)
    sizes, done = self._resume(), 0
    for number, of_day in enumerate(places):
      if number >= len(sizes):
        pieces = range(0, len(of_day), _PIECE)
        work.each(
          lambda at, tick, n=number, p=of_day: tick(
            self._scatter(clicks, n, at, p[at : at + _PIECE])
          ),
          pieces,
          whole=int(self._ends[-1]),
          done=done,
          threads=threads,
          progress=progress,
        )
        sizes.append(self._sizes())
        files.write_json(self._journal, sizes)
      done += len(of_day)

  def read(self, bucket: int) -> np.ndarray:
    """The clicks of a bucket by place: `ROW` [R]; ValueError if one lacks."""
    first = self._ends[bucket - 1] if bucket else 0
    found = np.fromfile(self._path(bucket), ROW)
    at = found['place'].astype(np.int64) - first
    ordered = np.empty(self._ends[bucket] - first, ROW)
    if len(found) != len(ordered) or np.bincount(at).max(initial=0) > 1:
      raise ValueError(
        f'Expected {len(ordered)} clicks, each at its place, in '
        f'{self._path(bucket)}, got {len(found)}: remove {self._folder} and '
        'run this again.'
      )
    ordered[at] = found
    return ordered

  def between(self, first: int, end: int) -> Iterator[np.ndarray]:
    """Yields the clicks of places first to end, a bucket or less at a time."""
    bucket = int(np.searchsorted(self._ends, first, 'right'))
    while first < end:
      begin = int(self._ends[bucket - 1]) if bucket else 0
      part = self.read(bucket)[first - begin : end - begin]
      yield part
      first += len(part)
      bucket += 1

  @property
  def _journal(self) -> str:
    return os.path.join(self._folder, 'sizes.json')

  def _path(self, bucket: int) -> str:
    return os.path.join(self._folder, f'bucket_{bucket:05d}')

  def _sizes(self) -> list[int]:
    """Bytes of all buckets, which are on the disk then."""
    sizes = []
    for bucket in range(len(self._ends)):
      with open(self._path(bucket), 'ab') as file:
        os.fsync(file.fileno())
        sizes.append(file.tell())
    return sizes

  def _resume(self) -> list[list[int]]:
    """Sizes after each whole day; cuts off what came after the last."""
    sizes = []
    if os.path.exists(self._journal):
      with open(self._journal, encoding='utf-8') as file:
        sizes = json.load(file)
    last = sizes[-1] if sizes else itertools.repeat(0)
    for bucket, size in zip(range(len(self._ends)), last, strict=False):
      with open(self._path(bucket), 'ab') as file:
        file.truncate(size)
    return sizes

  def _scatter(self, clicks, day: int, at: int, places: np.ndarray) -> int:
    """Appends clicks to their buckets -> how many."""
    rows = clicks(day, at, at + len(places))
    rows['place'] = places
    bucket = np.searchsorted(self._ends, places, 'right').astype(np.uint16)
    rows = rows[np.argsort(bucket, kind='stable')]
    sizes = np.bincount(bucket, minlength=len(self._ends))
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes).tolist():
      part = rows[ends[number] - sizes[number] : ends[number]]
      # One call, so that those of other threads do not come between.
      with open(self._path(number), 'ab', buffering=0) as file:
        if file.write(part.data) != part.nbytes:
          raise OSError(f'Expected room for {self._path(number)}, got none.')
    return len(places)
