"""Area under the ROC curve against scikit-learn, and by hand."""

from absl.testing import absltest, parameterized
import numpy as np
from sklearn import metrics

from suite.metrics import auc


def _by_pairs(scores, labels):
  """Pairs in right order, ties half, one by one."""
  positive, negative = scores[labels == 1], scores[labels == 0]
  twice = 2 * (positive[:, None] > negative[None]).sum()
  twice += (positive[:, None] == negative[None]).sum()
  return int(twice) / (2 * len(positive) * len(negative))


class AucTest(parameterized.TestCase):
  def test_of_four_scores_three_pairs_of_four_are_right(self):
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    self.assertEqual(auc.roc_auc(scores, np.array([0, 0, 1, 1])), 0.75)

  def test_equal_scores_count_half(self):
    labels = np.array([0, 1, 0, 1, 1])
    self.assertEqual(auc.roc_auc(np.zeros(5), labels), 0.5)
    self.assertEqual(auc.roc_auc(np.array([0, 0, 0, 1, 1]), labels), 5 / 6)

  @parameterized.product(
    rows=(2, 7, 100, 3000), kinds=(1, 2, 5, 50, 10**6), share=(0.03, 0.5)
  )
  def test_it_is_that_of_all_pairs_and_of_scikit_learn(
    self, rows, kinds, share
  ):
    draws = np.random.default_rng(rows * kinds)
    scores = draws.integers(-kinds, kinds, size=rows).astype(np.float32) / 7
    labels = (draws.random(rows) < share).astype(np.int32)
    labels[:2] = 0, 1
    found = auc.roc_auc(scores, labels)
    self.assertEqual(found, _by_pairs(scores, labels))
    expected = metrics.roc_auc_score(labels, scores)
    self.assertAlmostEqual(found, expected, delta=4e-16)

  def test_pieces_in_any_order_and_padding_change_nothing(self):
    draws = np.random.default_rng(1)
    scores = draws.integers(40, size=1000).astype(np.float32)
    labels = draws.integers(2, size=1000)
    expected = auc.roc_auc(scores, labels)
    predictions = []
    for rows in np.array_split(draws.permutation(1000), 7):
      weight = np.ones(len(rows) + 3, np.float32)
      weight[len(rows) :] = 0  # the padding has scores that are no numbers
      predictions.append(
        {
          'score': np.append(scores[rows], [np.nan, -9, 99]),
          'label': np.append(labels[rows], [1, 1, 0]),
          'weight': weight,
        }
      )
    self.assertEqual(auc.over_examples(predictions, examples=1000), expected)
    with self.assertRaisesRegex(RuntimeError, 'over 1001 clicks.* got 1000'):
      auc.over_examples(predictions, examples=1001)

  def test_pairs_of_different_batches_count(self):
    """The mean of the areas of batches is another number where they differ."""
    draws = np.random.default_rng(5)
    labels = draws.random((8, 500)) < np.linspace(0.1, 0.8, 8)[:, None]
    # Clicks come more often, and scores follow: as between night and day.
    scores = draws.normal(size=(8, 500)) + np.arange(8)[:, None] + labels
    batches = [
      {'score': s, 'label': label, 'weight': np.ones(500)}
      for s, label in zip(scores, labels, strict=True)
    ]
    found = auc.over_examples(batches, examples=4000)
    expected = metrics.roc_auc_score(labels.ravel(), scores.ravel())
    self.assertAlmostEqual(found, expected, places=12)
    by_batch = [auc.roc_auc(s, n) for s, n in zip(scores, labels, strict=True)]
    self.assertGreater(found, np.mean(by_batch) + 0.03)

  def test_infinite_scores_have_an_order(self):
    scores = np.array([-np.inf, np.inf, 0.0, np.inf])
    self.assertEqual(auc.roc_auc(scores, np.array([0, 1, 0, 0])), 5 / 6)

  def test_zeros_of_both_signs_are_equal(self):
    self.assertEqual(auc.roc_auc(np.array([0.0, -0.0]), np.array([0, 1])), 0.5)

  def test_what_has_no_area_is_refused(self):
    for scores, labels, words in (
      ([0.1, np.nan, np.nan], [0, 1, 0], '2 NaN of 3: the model diverged'),
      ([0.1, 0.2], [0, 0], '2 of label 0 and 0 of label 1'),
      ([0.1, 0.2], [1, 1], '0 of label 0 and 2 of label 1'),
      ([], [], '0 of label 0 and 0 of label 1'),
      ([0.1, 0.2], [0, 2], 'labels of 0 or 1'),
      ([0.1, 0.2], [0, np.nan], 'labels of 0 or 1'),
    ):
      with self.assertRaisesRegex(ValueError, words):
        auc.roc_auc(np.array(scores), np.array(labels))
    with self.assertRaisesRegex(ValueError, 'weights of 0 or 1'):
      auc.Auc().add(np.zeros(2), np.zeros(2), np.array([1, 0.5]))


if __name__ == '__main__':
  absltest.main()
