"""Tests of data sets of start weights."""

from absl.testing import absltest
import numpy as np

from input_pipelines.reading import arrays, dataset
from input_pipelines.writing import weights


class WeightsTest(absltest.TestCase):
  def test_weights_without_splits_are_a_data_set_that_can_be_loaded(self):
    given = {'params/kernel': np.arange(6, dtype=np.float32).reshape(2, 3)}
    directory = weights.write(
      self.create_tempdir().full_path,
      'start',
      '1.0.0',
      given,
      {'seed': 1},
      summary='Weights.',
    )
    self.assertEqual(dataset.load(directory).info.full_name, 'start/1.0.0')
    self.assertEmpty(dataset.load(directory).info.splits)
    found = arrays.of_data_set(directory)['params/kernel']
    np.testing.assert_array_equal(found, given['params/kernel'])


if __name__ == '__main__':
  absltest.main()
