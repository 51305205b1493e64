"""Tests of the small data set of generated ratings."""

import os

from absl.testing import absltest
import numpy as np

from input_pipelines.movielens import prepare
from input_pipelines.movielens import read as movielens
from input_pipelines.movielens import tiny as interactions
from input_pipelines.reading import dataset


class InteractionsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.ratings = interactions.ratings()
    cls.scores = interactions.scores()

  def test_it_is_built_found_and_read_and_the_same_again(self):
    found = []
    for _ in range(2):
      data_dir = self.create_tempdir().full_path
      directory = interactions.build(data_dir)
      self.assertEqual(dataset.find(data_dir, 'interactions'), directory)
      self.assertEqual(os.listdir(data_dir), ['interactions'])
      interactions.verify(directory)
      found.append(movielens.load(directory))
    np.testing.assert_array_equal(found[0].keys, found[1].keys)
    np.testing.assert_array_equal(found[0].test_item, found[1].test_item)

  def test_the_ratings_look_like_movielens(self):
    users, counts = np.unique(self.ratings.user, return_counts=True)
    np.testing.assert_array_equal(users, 1 + np.arange(interactions.USERS))
    self.assertGreaterEqual(counts.min(), 20)
    self.assertGreater(counts.max(), 4 * np.median(counts))
    items = np.unique(self.ratings.item)
    self.assertLen(items, interactions.ITEMS)
    self.assertGreater(items.max(), 5 * interactions.ITEMS)

  def test_popularity_is_skewed(self):
    _, counts = np.unique(self.ratings.item, return_counts=True)
    counts = np.sort(counts)[::-1]
    self.assertGreater(counts[:100].sum(), 0.25 * counts.sum())

  def test_the_truth_ranks_far_better_than_popularity_and_that_than_chance(
    self,
  ):
    data = prepare.hold_out(self.ratings)
    candidates = movielens.eval_candidates(data, seed=0)
    valid = movielens.distinct(data, candidates)[:, :-1]

    def hit_rate(scores):
      mine = np.take_along_axis(scores, data.test_item[:, None], 1)
      theirs = np.take_along_axis(scores, candidates, 1)
      return (((theirs >= mine) & valid).sum(1) < 10).mean()

    # Item number -> column of the scores.
    column = np.empty(data.items, int)
    _, place = np.unique(self.ratings.item, return_inverse=True)
    column[prepare.number(self.ratings.item)] = place
    popular = np.bincount(data.item, minlength=data.items)
    by_popularity = hit_rate(np.tile(popular, (data.users, 1)))
    self.assertBetween(by_popularity, 0.1, 0.25)
    self.assertBetween(hit_rate(self.scores[:, column]), 0.55, 0.75)
    chance = np.random.default_rng(0).random(self.scores.shape)
    self.assertLess(hit_rate(chance), 0.03)
    self.assertEqual(hit_rate(np.zeros_like(self.scores)), 0)


if __name__ == '__main__':
  absltest.main()
