"""Tests of TFRecord by index: on disks, in buckets, and when it is broken."""

from concurrent import futures
import io
import logging
import os
import pickle
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import cloudpickle
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.imagenet import read as imagenet
from input_pipelines.reading import dataset, shards, tfrecord
from tests.input_pipelines.imagenet import fake_imagenet
from tests.input_pipelines.reading import fake_bucket, fake_tfds

_SPLITS = {'train': 7, 'validation': 3}
_SHARD = 'imagenet2012-train.tfrecord-00001-of-00003'
# What TensorFlow 2.21 writes for b'', b'podium' and 300 bytes of 7.
_BY_TENSORFLOW = (
  bytes.fromhex(
    '000000000000000029039807d8ea82a206000000000000007369d537706f6469'
    '756d3ba598ab2c01000000000000f2fe5b9d'
  )
  + b'\7' * 300
  + bytes.fromhex('e479464a')
)


def setUpModule():
  global _data_dir, _arrays, _frames
  _data_dir = tempfile.mkdtemp()
  _arrays, _frames = fake_imagenet.write_both(_data_dir, _SPLITS)


def tearDownModule():
  shutil.rmtree(_data_dir)


class TfrecordTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enterContext(tempfile.TemporaryDirectory())
    self.directory = os.path.join(self.root, 'imagenet2012', '5.1.0')
    shutil.copytree(_frames, self.directory)

  def path(self, name=_SHARD):
    return os.path.join(self.directory, name)

  def change(self, where, name=_SHARD):
    """Turns one bit of a file."""
    with open(self.path(name), 'r+b') as file:
      file.seek(where)
      byte = file.read(1)[0]
      file.seek(where)
      file.write(bytes([byte ^ 4]))

  def second(self):
    """Byte at which the second record of the shard begins."""
    with open(self.path(), 'rb') as file:
      return int.from_bytes(file.read(8), 'little') + 16


class FormatTest(TfrecordTest):
  def test_frames_are_those_that_tensorflow_writes(self):
    records = [b'', b'podium', b'\7' * 300]
    path = self.path('a.tfrecord-00000-of-00001')
    with open(path, 'wb') as file:
      file.write(_BY_TENSORFLOW)
    self.assertEqual(list(tfrecord.read(path)), records)
    self.assertEqual(b''.join(map(fake_tfds.frame, records)), _BY_TENSORFLOW)

  def test_a_shard_is_read_from_first_to_last(self):
    source = dataset.Split(_arrays, 'train[:2]')._records
    path = os.path.join(_frames, 'imagenet2012-train.tfrecord-00000-of-00003')
    self.assertEqual(list(tfrecord.read(path))[:2], list(source))


class IndexTest(TfrecordTest):
  def test_it_has_the_records_and_sizes_of_every_shard(self):
    index = tfrecord.read_index(self.directory)
    info = dataset.load(self.directory).info
    for split in info.splits.values():
      for name, records in zip(
        split.filenames, split.shard_lengths, strict=True
      ):
        self.assertEqual(index.counts()[name], records)
        self.assertEqual(index.sizes()[name], os.path.getsize(self.path(name)))

  def test_progress_ends_with_all_shards(self):
    told = []
    tfrecord.write_index(self.directory, progress=lambda *at: told.append(at))
    self.assertEqual(told, [(i, 6) for i in range(1, 7)])

  def test_a_failed_attempt_leaves_no_index(self):
    os.remove(self.path(tfrecord.INDEX))
    os.truncate(self.path(), 50)
    before = sorted(os.listdir(self.directory))
    with self.assertRaisesRegex(shards.CorruptRecordError, 'Record 0 of'):
      tfrecord.write_index(self.directory)
    with (
      mock.patch.object(os, 'replace', side_effect=OSError('full')),
      mock.patch.object(tfrecord, '_frames', return_value=np.zeros(1, 'u4')),
      self.assertRaises(OSError),
    ):
      tfrecord.write_index(self.directory)
    self.assertNotIn(tfrecord.INDEX, os.listdir(self.directory))
    self.assertContainsSubset(before, os.listdir(self.directory))

  @parameterized.parameters(0, 3, 8, 11)
  def test_a_wrong_byte_in_a_header_is_found_by_indexing(self, byte):
    self.change(self.second() + byte)
    with self.assertRaisesRegex(
      shards.CorruptRecordError, f'Record 1 of .*{_SHARD}.* length is wrong'
    ):
      tfrecord.write_index(self.directory)

  @parameterized.parameters((20, 'ends after 20'), (5, 'header, the file ends'))
  def test_a_cut_shard_is_found_by_indexing(self, offset, text):
    os.truncate(self.path(), self.second() + offset)
    with self.assertRaisesRegex(
      shards.CorruptRecordError, f'Record 1 of .*{_SHARD}.*{text}'
    ):
      tfrecord.write_index(self.directory)

  def test_where_there_are_no_shards_there_is_no_index(self):
    with self.assertRaisesRegex(ValueError, 'TFRecord shards in .*arrays'):
      tfrecord.write_index(_arrays)

  def test_a_damaged_index_is_refused(self):
    whole = open(self.path(tfrecord.INDEX), 'rb').read()  # noqa: SIM115
    turned = bytearray(whole)
    turned[whole.index(b'lengths.npy') + 160] ^= 1
    for data in (b'', b'noise', whole[:200], whole[:-40], turned):
      with open(self.path(tfrecord.INDEX), 'wb') as file:
        file.write(data)
      with self.assertRaisesRegex(ValueError, 'an index of TFRecord shards in'):
        tfrecord.read_index(self.directory)

  def test_an_index_of_another_format_is_refused(self):
    with mock.patch.object(tfrecord, '_FORMAT', 2):
      tfrecord.write_index(self.directory)
    with self.assertRaisesRegex(ValueError, 'of the format 2'):
      tfrecord.read_index(self.directory)


class VerifyTest(TfrecordTest):
  def verify(self):
    dataset.verify(self.directory, splits=_SPLITS)

  def test_a_whole_data_set_passes(self):
    self.verify()

  def test_what_has_no_index_comes_with_the_command_that_makes_it(self):
    os.remove(self.path(tfrecord.INDEX))
    command = f'prepare_data --dataset=imagenet2012 --data_dir={self.root}'
    with self.assertRaisesRegex(ValueError, f'{tfrecord.INDEX}.*{command}$'):
      self.verify()
    with self.assertRaisesRegex(ValueError, f'{tfrecord.INDEX}.*{command}$'):
      dataset.Split(self.directory, 'train')

  def test_a_cut_shard_is_refused_without_reading_it(self):
    os.truncate(self.path(), 100)
    with self.assertRaisesRegex(ValueError, f'in {_SHARD}.* got 100 bytes'):
      self.verify()

  def test_a_missing_shard_is_named(self):
    os.remove(self.path())
    with self.assertRaisesRegex(ValueError, f'{_SHARD}.* 1 of them missing'):
      self.verify()

  def test_an_index_of_other_shards_is_refused(self):
    shutil.copy(self.path().replace('00001-of', '00000-of'), self.path())
    tfrecord.write_index(self.directory)
    with self.assertRaisesRegex(ValueError, f'2 records in {_SHARD}.* got .*3'):
      self.verify()
    with self.assertRaisesRegex(ValueError, f'3 records .*{_SHARD}.* got 2'):
      dataset.Split(self.directory, 'train')


class SourceTest(TfrecordTest):
  @parameterized.parameters(
    'train', 'train[2:5]', 'train[30%:60%]', 'train[:1]+train[4:]', 'validation'
  )
  def test_records_are_those_of_array_record(self, split):
    frames = dataset.Split(self.directory, split)._records
    arrays = dataset.Split(_arrays, split)._records
    self.assertEqual(list(frames), list(arrays))
    order = [len(arrays) - 1, 0, len(arrays) // 2]
    self.assertEqual(frames.__getitems__(order), [arrays[i] for i in order])

  def test_a_pickle_is_small_and_reads_on(self):
    source = dataset.Split(self.directory, 'train')._records
    _ = source[0]
    for dumps in (pickle.dumps, cloudpickle.dumps):
      other = pickle.loads(dumps(source))
      self.assertIsNone(other._index)  # read again where it is needed
      self.assertEqual(list(other), list(source))
    self.assertLess(len(pickle.dumps(source)), 2000)

  def test_threads_share_it(self):
    source = dataset.Split(self.directory, 'train')._records
    expected = list(source)
    with futures.ThreadPoolExecutor(8) as pool:
      got = pool.map(lambda i: source[i % 7], range(700))
    self.assertEqual(list(got), [expected[i % 7] for i in range(700)])

  def test_files_are_closed_with_it(self):
    if not os.path.isdir('/proc/self/fd'):
      self.skipTest('open files cannot be counted')
    before = len(os.listdir('/proc/self/fd'))
    source = dataset.Split(self.directory, 'train')._records
    list(source)
    self.assertLen(os.listdir('/proc/self/fd'), before + 3)
    del source
    self.assertLen(os.listdir('/proc/self/fd'), before)


class FaultTest(TfrecordTest):
  def expect(self, kind, text):
    split = dataset.Split(self.directory, 'train')
    for read in (lambda: split[3], lambda: split.records([0, 3])):
      with self.assertRaisesRegex(kind, text):
        read()

  @parameterized.parameters(0, 9, 12, 200)
  def test_a_wrong_byte_anywhere_in_a_record_is_named(self, byte):
    self.change(self.second() + byte)
    self.expect(dataset.CorruptRecordError, f'Record 1 of .*{_SHARD}')
    other = dataset.Split(self.directory, 'train')[4]
    self.assertEqual(other['label'].int64_list.value, [4])

  def test_a_wrong_byte_in_the_last_checksum_is_named(self):
    self.change(self.second() - 1)
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, f'Record 0 of .*{_SHARD}.* checksum is wrong'
    ):
      _ = dataset.Split(self.directory, 'train')[2]

  def test_a_shard_that_was_cut_off_is_named(self):
    os.truncate(self.path(), 100)
    self.expect(dataset.CorruptRecordError, f'bytes in .*{_SHARD}.* got 100')

  def test_a_shard_that_is_gone_is_named(self):
    os.remove(self.path())
    self.expect(FileNotFoundError, f'Record 1 of .*{_SHARD}.* No such file')

  def test_a_shard_that_shrinks_while_it_is_open_is_named(self):
    split = dataset.Split(self.directory, 'train')
    _ = split[2]
    os.truncate(self.path(), self.second() + 20)
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, f'Record 1 of .*{_SHARD}.* ends after 20'
    ):
      _ = split[3]

  def test_a_disk_that_fails_is_named(self):
    if not os.path.exists('/proc/self/mem'):
      self.skipTest('no file whose reads fail')
    source = dataset.Split(self.directory, 'train')._records
    os.remove(self.path())
    os.symlink('/proc/self/mem', self.path())  # nothing is mapped at its start
    with (
      mock.patch.object(tfrecord.Index, 'sizes', lambda _: {_SHARD: 0}),
      self.assertRaisesRegex(OSError, f'Record 1 of .*{_SHARD}.*output error'),
    ):
      _ = source[3]


class BucketTest(parameterized.TestCase):
  """Both formats, read from a store as from a disk."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.bucket = cls.enterClassContext(fake_bucket.serve(_data_dir))

  def setUp(self):
    super().setUp()
    self.addCleanup(self.bucket.heal)
    self.enterContext(mock.patch.object(shards, 'REMOTE_SECONDS', 0.5))
    logging.disable(logging.ERROR)
    self.addCleanup(logging.disable, logging.NOTSET)

  def url(self, format_):
    return dataset.find(f'{self.bucket.url}/{format_}', 'imagenet2012')

  def test_a_missing_data_set_is_missed(self):
    with self.assertRaisesRegex(FileNotFoundError, 'prepare_data'):
      dataset.find(self.bucket.url, 'digits')

  @parameterized.parameters('arrays', 'frames')
  def test_it_is_found_verified_and_known_by_its_fingerprint(self, format_):
    url = self.url(format_)
    self.assertEndsWith(url, f'/{format_}/imagenet2012/5.1.0')
    dataset.verify(url, splits=_SPLITS)
    local = {'arrays': _arrays, 'frames': _frames}[format_]
    self.assertEqual(dataset.fingerprint(url), dataset.fingerprint(local))
    self.assertTrue(dataset.evict(url))

  def test_batches_are_those_of_a_local_array_record(self):
    expected = _batches(_arrays)
    self.assertLen(expected, 5)
    for directory in (self.url('arrays'), _frames, self.url('frames')):
      for ours, theirs in zip(_batches(directory), expected, strict=True):
        self.assertEqual(ours.keys(), theirs.keys())
        for name in ours:
          np.testing.assert_array_equal(ours[name], theirs[name])

  @parameterized.product(
    format_=('arrays', 'frames'), how=('unavailable', 'cut', 'gone')
  )
  def test_a_store_that_fails_is_named_and_not_waited_for(self, format_, how):
    split = dataset.Split(self.url(format_), 'train')
    expected = [split[i] for i in range(7)]
    self.bucket.fail('-00001-of', how)
    slow = how != 'gone'
    with self.assertRaisesRegex(
      TimeoutError if slow else (OSError, ValueError),
      r'Record 1 of gs://.*train\..*-00001-of-00003 cannot be read: '
      + ('no answer within 0.5 s' if slow else ''),
    ):
      split.records([0, 3])
    self.assertEqual(split[0], expected[0])

  @parameterized.parameters('arrays', 'frames')
  def test_an_object_that_is_missing_from_the_start_is_named(self, format_):
    split = dataset.Split(self.url(format_), 'train')
    self.bucket.fail('-00001-of', 'gone')
    with self.assertRaisesRegex(
      (OSError, ValueError), r'gs://.*train\..*-00001-of-00003'
    ):
      _ = split[3]

  def test_an_index_is_made_of_what_lies_in_a_store(self):
    url = self.url('frames')
    with mock.patch.object(tfrecord, '_save') as save:
      tfrecord.write_index(url)
    _, names, lengths = save.call_args.args
    index = tfrecord.read_index(_frames)
    self.assertEqual(tuple(names), index.names)
    np.testing.assert_array_equal(
      np.concatenate(lengths), np.diff(index.bounds) - 16
    )


class SchemaTest(parameterized.TestCase):
  """The fakes carry the schemas of other data sets too."""

  def write(self, file_format, **what):
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    directory = fake_tfds.write(
      data_dir, file_format=file_format, shards=2, **what
    )
    if file_format == 'tfrecord':
      tfrecord.write_index(directory)
    return data_dir, directory

  @parameterized.parameters('array_record', 'tfrecord')
  def test_coco(self, file_format):
    box = {
      'area': 9,
      'bbox': tfds.features.BBox(0.1, 0.2, 0.3, 0.4),
      'id': 3,
      'is_crowd': False,
      'label': 2,
    }
    examples = [
      {
        'image': io.BytesIO(fake_imagenet.jpeg(i)),
        'image/filename': f'{i}.jpg',
        'image/id': i,
        'objects': [box] * i,
      }
      for i in range(4)
    ]
    data_dir, directory = self.write(
      file_format,
      name='coco',
      config='2017',
      version='1.1.0',
      features=_coco(),
      examples={'train': examples},
    )
    self.assertEqual(dataset.find(data_dir, 'coco/2017'), directory)
    dataset.verify(directory, splits={'train': 4})
    found = dataset.Split(directory, 'train')[3]
    self.assertEqual(found['objects/label'].int64_list.value, [2, 2, 2])
    np.testing.assert_allclose(
      found['objects/bbox'].float_list.value, [0.1, 0.2, 0.3, 0.4] * 3
    )

  @parameterized.parameters('array_record', 'tfrecord')
  def test_wmt(self, file_format):
    pairs = [{'de': f'{i} Bäume', 'en': f'{i} trees'} for i in range(4)]
    data_dir, directory = self.write(
      file_format,
      name='wmt17_translate',
      config='de-en',
      version='1.0.0',
      features=tfds.features.Translation(('de', 'en')),
      examples={'train': pairs, 'test': pairs[:2]},
    )
    self.assertEqual(dataset.find(data_dir, 'wmt17_translate/de-en'), directory)
    dataset.verify(directory, splits={'train': 4, 'test': 2})
    found = dataset.Split(directory, 'train')[3]
    self.assertEqual(found['de'].bytes_list.value, ['3 Bäume'.encode()])


def _coco():
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(encoding_format='jpeg'),
      'image/filename': tfds.features.Text(),
      'image/id': np.int64,
      'objects': tfds.features.Sequence(
        {
          'area': np.int64,
          'bbox': tfds.features.BBoxFeature(),
          'id': np.int64,
          'is_crowd': np.bool_,
          'label': tfds.features.ClassLabel(num_classes=80),
        }
      ),
    }
  )


def _batches(directory):
  """Three batches to train on, and those of an eval."""
  preprocessing = imagenet.Preprocessing(image_size=16, resize_size=18)
  train = imagenet.train_batches(
    dataset.Split(directory, 'train'),
    batch_size=4,
    seed=3,
    preprocessing=preprocessing,
  )
  evaluation = imagenet.eval_batches(
    dataset.Split(directory, 'validation'),
    batch_size=2,
    preprocessing=preprocessing,
  )
  return [next(train) for _ in range(3)] + list(evaluation)


if __name__ == '__main__':
  absltest.main()
