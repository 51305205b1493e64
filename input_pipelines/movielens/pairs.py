"""Pairs of a user and an item, in memory: kept small, and quickly looked up."""

import dataclasses
import functools

import numpy as np

_PAIRS_A_WORD = 2  # of the filter, at most: 1 % of what is no pair passes it
_MOST_WORDS = 1 << 27  # 1 GiB
_PIECE = 1 << 16  # pairs that are put into the filter at once
_FEW = 128  # of them, memory is faster than a hundred calls of NumPy


@dataclasses.dataclass(frozen=True)
class Interactions:
  """Items that every user chose.

  The pairs to train on are one number each, user * 2**32 + item: sorted by user
  and then item, and found with one access to memory.
  """

  users: int
  items: int
  keys: np.ndarray  # int64 [N], rising
  test_item: np.ndarray  # int32 [users], the one held out of every user

  def __post_init__(self):
    if not len(self.keys) or not (np.diff(self.keys) > 0).all():
      raise ValueError('Expected pairs to train on, sorted and each once.')
    if self.keys[0] < 0 or self.user[-1] >= self.users:
      raise ValueError(
        f'Expected users in [0, {self.users}), got '
        f'{self.keys[0] >> 32} to {self.keys[-1] >> 32}.'
      )
    if len(self.test_item) != self.users:
      raise ValueError(
        f'Expected a test item of each of {self.users} users, got '
        f'{len(self.test_item)}.'
      )
    for items in (self.item, self.test_item):
      if items.min() < 0 or items.max() >= self.items:
        raise ValueError(
          f'Expected items in [0, {self.items}), got {items.min()} to '
          f'{items.max()}.'
        )
    if (most := np.diff(self.offsets).max()) >= self.items:
      raise ValueError(
        f'Expected every user to leave some of the {self.items} items, one has '
        f'{most}.'
      )

  def __len__(self) -> int:
    return len(self.keys)

  @property
  def user(self) -> np.ndarray:
    """The users of the pairs, int32 [N]."""
    return (self.keys >> 32).astype(np.int32)

  @property
  def item(self) -> np.ndarray:
    """The items of the pairs, int32 [N]."""
    return self.keys.astype(np.int32)  # keeps the lower half

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    """Start of each user's pairs, then the end of all: int64 [users + 1]."""
    return np.searchsorted(self.keys, np.arange(self.users + 1) << 32)

  @functools.cached_property
  def _filter(self) -> '_Filter':
    return _Filter(self.keys)

  def holds(self, keys: np.ndarray) -> np.ndarray:
    """Mask of the pairs, int64 [M], that are trained on: bool [M]."""
    held = self._filter.passes(keys)
    doubtful = np.flatnonzero(held)
    held[doubtful] = self._find(keys[doubtful])
    return held

  def _find(self, keys: np.ndarray) -> np.ndarray:
    """The same without the filter: bool [M]."""
    if len(keys) < _FEW:
      at = np.searchsorted(self.keys, keys)
      return self.keys[np.minimum(at, len(self) - 1)] == keys
    # Bisection among the pairs of each user, of all the users at once.
    user = keys >> 32
    first, end = self.offsets[user], self.offsets[user + 1]
    last = end - 1
    while (first < end).any():
      middle = (first + end) >> 1
      below = self.keys[np.minimum(middle, last)] < keys
      # Past its end, `first` may rise on: then the pair is not there.
      first = np.where(below, middle + 1, first)
      end = np.where(below, end, middle)
    return self.keys[np.minimum(first, last)] == keys


class _Filter:
  """A Bloom filter: what it stops is no key, what it passes may be one.

  A key sets two bits of one word, so that one access to memory tells.
  """

  def __init__(self, keys: np.ndarray):
    words = min(_MOST_WORDS, 1 << (len(keys) // _PAIRS_A_WORD).bit_length())
    self._shift = np.uint64(65 - words.bit_length())
    self._words = np.zeros(words, np.uint64)
    for first in range(0, len(keys), _PIECE):
      word, bits = self._place(keys[first : first + _PIECE])
      np.bitwise_or.at(self._words, word, bits)

  def passes(self, keys: np.ndarray) -> np.ndarray:
    """int64 [M] -> bool [M], True of all that are there and of few others."""
    word, bits = self._place(keys)
    found = self._words.take(word, mode='clip')
    found &= bits
    return found == bits

  def _place(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The word, int64 [M], and its bits, uint64 [M], of each key."""
    mixed = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = self._bit(mixed, 6)
    bits |= self._bit(mixed, 12)
    mixed >>= self._shift  # the best mixed bits choose the word
    return mixed.view(np.int64), bits

  def _bit(self, mixed: np.ndarray, below: int) -> np.ndarray:
    """One of the 64 bits by the bits that lie so far below the word's."""
    bit = mixed >> (self._shift - np.uint64(below))
    bit &= np.uint64(63)
    return np.left_shift(np.uint64(1), bit, out=bit)


def key(user: np.ndarray, item: np.ndarray) -> np.ndarray:
  """Pairs as single numbers, int64 [N], that are sorted as the pairs are."""
  keys = user.astype(np.int64)
  keys <<= 32
  keys |= item.astype(np.int64, copy=False)
  return keys
