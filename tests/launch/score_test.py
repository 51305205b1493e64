"""`launch.score`: the score of a folder, as people and programs read it."""

import contextlib
import csv
import io
import json
import os

from absl.testing import absltest

from launch import score
from launch.support import score_text
from suite import benchmark
from suite.results import scoring
from tests.launch import processes
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find

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
    return scoring.score(str(self.directory), get=audit_logs.get)

  def test_the_middle_runs_make_the_score(self):
    found = self.score()
    self.assertAlmostEqual(found.score_seconds / 60, 11 * 3, delta=0.01)
    self.assertEqual(
      [value.dropped for value in found.values],
      ['fastest', None, None, None, 'slowest'],
    )
    self.assertIsNone(found.reason)
    self.assertLess(found.interval[0], found.score_seconds)

  def test_startup_beyond_the_allowance_is_added(self):
    before = self.score().values[2].seconds
    start = self.logs[2].index(find(self.logs[2], 'init_stop'))
    for event in self.logs[2][start:]:
      event.time_ms += 31 * audit_logs.MINUTE
    self.write(2)
    more = self.score().values[2].seconds - before
    # A minute of the allowance of 30 was used before.
    self.assertAlmostEqual(more / 60, 31 + 1 - 30, delta=0.01)

  def test_one_aborted_run_counts_as_the_slowest(self):
    find(self.logs[1], 'run_stop').metadata['status'] = 'aborted'
    self.write(1)
    found = self.score()
    self.assertAlmostEqual(
      found.score_seconds / 60, 11 * (2 + 4 + 9) / 3, delta=0.01
    )
    self.assertEqual(found.values[1].dropped, 'slowest')
    self.assertEqual(found.values[1].status, 'aborted')
    self.assertIsNone(found.values[1].seconds)

  def test_two_aborted_runs_leave_no_score(self):
    for run in (1, 2):
      find(self.logs[run], 'run_stop').metadata['status'] = 'aborted'
      self.write(run)
    found = self.score()
    self.assertIsNone(found.score_seconds)
    self.assertIn('2 of 5 runs did not converge', found.reason)

  def test_a_log_whose_clock_started_late_has_no_time(self):
    audit_logs.move(self.logs[3], 'run_start', 'eval_start')
    self.write(3)
    found = self.score()
    self.assertEqual(found.values[3].status, 'invalid')
    self.assertIsNone(found.values[3].seconds)
    self.assertIn('the audit found', found.reason)

  def test_errors_of_the_audit_stand_beside_the_score(self):
    find(self.logs[3], 'seed').value = 1000
    self.write(3)
    found = self.score()
    self.assertIsNotNone(found.score_seconds)
    self.assertEqual(found.reason, 'Not a result: the audit found 1 error.')
    self.assertLen(found.findings, 1)

  def test_fewer_runs_than_required_are_no_result(self):
    (self.directory / 'result_4.txt').unlink()
    found = self.score()
    self.assertIsNotNone(found.score_seconds)
    self.assertIn('takes 5 runs', found.reason)

  def test_what_is_printed_says_score_target_and_spread(self):
    text = '\n'.join(score_text.lines(self.score()))
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


class WindowTest(absltest.TestCase):
  """More runs than a result takes."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)

  def write(self, paces):
    for run, pace in enumerate(paces):
      log = audit_logs.good(run=run, minutes_per_epoch=pace)
      audit_logs.write(self.directory / f'result_{run}.txt', log)

  def score(self):
    return scoring.score(str(self.directory), get=audit_logs.get)

  def test_the_window_with_the_median_score_is_the_result(self):
    self.write((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    found = self.score()
    self.assertEqual(found.window, [1, 2, 3, 4, 5])
    self.assertAlmostEqual(found.score_seconds / 60, 11 * 4, delta=0.01)
    self.assertIsNone(found.reason)
    self.assertEqual(
      [value.dropped for value in found.values],
      ['window', 'fastest', None, None, None, 'slowest', 'window'],
    )
    self.assertIn(
      'Of 7 runs in a row, the 5 with the median score count: 1, 2, 3, 4, 5',
      '\n'.join(score_text.lines(found)),
    )

  def test_runs_stand_in_the_order_of_their_launch_not_of_their_names(self):
    self.write((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    first = (self.directory / 'result_0.txt').read_text()
    last = (self.directory / 'result_6.txt').read_text()
    (self.directory / 'result_0.txt').write_text(last)
    (self.directory / 'result_6.txt').write_text(first)
    self.assertEqual(self.score().window, [1, 2, 3, 4, 5])
    self.assertEqual(self.score().values[0].seconds // 60, 77)


class OtherFoldersTest(absltest.TestCase):
  """Folders of old rounds, of models trained at once, and folders of them."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)

  def write_old(self, folder, minutes):
    folder.mkdir(parents=True)
    for run, taken in enumerate(minutes):
      start = 1_560_000_000.25 + 10_000 * run
      (folder / f'result_{run}.txt').write_text(
        ':::MLL 0.0 submission_benchmark: {"value": "resnet"}\n'
        f':::MLL {start} run_start: {{"value": null}}\n'
        f':::MLL {start + 60 * taken} run_stop: '
        '{"value": null, "metadata": {"status": "success"}}\n'
      )

  def test_an_old_round_is_scored_and_said_to_be_unaudited(self):
    folder = self.directory / 'resnet'
    self.write_old(folder, (10, 11, 12, 13, 14))
    found = scoring.score(str(folder))
    self.assertAlmostEqual(found.score_seconds, 720)
    self.assertEqual(found.required_runs, 5)
    self.assertStartsWith(found.reason, 'Not audited: logs of v0.6')

  def test_a_round_is_a_table_and_nothing_is_written_into_it(self):
    for name, minutes in (('a', range(1, 6)), ('b', range(5, 10))):
      self.write_old(self.directory / 'round' / name / 'resnet', minutes)
    root = str(self.directory / 'round')
    self.write_old(self.directory / 'round/a/resnet/interrupted/run_0', [1])
    before = sorted(os.walk(root))
    table = str(self.directory / 'table.csv')
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      code = score.run_all(root, scoring.folders(root), table)
    self.assertEqual(code, 1)
    self.assertRegex(printed.getvalue(), r'a/resnet +resnet +5 runs +3.000 min')
    with open(table, encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([row['minutes'] for row in rows], ['3.000', '7.000'])
    self.assertEqual(sorted(os.walk(root)), before)

  def test_models_trained_at_once_have_a_throughput(self):
    for run in range(5):
      log = audit_logs.good(run=run)
      for event in log:
        event.time_ms -= 24 * 60 * audit_logs.MINUTE * run  # all on one day
      audit_logs.write(self.directory / f'result_{run}.txt', log)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      code = score.run_weak(str(self.directory), 40, 8, get=audit_logs.get)
    self.assertEqual(code, 0, printed.getvalue())
    self.assertIn('5 models of 8 accelerators each on 40', printed.getvalue())
    with open(self.directory / 'throughput.json', encoding='utf-8') as file:
      found = json.load(file)
    self.assertAlmostEqual(found['seconds'] / 60, 11, delta=0.02)
    with self.assertRaisesRegex(ValueError, 'at most 4 models .* got 5'):
      score.run_weak(str(self.directory), 39, 8, get=audit_logs.get)


class OpenTest(absltest.TestCase):
  def test_open_says_the_quality_that_was_reached(self):
    directory = audit_logs.directory(self)
    for run in range(5):
      qualities = (0.5, 0.7, 0.98 + run / 1000)
      log = audit_logs.good(run=run, division='open', qualities=qualities)
      audit_logs.write(directory / f'result_{run}.txt', log)
    found = scoring.score(str(directory), get=audit_logs.get)
    text = '\n'.join(score_text.lines(found))
    self.assertIn('Quality of the runs that count, accuracy: 0.98', text)
    self.assertIsNone(found.convergence)


class NormalisationTest(absltest.TestCase):
  """Logs of the real benchmark, against its real convergence points."""

  def score(self, epochs):
    directory = audit_logs.directory(self)
    for run, count in enumerate(epochs):
      log = audit_logs.good(
        run=run,
        benchmark=benchmark.get('resnet'),
        qualities=(*[0.5] * (count - 1), 0.99),
      )
      audit_logs.write(directory / f'result_{run}.txt', log)
    forged = directory / 'scaling.json'
    forged.write_text('{"scaling_factor": 0.5}')
    found = scoring.score(str(directory))
    self.assertEqual(forged.read_text(), '{"scaling_factor": 0.5}')
    return found

  def test_luck_within_chance_is_taken_back_in_memory(self):
    found = self.score((12, 12, 13, 13, 14))
    reference = found.convergence.reference
    factor = reference.mean / ((12 + 13 + 13) / 3)
    self.assertGreater(factor, 1)
    self.assertAlmostEqual(found.factor, factor)
    kept = [v.seconds for v in found.values if v.dropped is None]
    self.assertLen(kept, 3)
    self.assertAlmostEqual(found.unnormalised_seconds, sum(kept) / 3)
    self.assertAlmostEqual(found.score_seconds, factor * sum(kept) / 3)
    self.assertIn('multiplied by 1.0', '\n'.join(score_text.lines(found)))

  def test_a_slow_set_is_not_made_faster(self):
    found = self.score((16, 16, 16, 16, 16))
    self.assertEqual(found.factor, 1)
    self.assertEqual(found.score_seconds, found.unnormalised_seconds)

  def test_convergence_beyond_chance_is_no_result(self):
    found = self.score((6, 6, 6, 6, 6))
    self.assertIsNotNone(found.reason)
    self.assertEqual(found.convergence.status, 'too fast')
    self.assertEqual(found.factor, 1)

  def test_luck_that_chance_explains_is_taken_out_of_our_own_sets(self):
    # 10 epochs where the reference takes 13.2 and the test passes 11.0.
    found = self.score((10, 10, 10, 10, 10))
    self.assertEqual(found.convergence.status, 'too fast')
    self.assertIsNone(found.reason)
    self.assertAlmostEqual(found.factor, found.convergence.reference.mean / 10)
    self.assertAlmostEqual(
      found.score_seconds, found.factor * found.unnormalised_seconds
    )


class ProgramTest(absltest.TestCase):
  """The program as a process, on logs of a real benchmark."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    # As many epochs as the reference takes: fewer would be too fast.
    audit_logs.write_set(
      self.directory,
      benchmark=benchmark.get('resnet'),
      qualities=(*[0.5] * 13, 0.99),
    )

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
