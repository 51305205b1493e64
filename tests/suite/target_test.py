"""Tests of targets."""

import math

from absl.testing import absltest

from suite.target import Target


class TargetTest(absltest.TestCase):
  def test_all_bounds_must_hold(self):
    target = Target(at_least={'BBOX': 0.377, 'SEGM': 0.339})
    self.assertTrue(target.met_by({'BBOX': 0.377, 'SEGM': 0.4}))
    self.assertFalse(target.met_by({'BBOX': 0.4, 'SEGM': 0.338}))

  def test_a_loss_is_bounded_from_above(self):
    target = Target(at_most={'log_perplexity': 3.3})
    self.assertTrue(target.met_by({'log_perplexity': 3.3}))
    self.assertFalse(target.met_by({'log_perplexity': 3.31}))

  def test_what_is_no_number_meets_no_target(self):
    self.assertFalse(Target(at_least={'a': 0.0}).met_by({'a': math.nan}))
    self.assertFalse(Target(at_most={'a': 0.0}).met_by({'a': math.nan}))

  def test_a_missing_metric_is_an_error(self):
    with self.assertRaises(KeyError):
      Target(at_least={'accuracy': 0.5}).met_by({'loss': 0.1})

  def test_a_target_without_bounds_is_refused(self):
    with self.assertRaises(ValueError):
      Target()


if __name__ == '__main__':
  absltest.main()
