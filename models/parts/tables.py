"""Embedding tables whose rows are spread over the devices.

A model looks up rows of several tables. Small ones are whole on every device,
one after the other in one array, and train like any other parameter. Large ones
are rows of another array, the *store*, of which each device has an equal part.
Of a step only ids, the rows they name and the gradients of those rows travel:

  1. Each device finds the distinct rows that its samples name.
  2. It asks the owners for them; each pair of devices exchanges at most
     `capacity` rows at a time, a little more than if owners were asked evenly.
  3. Gradients of a row are summed where they arise and go the same way back.
     The owner sums those that several devices sent, and updates the row once.

Neighbours in a table are on different devices: ids are often given in order of
first appearance, and so the first are asked for most. Should one owner be asked
for more than the capacity nevertheless, all take several turns, each with other
rows; the results are the same.

Where a sample names many rows of a table, their sum is fewer bytes than they
are. Then each table is in one group of devices (or in pieces in several, where
a sample names more of it than a group's share: `placement`), and sums travel:

  1. Each device sends every id to the owner of its row.
  2. The devices of a group add up what they have of each sum, each for its
     share of the samples (a reduce-scatter over neighbours, as in a host), and
     send it on: over the widest network goes a vector for a table and sample.
  3. Gradients of the sums go the same way back, and with the ids again to the
     owners, which sum those of a row, and update it once.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np

from models.parts.exchange import (
  AXIS,
  Exchange,
  Groups,
  Plan,
  capacity,
  loop,
  varying,
)
from models.parts.placement import Placement

# A store is made of so many equal parts, and a group has an equal number of
# them. Row n of its tables is in part n * _LEAP of these, modulo their number,
# so that rows in a row are on as many devices as there are: 619 / 1024 is near
# the golden ratio.
_PARTS, _LEAP = 1024, 619


@dataclasses.dataclass(frozen=True)
class Tables:
  """Tables, and how often a sample looks each of them up.

  `ids` are int32 [B, L], the lookups of the first table, then those of the next
  and so on; what a table gives is the sum of its rows, so a row that a sample
  names twice counts twice.

  Attributes:
    sizes: rows of each table.
    lookups: how many rows of each table a sample names.
    width: numbers in a row.
    whole_up_to: tables of so many rows or fewer are whole on every device.
    groups: of devices, where sums travel; a power of 2. The fewer there are,
      the more evenly rows and lookups fall on devices, and the more of them add
      up sums together. At 8, those of 64 GPUs are hosts.
  """

  sizes: tuple[int, ...]
  lookups: tuple[int, ...]
  width: int
  whole_up_to: int
  groups: int = 8

  def __post_init__(self):
    if len(self.sizes) != len(self.lookups):
      raise ValueError(
        f'Expected as many counts of lookups as tables, got '
        f'{len(self.lookups)} for {len(self.sizes)}.'
      )
    if not self._is_large.any() or self._is_large.all():
      raise ValueError(
        f'Expected tables of more than {self.whole_up_to} rows and others, got '
        f'{min(self.sizes)} to {max(self.sizes)} rows.'
      )
    if self.store_rows >= 2**31:
      raise ValueError(
        f'Expected fewer than 2**31 rows in large tables, got {self.large}.'
      )

  @property
  def sums_travel(self) -> bool:
    """True where a sample's sums are fewer vectors than its lookups."""
    numbers = self._numbers(large=True)
    sums = self.groups * -(-len(numbers) // self.groups)
    return sums < sum(self.lookups[t] for t in numbers)

  @property
  def large(self) -> int:
    """Rows of the large tables."""
    return sum(self._sizes_of(large=True))

  @property
  def small(self) -> int:
    """Rows of the small tables."""
    return sum(self._sizes_of(large=False))

  @property
  def store_rows(self) -> int:
    """Rows of the store; those that no table has are never looked up."""
    in_part = -(-max(self._placement.rows) // self._parts)
    return in_part * _PARTS

  def init(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The store and the small tables, uniform up to (rows of a table)^-0.5.

    Each number follows from its place alone, so that a device draws its own.
    """
    of_store, of_small = jax.random.split(
      jax.random.wrap_key_data(
        jax.random.bits(key, (2,), jnp.uint32), impl='threefry2x32'
      )
    )
    in_part, parts = self.store_rows // _PARTS, self._parts
    part, place = jnp.divmod(
      jnp.arange(self.store_rows, dtype=jnp.int32), in_part
    )
    group, part = jnp.divmod(part, parts)
    number = place * parts + part * pow(_LEAP, -1, parts) % parts
    return (
      self._drawn(of_store, group, number, large=True),
      self._drawn(
        of_small,
        jnp.zeros(self.small, jnp.int32),
        jnp.arange(self.small, dtype=jnp.int32),
        large=False,
      ),
    )

  def table(self, number: int, store: jax.Array, small: jax.Array) -> jax.Array:
    """One table, [rows, width], of those in both arrays."""
    ids = jnp.arange(self.sizes[number], dtype=jnp.int32)
    array = store if self._is_large[number] else small
    return array[self._row(number, ids)]

  def packed(self, tables: Sequence[Any]) -> tuple[jax.Array, jax.Array]:
    """The store and the small tables with given tables, [rows, width] each."""
    width = self.width
    store = jnp.zeros((self.store_rows, width))
    small = [jnp.zeros((0, width))]
    for number, table in enumerate(tables):
      if self._is_large[number]:
        ids = np.arange(self.sizes[number])
        store = store.at[self._row(number, ids)].set(table)
      else:
        small.append(jnp.asarray(table))
    return store, jnp.concatenate(small)

  def lookup_small(self, small: jax.Array, ids: jax.Array) -> jax.Array:
    """Sums of rows of the small tables, [B, small tables, width]."""
    return self._pooled(small[self._rows(ids, large=False)], large=False)

  def lookup(
    self, store: jax.Array, ids: jax.Array, mesh: Mesh | None = None
  ) -> tuple[jax.Array, Plan]:
    """Sums of rows of the large tables, [B, large tables, width]; and a plan.

    Not to be differentiated: `update` takes gradients of the sums.
    """
    ways = _ways(mesh)
    if ways == 1:
      rows = self._rows(ids, large=True)
      vectors = self._pooled(store[rows], large=True)
      rows = rows.reshape(-1)
      return vectors, Plan(rows, rows, jnp.int32(1))

    def local(store, ids):
      if self.sums_travel:
        return self._sums(store, ids, ways)
      rows = self._rows(ids, large=True)
      distinct, place = jnp.unique(
        rows, size=rows.size, fill_value=store.shape[0] * ways,
        return_inverse=True,
      )  # fmt: skip
      exchange = Exchange.of(
        distinct,
        place.reshape(-1),
        store.shape[0],
        ways,
        capacity(rows.size, ways),
      )

      def fetch(turn, vectors):
        asked, slots = exchange.ask(turn)
        answer = store.at[asked].get(mode='fill', fill_value=0)
        return vectors + exchange.back(answer, slots)

      vectors = loop(
        exchange.plan.turns,
        fetch,
        varying(jnp.zeros((rows.size, store.shape[1]), store.dtype)),
      )
      looked_up = vectors[exchange.plan.place].reshape(*rows.shape, -1)
      return self._pooled(looked_up, large=True), exchange.plan

    split = P(AXIS)
    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(split, split),
      out_specs=(split, Plan(split, split, P())),
    )(store, ids)

  def update(
    self,
    stores: Any,
    plan: Plan,
    gradient: jax.Array,
    apply: Callable[[Any, jax.Array, jax.Array], Any],
    mesh: Mesh | None = None,
  ) -> Any:
    """`stores` after an update of the rows that lookups named.

    Args:
      stores: a tree of arrays with the rows of the store, and of scalars.
      plan: of `lookup`.
      gradient: of what it returned.
      apply: (stores, rows [N], gradients [N, width]) -> stores; those of one
        device, and rows that it has, some of them twice; from the number of its
        rows on they are none. Scalars are the same in each turn.
      mesh: the one that `lookup` got.
    """
    ways = _ways(mesh)
    if ways == 1:
      return apply(stores, plan.rows, self._of_lookups(gradient))

    def local(stores, plan, gradient):
      own = max(each.shape[0] for each in jax.tree.leaves(stores) if each.ndim)
      if self.sums_travel:
        return self._give_sums(stores, plan, own, gradient, apply, ways)
      exchange = Exchange(plan, own, ways, capacity(len(plan.rows), ways))
      summed = jax.ops.segment_sum(
        self._of_lookups(gradient), plan.place, len(plan.place)
      )

      def give(turn, after):
        asked, slots = exchange.ask(turn)
        given = exchange.send(summed, slots).reshape(-1, summed.shape[1])
        return apply(_with_scalars(after, stores), asked.reshape(-1), given)

      return loop(plan.turns, give, stores)

    split = P(AXIS)
    placed = jax.tree.map(lambda each: split if each.ndim else P(), stores)
    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(placed, Plan(split, split, P()), split),
      out_specs=placed,
    )(stores, plan, gradient)

  def merged(self, large: jax.Array, small: jax.Array) -> jax.Array:
    """Vectors of large and of small tables -> [B, tables, width], in order."""
    order = np.argsort(np.argsort(~self._is_large, kind='stable'))
    both = jnp.concatenate([large, small], axis=1)
    return jnp.stack([both[:, place] for place in order], axis=1)

  @functools.cached_property
  def _is_large(self) -> np.ndarray:
    return np.asarray(self.sizes) > self.whole_up_to

  @functools.cached_property
  def _placement(self) -> Placement:
    groups = self.groups if self.sums_travel else 1
    return Placement.of(self.sizes, self.lookups, self._is_large, groups)

  @property
  def _parts(self) -> int:
    """Parts of the store that a group has."""
    return _PARTS // len(self._placement.rows)

  def _sizes_of(self, *, large: bool) -> list[int]:
    return [int(self.sizes[t]) for t in self._numbers(large)]

  def _numbers(self, large: bool) -> Sequence[int]:
    return np.flatnonzero(self._is_large == large)

  def _rows(self, ids: jax.Array, *, large: bool) -> jax.Array:
    """Ids [B, L] -> rows of the store, or of the small tables, of these."""
    return self._row(*self._columns(ids, large=large))

  def _columns(
    self, ids: jax.Array, *, large: bool
  ) -> tuple[np.ndarray, jax.Array]:
    """Tables [1, L] of some lookups of ids [B, all lookups], and these ids."""
    table = np.repeat(np.arange(len(self.sizes)), self.lookups)
    chosen = self._is_large[table] == large
    # Slices of neighbours: a gather of columns would be slow.
    ends = [*(np.flatnonzero(np.diff(chosen)) + 1), len(chosen)]
    first, columns = 0, []
    for end in ends:
      if chosen[first]:
        columns.append(ids[:, first:end])
      first = end
    return table[chosen][None], jnp.concatenate(columns, axis=1)

  def _row(self, table: np.ndarray | int, ids: jax.Array) -> jax.Array:
    """The rows of ids [..., L] of tables [1, L], in the store or the others.

    All tables are large, or none is; `table` may be one number for all.
    """
    placement = self._placement
    if not np.any(self._is_large[table]):
      return ids + placement.start[table, 0]
    row, of_piece = placement.inside(table, ids)
    number, parts = row + of_piece(placement.start), self._parts
    part = number % parts * _LEAP % parts + of_piece(placement.group) * parts
    return part * (self.store_rows // _PARTS) + number // parts

  def _groups(self, samples: int, ways: int) -> 'Groups':
    """The groups of so many devices, each of which has so many samples."""
    groups, placement = min(ways, self.groups), self._placement
    of_devices = np.reshape(placement.lookups, (groups, -1)).sum(axis=1)
    return Groups(
      ways,
      groups,
      samples,
      placement.slots * self.groups // groups,
      math.ceil(samples * of_devices.max()),
      max(self.lookups),
    )

  def _of_sums(self, groups: 'Groups') -> tuple[np.ndarray, np.ndarray]:
    """The group of devices of each piece, its place in there; [tables, P]."""
    placement, several = self._placement, self.groups // groups.count
    group, inside = np.divmod(placement.group, several)
    return group, inside * placement.slots + placement.slot

  def _pieces(self, groups: 'Groups') -> list[list[tuple[int, int]]]:
    """Group and place in there of the pieces of each large table."""
    group, place = self._of_sums(groups)
    return [
      [(group[t, n], place[t, n]) for n in range(self._placement.pieces[t])]
      for t in self._numbers(True)
    ]

  def _bags(self, ids: jax.Array, groups: 'Groups') -> jax.Array:
    """The sum, among those of a device in a group, that lookups are terms of.

    Ids int32 [B, all lookups] -> [B * lookups of large tables].
    """
    table, ids = self._columns(ids, large=True)
    _, of_piece = self._placement.inside(table, ids)
    first = jnp.arange(groups.samples, dtype=jnp.int32)[:, None] * groups.tables
    return (first + of_piece(self._of_sums(groups)[1])).reshape(-1)

  def _sums(
    self, store: jax.Array, ids: jax.Array, ways: int
  ) -> tuple[jax.Array, Plan]:
    """See `lookup`; of one device, inside `shard_map`."""
    groups = self._groups(len(ids), ways)
    own = store.shape[0]
    rows = self._rows(ids, large=True).reshape(-1)
    rows, named = groups.named(rows, self._bags(ids, groups), own * ways)
    exchange = Exchange.of(rows, named, own, ways, groups.room)

    def add(turn, sums):
      asked, slots = exchange.ask(turn)
      vectors = store.at[asked.reshape(-1)].get(mode='fill', fill_value=0)
      bags, times = groups.asked(exchange.send(named, slots))
      terms = vectors * times[:, None].astype(vectors.dtype)
      return sums + jax.ops.segment_sum(terms, bags, groups.all)

    zeros = varying(jnp.zeros((groups.all, store.shape[1]), store.dtype))
    sums = groups.gather(loop(exchange.plan.turns, add, zeros))
    return jnp.stack(
      [sum(sums[g, :, p] for g, p in each) for each in self._pieces(groups)],
      axis=1,
    ), exchange.plan

  def _give_sums(
    self,
    stores: Any,
    plan: Plan,
    own: int,
    gradient: jax.Array,
    apply: Callable[[Any, jax.Array, jax.Array], Any],
    ways: int,
  ) -> Any:
    """See `update`; of one device, inside `shard_map`."""
    groups = self._groups(len(gradient), ways)
    padded = [[jnp.zeros_like(gradient[:, 0])] * groups.tables] * groups.count
    padded = [list(each) for each in padded]
    for number, each in enumerate(self._pieces(groups)):
      for g, p in each:
        padded[g][p] = gradient[:, number]
    sums = groups.spread(
      jnp.stack([jnp.stack(each, axis=1) for each in padded])
    )
    exchange = Exchange(plan, own, ways, groups.room)

    def give(turn, after):
      asked, slots = exchange.ask(turn)
      bags, times = groups.asked(exchange.send(plan.place, slots))
      given = sums[bags] * times[:, None].astype(sums.dtype)
      return apply(_with_scalars(after, stores), asked.reshape(-1), given)

    return loop(plan.turns, give, stores)

  def _pooled(self, rows: jax.Array, *, large: bool) -> jax.Array:
    """Rows [B, lookups, width] of these tables -> their sums, one a table."""
    lookups = [self.lookups[t] for t in self._numbers(large)]
    if max(lookups) == 1:
      return rows
    ends = np.cumsum(lookups)
    return jnp.stack(
      [
        rows[:, end - n : end].sum(axis=1)
        for n, end in zip(lookups, ends, strict=True)
      ],
      axis=1,
    )

  def _of_lookups(self, gradient: jax.Array) -> jax.Array:
    """Gradients of the large tables' sums -> of each row, [N, width]."""
    lookups = [self.lookups[t] for t in self._numbers(True)]
    each = gradient
    if max(lookups) > 1:
      each = jnp.repeat(
        gradient, np.array(lookups), axis=1, total_repeat_length=sum(lookups)
      )
    return each.reshape(-1, gradient.shape[-1])

  def _drawn(
    self, key, group: jax.Array, number: jax.Array, *, large: bool
  ) -> jax.Array:
    """Rows `number` [R] of groups `group` [R] of these tables, [R, width]."""
    shape, placement = (len(number), self.width), self._placement
    bound = jnp.zeros((len(number), 1))
    pieces = [
      (t, n) for t in self._numbers(large) for n in range(placement.pieces[t])
    ]
    # In the order of their rows, in each group.
    for piece in sorted(pieces, key=lambda piece: placement.start[piece]):
      there = group == placement.group[piece]
      there &= number >= placement.start[piece]
      bound = jnp.where(there[:, None], self.sizes[piece[0]] ** -0.5, bound)
    return bound * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _with_scalars(after: Any, before: Any) -> Any:
  """`after`, with the scalars of `before`."""
  return jax.tree.map(lambda a, b: a if b.ndim else b, after, before)


def _ways(mesh: Mesh | None) -> int:
  return mesh.shape[AXIS] if mesh else 1
