"""Tests of flags that XLA lacks: they are named before it aborts."""

import os
import subprocess
from unittest import mock

from absl.testing import absltest, parameterized

from launch import train
from launch.aot import options
from tests.launch import processes


class FlagsTest(parameterized.TestCase):
  def told(self, flags):
    """The refusal of a value of the variable; '' where it is taken."""
    with mock.patch.dict(os.environ, {'XLA_FLAGS': flags}):
      try:
        options.require_known_flags()
      except ValueError as error:
        return str(error)
    return ''

  @parameterized.parameters(
    (
      '--xla_gpu_autotune_levle=0 --xla_no=1',
      r'XLA_FLAGS: .* does not know --xla_gpu_autotune_levle=0 '
      r"\(did you mean 'xla_gpu_autotune_level'\?\), --xla_no=1",
    ),
    ('--xla_cpu_enable_fast_math=7x', 'XLA_FLAGS: .*7x for flag xla_cpu_ena'),
    ('no_such_file', 'XLA_FLAGS: Could not open file "no_such_file"'),
  )
  def test_what_would_abort_is_refused_in_one_line(self, flags, says):
    said = self.told(flags)
    self.assertRegex(said, f'^Environment variable {says}')
    self.assertNotIn('\n', said)

  def test_what_xla_knows_is_taken(self):
    self.assertEqual(self.told('--xla_cpu_enable_fast_math=false'), '')

  @parameterized.parameters(
    '', ' ', '--xla_force_host_platform_device_count=8',
    '--xla_gpu_autotune_level=0 --xla_force_host_platform_device_count=2',
  )  # fmt: skip
  def test_for_what_is_usual_no_process_is_started(self, flags):
    with mock.patch.object(subprocess, 'run', side_effect=AssertionError):
      self.assertEqual(self.told(flags), '')

  def test_a_run_is_refused_with_the_name_of_the_variable(self):
    output = self.create_tempdir().full_path
    with mock.patch.dict(os.environ, {'XLA_FLAGS': '--xla_nothing'}):
      done = processes.here(train, f'--output={output}')
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, '^error: .*XLA_FLAGS.*--xla_nothing')
    self.assertEqual(os.listdir(output), [])

  def test_the_nearest_option_is_found_in_a_library(self):
    library = self.create_tempfile(
      content=b'\0xla_tpu_do_this\0xla_tpu_do_that_now\0', mode='wb'
    )
    near = options.nearest('xla_tpu_do_thsi', library.full_path)
    self.assertEqual(near, " (did you mean 'xla_tpu_do_this'?)")
    self.assertEqual(options.nearest('abc', library.full_path), '')


if __name__ == '__main__':
  absltest.main()
