"""Tests of hyperparameters and what Closed allows."""

import dataclasses

from absl.testing import absltest, parameterized

from suite import hparams
from suite.hparams import Division, Rule, fixed, one_of, tunable


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
    'sgd', 'Optimizer.', key='opt_name', rule=one_of('sgd', 'lars')
  )
  end: float = fixed(1e-4, 'End.', key=lambda hp: None)
  widths: tuple[int, ...] = fixed((1, 2), 'Widths.')
  wide: bool = tunable(False, 'Wide.')


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
    ({'batch': '8.5'}, "batch takes int, not '8.5'"),
    ({'rate': 'nan'}, 'must be finite'),
    ({'wide': 'maybe'}, 'takes bool'),
    ({'widths': '1,x'}, 'ints with commas between'),
  )
  def test_a_change_that_makes_no_sense_is_refused_in_any_division(
    self, changes, says
  ):
    for division in Division:
      with self.assertRaisesRegex(ValueError, says):
        hparams.override(Example(), changes, division)

  @parameterized.parameters(
    ({'end': '0.1'}, 'end is fixed at 0.0001, not 0.1'),
    ({'rate': '2'}, 'rate must be at most 1, not 2.0'),
    ({'name': 'adam'}, "name must be one of sgd, lars, not 'adam'"),
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

  def test_closed_allows_half_an_hour_of_startup_and_open_four_hours(self):
    self.assertEqual(Division.CLOSED.startup_allowance, 1800)
    self.assertEqual(Division.OPEN.startup_allowance, 14400)


if __name__ == '__main__':
  absltest.main()
