"""Tests of hyperparameters and what Closed allows."""

import dataclasses

from absl.testing import absltest, parameterized

from suite import hparams
from suite.hparams import (
  ADAM,
  LAMB,
  NOT_NEGATIVE,
  RISING,
  SHARE,
  Division,
  Rule,
  Scales,
  divisor_of,
  fixed,
  one_of,
  tunable,
)


@dataclasses.dataclass(frozen=True)
class Example:
  batch: int = tunable(64, 'Rows.', key='global_batch_size')
  rate: float = tunable(
    0.1,
    'Rate.',
    key=lambda hp: f'{hp.name}_rate',
    rule=Rule('at most 1', lambda v, _: v <= 1),
  )
  name: str = tunable(
    'sgd',
    'Optimizer.',
    key='opt_name',
    valid=one_of('sgd', 'lars', 'adam'),
    rule=one_of('sgd', 'lars'),
  )
  end: float = fixed(1e-4, 'End.', key=lambda hp: None)
  widths: tuple[int, ...] = fixed((1, 2), 'Widths.', valid=RISING)
  wide: bool = tunable(False, 'Wide.')


def _in_open(changed):
  """Refuses what the Open division does."""
  texts = {name: str(value) for name, value in vars(changed).items()}
  hparams.override(type(changed)(), texts, Division.OPEN)


class HparamsTest(parameterized.TestCase):
  def test_override_reads_each_type(self):
    changes = {'batch': '8', 'rate': '.5', 'wide': 'true', 'widths': '3,4,5'}
    got = hparams.override(Example(), changes, Division.OPEN)
    self.assertEqual(
      got, Example(batch=8, rate=0.5, wide=True, widths=(3, 4, 5))
    )

  @parameterized.parameters('8', '0.5', 'true', '3,4,5', '')
  def test_a_value_as_text_is_read_again(self, text):
    name = {'8': 'batch', '0.5': 'rate', 'true': 'wide'}.get(text, 'widths')
    got = hparams.override(Example(), {name: text}, Division.OPEN)
    self.assertEqual(hparams.as_text(getattr(got, name)), text)

  def test_the_batch_is_what_the_log_calls_one(self):
    @dataclasses.dataclass(frozen=True)
    class OfMinigo:
      rows: int = tunable(4096, 'Rows.', key='train_batch_size')

    for reference, name in ((Example(), 'batch'), (OfMinigo(), 'rows')):
      self.assertEqual(hparams.batch(reference).name, name)
      logged = hparams.logged(reference)
      self.assertEqual(hparams.batch_in(logged), getattr(reference, name))
    with self.assertRaisesRegex(ValueError, 'global_batch_size or train_'):
      hparams.batch(dataclasses.make_dataclass('None', [])())
    self.assertIsNone(hparams.batch_in({}))

  @parameterized.parameters(
    ({'batchh': '8'}, "did you mean 'batch'"),
    ({'zzz': '8'}, 'there are batch, rate'),
    ({'batch': '8.5'}, "batch as int, got '8.5'"),
    ({'rate': 'nan'}, 'a finite number as rate'),
    ({'wide': 'maybe'}, 'wide as bool'),
    ({'widths': '1,x'}, 'ints with commas between'),
    ({'batch': '0'}, 'batch to be positive, got 0'),
    ({'rate': '-1'}, 'rate to be positive, got -1.0'),
    ({'widths': '3,-1'}, r'widths to be positive and rising, got \(3, -1\)'),
    ({'name': 'sdg'}, "name to be one of sgd, lars, adam, got 'sdg'"),
  )
  def test_a_change_that_makes_no_sense_is_refused_in_any_division(
    self, changes, says
  ):
    for division in Division:
      with self.assertRaisesRegex(ValueError, says):
        hparams.override(Example(), changes, division)

  @parameterized.parameters(
    ({'end': '0.1'}, 'end to be 0.0001, which Closed fixes, got 0.1'),
    ({'rate': '2'}, 'rate to be at most 1, got 2.0'),
    ({'name': 'adam'}, "name to be one of sgd, lars, got 'adam'"),
  )
  def test_closed_refuses_what_open_allows(self, changes, says):
    hparams.override(Example(), changes, Division.OPEN)
    with self.assertRaisesRegex(ValueError, says):
      hparams.override(Example(), changes, Division.CLOSED)

  def test_a_rule_sees_the_other_changes(self):
    @dataclasses.dataclass(frozen=True)
    class Pair:
      batch: int = tunable(1, '')
      rate: int = tunable(
        1, '', rule=Rule('batch', lambda value, hp: value == hp.batch)
      )

    both = {'rate': '2', 'batch': '2'}
    self.assertEqual(
      hparams.override(Pair(), both, Division.CLOSED), Pair(2, 2)
    )

  def test_the_log_names_follow_from_the_declaration(self):
    self.assertEqual(
      hparams.logged(Example(name='lars')),
      {
        'global_batch_size': 64,
        'lars_rate': 0.1,
        'opt_name': 'lars',
        'podium_widths': (1, 2),
        'podium_wide': False,
      },
    )

  @parameterized.parameters(
    (NOT_NEGATIVE, 0, -1),
    (NOT_NEGATIVE, (0, 1), ()),
    (SHARE, (0.0, 1.0), (0.5, 1.5)),
    (RISING, (), (2, 1)),
    (RISING, (1, 2), (0, 1)),
  )
  def test_rules_hold_for_a_number_or_each_of_a_tuple(self, rule, good, bad):
    self.assertTrue(rule.allows(good, None))
    self.assertFalse(rule.allows(bad, None))

  def test_a_refusal_tells_what_the_rule_compares(self):
    @dataclasses.dataclass(frozen=True)
    class Grouped:
      batch: int = tunable(8, '')
      span: int = tunable(4, '', valid=divisor_of('batch'))

    says = r'span to be a divisor of batch, got 3 \(batch is 8\)'
    for refuse in (hparams.require_valid, _in_open):
      with self.assertRaisesRegex(ValueError, says):
        refuse(Grouped(span=3))
    hparams.require_valid(Grouped(batch=9, span=3))

  def test_a_text_without_a_rule_is_no_declaration(self):
    with self.assertRaisesRegex(TypeError, "got none for 'sgd'"):
      tunable('sgd', 'Optimizer.')

  def test_adam_and_lamb_have_the_keys_and_bounds_of_the_rules(self):
    @dataclasses.dataclass(frozen=True)
    class OfBert:  # keys: closed_bert.yaml of mlcommons/logging, 2.1.0 on
      rate: float = hparams.base_learning_rate(4e-4, 'Rate.')
      warmup: int = hparams.warmup_steps(0, 'Steps.', valid=NOT_NEGATIVE)
      beta_1: float = LAMB.beta(1, 0.9)
      beta_2: float = LAMB.beta(2, 0.999)
      epsilon: float = LAMB.epsilon(1e-6)
      decay: float = LAMB.weight_decay(0.01)
      fixed_1: float = ADAM.beta(1, 0.9, fixed)
      fixed_2: float = ADAM.epsilon(1e-8, fixed)

    self.assertEqual(
      list(hparams.logged(OfBert())),
      [
        'opt_base_learning_rate', 'opt_learning_rate_warmup_steps',
        'opt_lamb_beta_1', 'opt_lamb_beta_2', 'opt_lamb_epsilon',
        'opt_lamb_weight_decay_rate', 'opt_adam_beta_1', 'opt_adam_epsilon',
      ],
    )  # fmt: skip
    found = {each.name: each for each in hparams.declared(OfBert())}
    self.assertEqual(found['rate'].scales, Scales.RATE)
    self.assertEqual(found['warmup'].scales, Scales.STEPS)
    self.assertEqual(
      [name for name, each in found.items() if not each.tunable],
      ['fixed_1', 'fixed_2'],
    )
    hparams.require_valid(OfBert())
    for bad in ({'beta_1': 1.0}, {'epsilon': -1e-6}, {'decay': -0.1}):
      with self.assertRaisesRegex(ValueError, next(iter(bad))):
        hparams.require_valid(OfBert(**bad))


if __name__ == '__main__':
  absltest.main()
