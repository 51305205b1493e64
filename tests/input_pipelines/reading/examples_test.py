"""Tests of batches of examples, on a schema that no data set here has."""

import itertools
import tempfile

from absl.testing import absltest, parameterized
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.reading import batching, dataset, examples
from input_pipelines.reading.settings import Skips
from input_pipelines.writing import writer
from tests.input_pipelines.reading import fake_tfds

_FEATURES = {
  'signal': writer.column(np.float32),
  'words': tfds.features.Sequence(np.int64),
  'count': np.int64,
}
_FIELDS = {'signal': (np.float32, 3), 'words': (np.int32, 2), 'place': np.int32}


def _example(features, place):
  return {
    'signal': examples.values(features, 'signal', np.float32, (3,)),
    'words': examples.values(features, 'words', np.int32),
    'place': place,
  }


_FILL = examples.ByRow(_example)


def _record(number, words=2, size=3):
  return {
    'signal': np.full(size, number / 4, np.float32),
    'words': np.arange(words) + number,
    'count': number,
  }


class ExamplesTest(parameterized.TestCase):
  def split(self, *records):
    directory = fake_tfds.write(
      self.enterContext(tempfile.TemporaryDirectory()),
      name='signals',
      version='1.0.0',
      features=tfds.features.FeaturesDict(_FEATURES),
      examples={'train': records},
    )
    return dataset.Split(directory, 'train')

  def train(self, split, steps, **how):
    how = {'batch_size': 4, 'seed': 3, **how}
    stream = examples.train_batches(split, _FIELDS, _FILL, **how)
    return list(itertools.islice(stream, steps))

  def test_a_row_is_a_record_of_the_fields_declared(self):
    split = self.split(*map(_record, range(6)))
    (batch,) = self.train(split, 1, shuffle=False)
    for name, values in {
      'signal': np.repeat([[0], [0.25], [0.5], [0.75]], 3, axis=1),
      'words': [[0, 1], [1, 2], [2, 3], [3, 4]],
      'place': [0, 1, 2, 3],
      'weight': np.ones(4),
    }.items():
      np.testing.assert_array_equal(batch[name], values, err_msg=name)
    self.assertEqual(batch['signal'].dtype, np.float32)
    self.assertEqual(batch['words'].dtype, np.int32)

  def test_places_go_on_through_steps_and_hosts(self):
    split = self.split(*map(_record, range(6)))
    alone = self.train(split, 3)
    shares = [self.train(split, 3, host=h, hosts=2) for h in (0, 1)]
    for batch, *parts in zip(alone, *shares, strict=True):
      for name in batch:
        together = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(together, batch[name], err_msg=name)
    np.testing.assert_array_equal(alone[2]['place'], [8, 9, 10, 11])
    (resumed,) = self.train(split, 1, first_step=2)
    np.testing.assert_array_equal(resumed['words'], alone[2]['words'])

  def test_an_eval_has_every_record_once_and_zeros_behind(self):
    split = self.split(*map(_record, range(1, 7)))
    batches = list(
      examples.eval_batches(split, _FIELDS, _FILL, batch_size=4)
    )  # fmt: skip
    words = np.concatenate([batch['words'] for batch in batches])
    np.testing.assert_array_equal(words[:, 0], [1, 2, 3, 4, 5, 6, 0, 0])
    weights = np.concatenate([batch['weight'] for batch in batches])
    np.testing.assert_array_equal(weights, [1] * 6 + [0] * 2)

  @parameterized.parameters(
    (_record(2, words=3), r"the shape \(2,\) of 'words', got \(3,\)"),
    (_record(2, words=1), r"the shape \(2,\) of 'words', got \(1,\)"),
    (_record(2, words=0), "Expected numbers in 'words', got 0"),
    (_record(2, size=2), r"the shape \(3,\) in 'signal', got 2"),
  )
  def test_the_error_names_the_record(self, record, message):
    split = self.split(_record(0), _record(1), record, _record(3))
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, f"Record 2 of the split 'train'.*{message}"
    ):
      self.train(split, 1)

  def test_a_record_that_may_be_skipped_leaves_nothing_behind(self):
    split = self.split(_record(4), _record(5, words=1), _record(6), _record(7))
    reading = batching.Reading(1, skips=Skips(1))
    (batch,) = self.train(split, 1, shuffle=False, reading=reading)
    np.testing.assert_array_equal(batch['words'][:, 0], [4, 6, 6, 7])
    np.testing.assert_array_equal(batch['signal'][:, 0] * 4, [4, 6, 6, 7])

  def test_bytes_that_are_no_numbers_are_refused(self):
    feature = self.split(_record(0))[0]
    feature['signal'].bytes_list.value[0] = b'12345'
    with self.assertRaisesRegex(ValueError, "float32 .* 'signal', got 5 bytes"):
      examples.values(feature, 'signal', np.float32)
    feature['signal'].bytes_list.value.append(b'')
    with self.assertRaisesRegex(ValueError, "value of 'signal', got 2 of 5"):
      examples.one(feature, 'signal')


if __name__ == '__main__':
  absltest.main()
