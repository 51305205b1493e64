"""Random orders and random numbers that are computed place by place.

What stands at a place depends on the seed and the place alone. So any rows of
an epoch can be made anywhere, in any order, and nothing as long as an epoch is
kept in memory.
"""

import numpy as np

# Odd factors with well mixed bits: those of MurmurHash3 and of SplitMix64.
_ROUND_32 = (0x85EBCA6B, 0xC2B2AE35, 0xCC9E2D51, 0x1B873593)
_ROUND_64 = (
  0xFF51AFD7ED558CCD,
  0xC4CEB9FE1A85EC53,
  0x87C37B91114253D5,
  0x4CF5AD432745937F,
)
_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_MOST = 2**63
_SHORT = 4096  # up to which an order is simply kept


def keys(count: int, *seed: int) -> np.ndarray:
  """Independent keys of a seed of some numbers from 0 on: uint64 [count]."""
  return np.random.SeedSequence(seed).generate_state(count, np.uint64)


class Order:
  """A random order of 0, 1, ..., length - 1.

  Rounds of addition, multiplication and shift map the numbers of as many bits
  as the last one has onto themselves, one to one. What is mapped past the end
  is mapped again until it is not, less than twice on average. Of so few bits
  that this mixes them badly, the whole order is kept.
  """

  def __init__(self, length: int, *seed: int):
    """`seed` is one number from 0 on, or several."""
    if not 1 <= length <= _MOST:
      raise ValueError(f'Expected a length in [1, 2**63], got {length}.')
    self.length = length
    self._kept = None
    if length <= _SHORT:
      shuffled = np.random.default_rng(seed).permutation(length)
      self._kept = shuffled.astype(np.uint32)
    bits = max(2, (length - 1).bit_length())
    self.dtype = np.dtype(np.uint32 if bits <= 32 else np.uint64)
    number = self.dtype.type
    mask = (1 << bits) - 1
    self._mask = None if bits == 8 * self.dtype.itemsize else number(mask)
    self._shift = number((bits + 1) // 2)
    factors = _ROUND_32 if bits <= 32 else _ROUND_64
    added = keys(len(factors), *seed)
    self._rounds = [
      (number(int(add) & mask), number(factor))
      for add, factor in zip(added, factors, strict=True)
    ]

  def __call__(self, places: np.ndarray) -> np.ndarray:
    """Values at places in [0, length): [N] -> uint32 or uint64 [N]."""
    if self._kept is not None:
      return self._kept[places]
    found = self._scramble(places.astype(self.dtype))
    past = np.flatnonzero(found >= self.length)
    while len(past):
      again = self._scramble(found[past])
      found[past] = again
      past = past[again >= self.length]
    return found

  def _scramble(self, x: np.ndarray) -> np.ndarray:
    """Maps one to one, in place."""
    high = np.empty_like(x)
    for add, factor in self._rounds:
      x += add
      x *= factor
      if self._mask is not None:
        x &= self._mask
      np.right_shift(x, self._shift, out=high)
      x ^= high
    return x


def below(limit: int, key: np.uint64, counters: np.ndarray) -> np.ndarray:
  """A random number in [0, limit) for each counter, limit <= 2**32.

  One number is likelier than another by limit / 2**32 of itself at most.

  Args:
    limit: one more than the largest number.
    key: selects one of 2**64 sequences.
    counters: [N], of integers.

  Returns:
    uint64 [N].
  """
  x = counters.astype(np.uint64)
  high = np.empty_like(x)
  x *= _WEYL
  x += key
  for shift, factor in zip((30, 27), _MIX, strict=True):
    np.right_shift(x, np.uint64(shift), out=high)
    x ^= high
    x *= factor
  # The last shift of SplitMix64 leaves the upper half, used here, as it is but
  # for its lowest bits.
  np.right_shift(x, np.uint64(31), out=high)
  x ^= high
  x >>= np.uint64(32)
  x *= np.uint64(limit)
  x >>= np.uint64(32)
  return x
