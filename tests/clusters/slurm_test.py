"""Tests of the script for Slurm, under a real Slurm with emulated nodes."""

import pathlib
import subprocess
import tempfile

from absl.testing import absltest, parameterized
import pytest

from launch import jobs, local
from tests.clusters import slurm, training

pytestmark = pytest.mark.cluster


class SlurmTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.environment = cls.enterClassContext(slurm.running(pathlib.Path(folder)))

  def _submit(self, job, folder, **variables):
    """sbatch's exit code, which is the job's, and what the job printed."""
    script = pathlib.Path(folder, 'job.sbatch')
    script.write_text(jobs.TARGETS['slurm'].write(job))
    coordinator = f'{slurm.address()}:{local.free_ports()}'
    done = subprocess.run(
      ['sbatch', '--wait', '--quiet', script],
      env={**self.environment, 'PODIUM_COORDINATOR': coordinator, **variables},
      cwd=folder,
      capture_output=True,
      text=True,
      timeout=500,
    )
    printed = '\n'.join(
      path.read_text() for path in pathlib.Path(folder).rglob('*.log')
    )
    return done.returncode, done.stderr + printed

  @parameterized.parameters(2, 4)
  def test_nodes_train_as_one_process_with_as_many_devices_does(self, nodes):
    folder = self.create_tempdir().full_path
    code, told = self._submit(training.job(folder, nodes), folder)
    # The run counts although it missed its target; there are too few to score.
    self.assertEqual(code, 1, told)
    self.assertIn(f'rank {nodes - 1}', told)
    record = training.record(f'{folder}/out put')
    system = record['system']
    self.assertEqual((system['processes'], system['devices']), (nodes, nodes))
    expected = training.alone(nodes)
    self.assertEqual(len(record['losses']), len(expected))
    # Two terms have one order of summing; of four, gloo chooses another.
    bound = 0.0 if nodes == 2 else 1e-5
    for (_, loss), (_, other) in zip(record['losses'], expected, strict=True):
      self.assertAlmostEqual(loss, other, delta=bound * abs(other))
    logs = [p.name for p in pathlib.Path(f'{folder}/out put-logs').iterdir()]
    self.assertCountEqual(logs, [f'run_0.{rank}.log' for rank in range(nodes)])

  def test_a_refused_run_ends_the_job_at_once(self):
    folder = self.create_tempdir().full_path
    job = training.job(folder, 2, data=f'{folder}/no data')
    code, told = self._submit(job, folder)
    self.assertEqual(code, 2, told)
    self.assertIn('exit code 2', told)
    self.assertNotIn('attempt', told)

  def test_what_is_finished_is_not_made_again(self):
    folder = self.create_tempdir().full_path
    pathlib.Path(folder, 'out put').mkdir()
    pathlib.Path(folder, 'out put', 'run_0.json').write_text('{}')
    self._submit(training.job(folder, 2), folder)
    self.assertEmpty(list(pathlib.Path(f'{folder}/out put-logs').iterdir()))

  def test_a_name_that_no_node_knows_is_told(self):
    folder = self.create_tempdir().full_path
    job = training.job(folder, 2, retries=0)
    code, told = self._submit(job, folder, PODIUM_COORDINATOR='')
    self.assertEqual(code, 2, told)
    self.assertIn("'n1' (Slurm) is not known", told)


if __name__ == '__main__':
  absltest.main()
