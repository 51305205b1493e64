"""Logs that are fine each, and yet no set."""

import dataclasses
import shutil

from absl.testing import absltest, parameterized

from suite import benchmark
from suite.results import audit
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find


class SetTest(parameterized.TestCase):
  """A folder of five runs."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)
    self.logs = audit_logs.write_set(self.directory)

  def check(self):
    return audit.examine_set(self.directory, get=audit_logs.get).findings

  def change(self, run, key, value):
    find(self.logs[run], key).value = value
    self.write(run)

  def write(self, run):
    audit_logs.write(self.path(run), self.logs[run])

  def path(self, run):
    return self.directory / f'result_{run}.txt'

  def abort(self, *runs):
    for run in runs:
      find(self.logs[run], 'run_stop').metadata['status'] = 'aborted'
      find(self.logs[run], 'eval_accuracy', 2).value = 0.6
      self.write(run)

  def assert_found(self, rule, text, severity=audit.ERROR):
    findings = self.check()
    self.assertTrue(
      any(
        f.severity == severity and f.rule == rule and text in str(f)
        for f in findings
      ),
      f'no {severity} [{rule}] with {text!r} in {[*map(str, findings)]}',
    )

  def assert_nothing(self):
    self.assertEmpty([*map(str, self.check())])

  def test_five_good_runs_are_a_set(self):
    self.assert_nothing()

  def test_other_files_beside_the_logs_are_no_fault(self):
    for name in ('score.json', 'run_0.json', 'run_0.err', 'report.html'):
      (self.directory / name).write_text('{}')
    (self.directory / 'interrupted').mkdir()
    self.assert_nothing()

  @parameterized.parameters(('bert', False), ('rnnt', True))
  def test_only_bert_logs_the_samples_that_a_run_took(self, name, found):
    for run in range(5):
      self.logs[run] = audit_logs.good(run=run, ours=False)
      find(self.logs[run], 'submission_benchmark').value = name
      self.change(run, 'train_samples', 1000 + run)
    rules = {f.rule for f in self.check() if 'train_samples' in f.text}
    self.assertEqual('one set' in rules, found)

  @parameterized.parameters((1.2, audit.WARNING), (20, audit.ERROR))
  def test_others_may_count_samples_a_little_otherwise(self, factor, severity):
    for run in range(5):
      self.logs[run] = audit_logs.good(run=run, ours=False)
      find(self.logs[run], 'submission_benchmark').value = 'maskrcnn'
      self.change(run, 'train_samples', 40_000 if run else 40_000 * factor)
    found = [f for f in self.check() if f.rule == 'one set']
    self.assertEqual({f.severity for f in found}, {severity})

  @parameterized.parameters((True, audit.ERROR), (False, audit.WARNING))
  def test_others_may_write_that_caches_were_cleared_as_text(self, ours, how):
    for run in range(5):
      self.logs[run] = audit_logs.good(run=run, ours=ours)
      self.change(run, 'cache_clear', 'True')
    self.assert_found('cold caches', "got 'True'", how)

  def test_a_benchmark_that_is_no_text_is_a_finding(self):
    for run in range(5):
      self.logs[run] = audit_logs.good(run=run, ours=False)
      self.change(run, 'submission_benchmark', ['resnet'])
    self.assert_found('submission', "got ['resnet']")

  def test_a_slow_outlier_is_no_fault(self):
    slow = audit_logs.good(run=2, minutes_per_epoch=9)
    audit_logs.write(self.path(2), slow)
    self.assert_nothing()

  @parameterized.parameters('result_1.log', 'result.txt')
  def test_a_log_of_another_name_is_found(self, name):
    shutil.copy(self.path(0), self.directory / name)
    self.assert_found('names of logs', name)

  @parameterized.parameters('result_05.txt', 'result_x.txt')
  def test_a_log_with_any_number_or_none_is_read(self, name):
    shutil.copy(self.path(0), self.directory / name)
    self.assert_found('number of runs', 'expected 5 runs, got 6')
    self.assert_found('clones', name)

  def rename(self, names):
    for run, name in reversed([*enumerate(names)]):
      audit_logs.write(self.path(run), audit_logs.good(run=run, ours=False))
      self.path(run).rename(self.directory / name)

  @parameterized.parameters('result_{}.txt', 'result_{:02}.txt')
  def test_others_number_from_0_or_1_and_pad_with_zeros(self, form):
    self.rename([form.format(1 + run) for run in range(5)])
    found = audit.examine_set(self.directory, get=audit_logs.get)
    rules = {finding.rule for finding in found.findings}
    self.assertEmpty(rules & {'names of logs', 'number of runs'})
    self.assertEqual([*found.runs], [1, 2, 3, 4, 5])

  def test_logs_without_numbers_are_read_in_the_order_of_their_names(self):
    names = [f'result_{letter}.txt' for letter in 'abcde']
    self.rename(names)
    found = audit.examine_set(self.directory, get=audit_logs.get)
    self.assertEqual([run.log.name for run in found.runs.values()], names)
    self.assert_found('names of logs', 'result_a.txt is run 0', audit.WARNING)

  def test_a_hole_in_others_numbers_is_found(self):
    self.rename([f'result_{run}.txt' for run in (1, 2, 3, 5, 6)])
    self.assert_found('names of logs', 'got no result_4.txt')

  def test_too_few_too_many_and_gaps_are_found(self):
    self.path(4).unlink()
    self.assert_found('number of runs', 'expected 5 runs, got 4')
    for run in (4, 5):
      audit_logs.write(self.path(run), audit_logs.good(run=run))
    self.assert_found('number of runs', 'expected 5 runs, got 6')
    self.path(2).unlink()
    self.assert_found('names of logs', 'result_2.txt')

  def test_a_folder_without_logs_is_found(self):
    for run in range(5):
      self.path(run).unlink()
    self.assert_found('number of runs', 'got none')

  def test_a_folder_that_is_none_is_found(self):
    findings = audit.examine_set(
      self.directory / 'none', get=audit_logs.get
    ).findings
    self.assertEqual(findings[0].rule, 'readable')

  def test_the_findings_of_every_log_are_those_of_the_set(self):
    self.change(3, 'lars_epsilon', 0.5)
    self.assert_found('closed division', 'result_3.txt')

  def test_a_seed_that_came_before_is_found(self):
    self.change(3, 'seed', 1001)
    self.assert_found('seed', 'that of result_1.txt')

  def test_a_copied_log_is_found(self):
    shutil.copy(self.path(0), self.path(4))
    self.assert_found('clones', 'a copy as in result_0.txt')

  def test_a_copied_log_with_another_seed_is_found(self):
    self.logs[4] = audit_logs.good(run=0)
    self.change(4, 'seed', 77)
    self.assert_found('clones', 'result_0.txt')

  def test_a_copied_log_with_its_times_moved_is_found(self):
    self.logs[4] = audit_logs.good(run=0)
    for event in self.logs[4]:
      event.time_ms += 86_400_000
    self.change(4, 'seed', 77)
    self.assert_found('clones', 'the same times')

  @parameterized.parameters(
    ((0.3714285714, 0.5428571428, 0.9791234567), True),
    ((0.37, 0.54, 0.98), False),  # chance may make these equal
  )
  def test_equal_qualities_of_other_seeds_and_times_are_found(
    self, qualities, found
  ):
    for run in range(5):
      self.logs[run] = audit_logs.good(run=run, minutes_per_epoch=2 + run)
      evals = [e for e in self.logs[run] if e.key == 'eval_accuracy']
      for event, quality in zip(evals, qualities, strict=True):
        event.value = quality if run in (1, 3) else quality + 1e-7 * (run + 1)
      self.write(run)
    texts = [str(f) for f in self.check() if f.rule == 'clones']
    self.assertEqual(any('result_1.txt' in text for text in texts), found)
    self.assertLen(texts, int(found))

  @parameterized.parameters(
    ('global_batch_size', 256),
    ('lars_opt_base_learning_rate', 9.0),
    ('podium_label_smoothing', 0.0),
    ('podium_version', '0.2.0'),
    ('submission_platform', '8xCPU'),
    ('submission_status', 'cloud'),
    ('submission_division', 'open'),
    ('submission_org', 'emca'),
  )
  def test_runs_of_several_settings_are_found(self, key, value):
    self.change(2, key, value)
    self.assert_found('one set', key)

  def test_runs_of_several_sizes_are_found(self):
    audit_logs.write(self.path(2), audit_logs.good(run=2, size='reference'))
    self.assert_found('one set', 'podium_size')

  def test_runs_of_several_benchmarks_are_found(self):
    other = audit_logs.good(
      run=2,
      size='reference',
      benchmark=audit_logs.TWO_METRICS,
      qualities=({'BBOX': 0.38, 'SEGM': 0.34},),
    )
    audit_logs.write(self.path(2), other)
    self.assert_found('one set', 'submission_benchmark')

  def test_benchmarks_that_are_only_official_are_compared_too(self):
    place = self.directory / 'llama'
    submissions.write_set(place, 'llama31_8b')
    events = submissions.events('llama31_8b', run=3)
    find(events, 'opt_base_learning_rate').value = 1e-3
    audit_logs.write(place / 'result_3.txt', events)
    errors = audit.errors(audit.examine_set(place).findings)
    self.assertEqual(
      [(f.file, f.rule) for f in errors], [('result_3.txt', 'one set')]
    )
    (place / 'result_9.txt').unlink()
    self.assertIn(
      'expected 10 runs, got 9',
      ' '.join(map(str, audit.examine_set(place).findings)),
    )

  def test_a_log_that_is_a_link_is_not_read(self):
    self.path(4).rename(self.directory / 'elsewhere')
    self.path(4).symlink_to('elsewhere')
    self.assert_found('links', 'result_4.txt')
    self.assertLen(
      audit.examine_set(self.directory, get=audit_logs.get).runs, 4
    )

  def test_one_run_may_fail_to_converge(self):
    self.abort(1)
    self.assert_found('converged', 'counts as the slowest', audit.WARNING)
    self.assertEmpty(audit.errors(self.check()))

  def test_two_runs_may_not(self):
    self.abort(1, 3)
    self.assert_found('converged', 'got 2 of 5')
    self.assertLen(audit.errors(self.check()), 3)

  def test_one_run_may_have_been_killed(self):
    self.logs[1] = [e for e in self.logs[1] if e.key != 'run_stop'][:-2]
    self.write(1)
    self.assert_found('required event', 'counts as the slowest', audit.WARNING)
    self.assertEmpty([*map(str, audit.errors(self.check()))])
    self.logs[2] = [e for e in self.logs[2] if e.key != 'run_stop']
    self.write(2)
    self.assert_found('converged', 'got 2 of 5')

  def test_a_run_that_claims_a_success_it_had_not_is_never_tolerated(self):
    find(self.logs[1], 'eval_accuracy', 2).value = 0.6
    self.write(1)
    self.assert_found('target', 'result_1.txt')

  def test_every_run_brings_its_summary(self):
    self.abort(1)
    runs = audit.examine_set(self.directory, get=audit_logs.get).runs
    self.assertEqual(list(runs), [0, 1, 2, 3, 4])
    converged = [run.converged for run in runs.values()]
    self.assertEqual(converged, [True, False, True, True, True])

  def test_convergence_is_compared_with_the_official_points(self):
    place = self.directory / 'official'
    submissions.write_set(place)
    checked = audit.examine_set(place)
    self.assertEmpty([*map(str, checked.findings)])
    self.assertEqual((checked.name, checked.ruleset), ('resnet', '4.0.0'))
    self.assertEqual(checked.compared.verdict.mean, 39)
    for run in range(5):
      events = submissions.events(run=run, evals=8)
      audit_logs.write(place / f'result_{run}.txt', events)
    (found,) = audit.examine_set(place).findings
    self.assertEqual(found.rule, 'convergence points')
    self.assertIn('Too fast: 31 epochs', found.text)

  def test_an_open_set_is_compared_with_no_points(self):
    place = self.directory / 'official'
    place.mkdir()
    for run in range(5):
      events = submissions.events(run=run, evals=8)
      find(events, 'submission_division').value = 'open'
      audit_logs.write(place / f'result_{run}.txt', events)
    self.assertIsNone(audit.examine_set(place).compared.verdict)

  def test_our_own_points_are_for_our_own_declarations(self):
    real = benchmark.get('resnet')
    for run in range(5):
      events = audit_logs.good(run=run, benchmark=real)
      audit_logs.write(self.path(run), events)
    rules = [
      f.rule for f in audit.errors(audit.examine_set(self.directory).findings)
    ]
    self.assertEqual(rules, ['convergence points'])
    self.assertEmpty(self.check_own('convergence points'))

  def check_own(self, rule):
    return [finding for finding in self.check() if finding.rule == rule]

  def test_bool_and_number_are_different_settings(self):
    logs = [audit_logs.good(run=run) for run in range(2)]
    for events, value in zip(logs, (1, True), strict=True):
      events.insert(
        3, dataclasses.replace(events[2], key='podium_x', value=value)
      )
      self.logs[:2] = logs
    self.write(0)
    self.write(1)
    self.assert_found('one set', 'podium_x')


if __name__ == '__main__':
  absltest.main()
