"""Tests of the small data sets of made-up clicks."""

from absl.testing import absltest
import numpy as np
from sklearn import linear_model, metrics

from input_pipelines.criteo import lines, read, tiny
from input_pipelines.reading import dataset


class ClicksTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.clicks = tiny.make(20_000, 1)

  def test_it_is_built_found_and_read_and_the_same_again(self):
    found = []
    for _ in range(2):
      data_dir = self.create_tempdir().full_path
      spec = tiny.Spec('few', rows=500, test_rows=30)
      directory = tiny.write(data_dir, spec)
      self.assertEqual(dataset.find(data_dir, 'few'), directory)
      clicks = read.load(directory)
      self.assertEqual((clicks.facts.train, clicks.facts.test), (500, 30))
      found.append(clicks.batch('train', 0, 500, 500))
    for name, values in found[0].items():
      np.testing.assert_array_equal(values, found[1][name])

  def test_its_text_is_parsed_to_what_was_made(self):
    parsed = lines.parse(tiny.text(self.clicks))
    expected = np.where(self.clicks.no_count, 0, self.clicks.counts)
    np.testing.assert_array_equal(parsed.counts, expected)
    expected = np.where(self.clicks.no_value, 0, self.clicks.values)
    np.testing.assert_array_equal(parsed.categories, expected)
    np.testing.assert_array_equal(parsed.label, self.clicks.label)

  def test_clicks_look_like_criteo(self):
    counts = self.clicks.counts
    self.assertEqual(counts.min(), -1)
    self.assertBetween((counts < 0).mean(), 0.02, 0.04)
    self.assertBetween(self.clicks.no_count.mean(), 0.08, 0.12)
    # Heavy tails: the largest is far above the middle.
    self.assertGreater(counts.max(), 300 * np.median(counts))
    for column in (0, 9, 19):
      _, sizes = np.unique(self.clicks.values[:, column], return_counts=True)
      sizes = np.sort(sizes)[::-1]
      self.assertGreater(sizes[:20].sum(), 0.1 * len(counts))
      self.assertGreater(len(sizes), 2000)
    self.assertLen(np.unique(self.clicks.values[:, 5]), 3)

  def test_a_model_of_sums_misses_most_of_what_can_be_known(self):
    label, test = self.clicks.label, tiny.make(20_000, 2)
    best = metrics.roc_auc_score(test.label, test.chance)
    self.assertGreater(best, 0.9)

    def inputs(clicks):
      known = np.where(clicks.no_count, 0, np.maximum(clicks.counts, 0))
      parts = [np.log1p(known)]
      for column in (1, 2, 3, 4, 5, 7, 8, 12, 13, 15, 16, 17, 18, 24, 25):
        values = np.unique(self.clicks.values[:, column])
        parts.append(clicks.values[:, column, None] == values)
      return np.concatenate(parts, axis=1, dtype=np.float32)

    model = linear_model.Ridge().fit(inputs(self.clicks), label)
    linear = metrics.roc_auc_score(test.label, model.predict(inputs(test)))
    self.assertBetween(linear, 0.6, 0.78)

  def test_clicks_are_those_that_curves_were_made_with(self):
    """Sums that each constant of the generator moves."""
    clicks = tiny.make(2000, 3)
    self.assertAlmostEqual(clicks.chance.sum(), 630.327271, places=3)
    found = {
      name: int(getattr(clicks, name).sum(dtype=np.int64))
      for name in ('label', 'counts', 'no_count', 'values', 'no_value')
    }
    expected = {
      'label': 630,
      'counts': 151_862,
      'no_count': 2546,
      'values': 112_302_146_528_415,
      'no_value': 1014,
    }
    self.assertEqual(found, expected)

  def test_full_sizes_are_those_that_it_declares(self):
    self.assertEqual((min(tiny.TABLES), max(tiny.TABLES)), (3, 103728))
    self.assertLen(tiny.HOTS, 26)
    self.assertEqual(max(tiny.MULTI_HOT_TABLES), tiny.CAP)


if __name__ == '__main__':
  absltest.main()
