"""Tests of meshes and path rules, on 8 CPU devices."""

import dataclasses
import os
import socket
import subprocess
import sys

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from suite.run import sharding
from tests.launch import processes


@dataclasses.dataclass(frozen=True)
class Device:
  """Attributes that a mesh reads of a device that is not there."""

  id: int
  process_index: int
  slice_index: int = 0
  device_kind: str = 'none'
  platform: str = 'none'


def _mesh(*hosts):
  """Rows of the data axis, each with the hosts of its devices."""
  devices = np.array(
    [
      [Device(10 * i + j, h) for j, h in enumerate(r)]
      for i, r in enumerate(hosts)
    ]
  )
  return jax.sharding.Mesh(devices, ('data', 'model'))


def _hosts(mesh):
  return [[d.process_index for d in place] for place in mesh.devices]


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


class MeshTest(parameterized.TestCase):
  def test_slices_lie_one_after_the_other_on_the_data_axis(self):
    mixed = [Device(i, i % 4, slice_index=1 - i % 2) for i in range(8)]
    mesh = sharding.make_mesh(2, mixed)
    slices = [[d.slice_index for d in place] for place in mesh.devices]
    self.assertEqual(slices, [[0, 0], [0, 0], [1, 1], [1, 1]])
    self.assertEqual(mesh.axis_names, ('data', 'model'))

  def test_a_model_axis_stays_inside_a_host_where_it_divides_one(self):
    # Hosts take turns in the physical order, as on a torus.
    turns = [Device(i, process_index=i % 2) for i in range(8)]
    self.assertEqual(
      _hosts(sharding.make_mesh(2, turns)), [[0, 0], [0, 0], [1, 1], [1, 1]]
    )
    self.assertEqual(
      _hosts(sharding.make_mesh(1, turns)), [[0]] * 4 + [[1]] * 4
    )
    self.assertEqual(_hosts(sharding.make_mesh(8, turns)), [[0, 1] * 4])

  def test_a_model_axis_that_would_cross_slices_is_refused(self):
    devices = [Device(i, i // 4, slice_index=i // 4) for i in range(8)]
    with self.assertRaisesRegex(ValueError, '8 would cross slices of 4'):
      sharding.make_mesh(8, devices)

  def test_slices_of_different_sizes_are_refused(self):
    devices = [Device(i, 0, slice_index=int(i > 2)) for i in range(8)]
    with self.assertRaisesRegex(ValueError, 'one size, got some of 3, 5'):
      sharding.make_mesh(1, devices)

  @parameterized.parameters(
    ([[3], [3], [5], [5]], {3: (0, 2), 5: (1, 2)}),
    ([[1], [0], [2], [3]], {1: (0, 4), 0: (1, 4), 2: (2, 4), 3: (3, 4)}),
    ([[0, 1], [2, 3]], {0: (0, 2), 1: (0, 2), 2: (1, 2), 3: (1, 2)}),
    ([[0, 1, 2, 3]], {0: (0, 1), 3: (0, 1)}),
    ([[0, 1], [0, 1]], {0: (0, 1), 1: (0, 1)}),
    ([[0], [1], [0], [1]], {0: (0, 2), 1: (1, 2)}),
  )
  def test_processes_that_a_model_axis_joins_feed_the_same_rows(
    self, hosts, shares
  ):
    mesh = _mesh(*hosts)
    for process, share in shares.items():
      self.assertEqual(sharding.host_share(mesh, process), share)

  @parameterized.parameters(
    ([[0], [0], [0], [1]],), ([[0, 0], [0, 1], [1, 1]],), ([[0, 1], [0, 2]],)
  )
  def test_shares_that_are_not_equal_are_refused(self, hosts):
    with self.assertRaisesRegex(ValueError, 'equal and separate shares'):
      sharding.host_share(_mesh(*hosts), 0)

  def test_a_process_without_devices_has_no_share(self):
    with self.assertRaisesRegex(ValueError, r'process 7 in .* \[0, 1\]'):
      sharding.host_share(_mesh([0], [1]), 7)

  @parameterized.parameters(
    ([[0], [0], [1], [1]], 8),  # a host's rows, 4 a device
    ([[0], [0], [1], [1]], 2),
    ([[0], [1], [0], [1]], 4),
    ([[0, 1], [0, 1], [0, 1], [0, 1]], 16),  # all hosts have all rows
    ([[0], [0], [0], [0]], 16),
  )
  def test_groups_of_rows_on_one_host_are_allowed(self, hosts, group):
    sharding.check_groups('It', 16, group, _mesh(*hosts))

  @parameterized.parameters(
    ([[0], [0], [1], [1]], 16, '8 rows, 8 of them in a row.*fits: 8'),
    ([[0], [0], [1], [1]], 3, 'groups of 3 .*fits: 2'),
    ([[0], [1], [0], [1]], 8, '8 rows, 4 of them in a row.*fits: 4'),
    ([[0, 1], [0, 1], [2, 3], [2, 3]], 16, 'fits: 8'),
  )
  def test_groups_that_cross_hosts_are_refused(self, hosts, group, says):
    with self.assertRaisesRegex(ValueError, says):
      sharding.check_groups('It', 16, group, _mesh(*hosts))

  def test_real_processes_put_the_rows_that_they_share(self):
    with socket.create_server(('127.0.0.1', 0)) as listening:
      port = listening.getsockname()[1]
    ranks = [
      subprocess.Popen(
        [sys.executable, '-c', _PUT, str(port), str(rank)],
        cwd=processes.ROOT,
        env={**os.environ, 'JAX_NUM_CPU_DEVICES': '2'},
        stdout=subprocess.PIPE,
        text=True,
      )
      for rank in range(2)
    ]
    for rank in ranks:
      self.addCleanup(rank.kill)
    said = [rank.communicate(timeout=240)[0].strip() for rank in ranks]
    # Host 0 has devices 0 and 1 of 4.
    self.assertEqual(said[0], '(0, 1) [[0, 1], [2, 3]] (0, 2) [[0], [1]]')
    self.assertEqual(said[1], '(0, 1) [[0, 1], [2, 3]] (1, 2) [[2], [3]]')


# Prints this process's share of the rows 0, 1, .. and what its devices got, for
# a model axis that joins the hosts and for none.
_PUT = """
import sys
import jax
import numpy as np
from suite.run import sharding

jax.distributed.initialize(
  f'127.0.0.1:{sys.argv[1]}', 2, int(sys.argv[2]), initialization_timeout=200)
place = np.array(jax.devices())
across = jax.sharding.Mesh(place.reshape(2, 2).T, ('data', 'model'))
for mesh in (across, sharding.make_mesh()):
  host, hosts = sharding.host_share(mesh)
  rows = np.split(np.arange(4), hosts)[host]
  got = sharding.put_rows({'x': rows}, mesh)['x']
  shards = sorted(shard.data.tolist() for shard in got.addressable_shards)
  print((host, hosts), shards, end=' ')
print()
"""


class SpreadTest(parameterized.TestCase):
  """Over 8 devices; a leaf counts as small below 2**14 elements."""

  @parameterized.parameters(
    ((128, 256), P(), P(None, 'data')),  # the largest dimension
    ((256, 256), P(), P('data', None)),  # or the first of them
    ((16, 1030), P(), P('data', None)),  # that the axis divides
    ((150, 150), P(), P()),
    ((64, 255), P(), P()),  # 16,320 elements
    ((8, 8), P(), P()),
    ((), P(), P()),
    ((4096, 64), P('data'), P('data')),  # it is split over the axis already
  )
  def test_the_largest_dimension_that_divides_is_split(
    self, shape, ruled, spread
  ):
    self.assertEqual(self.spread(shape, ruled, sharding.make_mesh()), spread)

  def test_what_a_rule_splits_over_the_model_axis_is_left_so(self):
    mesh = sharding.make_mesh(model=2)
    got = self.spread((4096, 64), P('model', None), mesh)
    self.assertEqual(got, P('model', 'data'))

  def test_one_device_splits_nothing(self):
    mesh = sharding.make_mesh(model=8)
    self.assertEqual(self.spread((4096, 64), P(), mesh), P())

  def spread(self, shape, ruled, mesh):
    leaf = jax.ShapeDtypeStruct(shape, np.float32)
    placed = jax.sharding.NamedSharding(mesh, ruled)
    return sharding.spread({'a': leaf}, {'a': placed}, mesh)['a'].spec


if __name__ == '__main__':
  absltest.main()
