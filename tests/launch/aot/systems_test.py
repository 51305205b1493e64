"""Tests of systems by name, and of the rates they come with."""

import math

from absl.testing import absltest, parameterized

from launch.aot import systems


class SystemsTest(parameterized.TestCase):
  @parameterized.parameters(*systems.published())
  def test_every_published_system_is_whole(self, name):
    system = systems.get(name)
    self.assertEqual(system.chips, math.prod(system.topology) * system.slices)
    self.assertEqual(system.chips, system.hosts * system.chips_per_host)
    for rate in (system.memory_bytes, system.memory_bandwidth,
                 system.link_bandwidth, system.wide_bandwidth):  # fmt: skip
      self.assertGreater(rate, 1e9)
    for field in ('flops', 'memory_bytes', 'memory_bandwidth',
                  'link_bandwidth', 'wide_bandwidth'):  # fmt: skip
      self.assertTrue(system.sources[field], field)

  @parameterized.parameters(
    ('NVIDIA H100 80GB HBM3', 1, 'h100-1'),
    ('NVIDIA H200', 8, 'h200-8'),
    ('NVIDIA B200', 64, 'b200-64'),
    ('TPU v5 lite', 4, 'v5e-4'),
    ('TPU v5', 4, 'v5p-8'),
    ('TPU v3', 8, 'v3-8'),
    ('TPU7x', 128, 'tpu7x-128'),
  )
  def test_devices_are_known_by_what_jax_calls_them(self, kind, devices, name):
    self.assertEqual(systems.of_devices(kind, devices), systems.get(name))

  @parameterized.parameters(
    ('cpu', 8), ('NVIDIA H100 80GB HBM3', 12), ('TPU v4', 3)
  )
  def test_others_and_parts_of_systems_are_none(self, kind, devices):
    self.assertIsNone(systems.of_devices(kind, devices))

  @parameterized.parameters(
    ('v5e-256', 256, 256, 64, '16x16'),
    ('v5e-8', 8, 8, 1, '2x4'),
    ('v5e-1', 1, 1, 1, '1x1'),
    ('v5e-16', 16, 16, 4, '4x4'),
    ('v5p-512', 256, 256, 64, '4x8x8'),
    ('v4-8', 4, 4, 1, '2x2x1'),
    ('v3-8', 4, 8, 1, '2x2'),
    ('tpu7x-128', 64, 128, 16, '4x4x4'),
    ('v5e-256x2', 512, 512, 128, '2 slices of 16x16'),
    ('h100-8', 8, 8, 1, '1 host of 8'),
    ('h100-64', 64, 64, 8, '8 hosts of 8'),
    ('b200-4', 4, 4, 1, '1 host of 4'),
  )
  def test_what_a_name_counts(self, name, chips, devices, hosts, shape):
    system = systems.get(name)
    self.assertEqual(
      (system.chips, system.devices, system.hosts, system.shape()),
      (chips, devices, hosts, shape),
    )

  def test_cores_of_a_name_are_two_a_chip(self):
    for kind in ('v3', 'v4', 'v5p', 'tpu7x'):
      for name in systems.published():
        if name.startswith(f'{kind}-'):
          chips = systems.get(name).chips
          self.assertEqual(int(name.partition('-')[2]), 2 * chips, name)

  @parameterized.parameters(
    ('v5e-256', (True, True)),
    ('v5e-128', (False, True)),
    ('v5e-64', (False, False)),
    ('v5p-128', (True, True, True)),
    ('v5p-64', (False, False, False)),
    ('v3-2048', (True, True)),
  )
  def test_axes_that_close_to_rings(self, name, wraps):
    self.assertEqual(systems.get(name).wraps, wraps)

  @parameterized.parameters(
    ('v5e-300', 'v5e-128, v5e-256'),
    ('v5p-500', 'v5p-256, v5p-512'),
    ('h100-12', 'h100-8, h100-16'),
    ('h100-0', 'h100-8, h100-16'),
    ('v5q-8', 'v5p-8'),
    ('v5e256', 'v5e-256'),
    ('', 'expected a kind'),
    ('h100-8x2', 'h100-16'),
    ('v5e-8x0', 'Expected 1 to'),
    ('v5e-8x65', 'Expected 1 to'),
    ('h100-99999', 'h100-16384'),
  )
  def test_what_there_is_not_is_refused_with_the_nearest(self, name, text):
    with self.assertRaisesRegex(ValueError, text):
      systems.get(name)

  def test_several_are_in_the_order_asked_for(self):
    found = systems.several('v5e-16, v5e-8')
    self.assertEqual([s.name for s in found], ['v5e-16', 'v5e-8'])

  @parameterized.parameters((',', 'is needed'), ('v5e-8,v5e-8', 'twice'))
  def test_a_list_that_means_nothing_is_refused(self, text, error):
    with self.assertRaisesRegex(ValueError, error):
      systems.several(text)

  def test_products_of_float32_are_of_bfloat16_on_a_tpu_and_tf32_on_a_gpu(self):
    tpu, gpu = systems.get('v5e-8'), systems.get('h100-8')
    self.assertEqual(tpu.rate('f32'), tpu.rate('bf16'))
    self.assertAlmostEqual(gpu.rate('f32') * 2, gpu.rate('bf16'))
    self.assertEqual(gpu.rate('f8e4m3fn'), gpu.flops['f8'])


if __name__ == '__main__':
  absltest.main()
