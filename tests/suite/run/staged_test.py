"""Tests of staged functions whose arrays are split over devices."""

import functools

from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from suite.run import program, sharding
from suite.run.program import Program
from suite.run.task import Staged
from tests.suite.run import fake_task

ROWS = 16


class Playing(fake_task.FakeTask):
  """Stages a function with a carry that is split, and one that is not."""

  def staged(self):
    rows = jax.ShapeDtypeStruct((ROWS, 3), np.float32)
    number = jax.ShapeDtypeStruct((), np.float32)

    def play(state, argument):
      carry = argument['carry'] + argument['more'] * state.params['slope']
      return {'carry': carry, 'largest': carry.max()}

    return {
      'play': Staged(
        play,
        {'carry': rows, 'more': number},
        argument={'carry': P('data'), 'more': P()},
        result={'carry': P('data'), 'largest': P()},
        donated=True,
      ),
      'plain': Staged(lambda state, x: x + state.params['slope'], rows),
    }


@functools.cache
def built():
  mesh = sharding.make_mesh()
  clock, _ = fake_task.ready()
  return Program.build(Playing([0.9]), mesh, clock)


def argument(mesh):
  rows = np.arange(3 * ROWS, dtype=np.float32).reshape(ROWS, 3)
  return {
    **sharding.put_rows({'carry': rows}, mesh),
    'more': sharding.put_same(np.float32(2), mesh),
  }


def shapes(array):
  return [shard.data.shape for shard in array.addressable_shards]


class StagedTest(absltest.TestCase):
  def test_what_is_split_goes_in_and_comes_out_split(self):
    some = built()
    state, given = some.fresh_state(1), argument(some.mesh)
    with jax.transfer_guard('disallow'):
      got = some.call('play', state, given)
    self.assertEqual(shapes(got['carry']), [(ROWS // 8, 3)] * 8)
    self.assertEqual(shapes(got['largest']), [()] * 8)
    slope = np.float32(state.params['slope'])
    wanted = np.arange(3 * ROWS, dtype=np.float32).reshape(ROWS, 3) + 2 * slope
    np.testing.assert_allclose(program.host_rows(got['carry']), wanted)
    np.testing.assert_allclose(got['largest'], wanted.max())

  def test_a_donated_argument_is_used_up_and_the_state_is_not(self):
    some = built()
    state, given = some.fresh_state(1), argument(some.mesh)
    got = some.call('play', state, given)
    self.assertTrue(given['carry'].is_deleted())
    self.assertFalse(state.params['slope'].is_deleted())
    again = some.call('play', state, {**argument(some.mesh), **{
      'carry': got['carry']}})  # fmt: skip
    self.assertEqual(shapes(again['carry']), [(ROWS // 8, 3)] * 8)

  def test_by_default_every_device_has_all_and_nothing_is_used_up(self):
    some = built()
    given = sharding.put_same(np.ones((ROWS, 3), np.float32), some.mesh)
    got = some.call('plain', some.fresh_state(1), given)
    self.assertEqual(shapes(got), [(ROWS, 3)] * 8)
    self.assertFalse(given.is_deleted())


class HostRowsTest(absltest.TestCase):
  def test_rows_come_back_in_order_and_once_with_a_model_axis_too(self):
    rows = {'a': np.arange(24).reshape(8, 3), 'b': np.arange(8) > 4}
    for model in (1, 2, 4):
      put = sharding.put_rows(rows, sharding.make_mesh(model))
      with jax.transfer_guard('disallow'):
        got = program.host_rows(put)
      for name, wanted in rows.items():
        np.testing.assert_array_equal(got[name], wanted)

  def test_they_are_numpy_arrays(self):
    put = sharding.put_rows({'a': np.ones(8)}, sharding.make_mesh())
    self.assertIsInstance(program.host_rows(put)['a'], np.ndarray)
    self.assertEqual(
      jnp.asarray(put['a']).dtype, program.host_rows(put)['a'].dtype
    )


if __name__ == '__main__':
  absltest.main()
