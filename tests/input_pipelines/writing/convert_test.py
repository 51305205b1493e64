"""Tests of rewriting a data set as ArrayRecord."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from absl.testing import absltest, parameterized
from array_record.python import array_record_module

from input_pipelines.reading import dataset, shards, tfrecord
from input_pipelines.writing import convert
from tests.input_pipelines.imagenet import fake_imagenet
from tests.input_pipelines.reading import fake_bucket

_SPLITS = {'train': 11, 'validation': 3}
_SHARD = 'imagenet2012-train.tfrecord-00001-of-00003'

# Converts, but every record waits to be told.
_SLOW = """
import sys
from input_pipelines.writing import convert
def change(record):
  if len(seen) == 5:
    print('begun', flush=True)
    sys.stdin.read()
  seen.append(record)
  return record
seen = []
convert.convert(*sys.argv[1:], change=change, threads=1)
"""


def setUpModule():
  global _data_dir, _arrays, _frames
  _data_dir = tempfile.mkdtemp()
  _arrays, _frames = fake_imagenet.write_both(_data_dir, _SPLITS)


def tearDownModule():
  shutil.rmtree(_data_dir)


class ConvertTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enterContext(tempfile.TemporaryDirectory())
    self.source = shutil.copytree(_frames, os.path.join(self.root, 'source'))
    self.target = os.path.join(self.root, 'new', 'imagenet2012', '5.1.0')
    self.incomplete = self.target + '.incomplete'

  def convert(self, source=None, **options):
    return convert.convert(source or self.source, self.target, **options)

  def assert_converted(self, change=lambda record: record):
    dataset.verify(self.target, splits=_SPLITS)
    for split in _SPLITS:
      expected = [change(r) for r in dataset.Split(_arrays, split)._records]
      self.assertEqual(
        list(dataset.Split(self.target, split)._records), expected
      )
    self.assertFalse(os.path.exists(self.incomplete))


class WholeTest(ConvertTest):
  def test_records_shards_and_metadata_are_those_of_array_record(self):
    self.assertEqual(self.convert(uncompressed=True), self.target)
    self.assert_converted()
    self.assertEqual(
      sorted(os.listdir(self.target)),
      sorted([*os.listdir(_arrays), 'manifest.json']),
    )
    for name in ('dataset_info.json', 'features.json'):
      texts = [
        json.load(open(os.path.join(place, name)))  # noqa: SIM115
        for place in (_arrays, self.target)
      ]
      self.assertEqual(*texts)

  def test_array_record_is_rewritten_too(self):
    self.convert(_arrays)
    self.assert_converted()

  @parameterized.parameters('arrays', 'frames')
  def test_a_source_may_lie_in_a_bucket(self, format_):
    with fake_bucket.serve(_data_dir) as bucket:
      self.convert(dataset.find(f'{bucket.url}/{format_}', 'imagenet2012'))
    self.assert_converted()

  def test_other_files_come_along_and_the_index_does_not(self):
    with open(os.path.join(self.source, 'label.labels.txt'), 'w') as file:
      file.write('cat\ndog\n')
    self.convert()
    with open(os.path.join(self.target, 'label.labels.txt')) as file:
      self.assertEqual(file.read(), 'cat\ndog\n')
    self.assertNotIn(tfrecord.INDEX, os.listdir(self.target))

  def test_a_change_is_made_to_every_record_and_sizes_follow(self):
    field = b'\x0a\x00'  # more features, none of them
    self.convert(change=lambda record: record + field)
    self.assert_converted(lambda record: record + field)
    before, after = (
      dataset.load(d).info.splits for d in (_arrays, self.target)
    )
    for split, records in _SPLITS.items():
      self.assertEqual(
        after[split].num_bytes, before[split].num_bytes + 2 * records
      )

  @parameterized.parameters(True, False)
  def test_single_records_can_be_read_and_are_packed_as_asked(self, plain):
    self.convert(uncompressed=plain)
    for name in os.listdir(self.target):
      if 'array_record' in name:
        reader = array_record_module.ArrayRecordReader(
          os.path.join(self.target, name)
        )
        options = reader.writer_options_string()
        self.assertIn('group_size:1,', options)
        self.assertEqual('uncompressed' in options, plain)

  def test_progress_ends_with_all_records(self):
    told = []
    self.convert(progress=lambda *at: told.append(at))
    self.assertEqual(told[-1], (14, 14))
    self.assertEqual(told, sorted(told))

  def test_several_shards_are_under_way_at_once(self):
    together = threading.Barrier(2, timeout=20)
    met = set()

    def change(record):
      if threading.get_ident() not in met:
        met.add(threading.get_ident())
        together.wait()
      return record

    self.convert(change=change, threads=2)
    self.assert_converted()


class RefusalTest(ConvertTest):
  def expect(self, kind, text, **options):
    with self.assertRaisesRegex(kind, text):
      self.convert(**options)
    self.assertFalse(os.path.exists(self.target))

  def test_a_target_that_is_there_is_left_alone(self):
    os.makedirs(self.target)
    with self.assertRaisesRegex(FileExistsError, 'Expected nothing'):
      self.convert()

  def test_a_target_in_a_bucket_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'on a disk .* gs://'):
      convert.convert(self.source, 'gs://bucket/imagenet2012/5.1.0')

  def test_a_missing_shard_is_named(self):
    os.remove(os.path.join(self.source, _SHARD))
    self.expect(ValueError, f'{_SHARD}, got no such file')

  def test_an_empty_shard_is_named(self):
    os.truncate(os.path.join(self.source, _SHARD), 0)
    self.expect(ValueError, f'{_SHARD}, got an empty file')

  def test_a_cut_shard_is_named(self):
    os.truncate(os.path.join(self.source, _SHARD), 100)
    self.expect(shards.CorruptRecordError, f'Record 0 of .*{_SHARD}')

  def test_a_shard_with_too_few_records_is_named(self):
    path = os.path.join(self.source, _SHARD)
    with open(path, 'rb') as file:
      first = int.from_bytes(file.read(8), 'little') + 16
    os.truncate(path, first)
    self.expect(shards.CorruptRecordError, rf'records in .*{_SHARD}, got 1')

  def test_a_record_that_cannot_be_changed_is_named(self):
    bad = list(tfrecord.read(os.path.join(self.source, _SHARD)))[2]

    def change(record):
      if record == bad:
        raise ValueError('no JPEG')
      return record

    self.expect(
      shards.CorruptRecordError,
      f'Record 2 of .*{_SHARD} cannot be changed: no JPEG',
      change=change,
    )

  def test_a_source_that_changes_meanwhile_is_noticed(self):
    def change(record):
      with open(os.path.join(self.source, 'features.json'), 'a') as file:
        file.write(' ')
      return record

    self.expect(ValueError, 'to stay as it was', change=change)


class ResumeTest(ConvertTest):
  def stop_after(self, records):
    """A conversion that ends in the middle, as if by Ctrl-C."""
    seen = []

    def change(record):
      if len(seen) == records:
        raise KeyboardInterrupt
      seen.append(record)
      return record

    with self.assertRaises(KeyboardInterrupt):
      self.convert(change=change, threads=1)
    self.assertFalse(os.path.exists(self.target))
    self.assertTrue(os.path.exists(self.incomplete))

  def test_what_was_done_is_not_done_again(self):
    self.stop_after(6)
    seen, told = [], []

    def change(record):
      seen.append(record)
      return record

    self.convert(change=change, progress=lambda *at: told.append(at))
    self.assert_converted()
    self.assertEqual(len(seen), 14 - 4)  # the first shard holds 4
    self.assertEqual(told[-1], (14, 14))

  def test_a_source_that_changed_in_between_is_refused(self):
    self.stop_after(6)
    with open(os.path.join(self.source, 'features.json'), 'a') as file:
      file.write(' ')
    with self.assertRaisesRegex(ValueError, 'source_fingerprint'):
      self.convert(change=lambda record: record)
    self.assertFalse(os.path.exists(self.target))

  def test_other_options_are_refused(self):
    self.stop_after(6)
    for options in (
      {'uncompressed': True, 'change': bytes},
      {'change': None},
      {'change': bytes, 'made': {'restart_markers': True}},
    ):
      with self.assertRaisesRegex(ValueError, 'start again'):
        self.convert(**options)

  def test_a_killed_conversion_is_gone_on_with(self):
    with subprocess.Popen(
      [sys.executable, '-c', _SLOW, self.source, self.target],
      cwd=pathlib.Path(__file__).parents[3],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
    ) as process:
      self.assertEqual(process.stdout.readline(), b'begun\n')
      process.send_signal(signal.SIGKILL)
    self.assertFalse(os.path.exists(self.target))
    seen = []

    def change(record):
      seen.append(record)
      return record

    self.convert(change=change)
    self.assert_converted()
    self.assertLess(len(seen), 14)


if __name__ == '__main__':
  absltest.main()
