"""Tests of which records make up a batch."""

import itertools
import os
import pathlib
import shutil
from unittest import mock

from absl import flags
from absl.testing import absltest, parameterized
import grain
import numpy as np

from input_pipelines.reading import batching
from input_pipelines.reading.settings import Skips


def _stream(records, steps, *, batch_size=8, host=0, hosts=1, **kwargs):
  """The records of the first batches: [steps, batch_size / hosts]."""
  share = batching.Share(batch_size, host, hosts)
  rows = batching.training_rows(records, share, **kwargs)
  return np.stack([rows[step].records for step in range(steps)])


class TrainingRowsTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 2**31, 2**32 - 1)
  def test_an_epoch_holds_every_record_once_whatever_the_seed(self, seed):
    epochs = _stream(20, 15, seed=seed).reshape(6, 20)
    for epoch in epochs:
      np.testing.assert_array_equal(np.sort(epoch), np.arange(20))

  def test_every_epoch_has_an_order_of_its_own(self):
    epochs = _stream(40, 50, seed=5).reshape(10, 40)
    self.assertLen({tuple(epoch) for epoch in epochs}, 10)
    # Orders are unrelated to each other and to the order on disk.
    with_disk = np.vstack([epochs, np.arange(40)])
    others = np.corrcoef(with_disk)[~np.eye(11, dtype=bool)]
    self.assertLess(np.abs(others).mean(), 0.2)

  def test_neighbouring_seeds_share_no_epoch(self):
    orders = set()
    for seed in range(5):
      epochs = _stream(40, 25, seed=seed).reshape(5, 40)
      orders |= {tuple(epoch) for epoch in epochs}
    self.assertLen(orders, 25)

  def test_a_record_may_come_anywhere_in_an_epoch(self):
    # 10 orders of 4000 records: from each tenth of the data set, about 400
    # come in each tenth of an epoch.
    order = _stream(4000, 40, batch_size=1000, seed=1).reshape(10, 4000)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (np.arange(4000) // 400, order // 400), 1)
    self.assertGreater(counts.min(), 300)
    self.assertLess(counts.max(), 500)

  @parameterized.parameters(2, 4)
  def test_hosts_side_by_side_read_what_one_host_reads(self, hosts):
    alone = _stream(21, 9, seed=3)
    shares = [
      _stream(21, 9, seed=3, host=host, hosts=hosts) for host in range(hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), alone)

  def test_without_shuffling_records_come_in_the_order_on_disk(self):
    stream = _stream(5, 2, seed=0, shuffle=False)
    np.testing.assert_array_equal(stream.ravel(), np.arange(16) % 5)

  def test_a_batch_may_be_larger_than_the_data_set(self):
    stream = _stream(3, 1, seed=0, batch_size=9)
    np.testing.assert_array_equal(np.bincount(stream[0]), [3, 3, 3])

  def test_the_last_batch_of_an_epoch_is_padded_or_dropped_if_asked(self):
    share = batching.Share(8)
    mixed = _stream(21, 21, seed=3).reshape(8, 21)
    dropped = _stream(21, 4, seed=3, last=batching.DROPPED).reshape(2, 16)
    np.testing.assert_array_equal(dropped, mixed[:2, :16])
    rows = batching.training_rows(21, share, seed=3, last=batching.PADDED)
    for epoch in range(2):
      steps = [rows[3 * epoch + step] for step in range(3)]
      records = np.concatenate([each.records for each in steps])
      weight = np.concatenate([each.weight for each in steps])
      np.testing.assert_array_equal(records[:21], mixed[epoch])
      np.testing.assert_array_equal(records[21:], mixed[epoch, :3])
      np.testing.assert_array_equal(weight, [1] * 21 + [0] * 3)
    # A place in the stream belongs to one row, whatever becomes of the rest.
    self.assertEqual([rows[step].first for step in range(4)], [0, 8, 16, 24])

  @parameterized.product(last=(batching.PADDED, batching.DROPPED), hosts=(2, 4))
  def test_hosts_share_padded_epochs_and_cut_ones(self, last, hosts):
    alone = _stream(21, 9, seed=3, last=last)
    shares = [
      _stream(21, 9, seed=3, last=last, host=host, hosts=hosts)
      for host in range(hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), alone)

  def test_an_epoch_of_dropped_batches_alone_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'a batch of 7 or less'):
      _stream(7, 1, seed=0, last=batching.DROPPED)

  @parameterized.parameters(-1, 2**32)
  def test_a_seed_out_of_range_is_refused(self, seed):
    with self.assertRaisesRegex(ValueError, r'seed in \[0, 2\*\*32\)'):
      _stream(5, 1, seed=seed)

  def test_an_empty_split_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'records to train on'):
      _stream(0, 1, seed=0)


class ShareTest(parameterized.TestCase):
  @parameterized.parameters((8, 0, 3), (0, 0, 1), (-4, 0, 2))
  def test_a_batch_that_hosts_cannot_share_is_refused(self, size, host, hosts):
    with self.assertRaisesRegex(ValueError, 'global batch size'):
      batching.Share(size, host, hosts)

  @parameterized.parameters((8, 2, 2), (8, -1, 2), (8, 0, 0))
  def test_a_host_that_is_not_there_is_refused(self, size, host, hosts):
    with self.assertRaisesRegex(ValueError, 'Expected a host'):
      batching.Share(size, host, hosts)


class EvaluationRowsTest(parameterized.TestCase):
  @parameterized.product(records=(1, 7, 8, 9, 17), hosts=(1, 2, 4))
  def test_all_hosts_together_see_every_record_once(self, records, hosts):
    seen, lengths = [], set()
    for host in range(hosts):
      rows = batching.evaluation_rows(records, batching.Share(8, host, hosts))
      lengths.add(len(rows))
      for step in range(len(rows)):
        self.assertLen(rows[step].records, 8 // hosts)
        seen.extend(rows[step].records[rows[step].weight == 1])
    self.assertEqual(sorted(seen), list(range(records)))
    self.assertLen(lengths, 1)


class BatchesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.rows = batching.training_rows(50, batching.Share(4), seed=7)

  def read(self, rows):
    return {'record': rows.records, 'first': np.array(rows.first)}

  def take(self, count, *, threads=0, first_step=0):
    stream = batching.batches(
      self.rows,
      self.read,
      first_step=first_step,
      reading=batching.Reading(threads),
    )
    taken = list(itertools.islice(stream, count))
    return np.stack([batch['record'] for batch in taken])

  @parameterized.parameters(1, 2, 7)
  def test_threads_do_not_change_the_stream(self, threads):
    np.testing.assert_array_equal(
      self.take(40, threads=threads), self.take(40, threads=0)
    )

  @parameterized.parameters(1, 13, 10**9)
  def test_a_stream_can_begin_at_any_step(self, step):
    begun = self.take(5, first_step=step, threads=2)
    expected = np.stack([self.rows[step + i].records for i in range(5)])
    np.testing.assert_array_equal(begun, expected)

  def test_worker_processes_share_the_reading_and_end_with_the_stream(self):
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain's workers want it
    stream = batching.batches(
      self.rows,
      lambda rows: {'record': rows.records, 'process': np.array(os.getpid())},
      reading=batching.Reading(2, processes=2),
    )
    taken = list(itertools.islice(stream, 6))
    processes = {int(batch['process']) for batch in taken}
    self.assertLen(processes - {os.getpid()}, 2)
    np.testing.assert_array_equal(
      np.stack([batch['record'] for batch in taken]), self.take(6)
    )
    stream.close()
    for process in processes:
      with self.assertRaises(ProcessLookupError):
        os.kill(process, 0)

  def test_an_error_in_a_thread_reaches_the_reader(self):
    def read(rows):
      if rows.first == 8:
        raise ValueError('position 8 is broken')
      return self.read(rows)

    stream = batching.batches(self.rows, read, reading=batching.Reading(2))
    next(stream), next(stream)
    with self.assertRaisesRegex(ValueError, 'position 8 is broken'):
      next(stream)

  def test_no_more_than_a_batch_a_thread_is_read_ahead(self):
    with mock.patch.object(
      grain, 'ReadOptions', wraps=grain.ReadOptions
    ) as options:
      self.take(3, threads=2)
    options.assert_called_once_with(num_threads=2, prefetch_buffer_size=2)

  def test_a_small_shared_memory_is_refused_with_what_to_do(self):
    usage = mock.Mock(free=299)
    folder = self.create_tempdir().full_path
    with mock.patch.object(shutil, 'disk_usage', return_value=usage):
      batching.require_shared_memory(batching.Reading(), 10**9, folder)
      batching.require_shared_memory(batching.Reading(processes=1), 99, folder)
      with self.assertRaisesRegex(ValueError, 'docker run --shm-size'):
        batching.require_shared_memory(
          batching.Reading(processes=1), 100, folder
        )

  def test_what_cannot_be_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'first step from 0 on, got -1'):
      batching.batches(self.rows, self.read, first_step=-1)
    with self.assertRaisesRegex(ValueError, '0 threads or more, got -2'):
      batching.Reading(-2)
    with self.assertRaisesRegex(ValueError, '0 processes or more, got -1'):
      batching.Reading(processes=-1)
    with self.assertRaisesRegex(ValueError, 'no worker processes .* got 2'):
      batching.Reading(processes=2, skips=Skips(1))
    with self.assertRaisesRegex(ValueError, 'skip a record or more, got 0'):
      Skips(0)

  def test_skips_are_counted_once_each_up_to_a_limit(self):
    skips = Skips(2)
    error = ValueError('record 7 is broken')
    for record in (7, 3, 7, 7):
      skips.count(record, error)
    self.assertEqual(skips.records, [3, 7])
    with self.assertRaisesRegex(
      ValueError, 'skip 2 records at most, got 3: record 7 is broken'
    ):
      skips.count(8, error)

  @parameterized.parameters(np.uint8, np.float32)
  def test_zeros_begin_where_a_cpu_can_use_them_in_place(self, dtype):
    for _ in range(5):
      array = batching.zeros((3, 5, 7), dtype)
      self.assertEqual(array.ctypes.data % 64, 0)
      self.assertEqual((array.shape, array.dtype), ((3, 5, 7), dtype))
      self.assertTrue(array.flags.c_contiguous)
      self.assertFalse(array.any())

  def test_there_is_a_thread_for_a_core_up_to_a_limit(self):
    self.assertBetween(batching.default_threads(), 1, 16)


class CoresTest(parameterized.TestCase):
  @parameterized.parameters(
    ({}, None),
    ({'': 'max 100000'}, None),
    ({'': '100000 100000'}, 1),
    ({'a/b': '250000 100000', 'a': '150000 100000', '': 'max 100000'}, 2),
    ({'a/b': '50000 100000'}, 1),
    ({'a/b': 'nonsense'}, None),
    ({'a/other': '100000 100000'}, None),
  )
  def test_they_are_those_of_affinity_and_groups(self, quotas, least):
    directory = pathlib.Path(self.create_tempdir().full_path)
    (directory / 'proc' / 'self').mkdir(parents=True)
    (directory / 'proc/self/cgroup').write_text('1:cpu:/v1\n0::/a/b\n')
    for group, quota in quotas.items():
      (directory / 'groups' / group).mkdir(parents=True, exist_ok=True)
      (directory / 'groups' / group / 'cpu.max').write_text(quota)
    with mock.patch.object(os, 'sched_getaffinity', return_value=range(8)):
      found = batching.cores(str(directory / 'proc'), str(directory / 'groups'))
    self.assertEqual(found, least or 8)


if __name__ == '__main__':
  absltest.main()
