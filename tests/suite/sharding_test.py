"""Tests of meshes and path rules, on 8 CPU devices."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from suite import sharding


class ShardingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.mesh = sharding.make_mesh(model=2)
    self.tree = {
      'params': {'table': jnp.zeros((6, 4)), 'dense': [jnp.zeros((8, 8))]},
      'step': jnp.zeros(()),
    }

  def test_the_first_rule_that_matches_a_path_wins(self):
    rules = (
      (r'table$', P('model', None)),
      (r'params/dense/0$', P('data', 'model')),
      (r'.*', P()),
    )
    got = sharding.from_rules(self.tree, rules, self.mesh)
    self.assertEqual(got['params']['table'].spec, P('model', None))
    self.assertEqual(got['params']['dense'][0].spec, P('data', 'model'))
    self.assertEqual(got['step'].spec, P())

  def test_a_rule_that_matches_nothing_is_an_error(self):
    rules = ((r'tabel$', P('model')), (r'.*', P()))
    with self.assertRaisesRegex(ValueError, 'match nothing.*tabel'):
      sharding.from_rules(self.tree, rules, self.mesh)

  def test_a_leaf_without_a_rule_is_an_error(self):
    with self.assertRaisesRegex(
      ValueError, 'No partition rule matches.*dense/0'
    ):
      sharding.from_rules(self.tree, ((r'table', P()),), self.mesh)

  def test_a_rule_that_cannot_divide_its_leaf_is_an_error(self):
    rules = ((r'table$', P('data', None)), (r'.*', P()))
    with self.assertRaisesRegex(ValueError, r'table has shape \(6, 4\).*by 4'):
      sharding.from_rules(self.tree, rules, self.mesh)
    rules = ((r'step$', P('data')), (r'.*', P()))
    with self.assertRaisesRegex(ValueError, 'more dimensions'):
      sharding.from_rules(self.tree, rules, self.mesh)

  def test_rows_are_split_over_the_data_axis_in_order(self):
    rows = np.arange(8, dtype=np.int32)
    got = sharding.put_rows({'x': rows}, self.mesh)['x']
    np.testing.assert_array_equal(jax.device_get(got), rows)
    shards = {int(s.data[0]) for s in got.addressable_shards}
    self.assertEqual(shards, {0, 2, 4, 6})

  def test_a_batch_that_the_devices_do_not_divide_is_refused(self):
    sharding.check_batch('The train batch', 8, self.mesh)
    with self.assertRaisesRegex(ValueError, 'train batch is 10.*nearest.*8'):
      sharding.check_batch('The train batch', 10, self.mesh)

  def test_a_model_axis_must_divide_the_devices(self):
    with self.assertRaisesRegex(ValueError, '3 does not divide 8'):
      sharding.make_mesh(model=3)


if __name__ == '__main__':
  absltest.main()
