"""Tests of random orders and numbers that are computed place by place."""

import collections
import itertools

from absl.testing import absltest, parameterized
import numpy as np
import scipy.stats

from input_pipelines.reading import random_access

_UNLIKELY = 1e-4  # the chance that a fair draw fails; the seeds are fixed


class OrderTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 100, 4096, 4097, 8192, 70_001)
  def test_every_number_stands_at_one_place(self, length):
    found = random_access.Order(length, 3)(np.arange(length))
    np.testing.assert_array_equal(np.sort(found), np.arange(length))

  def test_all_orders_of_four_come_equally_often(self):
    count = collections.Counter(
      tuple(random_access.Order(4, seed)(np.arange(4)).tolist())
      for seed in range(4800)
    )
    every = [count[o] for o in itertools.permutations(range(4))]
    self.assertGreater(scipy.stats.chisquare(every).pvalue, _UNLIKELY)

  @parameterized.parameters(5000, 250_000)
  def test_places_and_neighbours_tell_nothing(self, length):
    found = random_access.Order(length, 5)(np.arange(length)).astype(float)
    other = random_access.Order(length, 6)(np.arange(length)).astype(float)
    for a, b in (
      (np.arange(length), found),
      (found[:-1], found[1:]),
      (found[:-64], found[64:]),
      (found % 5, np.roll(found, 1) % 5),
      (found, other),
    ):
      table = np.histogram2d(a, b, bins=5)[0]
      p = scipy.stats.chi2_contingency(table).pvalue
      self.assertGreater(p, _UNLIKELY)

  def test_a_batch_holds_as_many_pairs_of_a_group_as_by_chance(self):
    length, batch = 250_000, 1000
    found = random_access.Order(length, 1)(np.arange(length)) // 5
    groups = np.sort(found.reshape(-1, batch), axis=1)
    repeats = (groups[:, 1:] == groups[:, :-1]).sum()
    expected = length * 4 * batch / length / 2
    self.assertLess(abs(repeats - expected), 5 * np.sqrt(expected))

  def test_more_than_32_bits_stay_one_to_one(self):
    length = 6 * 10**9
    places = np.arange(length - 1000, length)
    found = random_access.Order(length, 1)(places)
    self.assertEqual(found.dtype, np.uint64)
    self.assertLen(np.unique(found), 1000)
    self.assertLess(found.max(), length)
    self.assertGreater(found.max(), 2**32)

  def test_no_length_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'a length in .*, got 0'):
      random_access.Order(0, 1)


class BelowTest(absltest.TestCase):
  def test_numbers_are_uniform_and_keys_differ(self):
    keys = random_access.keys(2, 1, 2)
    drawn = [random_access.below(50, k, np.arange(100_000)) for k in keys]
    for numbers in drawn:
      count = np.bincount(numbers.astype(int), minlength=50)
      self.assertLen(count, 50)
      self.assertGreater(scipy.stats.chisquare(count).pvalue, _UNLIKELY)
    table = np.histogram2d(*(d.astype(float) for d in drawn), bins=50)[0]
    self.assertGreater(scipy.stats.chi2_contingency(table).pvalue, _UNLIKELY)

  def test_a_number_depends_on_its_counter_alone(self):
    whole = random_access.below(1000, np.uint64(7), np.arange(100))
    some = random_access.below(1000, np.uint64(7), np.array([3, 99, 3]))
    np.testing.assert_array_equal(some, whole[[3, 99, 3]])


if __name__ == '__main__':
  absltest.main()
