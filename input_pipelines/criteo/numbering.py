"""Numbers the values of columns from 0 on, in order of first appearance."""

from collections.abc import Callable, Sequence
import os

import numpy as np

from input_pipelines.criteo import CATEGORIES
from input_pipelines.criteo.days import Day
from input_pipelines.writing import files, work

_PIECE = 1 << 20  # values that are looked up at once
_VALUE = np.uint64(32)  # bits below the value in a slot
_FACTOR = np.uint32(0x9E3779B1)  # odd, near 2**32 over the golden ratio


class Numbers:
  """Numbers values as they come; its memory follows those that are different.

  A table of slots, each a value and one more than its number, or 0. A value is
  in the first slot from its own on that no other had taken before.
  """

  def __init__(self):
    self.count = 0
    self._bits = 10  # of the number of a slot
    self._slots = np.zeros(1 << self._bits, np.uint64)

  def __call__(self, values: np.ndarray) -> np.ndarray:
    """Numbers of values: uint32 [N] -> uint32 [N]."""
    found, unknown = self._find(values)
    if len(unknown):
      distinct, first = np.unique(values[unknown], return_index=True)
      self._add(distinct[np.argsort(first)])
      found[unknown] = self._find(values[unknown])[0]
    return found

  def _find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, uint32 [N], and which have none, rising, int64 [M]."""
    found = np.zeros(len(values), np.uint32)
    left, wanted, slot = np.arange(len(values)), values, self._first(values)
    unknown = []
    while len(left):
      held = self._slots[slot]
      is_it = (held >> _VALUE).astype(np.uint32) == wanted
      is_it &= held != 0
      found[left] = np.where(is_it, held.astype(np.uint32) - 1, 0)
      unknown.append(left[held == 0])
      more = np.flatnonzero(~is_it & (held != 0))
      left, wanted = left[more], wanted[more]
      slot = (slot[more] + 1) & (len(self._slots) - 1)
    return found, np.sort(np.concatenate(unknown))

  def _add(self, values: np.ndarray) -> None:
    """Numbers different values, uint32 [N], that have none, in their order."""
    self.count += len(values)
    if 2 * self.count > len(self._slots):
      held = self._slots[self._slots != 0]
      self._bits = (2 * self.count - 1).bit_length()
      self._slots = np.zeros(1 << self._bits, np.uint64)
      for first in range(0, len(held), _PIECE):
        self._place(held[first : first + _PIECE])
    numbers = self.count - len(values) + 1 + np.arange(len(values))
    entries = values.astype(np.uint64) << _VALUE
    self._place(entries | numbers.astype(np.uint64))

  def _place(self, entries: np.ndarray) -> None:
    """Puts entries, uint64 [N], of different values into free slots."""
    slot = self._first((entries >> _VALUE).astype(np.uint32))
    while len(entries):
      free = self._slots[slot] == 0
      self._slots[slot[free]] = entries[free]  # the last of several remains
      left = self._slots[slot] != entries
      entries = entries[left]
      slot = (slot[left] + 1) & (len(self._slots) - 1)

  def _first(self, values: np.ndarray) -> np.ndarray:
    """The slot where each value is looked for first: int64 [N]."""
    mixed = values * _FACTOR >> np.uint32(32 - self._bits)
    return mixed.astype(np.int64)


def number(
  days: Sequence[Day],
  folder: str,
  *,
  limit: int,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> list[int]:
  """Numbers all columns, those in a folder excepted -> how many values each.

  Args:
    days: in their order.
    folder: where each column gets a file of numbers, day after day.
    limit: values are taken modulo this, at most 2**32.
    threads: that number a column each; None for one a core.
    progress: told of the values.
  """
  os.makedirs(folder, exist_ok=True)
  rows = sum(day.rows for day in days)
  missing = [c for c in range(CATEGORIES) if _read(folder, c) is None]
  work.each(
    lambda column, tick: _number(days, folder, column, limit, tick),
    missing,
    whole=CATEGORIES * rows,
    done=(CATEGORIES - len(missing)) * rows,
    threads=threads,
    progress=progress,
  )
  return [_read(folder, column) for column in range(CATEGORIES)]


def numbered(days: Sequence[Day], folder: str) -> Callable:
  """A function of a day and a column -> its numbers, uint32 [rows], on disk."""
  firsts = np.cumsum([0, *(day.rows for day in days)])
  of_day = {day.folder: firsts[i] for i, day in enumerate(days)}
  columns = [
    np.asarray(np.memmap(_path(folder, column), np.uint32, 'r'))
    for column in range(CATEGORIES)
  ]

  def find(day: Day, column: int) -> np.ndarray:
    first = of_day[day.folder]
    return columns[column][first : first + day.rows]

  return find


def _path(folder: str, column: int) -> str:
  return os.path.join(folder, f'numbers_{column:02d}')


def _read(folder: str, column: int) -> int | None:
  """Number of values of a column; None where it is not numbered."""
  try:
    with open(f'{_path(folder, column)}.count', encoding='utf-8') as file:
      return int(file.read())
  except FileNotFoundError:
    return None


def _number(
  days: Sequence[Day], folder: str, column: int, limit: int, tick: work.Tick
) -> None:
  numbers = Numbers()
  with open(_path(folder, column), 'wb') as file:
    for day in days:
      values = day.column(column)
      for first in range(0, day.rows, _PIECE):
        piece = np.array(values[first : first + _PIECE])
        if limit < 2**32:
          piece %= np.uint32(limit)
        file.write(numbers(piece).data)
        tick(len(piece))
  files.write_json(f'{_path(folder, column)}.count', numbers.count)
  for day in days:
    day.remove(column)
