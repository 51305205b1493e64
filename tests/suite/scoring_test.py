"""Scores worked out by hand, and beside an independent implementation."""

import math
import statistics

from absl.testing import absltest, parameterized
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mstats

from suite import audit, scoring
from tests.suite import audit_logs

# Of 1740, 1800, 1860, 1920, 2400 the middle three average to 1860.
_RUNS = (1800.0, 1920.0, 1740.0, 1860.0, 2400.0)


class OlympicTest(parameterized.TestCase):
  """The mean without the extremes."""

  def test_the_fastest_and_the_slowest_are_left_out(self):
    score = scoring.olympic(_RUNS)
    self.assertAlmostEqual(score.seconds, 1860.0)
    self.assertEqual((score.fastest, score.slowest), ((2,), (4,)))
    self.assertEqual(score.values, _RUNS)
    self.assertIsNone(score.reason)

  def test_a_run_that_did_not_converge_is_the_slowest(self):
    score = scoring.olympic((1800.0, None, 1740.0, 1860.0, 2400.0))
    self.assertAlmostEqual(score.seconds, (1800 + 1860 + 2400) / 3)
    self.assertEqual((score.fastest, score.slowest), ((2,), (1,)))

  @parameterized.parameters((2, 1), (5, 4), (5, 1))
  def test_more_such_runs_than_are_left_out_there_give_no_score(
    self, failed, dropped
  ):
    runs = [None] * failed + [10.0] * (5 * dropped)
    score = scoring.olympic(runs, dropped=dropped)
    self.assertIsNone(score.seconds)
    self.assertIsNone(score.interval)
    self.assertIn(f'{failed} of {len(runs)} runs', score.reason)

  def test_four_failures_pass_where_four_are_left_out(self):
    runs = [None] * 4 + [float(value) for value in range(1, 37)]
    score = scoring.olympic(runs, dropped=4)
    self.assertAlmostEqual(score.seconds, (5 + 36) / 2)

  @parameterized.parameters(0, 1, 2)
  def test_too_few_runs_leave_nothing_to_average(self, count):
    score = scoring.olympic([10.0] * count)
    self.assertIsNone(score.seconds)
    self.assertIn('nothing is left', score.reason)

  @parameterized.parameters(3, 4, 6)
  def test_another_number_of_runs_is_scored_but_no_result(self, count):
    score = scoring.olympic([10.0] * count, required=5)
    self.assertEqual(score.seconds, 10.0)
    self.assertIn('takes 5 runs', score.reason)

  @parameterized.parameters(0.0, -1.0, math.nan, math.inf)
  def test_a_time_that_is_none_is_refused(self, value):
    with self.assertRaisesRegex(ValueError, 'positive and finite'):
      scoring.olympic([10.0, 11.0, value])

  def test_the_spread_is_that_of_all_runs_that_converged(self):
    score = scoring.olympic((1800.0, None, 1740.0, 1860.0, 2400.0))
    self.assertAlmostEqual(score.mean, 1950.0)
    # Deviations -150, -210, -90, 450; squares add up to 277200.
    self.assertAlmostEqual(score.std, math.sqrt(277200 / 3))
    self.assertAlmostEqual(
      score.coefficient_of_variation, math.sqrt(277200 / 3) / 1950
    )

  def test_the_interval_is_that_worked_out_by_hand(self):
    # Winsorised: 1800 1800 1860 1920 1920, mean 1860, squares 4 * 3600, so
    # s_w = sqrt(14400 / 4) = 60; the error is 60 / (0.6 * sqrt(5)); and the
    # table has 4.303 for t with 2 degrees of freedom.
    low, high = scoring.olympic(_RUNS).interval
    half = 4.30265 * 60 / (0.6 * math.sqrt(5))
    self.assertAlmostEqual(high - 1860, half, places=2)
    self.assertAlmostEqual(1860 - low, half, places=2)

  def test_the_interval_needs_no_value_of_the_run_that_failed(self):
    with_none = scoring.olympic((1800.0, 1920.0, 1740.0, 1860.0, None))
    self.assertEqual(with_none.interval, scoring.olympic(_RUNS).interval)

  def test_one_kept_run_has_no_interval(self):
    self.assertIsNone(scoring.olympic((10.0, 11.0, 12.0)).interval)

  @given(
    st.lists(st.floats(1, 1e5), min_size=5, max_size=40, unique=True),
    st.sampled_from((1, 2)),
  )
  def test_mean_and_interval_are_those_of_scipy(self, runs, dropped):
    if len(runs) - 2 * dropped < 2:
      runs = [*runs, 2e5]
    score = scoring.olympic(runs, dropped=dropped)
    share = (dropped + 0.5) / len(runs)  # scipy rounds it down to `dropped`
    limits = (share, share)
    mean = float(mstats.trimmed_mean(runs, limits))
    self.assertTrue(math.isclose(score.seconds, mean))
    # scipy divides by the share that was asked for, not by that it kept.
    low, high = mstats.trimmed_mean_ci(runs, limits)
    kept = len(runs) - 2 * dropped
    half = (high - low) / 2 * (1 - 2 * share) * len(runs) / kept
    ours = (score.interval[1] - score.interval[0]) / 2
    self.assertTrue(math.isclose(ours, half, rel_tol=1e-6, abs_tol=1e-9))

  @given(st.lists(st.floats(1, 1e5), min_size=3, max_size=9), st.randoms())
  def test_the_order_of_runs_does_not_matter(self, runs, random):
    shuffled = random.sample(runs, len(runs))
    self.assertTrue(
      math.isclose(
        scoring.olympic(runs).seconds, scoring.olympic(shuffled).seconds
      )
    )

  def test_about_19_of_20_intervals_hold_the_true_mean(self):
    held = 0
    for seed in range(400):
      runs = statistics.NormalDist(100, 5).samples(5, seed=seed)
      low, high = scoring.olympic(runs).interval
      held += low <= 100 <= high
    self.assertBetween(held / 400, 0.92, 0.98)


class TimeToQualityTest(absltest.TestCase):
  """A run's time, from its log."""

  def summary(self, change=lambda events: None):
    events = audit_logs.good()
    change(events)
    path = audit_logs.directory(self) / 'result_0.txt'
    audit_logs.write(path, events)
    return audit.examine_log(path, get=audit_logs.get).summary

  def test_startup_counts_beyond_the_allowance_only(self):
    summary = self.summary()
    timed = (summary.run_stop_ms - summary.run_start_ms) / 1000
    startup = summary.startup_ms / 1000
    self.assertAlmostEqual(scoring.time_to_quality(summary, 1800), timed)
    self.assertAlmostEqual(
      scoring.time_to_quality(summary, 20), timed + startup - 20
    )

  def test_what_came_between_startup_and_clock_is_startup(self):
    def late(events):
      start = events.index(audit_logs.find(events, 'run_start'))
      for event in events[start:]:
        event.time_ms += 50_000

    more = self.summary(late).startup_ms - self.summary().startup_ms
    self.assertEqual(more, 50_000)

  def test_a_run_that_did_not_converge_has_no_time(self):
    def miss(events):
      audit_logs.find(events, 'eval_accuracy', 2).value = 0.9

    def abort(events):
      audit_logs.find(events, 'run_stop').metadata['status'] = 'aborted'

    for change in (miss, abort):
      summary = self.summary(change)
      self.assertIsNone(scoring.time_to_quality(summary, 1800))


if __name__ == '__main__':
  absltest.main()
