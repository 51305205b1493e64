"""Every fault that a log can have is found, and nothing else is."""

import copy
import dataclasses
import functools

from absl.testing import absltest, parameterized

from suite import benchmark
from suite.results import audit
from suite.results.audit import timing
from tests import ids
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find, move


def _set(key, /, **changes):
  """A fault: fields of the first event of that key take other values."""

  def fault(events):
    event = find(events, key)
    for name, value in changes.items():
      setattr(event, name, value)

  return fault


def _put(key, which=0, /, **metadata):
  """A fault: metadata of an event take other values."""
  return lambda events: find(events, key, which).metadata.update(metadata)


def _drop(key):
  """A fault: all events of that key are missing."""

  def fault(events):
    events[:] = [event for event in events if event.key != key]

  return fault


def _drop_metadata(key, name):
  return lambda events: find(events, key).metadata.pop(name)


def _moved(key, before):
  return lambda events: move(events, key, before)


def _twice(key, value):
  """A fault: the line comes again, with this value."""

  def fault(events):
    event = find(events, key)
    again = dataclasses.replace(event, value=value)
    events.insert(events.index(event) + 1, again)

  return fault


def _qualities(*values):
  def fault(events):
    for number, value in enumerate(values):
      find(events, 'eval_accuracy', number).value = value

  return fault


def _last_quality(value):
  return lambda events: setattr(
    find(events, 'eval_accuracy', 2), 'value', value
  )


def _in_unit(factor, *keys):
  def fault(events):
    for event in events:
      if not keys or event.key in keys:
        event.time_ms *= factor

  return fault


def _clock_starts_late(events):
  """The line of run_start stands, with its time, after most of the training."""
  move(events, 'run_start', None)
  run_start, stop = events.pop(), find(events, 'run_stop')
  events.insert(events.index(stop), run_start)
  for event in (run_start, stop):
    event.time_ms += 10


def _with_epochs_only(events):
  """Others log epochs where we log blocks."""
  for event in events:
    event.key = event.key.replace('block', 'epoch')
    if event.key.startswith('epoch'):
      event.metadata = {'epoch_num': event.metadata['first_epoch_num']}


def _epochs_before_the_clock(events):
  _drop_ours(events)
  _with_epochs_only(events)
  _clock_starts_late(events)


def _drop_ours(events):
  events[:] = [e for e in events if not e.key.startswith('podium_')]


def _startup_of(minutes):
  def fault(events):
    start = events.index(find(events, 'init_stop'))
    for event in events[start:]:
      event.time_ms += minutes * audit_logs.MINUTE

  return fault


def _gap_before_clock(events):
  start = events.index(find(events, 'run_start'))
  for event in events[start:]:
    event.time_ms += 2 * audit_logs.MINUTE


def _two_runs(events):
  again = audit_logs.good(run=7)
  events.extend(again)


def _two_processes(events):
  events[:] = [event for event in events for _ in range(2)]


def _no_end(events):
  events[:] = events[:-3]


# (name, fault, rule that finds it, a word of the finding)
_FAULTS = (
  ('run_stop_missing', _drop('run_stop'), 'required event', 'run_stop'),
  ('killed', _no_end, 'required event', 'run_stop'),
  ('run_start_missing', _drop('run_start'), 'required event', 'run_start'),
  ('init_start_missing', _drop('init_start'), 'required event', 'init_start'),
  ('init_stop_missing', _drop('init_stop'), 'required event', 'init_stop'),
  ('no_eval', _drop('eval_accuracy'), 'required event', 'eval_accuracy'),
  ('no_block_start', _drop('block_start'), 'required event', 'block_start'),
  ('no_block_stop', _drop('block_stop'), 'required event', 'block_stop'),
  ('no_eval_start', _drop('eval_start'), 'intervals', 'eval_start'),
  ('no_eval_stop', _drop('eval_stop'), 'intervals', 'eval_stop'),
  ('run_starts_in_init', _moved('run_start', 'init_stop'), 'order', 'before'),
  ('init_starts_late', _moved('init_start', 'run_start'),
   'order', 'init_start'),
  ('eval_before_run', _moved('eval_accuracy', 'run_start'), 'order', 'eval_'),
  ('eval_after_run', _moved('eval_accuracy', None), 'order', 'run_stop'),
  ('block_after_run', _moved('block_stop', None), 'order', 'run_stop'),
  ('cache_cleared_late', _moved('cache_clear', 'block_start'),
   'settings first', 'run_start'),
  ('division_late', _moved('submission_division', 'run_start'),
   'settings first', 'init_stop'),
  ('setting_after_run', _moved('global_batch_size', None),
   'settings first', 'global_batch_size'),
  ('setting_in_run', _moved('opt_name', 'block_start'),
   'settings first', 'opt_name'),
  ('seed_after_run', _moved('seed', None), 'settings first', 'seed'),
  ('clock_late', _clock_starts_late, 'order', 'run_start'),
  ('clock_late_by_epochs', _epochs_before_the_clock, 'order', 'run_start'),
  ('two_runs', _two_runs, 'one run in a log', 'two runs'),
  ('two_processes', _two_processes, 'one run in a log', 'several processes'),
  ('run_started_twice', _twice('run_start', None), 'one run in a log', 'once'),
  ('run_stopped_twice', _twice('run_stop', None), 'one run in a log', 'once'),
  ('aborted', _put('run_stop', status='aborted'), 'converged', 'aborted'),
  ('status_missing', _drop_metadata('run_stop', 'status'),
   'event metadata', 'status'),
  ('status_unknown', _put('run_stop', status='great'),
   'event metadata', 'great'),
  ('status_is_a_list', _put('run_stop', status=['success']),
   'event metadata', 'status'),
  ('never_met', _qualities(0.1, 0.2, 0.3), 'target', '0.97'),
  ('met_in_the_middle', _qualities(0.5, 0.99, 0.6), 'target', 'not the end'),
  ('percent', _qualities(50.0, 70.0, 98.0), 'quality unit', 'percent'),
  ('negative_quality', _qualities(-0.5), 'quality unit', '-0.5'),
  ('quality_nan', _qualities(float('nan')), 'quality', 'nan'),
  ('quality_infinite', _last_quality(float('inf')), 'quality', 'inf'),
  ('quality_text', _last_quality('0.98'), 'quality', "'0.98'"),
  ('quality_bool', _last_quality(True), 'quality', 'True'),
  ('quality_none', _last_quality(None), 'quality', 'None'),
  ('quality_list', _last_quality([0.98]), 'quality', '0.98'),
  ('quality_of_another_metric', _last_quality({'loss': 0.98}),
   'quality', 'accuracy'),
  ('quality_of_nothing', _last_quality({}), 'quality', 'accuracy'),
  ('seconds', _in_unit(1e-3), 'time unit', 'seconds'),
  ('microseconds', _in_unit(1e3), 'time unit', 'microseconds'),
  ('nanoseconds', _in_unit(1e6), 'time unit', 'nanoseconds'),
  ('end_in_seconds', _in_unit(1e-3, 'run_stop'), 'time goes forward', 'ms'),
  ('time_text', _set('run_stop', time_ms='1700000000000'), 'record', 'time_ms'),
  ('time_bool', _set('run_stop', time_ms=True), 'record', 'time_ms'),
  ('time_nan', _set('run_stop', time_ms=float('nan')), 'record', 'time_ms'),
  ('time_huge', _set('run_stop', time_ms=10**400), 'record', 'time_ms'),
  ('stop_before_start', _set('run_stop', time_ms=audit_logs.NOON),
   'durations', 'run_start'),
  ('clock_set_back', _set('block_stop', time_ms=audit_logs.NOON),
   'time goes forward', 'before'),
  ('cache_kept', _set('cache_clear', value=False), 'cold caches', 'False'),
  ('cache_as_number', _set('cache_clear', value=1), 'cold caches', '1'),
  ('cache_unsaid', _drop('cache_clear'), 'cold caches', 'none'),
  ('batch_size_missing', _drop('global_batch_size'),
   'hyperparameter', 'global_batch_size'),
  ('hyperparameter_missing', _drop('lars_opt_momentum'),
   'hyperparameter', 'lars_opt_momentum'),
  ('own_hyperparameter_missing', _drop('podium_label_smoothing'),
   'hyperparameter', 'podium_label_smoothing'),
  ('hyperparameter_misspelt', _set('model_bn_span', key='model_bnspan'),
   'hyperparameter', "did you mean 'model_bnspan'"),
  ('hyperparameter_text', _set('lars_opt_momentum', value='0.9'),
   'hyperparameter', "'0.9'"),
  ('hyperparameter_bool', _set('gradient_accumulation_steps', value=True),
   'hyperparameter', 'True'),
  ('hyperparameter_none', _set('model_bn_span', value=None),
   'hyperparameter', 'None'),
  ('hyperparameter_fraction', _set('global_batch_size', value=128.5),
   'hyperparameter', '128.5'),
  ('hyperparameter_nan', _set('lars_opt_momentum', value=float('nan')),
   'hyperparameter', 'nan'),
  ('hyperparameter_huge', _set('global_batch_size', value=10**400),
   'hyperparameter', 'global_batch_size'),
  ('batch_size_zero', _set('global_batch_size', value=0),
   'hyperparameter', 'positive'),
  ('fixed_changed', _set('lars_epsilon', value=1e-3), 'closed', 'lars_epsilon'),
  ('fixed_list_changed', _set('podium_blocks', value=[3, 4, 23, 3]),
   'closed', '23'),
  ('rule_broken', _set('lars_opt_weight_decay', value=3e-4),
   'closed', '0.0003'),
  ('optimizer_unknown', _set('opt_name', value='adam'), 'closed', 'adam'),
  ('twice_differing', _twice('lars_opt_momentum', 0.95), 'once', '0.95'),
  ('train_samples_wrong', _set('train_samples', value=3999), 'samples', '4000'),
  ('eval_samples_wrong', _set('eval_samples', value=100), 'samples', '1000'),
  ('train_samples_missing', _drop('train_samples'), 'samples', 'none'),
  ('eval_samples_text', _set('eval_samples', value='1000'),
   'samples', "'1000'"),
  ('seed_missing', _drop('seed'), 'seed', 'none'),
  ('seed_text', _set('seed', value='1'), 'seed', "'1'"),
  ('seed_fraction', _set('seed', value=1.5), 'seed', '1.5'),
  ('seed_bool', _set('seed', value=True), 'seed', 'True'),
  ('benchmark_missing', _drop('submission_benchmark'), 'submission', 'none'),
  ('benchmark_unknown', _set('submission_benchmark', value='resnext'),
   'benchmark', 'resnext'),
  ('benchmark_of_others', _set('submission_benchmark', value='bert'),
   'benchmark', 'bert'),
  ('benchmark_is_a_list', _set('submission_benchmark', value=['resnet']),
   'submission', 'resnet'),
  ('division_unknown', _set('submission_division', value='Closed'),
   'submission', 'Closed'),
  ('status_of_nobody', _set('submission_status', value='soon'),
   'submission', 'soon'),
  ('org_empty', _set('submission_org', value=''),
   'submission', 'submission_org'),
  ('org_missing', _drop('submission_org'), 'submission', 'submission_org'),
  ('org_leads_elsewhere', _set('submission_org', value='../../etc'),
   'safe text', 'etc'),
  ('platform_steers_terminal', _set('submission_platform', value='a\x1b[2J'),
   'safe text', 'control'),
  ('size_unknown', _set('podium_size', value='huge'), 'size', 'huge'),
  ('size_is_an_object', _set('podium_size', value={'a': 1}), 'submission', 'a'),
  ('ruleset_of_others', _set('podium_ruleset', value='4.0.0'),
   'ruleset', 'podium-tiny-1'),
  ('version_missing', _drop('podium_version'), 'submission', 'podium_version'),
  ('first_epoch_zero', _put('block_start', first_epoch_num=0),
   'epoch numbers', 'first_epoch_num 1'),
  ('epochs_skipped', _put('block_start', 1, first_epoch_num=5),
   'epoch numbers', 'first_epoch_num 4'),
  ('block_stops_another', _put('block_stop', first_epoch_num=2),
   'epoch numbers', 'block_stop'),
  ('eval_of_another_epoch', _put('eval_accuracy', epoch_num=4),
   'epoch numbers', 'epoch_num 3'),
  ('evals_go_back', _put('eval_accuracy', 2, epoch_num=1),
   'epoch numbers', 'forward'),
  ('no_epochs', _put('block_start', epoch_count=0), 'event metadata', '0'),
  ('epoch_count_missing', _drop_metadata('block_start', 'epoch_count'),
   'event metadata', 'epoch_count'),
  ('first_epoch_missing', _drop_metadata('block_start', 'first_epoch_num'),
   'event metadata', 'first_epoch_num'),
  ('epoch_of_stop_missing', _drop_metadata('block_stop', 'first_epoch_num'),
   'event metadata', 'block_stop'),
  ('epoch_missing', _drop_metadata('eval_accuracy', 'epoch_num'),
   'event metadata', 'eval_accuracy'),
  ('epoch_text', _put('eval_accuracy', epoch_num='3'), 'event metadata', "'3'"),
  ('eval_too_rare', _put('eval_accuracy', 1, epoch_num=11),
   'eval cadence', '7 epochs'),
  ('offset_of_another_run', _set('podium_eval_offset', value=1),
   'eval cadence', '2 epochs'),
)  # fmt: skip

# (name, change, rule): worth a look, yet no error.
_WARNED = (
  ('twice_the_same', _twice('global_batch_size', 128), 'once'),
  ('two_equal_seeds', _twice('seed', 1000), 'seed'),
  ('cache_without_value', _set('cache_clear', value=None), 'cold caches'),
  ('kind', _set('run_start', kind='POINT_IN_TIME'), 'event type'),
  ('jitter', _set('podium_size', time_ms=audit_logs.NOON), 'time goes forward'),
  ('startup_charged', _startup_of(30), 'startup allowance'),
  ('gap', _gap_before_clock, 'late clock'),
  ('goes_on', _qualities(0.5, 0.99, 0.98), 'target'),
)


class LogTest(audit_logs.LogTestCase):
  """One log."""

  @parameterized.product(
    size=('tiny', 'reference'),
    division=('closed', 'open'),
    opt_name=('lars', 'sgd'),
  )
  def test_a_good_log_has_no_findings(self, size, division, opt_name):
    declared = audit_logs.BENCHMARK.sizes[size]
    hparams = dataclasses.replace(declared.hparams, opt_name=opt_name)
    events = audit_logs.good(size=size, division=division, hparams=hparams)
    self.assert_nothing(self.check(events))

  @ids.each(benchmark.names())
  def test_a_good_log_of_every_benchmark_has_no_findings(self, name):
    declared = benchmark.get(name)
    for size in declared.sizes:
      events = audit_logs.good(
        benchmark=declared,
        size=size,
        qualities=audit_logs.qualities(declared.sizes[size].target),
      )
      path = audit_logs.write(self.path, events)
      found = audit.examine_log(path).findings
      self.assert_nothing([each for each in found if each.rule != 'draft'])

  @parameterized.named_parameters(*_FAULTS)
  def test_a_fault_is_found(self, fault, rule, text):
    events = audit_logs.good()
    fault(events)
    self.assert_found(self.check(events), rule, text)

  @parameterized.named_parameters(*_WARNED)
  def test_an_oddity_is_a_warning_and_no_error(self, change, rule):
    events = audit_logs.good()
    change(events)
    findings = self.check(events)
    self.assert_found(findings, rule, '', audit.WARNING)
    self.assert_nothing(audit.errors(findings))

  def test_a_finding_names_file_line_and_rule(self):
    events = audit_logs.good()
    find(events, 'lars_opt_momentum').value = '0.9'
    line = 1 + events.index(find(events, 'lars_opt_momentum'))
    (finding,) = self.check(events)
    self.assertEqual(
      str(finding),
      f'error result_0.txt:{line}: expected lars_opt_momentum as float, '
      "got '0.9' [hyperparameter]",
    )

  def test_a_finding_is_printable_whatever_a_log_holds(self):
    events = audit_logs.good()
    find(events, 'run_stop').metadata.update(
      status='aborted', reason='\x1b[2J\n\ud800\u202e'
    )
    for finding in self.check(events):
      self.assertTrue(str(finding).isascii() and str(finding).isprintable())

  def test_the_target_of_several_metrics_wants_them_all(self):
    good = functools.partial(
      audit_logs.good, benchmark=audit_logs.TWO_METRICS, size='reference'
    )
    met, missed = {'BBOX': 0.38, 'SEGM': 0.34}, {'BBOX': 0.38, 'SEGM': 0.33}
    self.assert_nothing(self.check(good(qualities=(missed, met))))
    found = self.check(good(qualities=(met, missed)))
    self.assert_found(found, 'target', 'SEGM')
    self.assert_found(self.check(good(qualities=(0.5,))), 'quality', 'BBOX')

  @parameterized.parameters(('v0.7', True), ('v0.6', False), ('', False))
  def test_the_allowance_is_that_of_the_round(self, name, told):
    size = dataclasses.replace(audit_logs.BENCHMARK.sizes['tiny'], round=name)
    known = dataclasses.replace(audit_logs.BENCHMARK, sizes={'tiny': size})
    events = audit_logs.good()
    _startup_of(25)(events)
    audit_logs.write(self.path, events)
    found = audit.examine_log(self.path, get=lambda _: known).findings
    self.assertEqual('startup allowance' in {f.rule for f in found}, told)

  def test_an_official_startup_beyond_the_allowance_is_an_error(self):
    events = audit_logs.good(size='reference')
    _startup_of(29)(events)
    self.assert_found(self.check(events), 'startup allowance', '30 min')
    events = audit_logs.good(size='reference', division='open')
    _startup_of(29)(events)
    self.assert_nothing(self.check(events))

  def test_closed_faults_are_free_in_open(self):
    events = audit_logs.good(division='open')
    find(events, 'lars_epsilon').value = 0.5
    self.assert_nothing(self.check(events))

  def test_a_run_may_be_aborted_anywhere(self):
    for key in ('block_start', 'block_stop', 'eval_start'):
      events = audit_logs.good()
      stop = find(events, 'run_stop')
      stop.metadata['status'] = 'aborted'
      del events[events.index(find(events, key, 1)) + 1 :]
      findings = self.check([*events, stop])
      self.assertEqual([f.rule for f in findings], ['converged'])

  def test_logs_of_others_need_none_of_our_keys(self):
    events = audit_logs.good(size='reference', ours=False)
    _with_epochs_only(events)
    self.assert_nothing(self.check(events))

  def test_others_may_log_hyperparameters_on_the_clock_but_not_after(self):
    events = audit_logs.good(size='reference', ours=False)
    event, block = find(events, 'train_samples'), find(events, 'block_start')
    events.remove(event)
    events.insert(events.index(block), event)
    event.time_ms = block.time_ms
    self.assert_nothing(self.check(events))
    move(events, 'train_samples', None)
    findings = self.check(events)
    self.assert_found(
      findings, 'settings first', 'train_samples', audit.WARNING
    )
    self.assertEmpty(audit.errors(findings))

  def test_what_others_log_outside_the_clock_voids_no_time(self):
    events = audit_logs.good(size='reference', ours=False)
    find(events, 'submission_org').time_ms = 0
    for key in ('block_start', 'block_stop', 'cache_clear', 'seed'):
      event = copy.copy(find(events, key))
      events.append(event)
      event.time_ms = find(events, 'run_stop').time_ms + 2 * audit_logs.MINUTE
    audit_logs.write(self.path, events)
    found = audit.examine_log(self.path, get=audit_logs.get)
    self.assertEmpty(audit.errors(found.findings))
    self.assertTrue(found.converged)

  def test_others_evals_count_by_their_times_not_by_their_lines(self):
    events = audit_logs.good(size='reference', ours=False)
    for event in [e for e in events if e.key == 'eval_accuracy']:
      events.remove(event)
      events.insert(0, event)
    audit_logs.write(self.path, events)
    found = audit.examine_log(self.path, get=audit_logs.get)
    self.assertEmpty(audit.errors(found.findings))
    self.assertTrue(found.converged)
    last = found.evals[-1]
    self.assertEqual(last.time_ms, max(one.time_ms for one in found.evals))

  @parameterized.parameters(('minigo', False), ('resnet', True))
  def test_only_some_may_be_scored_after_the_clock(self, name, found):
    events = audit_logs.good(size='reference', ours=False)
    find(events, 'submission_benchmark').value = name
    for event in events:
      if event.key.startswith('eval_') and event.kind != 'INTERVAL_END':
        event.time_ms += 500 * audit_logs.MINUTE
    rules = {f.rule for f in audit.errors(self.check(events))}
    self.assertEqual('order' in rules, found)

  def test_others_clock_that_starts_or_stops_within_training_is_found(self):
    for key, place in (('run_start', 'eval_stop'), ('run_stop', 'block_start')):
      events = audit_logs.good(size='reference', ours=False)
      find(events, key).time_ms = find(events, place, 2).time_ms + 5000
      self.assert_found(self.check(events), 'order', 'run_')

  def test_the_first_eval_of_others_may_have_any_offset(self):
    for offset in range(4):
      hparams = audit_logs.Hparams(eval_offset=offset)
      events = audit_logs.good(size='reference', ours=False, hparams=hparams)
      self.assert_nothing(self.check(events))
    hparams = audit_logs.Hparams(eval_offset=4)
    events = audit_logs.good(size='reference', ours=False, hparams=hparams)
    found = self.check(events)
    self.assert_found(found, 'eval cadence', '1 to 4', audit.WARNING)

  def test_a_benchmark_unknown_here_is_checked_in_general_and_said_so(self):
    events = audit_logs.good(size='reference', ours=False)
    find(events, 'submission_benchmark').value = 'cosmoflow'
    findings = self.check(events)
    self.assert_found(findings, 'unknown benchmark', 'cosmoflow', audit.WARNING)
    self.assertLen(findings, 1)
    move(events, 'run_start', None)
    self.assert_found(self.check(events), 'order', 'run_start')

  def test_a_first_block_that_is_far_too_fast_is_suspicious(self):
    events = audit_logs.good(qualities=(0.5, 0.6, 0.7, 0.8, 0.98))
    first = events.index(find(events, 'block_stop'))
    for event in events[first:]:
      event.time_ms -= 2.8 * audit_logs.MINUTE
    found = self.check(events)
    self.assert_found(found, 'late clock', 'first', audit.WARNING)

  @parameterized.parameters(0, 2, 4)
  def test_a_slow_block_is_no_fault(self, which):
    events = audit_logs.good(qualities=(0.5, 0.6, 0.7, 0.8, 0.98))
    slow = events.index(find(events, 'block_stop', which))
    for event in events[slow:]:
      event.time_ms += 60 * audit_logs.MINUTE
    self.assert_nothing(self.check(events))

  def test_an_audit_says_what_the_run_was(self):
    audit_logs.write(self.path, audit_logs.good(run=3))
    found = audit.examine_log(self.path, get=audit_logs.get)
    claim = found.claim
    self.assertEqual(
      (claim.name, claim.size_name, claim.division.value, found.seed),
      ('resnet', 'tiny', 'closed', 1003),
    )
    self.assertEqual((found.status, found.converged), ('success', True))
    self.assertEqual([one.at for one in found.evals], [3, 7, 11])
    self.assertEqual(found.evals[-1].quality, {'accuracy': 0.99})
    self.assertEqual(found.settings['lars_opt_base_learning_rate'], 10.0)
    minutes = timing.startup_ms(found.log) / audit_logs.MINUTE
    self.assertAlmostEqual(minutes, 1, delta=0.01)


if __name__ == '__main__':
  absltest.main()
