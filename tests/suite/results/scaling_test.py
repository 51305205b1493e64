"""Tests of the arithmetic of scaling studies, and of their page."""

import dataclasses
import itertools
import math
import xml.etree.ElementTree as ET

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import benchmark, hparams
from suite.hparams import POSITIVE, Scales, tunable
from suite.results import convergence, published, scaling
from suite.results.report import scaling as page
from suite.results.report import trends
from suite.results.scaling import Point, Run
from tests import ids
from tests.suite.results import sample_results


def _run(number=0, compute=8.0, rest=2.0, samples=1000, met=True):
  parts = {'compute': compute, 'eval': rest / 2, 'input': rest / 2}
  seconds = compute + rest if met else None
  return Run(number, seconds, samples, samples / 100, parts)


def _point(devices=1, batch=10, runs=(), **more):
  return Point(devices, 1, batch, tuple(runs) or (_run(),), **more)


_positive = st.floats(0.1, 1e4)
_some_runs = st.lists(
  st.builds(
    _run, compute=_positive, rest=_positive, samples=st.integers(1, 10**12)
  ),
  min_size=1,
  max_size=7,
)


class ScalingTest(parameterized.TestCase):
  def test_by_hand_twice_the_devices(self):
    one = _point(1, runs=[_run(compute=8.0, rest=2.0, samples=1000)])
    # Twice as fast a device pair, 25 % more samples, half the time not busy.
    two = _point(2, runs=[_run(compute=5.0, rest=5.0, samples=1250)])
    found = scaling.efficiency(two, one)
    self.assertAlmostEqual(found.throughput, (250 / 2) / 125)
    self.assertAlmostEqual(found.epochs, 0.8)
    self.assertAlmostEqual(found.overhead, 0.5 / 0.8)
    self.assertAlmostEqual(found.total, 10 * 1 / (10 * 2))

  @settings(max_examples=200, deadline=None)
  @given(
    here=_some_runs,
    there=_some_runs,
    devices=st.integers(1, 10_000),
    dropped=st.integers(0, 2),
  )
  def test_the_product_of_the_parts_is_the_total(
    self, here, there, devices, dropped
  ):
    drop = dropped if min(len(here), len(there)) > 2 * dropped else 0
    point = _point(devices, runs=here, dropped=drop)
    found = scaling.efficiency(point, _point(3, runs=there, dropped=drop))
    product = found.throughput * found.epochs * found.overhead
    self.assertTrue(math.isclose(found.total, product, rel_tol=1e-9))

  def test_the_reference_is_as_good_as_itself(self):
    found = scaling.efficiency(_point(), _point())
    self.assertEqual(dataclasses.astuple(found), (1, 1, 1, 1))

  def test_a_run_that_missed_the_target_leaves_no_time_but_a_throughput(self):
    point = _point(runs=[_run(0), _run(1, met=False)])
    measured = scaling.measure(point)
    self.assertIsNone(measured.seconds)
    self.assertIsNone(measured.epochs)
    self.assertAlmostEqual(measured.throughput, 125)
    found = scaling.efficiency(point, _point())
    self.assertIsNone(found.total)
    self.assertIsNone(found.epochs)
    self.assertAlmostEqual(found.throughput, 1)

  def test_with_enough_runs_the_extremes_are_left_out_everywhere(self):
    runs = [_run(i, compute=c, samples=100 * int(c))
            for i, c in enumerate((8.0, 1.0, 9.0, 50.0))]  # fmt: skip
    measured = scaling.measure(_point(runs=[*runs, _run(4, met=False)],
                                      dropped=1))  # fmt: skip
    # 1.0 is the fastest; the run without a time the slowest.
    self.assertAlmostEqual(measured.seconds, (10 + 11 + 52) / 3)
    self.assertAlmostEqual(measured.samples, (800 + 900 + 5000) / 3)
    self.assertAlmostEqual(measured.overhead, 6 / 73)

  def test_startup_beyond_the_allowance_is_overhead(self):
    record = sample_results.result(2, epochs=3, time_to_quality=14.0)
    parts = {'compute': 9.0, 'eval': 1.0}
    record['timed'] = {'seconds': 10.0, 'parts': parts}
    record['startup'] = {'seconds': 34.0, 'allowance': 30.0, 'parts': {}}
    run = scaling.run_of(*sample_results.runs_of([record]))
    self.assertEqual(run.whole, run.seconds)
    self.assertEqual(run.parts[scaling.STARTUP], 4.0)
    self.assertEqual(run.reached, 3)
    self.assertAlmostEqual(scaling.measure(_point(runs=[run])).overhead, 5 / 14)

  def test_runs_that_never_computed_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'computed for a while'):
      scaling.measure(_point(runs=[_run(compute=0.0)]))

  def test_points_come_in_order_and_once(self):
    points = [_point(4), _point(1, 20), _point(1, 10)]
    spots = [(p.devices, p.batch) for p in scaling.ordered(points)]
    self.assertEqual(spots, [(1, 10), (1, 20), (4, 10)])
    with self.assertRaisesRegex(ValueError, 'two of 4 devices in 1 process'):
      scaling.ordered([_point(4), _point(4)])


class RecipeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.reference = benchmark.get('resnet').size('tiny').hparams

  @parameterized.parameters(('root', 10.0), ('linear', 20.0), ('same', 5.0))
  def test_rates_follow_the_batch_and_epochs_stay(self, rule, rate):
    found = scaling.recipe(self.reference, 512, scaling.POWERS[rule])
    self.assertEqual(found['global_batch_size'], 512)
    self.assertEqual(found['base_learning_rate'], rate)
    self.assertEqual(found['decay_steps'], 155)  # 620 at a batch of 128
    self.assertNotIn('gradient_accumulation_steps', found)
    self.assertNotIn('end_learning_rate', found)  # Closed fixes it

  def test_the_reference_batch_changes_nothing(self):
    found = scaling.recipe(self.reference, 128, 0.5)
    self.assertEqual(found, {'global_batch_size': 128})

  def test_a_span_of_batch_norm_divides_the_batch(self):
    found = scaling.recipe(self.reference, 72, 0.5)
    self.assertEqual(found['model_bn_span'], 24)

  @ids.each(benchmark.names())
  def test_every_benchmark_has_a_recipe_that_closed_allows(self, name):
    size = benchmark.get(name).size('tiny')
    usual = hparams.batch(size.hparams)
    changes = scaling.recipe(size.hparams, 2 * usual.value, 0.5)
    texts = {name: hparams.as_text(value) for name, value in changes.items()}
    got = hparams.override(size.hparams, texts, hparams.Division.CLOSED)
    self.assertEqual(getattr(got, usual.name), 2 * usual.value)

  def test_values_follow_the_batch_as_declared_whatever_their_keys(self):
    # Keys of the rules for DLRM, BERT and GNMT; the last counts halvings.
    @dataclasses.dataclass(frozen=True)
    class Others:
      batch: int = tunable(64, '', key='global_batch_size')
      rate: float = tunable(1.0, '', key='opt_lr', scales=Scales.RATE)
      start: int = tunable(40, '', key='start_warmup_step', scales=Scales.STEPS)
      interval: int = tunable(
        80, '', key='opt_learning_rate_decay_interval', scales=Scales.STEPS
      )
      halvings: int = tunable(4, '', key='opt_learning_rate_decay_steps')
      parts: int = hparams.accumulation_steps(POSITIVE)

    self.assertEqual(
      scaling.recipe(Others(), 256, 0.5),
      {'batch': 256, 'rate': 2.0, 'start': 10, 'interval': 20},
    )
    ends = [
      convergence.Point(f'p{batch}', batch, (1, 2, 3, 4), {
        'opt_lr': batch / 64, 'start_warmup_step': 2560 // batch,
        'opt_learning_rate_decay_steps': halvings,
        'gradient_accumulation_steps': batch // 64,
      })
      for batch, halvings in ((64, 4), (256, 10))
    ]  # fmt: skip
    points = convergence.Points('others', tuple(ends), runs=4, dropped=1)
    found = convergence.suggest(points, 128, Others()).changes
    self.assertEqual(
      found, {'batch': 128, 'rate': 2.0, 'start': 20, 'halvings': 6, 'parts': 1}
    )

  def test_rates_and_boundaries_of_a_list_follow_the_batch(self):
    reference = benchmark.get('minigo').size('reference').hparams
    found = scaling.recipe(reference, 8192, 1.0)
    self.assertEqual(found['train_batch_size'], 8192)
    self.assertEqual(found['lr_rates'], (0.032, 0.32, 0.032, 0.0032))
    self.assertEqual(found['lr_boundaries'], (64, 5000, 10_000))


class PageTest(parameterized.TestCase):
  def build(self, points, mode, name='resnet'):
    results = [sample_results.result(0, benchmark=name)]
    (record,) = sample_results.runs_of(results)
    return page.build(
      scaling.ordered(points), mode=mode, record=record, command=['make', 'it'],
      notes=['a <note>'],
    )  # fmt: skip

  def test_the_page_says_what_was_found_and_that_it_is_unverified(self):
    points = [_point(1), _point(2, runs=[_run(compute=4.0, rest=1.0)])]
    report = self.build(points, 'strong')
    for words in ('5.0 s', '1.000', 'unverified', 'a &lt;note&gt;',
                  'v2.0, A100', 'make it'):  # fmt: skip
      self.assertIn(words, report.html)
    for name, figure in report.figures.items():
      self.assertEqual(ET.fromstring(str(figure)).get('id'), name)
    self.assertContainsSubset(
      ('throughput', 'epochs', 'seconds', 'efficiency', 'spent'), report.figures
    )

  def test_without_a_time_there_are_no_figures_of_times(self):
    missed = [_run(0, met=False)]
    points = [_point(batch=b, runs=missed) for b in (10, 20)]
    report = self.build(points, 'batch')
    self.assertNotIn('seconds', report.figures)
    self.assertIn('No point has a time to quality', report.html)
    self.assertIn('throughput', report.figures)

  def test_published_epochs_stand_beside_a_study_of_batches(self):
    points = [_point(batch=10), _point(batch=20)]
    self.assertIn('published-epochs', self.build(points, 'batch').figures)
    self.assertNotIn(
      'published-epochs', self.build(points, 'batch', 'ncf').figures
    )

  def test_the_table_for_terminals_has_a_line_for_each_point(self):
    lines = page.lines([_point(1), _point(2)])
    self.assertLen(lines, 3)
    self.assertLen({len(line) for line in lines}, 1)
    self.assertIn('0.500', lines[2])  # of two devices, as fast as one

  def test_labels_at_line_ends_do_not_overlap(self):
    drawn = [trends.Trend(f'line {i}', ((1, 1.0), (2, 1.0))) for i in range(5)]
    figure = trends.trends(
      'x', drawn, width=480, title='t', x_label='x', y_label='y'
    )
    heights = sorted(
      float(text.get('y'))
      for text in ET.fromstring(str(figure)).iter('text')
      if (text.text or '').startswith('line')
    )
    gaps = [b - a for a, b in itertools.pairwise(heights)]
    self.assertGreaterEqual(min(gaps), 12.5)


class PublishedCurvesTest(parameterized.TestCase):
  @parameterized.parameters('resnet', 'bert', 'maskrcnn', 'rnnt', 'ssd')
  def test_more_accelerators_never_gain_efficiency(self, name):
    for curve in published.curves(name, published.EFFICIENCY):
      xs, ys = zip(*curve.points, strict=True)
      self.assertEqual(list(xs), sorted(set(xs)))
      self.assertEqual(ys[0], 1)
      self.assertEqual(list(ys), sorted(ys, reverse=True))

  def test_the_largest_batch_of_resnet_takes_2_45_times_the_epochs(self):
    (curve,) = published.curves('resnet', published.EPOCHS)
    self.assertAlmostEqual(curve.relative[-1][1], 85.8 / 35)
    self.assertEqual(curve.relative[0], (1, 1))


if __name__ == '__main__':
  absltest.main()
