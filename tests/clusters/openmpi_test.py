"""Tests of the script for Open MPI, under a real mpirun on this machine."""

import os
import pathlib
import subprocess

from absl.testing import absltest, parameterized
import pytest

from launch import jobs
from tests.clusters import training

pytestmark = pytest.mark.cluster


class OpenMpiTest(parameterized.TestCase):
  def _call(self, job, folder):
    script = pathlib.Path(folder, 'job.sh')
    script.write_text(jobs.TARGETS['mpirun'].write(job))
    as_root = {f'OMPI_ALLOW_RUN_AS_ROOT{end}': '1' for end in ('', '_CONFIRM')}
    return subprocess.run(
      ['bash', script],
      env={**os.environ, **as_root},
      capture_output=True,
      text=True,
      timeout=500,
    )

  def _job(self, folder, processes, **more):
    return training.job(
      folder,
      1,
      chips_per_host=processes,
      processes_per_host=processes,
      mpirun={'options': ['--oversubscribe']},
      **more,
    )

  @parameterized.parameters(2, 4)
  def test_ranks_train_as_one_process_with_as_many_devices_does(self, ranks):
    folder = self.create_tempdir().full_path
    done = self._call(self._job(folder, ranks), folder)
    self.assertEqual(done.returncode, 1, done.stderr)
    record = training.record(f'{folder}/out put')
    system = record['system']
    self.assertEqual((system['processes'], system['devices']), (ranks, ranks))
    expected = training.alone(ranks)
    self.assertEqual(len(record['losses']), len(expected))
    # Two terms have one order of summing; of four, gloo chooses another.
    bound = 0.0 if ranks == 2 else 1e-5
    for (_, loss), (_, other) in zip(record['losses'], expected, strict=True):
      self.assertAlmostEqual(loss, other, delta=bound * abs(other))

  def test_a_refused_run_ends_the_job_at_once(self):
    folder = self.create_tempdir().full_path
    done = self._call(self._job(folder, 2, data=f'{folder}/none'), folder)
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn('exit code 2', done.stderr)
    self.assertNotIn('attempt', done.stderr)


if __name__ == '__main__':
  absltest.main()
