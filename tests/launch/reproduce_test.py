"""Tests of repeating a run from its record."""

import json
import os
import shutil
from unittest import mock

from absl.testing import absltest, parameterized

from launch import reproduce
from launch.support import environment
from tests.launch import digits_data, processes
from tests.suite.results import sample_results


def _record(losses, qualities=()):
  numbered = [[step, loss] for step, loss in enumerate(losses, start=1)]
  evals = [
    {'at': {}, 'step': 1, 'seconds': 1.0, 'quality': {'accuracy': quality}}
    for quality in qualities
  ]
  made = sample_results.result(0, losses=numbered, evals=evals)
  return sample_results.runs_of([made])[0]


class ComparisonTest(parameterized.TestCase):
  def test_equal_runs_agree_bit_for_bit(self):
    found = reproduce.compare(
      _record([2.5, 1.0], [0.5]), _record([2.5, 1.0], [0.5])
    )
    self.assertTrue(found.agrees(0.0))
    self.assertEqual(
      str(found), 'all 2 losses and every eval agree bit for bit'
    )

  def test_the_last_bit_is_a_difference_and_within_a_tolerance(self):
    found = reproduce.compare(
      _record([2.5, 1.0, 0.5]), _record([2.5, 1.0 + 2**-23, 0.5])
    )
    self.assertEqual(found.first_step, 2)
    self.assertFalse(found.agrees(0.0))
    self.assertTrue(found.agrees(1e-6))
    self.assertIn('from step 2 on, by at most 1.19e-07', str(found))

  @parameterized.parameters(
    ([1.0], [1.0, 1.0], 'steps then'),
    ([1.0, None], [1.0, 0.5], 'from step 2 on, by at most inf'),
  )
  def test_no_tolerance_covers_another_length_or_a_lost_loss(
    self, then, now, says
  ):
    found = reproduce.compare(_record(then), _record(now))
    self.assertFalse(found.agrees(1e9))
    self.assertIn(says, str(found))

  def test_losses_that_are_not_finite_in_both_agree(self):
    self.assertTrue(
      reproduce.compare(_record([1.0, None]), _record([1.0, None])).agrees(0.0)
    )

  def test_qualities_are_compared_too(self):
    found = reproduce.compare(_record([1.0], [0.5]), _record([1.0], [0.75]))
    self.assertFalse(found.agrees(0.1))
    self.assertTrue(found.agrees(0.25))
    self.assertEqual(str(found), 'qualities differ by at most 0.25')


class ReproduceTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.path = os.path.join(self.folder, 'run_0.json')

  def test_code_that_a_record_names_does_not_run(self):
    planted = self.create_tempdir()
    ran = os.path.join(self.folder, 'ran')
    planted.create_file('sitecustomize.py', f'open({ran!r}, "w").close()')
    record = sample_results.result(
      0,
      flags=['--benchmark=resnet', '--size=no_such', '--compile_cache=/theirs'],
      environment={'PYTHONPATH': planted.full_path, 'XLA_FLAGS': '--theirs'},
    )
    with open(self.path, 'w', encoding='utf-8') as file:
      json.dump(record, file)
    done = self.reproduce(f'--data_dir={digits_data.data_dir()}')
    self.assertEqual(done.returncode, 1, done.stderr)  # there is no such size
    self.assertIn('no_such', done.stderr)
    self.assertFalse(os.path.exists(ran))
    for text in (planted.full_path, '--compile_cache=/theirs', '--theirs'):
      self.assertRegex(done.stdout, f'not taken from the record: .*{text}')

  def edit(self, **changes):
    with open(self.path, encoding='utf-8') as file:
      record = json.load(file)
    with open(self.path, 'w', encoding='utf-8') as file:
      json.dump({**record, **changes}, file)
    return record

  def reproduce(self, *arguments):
    return processes.run(
      'launch.reproduce', self.path, *arguments,
      environment={'JAX_NUM_CPU_DEVICES': '4', 'XLA_UNRELATED': 'x'},
    )  # fmt: skip

  def here(self, *arguments):
    return processes.here(reproduce, self.path, *arguments)

  def test_a_run_is_repeated_to_the_last_bit_and_a_tampered_one_is_not(self):
    shutil.copy(f'{processes.quick_run().folder}/run_0.json', self.path)
    again = os.path.join(self.folder, 'again')
    done = self.reproduce(f'--output={again}')
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    self.assertIn(
      'Reproduced: all 16 losses and every eval agree bit for bit', done.stdout
    )
    self.assertNotIn(' then, ', done.stdout)

    record = self.edit()
    losses = record['losses']
    losses[4][1] *= 1.001
    self.edit(losses=losses, versions={**record['versions'], 'jax': '0.0.1'})
    with mock.patch.object(reproduce, '_train', return_value=1):  # it was run
      done = self.here(f'--output={again}')
    self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
    self.assertIn('differs: jax: 0.0.1 then', done.stdout)
    self.assertRegex(
      done.stdout,
      r'Not reproduced: losses differ from step 5 on, by .*0\.00099',
    )

  def test_what_is_no_record_is_refused(self):
    with open(self.path, 'w', encoding='utf-8') as file:
      file.write('{"format": 1, "seed": 1}')
    done = self.here()
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(done.stderr, 'run_0.json lacks benchmark')

  def test_a_run_of_several_processes_is_refused(self):
    record = sample_results.result(0, system={'processes': 4})
    with open(self.path, 'w', encoding='utf-8') as file:
      json.dump(record, file)
    done = self.here()
    self.assertEqual(done.returncode, 2)
    self.assertIn('one process', done.stderr)
    self.assertIn('got 4', done.stderr)


class HarmlessTest(parameterized.TestCase):
  """Settings that a record of somebody else may make."""

  def test_flags_that_choose_among_what_is_here_are_taken(self):
    flags = [
      '--benchmark=resnet', '--hp=max_epochs=2', '--division=open',
      '--groups_across_hosts', '--nogroups_across_hosts',
      '--profile=gpu_deterministic',
      '--compiler_option=xla_gpu_autotune_level=0',
    ]  # fmt: skip
    self.assertEqual(reproduce.harmless(flags), flags)

  @parameterized.parameters(
    '--compile_cache=/tmp/theirs', '--flagfile=/tmp/flags', '--output=/tmp/x',
    '--compiler_option=xla_dump_to=/tmp/x', '--compiler_option=xla_dump_to=1',
    '--hp', '--keep_checkpoints', '--hp=a=b\n--flagfile=x', 'suite', '--',
  )  # fmt: skip
  def test_other_flags_are_not(self, flag):
    self.assertEmpty(reproduce.harmless([flag]))

  @parameterized.parameters(
    ('PYTHONPATH', '/tmp/theirs'),
    ('LD_PRELOAD', '/tmp/theirs.so'),
    ('PATH', '/tmp/theirs'),
    ('XLA_FLAGS', '--xla_dump_to=/tmp/x'),
    ('TPU_LIBRARY_PATH', '/tmp/theirs.so'),
    ('NCCL_NET_PLUGIN', '/tmp/theirs.so'),
    ('JAX_COMPILATION_CACHE_DIR', '/tmp/theirs'),
    ('JAX_PLATFORMS', 'theirs'),
    ('CUDA_VISIBLE_DEVICES', '/tmp/theirs'),
    ('OMP_NUM_THREADS', '1\n'),
  )
  def test_variables_that_may_load_or_name_something_are_not(self, name, value):
    self.assertEmpty(environment.harmless({name: value}))
    self.assertNotIn(
      (name, value), environment.with_only({name: value}).items()
    )

  def test_what_is_not_taken_is_shown_unless_it_is_given_by_hand(self):
    recorded = {'XLA_FLAGS': '--one', 'LIBTPU_INIT_ARGS': '--two'}
    self.enter_context(mock.patch.dict(os.environ, {'XLA_FLAGS': '--one'}))
    self.assertEqual(
      environment.left_out(recorded), {'LIBTPU_INIT_ARGS': '--two'}
    )
    self.assertEqual(environment.with_only(recorded)['XLA_FLAGS'], '--one')


class EnvironmentTest(absltest.TestCase):
  def test_a_runs_variables_take_the_place_of_ours(self):
    self.enter_context(
      mock.patch.dict(
        os.environ, {'JAX_DEBUG_NANS': '1', 'PATH_OF_MINE': 'kept'}
      )
    )
    self.assertEqual(environment.variables()['JAX_DEBUG_NANS'], '1')
    given = environment.with_only({'JAX_ENABLE_X64': 'true'})
    self.assertNotIn('JAX_DEBUG_NANS', given)
    self.assertEqual(given['JAX_ENABLE_X64'], 'true')
    self.assertEqual(given['PATH_OF_MINE'], 'kept')


if __name__ == '__main__':
  absltest.main()
