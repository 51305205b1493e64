"""Tests of finding, checking, opening and evicting a data set directory."""

import json
import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from input_pipelines import dataset
from tests.input_pipelines import fake_imagenet

_SPLITS = {'train': 6, 'validation': 3}


def setUpModule():
  global _data_dir, _written
  _data_dir = tempfile.mkdtemp()
  _written = fake_imagenet.write(_data_dir, _SPLITS)


def tearDownModule():
  shutil.rmtree(_data_dir)


class DatasetTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.enterContext(tempfile.TemporaryDirectory())
    self.directory = self.put('imagenet2012/5.1.0')

  def put(self, name):
    """Copies the data set to a place under the data directory."""
    return shutil.copytree(_written, os.path.join(self.data_dir, name))

  def path(self, name):
    return os.path.join(self.directory, name)


class FindTest(DatasetTest):
  def test_the_version_need_not_be_named(self):
    self.assertEqual(
      dataset.find(self.data_dir, 'imagenet2012'), self.directory
    )

  def test_the_newest_version_is_taken_by_number(self):
    newest = self.put('imagenet2012/5.10.0')
    self.put('imagenet2012/5.9.0')
    self.assertEqual(dataset.find(self.data_dir, 'imagenet2012'), newest)

  def test_a_version_can_be_asked_for(self):
    self.put('imagenet2012/6.0.0')
    self.assertEqual(
      dataset.find(self.data_dir, 'imagenet2012/5.1.0'), self.directory
    )

  def test_a_configuration_is_part_of_the_name(self):
    configured = self.put('coco/2017/1.1.0')
    self.assertEqual(dataset.find(self.data_dir, 'coco/2017'), configured)
    with self.assertRaisesRegex(ValueError, 'configurations .*coco/2017'):
      dataset.find(self.data_dir, 'coco')

  def test_a_version_without_metadata_is_not_finished(self):
    os.mkdir(os.path.join(self.data_dir, 'imagenet2012', '9.0.0'))
    self.assertEqual(
      dataset.find(self.data_dir, 'imagenet2012'), self.directory
    )

  def test_what_is_missing_comes_with_the_command_that_prepares_it(self):
    with self.assertRaisesRegex(
      FileNotFoundError, 'launch.prepare_data --dataset=digits --data_dir='
    ):
      dataset.find(self.data_dir, 'digits')
    with self.assertRaisesRegex(FileNotFoundError, 'prepare_data'):
      dataset.find(os.path.join(self.data_dir, 'nowhere'), 'digits')


class VerifyTest(DatasetTest):
  def verify(self):
    dataset.verify(self.directory, splits=_SPLITS)

  def test_a_whole_data_set_passes(self):
    self.verify()

  def test_a_missing_directory_is_refused(self):
    with self.assertRaisesRegex(FileNotFoundError, 'found nothing'):
      dataset.verify(self.path('nowhere'), splits=_SPLITS)

  @parameterized.parameters('dataset_info.json', 'features.json')
  def test_a_directory_without_metadata_is_refused(self, name):
    os.remove(self.path(name))
    with self.assertRaisesRegex(ValueError, f'TFDS data set .* no {name}'):
      self.verify()

  @parameterized.parameters('dataset_info.json', 'features.json')
  def test_broken_metadata_is_refused(self, name):
    with open(self.path(name), 'w') as file:
      file.write('{"half": ')
    with self.assertRaisesRegex(ValueError, 'TFDS metadata'):
      self.verify()

  def test_another_file_format_is_refused(self):
    with open(self.path('dataset_info.json')) as file:
      info = json.load(file)
    info['fileFormat'] = 'tfrecord'
    with open(self.path('dataset_info.json'), 'w') as file:
      json.dump(info, file)
    with self.assertRaisesRegex(ValueError, 'array_record .* came tfrecord'):
      self.verify()

  def test_a_missing_shard_is_named(self):
    name = 'imagenet2012-train.array_record-00001-of-00003'
    os.remove(self.path(name))
    with self.assertRaisesRegex(ValueError, f'{name}.* 1 of them missing'):
      self.verify()

  def test_an_empty_shard_is_named(self):
    name = 'imagenet2012-validation.array_record-00002-of-00003'
    with open(self.path(name), 'wb'):
      pass
    with self.assertRaisesRegex(ValueError, f'empty, the first {name}'):
      self.verify()

  def test_a_wrong_count_says_what_came(self):
    with self.assertRaisesRegex(ValueError, "7 examples.*'train'.* came 6"):
      dataset.verify(self.directory, splits={'train': 7})


class SplitTest(DatasetTest):
  def test_records_come_in_the_order_they_were_written(self):
    split = dataset.Split(self.directory, 'train')
    self.assertLen(split, 6)
    labels = [split[i]['label'].int64_list.value[0] for i in range(6)]
    self.assertEqual(labels, list(range(6)))

  def test_images_are_kept_byte_for_byte(self):
    split = dataset.Split(self.directory, 'validation')
    for i in range(3):
      stored = split[i]['image'].bytes_list.value[0]
      self.assertEqual(stored, fake_imagenet.jpeg(i))

  def test_an_unknown_split_is_refused(self):
    with self.assertRaisesRegex(ValueError, "'test'.*'train', 'validation'"):
      dataset.Split(self.directory, 'test')

  def test_more_shards_may_be_open_than_the_soft_limit_allows(self):
    resource = _resource(self)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (255, hard))
    dataset.Split(self.directory, 'train')
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    self.assertGreater(allowed, 255)

  def test_too_many_shards_for_the_hard_limit_are_refused(self):
    resource = _resource(self)
    with (
      mock.patch.object(resource, 'getrlimit', return_value=(64, 128)),
      self.assertRaisesRegex(OSError, r'259 open files.* limit of 128'),
    ):
      dataset.Split(self.directory, 'train')


class FingerprintTest(DatasetTest):
  def test_a_copy_has_the_same(self):
    other = self.put('imagenet2012/7.0.0')
    self.assertEqual(
      dataset.fingerprint(other), dataset.fingerprint(self.directory)
    )

  def test_metadata_and_file_sizes_change_it(self):
    seen = {dataset.fingerprint(self.directory)}
    shard = 'imagenet2012-train.array_record-00001-of-00003'
    for name in ('dataset_info.json', 'features.json', shard):
      with open(self.path(name), 'ab') as file:
        file.write(b' ')
      seen.add(dataset.fingerprint(self.directory))
    self.assertLen(seen, 4)


class EvictTest(DatasetTest):
  def test_every_file_is_dropped_and_can_still_be_read(self):
    if not hasattr(os, 'posix_fadvise'):
      self.skipTest('the system cannot be asked')
    with mock.patch.object(os, 'posix_fadvise', wraps=os.posix_fadvise) as ask:
      self.assertTrue(dataset.evict(self.directory))
    self.assertEqual(ask.call_count, len(os.listdir(self.directory)))
    for call in ask.call_args_list:
      self.assertEqual(call.args[1:], (0, 0, os.POSIX_FADV_DONTNEED))
    self.assertLen(dataset.Split(self.directory, 'train'), 6)

  def test_no_file_stays_open(self):
    if not os.path.isdir('/proc/self/fd'):
      self.skipTest('open files cannot be counted')
    before = len(os.listdir('/proc/self/fd'))
    dataset.evict(self.directory)
    self.assertLen(os.listdir('/proc/self/fd'), before)

  def test_it_says_so_where_it_is_impossible(self):
    self.assertFalse(dataset.evict('gs://bucket/imagenet2012/5.1.0'))
    self.assertFalse(dataset.evict(self.path('nowhere')))
    with mock.patch.object(os, 'fsync', side_effect=OSError):
      self.assertFalse(dataset.evict(self.directory))


def _resource(test):
  try:
    import resource
  except ImportError:
    test.skipTest('the system has no such limits')
  return resource


if __name__ == '__main__':
  absltest.main()
