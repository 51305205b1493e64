"""Tests of batches of clicks, on small data that the preparation writes."""

import json
import os
import pickle
import shutil
import tempfile

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.criteo import read, tiny
from input_pipelines.reading import dataset, mapped

ROWS, TEST_ROWS = 5000, 61
HOTS = (3, 2, *(1,) * 22, 4, 1)


def _rows(batches, field='ids'):
  """Rows of some batches that are not padding."""
  return np.concatenate([b[field][b['weight'] == 1] for b in batches])


class SizesTest(absltest.TestCase):
  def test_full_sizes_are_those_of_the_references(self):
    self.assertEqual(read.ROWS, {'train': 4_195_197_692, 'test': 89_137_319})
    for sizes, total in (
      (read.TABLES, 187_767_399),
      (read.MULTI_HOT_TABLES, 204_184_588),
      (read.HOTS, 214),
    ):
      self.assertLen(sizes, 26)
      self.assertEqual(sum(sizes), total)
    # Places of all clicks fit into the 32 bits that they are written in.
    self.assertLess(sum(read.ROWS.values()), 2**32)


class ReadTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    spec = tiny.Spec('few', rows=ROWS, test_rows=TEST_ROWS, shards=2)
    cls.directory = tiny.write(folder, spec)
    cls.clicks = read.load(cls.directory)

  def train(self, count, **how):
    how = {
      'batch_size': 256,
      'seed': 3,
      'shuffle': True,
      'drop_last': False,
      'threads': 0,
      **how,
    }
    batches = read.train_batches(self.clicks, **how)
    return [next(batches) for _ in range(count)]

  def test_a_batch_has_the_fields_that_the_models_take(self):
    (batch,) = self.train(1)
    expected = {
      'dense': (np.float32, (256, 13)),
      'ids': (np.int32, (256, 26)),
      'label': (np.float32, (256,)),
      'weight': (np.float32, (256,)),
    }
    got = {name: (a.dtype, a.shape) for name, a in batch.items()}
    self.assertEqual(got, expected)
    self.assertEqual(set(batch['label']), {0, 1})
    self.assertTrue((batch['ids'] < read.facts(self.directory).tables).all())
    self.assertEqual(batch['ids'].min(), 0)

  def test_counts_enter_by_their_logarithm(self):
    batch = self.clicks.batch('train', 2040, 2060, 20)
    first = np.load(read.path_of(self.directory, 'train', 0))
    counts = first[2040:2060, 1:14]
    expected = np.log(counts.astype(np.float32) + 1)
    np.testing.assert_array_equal(batch['dense'], expected)
    self.assertEqual(batch['dense'].min(), 0)

  def test_mini_batches_are_fixed_and_visited_once_an_epoch(self):
    on_disk = self.train(40, shuffle=False)
    shuffled = self.train(40)
    numbers = []
    for batch in shuffled:
      same = [np.array_equal(batch['ids'], b['ids']) for b in on_disk[:20]]
      numbers.append(same.index(True))
    for epoch in (numbers[:20], numbers[20:]):
      self.assertEqual(sorted(epoch), list(range(20)))
      self.assertNotEqual(epoch, list(range(20)))
    self.assertNotEqual(numbers[:20], numbers[20:])
    for first, again in zip(on_disk[:20], on_disk[20:], strict=True):
      np.testing.assert_array_equal(first['dense'], again['dense'])

  def test_the_short_last_batch_is_padded_or_dropped(self):
    kept = self.train(20, shuffle=False)
    weights = [int(batch['weight'].sum()) for batch in kept]
    self.assertEqual(weights, [256] * 19 + [ROWS - 19 * 256])
    for values in kept[-1].values():
      self.assertFalse(values[weights[-1] :].any())
    dropped = self.train(20, shuffle=False, drop_last=True)
    np.testing.assert_array_equal(dropped[19]['ids'], kept[0]['ids'])
    for drop_last, steps in ((False, 20), (True, 19)):
      self.assertEqual(
        read.steps_per_epoch(ROWS, 256, drop_last=drop_last), steps
      )

  def test_seed_and_step_alone_decide(self):
    batches = self.train(25)
    for first_step, threads in ((0, 3), (7, 2), (23, 0)):
      for batch, again in zip(
        batches[first_step:],
        self.train(25 - first_step, first_step=first_step, threads=threads),
        strict=True,
      ):
        for name, values in batch.items():
          np.testing.assert_array_equal(values, again[name])
    other = self.train(20, seed=4)
    self.assertFalse(np.array_equal(other[0]['ids'], batches[0]['ids']))
    np.testing.assert_array_equal(
      np.sort(_rows(other), axis=0), np.sort(_rows(batches[:20]), axis=0)
    )

  @parameterized.parameters(2, 4)
  def test_hosts_share_the_rows_of_every_batch(self, hosts):
    whole = self.train(20)
    shares = [self.train(20, host=host, hosts=hosts) for host in range(hosts)]
    for step, batch in enumerate(whole):
      for name, values in batch.items():
        parts = [share[step][name] for share in shares]
        np.testing.assert_array_equal(np.concatenate(parts), values)

  @parameterized.parameters((16, 1), (24, 2), (64, 4), (128, 2))
  def test_evals_see_every_click_once_in_order(self, batch_size, hosts):
    expected = self.clicks.batch('test', 0, TEST_ROWS, TEST_ROWS)
    passes = [
      list(
        read.eval_batches(
          self.clicks,
          batch_size=batch_size,
          host=host,
          hosts=hosts,
          threads=host,
        )
      )
      for host in range(hosts)
    ]
    self.assertLen({len(each) for each in passes}, 1)
    in_order = [batch for step in zip(*passes, strict=True) for batch in step]
    for name, values in expected.items():
      np.testing.assert_array_equal(_rows(in_order, name), values)

  def test_several_ids_are_those_drawn_for_the_first(self):
    data_dir = self.create_tempdir().full_path
    spec = tiny.Spec('some', rows=300, test_rows=20, hots=HOTS, cap=50)
    directory = tiny.write(data_dir, spec)
    clicks = read.load(directory)
    ids = clicks.batch('train', 0, 300, 300)['ids']
    self.assertEqual(ids.shape, (300, sum(HOTS)))
    first = np.stack([ids[:, 0], ids[:, 3], ids[:, -5]], axis=1)
    # As the reference draws them, table after table.
    np.random.seed(0)
    for column, (table, hot) in enumerate(((0, 3), (1, 2), (24, 4))):
      rows = clicks.facts.tables[table]
      drawn = np.random.randint(0, rows, size=(rows, hot - 1))
      at = sum(HOTS[:table])
      got = ids[:, at + 1 : at + hot]
      np.testing.assert_array_equal(got, drawn[first[:, column]])
    with self.assertRaisesRegex(ValueError, 'Expected .* hots of .*, got'):
      read.verify(
        directory, train=300, test=20, tables=clicks.facts.tables, hots=None
      )
    self.assertLess(ids.max(), 61)
    copied = pickle.loads(pickle.dumps(clicks))
    np.testing.assert_array_equal(
      copied.batch('train', 0, 300, 300)['ids'], ids
    )

  def test_a_foreign_or_damaged_data_set_is_refused(self):
    facts = read.facts(self.directory)
    right = {'train': ROWS, 'test': TEST_ROWS, 'tables': facts.tables}
    read.verify(self.directory, **right)
    for name, value in (
      ('train', 4999),
      ('test', 60),
      ('tables', (*facts.tables[:-1], 9)),
      ('hots', HOTS),
    ):
      with self.assertRaisesRegex(ValueError, 'Expected .* got'):
        read.verify(self.directory, **right | {name: value})
    for field, value in (('train', None), ('tables', [3])):
      directory = self.create_tempdir().full_path
      shutil.copytree(self.directory, directory, dirs_exist_ok=True)
      path = os.path.join(directory, 'metadata.json')
      with open(path, encoding='utf-8') as file:
        metadata = json.load(file) | {field: value}
      with open(path, 'w', encoding='utf-8') as file:
        json.dump(metadata, file)
      with self.assertRaisesRegex(ValueError, f'{field} in metadata.json'):
        read.facts(directory)

  def test_clicks_of_two_files_come_in_order(self):
    files = [
      np.load(read.path_of(self.directory, 'train', n)) for n in range(2)
    ]
    self.assertEqual([len(file) for file in files], [2500, 2500])
    batch = self.clicks.batch('train', 2490, 2510, 20)
    rows = np.concatenate(files)[2490:2510]
    np.testing.assert_array_equal(batch['label'], rows[:, 0])
    np.testing.assert_array_equal(batch['ids'], rows[:, 14:])

  @parameterized.parameters((5000, 2), (10, 6), (5, 4), (1, 3), (7, 7))
  def test_the_number_of_files_says_how_long_each_is(self, rows, most):
    sizes = read.layout(rows, most)
    self.assertEqual((sum(sizes), min(sizes) > 0), (rows, True))
    self.assertLessEqual(len(sizes), most)
    self.assertEqual(read.layout(rows, len(sizes)), sizes)

  @parameterized.parameters(
    (lambda path: os.remove(path), r'2 files \*_train.npy of .* got 1'),
    (lambda path: os.truncate(path, 999), r'2 files .* bytes in all .* got 2'),
    (
      lambda path: np.save(path, np.zeros((2500, 40), np.float32)),
      'int32 of the shape .* got float32',
    ),
  )
  def test_files_that_are_not_those_described_are_refused(self, change, words):
    directory = self.create_tempdir().full_path
    shutil.copytree(self.directory, directory, dirs_exist_ok=True)
    os.remove(os.path.join(directory, 'manifest.json'))
    change(read.path_of(directory, 'train', 1))
    facts = read.facts(directory)
    with self.assertRaisesRegex(ValueError, words):
      read.verify(directory, train=ROWS, test=TEST_ROWS, tables=facts.tables)
      read.load(directory)

  def test_a_data_set_in_a_store_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'copy the directory'):
      mapped.require_disk('gs://bucket/clicks/1.0.0')

  def test_a_record_of_something_else_is_refused(self):
    features = dataset.Split(self.directory, 'test')[0]
    tables = read.facts(self.directory).tables
    read.check(features, tables)
    with self.assertRaisesRegex(ValueError, 'below 1 in table 3, got'):
      read.check(features, (*tables[:3], 1, *tables[4:]))
    for field, column, value, words in (
      ('most', 0, 2, 'labels of 0 or 1.* up to 2'),
      ('least', 20, -1, 'from 0 on, got -1'),
    ):
      values = features[field].int64_list.value
      kept, values[column] = values[column], value
      with self.assertRaisesRegex(ValueError, words):
        read.check(features, tables)
      values[column] = kept
    features['most'].int64_list.value.append(1)
    with self.assertRaisesRegex(ValueError, '40 columns, got 40 and 41'):
      read.check(features, tables)

  def test_a_batch_larger_than_the_data_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'at least 8192 clicks'):
      self.train(1, batch_size=8192, drop_last=True)


if __name__ == '__main__':
  absltest.main()
