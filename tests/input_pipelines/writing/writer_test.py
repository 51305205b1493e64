"""Tests of writing a data set that can be stopped."""

import json
import os
import tempfile

from absl.testing import absltest
from array_record.python import array_record_module

from input_pipelines.writing import writer


class UnfinishedTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    data_dir = self.enterContext(tempfile.TemporaryDirectory())
    self.directory = os.path.join(data_dir, 'x', '1.0.0')

  def begin(self, **made):
    return writer.begin(self.directory, made)

  def fill(self, unfinished, name, records=(b'one', b'three')):
    with unfinished.shard(name) as write:
      for record in records:
        write(record)

  def test_shards_are_kept_and_moved_into_place_when_all_is_done(self):
    with self.begin(of='this') as unfinished:
      self.assertFalse(unfinished.is_done('a'))
      self.fill(unfinished, 'a')
      self.assertTrue(unfinished.is_done('a'))
      self.assertEqual(unfinished.record_bytes('a'), 8)
      self.assertFalse(os.path.exists(self.directory))
      unfinished.finish(['a'], {'md5': 'x'})
    self.assertCountEqual(os.listdir(self.directory), ['a', 'manifest.json'])
    with open(os.path.join(self.directory, 'manifest.json')) as file:
      self.assertEqual(json.load(file)['made'], {'of': 'this', 'md5': 'x'})
    reader = array_record_module.ArrayRecordReader(
      os.path.join(self.directory, 'a')
    )
    self.assertEqual(reader.read_all(), [b'one', b'three'])
    reader.close()

  def test_a_shard_that_is_stopped_does_not_count(self):
    with self.assertRaises(KeyboardInterrupt), self.begin() as unfinished:
      self.fill(unfinished, 'a')
      with unfinished.shard('b') as write:
        write(b'half')
        raise KeyboardInterrupt
    with self.begin() as unfinished:
      self.assertTrue(unfinished.is_done('a'))
      self.assertFalse(unfinished.is_done('b'))

  def test_a_shard_that_is_gone_is_not_done(self):
    with self.begin() as unfinished:
      self.fill(unfinished, 'a')
      os.remove(unfinished.path('data', 'a'))
      self.assertFalse(unfinished.is_done('a'))

  def test_what_fails_before_its_first_shard_leaves_nothing(self):
    with self.assertRaises(ValueError), self.begin():
      raise ValueError
    self.assertFalse(os.path.exists(os.path.dirname(self.directory)))

  def test_two_processes_do_not_write_the_same(self):
    with (
      self.begin(),
      self.assertRaisesRegex(BlockingIOError, 'Another process'),
      self.begin(),
    ):
      pass

  def test_going_on_with_something_else_is_refused(self):
    with self.begin(of=['this'], by='us') as unfinished:
      self.fill(unfinished, 'a')
    with (
      self.assertRaisesRegex(ValueError, 'the of differ.*this.*that'),
      self.begin(of=['that'], by='us'),
    ):
      pass
    with self.begin(of=['this'], by='us') as unfinished:
      self.assertTrue(unfinished.is_done('a'))

  def test_what_is_there_is_not_written_over(self):
    os.makedirs(self.directory)
    with self.assertRaisesRegex(FileExistsError, '1.0.0'), self.begin():
      pass

  def test_space_that_shards_take_already_is_not_asked_for_again(self):
    with self.begin() as unfinished:
      with self.assertRaisesRegex(OSError, 'GB free'):
        unfinished.require_space(2**60)
      self.fill(unfinished, 'a')
      unfinished.require_space(1)

  def test_a_place_where_no_shard_can_be_written_is_named(self):
    with self.begin() as unfinished:
      os.makedirs(unfinished.path('partial', 'a'))  # a directory in its place
      with self.assertRaisesRegex(OSError, 'Cannot write .*partial/a'):
        self.fill(unfinished, 'a')


if __name__ == '__main__':
  absltest.main()
