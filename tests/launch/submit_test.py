"""Tests of launch.submit, as people call it."""

import io
import os
import pathlib
import sys
from unittest import mock

from absl.testing import absltest, parameterized
import yaml

from launch import submit
from tests.launch import processes
from tests.launch.jobs.description_test import GPUS
from tests.launch.jobs.stand_ins import StandIns


class SubmitTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.stand_ins = StandIns(self.create_tempdir().full_path)
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.job = self.folder / 'job.yaml'
    self.values = {
      **GPUS, 'container': 'image',
      'kubernetes': {'claims': {'disk': '/results'}},
    }  # fmt: skip
    self.job.write_text(yaml.safe_dump(self.values))

  def _submit(self, *arguments, **variables):
    """Calls it in the folder, with the stand-ins on PATH."""
    before = os.getcwd()
    os.chdir(self.folder)
    try:
      with mock.patch.dict(os.environ, self.stand_ins.environment(**variables)):
        return processes.here(submit, f'--job={self.job}', *arguments)
    finally:
      os.chdir(before)

  def test_a_job_is_printed_and_nothing_else_done(self):
    self.stand_ins.launcher('kubectl')
    done = self._submit('--target=jobset_gpu', '--set=hosts=16')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    jobset = yaml.safe_load(done.stdout)
    (replicated,) = jobset['spec']['replicatedJobs']
    self.assertEqual(replicated['template']['spec']['parallelism'], 16)
    self.assertEqual(os.listdir(self.folder), ['job.yaml'])
    self.assertEmpty(self.stand_ins.launched())

  @parameterized.parameters(
    ('jobset_gpu', 'kubectl', ['create', '-f', 'ncf-reference.yaml']),
    ('sky', 'sky', ['launch', 'ncf-reference.yaml']),
  )
  def test_a_job_is_submitted_when_asked_for(self, target, program, arguments):
    self.stand_ins.launcher(program)
    done = self._submit(f'--target={target}', '--submit', LAUNCHER_CODE='7')
    self.assertEqual(done.returncode, 7, done.stderr)
    (call,) = self.stand_ins.launched()
    self.assertEqual(call[1:], arguments)
    self.assertTrue((self.folder / arguments[-1]).exists())
    self.assertIn(f'\n{program} ', done.stderr)

  def test_a_launcher_that_is_not_there_is_missed_before_anything(self):
    done = self._submit('--target=sky', '--submit', '--write=my.yaml')
    self.assertEqual(done.returncode, 2)
    self.assertIn('calls sky, which is not on PATH', done.stderr)
    self.assertEqual(os.listdir(self.folder), ['job.yaml'])

  def test_all_faults_of_a_job_are_told_at_once(self):
    done = self._submit(
      '--target=jobset_gpu', '--set=batch=1000003', '--set=profile=tpu_v5e',
      '--set=time_limit=60', '--set=container=', '--set=flags=[--model=2]',
      '--write=job.out',
    )  # fmt: skip
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(
      done.stderr,
      r'(?s)^error: .*job\.yaml: 4 faults:\n  time_limit.*\n  A JobSet needs.*'
      r"\n  Profile tpu_v5e is for TPUs.*\n  flags: .*'model'",
    )
    self.assertEqual(os.listdir(self.folder), ['job.yaml'])

  def test_a_file_that_stdout_cannot_hold_is_refused(self):
    screen = io.TextIOWrapper(io.BytesIO(), 'ascii')
    with (
      mock.patch.object(sys, 'stdout', screen),
      self.assertRaisesRegex(ValueError, r"has, got '\\xfc'; --write=PATH"),
    ):
      submit._print('name: Zürich')

  def test_a_fault_of_the_description_is_one_line(self):
    done = self._submit('--target=jobset_gpu', '--set=hosts=none')
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(
      done.stderr, r"^error: .*job\.yaml: hosts is a whole number.*'none'\.\n$"
    )


if __name__ == '__main__':
  absltest.main()
