"""Tests of finding, checking, opening and evicting a data set directory."""

from concurrent import futures
import json
import os
import random
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
from array_record.python import array_record_module
import cloudpickle

from input_pipelines.reading import dataset, tfrecord
from tests.input_pipelines.imagenet import fake_imagenet

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

  def change_metadata(self, **changes):
    with open(self.path('dataset_info.json')) as file:
      info = json.load(file)
    with open(self.path('dataset_info.json'), 'w') as file:
      json.dump({**info, **changes}, file)

  def write_manifest(self, files):
    with open(self.path('manifest.json'), 'w') as file:
      json.dump({'format': 1, 'files': files}, file)


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

  def test_the_set_itself_or_a_version_of_it_is_understood(self):
    for given in (os.path.dirname(self.directory), self.directory):
      self.assertEqual(dataset.find(given, 'imagenet2012'), self.directory)

  def test_a_folder_too_high_or_too_low_is_told_the_right_one(self):
    high = os.path.join(self.data_dir, 'high')
    data = os.path.join(high, 'data')
    os.makedirs(data)
    shutil.move(os.path.join(self.data_dir, 'imagenet2012'), f'{data}/')
    for given in (high, os.path.join(data, 'elsewhere')):
      with self.assertRaisesRegex(
        FileNotFoundError, f'Did you mean --data_dir={data}[?]'
      ):
        dataset.find(given, 'imagenet2012')

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

  def test_a_shard_that_may_not_be_read_is_refused_by_name(self):
    self.verify()
    # Root may read everything, so the system's word is stood in for.
    access = mock.patch.object(
      os, 'access', lambda path, mode: not path.endswith('00001-of-00003')
    )
    with access, self.assertRaisesRegex(PermissionError, '00001-of-00003, and'):
      self.verify()

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
    self.change_metadata(fileFormat='riegeli')
    with self.assertRaisesRegex(ValueError, 'array_record .* got riegeli'):
      self.verify()
    with self.assertRaisesRegex(ValueError, 'array_record .* got riegeli'):
      dataset.Split(self.directory, 'train')

  def test_a_shard_that_was_cut_off_is_named(self):
    name = 'imagenet2012-train.array_record-00001-of-00003'
    os.truncate(self.path(name), 65536 + 4096)
    with self.assertRaisesRegex(ValueError, f'65536 bytes in {name}.* 69632'):
      self.verify()

  def test_the_manifest_names_what_changed_in_size(self):
    name = 'imagenet2012-train.array_record-00001-of-00003'
    size = os.path.getsize(self.path(name))
    self.write_manifest({name: {'bytes': size, 'sha256': ''}})
    self.verify()
    os.truncate(self.path(name), 65536)
    with self.assertRaisesRegex(ValueError, f'{size} bytes in {name}.* 65536'):
      self.verify()

  def test_the_manifest_names_what_is_missing(self):
    self.write_manifest({'labels.txt': {'bytes': 4, 'sha256': ''}})
    with self.assertRaisesRegex(ValueError, 'labels.txt.* no such file'):
      self.verify()

  @parameterized.parameters('{"half": ', '{}', '{"files": {"a": 7}}', '[]')
  def test_a_broken_manifest_is_refused(self, text):
    with open(self.path('manifest.json'), 'w') as file:
      file.write(text)
    with self.assertRaisesRegex(ValueError, 'manifest of files in .*manifest'):
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
    with self.assertRaisesRegex(ValueError, "7 examples.*'train'.* got 6"):
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

  def test_slices_of_splits_can_be_opened(self):
    split = dataset.Split(self.directory, 'train[1:3]+train[5:]')
    self.assertEqual([_label(split[i]) for i in range(3)], [1, 2, 5])
    self.assertLen(split, 3)

  def test_several_records_come_in_the_order_asked(self):
    split = dataset.Split(self.directory, 'train')
    labels = [_label(each) for each in split.records([4, 0, 5, 0])]
    self.assertEqual(labels, [4, 0, 5, 0])

  @parameterized.parameters(-1, 6)
  def test_there_are_no_records_beyond_the_ends(self, index):
    split = dataset.Split(self.directory, 'train')
    with self.assertRaisesRegex(IndexError, rf'\[0, 6\), got {index}'):
      _ = split[index]

  def test_an_empty_split_is_refused(self):
    for empty in ('train[:0]', 'train[3:3]'):
      with self.assertRaisesRegex(ValueError, 'train.* got'):
        dataset.Split(self.directory, empty)
    with open(self.path('dataset_info.json')) as file:
      splits = json.load(file)['splits']
    splits[0] |= {'shardLengths': ['0'], 'numBytes': '0'}
    self.change_metadata(splits=splits)
    with self.assertRaisesRegex(ValueError, "split 'train'|got 'train'"):
      dataset.Split(self.directory, 'train')

  def test_another_process_gets_it_pickled(self):
    split = dataset.Split(self.directory, 'train')
    _ = split[3]
    other = cloudpickle.loads(cloudpickle.dumps(split))
    self.assertEqual(_label(other[3]), 3)
    self.assertLess(len(cloudpickle.dumps(split)), 10000)

  def test_threads_share_it(self):
    split = dataset.Split(self.directory, 'train')
    with futures.ThreadPoolExecutor(8) as pool:
      labels = pool.map(lambda i: _label(split[i % 6]), range(600))
    self.assertEqual(list(labels), [i % 6 for i in range(600)])

  def test_an_unusable_record_is_named_with_its_place_in_its_shard(self):
    split = dataset.Split(self.directory, 'train[1:]')
    name = 'imagenet2012-train.array_record-00002-of-00003'
    self.assertRegex(
      str(split.corrupt(4, 'it is odd.')),
      rf"Record 4 of the split 'train\[1:\]'.*record 1 of {name}.*it is odd",
    )

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


class FaultTest(DatasetTest):
  """Errors of a reader whose files are not what they were."""

  shard = 'imagenet2012-train.array_record-00001-of-00003'

  def expect(self, kind, text, split=None):
    split = split or dataset.Split(self.directory, 'train')
    with self.assertRaisesRegex(kind, text):
      _ = split[2]
    with self.assertRaisesRegex(kind, text):
      split.records([0, 2])

  def test_a_record_with_a_wrong_byte_is_named(self):
    with open(self.path(self.shard), 'r+b') as file:
      file.seek(200)  # in the first record of the shard
      byte = file.read(1)[0]
      file.seek(200)
      file.write(bytes([byte ^ 1]))
    self.expect(dataset.CorruptRecordError, f'Record 0 of .*{self.shard}')
    self.assertEqual(_label(dataset.Split(self.directory, 'train')[3]), 3)

  @parameterized.parameters(0, 1000, 65536, 65537, 131071)
  def test_a_shard_that_was_cut_off_is_named(self, size):
    os.truncate(self.path(self.shard), size)
    self.expect(dataset.CorruptRecordError, f'2 records in .*{self.shard}')

  def test_a_shard_of_noise_is_named(self):
    size = os.path.getsize(self.path(self.shard))
    with open(self.path(self.shard), 'wb') as file:
      file.write(random.Random(0).randbytes(size))
    self.expect(dataset.CorruptRecordError, f'2 records in .*{self.shard}')

  def test_a_shard_with_other_records_is_named(self):
    other = 'imagenet2012-validation.array_record-00001-of-00003'
    shutil.copy(self.path(other), self.path(self.shard))
    self.expect(dataset.CorruptRecordError, f'2 .*{self.shard}, got 1')

  def test_a_shard_that_is_gone_is_named(self):
    os.remove(self.path(self.shard))
    self.expect(FileNotFoundError, f'Record 0 of .*{self.shard}.* No such file')

  def test_a_folder_in_place_of_a_shard_is_named(self):
    os.remove(self.path(self.shard))
    os.mkdir(self.path(self.shard))
    self.expect(IsADirectoryError, f'{self.shard}.* Is a directory')

  def test_a_shard_that_may_not_be_read_is_named(self):
    os.chmod(self.path(self.shard), 0)
    if os.access(self.path(self.shard), os.R_OK):
      self.skipTest('this user may read everything')
    self.expect(PermissionError, f'{self.shard}.* Permission denied')

  def test_a_shard_that_shrinks_while_it_is_open_is_named(self):
    split = dataset.Split(self.directory, 'train')
    self.assertEqual(_label(split[2]), 2)
    os.truncate(self.path(self.shard), 0)
    self.expect(
      dataset.CorruptRecordError, f'Record 0 of .*{self.shard}', split
    )

  def test_a_shard_that_is_removed_while_it_is_open_can_still_be_read(self):
    split = dataset.Split(self.directory, 'train')
    self.assertEqual(_label(split[2]), 2)
    os.remove(self.path(self.shard))
    self.assertEqual(_label(split[2]), 2)

  def test_a_record_that_is_no_example_is_named(self):
    writer = array_record_module.ArrayRecordWriter(
      self.path(self.shard), 'group_size:1'
    )
    for record in (b'\xff\xff', b'\xff'):
      writer.write(record)
    writer.close()
    self.expect(dataset.CorruptRecordError, f'record 0 of {self.shard}')


class FingerprintTest(DatasetTest):
  def test_a_copy_has_the_same(self):
    other = self.put('imagenet2012/7.0.0')
    self.assertEqual(
      dataset.fingerprint(other), dataset.fingerprint(self.directory)
    )

  def test_what_describes_the_files_does_not_count(self):
    before = dataset.fingerprint(self.directory)
    for name in ('manifest.json', tfrecord.INDEX):
      with open(self.path(name), 'w') as file:
        file.write('any')
    self.assertEqual(dataset.fingerprint(self.directory), before)

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

  def test_of_a_data_set_in_a_bucket_the_system_keeps_no_pages(self):
    self.assertTrue(dataset.evict('gs://bucket/imagenet2012/5.1.0'))

  def test_it_says_so_where_it_is_impossible(self):
    self.assertFalse(dataset.evict(self.path('nowhere')))
    with mock.patch.object(os, 'fsync', side_effect=OSError):
      self.assertFalse(dataset.evict(self.directory))


def _label(features):
  return features['label'].int64_list.value[0]


def _resource(test):
  try:
    import resource
  except ImportError:
    test.skipTest('the system has no such limits')
  return resource


if __name__ == '__main__':
  absltest.main()
