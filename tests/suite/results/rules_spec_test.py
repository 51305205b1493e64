"""Numbers that the rules of the whole suite fix, each stated once.

Those that follow the round are in tests/suite/rounds_test.py.

From mlcommons/training_policies, training_rules.adoc, and where text and tools
differ from mlcommons/logging: compliance_checker, rcp_checker, package_checker.
"""

from absl.testing import absltest, parameterized

from suite.results import convergence, scoring
from suite.results.audit import system
from suite.results.convergence import store

# Benchmark -> runs of a result.
RUNS = {
  'resnet': 5, 'ssd': 5, 'retinanet': 5, 'maskrcnn': 5, 'unet3d': 40,
  'gnmt': 10, 'transformer': 10, 'bert': 10, 'rnnt': 10, 'minigo': 10,
  'dlrm': 5, 'dlrm_dcnv2': 10, 'llama31_8b': 10, 'gpt_oss_20b': 10,
  'llama2_70b_lora': 10, 'stable_diffusion': 10, 'flux1': 10, 'gnn': 10,
  'rgat': 10, 'gpt3': 3, 'llama31_405b': 3, 'deepseekv3_671b': 3,
  'qwen35_397b_grpo': 3, 'deepcam': 5, 'cosmoflow': 10, 'oc20': 5,
  'openfold': 10,
}  # fmt: skip
# Ruleset, benchmark, batch size -> mean and least mean of the reference, of
# different numbers of runs: from 10 to 100.
POINTS = (
  ('4.0.0', 'resnet', 1632, 35.00, 33.80),
  ('4.0.0', 'resnet', 3264, 35.15, 34.31),
  ('4.0.0', 'resnet', 4096, 39.88, 38.63),
  ('4.0.0', 'resnet', 32768, 56.00, 55.44),
  ('4.0.0', 'resnet', 49152, 68.00, 67.22),
  ('4.0.0', 'resnet', 67840, 85.85, 85.18),
  ('1.0.0', 'unet3d', 80, 1603.8, 1506.0),
  ('3.0.0', 'unet3d', 84, 2302.4, 2168.3),
)


class RunsTest(parameterized.TestCase):
  def test_runs_of_a_result(self):
    self.assertEqual({name: store.official_runs(name) for name in RUNS}, RUNS)

  def test_the_fastest_and_the_slowest_are_left_out(self):
    dropped = {name: store.official_dropped(name) for name in RUNS}
    self.assertEqual(dropped.pop('unet3d'), 4)
    self.assertEqual({*dropped.values()}, {1})
    score = scoring.olympic([3.0, 1.0, 9.0, 4.0, 5.0])
    self.assertEqual(score.seconds, 4.0)

  def test_one_run_may_miss_the_target_and_is_the_slowest(self):
    self.assertEqual(scoring.olympic([3.0, 1.0, None, 4.0, 5.0]).seconds, 4.0)
    self.assertIsNone(scoring.olympic([3.0, 1.0, None, None, 5.0]).seconds)

  def test_of_ncf_the_first_fifty_runs_that_converge_count(self):
    found = scoring.convention('ncf')
    self.assertEqual((found.runs, found.only_converged), (50, True))

  def test_of_more_runs_the_window_with_the_median_score_counts(self):
    found = scoring.median_window([1.0, 2.0, 9.0, 7.0, 5.0], runs=3)
    self.assertEqual(found.scores, (2.0, 7.0, 7.0))
    self.assertEqual(found.score.seconds, 7.0)
    found = scoring.median_window([1.0, 2.0, 9.0, 7.0, None, None], runs=3)
    self.assertEqual(found.scores, (2.0, 7.0, 9.0, None))


class PointsTest(parameterized.TestCase):
  def test_one_honest_set_in_twenty_is_rejected(self):
    self.assertEqual(convergence.ALPHA, 0.05)

  @parameterized.parameters(*POINTS)
  def test_least_means(self, ruleset, benchmark, batch, mean, least):
    points = convergence.find(benchmark, ruleset)
    (found,) = [e for e in points.expected if e.batch_size == batch]
    digits = 2 if mean < 100 else 1
    self.assertEqual(round(found.mean, digits), mean)
    self.assertEqual(round(found.minimum, digits), least)

  def test_pruning_keeps_the_lower_line(self):
    points = convergence.find('resnet', '4.0.0')
    kept = [each.batch_size for each in points.pruned]
    self.assertEqual(kept, [1632, 3264, 32768, 49152, 67840])

  def test_between_two_points_runs_count_twice(self):
    points = convergence.find('resnet', '4.0.0')
    low, high = points.at(3264), points.at(32768)
    found = points.at(8192)
    share = (8192 - 3264) / (32768 - 3264)
    self.assertAlmostEqual(
      found.mean, low.mean + share * (high.mean - low.mean), places=6
    )
    std = low.std + share * (high.std - low.std)
    # 1.7959 is what a t-distribution of 2 * 5 + 3 - 2 degrees exceeds in 5 %.
    least = found.mean - 1.7959 * std * (1 / 10 + 1 / 3) ** 0.5
    self.assertAlmostEqual(found.minimum, least, places=3)

  def test_one_benchmark_has_slack(self):
    points = convergence.find('llama31_405b', '5.0.0')
    self.assertEqual(points.slack, 46_080)


class SystemTest(absltest.TestCase):
  def test_a_description_has_33_fields_and_one_of_four_statuses(self):
    self.assertLen(set(system.FIELDS), 33)
    self.assertEqual(
      system.STATUSES,
      {
        'onprem': 'Available on-premise',
        'cloud': 'Available cloud',
        'research': 'Research, Development, or Internal (RDI)',
        'preview': 'Preview',
      },
    )


if __name__ == '__main__':
  absltest.main()
