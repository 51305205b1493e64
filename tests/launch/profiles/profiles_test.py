"""Tests of the flag profiles."""

import json
import os
import pathlib
import re
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import yaml

from launch import profiles
from launch.support import environment
from suite.results import audit
from tests.launch import digits_data, processes

_TPU = [name for name in profiles.names() if name.startswith('tpu')]
_OTHERS = [name for name in profiles.names() if name not in _TPU]


class ProfilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.dict(os.environ))

  def test_every_entry_has_a_reason(self):
    for path in pathlib.Path(profiles.__file__).parent.glob('*.yaml'):
      read = yaml.safe_load(path.read_text(encoding='utf-8'))
      reasons = dict(read.get('left_out', {}))
      for group in ('compiler_options', 'environment'):
        reasons |= {k: e['why'] for k, e in read.get(group, {}).items()}
      self.assertNotEmpty(reasons, path)
      for key, why in reasons.items():
        self.assertRegex(why, r'\w.*\.$', key)

  @parameterized.parameters(*_OTHERS)
  def test_xla_knows_every_option_for_cpus_and_gpus(self, name):
    # One table of options serves both, and a CPU's compiler checks all of it.
    options = dict(profiles.load(name).compiler_options)
    lowered = jax.jit(jnp.negative).lower(jax.ShapeDtypeStruct((), 'float32'))
    compiled = lowered.compile(compiler_options=options)
    self.assertEqual(compiled(jnp.float32(2)), -2)
    with self.assertRaisesRegex(jax.errors.JaxRuntimeError, 'No such compile'):
      lowered.compile(compiler_options={**options, 'xla_gpu_no_option': 1})

  @parameterized.parameters('h100', 'h200', 'gpu_hopper')
  def test_a_profile_has_several_names(self, name):
    profile = profiles.load(name)
    self.assertEqual(profile.environment['CUDA_DEVICE_MAX_CONNECTIONS'], '1')
    self.assertEqual(profile.name, name)

  def test_blackwell_gets_no_limit_on_connections(self):
    self.assertNotIn(
      'CUDA_DEVICE_MAX_CONNECTIONS', profiles.load('b200').environment
    )

  def test_a_profile_takes_over_what_it_stands_on(self):
    base, v6e = profiles.load('tpu').compiler_options, profiles.load('tpu_v6e')
    self.assertContainsSubset(base, v6e.compiler_options)
    self.assertGreater(len(v6e.compiler_options), len(base))

  def test_profiles_can_be_joined(self):
    both = profiles.load('tpu_v5e,tpu_slices')
    self.assertIn(
      'xla_tpu_enable_latency_hiding_scheduler', both.compiler_options
    )
    self.assertIn('LIBTPU_INIT_ARGS', both.environment)

  def test_no_name_is_no_change(self):
    self.assertEqual(profiles.load(''), profiles.NONE)

  def test_an_unknown_profile_is_told_with_the_nearest(self):
    with self.assertRaisesRegex(ValueError, r"'tpu_v6'.*did you mean 'tpu_v"):
      profiles.load('tpu_v6')

  def test_profiles_that_contradict_each_other_are_refused(self):
    entries = [
      {'compiler_options': {}, 'environment': {'connections': n}} for n in '12'
    ]
    with (
      mock.patch.object(profiles, '_entries', side_effect=entries),
      self.assertRaisesRegex(ValueError, 'b200 sets .*connections'),
    ):
      profiles.load('h100,b200')

  @parameterized.parameters(
    ('xla_a=true', True),
    ('xla_a=False', False),
    ('xla_a=-12', -12),
    ('xla_a=FUSION,CUSTOM_CALL', 'FUSION,CUSTOM_CALL'),
    ('xla_a=x=y', 'x=y'),
    ('xla_a=', ''),
    ('optimization_level=O1', 19),
  )
  def test_an_option_has_the_type_that_xla_wants(self, text, value):
    profile = profiles.with_options(profiles.NONE, [text])
    ((_, found),) = profile.compiler_options.items()
    self.assertIs(type(found), type(value))
    self.assertEqual(found, value)

  @parameterized.parameters(
    (['xla_a'], 'name=value'),
    (['=1'], 'name=value'),
    (['--xla_a=1'], 'no dash'),
    (['xla_a=1', 'xla_a=1'], 'twice'),
    (['optimization_level=1'], 'O0, O1, O2, O3'),
  )
  def test_what_is_no_option_is_refused(self, texts, message):
    with self.assertRaisesRegex(ValueError, message):
      profiles.with_options(profiles.NONE, texts)

  def test_a_given_option_stands_in_place_of_the_profiles(self):
    given = profiles.with_options(
      profiles.load('h100'), ['optimization_level=O0']
    )
    self.assertEqual(given.compiler_options['optimization_level'], 9)

  def test_what_is_set_stays_and_flags_are_joined(self):
    os.environ.update(
      NCCL_NVLS_ENABLE='0',
      XLA_PYTHON_CLIENT_MEM_FRACTION='0.9',
      LIBTPU_INIT_ARGS='--mine=1',
    )
    kept = profiles.apply(profiles.load('h100,tpu_slices'))
    self.assertLen(kept, 1)
    self.assertRegex(kept[0], 'NCCL_NVLS_ENABLE stays 0.* says 1')
    self.assertEqual(os.environ['CUDA_DEVICE_MAX_CONNECTIONS'], '1')
    self.assertEndsWith(os.environ['LIBTPU_INIT_ARGS'], ' --mine=1')
    before = os.environ['LIBTPU_INIT_ARGS']
    profiles.apply(profiles.load('tpu_slices'))
    self.assertEqual(os.environ['LIBTPU_INIT_ARGS'], before)

  def test_a_variable_that_is_applied_reaches_a_jax_that_is_imported(self):
    program = (
      'import jax; from launch import profiles;'
      "flag = '--xla_force_host_platform_device_count=3';"
      "profiles.apply(profiles.Profile('', {}, {'XLA_FLAGS': flag}));"
      'print(jax.device_count())'
    )
    environ = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
    for name in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES'):
      environ.pop(name, None)
    out = subprocess.run(
      [sys.executable, '-c', program],
      cwd=processes.ROOT,
      env=environ,
      capture_output=True,
      text=True,
      check=True,
    )
    self.assertEqual(out.stdout, '3\n')


class LoggedTest(absltest.TestCase):
  def test_a_run_logs_what_compiler_and_runtime_were_told(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    done = processes.run(
      'launch.train',
      *processes.quick(max_epochs=1),
      '--profile=gpu_blackwell',
      '--compiler_option=optimization_level=O0',
      f'--data_dir={digits_data.data_dir()}',
      f'--output={folder}',
      environment={'NCCL_NVLS_ENABLE': '0', 'PODIUM_DEVICES': '1'},
    )
    self.assertEqual(done.returncode, 1, done.stderr)
    self.assertIn('NCCL_NVLS_ENABLE stays 0', done.stderr)
    text = (folder / 'result_0.txt').read_text()
    found = {
      record['key']: record['value']
      for record in map(json.loads, re.findall(r':::MLLOG (.*)', text))
    }
    self.assertEqual(found['podium_profile'], 'gpu_blackwell')
    self.assertEqual(
      found['podium_compiler_options'],
      {
        'optimization_level': 9,
        'xla_gpu_enable_command_buffer': 'FUSION,CUSTOM_CALL',
      },
    )
    told = found['podium_environment']
    self.assertEqual(told['NCCL_NVLS_ENABLE'], '0')
    self.assertEqual(told['XLA_PYTHON_CLIENT_MEM_FRACTION'], '0.9')
    self.assertNotIn('PODIUM_DEVICES', told)
    record = json.loads((folder / 'run_0.json').read_text())
    self.assertEqual(
      record['compiler_options'], found['podium_compiler_options']
    )
    self.assertEqual(record['environment']['NCCL_NVLS_ENABLE'], '0')
    told = [f for f in audit.examine_log(folder / 'result_0.txt').findings
            if 'podium_' in f.text]  # fmt: skip
    self.assertEmpty(told)

  def test_an_option_that_the_compiler_does_not_know_is_refused(self):
    folder = self.create_tempdir().full_path
    done = processes.run(
      'launch.train',
      '--compiler_option=xla_cpu_no_option=1',
      f'--data_dir={digits_data.data_dir()}',
      f'--output={folder}',
    )
    self.assertEqual(done.returncode, 2)
    self.assertRegex(
      done.stderr,
      'error: The compiler of cpu refuses .*No such .*xla_cpu_no_option',
    )
    self.assertEmpty(os.listdir(folder))


class SettingsTest(absltest.TestCase):
  def test_a_place_is_no_setting(self):
    given = {
      'XLA_FLAGS': '--a', 'PODIUM_PROCESS_ID': '3', 'TPU_WORKER_ID': '3',
      'JAX_COORDINATOR_ADDRESS': 'n1:1', 'CUDA_DEVICE_MAX_CONNECTIONS': '1',
    }  # fmt: skip
    with mock.patch.dict(os.environ, given, clear=True):
      self.assertEqual(
        environment.settings(),
        {'XLA_FLAGS': '--a', 'CUDA_DEVICE_MAX_CONNECTIONS': '1'},
      )


if __name__ == '__main__':
  absltest.main()
