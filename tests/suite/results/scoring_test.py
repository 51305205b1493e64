"""Scores worked out by hand, and beside an independent implementation."""

import dataclasses
import itertools
import math
import statistics

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mstats

from suite.results import audit, old_logs, scoring
from suite.results.audit import timing
from suite.results.records import Value
from tests.suite.results.audit import audit_logs

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
    self.assertAlmostEqual(score.spread.mean, 1950.0)
    # Deviations -150, -210, -90, 450; squares add up to 277200.
    self.assertAlmostEqual(score.spread.std, math.sqrt(277200 / 3))
    self.assertAlmostEqual(score.spread.relative, math.sqrt(277200 / 3) / 1950)

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

  @settings(deadline=None)
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

  @settings(deadline=None)
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


class NormalisationTest(parameterized.TestCase):
  def test_score_and_intervals_are_multiplied_and_values_are_not(self):
    plain = scoring.olympic(_RUNS)
    more = scoring.olympic(_RUNS, factor=1.25)
    self.assertAlmostEqual(more.seconds, 1.25 * plain.seconds)
    for name in ('interval', 'bootstrap'):
      for ours, bound in zip(
        getattr(more, name), getattr(plain, name), strict=True
      ):
        self.assertAlmostEqual(ours, 1.25 * bound)
    self.assertEqual(more.values, plain.values)
    self.assertEqual(more.spread, plain.spread)

  @parameterized.parameters(0.99, 0.0, -1.0, math.nan, math.inf)
  def test_a_factor_that_would_make_times_shorter_is_refused(self, factor):
    with self.assertRaisesRegex(ValueError, 'at least 1'):
      scoring.olympic(_RUNS, factor=factor)


class BootstrapTest(absltest.TestCase):
  def test_the_same_runs_always_have_the_same_interval(self):
    self.assertEqual(
      scoring.olympic(_RUNS).bootstrap, scoring.olympic(_RUNS).bootstrap
    )

  def test_it_stays_within_what_was_measured(self):
    low, high = scoring.olympic(_RUNS).bootstrap
    self.assertBetween(low, 1740, 1860)
    self.assertBetween(high, 1860, 2400)

  def test_it_agrees_with_counting_every_set_that_can_be_drawn(self):
    runs = (1.0, 2.0, 4.0, 8.0)
    means = sorted(
      sum(sorted(drawn)[1:3]) / 2 for drawn in itertools.product(runs, repeat=4)
    )
    low, high = scoring.olympic(runs).bootstrap
    # The tails of 2.5 % lie among 256 equally likely sets.
    self.assertEqual((low, high), (means[6], means[249]))

  def test_runs_alike_leave_no_room(self):
    self.assertEqual(scoring.olympic([7.0] * 5).bootstrap, (7.0, 7.0))

  def test_a_failed_run_may_leave_many_sets_without_a_score(self):
    _, high = scoring.olympic((10.0, 11.0, 12.0, 13.0, None)).bootstrap
    self.assertEqual(high, math.inf)


class WindowTest(parameterized.TestCase):
  """More runs than a result takes, by hand: three of five or six, the middle
  of each window being its score."""

  def window(self, *seconds):
    return scoring.median_window(seconds, runs=3)

  def test_the_median_window_counts(self):
    found = self.window(5.0, 1.0, 2.0, 9.0, 3.0)  # windows 2, 2, 3
    self.assertEqual(found.scores, (2.0, 2.0, 3.0))
    self.assertEqual((found.start, found.score.seconds), (1, 2.0))
    self.assertEqual(list(found.runs), [1, 2, 3])

  def test_of_two_windows_in_the_middle_the_slower_one_counts(self):
    found = self.window(1.0, 2.0, 3.0, 4.0)  # windows 2, 3
    self.assertEqual((found.start, found.score.seconds), (1, 3.0))

  def test_as_many_runs_as_needed_are_the_only_window(self):
    found = self.window(1.0, 2.0, 3.0)
    self.assertEqual((found.start, found.scores), (0, (2.0,)))

  def test_a_window_that_failed_is_the_slowest(self):
    # Windows: 2, none, none (two failures each), 9.
    found = self.window(1.0, 2.0, None, None, 9.0, 8.0)
    self.assertEqual(found.scores, (2.0, None, None, 9.0))
    self.assertIsNone(found.score.seconds)
    self.assertIn('did not converge', found.score.reason)

  def test_good_runs_before_and_after_do_not_help_the_best_window(self):
    scores = [self.window(*runs).score.seconds for runs in (
      (5.0, 5.0, 5.0), (5.0, 5.0, 5.0, 1.0, 1.0, 1.0))]  # fmt: skip
    self.assertEqual(scores, [5.0, 5.0])

  @parameterized.parameters(1, 2)
  def test_fewer_runs_than_a_window_are_refused(self, count):
    with self.assertRaisesRegex(ValueError, 'at least 3 runs'):
      scoring.median_window([1.0] * count, runs=3)

  @settings(deadline=None)
  @given(st.lists(st.floats(1, 1e5) | st.none(), min_size=5, max_size=12))
  def test_half_the_windows_are_no_slower_and_half_no_faster(self, runs):
    found = scoring.median_window(runs, runs=5)
    rank = [math.inf if s is None else s for s in found.scores]
    ours = rank[found.start]
    self.assertGreaterEqual(2 * sum(s <= ours for s in rank), len(rank))
    self.assertGreaterEqual(2 * sum(s >= ours for s in rank), len(rank))


class SplitTest(absltest.TestCase):
  def test_time_is_pace_times_epochs(self):
    found = scoring.split([20.0, 33.0], [2.0, 3.0], 'epoch_num')
    self.assertAlmostEqual(found.system.mean, 10.5)
    self.assertAlmostEqual(found.system.relative, math.sqrt(0.5) / 10.5)
    self.assertEqual((found.algorithm.least, found.algorithm.most), (2, 3))

  def test_all_of_the_spread_is_the_algorithms_where_the_pace_is_steady(self):
    found = scoring.split([20.0, 30.0, 50.0], [2.0, 3.0, 5.0], 'epoch_num')
    self.assertAlmostEqual(found.algorithm_share, 1.0)
    self.assertAlmostEqual(found.system.std, 0.0)

  def test_none_of_it_is_where_all_runs_take_as_many_epochs(self):
    found = scoring.split([20.0, 30.0, 50.0], [2.0, 2.0, 2.0], 'epoch_num')
    self.assertEqual(found.algorithm_share, 0.0)
    self.assertEqual(found.algorithm.std, 0.0)

  def test_runs_alike_have_no_spread_to_share(self):
    found = scoring.split([20.0, 20.0], [2.0, 2.0], 'epoch_num')
    self.assertIsNone(found.algorithm_share)

  def test_one_run_has_a_pace_and_no_spread(self):
    found = scoring.split([20.0], [2.0], 'epoch_num')
    self.assertEqual(found.system.mean, 10.0)
    self.assertIsNone(found.system.relative)

  def test_there_is_nothing_to_split_without_runs_or_epochs(self):
    self.assertIsNone(scoring.split([], [], 'epoch_num'))
    self.assertIsNone(scoring.split([20.0], [0.0], 'epoch_num'))


def _model(number, start, minutes, *, seed=None, met=True) -> scoring.Run:
  """A model of the weak-scaling tests, from `start` minutes on."""
  value = Value(
    run=number,
    seed=number if seed is None else seed,
    status='success' if met else 'aborted',
    seconds=60.0 * minutes if met else None,
    reached=None,
    unit=None,
    quality={},
    batch_size=None,
    dropped=None,
  )
  ends = (60_000.0 * start, 60_000.0 * (start + minutes))
  return scoring.Run('cosmoflow', 'closed', *ends, value)


class WeakScalingTest(absltest.TestCase):
  def throughput(self, *runs, total=8, each=2, required=2):
    return scoring.throughput(runs, total=total, each=each, required=required)

  def test_time_is_from_the_first_start_to_the_last_stop(self):
    found = self.throughput(_model(0, 0, 10), _model(1, 2, 10), _model(2, 1, 4))
    self.assertEqual(found.seconds, 12 * 60)
    self.assertEqual(found.models, 3)
    self.assertAlmostEqual(found.per_minute, 3 / 12)
    self.assertIsNone(found.reason)

  def test_a_model_that_missed_the_target_neither_counts_nor_lasts(self):
    found = self.throughput(
      _model(0, 0, 10), _model(1, 0, 11), _model(2, 0, 99, met=False)
    )
    self.assertEqual((found.models, found.seconds), (2, 11 * 60))
    self.assertEqual(found.pruned, ((2, 'did not meet the target'),))

  def test_of_models_with_one_seed_the_first_launched_counts(self):
    found = self.throughput(
      _model(0, 3, 10, seed=7), _model(1, 0, 10, seed=7), _model(2, 0, 10)
    )
    self.assertEqual(found.counted, (1, 2))
    self.assertEqual(found.pruned, ((0, 'has the seed of run 1'),))

  def test_seeds_that_no_log_tells_do_not_make_models_alike(self):
    runs = [_model(i, 0, 5) for i in range(3)]
    unsaid = [dataclasses.replace(run.value, seed=None) for run in runs]
    runs = [dataclasses.replace(runs[0], value=value) for value in unsaid]
    self.assertEqual(self.throughput(*runs).models, 3)

  def test_too_few_models_are_no_throughput(self):
    found = self.throughput(_model(0, 0, 10), required=2)
    self.assertIsNone(found.seconds)
    self.assertIsNone(found.per_minute)
    self.assertIn('takes 2 models', found.reason)

  def test_more_at_once_than_there_is_room_for_is_refused(self):
    side_by_side = [_model(i, 0, 10) for i in range(3)]
    with self.assertRaisesRegex(ValueError, 'at most 2 models .* got 3'):
      self.throughput(*side_by_side, total=4)
    in_turn = [_model(i, 10 * i, 10) for i in range(3)]
    self.assertEqual(self.throughput(*in_turn, total=2).models, 3)

  def test_models_larger_than_the_system_are_refused(self):
    with self.assertRaisesRegex(ValueError, '1 to 8 accelerators'):
      self.throughput(_model(0, 0, 1), each=9)


class ConventionTest(parameterized.TestCase):
  @parameterized.parameters(
    ('resnet', 5, 1), ('bert', 10, 1), ('unet3d', 40, 4), ('gpt3', 3, 1)
  )
  def test_official_benchmarks_have_runs_and_drops(self, name, runs, dropped):
    self.assertEqual(
      scoring.convention(name), scoring.Convention(runs, dropped)
    )

  def test_the_first_fifty_that_converge_count_of_one(self):
    self.assertEqual(
      scoring.convention('ncf'), scoring.Convention(50, 1, only_converged=True)
    )

  @parameterized.parameters('mine', None)
  def test_of_others_nobody_knows(self, name):
    self.assertEqual(scoring.convention(name), scoring.Convention(None, 1))


class OldRoundTest(parameterized.TestCase):
  """Logs of v0.5 and v0.6, which count in seconds."""

  def read(self, *lines):
    path = audit_logs.directory(self) / 'result_3.txt'
    path.write_text('\n'.join(lines) + '\n')
    self.assertIsNotNone(old_logs.round_of(path))
    return scoring.from_old(3, old_logs.read(path))

  def v5(self, *lines):
    return self.read(*(f':::MLPv0.5.0 resnet {line}' for line in lines))

  def test_a_log_of_v06(self):
    run = self.read(
      '0: :::MLL 0.0 submission_benchmark: {"value": "mask", "metadata": {}}',
      ':::MLL 1560000000.5 run_start: {"value": null, "metadata": {}}',
      ':::MLL 1560000001.5 run_start: {"value": null, "metadata": {}}',
      'any text',
      ':::MLL 1560000050.0 eval_accuracy: {"value": {"accuracy": {"BBOX": 0.3,'
      ' "SEGM": 0.2}}, "metadata": {"epoch_num": 13}}',
      ':::MLL 1560000061.75 run_stop: '
      '{"value": null, "metadata": {"status": "success"}}',
      ':::MLL 1560000099.0 run_st',
    )
    self.assertEqual((run.benchmark, run.value.run), ('maskrcnn', 3))
    self.assertEqual((run.value.seconds, run.value.reached), (61.25, 13))
    self.assertEqual(run.value.quality, {'BBOX': 0.3, 'SEGM': 0.2})
    self.assertEqual(run.start_ms, 1_560_000_000_500)

  @parameterized.parameters(
    ('{"success": true}', 100.0), ('{"success": "true"}', 100.0),
    ('{"success": false}', None),
  )  # fmt: skip
  def test_a_log_of_v05(self, ending, seconds):
    run = self.v5(
      '1541660000.25 (a.py:1) run_start',
      '1541660090 (a.py:2) eval_accuracy: {"epoch": 61, "value": 0.75}',
      f'1541660100.25 (a.py:3) run_stop: {ending}',
    )
    self.assertEqual((run.value.seconds, run.value.reached), (seconds, 61))
    self.assertEqual(run.benchmark, 'resnet')

  @parameterized.parameters((0.75, 100.0), (0.74, None))
  def test_without_a_status_the_logs_own_target_decides(self, reached, seconds):
    run = self.v5(
      '1541660000 (a.py:1) run_start',
      '1541660001 (a.py:1) eval_target: 0.749',
      f'1541660090 (a.py:2) eval_accuracy: {{"epoch": 61, "value": {reached}}}',
      '1541660100 (a.py:3) run_stop',
    )
    self.assertEqual(run.value.seconds, seconds)

  @parameterized.parameters(
    ([],), (['1541660000 (a.py:1) run_start'],),
    (['1541660000 (a.py:3) run_stop: {"success": true}'],),
    (['1541660009 (a.py:1) run_start',
      '1541660000 (a.py:3) run_stop: {"success": true}'],),
  )  # fmt: skip
  def test_a_log_without_both_ends_in_order_has_no_time(self, lines):
    self.assertIsNone(
      self.v5('1541660000 (a.py:1) other', *lines).value.seconds
    )

  def test_a_log_of_today_is_none_of_these(self):
    path = audit_logs.directory(self) / 'result_0.txt'
    audit_logs.write(path, audit_logs.good())
    self.assertIsNone(old_logs.round_of(path))
    with self.assertRaisesRegex(ValueError, 'v0.5 or v0.6'):
      old_logs.read(path)


class TimeToQualityTest(absltest.TestCase):
  """A run's time, from its log."""

  def audited(self, change=lambda events: None):
    events = audit_logs.good()
    change(events)
    path = audit_logs.directory(self) / 'result_0.txt'
    audit_logs.write(path, events)
    return audit.examine_log(path, get=audit_logs.get)

  def test_startup_counts_beyond_the_allowance_only(self):
    found = self.audited()
    start, stop = (found.log.first(key) for key in ('run_start', 'run_stop'))
    timed = (stop.time_ms - start.time_ms) / 1000
    startup = timing.startup_ms(found.log) / 1000
    self.assertAlmostEqual(timed, 11 * 60, delta=1)
    self.assertAlmostEqual(scoring.time_to_quality(found, 1800), timed)
    self.assertAlmostEqual(
      scoring.time_to_quality(found, 20), timed + startup - 20
    )

  def test_what_came_between_startup_and_clock_is_startup(self):
    def late(events):
      start = events.index(audit_logs.find(events, 'run_start'))
      for event in events[start:]:
        event.time_ms += 50_000

    later, usual = (
      timing.startup_ms(self.audited(*change).log) for change in ((late,), ())
    )
    self.assertEqual(later - usual, 50_000)

  def test_a_run_that_did_not_converge_has_no_time(self):
    def miss(events):
      audit_logs.find(events, 'eval_accuracy', 2).value = 0.9

    def abort(events):
      audit_logs.find(events, 'run_stop').metadata['status'] = 'aborted'

    for change in (miss, abort):
      found = self.audited(change)
      self.assertIsNone(scoring.time_to_quality(found, 1800))


if __name__ == '__main__':
  absltest.main()
