"""Reports of logs alone: what anybody's published set holds."""

import contextlib
import io
import pathlib

from absl.testing import absltest

from launch import report
from suite.results.report import from_logs
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.report.report_test import Document


class LogsTest(absltest.TestCase):
  """A set of an official round, without any record of ours."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    self.set = self.directory / 'published'
    submissions.write_set(self.set)

  def page(self, write, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
      path = write(*arguments)
    return Document(pathlib.Path(path).read_text())

  def test_a_report_shows_score_curves_runs_and_findings(self):
    log = self.set / 'result_2.txt'
    log.write_text(log.read_text().replace('"seed"', '"sead"'))
    text = self.page(report.write, self.set, '4.0.0').text
    self.assertIn('mean of 3 of 5 runs', text)
    self.assertIn('5 of 5 reached the target', text)
    self.assertIn('expected the seed of the run, got none', text)
    self.assertIn('they do not say what the reference has', text)
    self.assertNotIn('All are those of the reference', text)
    tables = {p.name for p in (self.set / 'report').glob('*.csv')}
    self.assertContainsSubset({'score.csv', 'runs.csv', 'evals.csv'}, tables)

  def test_the_numbers_are_those_of_the_logs(self):
    records, score = from_logs.read(self.set, ruleset='4.0.0')
    first = audit_logs.find(submissions.events(run=0), 'run_start').time_ms
    last = audit_logs.find(submissions.events(run=0), 'run_stop').time_ms
    self.assertEqual(records[0].timed.seconds, (last - first) / 1000)
    self.assertEqual(records[0].time_to_quality, score.values[0].seconds)
    self.assertLen(records[0].evals, 10)
    self.assertEqual(records[0].hyperparameters['opt_name'].value, 'lars')
    self.assertEqual(sum(records[0].timed.parts.values()),
                     records[0].timed.seconds)  # fmt: skip

  def test_several_published_systems_stand_side_by_side(self):
    other = self.directory / 'other'
    submissions.write_set(other, first=5)
    sets = [str(self.set), f'rival={other}']
    out = self.directory / 'out'
    text = self.page(report.write_several, out, sets, '4.0.0').text
    self.assertIn('rival', text)
    self.assertIn('published', text)

  def test_logs_of_an_unknown_target_are_refused_in_words(self):
    for log in self.set.iterdir():
      log.write_text(log.read_text().replace('"resnet"', '"cosmoflow"'))
    with self.assertRaisesRegex(ValueError, 'target is known.*cosmoflow'):
      report.write(self.set)


if __name__ == '__main__':
  absltest.main()
