"""Tests of the plan of batches: buckets, what is dropped, shapes."""

import collections

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.audio import log_mel
from input_pipelines.librispeech import order

SHAPES = (order.Shape(120, 30), order.Shape(240, 40))


def _plan(count=203, **how):
  draws = np.random.default_rng(0)
  samples = draws.integers(8000, 32_001, count)
  symbols = draws.integers(1, 31, count)
  how = {
    'batch_size': 8, 'most_samples': 32_000, 'bucket_count': 4,
    'speeds': (0.85, 1.15), 'by_heard': False,
    'front_end': log_mel.FrontEnd(), **how,
  }  # fmt: skip
  return order.Plan(samples, symbols, SHAPES, **how), samples, symbols


class PlanTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_an_epoch_has_whole_batches_of_utterances_each_once(self, by_heard):
    plan, _, _ = _plan(by_heard=by_heard)
    self.assertEqual((plan.kept, plan.steps, plan.utterances), (203, 25, 200))
    left_out = set()
    for epoch in range(3):
      members = plan.epoch(1, epoch).members
      self.assertEqual(members.shape, (25, 8))
      self.assertLen(np.unique(members), 200)
      left_out |= {*range(203)} - {*members.ravel().tolist()}
    self.assertGreater(len(left_out), 3)  # others each time

  def test_utterances_that_are_too_long_are_left_out(self):
    plan, samples, _ = _plan(most_samples=20_000)
    self.assertEqual(plan.kept, (samples <= 20_000).sum())
    self.assertTrue((samples[plan.epoch(1, 0).members] <= 20_000).all())

  def test_a_batch_is_of_one_bucket_or_of_two_that_meet(self):
    """Ranks by length are those of a quarter, but where one ends."""
    plan, samples, _ = _plan()
    rank = np.argsort(np.argsort(samples, kind='stable'), kind='stable')
    bucket = np.searchsorted([51, 102, 153], rank, side='right')
    mixed = 0
    for members in plan.epoch(1, 0).members:
      found = np.unique(bucket[members])
      self.assertLessEqual(np.ptp(found), 1)
      mixed += len(found) > 1
    self.assertLessEqual(mixed, 3)

  def test_batches_come_in_random_order_and_anew_each_epoch(self):
    plan, samples, _ = _plan()
    first, second = (plan.epoch(1, n).members for n in range(2))
    self.assertFalse(np.array_equal(first, second))
    means = samples[first].mean(axis=1)
    self.assertLess(abs(np.corrcoef(means, np.arange(25))[0, 1]), 0.6)
    self.assertFalse(np.array_equal(plan.epoch(2, 0).members, first))

  def test_a_step_is_that_of_its_epoch(self):
    plan, _, _ = _plan()
    for step in (0, 24, 25, 60):
      epoch, place = divmod(step, 25)
      whole, group = plan.epoch(3, epoch), plan.group(3, step)
      np.testing.assert_array_equal(group.members, whole.members[place])
      np.testing.assert_array_equal(group.speeds, whole.speeds[place])
      self.assertEqual(group.shape, SHAPES[whole.shapes[place]])

  def test_speeds_are_as_likely_anywhere_in_their_range(self):
    plan, _, _ = _plan()
    speeds = np.concatenate(
      [plan.epoch(seed, 0).speeds.ravel() for seed in range(20)]
    )
    self.assertBetween(speeds.min(), 0.85, 0.8505)
    self.assertBetween(speeds.max(), 1.1495, 1.15)
    self.assertAlmostEqual(speeds.mean(), 1.0, delta=0.006)

  def test_a_batch_has_the_least_shape_that_holds_all_of_it(self):
    plan, samples, symbols = _plan(by_heard=True)
    seen = collections.Counter()
    for step in range(50):
      group = plan.group(5, step)
      frames = np.ceil(samples[group.members] * group.speeds) // 160 + 1
      if frames.max() <= 120 and symbols[group.members].max() <= 30:
        self.assertEqual(group.shape, SHAPES[0])
      else:
        self.assertEqual(group.shape, SHAPES[1])
        self.assertLessEqual(frames.max(), 240)
      seen[group.shape] += 1
    self.assertLen(seen, 2)

  def test_lengths_as_they_are_heard_pad_less(self):
    kept, heard = (_plan(by_heard=b)[0].padding(1) for b in (False, True))
    self.assertLess(heard, kept)

  def test_shapes_that_do_not_hold_all_are_refused(self):
    with self.assertRaisesRegex(ValueError, '240 frames or fewer, got one of'):
      _plan(speeds=(0.85, 1.3))

  def test_fewer_utterances_than_a_batch_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'a batch of 300, got 203'):
      _plan(batch_size=300)


class ChooseTest(absltest.TestCase):
  def test_either_of_both_may_ask_for_more(self):
    frames, symbols = np.array([120, 121, 5, 5]), np.array([30, 1, 31, 40])
    found = order.choose(SHAPES, frames, symbols)
    self.assertEqual(found.tolist(), [0, 1, 1, 1])
    with self.assertRaisesRegex(ValueError, '40 symbols or fewer, got .* 41'):
      order.choose(SHAPES, frames, symbols + 1)


if __name__ == '__main__':
  absltest.main()
