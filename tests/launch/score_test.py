"""`launch.score`: the score of a folder, as people and programs read it."""

import contextlib
import io
import json
import os

from absl.testing import absltest

from launch import score
from suite import benchmark
from tests.launch import processes
from tests.suite import audit_logs
from tests.suite.audit_logs import find

_KEYS = {
  'benchmark', 'size', 'division', 'runs', 'required_runs', 'score_seconds',
  'values', 'mean', 'std', 'coefficient_of_variation', 'interval',
  'confidence', 'findings', 'reason', 'command',
}  # fmt: skip
_PACE = (1.0, 3.0, 2.0, 4.0, 9.0)  # minutes per epoch; a run takes 11 epochs


class ScoreTest(absltest.TestCase):
  """Folders of made-up logs."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    self.logs = [
      audit_logs.good(run=run, minutes_per_epoch=pace)
      for run, pace in enumerate(_PACE)
    ]
    for run in range(len(self.logs)):
      self.write(run)

  def write(self, run):
    audit_logs.write(self.directory / f'result_{run}.txt', self.logs[run])

  def score(self):
    return score.score_directory(str(self.directory), get=audit_logs.get)

  def test_the_middle_runs_make_the_score(self):
    found = self.score()
    self.assertContainsSubset(_KEYS, found)
    self.assertAlmostEqual(found['score_seconds'] / 60, 11 * 3, delta=0.01)
    self.assertEqual(
      [value['dropped'] for value in found['values']],
      ['fastest', None, None, None, 'slowest'],
    )
    self.assertIsNone(found['reason'])
    self.assertLess(found['interval'][0], found['score_seconds'])

  def test_startup_beyond_the_allowance_is_added(self):
    before = self.score()['values'][2]['seconds']
    start = self.logs[2].index(find(self.logs[2], 'init_stop'))
    for event in self.logs[2][start:]:
      event.time_ms += 31 * audit_logs.MINUTE
    self.write(2)
    more = self.score()['values'][2]['seconds'] - before
    # A minute of the allowance of 30 was used before.
    self.assertAlmostEqual(more / 60, 31 + 1 - 30, delta=0.01)

  def test_one_aborted_run_counts_as_the_slowest(self):
    find(self.logs[1], 'run_stop').metadata['status'] = 'aborted'
    self.write(1)
    found = self.score()
    self.assertAlmostEqual(
      found['score_seconds'] / 60, 11 * (2 + 4 + 9) / 3, delta=0.01
    )
    self.assertEqual(found['values'][1]['dropped'], 'slowest')
    self.assertEqual(found['values'][1]['status'], 'aborted')
    self.assertIsNone(found['values'][1]['seconds'])

  def test_two_aborted_runs_leave_no_score(self):
    for run in (1, 2):
      find(self.logs[run], 'run_stop').metadata['status'] = 'aborted'
      self.write(run)
    found = self.score()
    self.assertIsNone(found['score_seconds'])
    self.assertIn('2 of 5 runs did not converge', found['reason'])

  def test_a_log_whose_clock_started_late_has_no_time(self):
    audit_logs.move(self.logs[3], 'run_start', 'eval_start')
    self.write(3)
    found = self.score()
    self.assertEqual(found['values'][3]['status'], 'invalid')
    self.assertIsNone(found['values'][3]['seconds'])
    self.assertIn('the audit found', found['reason'])

  def test_errors_of_the_audit_stand_beside_the_score(self):
    find(self.logs[3], 'seed').value = 1000
    self.write(3)
    found = self.score()
    self.assertIsNotNone(found['score_seconds'])
    self.assertEqual(found['reason'], 'Not a result: the audit found 1 error.')
    self.assertLen(found['findings'], 1)

  def test_fewer_runs_than_required_are_no_result(self):
    (self.directory / 'result_4.txt').unlink()
    found = self.score()
    self.assertIsNotNone(found['score_seconds'])
    self.assertIn('takes 5 runs', found['reason'])

  def test_what_is_printed_says_score_target_and_spread(self):
    text = '\n'.join(score.lines(self.score()))
    for words in (
      'accuracy >= 0.97', 'Score: 33 min 0.', 'mean of 3 of 5 runs',
      '95% interval', 'standard deviation', 'slowest', '1003',
    ):  # fmt: skip
      self.assertIn(words, text)

  def test_a_folder_without_logs_is_refused_and_left_alone(self):
    empty = audit_logs.directory(self)
    for path in (empty, empty / 'none'):
      with self.assertRaisesRegex(ValueError, 'Expected'):
        score.run(str(path))
    self.assertEmpty(os.listdir(empty))


class ProgramTest(absltest.TestCase):
  """The program as a process, on logs of a real benchmark."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    audit_logs.write_set(self.directory, benchmark=benchmark.get('resnet'))

  def run_program(self, *arguments):
    return processes.run('launch.score', *arguments)

  def test_a_result_is_written_as_json_and_exits_with_0(self):
    done = self.run_program(self.directory)
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('Score: ', done.stdout)
    written = json.loads((self.directory / 'score.json').read_text())
    self.assertEqual(written['benchmark'], 'resnet')
    self.assertEqual(written['command'][2], 'launch.score')
    self.assertNotIn(
      'partial', ' '.join(os.listdir(self.directory)), 'left half a file'
    )

  def test_no_result_exits_with_1_and_is_written_all_the_same(self):
    (self.directory / 'result_4.txt').unlink()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      self.assertEqual(score.run(str(self.directory)), 1)
    self.assertIn('Not a result', printed.getvalue())
    self.assertTrue((self.directory / 'score.json').exists())

  def test_bad_usage_is_refused_in_one_line(self):
    log = self.directory / 'result_0.txt'
    for arguments in ((log,), (self.directory, '--fast')):
      done = self.run_program(*arguments)
      self.assertEqual(done.returncode, 2)
      self.assertLen(done.stderr.splitlines(), 1)


if __name__ == '__main__':
  absltest.main()
