"""Tests of the steps from day files to records, against the reference's own.

Golden numbers are of `data_utils.py` of facebookresearch/dlrm at 6d75c84d and
of torchrec/datasets/criteo.py with mlcommons/training's multi_hot.py, run on
the days that `sample` writes.
"""

import dataclasses
import gzip
import hashlib
import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import pytest

from input_pipelines.criteo import (
  days,
  numbering,
  prepare,
  read,
  scratch,
  shuffle,
)
from input_pipelines.reading import dataset
from input_pipelines.writing import recipe, verify
from tests.input_pipelines.criteo import sample

_SHARDS = {'train': 3, 'test': 2}
_ONE = prepare.Version('one')
_SEVERAL = prepare.Version('several', read.HOTS, cap=60)
_TRAIN, _TEST = 524, 11
_MD5 = {
  'day_0_labels.npy': '805f61797927ec50c3d6cc8e375d8f2c',
  'day_0_sparse.npy': 'e0ac4d8f1d15beb86a460d2978ed2a25',
  'day_22_labels.npy': '0917de8b55a340fa9502ca35b6eda42d',
  'day_22_sparse.npy': '82ec7653861a5a437d0d729f8d7eda65',
}


def _digest(*arrays: np.ndarray) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(np.ascontiguousarray(array, '<i4').tobytes())
  return digest.hexdigest()[:16]


def _rows(directory: str, split: str) -> np.ndarray:
  """Label, counts and ids: int32 [N, 40]."""
  clicks = read.load(directory)
  return np.concatenate([*clicks.runs(split, 0, clicks.rows(split))])


def _sorted(rows: np.ndarray) -> np.ndarray:
  return rows[np.lexsort(rows.T)]


class PrepareTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.days = cls.enterClassContext(tempfile.TemporaryDirectory())
    sample.write(cls.days)
    order = recipe.Order(
      cls.enterClassContext(tempfile.TemporaryDirectory()), cls.days
    )
    cls.whole = {
      version.name: prepare.build(order, version, shards=_SHARDS)
      for version in (_ONE, _SEVERAL)
    }

  def setUp(self):
    super().setUp()
    self.data_dir = self.create_tempdir().full_path

  def order(self, **how):
    return recipe.Order(self.data_dir, self.days, **how)

  def build(self, version, **how):
    return prepare.build(self.order(), version, shards=_SHARDS, **how)

  def test_one_id_is_that_of_the_reference(self):
    directory = self.whole['one']
    train, test = (_rows(directory, split) for split in read.ROWS)
    self.assertEqual((len(train), len(test)), (_TRAIN, _TEST))
    # Its order to train in is not seeded, that of the test is the day's.
    self.assertEqual(_digest(_sorted(train)), '8c183cf7e54b206c')
    self.assertEqual(_digest(test), '918244715d0a8404')
    tables = read.facts(directory).tables
    self.assertEqual(read.facts(directory).log_offset, 1)
    self.assertEqual(_digest(tables), '375f303f7e831d0f')
    self.assertEqual(tables[3], 26)  # a value less than appear: it is modulo

  def test_several_ids_and_their_order_are_those_of_the_reference(self):
    clicks = read.load(self.whole['several'])
    train = clicks.batch('train', 0, _TRAIN, _TRAIN)
    test = clicks.batch('test', 0, _TEST, _TEST)
    self.assertEqual(_digest(train['ids']), '298fcef056431809')
    self.assertEqual(_digest(train['label']), 'c5c00ee8ae86b6fc')
    self.assertEqual(_digest(test['ids']), 'e62f7d5eaf1915a3')
    self.assertEqual(_digest(test['label']), '7ec124cd65bc5419')
    for batch, total in ((train, 12254.956365346909), (test, 234.722005128860)):
      self.assertAlmostEqual(batch['dense'].sum(dtype=float), total, delta=1e-3)

  def test_the_order_to_train_in_is_random_and_the_same_again(self):
    first = _rows(self.whole['one'], 'train')
    np.testing.assert_array_equal(_rows(self.build(_ONE), 'train'), first)
    with open(os.path.join(self.days, 'day_0'), 'rb') as file:
      lines = days.lines.parse(file.read())
    # Days are mixed: clicks of the first are in no place of their own.
    where = [
      np.flatnonzero((first[:, 1:14] == np.maximum(counts, 0)).all(1))
      for counts in lines.counts
    ]
    places = np.sort(np.concatenate(where))
    self.assertLess(places[0], 100)
    self.assertGreater(places[-1], 424)

  def test_ids_of_the_full_size_are_rounded_to_float32_but_for_the_test(self):
    numbers = np.array([[2**24 - 2, 2**24 - 1, 2**24 + 1, 291_775_613]])
    numbers = np.broadcast_to(numbers.T, (4, 26)).astype(np.uint32)
    for train, expected in (
      # As NumPy's float32 has 16777217, 16777219 and 291775615.
      (True, [16777216, 16777216, 16777220, 291775616 - 280_000_000]),
      (False, [16777216, 16777217, 16777219, 291775615 - 280_000_000]),
    ):
      rows = np.empty(4, shuffle.ROW)
      rows['ids'] = prepare.MULTI_HOT.numbers(numbers, train=train)
      ids = prepare.MULTI_HOT.ids(rows['ids'], [40_000_000] * 26)
      self.assertEqual(ids.dtype, np.int32)
      self.assertEqual(ids[:, 7].tolist(), expected)

  def test_values_of_one_id_alone_are_taken_modulo_before_they_are_numbered(
    self,
  ):
    limits = prepare.ONE_HOT.limit, prepare.MULTI_HOT.limit
    self.assertEqual(limits, (40_000_000, 2**32))  # of 32 bits: all

  def test_sums_are_those_of_the_files_that_the_reference_writes(self):
    version = dataclasses.replace(_SEVERAL, published=_MD5)
    directory = self.build(version)
    self.assertEqual(
      dataset.fingerprint(directory), dataset.fingerprint(self.whole['several'])
    )
    for name in ('day_0_sparse.npy', 'day_22_labels.npy'):
      self.data_dir = self.create_tempdir().full_path
      wrong = dataclasses.replace(version, published={**_MD5, name: 'f00'})
      with self.assertRaisesRegex(ValueError, f'MD5 f00 of {name}, .* got'):
        self.build(wrong)
      order = self.order(check_downloads=False)
      prepare.build(order, wrong, shards=_SHARDS)  # resumes

  def stop(self, version, owner, name, calls):
    """Stops a build in a step, and resumes it."""
    real, made = getattr(owner, name), []

    def stops(*args):
      if len(made) == calls:
        raise KeyboardInterrupt
      made.append(args)
      return real(*args)

    with (
      mock.patch.object(owner, name, stops),
      self.assertRaises(KeyboardInterrupt),
    ):
      prepare.build(self.order(threads=1), version, shards=_SHARDS)
    resumed = self.build(version)
    expected = self.whole[version.name]
    self.assertEqual(
      dataset.fingerprint(resumed), dataset.fingerprint(expected)
    )
    for split in read.ROWS:
      np.testing.assert_array_equal(
        _rows(resumed, split), _rows(expected, split)
      )

  @parameterized.parameters(
    (_ONE, shuffle.Buckets, '_scatter', 23),
    (_SEVERAL, shuffle.Buckets, 'read', 2),
  )
  def test_stopped_it_resumes_to_the_same_bytes(self, *where):
    self.stop(*where)

  @parameterized.parameters(
    (_ONE, days, '_parse_day', 5),
    (_ONE, numbering, '_number', 9),
    (_SEVERAL, shuffle.Buckets, '_scatter', 7),
    (_ONE, read, 'described', 3),
  )
  @pytest.mark.slow
  def test_stopped_anywhere_it_resumes_to_the_same_bytes(self, *where):
    self.stop(*where)

  def test_what_was_done_is_not_done_again(self):
    with (
      mock.patch.object(shuffle.Buckets, 'fill', side_effect=KeyboardInterrupt),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.build(_ONE)
    with (
      mock.patch.object(days, '_parse_day', side_effect=AssertionError),
      mock.patch.object(numbering, '_number', side_effect=AssertionError),
    ):
      self.build(_ONE)

  def test_what_is_whole_is_verified_and_nothing_else_is_left(self):
    directory = self.build(_ONE)
    facts = read.facts(directory)
    made = prepare.recipe_of(
      _ONE,
      summary='',
      licence='',
      bytes=0,
      rows={'train': _TRAIN, 'test': _TEST},
      tables=facts.tables,
      shards=_SHARDS,
    )
    made.verify(directory)
    self.assertEqual(made.splits, _SHARDS)
    checked = verify.records(directory, made.splits, made.check)
    self.assertEqual(checked, 5)
    self.assertEqual(os.listdir(self.data_dir), ['one'])
    self.assertEqual(os.listdir(os.path.join(self.data_dir, 'one')), ['1.0.0'])

  @parameterized.parameters(
    ({'rows': {'train': 525, 'test': 11}}, "'train': 525.*'train': 524"),
    ({'tables': [3] * 26}, 'Expected tables of .* rows, got'),
  )
  def test_other_clicks_than_expected_are_refused(self, how, words):
    with self.assertRaisesRegex(ValueError, words):
      self.build(_ONE, **how)
    self.assertFalse(os.path.exists(os.path.join(self.data_dir, 'one/1.0.0')))

  def test_the_middle_click_of_an_odd_last_day_is_for_evals(self):
    folder = self.create_tempdir().full_path
    shutil.copytree(self.days, folder, dirs_exist_ok=True)
    path = os.path.join(folder, 'day_23')
    with open(path, 'rb') as file:
      lines = file.read().splitlines(keepends=True)
    with open(path, 'wb') as file:
      file.write(b''.join(lines[:-1]))
    order = recipe.Order(self.data_dir, folder)
    facts = read.facts(prepare.build(order, _ONE, shards=_SHARDS))
    self.assertEqual((len(lines) - 1, facts.test), (21, 11))

  def test_a_day_that_lacks_is_named(self):
    folder = self.create_tempdir().full_path
    shutil.copytree(self.days, folder, dirs_exist_ok=True)
    os.remove(os.path.join(folder, 'day_7.gz'))
    order = recipe.Order(self.data_dir, folder)
    with self.assertRaisesRegex(FileNotFoundError, r'day_7 or .*day_7\.gz'):
      prepare.build(order, _ONE, shards=_SHARDS)

  @parameterized.parameters(
    (lambda gz: gz[: len(gz) // 2], 'Expected a whole gzip file in .*day_4.gz'),
    (lambda gz: gz[:40] + b'xx' + gz[42:], 'day_4.gz'),
    (lambda gz: b'no gzip at all', 'Expected a whole gzip file in .*day_4.gz'),
    (lambda gz: gzip.compress(b''), 'Expected clicks in .*day_4.gz, got an em'),
    (
      lambda gz: gzip.compress(gzip.decompress(gz)[:-20]),
      'day_4.gz: Expected a label .* in line 24, got',
    ),
  )
  def test_a_broken_day_is_named(self, broken, words):
    folder = self.create_tempdir().full_path
    shutil.copytree(self.days, folder, dirs_exist_ok=True)
    path = os.path.join(folder, 'day_4.gz')
    with open(path, 'rb') as file:
      text = file.read()
    with open(path, 'wb') as file:
      file.write(broken(text))
    order = recipe.Order(self.data_dir, folder)
    with self.assertRaisesRegex(ValueError, words):
      prepare.build(order, _ONE, shards=_SHARDS)

  def test_a_disk_without_room_is_refused_at_once(self):
    with self.assertRaisesRegex(OSError, r'Expected .* GB free'):
      self.build(_ONE, rows={'train': 10**15, 'test': 1})

  def test_a_bucket_that_lost_clicks_is_noticed(self):
    buckets = shuffle.Buckets(self.data_dir, [10])
    rows = np.zeros(10, shuffle.ROW)
    for places in (np.arange(9), np.array([0, *range(9)])):
      rows[: len(places)]['place'] = places
      rows[: len(places)].tofile(os.path.join(self.data_dir, 'bucket_00000'))
      with self.assertRaisesRegex(ValueError, 'Expected 10 clicks, each at'):
        buckets.read(0)


class DaysTest(absltest.TestCase):
  def test_pieces_of_any_size_come_to_the_same_columns(self):
    folder = self.create_tempdir().full_path
    sample.write(folder)
    paths = days.find(folder)
    found = []
    for piece, parsed in ((1 << 23, 4096), (1000, 3), (300, 1)):
      with (
        mock.patch.object(days, '_PIECE', piece),
        mock.patch.object(days, '_PARSED', parsed),
      ):
        made = days.parse(paths, self.create_tempdir().full_path)
      found.append([np.array(made[4].column(c)) for c in range(26)])
      self.assertEqual(made[5].least, -2)
    for others in found[1:]:
      for column, other in zip(found[0], others, strict=True):
        np.testing.assert_array_equal(column, other)


class NumbersTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 600, 5000, 2**32)
  def test_values_are_numbered_in_order_of_first_appearance(self, limit):
    draws = np.random.default_rng(limit)
    numbers, expected = numbering.Numbers(), {}
    for _ in range(6):
      values = draws.integers(limit, size=3000, dtype=np.uint32)
      got = numbers(values)
      for value in values.tolist():
        expected.setdefault(value, len(expected))
      self.assertEqual(got.tolist(), [expected[v] for v in values.tolist()])
      self.assertEqual(numbers.count, len(expected))


class ShuffleTest(absltest.TestCase):
  def test_two_passes_give_every_place_once_and_mix_the_days(self):
    rows = [3000, 1000, 2000, 4000]
    with mock.patch.object(shuffle, '_PIECE', 700):
      places = list(shuffle.two_pass(rows, seed=0))
    self.assertEqual([len(p) for p in places], rows)
    everywhere = np.sort(np.concatenate(places))
    np.testing.assert_array_equal(everywhere, np.arange(10_000))
    # The smallest file fills up with clicks of the first days alone; the first
    # day's go to all files evenly.
    file = np.digitize(places[0], np.cumsum(rows))
    counts = np.bincount(file, minlength=4)
    self.assertGreater(counts.min(), 650)
    last = np.bincount(np.digitize(places[3], np.cumsum(rows)), minlength=4)
    self.assertEqual(last[1], 0)
    self.assertGreater(last[3], last[0])

  def test_seeded_places_are_those_of_numpys_shuffle(self):
    rows, folder = [30, 50, 20], self.create_tempdir().full_path
    expected = np.arange(100)
    np.random.RandomState(0).shuffle(expected)
    for _ in range(2):  # made, and read again
      places = np.concatenate(list(shuffle.seeded(rows, 0, folder)))
      shuffled = np.empty(100, int)
      shuffled[places] = np.arange(100)
      np.testing.assert_array_equal(shuffled, expected)

  def test_what_memory_does_not_hold_is_in_a_file(self):
    folder = self.create_tempdir().full_path
    with mock.patch.object(scratch, '_free', lambda: 1000):
      self.assertEqual((scratch.fit(100), scratch.fit(1000)), (7, 0))
      large = scratch.zeros(1000, np.uint32, folder)
      self.assertIs(type(large), np.ndarray)
      self.assertIsNotNone(large.base)
      large[5] = 7
      np.random.RandomState(0).shuffle(large)
      self.assertEqual(large.sum(), 7)
    self.assertEqual(os.listdir(folder), [])
    self.assertGreater(scratch.fit(1), 10**6)


if __name__ == '__main__':
  absltest.main()
