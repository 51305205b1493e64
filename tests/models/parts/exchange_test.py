"""Tests of what fits into an exchange between devices, on eight of the CPU."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np

from models.parts import exchange
from models.parts.exchange import AXIS, Exchange, Groups

WAYS, OWN, ROOM, NAMED = 8, 64, 4, 16
NONE = WAYS * OWN  # a row that no device has


@functools.cache
def _fetch():
  """(store, rows [WAYS, NAMED]) -> turns, and the rows, asked in turns."""

  def local(store, rows):
    rows = rows.reshape(-1)
    made = Exchange.of(rows, rows, OWN, WAYS, ROOM)

    def turn(turn, found):
      asked, slots = made.ask(turn)
      answer = store.at[asked].get(mode='fill', fill_value=0)
      return found + made.back(answer, slots)

    zeros = exchange.varying(jnp.zeros((NAMED, 1)))
    found = exchange.loop(made.plan.turns, turn, zeros)
    return made.plan.turns, found.reshape(1, NAMED)

  mesh = Mesh(np.array(jax.devices()), (AXIS,))
  split = P(AXIS)
  return jax.jit(
    jax.shard_map(
      local, mesh=mesh, in_specs=(split, split), out_specs=(P(), split)
    )
  )


class RoomTest(parameterized.TestCase):
  @parameterized.parameters(
    (range(ROOM), 1),
    (range(ROOM + 1), 2),
    (range(2 * ROOM + 1), 4),
    (range(NAMED), 4),
    # Those of one turn in two would be as many as before.
    (range(0, 2 * (ROOM + 1), 2), 4),
  )
  def test_what_does_not_fit_comes_in_further_turns(self, rows, turns):
    store = np.float32(1 + np.arange(NONE))[:, None]
    named = np.full((WAYS, NAMED), NONE, np.int32)
    named[:, 0] = np.arange(WAYS) * OWN  # one of each device by the next
    named[2, : len(rows)] = 5 * OWN + np.array(rows)  # all of the sixth
    found = _fetch()(store, named)
    self.assertEqual(found[0], turns)
    np.testing.assert_array_equal(
      found[1], np.where(named < NONE, 1 + named, 0)
    )

  def test_a_row_that_every_sample_names_fits_into_one_turn(self):
    """No number of turns would divide its sums, and the plan would not end."""
    few = Groups(64, 1, samples=1000, tables=1, lookups=1000, most=1)
    self.assertLess(exchange.capacity(few.lookups, few.members), 100)
    self.assertEqual(few.room, 1000)
    many = Groups(64, 8, samples=1000, tables=2, lookups=51_000, most=100)
    self.assertEqual(many.room, exchange.capacity(51_000, 8))

  def test_rows_of_an_exchange_are_four_deviations_above_the_mean(self):
    self.assertEqual(exchange.capacity(100 * 64, 64), 100 + 4 * 10)
    self.assertEqual(exchange.capacity(10 * 8, 8), 10 + 13)  # rounded up
    self.assertEqual(exchange.capacity(6, 8), 5)  # of 4.2
    self.assertEqual(exchange.capacity(2, 8), 2)  # no more than there are


if __name__ == '__main__':
  absltest.main()
