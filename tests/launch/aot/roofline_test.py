"""Tests of the roofline, against times worked out by hand."""

import itertools

from absl.testing import absltest, parameterized
import numpy as np

from launch.aot import roofline, systems
from launch.aot.collectives import Collective
from launch.aot.roofline import Place

_MB = 1_000_000


def _slice(name):
  """The system, and a Place for every device of its slices."""
  system = systems.get(name)
  chips = list(itertools.product(*(range(n) for n in system.topology)))
  places = [
    Place(part, number // system.chips_per_host, chip)
    for part in range(system.slices)
    for number, chip in enumerate(chips)
    for _ in range(system.devices_per_chip)
  ]
  return system, places


def _cluster(name):
  system = systems.get(name)
  hosts, each = system.topology
  places = [Place(0, h, (h, g)) for h in range(hosts) for g in range(each)]
  return system, places


def _seconds(kind, size, groups, made):
  system, places = made
  collective = Collective(kind, size, 1, True, np.array(groups))
  return roofline.network_seconds(collective, places, system)


def _all(made):
  return [list(range(len(made[1])))]


class NetworkTest(parameterized.TestCase):
  @parameterized.parameters(
    # 2D torus, both axes rings: 4 links of 50 GB/s.
    ('v5e-256', 'all-reduce', 2 * 255 / 256 / 200e9),
    ('v5e-256', 'all-gather', 255 / 256 / 200e9),
    # A mesh of 2 x 4: no rings, so 2 links.
    ('v5e-8', 'all-reduce', 2 * 7 / 8 / 100e9),
    # 8 x 16: a ring along the longer axis only.
    ('v5e-128', 'reduce-scatter', 127 / 128 / 150e9),
    # A 3D torus of 100 GB/s: 6 links.
    ('v5p-512', 'all-reduce', 2 * 255 / 256 / 600e9),
    # Two devices a chip share its links, and 4 chips send.
    ('v3-8', 'all-reduce', 2 * 3 / 4 / 140e9),
    # 8 x 8 without rings: the middle of a line of 8 passes 2 of 8.
    ('v5e-64', 'all-to-all', 63 / 64 / 25e9),
  )
  def test_a_slice(self, name, kind, seconds_a_byte):
    made = _slice(name)
    self.assertAlmostEqual(
      _seconds(kind, _MB, _all(made), made) / (_MB * seconds_a_byte), 1
    )

  def test_one_axis_of_a_torus_has_its_links_only(self):
    made = _slice('v5e-256')
    columns = np.arange(256).reshape(16, 16)
    self.assertAlmostEqual(
      _seconds('all-gather', _MB, columns, made), _MB * 15 / 16 / 100e9
    )

  def test_slices_are_joined_by_the_slow_network(self):
    made = _slice('v5e-256x2')
    # Every chip sends a 256th of the bytes at 3.125 GB/s, twice a half.
    far = 2 * _MB * (1 / 2) / (256 * 3.125e9)
    near = 2 * _MB * 255 / 256 / 200e9
    self.assertAlmostEqual(
      _seconds('all-reduce', _MB, _all(made), made), max(far, near)
    )

  def test_cores_of_a_chip_exchange_through_its_memory(self):
    made = _slice('v3-8')
    pairs = np.arange(8).reshape(4, 2)
    self.assertAlmostEqual(
      _seconds('all-reduce', _MB, pairs, made), 2 * _MB / 900e9
    )

  def test_groups_that_share_chips_share_their_links(self):
    made = _slice('v3-8')
    apart = np.arange(8).reshape(4, 2).T  # each core with its likes
    together = _seconds('all-reduce', _MB, _all(made), made)
    self.assertAlmostEqual(
      _seconds('all-reduce', _MB, apart, made), 2 * together
    )

  @parameterized.parameters(
    ('h100-8', 2 * 7 / 8 / 450e9),
    # Eight senders of 50 GB/s a host; NVLink is busy for less.
    ('h100-64', 2 * 7 / 8 / 400e9),
    ('b200-8', 2 * 7 / 8 / 900e9),
  )
  def test_gpus(self, name, seconds_a_byte):
    made = _cluster(name)
    self.assertAlmostEqual(
      _seconds('all-reduce', _MB, _all(made), made) / (_MB * seconds_a_byte), 1
    )

  def test_gpus_that_exchange_their_own_send_over_their_own_network(self):
    made = _cluster('h100-16')
    self.assertAlmostEqual(
      _seconds('all-to-all', _MB, _all(made), made), _MB / 2 / 50e9
    )

  def test_a_loop_takes_as_often_as_it_turns(self):
    system, places = _cluster('h100-8')
    groups = np.arange(8)[None]
    once, often = (
      roofline.network_seconds(
        Collective('all-gather', _MB, times, True, groups), places, system
      )
      for times in (1, 12)
    )
    self.assertAlmostEqual(often, 12 * once)

  def test_the_widest_border_is_named(self):
    collective = Collective('all-reduce', 1, 1, True, np.array([[0, 1]]))
    for one, two, border in (
      (Place(0, 0, (0,)), Place(1, 1, (0,)), 'slices'),
      (Place(0, 0, (0,)), Place(0, 1, (1,)), 'hosts'),
      (Place(0, 0, (0,)), Place(0, 0, (1,)), 'chips'),
      (Place(0, 0, (0,)), Place(0, 0, (0,)), ''),
    ):
      self.assertEqual(roofline.crosses(collective, [one, two]), border)


class RooflineTest(parameterized.TestCase):
  def test_operations_over_the_rate_of_their_type(self):
    system = systems.get('h100-8')
    self.assertAlmostEqual(
      roofline.compute_seconds({'bf16': 989.4e9, 'f32': 494.7e9}, system), 2e-3
    )

  def test_a_device_that_is_half_a_chip_has_half_its_rates(self):
    system = systems.get('v3-8')
    self.assertAlmostEqual(
      roofline.compute_seconds({'bf16': 123e12}, system), 2.0
    )
    self.assertAlmostEqual(roofline.memory_seconds(900e9, system), 2.0)

  def test_the_slowest_bounds_the_step(self):
    found = roofline.Roofline(compute=1.0, memory=3.0, network=2.0)
    self.assertEqual(
      (found.bound, found.overlapped, found.serial), ('memory', 3.0, 6.0)
    )

  def test_utilization_is_of_what_all_chips_could_do(self):
    system = systems.get('v5e-8')
    self.assertAlmostEqual(
      roofline.model_utilization(8 * 197e12 * 0.5, 1.0, system), 0.5
    )
    self.assertEqual(roofline.model_utilization(1.0, 0.0, system), 0.0)


if __name__ == '__main__':
  absltest.main()
