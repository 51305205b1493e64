"""Placement of tables: small ones in one array, large ones in groups.

Groups are of devices. A large table is in one piece or in several, each of them
in some group: row n of a table of P pieces is row n // P of its piece n % P.
The rows of a group are those of its pieces, one after the other.
"""

from collections.abc import Callable, Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Placement:
  """The place of each piece of each table.

  Arrays are int32 [tables, P], P the pieces of the table that has most.
  """

  pieces: np.ndarray  # int32 [tables]
  group: np.ndarray
  slot: np.ndarray  # place among the pieces of its group
  start: np.ndarray  # its first row in its group, or in the array
  rows: tuple[int, ...]  # of each group
  lookups: tuple[float, ...]  # of each group, of a sample, on average
  slots: int  # pieces of a group, at most

  @classmethod
  def of(
    cls,
    sizes: Sequence[int],
    lookups: Sequence[int],
    is_large: np.ndarray,
    groups: int,
  ) -> 'Placement':
    """Places tables with so many rows, named so often by a sample."""
    numbers = np.flatnonzero(is_large)
    slots = -(-len(numbers) // groups)
    pieces = np.ones(len(sizes), np.int32)
    if groups > 1:
      _cut(pieces, numbers, lookups, groups, groups * slots)
    group, slot, start = np.zeros((3, len(sizes), pieces.max()), np.int32)
    rows, named = np.zeros(groups, np.int64), np.zeros(groups)
    held = np.zeros(groups, np.int64)  # pieces of each group
    whole = [sum(each[t] for t in numbers) for each in (sizes, lookups)]

    def share(t, chosen=None):
      """The share of rows or of lookups, whichever is larger."""
      parts = sizes[t] / pieces[t], lookups[t] / pieces[t]
      if chosen is not None:
        parts = parts[0] + rows[chosen], parts[1] + named[chosen]
      return max(p / w for p, w in zip(parts, whole, strict=True))

    # The largest first, each where least is, and no other piece of its table.
    for t in sorted(numbers, key=lambda t: (-share(t), -sizes[t])):
      for piece in range(pieces[t]):
        free = np.flatnonzero(held < slots)
        others = group[t, :piece]
        chosen = min(free, key=lambda g: (g in others, share(t, g)))
        place = group[t], slot[t], start[t]
        found = chosen, held[chosen], rows[chosen]
        for each, value in zip(place, found, strict=True):
          each[piece] = value
        rows[chosen] += -(-(sizes[t] - piece) // pieces[t])
        named[chosen] += lookups[t] / pieces[t]
        held[chosen] += 1
    small = np.asarray(sizes)[~is_large]
    start[~is_large, 0] = np.cumsum(small) - small
    return cls(pieces, group, slot, start, tuple(rows.tolist()),
               tuple(named.tolist()), slots)  # fmt: skip

  def inside(
    self, table: np.ndarray | int, ids: jax.Array
  ) -> tuple[jax.Array, Callable[[np.ndarray], jax.Array]]:
    """Where ids [..., L] of tables [1, L], or of one table, are.

    -> their rows in their pieces; and a function that gives for each id what an
    array [tables, P] says of its piece.
    """
    count = self.pieces[table]
    piece = ids % count

    def of_piece(values: np.ndarray) -> jax.Array:
      found = values[table, 0]
      for n in range(1, int(np.max(count))):
        found = jnp.where(piece == n, values[table, n], found)
      return found

    return ids // count, of_piece


def _cut(
  pieces: np.ndarray,
  numbers: Sequence[int],
  lookups: Sequence[int],
  groups: int,
  slots: int,
) -> None:
  """Cuts the tables that are named most, as long as there are slots."""
  mean = sum(lookups[t] for t in numbers) / groups
  while pieces[numbers].sum() < slots:
    most = max(numbers, key=lambda t: lookups[t] / pieces[t])
    if lookups[most] / pieces[most] <= mean or pieces[most] == groups:
      return
    pieces[most] += 1
