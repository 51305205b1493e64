"""Tests of launch.submit, as people call it."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest, parameterized
import yaml

from tests.launch import processes
from tests.launch.jobs.description_test import GPUS
from tests.launch.jobs.stand_ins import StandIns


class SubmitTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.stand_ins = StandIns(self.create_tempdir().full_path)
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.job = self.folder / 'job.yaml'
    self.job.write_text(yaml.safe_dump({**GPUS, 'container': 'image'}))

  def _submit(self, *arguments, **variables):
    environment = self.stand_ins.environment(**variables)
    return subprocess.run(
      [sys.executable, '-m', 'launch.submit', f'--job={self.job}', *arguments],
      cwd=self.folder,
      env={**environment, 'PYTHONPATH': str(processes.ROOT)},
      capture_output=True,
      text=True,
    )

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

  def test_a_fault_of_the_description_is_one_line(self):
    done = self._submit('--target=slurm', '--set=hosts=none')
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(
      done.stderr, r"^error: .*job\.yaml: hosts is a whole number.*'none'\.\n$"
    )


if __name__ == '__main__':
  absltest.main()
