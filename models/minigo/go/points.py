"""Points of a board: their neighbours, and a random number for each stone.

The P points of a board are numbered row by row from the upper left. Point P
stands for the pass and for everything off the board.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_SEED = 20_181_207


@functools.cache
def neighbours(size: int) -> np.ndarray:
  """Points above, below, left and right: int32 [P + 1, 4], P off the board."""
  outside = size * size
  rows, columns = np.divmod(np.arange(outside), size)
  found = np.full((outside + 1, 4), outside, np.int32)
  sides = (
    (rows > 0, -size),
    (rows < size - 1, size),
    (columns > 0, -1),
    (columns < size - 1, 1),
  )
  for side, (is_on, step) in enumerate(sides):
    found[:-1, side] = np.where(is_on, np.arange(outside) + step, outside)
  return found


@functools.cache
def stone_hashes(size: int) -> np.ndarray:
  """64 random bits for each stone: uint32 [P + 1, 2 colours, 2], Black first.

  Those of the pass are zeros. NumPy guarantees that this stream is the same in
  all its releases.
  """
  area = size * size
  raw = np.random.PCG64(_SEED).random_raw(2 * area).astype('<u8')
  found = np.zeros((area + 1, 2, 2), np.uint32)
  found[:-1] = raw.view('<u4').reshape(area, 2, 2)
  return found


def around(values: jax.Array, size: int, outside=0) -> list[jax.Array]:
  """Values above, below, left and right of each point: [P] -> four of [P].

  These are shifts: gathers would not become vector instructions.
  """
  fill = jnp.asarray(outside, values.dtype)
  column = np.arange(size * size) % size
  above, below, left, right = (
    jax.lax.pad(values, fill, [(step, -step, 0)])
    for step in (size, -size, 1, -1)
  )
  left = jnp.where(column > 0, left, fill)
  right = jnp.where(column < size - 1, right, fill)
  return [above, below, left, right]


def beside(mask: jax.Array, size: int) -> jax.Array:
  """Points with a neighbour in the mask: bool [P] -> bool [P]."""
  above, below, left, right = around(mask, size, False)
  return above | below | left | right


def firsts(ids: list[jax.Array]) -> list[jax.Array]:
  """True for ids that are not 0 and equal no earlier one: bool, as `ids`."""
  found = []
  for place, here in enumerate(ids):
    is_new = here != 0
    for before in ids[:place]:
      is_new &= here != before
    found.append(is_new)
  return found
