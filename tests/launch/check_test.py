"""`launch.check`: findings in words, and exit codes that mean something."""

import contextlib
import io
import json

from absl.testing import absltest

from launch import check
from suite import benchmark
from tests.launch import processes
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs


def _main(path, **changes):
  """-> exit code and what was printed."""
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    code = check.main(str(path), **{'werror': False, **changes})
  return code, printed.getvalue()


def _program(*arguments):
  return processes.run('launch.check', *arguments)


class CheckTest(absltest.TestCase):
  """The program on logs of a real benchmark."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    self.path = self.directory / 'result_0.txt'
    self.good = audit_logs.good(benchmark=benchmark.get('resnet'))
    audit_logs.write(self.path, self.good)

  def test_a_good_log_passes(self):
    done = _program(self.path, '--werror')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    last = (
      f'PASSED: no errors, no warnings in {self.path}; it stands as it is\n'
    )
    self.assertEndsWith(done.stdout, last)

  def test_an_error_fails_and_is_told_in_one_line(self):
    audit_logs.find(self.good, 'cache_clear').value = False
    audit_logs.write(self.path, self.good)
    code, text = _main(self.path)
    self.assertEqual(code, 1)
    self.assertEqual(
      text.splitlines(),
      [
        'error result_0.txt:1: expected cache_clear = true before the run, got '
        'False [cold caches]',
        f'FAILED: 1 error, no warnings in {self.path}; it would stand without '
        'these faults: cold caches',
      ],
    )

  def test_a_warning_fails_only_with_werror(self):
    audit_logs.find(self.good, 'run_start').kind = 'POINT_IN_TIME'
    audit_logs.write(self.path, self.good)
    self.assertEqual(_main(self.path)[0], 0)
    code, text = _main(self.path, werror=True)
    self.assertEqual(code, 1)
    self.assertIn('FAILED: no errors, 1 warning in', text)

  def test_findings_of_a_kind_are_one_line_errors_first(self):
    for run in range(5):
      events = audit_logs.good(run=run, benchmark=benchmark.get('resnet'))
      audit_logs.find(events, 'run_start').kind = 'POINT_IN_TIME'
      audit_logs.find(events, 'cache_clear').value = run == 0
      audit_logs.write(self.directory / f'result_{run}.txt', events)
    _, text = _main(self.directory)
    lines = [line for line in text.splitlines() if 'result_' in line]
    self.assertIn('[cold caches] and 3 more like it, 4 in 4 files', lines[0])
    self.assertIn('[event type] and 4 more like it, 5 in 5 files', lines[1])
    _, text = _main(self.directory, verbose=True)
    self.assertEqual(text.count('[cold caches]'), 4)
    report = self.directory / 'found.json'
    _main(self.directory, json=str(report))
    found = json.loads(report.read_text())
    self.assertFalse(found['passed'])
    rules = [finding['rule'] for finding in found['findings']]
    self.assertEqual(rules.count('cold caches'), 4)

  def test_a_folder_is_checked_as_a_set(self):
    code, text = _main(self.directory)
    self.assertEqual(code, 1)
    self.assertIn('expected 5 runs, got 1', text)

  def test_a_submission_is_checked_as_a_whole(self):
    org = submissions.write(self.directory / 'round')
    code, text = _main(org.parent)
    self.assertEqual(code, 0)
    self.assertIn('acme/results/toy/resnet: 5 runs of resnet, ruleset 4.', text)
    self.assertIn('PASSED: no errors, no warnings in', text)
    (org / 'systems/toy.json').unlink()
    code, text = _main(org.parent)
    self.assertEqual(code, 1)
    self.assertIn('error acme/results/toy: expected systems/toy.json', text)

  def test_the_ruleset_can_be_told(self):
    org = submissions.write(self.directory / 'round')
    code, text = _main(org, ruleset='3.0.0')
    self.assertEqual(code, 0)
    self.assertIn('ruleset 3.0.0', text)
    with self.assertRaisesRegex(ValueError, '3.0.0, 3.1.0'):
      _main(org, ruleset='3.2.0')

  def test_bad_usage_is_refused_in_one_line(self):
    for arguments in ((), ('none',), (self.path, '--ruleset=9')):
      done = _program(*arguments)
      self.assertEqual(done.returncode, 2)
      self.assertEqual(done.stdout, '')
      self.assertStartsWith(done.stderr, 'error: ')
      self.assertLen(done.stderr.splitlines(), 1)


if __name__ == '__main__':
  absltest.main()
