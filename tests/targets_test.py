"""The targets of `tiny` rest on the curves in each benchmark's folder."""

import pathlib

from absl.testing import absltest, parameterized

from studies import curve_table
from suite import benchmark
from suite.results.convergence import curves
from suite.target import Target
from tests import ids

_FOLDER = pathlib.Path(__file__).parent.parent / 'suite' / 'benchmarks'


def _rows(name):
  target = benchmark.get(name).size('tiny').target
  return curve_table.rows(str(_FOLDER / name / 'curves.csv'), target)


class TargetsTest(parameterized.TestCase):
  @ids.each(benchmark.finished())
  def test_nearly_every_seed_of_the_reference_reaches_the_target(self, name):
    reference = next(r for r in _rows(name) if r.variant == 'reference')
    self.assertGreaterEqual(reference.seeds, 20)
    self.assertGreaterEqual(
      len(reference.reached), (1 - curves.MOST_MISSED) * reference.seeds
    )

  @ids.each(benchmark.finished())
  def test_a_broken_model_misses_it_or_needs_much_longer(self, name):
    reference, *broken = _rows(name)
    self.assertGreaterEqual(len(broken), 4)
    for row in broken:
      with self.subTest(row.variant):
        self.assertGreaterEqual(row.seeds, 5)
        if row.median is not None:
          self.assertGreater(row.median, 1.5 * reference.median)


class CurveTableTest(absltest.TestCase):
  def rows(self, text, target):
    path = self.create_tempfile(content=text).full_path
    return path, curve_table.rows(path, target)

  def test_a_seed_that_never_arrives_is_no_fast_one(self):
    _, (row,) = self.rows(
      'variant,seed,epoch,step,seconds,accuracy\n'
      'a,0,1,8,1.0,0.5\na,0,2,16,2.0,0.9\na,1,1,8,1.0,0.2\na,1,2,16,2.0,0.3\n'
      'a,2,0,3,,\n',
      Target(at_least={'accuracy': 0.9}),
    )
    self.assertEqual((row.seeds, list(row.reached)), (3, [2]))
    self.assertIsNone(row.median)
    self.assertEqual(row.best['accuracy'][1:], [0.3, 0.9])

  def test_a_perplexity_arrives_from_above_and_by_samples(self):
    target = Target(at_most={'perplexity': 22.0})
    path, (row,) = self.rows(
      'variant,seed,samples,step,seconds,perplexity\n'
      'reference,0,1000,8,1.0,99\nreference,0,2000,16,2.0,21.5\n'
      'reference,1,1000,8,1.0,99\nreference,1,2000,16,2.0,30\n',
      target,
    )
    self.assertEqual(list(row.reached), [2000])
    self.assertEqual(list(row.best['perplexity']), [30, 21.5])
    self.assertEqual(curves.reached(path, target), [2000, None])

  def test_all_metrics_must_arrive_at_the_same_eval(self):
    target = Target(at_least={'box': 0.4}, at_most={'loss': 1.0})
    path, (row,) = self.rows(
      'variant,seed,epoch,step,seconds,box,loss\n'
      'reference,0,1,8,1.0,0.5,2\nreference,0,2,8,1.0,0.3,0.5\n'
      'reference,0,3,8,1.0,0.45,0.7\n',
      target,
    )
    self.assertEqual(list(row.reached), [3])
    self.assertIn('| 1 of 1 | 3, 3, 3 |', curve_table.table([row]))
    with self.assertRaisesRegex(ValueError, 'got no mask'):
      curves.read(path, ['mask'])


if __name__ == '__main__':
  absltest.main()
