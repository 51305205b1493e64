"""Exchanges between the devices that have parts of tables: rows, or their sums.

Inside `shard_map`, over one axis of the mesh. `models.parts.tables` says what
is sent and why.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

AXIS = 'data'  # the mesh axis that batches and tables are split over


class Plan(NamedTuple):
  """Rows that lookups named, kept from `lookup` for `update`.

  Where sums travel, `rows` are distinct in each sum, and `place` says which sum
  that is and how often the row is in it, as `Groups.named` has it.
  """

  rows: jax.Array  # int32 [N]; of each device's distinct ones, ascending
  place: jax.Array  # int32 [N], of each lookup among its device's `rows`
  turns: jax.Array  # int32 [], exchanges that it takes


def capacity(lookups: int, ways: int) -> int:
  """Rows that two devices exchange at a time.

  If a device's lookups fall on owners at random, their number is rarely four
  deviations above its mean.
  """
  mean = lookups / ways
  return min(lookups, math.ceil(mean + 4 * math.sqrt(mean)))


@dataclasses.dataclass(frozen=True)
class Exchange:
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
  ) -> 'Exchange':
    """Plans how to reach `rows` [N] of the store."""
    made = cls(Plan(rows, place, jnp.int32(1)), own, ways, room)

    def largest(turns):
      """The most that any two devices would exchange in one of the turns."""

      def of_turn(turn, largest):
        counts = made._counts(made._is_in(turn, turns))
        return jnp.maximum(largest, counts.max())

      found = loop(turns, of_turn, varying(jnp.int32(0)))
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
    sent = varying(jnp.full(shape, fill, values.dtype))
    sent = sent.at[slots].set(values, mode='drop')
    return _all_to_all(sent.reshape(self.ways, self.room, *values.shape[1:]))

  @property
  def _owner(self) -> jax.Array:
    return self.plan.rows // self.own

  @property
  def _local(self) -> jax.Array:
    return self.plan.rows % self.own

  def _is_in(self, turn: jax.Array, turns: jax.Array) -> jax.Array:
    """True for `plan.rows` of a turn; none is in two, on any device."""
    return (self._owner < self.ways) & (self._local % turns == turn)

  def _counts(self, named: jax.Array) -> jax.Array:
    """Number of rows that are asked of each device."""
    return jax.ops.segment_sum(named.astype(jnp.int32), self._owner, self.ways)


@dataclasses.dataclass(frozen=True)
class Groups:
  """Groups of neighbouring devices, each with tables of its own.

  Inside `shard_map`, sums are [groups, B, tables, width] of the samples of one
  device, or [all, width]: those of a group's tables, for the samples of all
  devices, which come one after the other.
  """

  ways: int  # devices
  count: int  # groups
  samples: int  # of a device
  tables: int  # of a group, or pieces of tables
  lookups: int  # of a device's samples, in the group that has most
  most: int  # rows of a table that a sample names

  @property
  def members(self) -> int:
    """Devices of a group."""
    return self.ways // self.count

  @property
  def room(self) -> int:
    """Rows that two devices exchange at a time.

    At least one row fits, of which every sample may have a sum.
    """
    return max(self.samples, capacity(self.lookups, self.members))

  @property
  def all(self) -> int:
    """Sums of a group, for all samples."""
    return self.ways * self.samples * self.tables

  def named(
    self, rows: jax.Array, bags: jax.Array, none: int
  ) -> tuple[jax.Array, jax.Array]:
    """Rows [N] that are terms of sums `bags` [N] -> each once in a sum.

    -> rows, ascending, but for `none` in place of those that came before; and
    the sum times `most` + 1, plus how often the row is named in it.
    """
    rows, bags = jax.lax.sort((rows, bags), num_keys=2)
    new = (rows[1:] != rows[:-1]) | (bags[1:] != bags[:-1])
    new = jnp.concatenate([jnp.ones_like(new[:1]), new])
    each = jnp.cumsum(new) - 1
    times = jax.ops.segment_sum(jnp.ones_like(rows), each, len(rows))[each]
    return jnp.where(new, rows, none), bags * (self.most + 1) + times

  def asked(self, named: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Parts of `named` that devices sent, [ways, room] -> sums, times.

    Each [R]; sums are numbers among `all`, and times 0 where none was sent.
    """
    bags, times = jnp.divmod(named, self.most + 1)
    device = jnp.arange(self.ways)[:, None]
    bags = bags + device * self.samples * self.tables
    return bags.reshape(-1), times.reshape(-1)

  def gather(self, terms: jax.Array) -> jax.Array:
    """Terms of a group's sums, on each device -> the sums of its samples."""
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


def loop(turns: jax.Array, body: Callable[[Any, Any], Any], start: Any) -> Any:
  """`body(turn, value)` of all turns, one after the other."""
  return jax.lax.fori_loop(0, turns, body, start)


def _all_to_all(array: jax.Array) -> jax.Array:
  return jax.lax.all_to_all(array, AXIS, 0, 0, tiled=True)


def varying(array: jax.Array) -> jax.Array:
  """Marks an array as one that differs from device to device."""
  return jax.lax.pcast(array, AXIS, to='varying')
