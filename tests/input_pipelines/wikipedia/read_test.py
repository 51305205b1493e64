"""Tests of batches of samples, in rows of their own or shared."""

import functools
import os

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.wikipedia import read as wikipedia
from tests import session
from tests.input_pipelines.wikipedia import random_text

ALONE = wikipedia.Shape(16, 24, 4)
SHARED = wikipedia.Shape(8, 48, 16, 4)
SIZE = 16


def _write(data_dir):
  folder = os.path.join(data_dir, 'text')
  os.makedirs(folder)
  random_text.write(data_dir, folder)


@functools.cache
def _directory():
  data_dir = session.once('wikipedia_read', _write)
  return os.path.join(data_dir, 'wikipedia_20200101', '1.0.0')


def _batches(shape, count, **how):
  how = {'seed': 5, 'threads': 0, **how}
  stream = wikipedia.train_batches(_directory(), shape, batch_size=SIZE, **how)
  return [next(stream) for _ in range(count)]


def _samples(batch):
  """The samples of a batch as tuples, in order."""
  found = []
  for row in range(len(batch['weight'])):
    for number in range(int(batch['weight'][row])):
      at = batch['segments'][row] == number + 1
      first = batch['first'][row, number]
      chosen = batch['predicted'][row][batch['predicted_weight'][row] > 0]
      labels = batch['labels'][row][: len(chosen)]
      within = at[chosen]
      found.append(
        (
          tuple(batch['tokens'][row][at]),
          tuple(batch['types'][row][at]),
          tuple(chosen[within] - first),
          tuple(labels[within]),
          int(batch['is_random'][row, number]),
        )
      )
  return found


class BatchesTest(parameterized.TestCase):
  def test_an_epoch_holds_every_sample_once(self):
    count = wikipedia.facts(_directory())['train']
    counts = wikipedia.counts(_directory())
    self.assertEqual(counts.sum(), count)
    self.assertTrue((counts < wikipedia.BLOCK).any(), 'a record is not full')
    plan = wikipedia._Plan(
      wikipedia.dataset.Split(_directory(), 'train'), ALONE, SIZE
    )
    epoch = plan._read(5, 0, count)
    whole = wikipedia.load(_directory(), 'train', count)
    for name in ('tokens', 'labels', 'length'):
      np.testing.assert_array_equal(
        np.sort(getattr(epoch, name)), np.sort(getattr(whole, name))
      )
    again = plan._read(5, count, count)
    self.assertFalse(np.array_equal(again.length, epoch.length))

  def test_samples_that_share_rows_are_those_that_do_not(self):
    """Over a window; which batch has which of them differs."""
    steps = wikipedia._WINDOW // SIZE
    alone, shared = (
      sorted(s for b in _batches(shape, steps) for s in _samples(b))
      for shape in (ALONE, SHARED)
    )
    self.assertEqual(alone, shared)

  def test_every_batch_has_as_many_samples(self):
    for batch in _batches(SHARED, 20):
      self.assertEqual(batch['weight'].sum(), SIZE)
      self.assertEqual(batch['sample_weight'].sum(), SIZE)
      used = batch['weight'] > 0
      # Rows of padding come last.
      self.assertEqual([*used], sorted(used, reverse=True))
      self.assertGreater(batch['weight'].max(), 1)

  def test_places_are_those_in_the_sample_and_segments_count_it(self):
    for batch in _batches(SHARED, 3):
      for row in range(len(batch['weight'])):
        at = batch['segments'][row]
        for number, first in enumerate(batch['first'][row], start=1):
          places = np.flatnonzero(at == number)
          if not len(places):
            continue
          self.assertEqual(places[0], first)
          np.testing.assert_array_equal(
            batch['positions'][row][places], np.arange(len(places))
          )
          self.assertEqual(batch['tokens'][row][first], 2)

  @parameterized.parameters(2, 4)
  def test_hosts_share_the_rows_of_one(self, hosts):
    whole = _batches(SHARED, 3)
    parts = [_batches(SHARED, 3, host=h, hosts=hosts) for h in range(hosts)]
    for step, batch in enumerate(whole):
      for name, rows in batch.items():
        np.testing.assert_array_equal(
          np.concatenate([part[step][name] for part in parts]), rows, name
        )

  def test_a_stream_resumes_at_any_step_and_follows_the_seed(self):
    whole, rest = _batches(SHARED, 6), _batches(SHARED, 2, first_step=4)
    for one, other in zip(whole[4:], rest, strict=True):
      np.testing.assert_array_equal(one['tokens'], other['tokens'])
    other = _batches(SHARED, 1, seed=6)[0]
    self.assertFalse(np.array_equal(other['tokens'], whole[0]['tokens']))

  def test_evals_hold_every_sample_once_and_pad_the_last_batch(self):
    samples = wikipedia.load(_directory(), 'eval', 21)
    shape = wikipedia.Shape(8, 24, 4)
    batches = list(wikipedia.eval_batches(samples, shape, count=21))
    self.assertEqual([b['weight'].sum() for b in batches], [8, 8, 5])
    lengths = [(b['segments'] > 0).sum(axis=1) for b in batches]
    np.testing.assert_array_equal(np.concatenate(lengths)[:21], samples.length)


class DealTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 2, 3)
  def test_batches_have_as_many_samples_and_nearly_as_many_rows(self, seed):
    rng = np.random.default_rng(seed)
    counts = rng.choice([1, 2, 3, 4, 8], 400, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    counts = np.append(counts, [1] * (-counts.sum() % 8))
    dealt = wikipedia.packing.deal(counts, 8, counts.sum() // 8)
    self.assertEqual(sorted(np.concatenate(dealt)), [*range(len(counts))])
    self.assertEqual({int(counts[d].sum()) for d in dealt},
                     {counts.sum() // 8})  # fmt: skip
    self.assertLessEqual(max(map(len, dealt)) - min(map(len, dealt)), 1)

  def test_rows_that_cannot_be_shared_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'rows of \[3\] samples'):
      wikipedia.packing.deal(np.array([3, 3, 3]), 2, 4)

  def test_the_published_lengths_leave_little_padding(self):
    """Half are full, the rest even: 2.03 samples in 512 tokens or fewer."""
    rng = np.random.default_rng(0)
    full = rng.random(8192) < 0.2
    lengths = np.where(full, 512, rng.integers(5, 460, 8192))
    self.assertLess(lengths.mean() / 512, 0.57)
    sides = np.stack([lengths, np.ones_like(lengths)], axis=1)
    rows = wikipedia.packing.pack(
      np.arange(8192), sides, (512, 8), window=wikipedia._PACKED
    )
    counts = np.diff(rows.ends, prepend=0)
    most = max(map(len, wikipedia.packing.deal(counts, 16, 512)))
    self.assertLess(1 - lengths.sum() / (16 * most * 512), 0.05)


class FaultsTest(absltest.TestCase):
  def test_another_data_set_is_refused_in_words(self):
    wikipedia.verify(_directory(), evaluated=21, vocabulary=17, length=24)
    for how, says in (
      ({'train': 10**6}, 'Expected 1000000 samples or more'),
      ({'evaluated': 22}, "Expected 22 samples in 'eval'"),
      ({'vocabulary': 30522}, 'Expected 30522 vocabulary'),
      ({'length': 512}, 'Expected 512 length'),
    ):
      with self.assertRaisesRegex(ValueError, says):
        wikipedia.verify(_directory(), **how)

  def test_too_many_samples_for_the_rows_are_told(self):
    shape = wikipedia.Shape(2, 48, 16, 4)
    with self.assertRaisesRegex(ValueError, 'plan for fewer samples a row'):
      _batches(shape, 1)

  def test_what_does_not_fit_a_row_is_told(self):
    samples = wikipedia.load(_directory(), 'eval', 2)
    with self.assertRaisesRegex(ValueError, 'Expected 1 samples or fewer'):
      wikipedia.fill(
        samples, np.array([0, 1]), np.array([0, 0]), ALONE, ALONE.rows
      )


if __name__ == '__main__':
  absltest.main()
