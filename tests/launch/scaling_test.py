"""Tests of scaling studies: their points, resuming, and reading back."""

import dataclasses
import hashlib
import json
import os
import shutil

from absl.testing import absltest, parameterized
import yaml

from launch import scaling
from launch.jobs import description
from launch.support import run_flags, scaling_jobs, scaling_plan
from suite import benchmark
from suite.hparams import Division
from suite.results import records
from tests.launch import digits_data, processes
from tests.suite.results import sample_results


def _asked(**more):
  asked = scaling_plan.Asked(
    mode='strong', devices=[1, 2], processes=[1], batch=None, batches=[],
    rule='root', changes={}, at={},
  )  # fmt: skip
  return dataclasses.replace(asked, **more)


def _request(name='resnet', division=Division.CLOSED):
  known = benchmark.get(name)
  size = known.size('tiny')
  return run_flags.Request(known, 'tiny', size, division, size.hparams)


def _spots(asked, **more):
  return [
    (place.devices, place.processes, place.batch)
    for place in scaling_plan.places(_request(**more), asked)
  ]


class PlanTest(parameterized.TestCase):
  def test_strong_scaling_keeps_the_global_batch(self):
    self.assertEqual(_spots(_asked()), [(1, 1, 128), (2, 1, 128)])
    self.assertEqual(
      _spots(_asked(batch=64, devices=[4, 1], processes=[2, 1])),
      [(1, 1, 64), (4, 2, 64)],
    )

  def test_weak_scaling_keeps_the_batch_of_a_device(self):
    asked = _asked(mode='weak', devices=[2, 4])
    self.assertEqual(_spots(asked), [(2, 1, 128), (4, 1, 256)])
    asked = _asked(mode='weak', batch=32)
    self.assertEqual(_spots(asked), [(1, 1, 32), (2, 1, 64)])

  def test_what_a_person_gives_goes_before_the_rule(self):
    asked = _asked(
      mode='batch', devices=[1], batches=[256, 512],
      changes={'decay_steps': '7'},
      at={512: {'base_learning_rate': '3', 'decay_steps': '9'}},
    )  # fmt: skip
    first, second = scaling_plan.places(_request(), asked)
    self.assertEqual(first.request.hparams.decay_steps, 7)
    self.assertAlmostEqual(
      first.request.hparams.base_learning_rate, 5 * 2**0.5, places=4
    )
    self.assertEqual(second.request.hparams.decay_steps, 9)
    self.assertEqual(second.request.hparams.base_learning_rate, 3)

  def test_points_of_convergence_give_the_hyperparameters_of_a_batch(self):
    asked = _asked(mode='batch', devices=[1], batches=[128], rule='points')
    (place,) = scaling_plan.places(_request(), asked)
    self.assertEqual(place.request.hparams.base_learning_rate, 5.0)
    asked = dataclasses.replace(asked, batches=[256])
    with self.assertRaisesRegex(ValueError, 'Nothing is known of resnet'):
      scaling_plan.places(_request(), asked)

  @parameterized.parameters(
    ({'devices': [3]}, 'batch that the devices divide, got 128 for 3'),
    ({'processes': [2]}, 'processes that divide the devices, got 2 for 1'),
    ({'processes': [1, 1, 1]}, 'one for each of 2 --devices, got 3'),
    ({'batches': [64]}, '--mode=batch and --batches together'),
    ({'mode': 'batch'}, '--mode=batch and --batches together'),
    ({'mode': 'batch', 'batches': [64]}, 'one number of --devices'),
    ({'changes': {'global_batch_size': '9'}}, 'got --hp=global_batch_size'),
    ({'at': {64: {}}}, r'got \[64\]; there are \[128\]'),
    ({'changes': {'image_size': '14'}}, 'Not allowed in the Closed division'),
    ({'changes': {'model_bn_span': '48'}}, 'got 48 '),
  )
  def test_what_cannot_be_is_refused_before_anything_runs(self, more, words):
    with self.assertRaisesRegex(ValueError, words):
      scaling_plan.places(_request(), _asked(**more))

  def test_an_override_at_a_batch_has_one_form(self):
    found = scaling_plan.at_batches(['64:a=1', '64:b=x=y', '8:a=2'])
    self.assertEqual(found, {64: {'a': '1', 'b': 'x=y'}, 8: {'a': '2'}})
    with self.assertRaisesRegex(ValueError, "batch:name=value, got 'a=1'"):
      scaling_plan.at_batches(['a=1'])

  def test_a_process_takes_as_many_devices_as_its_point(self):
    _, place = scaling_plan.places(_request(), _asked())
    self.assertEqual(
      scaling_plan.variables(place, 'cpu'), {'JAX_NUM_CPU_DEVICES': '2'}
    )
    self.assertEqual(place.start, ('launch.train',))
    with self.assertRaisesRegex(ValueError, '--jobs=FILE'):
      scaling_plan.variables(place, 'tpu')
    two = dataclasses.replace(place, processes=2)
    self.assertContainsSubset(('--processes=2', '--devices=1'), two.start)


class StudyTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.output = os.path.join(self.folder, 'study')
    quick = processes.quick(max_epochs=1)
    self.arguments = (
      *[flag for flag in quick if 'global_batch_size' not in flag],
      *processes.QUICKLY_COMPILED,
      '--mode=batch',
      '--runs=1',
      f'--output={self.output}',
      f'--data_dir={digits_data.data_dir()}',
    )

  def path(self, *names):
    return os.path.join(self.output, *names)

  def read(self, *names):
    with open(self.path(*names), encoding='utf-8') as file:
      return json.load(file)

  def digest(self, *names):
    with open(self.path(*names), 'rb') as file:
      return hashlib.sha256(file.read()).hexdigest()

  def test_a_study_is_made_goes_on_with_more_points_and_is_collected(self):
    first = processes.run('launch.scaling', *self.arguments, '--batches=512')
    # No run met the target, so no point has a time.
    self.assertEqual(first.returncode, 1, first.stderr)
    log = self.digest('d1_p1_b512', 'result_0.txt')
    self.assertEqual(self.read('scaling.json')['points'][0]['met'], 0)

    more = processes.run('launch.scaling', *self.arguments, '--batches=512,256')
    self.assertEqual(more.returncode, 1, more.stderr)
    self.assertIn('d1_p1_b512, run 0 (1 of 1): finished before', more.stdout)
    self.assertEqual(self.digest('d1_p1_b512', 'result_0.txt'), log)
    study = self.read('scaling.json')
    self.assertEqual(study['mode'], 'batch')
    small, large = study['points']
    self.assertEqual((small['batch'], large['batch']), (256, 512))
    self.assertGreater(small['samples_per_second'], 0)
    hp = self.read('d1_p1_b256', 'run_0.json')['hyperparameters']
    self.assertEqual(hp['global_batch_size']['value'], 256)
    self.assertTrue(os.path.exists(self.path('scaling.html')))
    last = more.stdout.strip().splitlines()[-1]
    self.assertEqual(last, f'Report: {self.path("scaling.html")}')

    self._let_all_have_met_the_target()
    elsewhere = os.path.join(self.folder, 'read')
    read = processes.here(
      scaling, f'--collect={self.output}', f'--output={elsewhere}'
    )
    self.assertEqual(read.returncode, 0, read.stderr)
    with open(os.path.join(elsewhere, 'scaling.json')) as file:
      points = json.load(file)['points']
    for point in points:
      self.assertAlmostEqual(
        point['total_efficiency'],
        point['throughput_efficiency']
        * point['epochs_ratio']
        * point['overhead_ratio'],
      )

  def _let_all_have_met_the_target(self):
    for name in ('d1_p1_b256', 'd1_p1_b512'):
      record = self.read(name, 'run_0.json')
      record['time_to_quality'] = record['timed']['seconds']
      with open(self.path(name, 'run_0.json'), 'w', encoding='utf-8') as file:
        json.dump(record, file)

  def test_a_dry_run_shows_the_points_and_leaves_nothing(self):
    done = processes.here(
      scaling, *self.arguments, '--batches=256,1024', '--dry_run'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('d1_p1_b1024: 1 device in 1 process', done.stdout)
    self.assertFalse(os.path.exists(self.output))


class JobsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'job.yaml')
    self.base = {
      'benchmark': 'resnet', 'size': 'tiny', 'hardware': 'h100',
      'data': '/data', 'output': '/results', 'chips_per_host': 8,
      'processes_per_host': 8, 'batch': 128,
    }  # fmt: skip

  def jobs(self, devices, **more):
    with open(self.path, 'w', encoding='utf-8') as file:
      yaml.safe_dump({**self.base, **more}, file)
    asked = _asked(mode='weak', devices=devices, batch=32)
    places = scaling_plan.places(_request(), asked)
    places = [scaling_jobs.placed(place, self.path) for place in places]
    return [
      description.job(
        yaml.safe_load(scaling_jobs.text(scaling_jobs.job(place, self.path, 3)))
      )
      for place in places
    ]

  def test_a_point_takes_whole_hosts_or_a_part_of_one(self):
    part, hosts = self.jobs([4, 32])
    self.assertEqual((part.hosts, part.processes, part.chips_per_host),
                     (1, 4, 4))  # fmt: skip
    self.assertEqual((hosts.hosts, hosts.processes), (4, 32))
    self.assertEqual(hosts.output, '/results/d32_p32_b1024')
    self.assertEqual(hosts.runs, 3)
    batch = description.hyperparameters(hosts)['global_batch_size']
    self.assertEqual(batch, '1024')

  def test_a_point_of_tpus_is_the_slice_with_its_devices(self):
    tpus = {'hardware': '', 'chips_per_host': None, 'processes_per_host': 1}
    self.base = {n: v for n, v in self.base.items() if n not in tpus}
    first, second = self.jobs([16, 64], system='v3-128x2')
    self.assertEqual((first.system, second.system), ('v3-8x2', 'v3-32x2'))
    self.assertEqual((second.processes, second.topology), (8, '4x4'))
    with self.assertRaisesRegex(ValueError, 'no slice of 8 chips of v3'):
      self.jobs([16], system='v3-8')
    with self.assertRaisesRegex(ValueError, 'fill 2 slices of v3, got 6'):
      self.jobs([6], system='v3-8x2')

  def test_devices_that_fill_no_hosts_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'fill hosts of 8 chips, got 12'):
      self.jobs([12])

  def test_a_description_of_another_benchmark_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'benchmark resnet, .* got ncf'):
      self.jobs([8], benchmark='ncf', batch=2048)


class ReadingTest(absltest.TestCase):
  def write(self, folder, run, devices=1, batch=10, name='resnet'):
    record = sample_results.result(
      run,
      benchmark=name,
      system={'devices': devices, 'processes': 1},
      hyperparameters=sample_results.settings(global_batch_size=batch),
    )
    os.makedirs(folder, exist_ok=True)
    with open(f'{folder}/run_{run}.json', 'w', encoding='utf-8') as file:
      json.dump(record, file)

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def test_a_folder_holds_runs_of_one_point(self):
    for run in range(2):
      self.write(self.folder, run, devices=1 + run)
    with self.assertRaisesRegex(ValueError, 'as many devices and processes'):
      scaling._point(self.folder, records.read_runs(self.folder))

  def test_a_point_made_on_other_devices_than_asked_is_an_error(self):
    place = scaling_plan.places(_request(), _asked(batch=128))[1]
    self.write(self.folder, 0, devices=1, batch=128)
    with self.assertRaisesRegex(RuntimeError, 'd2_p1_b128 was made on 1 dev'):
      scaling._require_place(self.folder, place)
    shutil.rmtree(self.folder)
    self.write(self.folder, 0, devices=2, batch=128)
    scaling._require_place(self.folder, place)

  def test_as_many_runs_as_in_a_result_are_scored_like_one(self):
    for run in range(5):
      self.write(self.folder, run)
    point = scaling._point(self.folder, records.read_runs(self.folder))
    self.assertEqual(point.dropped, 1)
    self.assertLen(point.kept, 3)

  def test_points_of_two_benchmarks_are_refused(self):
    folders = [os.path.join(self.folder, name) for name in ('resnet', 'ncf')]
    for folder in folders:
      self.write(folder, 0, name=os.path.basename(folder))
    with self.assertRaisesRegex(ValueError, 'one benchmark .* ncf, resnet'):
      scaling._conclude(folders, self.folder)

  def test_a_directory_without_runs_is_refused(self):
    with self.assertRaisesRegex(ValueError, r'folders with run_<i>\.json'):
      scaling._collected(self.folder)


if __name__ == '__main__':
  absltest.main()
