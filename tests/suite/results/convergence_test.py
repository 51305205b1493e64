"""Convergence points, beside the official checker on every point it has."""

import itertools
import json
import math
import os
import pathlib
import random
from unittest import mock

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from mlperf_logging.rcp_checker import rcp_checker
import numpy as np

from suite import benchmark as benchmark_lib
from suite import hparams
from suite.results import audit, convergence
from suite.results.audit import reached
from suite.results.audit.compared import Compared
from suite.results.convergence import Point, Points, curves, store
from tests import ids
from tests.suite.results.audit import audit_logs

_ROOT = pathlib.Path(__file__).parents[3]
_BENCHMARKS = _ROOT / 'suite' / 'benchmarks'
_OFFICIAL = pathlib.Path(rcp_checker.__file__).parent
_SUBMISSIONS = 40  # per file of points
_STATUS = {
  'RCP found': convergence.TOO_FAST,
  'RCP Interpolation': convergence.TOO_FAST,
  'Missing': convergence.MISSING,
  'Insufficient convergence': convergence.NOT_CONVERGED,
}

_GOOD = {
  'Benchmark': 'resnet',
  'BS': 8,
  'Hyperparams': {},
  'Epochs to converge': [3, 4, 5],
}
_SPREAD = (-2, -1, -1, 0, 0, 0, 0, 1, 1, 2)


def _files():
  """Every file of points in the official package, a name for tests first."""
  for path in sorted(_OFFICIAL.glob('*/rcps_*.json')):
    usage, ruleset = path.parent.name.split('_')
    benchmark = path.stem.removeprefix('rcps_')
    name = f'{benchmark}_{usage}_{ruleset.replace(".", "_")}'
    yield name, usage, ruleset, benchmark


def _ours(usage, ruleset, benchmark):
  prefix = 'hpc_' if usage == 'hpc' else ''
  return convergence.find(benchmark, prefix + ruleset)


def _official(usage, ruleset, benchmark):
  """The official checker; None where it has points but crashes on them."""
  if benchmark not in rcp_checker.submission_runs[usage]:
    return None
  return rcp_checker.RCP_Checker(usage, ruleset, benchmark, False)


def _check(checker, batch_size, values):
  """The official verdict on values that it is handed as if read from logs."""
  failed = sum(value is None for value in values)
  allowed = 4 if checker.benchmark == 'unet3d' else 1
  read = [1e9 if value is None else value for value in values]
  read = (batch_size, None if failed > allowed else read, checker.benchmark)
  with (
    mock.patch.object(rcp_checker, 'get_submission_epochs', lambda *_: read),
    mock.patch.object(rcp_checker, 'RCP_Checker', lambda *_: checker),
  ):
    return rcp_checker.check_directory(
      'none', checker.usage, checker.ruleset, False, False,
      rcp_pass='pruned_rcps',
    )  # fmt: skip


def _batch_sizes(points, rng):
  """Batch sizes at, between, below and above the points."""
  sizes = [point.batch_size for point in points.points]
  yield from sizes
  yield from (max(1, sizes[0] // 2), 1, sizes[-1] + 1, 2 * sizes[-1])
  while True:
    yield rng.randint(max(1, sizes[0] // 2), sizes[-1])


def _submission(points, expected, rng):
  """Runs whose mean lies around what the points ask for."""
  if expected is None:
    return [rng.uniform(1, 9) for _ in range(points.runs)]
  around = rng.choice([expected.minimum, expected.mean])
  spread = rng.choice([0.0, 1e-4, expected.std / 3, expected.std])
  center = max(around + rng.gauss(0, 1) * spread, 1e-3)
  values = [
    max(center + rng.gauss(0, 1) * expected.std, 1e-3)
    for _ in range(points.runs + rng.choice([0, 0, 0, 1, 4]))
  ]
  if rng.random() < 0.5 and expected.mean > 5:
    values = [max(1, round(value)) for value in values]
  if rng.random() < 0.3:
    values = [around] * len(values)
  failed = rng.choice([0, 0, 0, 1, points.dropped, points.dropped + 1])
  if expected.mean > 1e8:
    failed *= points.dropped + 1  # see the test of a failed run
  for place in rng.sample(range(len(values)), min(failed, len(values))):
    values[place] = None
  return values


class OfficialTest(parameterized.TestCase):
  """The same points and verdicts as the official checker's."""

  @parameterized.named_parameters(*_files())
  def test_points_and_limits_are_the_official_ones(self, *named):
    checker = _official(*named)
    if checker is None:
      self.assertEqual(named[2], 'dlrm', 'the one known to crash it')
      return
    points = _ours(*named)
    self.assertEqual(points.runs, checker.submission_runs)
    records = checker.rcp_data.values()
    for expected, record in zip(points.expected, records, strict=True):
      self.assertEqual(expected.mean, record['RCP Mean'])
      self.assertEqual(expected.std, record['RCP Stdev'])
      if not points.slack:
        self.assertEqual(
          expected.minimum, record['RCP Mean'] / record['Max Speedup']
        )
        self.assertAlmostEqual(expected.max_speedup, record['Max Speedup'])
    self.assertEqual(
      [expected.batch_size for expected in points.pruned],
      [record['BS'] for record in checker.pruned_rcp_data.values()],
    )

  @parameterized.named_parameters(*_files())
  def test_verdicts_and_factors_are_the_official_ones(self, *named):
    checker = _official(*named)
    if checker is None:
      return
    points, rng = _ours(*named), random.Random(str(named))
    sizes = itertools.islice(_batch_sizes(points, rng), _SUBMISSIONS)
    for batch_size in sizes:
      values = _submission(points, points.at(batch_size), rng)
      passed, message, factor = _check(checker, batch_size, values)
      verdict = points.judge(batch_size, values)
      self.assertEqual(verdict.passed, passed, (batch_size, values))
      self.assertEqual(verdict.factor, factor, (batch_size, values))
      if not passed:
        status = next(s for m, s in _STATUS.items() if message.startswith(m))
        self.assertEqual(verdict.status, status)

  def test_the_random_submissions_meet_every_verdict(self):
    found = {}
    for _, *named in _files():
      points, rng = _ours(*named), random.Random(str(tuple(named)))
      for size in itertools.islice(_batch_sizes(points, rng), _SUBMISSIONS):
        values = _submission(points, points.at(size), rng)
        verdict = points.judge(size, values)
        kind = (verdict.status, verdict.factor > 1)
        found[kind] = found.get(kind, 0) + 1
    for kind in (
      (convergence.PASSES, False),
      (convergence.PASSES, True),
      (convergence.TOO_FAST, True),
      (convergence.MISSING, False),
      (convergence.MISSING, True),
      (convergence.NOT_CONVERGED, False),
    ):
      self.assertGreater(found.get(kind, 0), 50, found)

  def test_a_failed_run_is_the_slowest_however_many_samples_others_take(self):
    named = ('training', '4.0.0', 'gpt3')
    points, checker = _ours(*named), _official(*named)
    mean = points.at(1536).mean
    self.assertGreater(mean, 1e9)  # what a failed run counts as officially
    values = [0.9 * mean, 1.1 * mean, None]
    self.assertGreater(points.judge(1536, values).mean, mean)
    passed, _, _ = _check(checker, 1536, values)
    self.assertNotEqual(passed, points.judge(1536, values).passed)

  def test_a_benchmark_that_crashes_the_official_checker_is_judged(self):
    with self.assertRaises(KeyError):
      rcp_checker.RCP_Checker('training', '2.1.0', 'dlrm', False)
    points = convergence.find('dlrm', '2.1.0')
    self.assertEqual(points.runs, 5)
    slow = [points.at(32768).mean + 0.01] * 5
    self.assertEqual(points.judge(32768, slow).status, convergence.PASSES)

  @parameterized.named_parameters(*_files())
  def test_what_is_written_is_read_as_it_was(self, *named):
    points = _ours(*named)
    path = self.create_tempfile().full_path
    store.save(path, points)
    again = store.load(path)
    self.assertEqual(again.points, points.points)
    self.assertEqual(again.pruned, points.pruned)
    if _official(*named):
      usage, ruleset, benchmark = named
      with open(path, encoding='utf-8') as file:
        checker = rcp_checker.RCP_Checker(
          usage, ruleset, benchmark, False, rcp_file=file
        )
      found = [record['RCP Mean'] for record in checker.rcp_data.values()]
      self.assertEqual(found, [each.mean for each in points.expected])


class LogsTest(parameterized.TestCase):
  """Values read from logs, beside the official reading of the same files."""

  def setUp(self):
    super().setUp()
    self.directory = audit_logs.directory(self)

  def judge(self, points=None):
    checked = audit.examine_set(self.directory, get=audit_logs.get)
    return reached.judge(
      checked.runs, points or convergence.find('resnet', '4.0.0')
    )

  def compared(self):
    return audit.examine_set(self.directory, get=audit_logs.get).compared

  def write(self, last_evals, *, failed=(), batch_size=4096):
    """Logs of official size whose evals come after 3, 7, 11 ... epochs."""
    for run, evals in enumerate(last_evals):
      events = audit_logs.good(
        run=run,
        size='reference',
        hparams=audit_logs.Hparams(global_batch_size=batch_size),
        qualities=(*[0.5] * (evals - 1), 0.5 if run in failed else 0.76),
        status='aborted' if run in failed else 'success',
      )
      audit_logs.write(self.directory / f'result_{run}.txt', events)

  @parameterized.parameters(
    ((10, 10, 10, 11, 9), 4096, (), convergence.PASSES),
    ((8, 9, 9, 9, 9), 3264, (), convergence.PASSES),
    ((8, 8, 8, 8, 9), 3264, (), convergence.TOO_FAST),
    ((9, 9, 9, 9, 9), 3264, (2,), convergence.PASSES),
    ((9, 9, 9, 9, 9), 3264, (2, 3), convergence.NOT_CONVERGED),
    ((9, 9, 10, 10, 10), 20000, (), convergence.TOO_FAST),
    ((9, 9, 9, 10, 10), 512, (), convergence.PASSES),
    ((7, 7, 7, 8, 8), 512, (), convergence.MISSING),
    ((20, 20, 20, 21, 21), 70000, (), convergence.MISSING),
  )
  def test_logs_are_read_as_the_official_checker_reads_them(
    self, evals, batch_size, failed, status
  ):
    self.write(evals, failed=failed, batch_size=batch_size)
    verdict = self.judge()
    passed, _, factor = rcp_checker.check_directory(
      str(self.directory), 'training', '4.0.0', False, False,
      rcp_pass='pruned_rcps',
    )  # fmt: skip
    self.assertEqual(verdict.status, status, verdict)
    self.assertEqual((verdict.passed, verdict.factor), (passed, factor))

  def test_a_score_is_multiplied_only_where_the_runs_pass(self):
    self.write((8, 9, 9, 9, 9), batch_size=3264)  # epochs 31, 35, 35, 35, 35
    self.assertAlmostEqual(
      self.compared().factor, np.mean([35.1538461538]) / 35
    )
    self.write((8, 8, 8, 8, 8), batch_size=3264)
    self.assertGreater(self.judge().factor, 1)
    self.assertTrue(self.compared().rejected)
    self.assertEqual(self.compared().factor, 1.0)
    self.assertEqual(Compared().factor, 1.0)

  def test_nothing_is_read_from_or_written_to_the_folder(self):
    self.write((8, 9, 9, 9, 9), batch_size=3264)
    scaling = self.directory / 'scaling.json'
    scaling.write_text('{"scaling_factor": 0.1}')
    before = sorted(os.listdir(self.directory))
    self.assertGreater(self.compared().factor, 1)
    self.assertEqual(sorted(os.listdir(self.directory)), before)
    self.assertIn('0.1', scaling.read_text())

  def test_runs_of_several_batch_sizes_are_refused(self):
    self.write((9,) * 5)
    events = audit_logs.good(
      size='reference', hparams=audit_logs.Hparams(global_batch_size=64)
    )
    audit_logs.write(self.directory / 'result_4.txt', events)
    with self.assertRaisesRegex(ValueError, 'one global_batch_size, got 4096'):
      self.judge()

  def test_points_of_another_benchmark_are_refused(self):
    self.write((9,) * 5)
    with self.assertRaisesRegex(ValueError, 'points of resnet, got those of b'):
      self.judge(convergence.find('bert', '4.0.0'))

  @parameterized.parameters(10**400, 0, -8, '4096', True, None)
  def test_a_batch_size_that_is_none_is_refused(self, value):
    events = audit_logs.good(size='reference')
    audit_logs.find(events, 'global_batch_size').value = value
    audit_logs.write(self.directory / 'result_0.txt', events)
    with self.assertRaisesRegex(ValueError, 'Expected global_batch_size'):
      self.judge()

  @parameterized.parameters(True, False)
  def test_a_run_with_an_eval_after_its_end_never_converged(self, ours):
    events = audit_logs.good(ours=ours, size='reference')
    audit_logs.move(events, 'eval_accuracy', None)
    audit_logs.write(self.directory / 'result_0.txt', events)
    checked = audit.examine_set(self.directory, get=audit_logs.get)
    self.assertEqual(reached.of(checked.runs).values, {0: None})

  def test_samples_count_where_the_benchmark_counts_samples(self):
    for run in range(10):
      events = audit_logs.good(run=run, size='reference', ours=False)
      audit_logs.find(events, 'submission_benchmark').value = 'llama31_8b'
      for event in events:
        if event.key == 'eval_accuracy':
          event.value = 3.2
          event.metadata['samples_count'] = (
            16384 * event.metadata['epoch_num'] + run
          )
      audit_logs.write(self.directory / f'result_{run}.txt', events)
    checked = audit.examine_set(self.directory, get=audit_logs.get)
    found = reached.of(checked.runs)
    self.assertEqual(found.values[3], 16384 * 11 + 3)


class PointsTest(parameterized.TestCase):
  """Small points, worked out by hand."""

  def points(self, *means, spread=1.0):
    return store.assemble(
      'resnet',
      [
        Point(f'p{size}', size, tuple(mean + spread * s for s in _SPREAD), {})
        for size, mean in means
      ],
    )

  def test_the_mean_leaves_out_the_extremes_and_the_deviation_does_not(self):
    point = Point('p', 8, (1, 5, 6, 7, 21), {})
    (found,) = store.assemble('resnet', [point]).expected
    self.assertEqual(found.mean, 6)
    self.assertAlmostEqual(found.std, math.sqrt(232 / 5))

  def test_the_least_mean_is_that_of_a_one_sided_t_test(self):
    # 10 runs of the reference, 8 count; 5 of a submission, 3 count. The t of
    # 9 degrees of freedom at 5 % is 1.8331.
    (found,) = self.points((8, 50)).expected
    least = 50 - 1.8331 * found.std * math.sqrt(1 / 8 + 1 / 3)
    self.assertAlmostEqual(found.minimum, least, delta=1e-3)

  def test_a_reference_without_spread_must_be_met(self):
    points = self.points((8, 50), spread=0)
    self.assertEqual(points.judge(8, [50] * 5).factor, 1.0)
    self.assertTrue(points.judge(8, [50] * 5).passed)
    self.assertFalse(points.judge(8, [49.99] * 5).passed)

  def test_points_below_the_fastest_batch_and_above_the_line_go(self):
    points = self.points((8, 60), (16, 40), (32, 70), (64, 60), (128, 90))
    self.assertEqual([e.batch_size for e in points.pruned], [16, 64, 128])
    self.assertEqual(
      [p.batch_size for p in points.points], [8, 16, 32, 64, 128]
    )
    self.assertEqual(points.at(8).batch_size, 16)

  def test_between_points_mean_and_deviation_lie_on_a_line(self):
    points = self.points((100, 40), (200, 80))
    found, low, high = points.at(125), *points.pruned
    self.assertAlmostEqual(found.mean, 50)
    self.assertAlmostEqual(found.std, 0.75 * low.std + 0.25 * high.std)
    self.assertEqual(found.sources, (low.sources[0], high.sources[0]))

  @parameterized.parameters(
    (8, (50, 51, 52), 'Passes: 51 epochs .* batch 8, no fewer than the 50 of'),
    (
      8,
      (49, 49.5, 49),
      r'Passes, to be normalised: .* multiplied by 1\.0204\.',
    ),
    (8, (40, 40, 40), 'Too fast: 40 epochs .* fewer than the 50 .* explains'),
    (12, (90, 90, 90), r'\(interpolated between batches 8 and 16\)'),
    (2, (50, 50, 50), 'at 8, its smallest batch'),
    (2, (30, 30, 30), 'a point for this batch must be provided'),
    (17, (90, 90, 90), 'No reference: batch 17 is above 16'),
    (8, (50, None, None), 'Not converged: 2 of 3 runs'),
    (8, (50, 50), 'Too few runs: nothing is left of 2'),
  )
  def test_a_verdict_is_one_plain_sentence(self, batch_size, values, text):
    points = self.points((8, 50), (16, 90))
    verdict = points.judge(batch_size, values)
    self.assertRegex(str(verdict), text)
    self.assertEndsWith(str(verdict), '.')
    self.assertNotIn('\n', str(verdict))

  @parameterized.parameters(0, -1, float('nan'), float('inf'))
  def test_values_that_are_no_counts_are_refused(self, value):
    with self.assertRaisesRegex(ValueError, 'positive, finite'):
      self.points((8, 50)).judge(8, [50, 50, value])

  def test_judging_leaves_the_values_in_their_order(self):
    values = [52, 50, 51]
    self.points((8, 50)).judge(8, values)
    self.assertEqual(values, [52, 50, 51])


class StoreTest(parameterized.TestCase):
  """Files of points that are none, and names that lead nowhere."""

  def load(self, content, **scored):
    path = self.create_tempfile(content=content).full_path
    return store.load(path, **scored)

  def refused(self, content, words):
    with self.assertRaisesRegex(ValueError, words):
      self.load(content)

  @parameterized.parameters(
    ({'BS': '8'}, "'BS' of p as int, got '8'"),
    ({'BS': True}, "'BS' of p as int"),
    ({'BS': 0}, 'positive batch size of p, got 0'),
    ({'BS': 10**300}, 'positive batch size of p'),
    ({'Benchmark': 'none'}, "result of 'none' is unknown"),
    ({'Epochs to converge': [1, 2]}, 'more than 2 runs of p, got 2'),
    ({'Epochs to converge': []}, 'more than 2 runs of p, got 0'),
    ({'Epochs to converge': [1, 'two', 3]}, "Expected numbers .* got 'two'"),
    ({'Epochs to converge': [1, 2, True]}, 'Expected numbers'),
    ({'Epochs to converge': [1, 2, float('nan')]}, 'expected numbers of JSON'),
    ({'Epochs to converge': [1, 2, 10**400]}, 'Expected numbers'),
    ({'Epochs to converge': [1, 2, -3]}, 'positive, finite values of p'),
    ({'Epochs to converge': None}, 'as list, got None'),
    ({'Hyperparams': []}, "'Hyperparams' of p as dict"),
  )
  def test_a_broken_point_is_refused_in_words(self, change, words):
    self.refused(json.dumps({'p': {**_GOOD, **change}}), words)

  def test_what_is_no_file_of_points_is_refused(self):
    for text, words in (
      ('', 'Cannot read'),
      ('[]', 'object of points'),
      ('{}', 'object of points'),
      ('{"p": 3}', "'Benchmark' of p"),
      ('[' * 100_000, 'lists in lists|Cannot read'),
    ):
      self.refused(text, words)
    with self.assertRaisesRegex(ValueError, 'Cannot read'):
      store.load('none.json')

  def test_two_benchmarks_or_the_same_batch_twice_are_refused(self):
    other = {**_GOOD, 'Benchmark': 'bert', 'BS': 16}
    self.refused(json.dumps({'p': _GOOD, 'q': other}), 'bert, resnet')
    text = json.dumps({'p': _GOOD, 'q': _GOOD})
    self.refused(text, r'each once, got \[8, 8\]')

  @settings(max_examples=50, deadline=None)
  @given(
    st.dictionaries(
      st.sampled_from([*_GOOD, 'samples to converge']),
      st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
          st.lists(inner, max_size=4)
          | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        ),
        max_leaves=6,
      ),
    )
  )
  def test_any_json_is_read_or_refused(self, change):
    path = self.create_tempfile().full_path
    pathlib.Path(path).write_text(json.dumps({'p': {**_GOOD, **change}}))
    try:
      self.assertNotEmpty(store.load(path, runs=5).pruned)
    except ValueError as error:
      self.assertNotEmpty(str(error))

  def test_how_runs_are_scored_can_be_told(self):
    text = json.dumps({'p': {**_GOOD, 'Benchmark': 'ours'}})
    points = self.load(text, runs=7, dropped=1)
    self.assertEqual((points.runs, points.dropped), (7, 1))

  @parameterized.parameters(
    ('resnet', '../4.0.0'),
    ('../resnet', '4.0.0'),
    ('resnet', '4.0.0/../4.0.0'),
    ('resnet', ''),
    ('', '4.0.0'),
    ('resnet', '..'),
    ('resnet', '9.9.9'),
    ('minigo', '2.1.0'),
    ('res\x00net', '4.0.0'),
  )
  def test_names_that_lead_nowhere_are_refused(self, benchmark, ruleset):
    with self.assertRaisesRegex(ValueError, 'no convergence points.* --make'):
      store.find(benchmark, ruleset)


class TinyTest(parameterized.TestCase):
  """The points that ship with the tiny sizes."""

  def points(self, name):
    benchmark = benchmark_lib.get(name)
    return store.find(
      name,
      benchmark.size('tiny').ruleset,
      runs=benchmark.runs,
      dropped=benchmark.dropped,
    )

  @ids.each(benchmark_lib.finished())
  def test_every_tiny_benchmark_ships_points_of_at_least_20_runs(self, name):
    benchmark = benchmark_lib.get(name)
    points = self.points(name)
    for point in points.points:
      self.assertGreaterEqual(len(point.values), max(20, 2 * benchmark.runs))
      self.assertContainsSubset(('Creator', 'When', 'Platform'), point.origin)

  @ids.each(benchmark_lib.finished())
  def test_one_of_them_is_of_the_hyperparameters_that_ship(self, name):
    reference = benchmark_lib.get(name).size('tiny').hparams
    logged = json.loads(json.dumps(hparams.logged(reference)))
    point = next(
      point
      for point in self.points(name).points
      if point.batch_size == hparams.batch(reference).value
    )
    self.assertNotEmpty(point.hparams)
    for key, value in point.hparams.items():
      self.assertEqual(logged[key], value, key)

  def curves(self, variant='reference'):
    target = benchmark_lib.get('resnet').size('tiny').target
    return curves.reached(
      _BENCHMARKS / 'resnet' / 'curves.csv', target, variant=variant
    )

  def test_those_of_resnet_are_those_of_its_curves(self):
    (point,) = self.points('resnet').points
    self.assertEqual(list(point.values), self.curves())

  def test_chance_rejects_the_reference_in_at_most_5_percent(self):
    values, rng = self.curves(), random.Random(0)
    rejected = sum(not self.left_out(values, rng).passed for _ in range(2000))
    self.assertLessEqual(rejected / 2000, convergence.ALPHA)

  def test_30_percent_fewer_epochs_are_found_out(self):
    values, rng = self.curves(), random.Random(0)
    found = sum(
      self.left_out(values, rng, times=0.7).status == convergence.TOO_FAST
      for _ in range(2000)
    )
    self.assertGreater(found / 2000, 0.95)

  def left_out(self, values, rng, times=1.0):
    """A verdict on 5 of the runs, by a point of the others."""
    shuffled = rng.sample(values, len(values))
    points = store.assemble(
      'resnet', [Point('rest', 128, tuple(shuffled[5:]), {})]
    )
    return points.judge(128, [times * value for value in shuffled[:5]])

  @parameterized.parameters(
    'learning rate x10', 'learning rate /10', 'not shuffled',
    'batch norm: moments frozen', 'batch norm: no normalisation',
  )  # fmt: skip
  def test_a_broken_variant_does_not_pass(self, variant):
    values = self.curves(variant)
    self.assertLen(values, 5)
    verdict = self.points('resnet').judge(128, values)
    self.assertEqual(verdict.status, convergence.NOT_CONVERGED)

  @parameterized.parameters(
    ('seed,epoch,accuracy\n0,1,0.9\n', 'got no variant'),
    ('variant,seed,epoch,accuracy\nother,0,1,0.9\n', "variant 'reference'"),
    ('variant,seed,epoch,accuracy\nreference,0,one,0.9\n', 'in line 2 of'),
    ('variant,seed,epoch,accuracy\nreference,0\n', 'in line 2 of'),
  )
  def test_a_table_that_holds_no_curves_is_refused(self, text, words):
    path = self.create_tempfile(content=text).full_path
    target = benchmark_lib.get('resnet').size('tiny').target
    with self.assertRaisesRegex(ValueError, words):
      curves.reached(path, target)


class RecipeTest(parameterized.TestCase):
  """Hyperparameters for a batch, from the published points of resnet."""

  def setUp(self):
    super().setUp()
    self.points = convergence.find('resnet', '4.0.0')
    self.reference = benchmark_lib.get('resnet').size('reference').hparams

  def suggest(self, batch_size):
    return convergence.suggest(self.points, batch_size, self.reference)

  def changed(self, recipe):
    """The reference with a recipe's flags, by the rules of Closed."""
    changes = dict(f.removeprefix('--hp=').split('=', 1) for f in recipe.flags)
    return hparams.override(self.reference, changes, hparams.Division.CLOSED)

  def test_at_a_point_its_own_are_given(self):
    found = self.suggest(32768)
    self.assertEmpty(found.warnings)
    made = self.changed(found)
    self.assertEqual(
      (made.base_learning_rate, made.warmup_epochs, made.weight_decay,
       made.momentum, made.decay_steps, made.model_bn_span),
      (21.2, 16, 2.5e-5, 0.94, 2267, 128),
    )  # fmt: skip

  def test_between_points_rates_and_steps_go_with_a_power_of_the_batch(self):
    middle = round(math.sqrt(4096 * 8192))
    found = self.suggest(middle)
    made = self.changed(found)
    self.assertAlmostEqual(
      made.base_learning_rate, math.sqrt(10 * 17), delta=1e-3
    )
    self.assertAlmostEqual(made.decay_steps, math.sqrt(13137 * 6095), delta=1)
    self.assertEqual(made.weight_decay, 2e-4)
    self.assertIn('Interpolated between batches 4096', found.warnings[0])

  def test_between_points_epochs_lie_on_a_line(self):
    found = self.suggest((13056 + 32768) // 2)
    self.assertEqual(found.changes['warmup_epochs'], round((9 + 16) / 2))

  def test_what_closed_forbids_comes_from_the_nearer_point(self):
    found = self.suggest(40000)  # weight decay 2.5e-5 and 1e-4
    self.assertEqual(found.changes['weight_decay'], 2.5e-5)
    self.assertIn('power of two', found.reasons['weight_decay'])
    found = self.suggest(30000)  # nearer to 32768, whose momentum is 0.94
    self.assertEqual(found.changes['momentum'], 0.9)
    self.assertIn('as in resnet_ref_13056', found.reasons['momentum'])

  def test_every_recipe_is_allowed_in_closed_and_can_be_built(self):
    sizes = np.geomspace(1632, 67840, 60).astype(int)
    for batch_size in (*map(int, sizes), 67840):
      made = self.changed(self.suggest(batch_size))
      self.assertEqual(made.global_batch_size, batch_size)
      self.assertEqual(batch_size % made.model_bn_span, 0)

  def test_the_budget_outlasts_the_reference(self):
    self.assertEqual(self.reference.max_epochs, 50)
    self.assertGreater(self.suggest(65536).changes['max_epochs'], 86)
    self.assertNotIn('max_epochs', self.suggest(1632).changes)

  def test_a_point_that_pruning_drops_is_told(self):
    (warning,) = self.suggest(8192).warnings
    self.assertIn('resnet_ref_8192 is slower', warning)

  def test_values_in_two_units_are_not_mixed(self):
    self.points = convergence.find('resnet', '1.0.0')  # some steps are epochs
    found = self.suggest(65000)
    self.assertIn('in one unit', found.reasons['decay_steps'])

  @parameterized.parameters(1, 1631, 67841, 10**9)
  def test_outside_the_published_range_nothing_is_suggested(self, batch_size):
    with self.assertRaisesRegex(ValueError, 'go from 1632 to 67840'):
      self.suggest(batch_size)

  def test_settings_that_are_none_of_ours_are_told(self):
    points = Points(
      'resnet',
      (Point('p', 8, (1, 2, 3, 4), {'opt_name': 'sgd', 'dropout': 0.1}),),
      runs=5,
      dropped=1,
    )
    found = convergence.suggest(points, 8, self.reference)
    self.assertEqual(found.left_out, {'dropout': 0.1})
    self.assertEqual(found.changes['opt_name'], 'sgd')


if __name__ == '__main__':
  absltest.main()
