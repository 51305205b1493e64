"""The official rules of every round: understood, applied, told in words."""

import dataclasses
import re

from absl.testing import absltest, parameterized
import pytest

from suite.results.audit import errors, official, one
from suite.results.audit.official import expressions, rules, words
from suite.results.audit.record import TIMELINE
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit import audit_official_logs as logs
from tests.suite.results.audit.audit_logs import find, move

_FILES = [
  f'training_{ruleset}/{name}'
  for ruleset in rules.rulesets()
  for name in sorted(rules._names(ruleset))
]
# One case of every benchmark, of the newest ruleset that has it.
_NEWEST = tuple(
  {
    (case.benchmark, case.division, case.optimizer): case
    for case in logs.cases()
  }.values()
)


def _case(text: str) -> logs.Case:
  return next(case for case in logs.cases() if str(case) == text)


def _none(name: str):
  raise ValueError(f'Unknown benchmark {name!r}.')


class ExpressionsTest(parameterized.TestCase):
  """The language of the rule files."""

  @parameterized.parameters(*((name,) for name in _FILES))
  def test_every_rule_of_every_round_is_understood(self, name):
    self.assertEqual(rules.load(name).unknown, ())

  @parameterized.parameters(
    "__import__('os').system('true')",
    "open('x')",
    'v.__class__',
    '().__class__.__bases__',
    "[x for x in v['value']]",
    '(lambda: 1)()',
    "f'{v}'",
    "v['value'].format(s)",
    "eval('1')",
    's.clear()',
    'max(1, key=print)',
    '1 << 9',
    'x',
    'not a rule',
  )
  def test_what_is_no_rule_is_refused_before_any_log_is_read(self, source):
    with self.assertRaises(expressions.UnknownError):
      expressions.expression(source)

  @parameterized.parameters(
    'import os', 'x = 1', 'v[0] = 1', 'del s', 'while True: pass', 'def f(): 1'
  )
  def test_statements_only_change_the_state(self, source):
    with self.assertRaises(expressions.UnknownError):
      expressions.program(source)

  @parameterized.parameters(
    ("v['value'] > 0", 'x'),
    ("v['value']['BBOX'] > 0", 3),
    ("v['value'][1] > 0", [1]),
    ("is_integer(v['value'] / 0.001)", 10**400),
    ("is_integer(v['value'])", float('nan')),
    ("abs(v['value'] - 1) < 1", None),
    ("v['value'] * 1152 == 1", 'x'),
    ("v['value'] ** 99 == 1", 10**9),
    ("sorted(v['value']) == []", 'x'),
    ("int(v['value']) == 1", {}),
  )
  def test_a_value_that_a_rule_cannot_use_is_a_fault(self, source, value):
    scope = logs._scope('key', value, {}, {})
    with self.assertRaises(expressions.FaultError):
      expressions.value(expressions.expression(source), scope)

  def test_a_log_names_no_file_outside_the_rules(self):
    for name in ('../../x', 'training_4.0.0/../x.yaml', 'training_9.9.9/x.yaml',
                 'training_4.0.0/closed_/etc/passwd.yaml', ''):  # fmt: skip
      self.assertIsNone(rules.load(name))

  @parameterized.parameters(
    ("v['value'] == 0.0001", 'k 0.0001'),
    ("v['value'] in ['sgd', 'lars']", 'k one of sgd, lars'),
    ("'epoch_num' in v['metadata']", 'metadata epoch_num in k'),
    ("v['value'] != ''", 'a text as k'),
    ("is_integer(v['value'] / 0.02)", 'a whole number as k / 0.02'),
    ("s['run_started']", 'run_start before it (k)'),
    ("v['value'] == 12 - s['warmup']", 'k 12 - 4'),
    ("v['value'] >= 0.7 and v['value'] < 1", 'k at least 0.7 and k below 1'),
  )
  def test_a_condition_is_told_in_words(self, source, text):
    tree = expressions.expression(source)
    self.assertEqual(words.condition(tree, 'k', {'warmup': 4}), text)

  def test_a_rule_that_is_not_understood_is_said_to_be_unchecked(self):
    file = rules._file('training_x/y.yaml', '- KEY:\n    NAME: a\n    CHECK: q')
    self.assertLen(file.unknown, 1)
    self.assertIn("unknown name 'q'", file.unknown[0])


class OfficialCase(audit_logs.LogTestCase):
  """Audits logs of others, under a ruleset that is told or found."""

  def examine(self, events, ruleset=None):
    """The audit of a log of these events."""
    audit_logs.write(self.path, events)
    return one.examine_log(self.path, _none, ruleset)

  def faults(self, events, ruleset=None):
    """Its errors."""
    return errors(self.examine(events, ruleset).findings)


class RulesetTest(OfficialCase):
  """Logs of every round."""

  @parameterized.parameters(*((case,) for case in _NEWEST))
  def test_a_log_that_passes_officially_passes(self, case):
    events = logs.minimal(case)
    self.assert_nothing(self.faults(events, case.ruleset))
    self.assertTrue(logs.official_accepts(self.path, case.ruleset))

  @pytest.mark.slow
  def test_every_log_that_passes_officially_passes(self):
    for case in logs.cases():
      with self.subTest(str(case)):
        events = logs.minimal(case)
        self.assert_nothing(self.faults(events, case.ruleset))
        self.assertTrue(logs.official_accepts(self.path, case.ruleset))

  @pytest.mark.slow
  def test_values_that_the_rules_do_not_read_may_be_missing(self):
    for case in logs.cases():
      with self.subTest(str(case)):
        events = logs.minimal(case)
        for event in events:
          if event.key in (*TIMELINE, 'weights_initialization'):
            continue  # a quality must be a number, whatever a rule reads
          kept, event.value = event.value, None
          audit_logs.write(self.path, events)
          if not logs.official_accepts(self.path, case.ruleset):
            event.value = kept
        self.assert_nothing(self.faults(events, case.ruleset))

  @parameterized.parameters(*((case,) for case in _NEWEST))
  def test_a_ruleset_is_found_under_which_the_log_passes(self, case):
    audit = self.examine(logs.minimal(case))
    self.assert_nothing(errors(audit.findings))
    self.assertIn(audit.claim.ruleset, rules.benchmarks()[case.benchmark])
    self.assertStartsWith(audit.claim.chosen, 'found from its')

  @parameterized.parameters(
    ('1.1.0_ssd_closed', '1.1.0'),
    ('4.1.0_ssd_closed', '4.1.0'),
    ('2.0.0_bert_closed', '2.0.0'),
    ('5.0.0_bert_closed', '5.0.0'),
    ('6.0.0_llama31_8b_closed', '6.0.0'),
    ('6.1.0_llama31_8b_closed', '6.1.0'),
    ('5.0.0_llama31_405b_closed', '5.0.0'),
  )
  def test_the_ruleset_that_fits_the_keys_is_found(self, case, ruleset):
    audit = self.examine(logs.minimal(_case(case)))
    self.assertEqual(audit.claim.ruleset, ruleset)

  def test_one_missing_key_of_many_new_ones_leads_to_no_older_ruleset(self):
    events = logs.minimal(_case('6.1.0_llama31_8b_closed'))
    events.remove(find(events, 'config_filename'))
    self.assert_found(self.faults(events), 'training_6.1.0', 'config_filename')

  def test_a_round_without_the_benchmark_is_not_that_of_its_log(self):
    events = logs.minimal(_case('4.1.0_ssd_closed'))
    events.remove(find(events, 'global_batch_size'))  # no ruleset fits wholly
    for event in events:  # to the time of 5.1, which has no rules for it
      event.time_ms += 300 * 86_400_000
    claim = self.examine(events).claim
    self.assertEqual((claim.ruleset, claim.chosen), ('4.1.0', official.KEYS))

  def test_a_ruleset_that_is_told_holds(self):
    events = logs.minimal(_case('6.0.0_llama31_8b_closed'))
    self.assert_nothing(self.faults(events, '6.0.0'))
    self.assert_found(
      self.faults(events, '6.1.0'), 'training_6.1.0', 'config_filename'
    )
    audit = self.examine(events, '6.0.0')
    self.assertEqual(audit.claim.chosen, 'told')

  def test_an_unknown_ruleset_is_refused_in_words(self):
    with self.assertRaisesRegex(ValueError, "6.1.0.*got '9.9'"):
      one.examine_log(self.path, _none, '9.9')

  def test_the_ruleset_of_another_format_is_refused_in_words(self):
    with self.assertRaisesRegex(
      ValueError, 'got 0.6.0: its logs are lines of another'
    ):
      one.examine_log(self.path, _none, '0.6.0')

  def test_a_log_of_ours_is_held_to_the_ruleset_that_it_names(self):
    events = audit_logs.good(size='reference')
    audit_logs.write(self.path, events)
    audit = one.examine_log(self.path, audit_logs.get)
    self.assertEqual(audit.claim.ruleset, '4.0.0')
    self.assertEqual(audit.claim.chosen, 'logged')
    self.assertIn('training_4.0.0/closed_resnet.yaml',
                  audit.claim.verdict.files)  # fmt: skip

  def test_a_ruleset_of_our_own_has_no_official_rules(self):
    audit_logs.write(self.path, audit_logs.good())
    audit = one.examine_log(self.path, audit_logs.get)
    self.assertEqual(audit.claim.ruleset, 'podium-tiny-1')
    self.assertIsNone(audit.claim.verdict)

  def test_our_declaration_is_held_against_its_own_round_alone(self):
    events = logs.minimal(_case('1.1.0_resnet_closed_lars'))
    audit_logs.write(self.path, events)
    self.assertIsNone(
      one.examine_log(self.path, audit_logs.get, '1.1.0').claim.size
    )
    self.assertIsNotNone(
      one.examine_log(self.path, audit_logs.get, '4.0.0').claim.size
    )


def _value(key, value):
  return lambda events: setattr(find(events, key), 'value', value)


def _missing(key):
  return lambda events: events.remove(find(events, key))


def _metadata(key, **metadata):
  return lambda events: find(events, key).metadata.update(metadata)


def _evals(*values):
  """The evals of a run of several, in place of its one."""

  def fault(events):
    first = find(events, 'eval_accuracy')
    place = events.index(first)
    more = [
      dataclasses.replace(
        first,
        value=value,
        metadata={name: n * at for name, at in first.metadata.items()},
      )
      for n, value in enumerate(values, start=1)
    ]
    events[place : place + 1] = more

  return fault


def _moved(key, before):
  return lambda events: move(events, key, before)


def _after_the_clock(key):
  def change(events):
    find(events, key).time_ms = find(events, 'run_stop').time_ms + 120_000

  return change


# (name, case, fault, words of the finding)
_FAULTS = (
  ('learning_rate', '4.0.0_resnet_closed_sgd',
   _value('sgd_opt_end_learning_rate', 0.1), '0.0001, got 0.1'),
  ('optimizer', '4.1.0_ssd_closed', _value('opt_name', 'sgd'), 'adam'),
  ('first_decay_epoch_that_yaml_loses', '1.1.0_ssd_closed',
   _value('opt_learning_rate_decay_boundary_epochs', [41, 50]), '40.0'),
  ('second_decay_epoch', '1.1.0_ssd_closed',
   _value('opt_learning_rate_decay_boundary_epochs', [40, 51]), '50.0'),
  ('tensor_missing', '2.1.0_dlrm_closed', _missing('weights_initialization'),
   'missing'),
  ('tensor_unknown', '2.1.0_dlrm_closed',
   _metadata('weights_initialization', tensor='other'), "unknown 'other'"),
  ('percent_where_the_rules_have_no_upper_bound', '4.0.0_unet3d_closed',
   _value('eval_accuracy', 91.0), 'percent'),
  ('loss_below_zero', '6.1.0_llama31_8b_closed', _value('eval_accuracy', -1.0),
   '0 or more'),
  ('loss_too_good_to_be_true', '4.1.0_gpt3_closed',
   _value('eval_accuracy', 2.0), 'above 2.6'),
  ('target_missed', '5.1.0_rgat_closed', _value('eval_accuracy', 0.71),
   '0.72'),
  ('target_met_in_the_middle', '5.1.0_rgat_closed', _evals(0.1, 0.73, 0.6),
   'not the end'),
  ('loss_met_in_the_middle', '6.1.0_llama31_8b_closed', _evals(4.0, 3.2, 3.4),
   'not the end'),
  ('one_metric_missed', '3.1.0_maskrcnn_closed',
   _value('eval_accuracy', {'BBOX': 0.38, 'SEGM': 0.3}), 'SEGM'),
  ('one_metric_missing', '5.0.0_stable_diffusion_closed',
   _missing('eval_accuracy'), 'FID'),
  ('quality_text', '5.1.0_rgat_closed', _value('eval_accuracy', '0.73'),
   "'0.73'"),
  ('quality_nan', '5.1.0_rgat_closed', _value('eval_accuracy', float('nan')),
   'nan'),
  ('eval_samples', '6.1.0_llama31_8b_closed', _value('eval_samples', 1023),
   '1024'),
  ('first_eval_late', '6.1.0_deepseekv3_671b_closed',
   _metadata('eval_accuracy', samples_count=1e6), 'samples_count'),
  ('precision', '6.1.0_llama31_8b_closed',
   _value('lowest_numerical_precision_in_comm', 'fp2'), 'fp64'),
  ('unit_of_evals', '6.1.0_llama31_8b_closed',
   lambda events: find(events, 'eval_accuracy').metadata.pop('samples_count'),
   'samples_count'),
  ('benchmark_of_another_round', '6.1.0_llama31_8b_closed',
   _value('submission_benchmark', 'rgat'), 'one of'),
  ('benchmark_is_a_path', '6.1.0_llama31_8b_closed',
   _value('submission_benchmark', '../../x'), 'without paths'),
  ('config_steers_terminal', '6.1.0_llama31_8b_closed',
   _value('config_filename', 'a\x1b[2J'), 'control'),
  ('warmup_after_decay', '6.1.0_llama31_8b_closed',
   _moved('opt_learning_rate_warmup_steps', 'init_stop'), 'decay_steps'),
  ('division_after_init', '6.1.0_llama31_8b_closed',
   _moved('submission_division', 'run_start'), 'init_stop'),
  ('aborted', '5.1.0_rgat_closed', _metadata('run_stop', status='aborted'),
   'aborted'),
  ('evaluates_after_the_clock', '5.1.0_rgat_closed',
   _after_the_clock('eval_accuracy'), 'after run_stop'),
)  # fmt: skip


class FaultTest(OfficialCase):
  """Faults in logs of benchmarks that the suite has no declaration of."""

  @parameterized.named_parameters(*_FAULTS)
  def test_a_fault_is_found(self, case, fault, text):
    case = _case(case)
    events = logs.minimal(case)
    fault(events)
    found = self.faults(events, case.ruleset)
    self.assertTrue(
      any(text in str(finding) for finding in found), [*map(str, found)]
    )

  def test_a_finding_names_line_value_and_rule(self):
    events = logs.minimal(_case('4.1.0_ssd_closed'))
    find(events, 'opt_weight_decay').value = 1e-4
    line = 1 + events.index(find(events, 'opt_weight_decay'))
    (finding,) = self.faults(events, '4.1.0')
    self.assertEqual(
      str(finding),
      f'error result_0.txt:{line}: expected opt_weight_decay 0.0, got 0.0001 '
      '[training_4.1.0/closed_ssd.yaml opt_weight_decay]',
    )

  def test_no_fault_is_told_twice(self):
    events = logs.minimal(_case('6.1.0_llama31_8b_closed'))
    events.remove(find(events, 'run_stop'))
    texts = [str(finding) for finding in self.faults(events, '6.1.0')]
    self.assertLen([text for text in texts if 'run_stop' in text], 1)

  def test_evals_of_saved_checkpoints_may_follow_the_end(self):
    events = logs.minimal(_case('5.0.0_stable_diffusion_closed'))
    for _ in range(4):
      move(events, 'eval_accuracy', None)
    self.assert_nothing(self.faults(events, '5.0.0'))

  def test_a_real_loss_in_open_is_no_error(self):
    events = logs.minimal(_case('6.1.0_llama31_8b_open'))
    find(events, 'eval_accuracy').value = 3.4
    audit = self.examine(events, '6.1.0')
    self.assert_nothing(errors(audit.findings))
    self.assert_found(list(audit.findings), 'training_6.1.0/open_llama31_8b',
                      'below 1', 'warning')  # fmt: skip

  def test_open_is_free_of_the_target(self):
    events = logs.minimal(_case('5.1.0_rgat_open'))
    find(events, 'eval_accuracy').value = 0.3
    self.assert_nothing(self.faults(events, '5.1.0'))

  def test_intervals_of_others_may_close_after_the_clock(self):
    events = logs.minimal(_case('5.1.0_rgat_closed'))
    move(events, 'eval_stop', None)
    self.assert_nothing(self.faults(events, '5.1.0'))

  def test_several_seeds_and_old_keys_are_no_error(self):
    events = logs.minimal(_case('5.0.0_bert_closed'))
    seed = find(events, 'seed')
    place = events.index(seed)
    events[place:place] = [
      dataclasses.replace(seed, value=8),
      dataclasses.replace(seed, key='submission_status', value='x'),
    ]
    self.assert_nothing(self.faults(events, '5.0.0'))

  def test_a_round_without_rules_for_its_benchmark_is_said(self):
    events = logs.minimal(_case('3.1.0_rnnt_closed'))
    found = list(self.examine(events, '4.0.0').findings)
    self.assertTrue(
      any(re.search('no closed_rnnt.yaml', str(f)) for f in found), found
    )

  def test_first_epochs_that_are_far_too_fast_are_suspicious(self):
    events = logs.minimal(_case('5.1.0_rgat_closed'))
    start = find(events, 'block_start')
    place = events.index(start)
    epochs, now = [], start.time_ms
    for number, minutes in enumerate((0.1, 1, 1, 1, 1, 1, 1), start=1):
      for key in ('epoch_start', 'epoch_stop'):
        epochs.append(
          dataclasses.replace(
            start, key=key, metadata={'epoch_num': number}, time_ms=now
          )
        )
        now += minutes * audit_logs.MINUTE if key == 'epoch_start' else 0
    for event in events[place:]:
      event.time_ms += now - start.time_ms
    events[place : place + 2] = epochs
    found = list(self.examine(events, '5.1.0').findings)
    self.assert_found(found, 'late clock', 'start late', 'warning')


if __name__ == '__main__':
  absltest.main()
