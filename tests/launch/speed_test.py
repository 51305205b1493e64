import os
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np
import pytest

from launch import profiles, speed
from launch.aot import systems
from launch.speeds import measured, one, points, rates, sources
from launch.support import run_flags
from suite import benchmark as benchmark_lib
from suite.hparams import Division
from suite.results import speed as results
from suite.run import sharding
from tests import benchmark_runs, ids, quick
from tests.launch import entrypoint_flags, processes
from tests.suite.results import sample_speeds

_CHEAP = 'ncf'  # of benchmarks at the size of tests, it compiles soonest


def _never(*args, **how):
  raise AssertionError('It was measured.')


def _asked(*arguments, failing=()):
  """Runs the command, each point being a stand-in; `failing` ones fail."""
  spots = []

  def one_of(spot, more, limit):
    del more, limit
    spots.append(spot)
    name = spot.about['benchmark']
    if name in failing:
      return {**spot.about, 'failed': f'{name} is not well'}
    devices = spot.about['devices'] or 1
    return sample_speeds.point(name, devices=devices, label=spot.about['label'])

  with mock.patch.object(points, '_measured', one_of):
    return processes.here(speed, *arguments), spots


class FlagsTest(parameterized.TestCase):
  @parameterized.parameters(
    (('--benchmark=resnett',), "did you mean 'resnet'"),
    (('--size=tinny',), "did you mean 'tiny'"),
    (('--hp=global_batch=8',), "did you mean 'global_batch_size'"),
    (('--programs=train_stpe',), "did you mean 'train_step'"),
    (('--all', '--benchmark=ncf'), 'got both'),
    (('--all', '--size=large'), 'a size that a benchmark has'),
    (('--sweep=per_chip_batch',), 'takes name=value'),
    (('--sweep=per_chip_batch=0,8',), 'Expected numbers'),
    (('--sweep=per_chip_batch=8,8',), 'values that differ'),
    (('--sweep=batch=8',), 'Unknown hyperparameter'),
    (('--sweep=per_chip_batch=8', '--per_chip_batch=8'), 'got both'),
    (('--devices=two',), 'Expected numbers'),
    (('--devices=1', '--hp=global_batch_size=8'), 'give --per_chip_batch'),
    (('--against=/nowhere.json',), 'Cannot read /nowhere.json'),
    (('--json=/proc/no/speed.json',), 'Cannot write'),
  )
  def test_wrong_flags_are_one_line_before_anything_is_measured(
    self, arguments, words
  ):
    with (
      mock.patch.object(one, 'measure', _never),
      mock.patch.object(points, 'measured', _never),
    ):
      found = processes.here(speed, *arguments)
    self.assertEqual(found.returncode, 2, found.stderr)
    self.assertIn(words, found.stderr)
    self.assertLen(found.stderr.strip().splitlines(), 1)

  def test_a_job_of_several_processes_measures_one_point(self):
    with mock.patch.dict(os.environ, {
      'PODIUM_PROCESSES': '2', 'PODIUM_PROCESS_ID': '0',
      'PODIUM_COORDINATOR': '127.0.0.1:1',
    }):  # fmt: skip
      found, _ = _asked('--all')
    self.assertEqual(found.returncode, 2)
    self.assertIn('Expected one process', found.stderr)

  def test_flags_name_what_there_is(self):
    self.assertEqual(speed.INPUTS, sources.INPUTS)
    self.assertEqual(speed.PROGRAMS, measured.PROGRAMS)

  def test_each_benchmark_is_a_row_and_one_that_fails_ends_nothing(self):
    with self.subTest('all are well'):
      found, spots = _asked('--all')
      self.assertEqual(found.returncode, 0, found.stderr)
      asked = [spot.about['benchmark'] for spot in spots]
      self.assertEqual(asked, list(benchmark_lib.names()))
    with self.subTest('one fails'):
      first = asked[0]
      found, spots = _asked('--all', failing=(first,))
      self.assertEqual(found.returncode, 1)
      self.assertLen(spots, len(asked))
      self.assertIn(f'{first} tiny: {first} is not well', found.stdout)

  def test_a_sweep_has_a_point_for_each_value(self):
    found, spots = _asked('--sweep=per_chip_batch=8,16', '--seconds=5')
    self.assertEqual(found.returncode, 0, found.stderr)
    self.assertEqual(
      [spot.about['label'] for spot in spots],
      ['per_chip_batch=8', 'per_chip_batch=16'],
    )
    self.assertContainsSubset(
      ['--per_chip_batch=16', '--seconds=5.0'], spots[1].arguments
    )
    _, spots = _asked('--sweep=compute_dtype=float32,bfloat16')
    self.assertIn('--hp=compute_dtype=bfloat16', spots[1].arguments)

  def test_more_devices_have_the_same_batch_each(self):
    found, spots = _asked('--devices=2,4', '--platform=cpu')
    self.assertIn('efficiency', found.stdout)
    self.assertIn('50.0 %', found.stdout)
    self.assertIn('shares of the cores', found.stdout)
    self.assertEqual(
      [spot.environment for spot in spots],
      [{'JAX_NUM_CPU_DEVICES': '2'}, {'JAX_NUM_CPU_DEVICES': '4'}],
    )
    batches = {
      each
      for spot in spots
      for each in spot.arguments
      if each.startswith('--per_chip_batch=')
    }
    self.assertLen(batches, 1)

  def test_each_point_has_a_profile_of_its_own(self):
    _, spots = _asked('--sweep=per_chip_batch=8,16', '--trace=there')
    folders = {
      each
      for spot in spots
      for each in spot.arguments
      if each.startswith('--trace=there/')
    }
    self.assertLen(folders, 2)


class AgainstTest(parameterized.TestCase):
  @parameterized.parameters((0.2, 0), (0.19, 0), (0.1, 1))
  def test_the_exit_code_says_whether_anything_became_slower(
    self, before, code
  ):
    folder = self.create_tempdir()
    path = os.path.join(folder, 'before.json')
    program = sample_speeds.program(processor=before, spread=0.1)
    results.write(path, [sample_speeds.point('ncf', program)], [])
    found, _ = _asked(
      '--sweep=per_chip_batch=8', '--benchmark=ncf', f'--against={path}'
    )
    # Its label differs, so that nothing compares.
    self.assertEqual(found.returncode, 0)
    self.assertIn('not measured', found.stdout)
    label = 'per_chip_batch=8'
    labelled = sample_speeds.point('ncf', program, label=label)
    results.write(path, [labelled], [])
    page = os.path.join(folder, 'speed.html')
    found, _ = _asked(
      '--sweep=per_chip_batch=8', '--benchmark=ncf', f'--against={path}',
      f'--page={page}',
    )  # fmt: skip
    self.assertEqual(found.returncode, code, found.stdout)
    self.assertEqual('SLOWER' in found.stdout, bool(code))
    with open(page, encoding='utf-8') as file:
      self.assertIn('History', file.read())


class _Measuring(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    names = entrypoint_flags.define(speed)
    self.addCleanup(entrypoint_flags.remove, names)

  def _measured(self, name, *arguments):
    """Measures the size of tests of a benchmark, on eight devices."""
    speed.FLAGS(['speed', '--nopreflight', '--seconds=0.2', *arguments])
    small = benchmark_runs.small(name)
    return one.measure(
      run_flags.Request(
        small.benchmark, 'tiny', small.size, Division.OPEN, small.size.hparams,
        profile=profiles.Profile('', dict(quick.OPTIONS)),
      )
    )  # fmt: skip


class RealTest(_Measuring):
  def test_it_is_measured_without_data(self):
    point = self._measured(_CHEAP, '--data_dir=/nowhere')
    train, predict = point['programs']
    self.assertTrue(train['finite'])
    self.assertGreater(train['rates']['samples'], 0)
    self.assertGreater(train['flops_rate'], 0)
    self.assertGreater(train['traffic'], 0)
    self.assertEqual(predict['kind'], 'predict')
    self.assertEqual(point['devices'], 8)
    self.assertEqual(point['published'], [])
    path = os.path.join(self.create_tempdir(), 'speed.json')
    results.write(path, [point], [])
    self.assertEqual(results.read(path)[0]['benchmark'], _CHEAP)

  def test_inputs_differ_in_where_batches_come_from(self):
    small = benchmark_runs.small(_CHEAP)
    for source in ('host', 'data'):
      point = self._measured(
        _CHEAP, f'--data_dir={small.data_dir}', f'--input={source}'
      )
      self.assertLen(point['programs'], 2)
      for program in point['programs']:
        self.assertGreater(program['rates']['samples'], 0)

  def test_a_batch_that_is_given_twice_is_refused_before_it_compiles(self):
    with (
      mock.patch.object(one.Program, 'build', _never),
      self.assertRaisesRegex(ValueError, 'say the same'),
    ):
      self._measured(_CHEAP, '--per_chip_batch=8', '--hp=global_batch_size=64')


@pytest.mark.slow
class EveryBenchmarkTest(_Measuring):
  @ids.each(benchmark_lib.names())
  def test_each_benchmark_has_finite_losses_on_drawn_batches(self, name):
    point = self._measured(name)
    kinds = {program['kind'] for program in point['programs']}
    self.assertContainsSubset({'train_step', 'predict'}, kinds)
    for program in point['programs']:
      self.assertTrue(program['finite'], program['name'])


class SourceTest(parameterized.TestCase):
  def test_drawn_batches_stay_on_the_devices_or_come_anew(self):
    small = benchmark_runs.small(_CHEAP)
    task, mesh = small.task(), sharding.make_mesh()
    for sent in (False, True):
      stream = sources.Drawn(task, mesh, sent).train(0, lambda: None)
      first, _, third = (next(stream.batches) for _ in range(3))
      same = all(first[name] is third[name] for name in first)
      self.assertEqual(same, not sent)
      for name in first:
        np.testing.assert_array_equal(first[name], third[name])

  def test_a_program_is_told_beside_what_its_devices_can_do(self):
    mesh = sharding.make_mesh()
    machine = rates.Machine(mesh, systems.get('h100-8'), measured=1e12)
    compiled = (
      quick.jit(lambda x: x @ x.T, in_shardings=sharding.split_rows(mesh))
      .lower(jax.ShapeDtypeStruct((64, 64), np.float32))
      .compile()
    )
    flops = 2.0 * 64**3
    found = rates.figures(compiled, machine, flops=flops, seconds=1e-3)
    self.assertAlmostEqual(found['of_measured_peak'], flops / 1e-3 / 1e12)
    self.assertAlmostEqual(
      found['of_published_peak'], flops / 1e-3 / (8 * 989.4e12)
    )
    self.assertGreater(found['best']['network'], 0)
    self.assertAlmostEqual(
      found['best']['ratio'], found['best']['seconds'] / 1e-3
    )

  def test_a_machine_without_published_rates_has_no_share_of_them(self):
    machine = rates.Machine.here(
      sharding.make_mesh(), {'devices': [{'tflops': 0.5}] * 8}
    )
    self.assertIsNone(machine.published)
    self.assertEqual(machine.measured, 4e12)


if __name__ == '__main__':
  absltest.main()
