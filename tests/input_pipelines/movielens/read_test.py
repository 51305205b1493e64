"""Tests of the batches of pairs: training samples, candidates, repeats."""

import itertools
import os
import tempfile

from absl.testing import absltest, parameterized
import numpy as np
import scipy.stats

from input_pipelines.movielens import pairs, prepare
from input_pipelines.movielens import read as movielens
from input_pipelines.reading import dataset
from input_pipelines.writing import recipe, writer

_UNLIKELY = 1e-4  # the chance that a fair draw fails; the seeds are fixed


def _data(users=40, items=30, share=0.3, seed=0) -> movielens.Interactions:
  rng = np.random.default_rng(seed)
  chosen = rng.random((users, items)) < share * rng.uniform(0, 2, (users, 1))
  chosen[:, 0], chosen[:, 1] = True, False  # none has nothing, none all
  user, item = np.nonzero(chosen)
  test_item = rng.permuted(np.argsort(chosen, axis=1)[:, :2], axis=1)[:, 0]
  return movielens.Interactions(
    users, items, movielens.key(user, item), test_item.astype(np.int32)
  )


def _epoch(data, **how):
  how = {'epoch': 0, 'batch_size': 64, 'seed': 1, 'threads': 0, **how}
  return list(movielens.train_epoch(data, **how))


def _joined(batches):
  kept = [{k: v[b['weight'] > 0] for k, v in b.items()} for b in batches]
  return {name: np.concatenate([b[name] for b in kept]) for name in kept[0]}


def _equal(a, b):
  np.testing.assert_equal(len(a), len(b))
  for one, other in zip(a, b, strict=True):
    np.testing.assert_equal(one, other)


class TrainEpochTest(parameterized.TestCase):
  def test_every_pair_comes_once_and_its_user_four_times_more(self):
    data = _data()
    found = _joined(_epoch(data))
    positive = found['label'] == 1
    keys = movielens.key(found['user'], found['item'])
    np.testing.assert_array_equal(np.sort(keys[positive]), data.keys)
    np.testing.assert_array_equal(
      np.bincount(found['user'][~positive], minlength=data.users),
      4 * np.bincount(data.user, minlength=data.users),
    )

  def test_negatives_are_uniform_over_what_their_user_has_not(self):
    data = _data(users=6, items=12)
    has = np.zeros((6, 12), bool)
    has[data.user, data.item] = True
    count = np.zeros((6, 12))
    for epoch in range(400):
      found = _joined(_epoch(data, epoch=epoch, batch_size=512))
      negative = found['label'] == 0
      np.add.at(count, (found['user'][negative], found['item'][negative]), 1)
    self.assertEqual(count[has].sum(), 0)
    for user in range(6):
      p = scipy.stats.chisquare(count[user][~has[user]]).pvalue
      self.assertGreater(p, _UNLIKELY)
    # The held-out item is not spared.
    self.assertTrue((count[np.arange(6), data.test_item] > 0).all())

  def test_without_rejection_they_are_uniform_over_all_items(self):
    data = _data()
    count = np.zeros(30)
    for epoch in range(30):
      found = _joined(_epoch(data, epoch=epoch, reject=False))
      count += np.bincount(found['item'][found['label'] == 0], minlength=30)
    self.assertGreater(scipy.stats.chisquare(count).pvalue, _UNLIKELY)

  def test_epochs_and_seeds_have_orders_and_negatives_of_their_own(self):
    data = _data()
    first, *others = (
      _joined(_epoch(data, epoch=epoch, seed=seed))
      for epoch, seed in ((0, 1), (1, 1), (0, 2))
    )
    for other in others:
      self.assertLess((first['user'] == other['user']).mean(), 0.1)

  def test_the_order_of_an_epoch_tells_nothing(self):
    data = _data(users=400)
    found = _joined(_epoch(data))
    for name in ('user', 'label'):
      column = found[name].astype(float)
      half = np.arange(len(column)) < len(column) / 2
      p = scipy.stats.ks_2samp(column[half], column[~half]).pvalue
      self.assertGreater(p, _UNLIKELY)
    label = found['label']
    expected = label.mean() ** 2
    together = (label[1:] * label[:-1]).mean()
    self.assertLess(abs(together - expected), 5 / np.sqrt(len(label)) * 0.2)

  def test_the_last_batch_is_padded(self):
    data = _data()
    batches = _epoch(data, batch_size=100)
    self.assertEqual({len(b['user']) for b in batches}, {100})
    self.assertEqual(sum(b['weight'].sum() for b in batches), 5 * len(data))
    padding = batches[-1]['weight'] == 0
    self.assertTrue(padding.any())
    for name, kind in (
      ('user', np.int32),
      ('item', np.int32),
      ('label', np.float32),
      ('weight', np.float32),
    ):
      self.assertEqual(batches[-1][name].dtype, kind)
      self.assertFalse(batches[-1][name][padding].any())

  @parameterized.parameters(2, 4)
  def test_hosts_side_by_side_are_one_host(self, hosts):
    data = _data()
    parts = [_epoch(data, host=host, hosts=hosts) for host in range(hosts)]
    joined = [
      {name: np.concatenate([p[name] for p in step]) for name in step[0]}
      for step in zip(*parts, strict=True)
    ]
    _equal(joined, _epoch(data))

  @parameterized.parameters(1, 7)
  def test_a_run_goes_on_at_any_step(self, first_step):
    data = _data()
    _equal(_epoch(data, first_step=first_step), _epoch(data)[first_step:])

  def test_threads_and_pieces_change_nothing(self):
    data = _data()
    expected = _epoch(data)
    _equal(_epoch(data, threads=3), expected)
    piece = movielens._PIECE
    try:
      movielens._PIECE = 17
      _equal(_epoch(data, threads=2), expected)
    finally:
      movielens._PIECE = piece

  def test_it_can_be_left_early(self):
    stream = movielens.train_epoch(
      _data(), epoch=0, batch_size=8, seed=0, threads=2
    )
    next(stream)
    stream.close()
    self.assertEmpty(list(stream))

  @parameterized.parameters(
    ({'first_step': 1000}, 'a first step in .*got 1000'),
    ({'epoch': -1}, 'epoch from 0 on, got -1'),
    ({'batch_size': 63, 'hosts': 2}, '2 hosts share evenly'),
  )
  def test_what_makes_no_sense_is_refused(self, how, message):
    with self.assertRaisesRegex(ValueError, message):
      _epoch(_data(), **how)


class InteractionsTest(absltest.TestCase):
  def test_a_pair_is_found_and_what_is_none_is_not(self):
    data = _data(users=50, items=40)
    user, item = np.divmod(np.arange(50 * 40), 40)
    has = np.zeros((50, 40), bool)
    has[data.user, data.item] = True
    asked = movielens.key(user, item)
    np.testing.assert_array_equal(data.holds(asked), has.ravel())
    # The filter lets some pass that are none; bisection, and a few keys alone.
    np.testing.assert_array_equal(data._find(asked), has.ravel())
    few = asked[: pairs._FEW - 1]
    np.testing.assert_array_equal(data._find(few), has.ravel()[: len(few)])

  def test_the_filter_stops_nearly_all_that_is_no_pair(self):
    rng = np.random.default_rng(0)
    keys = np.unique(movielens.key(*rng.integers(0, 3000, (2, 50_000))))
    asked = movielens.key(*rng.integers(3000, 6000, (2, 50_000)))
    self.assertLess(pairs._Filter(keys).passes(asked).mean(), 0.01)
    self.assertTrue(pairs._Filter(keys).passes(keys).all())

  def test_a_user_who_has_every_item_is_refused(self):
    keys = movielens.key(np.zeros(3, int), np.arange(3))
    with self.assertRaisesRegex(ValueError, 'some of the 3 items, one has 3'):
      movielens.Interactions(1, 3, keys, np.zeros(1, np.int32))

  def test_items_that_are_none_are_refused(self):
    keys = movielens.key(np.zeros(2, int), np.array([0, 9]))
    with self.assertRaisesRegex(ValueError, r'items in \[0, 9\), got 0 to 9'):
      movielens.Interactions(1, 9, keys, np.zeros(1, np.int32))


class EvaluationTest(parameterized.TestCase):
  def test_candidates_are_uniform_with_replacement_and_may_be_the_held_out(
    self,
  ):
    data = _data(users=5, items=12)
    has = np.zeros((5, 12), bool)
    has[data.user, data.item] = True
    candidates = movielens.eval_candidates(data, seed=3, negatives=4000)
    for user in range(5):
      count = np.bincount(candidates[user], minlength=12)
      self.assertEqual(count[has[user]].sum(), 0)
      p = scipy.stats.chisquare(count[~has[user]]).pvalue
      self.assertGreater(p, _UNLIKELY)
      self.assertGreater(count[data.test_item[user]], 0)

  def test_candidates_depend_on_the_seed_alone(self):
    data = _data()
    one = movielens.eval_candidates(data, seed=3, negatives=99, threads=0)
    two = movielens.eval_candidates(data, seed=3, negatives=99, threads=2)
    np.testing.assert_array_equal(one, two)
    other = movielens.eval_candidates(data, seed=4, negatives=99)
    self.assertLess((one == other).mean(), 0.2)

  def test_repeats_by_hand(self):
    candidates = np.array([[5, 7, 5, 9, 7], [1, 2, 3, 1, 1]], np.int32)
    found = movielens._distinct(candidates, np.array([9, 4], np.int32))
    np.testing.assert_array_equal(
      found,
      [
        [True, True, False, False, False, True],  # 9 is the held-out item
        [True, True, True, False, False, True],
      ],
    )

  def test_each_distinct_item_counts_once(self):
    data = _data()
    candidates = movielens.eval_candidates(data, seed=0, negatives=50)
    valid = movielens.distinct(data, candidates)
    for user in range(data.users):
      items = np.append(candidates[user], data.test_item[user])
      counted = items[valid[user]]
      self.assertLen(counted, len(set(items)))
      self.assertEqual(set(counted), set(items))
      self.assertTrue(valid[user, -1])

  @parameterized.parameters(1, 3)
  def test_batches_hold_every_user_once(self, hosts):
    data = _data()
    candidates = movielens.eval_candidates(data, seed=0, negatives=20)
    valid = movielens.distinct(data, candidates)
    parts = [
      list(
        movielens.eval_batches(
          data,
          candidates,
          batch_size=18,
          host=host,
          hosts=hosts,
          valid=valid if host else None,
        )
      )
      for host in range(hosts)
    ]
    self.assertEqual({len(part) for part in parts}, {3})
    batches = list(itertools.chain(*parts))
    found = _joined(batches)
    order = np.argsort(found['user'])
    np.testing.assert_array_equal(found['user'][order], np.arange(data.users))
    np.testing.assert_array_equal(found['item'][order, :-1], candidates)
    np.testing.assert_array_equal(found['item'][order, -1], data.test_item)
    np.testing.assert_array_equal(found['valid'][order], valid)
    self.assertEqual(sum(b['weight'].sum() for b in batches), data.users)


class DirectoryTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.data = _data(users=3000, items=200, share=0.15)
    self.directory = self._write(self.data)

  def _write(self, data):
    root = self.enterContext(tempfile.TemporaryDirectory())
    directory = os.path.join(root, 'few', prepare.VERSION)
    with writer.begin(directory, {}) as unfinished:
      return prepare.write(
        unfinished,
        data,
        name='few',
        description='A few.',
        shards=2,
        order=recipe.Order(root, root),
      )

  def test_what_was_written_is_read(self):
    self.assertGreater(movielens.records(len(self.data)), 1)
    found = movielens.load(self.directory)
    self.assertEqual((found.users, found.items), (3000, 200))
    np.testing.assert_array_equal(found.keys, self.data.keys)
    np.testing.assert_array_equal(found.test_item, self.data.test_item)

  def test_other_numbers_are_refused_by_the_metadata(self):
    right = {
      'users': 3000,
      'items': 200,
      'train': len(self.data),
      'test': 3000,
    }
    movielens.verify(self.directory, **right)
    for name in right:
      wrong = {**right, name: right[name] - 1}
      with self.assertRaisesRegex(ValueError, f'Expected {wrong[name]} '):
        movielens.verify(self.directory, **wrong)

  def test_a_block_of_too_few_rows_is_named(self):
    keys = self.data.keys
    rows = {'train': len(keys), 'test': 3000}
    info = prepare.info(
      self.create_tempdir().full_path,
      'few',
      '',
      users=3000,
      items=200,
      rows=rows,
    )
    directory = os.path.join(self.create_tempdir().full_path, 'few', '1.0.0')
    test = movielens.key(np.arange(3000), self.data.test_item)
    with writer.begin(directory, {}) as unfinished:
      prepare.write_blocks(
        unfinished,
        info,
        {'train': lambda i: keys[:9], 'test': lambda i: test},
        {'train': 1, 'test': 1},
        order=recipe.Order('', ''),
      )
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, "Record 0 of .*'train'.*Expected 65536 rows"
    ):
      movielens.load(directory)


if __name__ == '__main__':
  absltest.main()
