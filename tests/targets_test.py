"""The targets of `tiny` rest on the curves that are kept beside the docs."""

import pathlib

from absl.testing import absltest, parameterized

from studies import curve_table
from suite import benchmark

_FOLDER = pathlib.Path(__file__).parent.parent / 'suite' / 'benchmarks'


def _rows(name):
  (target,) = benchmark.get(name).size('tiny').target.at_least.values()
  return curve_table.rows(str(_FOLDER / name / 'curves.csv'), target)


class TargetsTest(parameterized.TestCase):
  @parameterized.parameters(*[[name] for name in benchmark.names()])
  def test_nearly_every_seed_of_the_reference_reaches_the_target(self, name):
    reference = next(r for r in _rows(name) if r.variant == 'reference')
    self.assertGreaterEqual(reference.seeds, 20)
    self.assertGreaterEqual(len(reference.epochs), 0.95 * reference.seeds)

  @parameterized.parameters(*[[name] for name in benchmark.names()])
  def test_a_broken_model_misses_it_or_needs_much_longer(self, name):
    reference, *broken = _rows(name)
    self.assertGreaterEqual(len(broken), 4)
    for row in broken:
      with self.subTest(row.variant):
        self.assertGreaterEqual(row.seeds, 5)
        epochs = row.median_epochs
        if epochs is not None:
          self.assertGreater(epochs, 1.5 * reference.median_epochs)

  def test_a_seed_that_never_arrives_is_no_fast_one(self):
    path = self.create_tempfile(
      content='variant,seed,epoch,step,seconds,accuracy\n'
      'a,0,1,8,1.0,0.5\na,0,2,16,2.0,0.9\na,1,1,8,1.0,0.2\na,1,2,16,2.0,0.3\n'
      'a,2,0,3,,\n'
    ).full_path
    (row,) = curve_table.rows(path, 0.9)
    self.assertEqual((row.seeds, list(row.epochs)), (3, [2]))
    self.assertIsNone(row.median_epochs)
    self.assertEqual(list(row.best), [0.0, 0.3, 0.9])


if __name__ == '__main__':
  absltest.main()
