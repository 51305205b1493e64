"""Tests of the limits that follow the round."""

from absl.testing import absltest, parameterized

from suite import benchmark, rounds
from suite.hparams import Division


class RoundsTest(parameterized.TestCase):
  @parameterized.parameters(
    # mlcommons/training_policies, training_rules.adoc, of each round.
    ('v0.5', 0, 0),
    ('v0.6', 0, 0),
    ('v0.7', 20, 20),
    ('v1.0', 30, 30),
    ('v1.1', 30, 30),
    ('v2.0', 30, 240),
    ('v4.1', 30, 240),
    ('v10.0', 30, 240),
    ('', 30, 240),
  )
  def test_the_allowance_of_startup_follows_the_round(
    self, name, closed, open_
  ):
    for division, minutes in zip(Division, (closed, open_), strict=True):
      self.assertEqual(rounds.startup_allowance(name, division), 60.0 * minutes)

  @parameterized.parameters(
    ('0.7.0', 'v0.7'),
    ('4.1.0', 'v4.1'),
    ('podium-tiny-1', ''),
    ('podium-transformer-v0.6', ''),
    ('hpc_3.0.0', ''),
    (None, ''),
  )
  def test_an_official_ruleset_names_its_round(self, ruleset, name):
    self.assertEqual(rounds.of_ruleset(ruleset), name)

  @parameterized.parameters(
    ('resnet', 'reference', 30),
    ('minigo', 'reference', 30),
    ('transformer', 'reference', 20),
    ('transformer', 'v0.6', 0),
    ('ncf', 'reference', 0),
    ('ncf', 'tiny', 30),
  )
  def test_a_size_has_the_allowance_of_its_round(self, name, size, minutes):
    found = benchmark.get(name).size(size).startup_allowance(Division.CLOSED)
    self.assertEqual(found, 60.0 * minutes)


if __name__ == '__main__':
  absltest.main()
