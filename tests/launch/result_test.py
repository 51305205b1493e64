"""Tiny benchmarks as people run them: trained to their targets for real."""

import json
import os

from absl.testing import absltest
import pytest

from suite import benchmark
from tests import tiny_data
from tests.launch import processes


class ResultTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.output = os.path.join(self.create_tempdir().full_path, 'set')

  def arguments(self, name):
    """Flags of a run of a benchmark's tiny size."""
    data = benchmark.get(name).size('tiny').data.name
    return (
      f'--benchmark={name}',
      '--size=tiny',
      f'--output={self.output}',
      f'--data_dir={tiny_data.data_dir(data)}',
    )

  def read(self, name):
    with open(os.path.join(self.output, name), encoding='utf-8') as file:
      return json.load(file)

  def test_a_run_reaches_its_target_and_its_log_is_in_order(self):
    arguments = self.arguments('ncf')  # the quickest of them
    trained = processes.run('launch.train', *arguments, '--seed=1')
    self.assertEqual(trained.returncode, 0, trained.stderr)
    self.assertIn('run 0: success, time to quality', trained.stdout)
    record = self.read('run_0.json')
    self.assertEqual(record['status'], 'success')
    self.assertGreaterEqual(record['evals'][-1]['quality']['HR@10'], 0.59)
    self.assertAlmostEqual(
      record['time_to_quality'], record['timed']['seconds'], places=6
    )
    log = os.path.join(self.output, 'result_0.txt')
    checked = processes.run('launch.check', log, '--werror')
    self.assertEqual(checked.returncode, 0, checked.stdout)
    # The score is made from the log alone, and agrees to its milliseconds.
    scored = processes.run('launch.score', self.output)
    self.assertEqual(scored.returncode, 1)  # one run makes no result
    (value,) = self.read('score.json')['values']
    self.assertAlmostEqual(
      value['seconds'], record['time_to_quality'], delta=0.002
    )

  @pytest.mark.slow
  def test_five_runs_make_a_result(self):
    done = processes.run('launch.benchmark', *self.arguments('resnet'))
    self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
    score = self.read('score.json')
    self.assertIsNone(score['reason'])
    self.assertEqual(score['findings'], [])
    standings = [value['dropped'] for value in score['values']]
    self.assertCountEqual(standings, ['fastest', 'slowest', None, None, None])
    last = done.stdout.strip().splitlines()
    self.assertRegex(last[-4], r'^Target: accuracy >= 0.982$|^Spread: ')
    self.assertRegex(last[-2], r'^Score: .* the mean of 3 of 5 runs$')
    self.assertRegex(last[-1], r'^Report: .*report.html$')
    self.assertTrue(os.path.exists(os.path.join(self.output, 'report.html')))


if __name__ == '__main__':
  absltest.main()
