"""Tests of sentence pairs: what is read, and the batches that are made."""

import os
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.reading import dataset
from input_pipelines.text import buckets, packing, subwords
from input_pipelines.translation import read as translation
from tests.input_pipelines.translation.random_pairs import lines, write


class TranslationTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    block = translation.BLOCK
    translation.BLOCK = 64
    try:
      cls.directory = write(
        cls.enterClassContext(tempfile.TemporaryDirectory())
      )
    finally:
      translation.BLOCK = block

  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.object(translation, 'BLOCK', 64))

  def plans(self, **how):
    lengths = translation.train_lengths(self.directory)
    how = {'max_length': 24, **how}
    yield buckets.Bucketed(
      lengths, buckets.shapes(256, how['max_length'], multiple=4), **how
    )
    yield packing.Packed(lengths, buckets.Shape(4, 48, 64), **how)

  def batches(self, plan, steps=None, **how):
    how = {'seed': 1, 'threads': 0, **how}
    stream = translation.train_batches(self.pairs(), plan, **how)
    first = how.get('first_step', 0)
    steps = plan.steps - first if steps is None else steps
    return [next(stream) for _ in range(steps)]

  def pairs(self, split='train'):
    return translation.load(self.directory, split)

  def test_what_was_written_is_read(self):
    translation.verify(self.directory, train=200, test=9)
    vocabulary = translation.vocabulary(self.directory)
    for split, n in (('train', 200), ('test', 9)):
      pairs = self.pairs(split)
      self.assertLen(pairs, n)
      for i, side in enumerate((pairs.source, pairs.target)):
        got = [vocabulary.sentence(side[j]) for j in range(n)]
        self.assertEqual(got, lines(n, 2 * n + i))
    texts = translation.load_texts(self.directory)
    self.assertEqual([texts.source, texts.target], [lines(9, 18), lines(9, 19)])
    train = self.pairs()
    np.testing.assert_array_equal(
      translation.train_lengths(self.directory),
      np.stack([train.source.lengths, train.target.lengths], axis=1),
    )

  def test_an_epoch_of_batches_holds_the_sentences_and_their_order(self):
    pairs = self.pairs()
    plan = next(self.plans())
    found = {}
    for batch in self.batches(plan):
      for source, target, weight in zip(
        batch['source'], batch['target'], batch['weight'], strict=True
      ):
        self.assertEqual(weight, (target > 0).sum())
        if weight:
          pair = source[source > 0].tobytes(), target[target > 0].tobytes()
          found[pair] = found.get(pair, 0) + 1
    expected = {}
    for i in range(len(pairs)):
      if max(len(pairs.source[i]), len(pairs.target[i])) <= 24:
        pair = tuple(
          side[i].astype(np.int32).tobytes()
          for side in (pairs.source, pairs.target)
        )
        expected[pair] = expected.get(pair, 0) + 1
    self.assertEqual(found, expected)

  def test_packed_rows_hold_whole_pairs_side_by_side(self):
    pairs = self.pairs()
    *_, plan = self.plans()
    for step, batch in enumerate(self.batches(plan)):
      group = plan.group(1, step)
      nth = dict.fromkeys(range(4), 0)
      for member, row in zip(group.members, group.row, strict=True):
        nth[row] += 1
        for side in translation.SIDES:
          here = batch[f'{side}_segment'][row] == nth[row]
          expected = getattr(pairs, side)[member]
          np.testing.assert_array_equal(batch[side][row][here], expected)
          np.testing.assert_array_equal(
            batch[f'{side}_position'][row][here], np.arange(len(expected))
          )
      for side, length in (('source', 48), ('target', 64)):
        self.assertEqual(batch[side].shape, (4, length))
        padding = batch[f'{side}_segment'] == 0
        self.assertFalse(batch[side][padding].any())
        self.assertTrue(batch[side][~padding].all())
      np.testing.assert_array_equal(
        batch['weight'], (batch['target'] > 0).sum(axis=1)
      )

  @parameterized.parameters(2, 4)
  def test_hosts_side_by_side_are_one_host(self, hosts):
    for plan in self.plans():
      whole = self.batches(plan)
      parts = [
        self.batches(plan, host=host, hosts=hosts) for host in range(hosts)
      ]
      for batch, *shares in zip(whole, *parts, strict=True):
        for name, rows in batch.items():
          np.testing.assert_array_equal(
            rows, np.concatenate([share[name] for share in shares])
          )

  def test_a_restarted_run_goes_on_at_any_step_with_any_threads(self):
    for plan in self.plans():
      whole = self.batches(plan, steps=plan.steps + 5)
      for first in (3, plan.steps - 1, plan.steps + 2):
        rest = self.batches(
          plan, steps=plan.steps + 5 - first, first_step=first, threads=3
        )
        for batch, again in zip(whole[first:], rest, strict=True):
          np.testing.assert_equal(batch, again)

  def test_what_is_too_long_can_be_cut(self):
    pairs = self.pairs()
    for plan in self.plans(max_length=12, method=buckets.TRUNCATE):
      tokens = sum((b['source'] > 0).sum() for b in self.batches(plan))
      self.assertEqual(tokens, np.minimum(pairs.source.lengths, 12).sum())

  @parameterized.parameters(1, 2)
  def test_an_eval_has_every_sentence_once_the_longest_first(self, hosts):
    source = self.pairs('test').source
    found, longest = {}, 1000
    streams = [
      list(
        translation.eval_batches(
          source, (8, 16, 64), batch_size=4, host=host, hosts=hosts
        )
      )
      for host in range(hosts)
    ]
    for parts in zip(*streams, strict=True):
      batch = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
      lengths = (batch['source'] > 0).sum(axis=1)
      width = batch['source'].shape[1]
      self.assertEqual(width, min(w for w in (8, 16, 64) if w >= lengths.max()))
      self.assertLessEqual(lengths.max(), longest)
      longest = lengths[batch['weight'] > 0].min()
      for i, row, weight in zip(
        batch['id'], batch['source'], batch['weight'], strict=True
      ):
        if weight:
          self.assertNotIn(i, found)
          found[i] = row[row > 0]
        else:
          self.assertFalse(row.any())
    self.assertLen(found, 9)
    for i, row in found.items():
      np.testing.assert_array_equal(row, source[i])

  def test_an_eval_cuts_nothing(self):
    source = self.pairs('test').source
    with self.assertRaisesRegex(ValueError, 'evals leave nothing out'):
      next(translation.eval_batches(source, (4, 8), batch_size=4))

  def copy(self):
    target = os.path.join(self.create_tempdir().full_path, 'pairs', '1.0.0')
    shutil.copytree(self.directory, target)
    os.remove(os.path.join(target, 'manifest.json'))
    return target

  @parameterized.parameters(
    ({'train': 201}, "Expected 201 pairs in 'train'.*got 200"),
    ({'subwords': 5}, 'Expected 5 subwords of .*, got'),
    ({'longest': 2}, 'sentences of 2 tokens or fewer to translate, got one'),
  )
  def test_another_data_set_is_refused(self, expected, message):
    with self.assertRaisesRegex(ValueError, message):
      translation.verify(self.directory, **expected)

  def test_lengths_and_vocabularies_of_others_are_refused(self):
    directory = self.copy()
    path = os.path.join(directory, translation.LENGTHS)
    np.save(path, np.ones((3, 2), np.uint16))
    with self.assertRaisesRegex(ValueError, r'\(200, 2\), in .*got \(3, 2\)'):
      translation.verify(directory)
    os.remove(path)
    with self.assertRaisesRegex(ValueError, 'the lengths of sentences in'):
      translation.verify(directory)
    shutil.copy(os.path.join(self.directory, translation.LENGTHS), path)
    with open(os.path.join(directory, subwords.Vocabulary.file), 'a') as file:
      file.write("'more'\n")
    with self.assertRaisesRegex(ValueError, 'subwords in vocabulary.subwords'):
      translation.verify(directory)

  def test_a_record_of_other_numbers_is_told(self):
    features = dataset.Split(self.directory, 'test')[0]
    block = translation.block_of(features, 1000)
    self.assertLen(block.pairs, 9)
    with self.assertRaisesRegex(ValueError, 'source tokens below 3'):
      translation.block_of(features, 3)
    features['target_length'].bytes_list.value[0] += b'\1\0\0\0'
    with self.assertRaisesRegex(ValueError, 'target sentences of'):
      translation.block_of(features, 1000)


if __name__ == '__main__':
  absltest.main()
