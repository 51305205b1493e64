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
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np

AXIS = 'data'  # the mesh axis that batches and the store are split over

# A store is made of so many equal parts. Row n of the large tables is in part
# n * _LEAP of these, modulo their number, so that rows in a row are on as many
# devices as there are: 619 / 1024 is near the golden ratio.
_PARTS, _LEAP = 1024, 619


class Plan(NamedTuple):
  """Rows that lookups named, kept from `lookup` for `update`."""

  rows: jax.Array  # int32 [N]; of each device's distinct ones, ascending
  place: jax.Array  # int32 [N], of each lookup among its device's `rows`
  turns: jax.Array  # int32 [], exchanges that it takes


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
  """

  sizes: tuple[int, ...]
  lookups: tuple[int, ...]
  width: int
  whole_up_to: int

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
    return -(-self.large // _PARTS) * _PARTS

  def init(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The store and the small tables, uniform up to (rows of a table)^-0.5.

    Each number follows from its place alone, so that a device draws its own.
    """
    of_store, of_small = jax.random.split(
      jax.random.wrap_key_data(
        jax.random.bits(key, (2,), jnp.uint32), impl='threefry2x32'
      )
    )
    part, place = jnp.divmod(
      jnp.arange(self.store_rows, dtype=jnp.int32), self.store_rows // _PARTS
    )
    number = place * _PARTS + part * pow(_LEAP, -1, _PARTS) % _PARTS
    return (
      self._drawn(of_store, number, large=True),
      self._drawn(
        of_small, jnp.arange(self.small, dtype=jnp.int32), large=False
      ),
    )

  def table(self, number: int, store: jax.Array, small: jax.Array) -> jax.Array:
    """One table, [rows, width], of those in both arrays."""
    ids = jnp.arange(self.sizes[number], dtype=jnp.int32)
    start = self._starts[number]
    if self._is_large[number]:
      return store[self._row(start + ids)]
    return small[start + ids]

  def packed(self, tables: Sequence[Any]) -> tuple[jax.Array, jax.Array]:
    """The store and the small tables with given tables, [rows, width] each."""
    width = self.width
    store = jnp.zeros((self.store_rows, width))
    small = [jnp.zeros((0, width))]
    for number, table in enumerate(tables):
      if self._is_large[number]:
        ids = self._starts[number] + np.arange(self.sizes[number])
        store = store.at[self._row(ids)].set(table)
      else:
        small.append(jnp.asarray(table))
    return store, jnp.concatenate(small)

  def lookup_small(self, small: jax.Array, ids: jax.Array) -> jax.Array:
    """Sums of rows of the small tables, [B, small tables, width]."""
    return self._pooled(small[self._among(ids, large=False)], large=False)

  def lookup(
    self, store: jax.Array, ids: jax.Array, mesh: Mesh | None = None
  ) -> tuple[jax.Array, Plan]:
    """Sums of rows of the large tables, [B, large tables, width]; and a plan.

    Not to be differentiated: `update` takes gradients of the sums.
    """
    ways = _ways(mesh)
    if ways == 1:
      rows = self._row(self._among(ids, large=True))
      vectors = self._pooled(store[rows], large=True)
      rows = rows.reshape(-1)
      return vectors, Plan(rows, rows, jnp.int32(1))

    def local(store, ids):
      rows = self._row(self._among(ids, large=True))
      exchange = _Exchange.of(rows.reshape(-1), store.shape[0], ways)

      def fetch(turn, vectors):
        asked, slots = exchange.ask(turn)
        answer = store.at[asked].get(mode='fill', fill_value=0)
        return vectors + exchange.back(answer, slots)

      vectors = _loop(
        exchange.plan.turns,
        fetch,
        _varying(jnp.zeros((rows.size, store.shape[1]), store.dtype)),
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
      exchange = _Exchange(plan, own, ways)
      summed = jax.ops.segment_sum(
        self._of_lookups(gradient), plan.place, len(plan.place)
      )

      def give(turn, after):
        asked, slots = exchange.ask(turn)
        given = exchange.give(summed, slots)
        before = jax.tree.map(lambda a, s: a if s.ndim else s, after, stores)
        return apply(before, asked.reshape(-1), given)

      return _loop(plan.turns, give, stores)

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
  def _starts(self) -> np.ndarray:
    """The first row of each table among the large, or the small, ones."""
    starts = np.zeros(len(self.sizes), np.int32)
    for kind in (True, False):
      sizes = np.where(self._is_large == kind, self.sizes, 0)
      starts = np.where(
        self._is_large == kind, np.cumsum(sizes) - sizes, starts
      )
    return starts.astype(np.int32)

  def _sizes_of(self, *, large: bool) -> list[int]:
    return [int(self.sizes[t]) for t in self._numbers(large)]

  def _numbers(self, large: bool) -> Sequence[int]:
    return np.flatnonzero(self._is_large == large)

  def _among(self, ids: jax.Array, *, large: bool) -> jax.Array:
    """Ids [B, L] -> rows of these tables together, [B, lookups of them]."""
    ends = np.cumsum(self.lookups)
    return jnp.concatenate(
      [
        ids[:, ends[t] - self.lookups[t] : ends[t]] + self._starts[t]
        for t in self._numbers(large)
      ],
      axis=1,
    )

  def _row(self, number: jax.Array) -> jax.Array:
    """The row of the store that has row `number` of the large tables."""
    part = number % _PARTS * _LEAP % _PARTS
    return part * (self.store_rows // _PARTS) + number // _PARTS

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

  def _drawn(self, key, number: jax.Array, *, large: bool) -> jax.Array:
    """Rows `number` [R] of these tables together, [R, width]."""
    shape = (len(number), self.width)
    bound = jnp.zeros((len(number), 1))
    for t in self._numbers(large):
      limit = self.sizes[t] ** -0.5
      bound = jnp.where(number[:, None] >= self._starts[t], limit, bound)
    return bound * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def capacity(lookups: int, ways: int) -> int:
  """Rows that two devices exchange at a time.

  If a device's lookups fall on owners at random, their number is rarely four
  deviations above its mean.
  """
  mean = lookups / ways
  return min(lookups, math.ceil(mean + 4 * math.sqrt(mean)))


@dataclasses.dataclass(frozen=True)
class _Exchange:
  """The exchange of one device with all; inside `shard_map`."""

  plan: Plan  # its part of the rows and places
  own: int  # rows of the store that each device has
  ways: int

  @classmethod
  def of(cls, rows: jax.Array, own: int, ways: int) -> '_Exchange':
    """Plans how to reach `rows` [N] of the store, some of them twice."""
    distinct, place = jnp.unique(
      rows, size=rows.size, fill_value=own * ways, return_inverse=True
    )
    made = cls(Plan(distinct, place.reshape(-1), jnp.int32(1)), own, ways)
    most = capacity(rows.size, ways)

    def largest(turns):
      """The most that any two devices would exchange in one of the turns."""

      def of_turn(turn, largest):
        counts = made._counts(made._is_in(turn, turns))
        return jnp.maximum(largest, counts.max())

      found = _loop(turns, of_turn, _varying(jnp.int32(0)))
      return jax.lax.pmax(found, AXIS)

    turns, _ = jax.lax.while_loop(
      lambda found: found[1] > most,
      lambda found: (2 * found[0], largest(2 * found[0])),
      (jnp.int32(1), largest(jnp.int32(1))),
    )
    return cls(made.plan._replace(turns=turns), own, ways)

  def ask(self, turn: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sends each owner the rows of a turn that are asked of it.

    -> rows asked of this device, of its own part, int32 [ways, capacity]; and
    the slot of each of `plan.rows` among all that it asked for, or one too far.
    """
    room = capacity(self.plan.rows.size, self.ways)
    named = self._is_in(turn, self.plan.turns)
    counts = self._counts(named)
    # Rows ascend, so those of one owner are neighbours.
    first = jnp.concatenate([jnp.cumsum(counts) - counts, jnp.zeros(1, int)])
    rank = jnp.cumsum(named) - 1 - first[self._owner]
    slots = jnp.where(named, self._owner * room + rank, self.ways * room)
    sent = jnp.full(self.ways * room, self.own, jnp.int32)
    sent = _varying(sent).at[slots].set(self._local, mode='drop')
    return _all_to_all(sent.reshape(self.ways, room)), slots

  def back(self, answer: jax.Array, slots: jax.Array) -> jax.Array:
    """Answers [ways, capacity, width] of this device -> those to `plan.rows`.

    0 for rows of other turns.
    """
    got = _all_to_all(answer).reshape(-1, answer.shape[-1])
    return got.at[slots].get(mode='fill', fill_value=0)

  def give(self, values: jax.Array, slots: jax.Array) -> jax.Array:
    """Sends `values` [N, width] of `plan.rows` to the owners of these.

    -> what this device got, a row for each that was asked of it.
    """
    room, width = capacity(len(values), self.ways), values.shape[1]
    sent = _varying(jnp.zeros((self.ways * room, width), values.dtype))
    sent = sent.at[slots].set(values, mode='drop')
    return _all_to_all(sent.reshape(self.ways, room, width)).reshape(-1, width)

  @property
  def _owner(self) -> jax.Array:
    return self.plan.rows // self.own

  @property
  def _local(self) -> jax.Array:
    return self.plan.rows % self.own

  def _is_in(self, turn: jax.Array, turns: jax.Array) -> jax.Array:
    """Which of `plan.rows` belong to a turn; none twice, on any device."""
    return (self._owner < self.ways) & (self._local % turns == turn)

  def _counts(self, named: jax.Array) -> jax.Array:
    """Number of rows that are asked of each device."""
    return jax.ops.segment_sum(named.astype(jnp.int32), self._owner, self.ways)


def _loop(turns: jax.Array, body: Callable[[Any, Any], Any], start: Any) -> Any:
  return jax.lax.fori_loop(0, turns, body, start)


def _all_to_all(array: jax.Array) -> jax.Array:
  return jax.lax.all_to_all(array, AXIS, 0, 0, tiled=True)


def _varying(array: jax.Array) -> jax.Array:
  """Marks an array as one that differs from device to device."""
  return jax.lax.pcast(array, AXIS, to='varying')


def _ways(mesh: Mesh | None) -> int:
  return mesh.shape[AXIS] if mesh else 1
