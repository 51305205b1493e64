"""Tests of what is measured before a run: devices, network, disk, clocks."""

import json
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import jax

from launch import local
from launch.support import preflight
from suite.results.report import facts
from suite.run import sharding
from tests.launch import processes
from tests.suite.results import sample_results


def _devices(*speeds, kind='chip'):
  return [
    {'id': i, 'process': 0, 'kind': kind, 'tflops': speed}
    for i, speed in enumerate(speeds)
  ]


class StragglerTest(parameterized.TestCase):
  def test_a_slow_device_is_named_with_how_slow_it_is(self):
    (found,) = preflight.stragglers(_devices(100, 101, 75, 99))
    self.assertStartsWith(found, 'device 2 of process 0: 75 TFLOP/s, 25 %')

  def test_a_fifth_below_the_median_is_no_straggler(self):
    self.assertEmpty(preflight.stragglers(_devices(100, 100, 80.1)))
    self.assertLen(preflight.stragglers(_devices(100, 100, 79.9)), 1)

  def test_devices_are_compared_with_their_kind(self):
    mixed = _devices(100, 100) + _devices(10, 10, kind='old')
    self.assertEmpty(preflight.stragglers(mixed))


class PreflightTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.mesh = sharding.make_mesh(devices=jax.devices()[:3])

  def test_every_part_is_measured_and_nothing_is_left_behind(self):
    found = preflight.run(self.mesh, self.folder)
    self.assertEqual([d['id'] for d in found['devices']], [0, 1, 2])
    for device in found['devices']:
      self.assertBetween(device['tflops'], 1e-4, 100)
    reduced = found['all_reduce']
    self.assertEqual(reduced['devices'], 3)
    rate = reduced['bytes'] / reduced['seconds']
    self.assertAlmostEqual(reduced['algorithm_bytes_per_second'], rate)
    self.assertAlmostEqual(reduced['bus_bytes_per_second'], rate * 4 / 3)
    self.assertBetween(found['disk']['bytes_per_second'], 1e5, 1e12)
    self.assertIn('one clock', found['clock']['text'])
    self.assertEmpty(found['left_out'])
    self.assertLess(found['seconds'], 60)
    self.assertEmpty(os.listdir(self.folder))
    json.dumps(found, allow_nan=False)
    names = [name for name, _ in facts.preflight(found)]
    self.assertContainsSubset(('matrix product', 'all-reduce', 'disk'), names)

  def test_what_there_is_no_time_for_is_left_out_and_named(self):
    found = preflight.run(self.mesh, self.folder, seconds=0.0)
    self.assertEqual(
      found['left_out'], ['devices', 'all_reduce', 'clock', 'disk']
    )
    self.assertEmpty(found['stragglers'])
    (line,) = facts.preflight(found)
    self.assertIn('devices, all_reduce, clock, disk', line[1])

  @parameterized.parameters(
    ('gs://bucket/data', 'no disk of this host'),
    (None, 'no disk of this host'),
    ('/nowhere/at/all', 'cannot be written to: No such file'),
    ('/proc', 'not measured'),
  )
  def test_a_disk_that_cannot_be_tried_is_not_measured(self, directory, why):
    found = preflight._disks(directory, 1 << 20, 1.0)
    self.assertIn(why, found['text'])
    self.assertNotIn('bytes_per_second', found)

  def test_a_file_in_memory_is_not_taken_for_a_disk(self):
    if not os.path.isdir('/dev/shm'):
      self.skipTest('/dev/shm is not there')
    with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
      rate, cold, why = preflight._read_rate(folder, 1 << 20, 1.0)
    self.assertEqual((cold, why), (0.0, ''))
    self.assertGreater(rate, 0)

  def test_a_file_that_was_just_read_is_not_cold(self):
    keeping = mock.patch.object(os, 'posix_fadvise', lambda *arguments: None)
    with preflight._scratch(self.folder, 1 << 20, 5.0) as file, keeping:
      preflight._timed_read(file, 5.0)
      self.assertFalse(preflight._dropped(file))

  def test_cpus_are_not_tried_unless_asked(self):
    self.assertFalse(preflight.is_wanted(self.mesh, None))
    self.assertTrue(preflight.is_wanted(self.mesh, True))

  def test_stragglers_end_a_strict_run_and_are_warned_of_in_another(self):
    slow = {**preflight.run(self.mesh, None, 0.0), 'stragglers': ['device 7']}
    with mock.patch.object(preflight, 'run', return_value=slow):
      found = preflight.before(self.mesh, '', strict=False, told=False)
      self.assertEqual(found, slow)
      with self.assertRaisesRegex(ValueError, 'one speed, got slow device 7'):
        preflight.before(self.mesh, '', strict=True, told=False)


class ReportTest(absltest.TestCase):
  def test_the_report_shows_it_and_the_stragglers_of_later_runs(self):
    results = sample_results.results()
    score = sample_results.score(results)
    self.assertNotIn('Preflight', sample_results.render(results, score))
    found = {'devices': _devices(1.0, 3.0), 'stragglers': [], 'left_out': []}
    results[0]['preflight'] = found
    results[1]['preflight'] = {**found, 'stragglers': ['device 7 is slow']}
    html = sample_results.render(results, score)
    self.assertIn('2 devices: slowest 1, median 2, fastest 3 TFLOP/s', html)
    self.assertIn('device 7 is slow', html)


class SeveralProcessesTest(absltest.TestCase):
  def test_two_processes_find_the_same_and_how_far_their_clocks_are(self):
    folder = self.create_tempdir().full_path
    code = local.run(
      'tests.launch.support.preflight_main', [folder], processes=2, devices=1,
      environment={'JAX_PLATFORMS': 'cpu'},
    )  # fmt: skip
    self.assertEqual(code, 0)
    found = []
    for rank in range(2):
      with open(os.path.join(folder, f'{rank}.json')) as file:
        found.append(json.load(file))
    for part in ('devices', 'all_reduce', 'disk', 'stragglers', 'clock'):
      self.assertEqual(found[0][part], found[1][part])
    self.assertEqual([d['process'] for d in found[0]['devices']], [0, 1])
    self.assertEqual(found[0]['all_reduce']['devices'], 2)
    self.assertEqual(found[0]['disk']['hosts'], 1)  # both are on this one
    # Rank 1's clock was told to be three seconds ahead.
    self.assertBetween(found[0]['clock']['seconds'], 2.9, 3.5)
    self.assertBetween(found[0]['clock']['ahead_of_process_0'][1], 2.9, 3.5)


class TrainTest(absltest.TestCase):
  def test_a_run_records_it_as_a_part_of_startup(self):
    done = processes.quick_run()
    self.assertIn('preflight, ', done.stdout, done.stderr)
    with open(f'{done.folder}/run_0.json', encoding='utf-8') as file:
      record = json.load(file)
    self.assertLen(record['preflight']['devices'], 1)
    part = record['startup']['parts']['preflight']
    self.assertGreaterEqual(part, record['preflight']['seconds'])


if __name__ == '__main__':
  absltest.main()
