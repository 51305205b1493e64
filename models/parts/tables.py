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
are. Then each table is in one group of devices, and sums travel:

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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np

AXIS = 'data'  # the mesh axis that batches and the store are split over

# A store is made of so many equal parts, and a group has an equal number of
# them. Row n of its tables is in part n * _LEAP of these, modulo their number,
# so that rows in a row are on as many devices as there are: 619 / 1024 is near
# the golden ratio.
_PARTS, _LEAP = 1024, 619


class Plan(NamedTuple):
  """Rows that lookups named, kept from `lookup` for `update`.

  Where sums travel, `rows` are distinct in each sum, and `place` says which sum
  that is and how often the row is in it, as `_Groups.named` has it.
  """

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
    groups: of devices, where sums travel; a power of 2. At 8, those of 64 chips
      are as large as a host, and tables are in all of them.
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
    in_part = -(-max(self._places.rows) // self._parts)
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
      rows = self._rows(ids, large=True)
      if self.sums_travel:
        return self._sums(store, rows, ways)
      distinct, place = jnp.unique(
        rows, size=rows.size, fill_value=store.shape[0] * ways,
        return_inverse=True,
      )  # fmt: skip
      exchange = _Exchange.of(
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
      if self.sums_travel:
        return self._give_sums(stores, plan, own, gradient, apply, ways)
      exchange = _Exchange(plan, own, ways, capacity(len(plan.rows), ways))
      summed = jax.ops.segment_sum(
        self._of_lookups(gradient), plan.place, len(plan.place)
      )

      def give(turn, after):
        asked, slots = exchange.ask(turn)
        given = exchange.send(summed, slots).reshape(-1, summed.shape[1])
        return apply(_with_scalars(after, stores), asked.reshape(-1), given)

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
  def _places(self) -> '_Places':
    """Where each table is."""
    count = len(self.sizes)
    rows = np.zeros(self.groups if self.sums_travel else 1, np.int64)
    most = -(-len(self._numbers(True)) // len(rows))  # tables of a group
    group, slot = np.zeros((2, count), np.int32)
    lookups, tables = np.zeros((2, len(rows)), np.int64)
    start = np.zeros(count, np.int32)
    # The largest first, each into the group that is smallest by then.
    for t in sorted(self._numbers(True), key=lambda t: -self.sizes[t]):
      free = [g for g in range(len(rows)) if tables[g] < most]
      chosen = min(free, key=lambda g: (rows[g], lookups[g]))
      group[t], slot[t], start[t] = chosen, tables[chosen], rows[chosen]
      rows[chosen] += self.sizes[t]
      lookups[chosen] += self.lookups[t]
      tables[chosen] += 1
    small = np.asarray(self.sizes)[self._numbers(False)]
    start[self._numbers(False)] = np.cumsum(small) - small
    return _Places(rows.tolist(), lookups.tolist(), most, group, slot, start)

  @property
  def _parts(self) -> int:
    """Parts of the store that a group has."""
    return _PARTS // len(self._places.rows)

  def _sizes_of(self, *, large: bool) -> list[int]:
    return [int(self.sizes[t]) for t in self._numbers(large)]

  def _numbers(self, large: bool) -> Sequence[int]:
    return np.flatnonzero(self._is_large == large)

  def _rows(self, ids: jax.Array, *, large: bool) -> jax.Array:
    """Ids [B, L] -> rows of the store, or of the small tables, of these."""
    table = np.repeat(np.arange(len(self.sizes)), self.lookups)
    chosen = self._is_large[table] == large
    # Slices of neighbours: a gather of columns would be slow.
    ends = [*(np.flatnonzero(np.diff(chosen)) + 1), len(chosen)]
    first, columns = 0, []
    for end in ends:
      if chosen[first]:
        columns.append(ids[:, first:end])
      first = end
    return self._row(table[chosen][None], jnp.concatenate(columns, axis=1))

  def _row(self, table: np.ndarray | int, ids: jax.Array) -> jax.Array:
    """The rows of ids [..., L] of tables [1, L], in the store or the small array.

    All tables are large, or none is; `table` may be one number for all.
    """
    number = ids + self._places.start[table]
    if not np.any(self._is_large[table]):
      return number
    parts = self._parts
    part = number % parts * _LEAP % parts + self._places.group[table] * parts
    return part * (self.store_rows // _PARTS) + number // parts

  def _groups(self, samples: int, ways: int) -> '_Groups':
    """The groups of so many devices, each of which has so many samples."""
    groups = min(ways, self.groups)
    of_devices = np.reshape(self._places.lookups, (groups, -1)).sum(axis=1)
    tables = self._places.tables * self.groups // groups
    return _Groups(ways, groups, samples, tables, int(of_devices.max()))

  def _of_sums(self, groups: '_Groups') -> tuple[np.ndarray, np.ndarray]:
    """The group of devices of each large table, and its place in there."""
    numbers, several = self._numbers(True), self.groups // groups.count
    group, inside = np.divmod(self._places.group[numbers], several)
    return group, inside * self._places.tables + self._places.slot[numbers]

  def _bags(self, groups: '_Groups') -> np.ndarray:
    """The sum, among those of a device in a group, that lookups are terms of.

    Int32 [B * lookups].
    """
    _, place = self._of_sums(groups)
    of_lookups = np.repeat(
      place, [self.lookups[t] for t in self._numbers(True)]
    )
    first = np.arange(groups.samples)[:, None] * groups.tables
    return (first + of_lookups).reshape(-1).astype(np.int32)

  def _sums(
    self, store: jax.Array, rows: jax.Array, ways: int
  ) -> tuple[jax.Array, Plan]:
    """See `lookup`; of one device, inside `shard_map`; rows [B, lookups]."""
    groups = self._groups(len(rows), ways)
    own = store.shape[0]
    rows, named = groups.named(rows.reshape(-1), self._bags(groups), own * ways)
    exchange = _Exchange.of(rows, named, own, ways, groups.room)

    def add(turn, sums):
      asked, slots = exchange.ask(turn)
      vectors = store.at[asked.reshape(-1)].get(mode='fill', fill_value=0)
      bags, times = groups.asked(exchange.send(named, slots))
      terms = vectors * times[:, None].astype(vectors.dtype)
      return sums + jax.ops.segment_sum(terms, bags, groups.all)

    zeros = _varying(jnp.zeros((groups.all, store.shape[1]), store.dtype))
    sums = groups.gather(_loop(exchange.plan.turns, add, zeros))
    group, place = self._of_sums(groups)
    return jnp.stack(
      [sums[g, :, p] for g, p in zip(group, place, strict=True)], axis=1
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
    group, place = self._of_sums(groups)
    padded = [[jnp.zeros_like(gradient[:, 0])] * groups.tables] * groups.count
    padded = [list(each) for each in padded]
    for number, (g, p) in enumerate(zip(group, place, strict=True)):
      padded[g][p] = gradient[:, number]
    sums = groups.spread(
      jnp.stack([jnp.stack(each, axis=1) for each in padded])
    )
    exchange = _Exchange(plan, own, ways, groups.room)

    def give(turn, after):
      asked, slots = exchange.ask(turn)
      bags, times = groups.asked(exchange.send(plan.place, slots))
      given = sums[bags] * times[:, None].astype(sums.dtype)
      return apply(_with_scalars(after, stores), asked.reshape(-1), given)

    return _loop(plan.turns, give, stores)

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
    shape = (len(number), self.width)
    bound, places = jnp.zeros((len(number), 1)), self._places
    # In the order of their rows, in each group.
    for t in sorted(self._numbers(large), key=lambda t: places.start[t]):
      limit = self.sizes[t] ** -0.5
      there = (group == places.group[t]) & (number >= places.start[t])
      bound = jnp.where(there[:, None], limit, bound)
    return bound * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


@dataclasses.dataclass(frozen=True)
class _Places:
  """Where tables are: the large ones in groups, the small ones in one array."""

  rows: list[int]  # of each group
  lookups: list[int]  # of each group, of a sample
  tables: int  # of a group, at most
  group: np.ndarray  # int32 [tables]
  slot: np.ndarray  # int32 [tables], place among the tables of its group
  start: np.ndarray  # int32 [tables], its first row in its group or the array


def capacity(lookups: int, ways: int) -> int:
  """Rows that two devices exchange at a time.

  If a device's lookups fall on owners at random, their number is rarely four
  deviations above its mean.
  """
  mean = lookups / ways
  return min(lookups, math.ceil(mean + 4 * math.sqrt(mean)))


@dataclasses.dataclass(frozen=True)
class _Exchange:
  """The exchange of one device with all; inside `shard_map`.

  `plan.rows` ascend, so that those of an owner are neighbours; where one has no
  owner, it is left out.
  """

  plan: Plan  # its part of the rows and places
  own: int  # rows of the store that each device has
  ways: int
  room: int  # rows that two devices exchange at a time

  @classmethod
  def of(
    cls, rows: jax.Array, place: jax.Array, own: int, ways: int, room: int
  ) -> '_Exchange':
    """Plans how to reach `rows` [N] of the store."""
    made = cls(Plan(rows, place, jnp.int32(1)), own, ways, room)

    def largest(turns):
      """The most that any two devices would exchange in one of the turns."""

      def of_turn(turn, largest):
        counts = made._counts(made._is_in(turn, turns))
        return jnp.maximum(largest, counts.max())

      found = _loop(turns, of_turn, _varying(jnp.int32(0)))
      return jax.lax.pmax(found, AXIS)

    turns, _ = jax.lax.while_loop(
      lambda found: found[1] > room,
      lambda found: (2 * found[0], largest(2 * found[0])),
      (jnp.int32(1), largest(jnp.int32(1))),
    )
    return dataclasses.replace(made, plan=made.plan._replace(turns=turns))

  def ask(self, turn: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sends each owner the rows of a turn that are asked of it.

    -> rows asked of this device, of its own part, int32 [ways, room]; and the
    slot of each of `plan.rows` among all that it asked for, or one too far.
    """
    named = self._is_in(turn, self.plan.turns)
    counts = self._counts(named)
    first = jnp.concatenate([jnp.cumsum(counts) - counts, jnp.zeros(1, int)])
    rank = jnp.cumsum(named) - 1 - first[self._owner]
    slots = jnp.where(
      named, self._owner * self.room + rank, self.ways * self.room
    )
    return self.send(self._local, slots, self.own), slots

  def back(self, answer: jax.Array, slots: jax.Array) -> jax.Array:
    """Answers [ways, room, width] of this device -> those to `plan.rows`.

    0 for rows of other turns.
    """
    got = _all_to_all(answer).reshape(-1, answer.shape[-1])
    return got.at[slots].get(mode='fill', fill_value=0)

  def send(
    self, values: jax.Array, slots: jax.Array, fill: int = 0
  ) -> jax.Array:
    """Sends `values` [N, ...] of `plan.rows` to the owners of these.

    -> what this device got for what was asked of it, [ways, room, ...].
    """
    shape = (self.ways * self.room, *values.shape[1:])
    sent = _varying(jnp.full(shape, fill, values.dtype))
    sent = sent.at[slots].set(values, mode='drop')
    return _all_to_all(sent.reshape(self.ways, self.room, *values.shape[1:]))

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


@dataclasses.dataclass(frozen=True)
class _Groups:
  """Groups of neighbouring devices, each with tables of its own.

  Inside `shard_map`, sums are [groups, B, tables, width] of the samples of one
  device, or [all, width]: those of a group's tables, for the samples of all
  devices, which come one after the other.
  """

  ways: int  # devices
  count: int  # groups
  samples: int  # of a device
  tables: int  # of a group
  lookups: int  # of a sample, in the group that has most

  @property
  def members(self) -> int:
    """Devices of a group."""
    return self.ways // self.count

  @property
  def room(self) -> int:
    """Rows that two devices exchange at a time.

    At least one row fits, of which every sample may have a sum.
    """
    expected = capacity(self.samples * self.lookups, self.members)
    return max(self.samples, expected)

  @property
  def all(self) -> int:
    """Sums of a group, for all samples."""
    return self.ways * self.samples * self.tables

  def named(
    self, rows: jax.Array, bags: np.ndarray, none: int
  ) -> tuple[jax.Array, jax.Array]:
    """Rows [N] that are terms of sums `bags` [N] -> each once in a sum.

    -> rows, ascending, but for `none` in place of those that came before; and
    the sum times `lookups` + 1, plus how often the row is named in it.
    """
    rows, bags = jax.lax.sort((rows, jnp.asarray(bags)), num_keys=2)
    new = (rows[1:] != rows[:-1]) | (bags[1:] != bags[:-1])
    new = jnp.concatenate([jnp.ones_like(new[:1]), new])
    each = jnp.cumsum(new) - 1
    times = jax.ops.segment_sum(jnp.ones_like(rows), each, len(rows))[each]
    return jnp.where(new, rows, none), bags * (self.lookups + 1) + times

  def asked(self, named: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What devices sent of `named`, [ways, room] -> sums among `all`, times.

    Each [R]; 0 times what was not sent.
    """
    bags, times = jnp.divmod(named, self.lookups + 1)
    device = jnp.arange(self.ways)[:, None]
    bags = bags + device * self.samples * self.tables
    return bags.reshape(-1), times.reshape(-1)

  def gather(self, terms: jax.Array) -> jax.Array:
    """What each device has of a group's sums -> the sums of its samples."""
    shape = (self.count, self.members, self.samples, self.tables, -1)
    terms = terms.reshape(shape)
    if self.members > 1:
      sums = jax.lax.psum_scatter(
        terms, AXIS, scatter_dimension=1, axis_index_groups=self._neighbours()
      )
    else:
      sums = terms[:, 0]
    return self._between(sums)

  def spread(self, sums: jax.Array) -> jax.Array:
    """The inverse of `gather`, for gradients: each device has those of all."""
    given = self._between(sums)
    if self.members > 1:
      given = jax.lax.all_gather(
        given, AXIS, axis=1, axis_index_groups=self._neighbours()
      )
    return given.reshape(self.all, -1)

  def _between(self, sums: jax.Array) -> jax.Array:
    """Exchanges [groups, ...] between devices in the same place of a group."""
    return jax.lax.all_to_all(
      sums,
      AXIS,
      0,
      0,
      axis_index_groups=np.transpose(self._neighbours()).tolist(),
      tiled=True,
    )

  def _neighbours(self) -> list[list[int]]:
    return np.arange(self.ways).reshape(self.count, -1).tolist()


def _with_scalars(after: Any, before: Any) -> Any:
  """`after`, with the scalars of `before`."""
  return jax.tree.map(lambda a, b: a if b.ndim else b, after, before)


def _loop(turns: jax.Array, body: Callable[[Any, Any], Any], start: Any) -> Any:
  return jax.lax.fori_loop(0, turns, body, start)


def _all_to_all(array: jax.Array) -> jax.Array:
  return jax.lax.all_to_all(array, AXIS, 0, 0, tiled=True)


def _varying(array: jax.Array) -> jax.Array:
  """Marks an array as one that differs from device to device."""
  return jax.lax.pcast(array, AXIS, to='varying')


def _ways(mesh: Mesh | None) -> int:
  return mesh.shape[AXIS] if mesh else 1
