"""Tests of ImageNet's batches, on a small data set of its real schema."""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import types

from absl import flags
from absl.testing import absltest, parameterized
import numpy as np
import simplejpeg

from input_pipelines.imagenet import read as imagenet
from input_pipelines.reading import batching, dataset
from input_pipelines.reading.settings import Skips
from tests.input_pipelines.imagenet import fake_imagenet

_SMALL = imagenet.Preprocessing(image_size=16, resize_size=20)
_TRAIN = 30
_VALIDATION = 11


def setUpModule():
  global _data_dir, _directory
  _data_dir = tempfile.mkdtemp()
  _directory = fake_imagenet.write(
    _data_dir, {'train': _TRAIN, 'validation': _VALIDATION}
  )


def tearDownModule():
  shutil.rmtree(_data_dir)


def _train(
  steps,
  *,
  split='train',
  batch_size=12,
  seed=3,
  preprocessing=_SMALL,
  **kwargs,
):
  """The first batches, each field stacked: [steps, batch_size / hosts, ...]."""
  stream = imagenet.train_batches(
    dataset.Split(_directory, split),
    batch_size=batch_size,
    seed=seed,
    preprocessing=preprocessing,
    **kwargs,
  )
  return _stack(itertools.islice(stream, steps))


def _eval(*, batch_size=4, **kwargs):
  return _stack(
    imagenet.eval_batches(
      dataset.Split(_directory, 'validation'),
      batch_size=batch_size,
      preprocessing=_SMALL,
      **kwargs,
    )
  )


def _stack(batches):
  batches = list(batches)
  return {name: np.stack([b[name] for b in batches]) for name in batches[0]}


def _assert_equal(got, expected):
  assert set(got) == set(expected)
  for name, values in expected.items():
    np.testing.assert_array_equal(got[name], values, err_msg=name)


class TrainBatchesTest(parameterized.TestCase):
  def test_a_batch_is_pixels_labels_and_weights(self):
    batches = _train(2, hosts=2)
    self.assertEqual(batches['image'].shape, (2, 6, 16, 16, 3))
    self.assertEqual(batches['image'].dtype, np.uint8)
    self.assertEqual(batches['label'].shape, (2, 6))
    self.assertEqual(batches['label'].dtype, np.int32)
    self.assertEqual(batches['weight'].dtype, np.float32)
    self.assertTrue(np.all(batches['weight'] == 1))

  def test_every_epoch_shows_every_record_once(self):
    labels = _train(5)['label'].reshape(2, _TRAIN)
    for epoch in labels:
      np.testing.assert_array_equal(np.sort(epoch), np.arange(_TRAIN))
    self.assertFalse(np.array_equal(labels[0], labels[1]))

  def test_the_reference_sizes_are_the_default(self):
    batches = _train(1, batch_size=2, preprocessing=imagenet.Preprocessing())
    self.assertEqual(batches['image'].shape, (1, 2, 224, 224, 3))

  @parameterized.parameters(1, 5)
  def test_threads_do_not_change_the_batches(self, threads):
    _assert_equal(
      _train(6, reading=batching.Reading(threads)),
      _train(6, reading=batching.Reading(0)),
    )

  @parameterized.parameters(1, 2)
  def test_worker_processes_do_not_change_the_batches(self, processes):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain's workers want it
    reading = batching.Reading(2, processes)
    _assert_equal(_train(6, reading=reading, first_step=1),
                  _train(6, first_step=1))  # fmt: skip

  @parameterized.parameters(2, 3)
  def test_hosts_side_by_side_make_the_batches_of_one(self, hosts):
    shares = [_train(4, host=host, hosts=hosts) for host in range(hosts)]
    together = {
      name: np.concatenate([share[name] for share in shares], axis=1)
      for name in shares[0]
    }
    _assert_equal(together, _train(4))

  def test_a_restart_goes_on_where_the_run_was(self):
    whole = _train(7)
    rest = {name: values[3:] for name, values in whole.items()}
    _assert_equal(_train(4, first_step=3), rest)

  def test_the_seed_decides_order_and_crops(self):
    first, again, other = _train(3), _train(3), _train(3, seed=2**32 - 1)
    _assert_equal(again, first)
    self.assertFalse(np.array_equal(other['label'], first['label']))

  def test_a_record_is_cropped_anew_in_every_epoch(self):
    batches = _train(5)
    by_epoch = []
    for epoch in range(2):
      labels = batches['label'].reshape(2, _TRAIN)[epoch]
      images = batches['image'].reshape(2, _TRAIN, -1)[epoch]
      by_epoch.append(images[np.argsort(labels)])
    same = np.all(by_epoch[0] == by_epoch[1], axis=1)
    self.assertLess(same.mean(), 0.1)

  def test_unshuffled_batches_come_in_the_order_on_disk(self):
    labels = _train(3, shuffle=False)['label'].ravel()
    np.testing.assert_array_equal(labels, np.arange(36) % _TRAIN)

  def test_the_whole_image_is_left_when_nothing_is_cut_or_flipped(self):
    # No crop covers more than the image, so every attempt fails.
    whole = imagenet.Preprocessing(
      16, 16, crop_area=(1.0, 1.0), crop_attempts=1, flip_probability=0.0
    )
    batch = _train(1, batch_size=_TRAIN, preprocessing=whole)
    mirror = imagenet.Preprocessing(
      16, 16, crop_area=(1.0, 1.0), crop_attempts=1, flip_probability=1.0
    )
    flipped = _train(1, batch_size=_TRAIN, preprocessing=mirror)
    for row, label in enumerate(batch['label'][0]):
      picture = fake_imagenet.photo(label).astype(float)
      if label % 5 == 0:
        picture = picture[..., :1]
      halves = np.array_split(picture, 2, axis=1)
      left, right = (half.mean() for half in halves)
      for batches, sign in ((batch, 1), (flipped, -1)):
        image = batches['image'][0, row].astype(float)
        slope = image[:, :8].mean() - image[:, 8:].mean()
        self.assertAlmostEqual(sign * slope, left - right, delta=14)

  def test_grey_records_come_in_three_equal_channels(self):
    batch = _train(1, batch_size=_TRAIN)
    grey = batch['image'][0][batch['label'][0] % 5 == 0]
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    self.assertGreater(grey.std(), 10)

  def test_a_slice_of_a_split_is_a_split(self):
    labels = _train(1, batch_size=10, split='train[:10]')['label'][0]
    np.testing.assert_array_equal(np.sort(labels), np.arange(10))


class EvalBatchesTest(parameterized.TestCase):
  @parameterized.parameters((4, 1), (4, 2), (4, 4), (16, 2), (11, 1))
  def test_every_record_counts_once_over_all_hosts(self, batch_size, hosts):
    shares = [
      _eval(batch_size=batch_size, host=host, hosts=hosts)
      for host in range(hosts)
    ]
    self.assertLen({share['label'].shape for share in shares}, 1)
    seen = [share['label'][share['weight'] == 1] for share in shares]
    self.assertEqual(sorted(np.concatenate(seen)), list(range(_VALIDATION)))

  def test_padding_is_zero_and_weighs_nothing(self):
    last = {name: values[-1] for name, values in _eval().items()}
    np.testing.assert_array_equal(last['weight'], [1, 1, 1, 0])
    self.assertFalse(np.any(last['image'][3]))
    self.assertEqual(last['label'][3], 0)
    self.assertTrue(np.all(last['image'][:3].any(axis=(1, 2, 3))))

  @parameterized.parameters(1, 5)
  def test_threads_do_not_change_the_batches(self, threads):
    _assert_equal(
      _eval(reading=batching.Reading(threads)),
      _eval(reading=batching.Reading(0)),
    )

  def test_nothing_about_an_eval_is_random(self):
    _assert_equal(_eval(), _eval())


class BrokenRecordTest(absltest.TestCase):
  def write(self, *jpegs):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    return fake_imagenet.write(data_dir, {'train': jpegs}, shards=1)

  def read(self, directory):
    stream = imagenet.train_batches(
      dataset.Split(directory, 'train'),
      batch_size=3,
      seed=0,
      preprocessing=_SMALL,
      shuffle=False,
    )
    return next(stream)

  def test_the_error_names_the_split_and_the_record(self):
    good = fake_imagenet.jpeg(1)
    for bad in (good[: len(good) // 2], b'\xff\xd8\xff not a picture'):
      directory = self.write(good, bad, good)
      with self.assertRaisesRegex(
        dataset.CorruptRecordError, "Record 1 of the split 'train'"
      ):
        self.read(directory)

  def test_damaged_files_are_noticed(self):
    directory = self.write(*[fake_imagenet.jpeg(i) for i in range(3)])
    path = os.path.join(
      directory, 'imagenet2012-train.array_record-00000-of-00001'
    )
    with open(path, 'r+b') as file:
      file.truncate(os.path.getsize(path) // 2)
    with self.assertRaises((ValueError, RuntimeError)):
      self.read(directory)

  def test_an_image_of_one_pixel_is_an_image(self):
    dot = np.full((1, 1, 3), (10, 200, 90), np.uint8)
    dot = simplejpeg.encode_jpeg(dot, 95, 'RGB', '444')
    batch = self.read(self.write(dot, dot, dot))
    expected = np.broadcast_to((10, 200, 90), (3, 16, 16, 3))
    np.testing.assert_allclose(batch['image'], expected, atol=4)


class SkippingTest(absltest.TestCase):
  """Records that cannot be read, where they may be left out."""

  def setUp(self):
    super().setUp()
    jpegs = [fake_imagenet.jpeg(i) for i in range(8)]
    jpegs[2] = jpegs[2][: len(jpegs[2]) // 2]  # ends early
    jpegs[3] = b'no picture'
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    directory = fake_imagenet.write(
      data_dir, {'train': jpegs, 'validation': jpegs}
    )
    self.train = dataset.Split(directory, 'train')
    self.validation = dataset.Split(directory, 'validation')

  def batches(self, skips, steps=3, **kwargs):
    stream = imagenet.train_batches(
      self.train,
      batch_size=8,
      seed=1,
      preprocessing=_SMALL,
      reading=batching.Reading(2, skips=skips),
      **kwargs,
    )
    return _stack(itertools.islice(stream, steps))

  def test_the_next_readable_record_takes_the_place(self):
    labels = self.batches(Skips(2), 1, shuffle=False)['label'][0]
    np.testing.assert_array_equal(labels, [0, 1, 4, 4, 4, 5, 6, 7])

  def test_each_is_counted_once(self):
    skips = Skips(2)
    self.batches(skips)
    self.assertEqual(skips.records, [2, 3])

  def test_more_than_allowed_end_the_run_with_the_error(self):
    with self.assertRaisesRegex(ValueError, 'skip 1 .*got 2: .*train'):
      self.batches(Skips(1))

  def test_hosts_side_by_side_make_the_batches_of_one(self):
    alone = self.batches(Skips(2))
    shares = [self.batches(Skips(2), host=host, hosts=2) for host in range(2)]
    together = {
      name: np.concatenate([share[name] for share in shares], axis=1)
      for name in alone
    }
    _assert_equal(together, alone)

  def test_where_all_can_be_read_nothing_changes(self):
    _assert_equal(_train(4, reading=batching.Reading(skips=Skips(1))),
                  _train(4))  # fmt: skip

  def test_an_eval_skips_nothing(self):
    with self.assertRaises(dataset.CorruptRecordError):
      _stack(
        imagenet.eval_batches(
          self.validation,
          batch_size=8,
          preprocessing=_SMALL,
          reading=batching.Reading(0, skips=Skips(8)),
        )
      )


class VerifyTest(absltest.TestCase):
  splits = types.MappingProxyType({'train': 4, 'validation': 2})

  def write(self, **kwargs):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    return fake_imagenet.write(data_dir, self.splits, **kwargs)

  def test_a_whole_data_set_passes(self):
    imagenet.verify(self.write(), splits=self.splits)

  def test_no_record_is_read(self):
    directory = self.write()
    for name in os.listdir(directory):
      if 'array_record' in name:
        path = os.path.join(directory, name)
        nothing = bytes(os.path.getsize(path))
        with open(path, 'wb') as file:
          file.write(nothing)
    imagenet.verify(directory, splits=self.splits)

  def test_a_wrong_number_of_examples_is_refused(self):
    with self.assertRaisesRegex(
      ValueError, "50000 examples in the split 'validation' .* got 2"
    ):
      imagenet.verify(self.write(), splits={'train': 4, 'validation': 50000})

  def test_a_wrong_number_of_classes_is_refused(self):
    with self.assertRaisesRegex(ValueError, '1000 classes .* got 10'):
      imagenet.verify(self.write(classes=10), splits=self.splits)

  def test_another_schema_is_refused(self):
    with self.assertRaisesRegex(ValueError, "'file_name': 'Text'.*'name'"):
      imagenet.verify(self.write(file_name='name'), splits=self.splits)

  def test_a_split_that_is_not_there_is_refused(self):
    with self.assertRaisesRegex(ValueError, "split 'test'.*'train'"):
      imagenet.verify(self.write(), splits={'test': 4})


class PreprocessingTest(parameterized.TestCase):
  @parameterized.parameters(
    {'image_size': 0},
    {'image_size': 300},
    {'flip_probability': 1.5},
    {'crop_area': (0.0, 1.0)},
    {'crop_aspect': (1.33, 0.75)},
    {'crop_attempts': 0},
    {'min_object_covered': -0.1},
  )
  def test_what_makes_no_image_is_refused(self, **change):
    with self.assertRaisesRegex(ValueError, 'Expected'):
      imagenet.Preprocessing(**change)


_READ = """
import itertools, sys
from input_pipelines.reading import batching
from input_pipelines.reading import dataset
from input_pipelines.imagenet import read as imagenet
small = imagenet.Preprocessing(image_size=16, resize_size=20)
stream = imagenet.train_batches(
  dataset.Split(sys.argv[1], 'train'), batch_size=4, seed=0,
  preprocessing=small, reading=batching.Reading(3))
print(next(stream)['label'].shape)
"""


class ProcessTest(parameterized.TestCase):
  """Facts that only a process of its own can show."""

  def run_python(self, code, *paths):
    paths = os.pathsep.join([*paths, *sys.path])
    return subprocess.run(
      [sys.executable, '-c', code, _directory],
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
      env={**os.environ, 'PYTHONPATH': paths},
    )

  @parameterized.parameters('jax', 'tensorflow')
  def test_reading_works_where_the_package_cannot_be_imported(self, package):
    # Grain imports jax where it can; it must do without where it cannot.
    path = self.enterContext(tempfile.TemporaryDirectory())
    os.mkdir(os.path.join(path, package))
    with open(os.path.join(path, package, '__init__.py'), 'w') as file:
      file.write(f"raise ImportError('{package} is out of bounds')")
    done = self.run_python(_READ, path)
    self.assertEqual((done.returncode, done.stdout), (0, '(4,)\n'), done.stderr)

  def test_a_stream_left_in_the_middle_does_not_keep_the_process(self):
    code = _READ + 'assert len(list(itertools.islice(stream, 5))) == 5\n'
    done = self.run_python(code)
    self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
  absltest.main()
