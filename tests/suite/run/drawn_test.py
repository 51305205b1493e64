from absl.testing import absltest, parameterized
import numpy as np

from suite.run.drawn import Values

_ROWS = (1000, 20)


class ValuesTest(parameterized.TestCase):
  def test_bounds_of_integers_give_every_whole_number_below_the_higher(self):
    found = Values(3, 6).draw(np.random.default_rng(0), _ROWS, np.uint8)
    self.assertEqual(np.unique(found).tolist(), [3, 4, 5])

  def test_other_bounds_give_fractions(self):
    found = Values(0.0, 2.0).draw(np.random.default_rng(0), _ROWS, np.float32)
    self.assertAlmostEqual(found.mean(), 1.0, delta=0.02)
    self.assertGreater(len(np.unique(found)), found.size / 2)

  def test_columns_have_bounds_of_their_own(self):
    values = Values(0, np.asarray([1, 10, 1000]), skewed=True)
    found = values.draw(np.random.default_rng(0), (5000, 3), np.int32)
    self.assertEqual(found.min(axis=0).tolist(), [0, 0, 0])
    self.assertEqual(found.max(axis=0)[:2].tolist(), [0, 9])
    self.assertBetween(found[:, 2].max(), 900, 999)

  def test_skewed_numbers_come_as_often_as_one_over_their_rank(self):
    found = Values(1, 1025, skewed=True).draw(
      np.random.default_rng(0), (200_000,), np.int32
    )
    counts = np.bincount(found)
    self.assertEqual(counts[0], 0)
    self.assertAlmostEqual(counts[1] / found.size, 0.1, delta=0.01)
    self.assertAlmostEqual(counts[1] / counts[10], 7.3, delta=1.5)

  @parameterized.parameters((3, 3), (2.0, 1.0))
  def test_bounds_with_nothing_between_are_refused(self, low, high):
    with self.assertRaisesRegex(ValueError, 'between bounds'):
      Values(low, high).draw(np.random.default_rng(0), _ROWS, np.float32)


if __name__ == '__main__':
  absltest.main()
