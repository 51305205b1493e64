"""Tests of byte pair encoding, with what subword-nmt itself gave.

That is commit 48ba99e657591c329e0003f0c6e32e493fa959ef, of words that are drawn
here.
"""

import hashlib
import os
import pickle

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.text import bpe


def lines(count, seed):
  """Lines of 1 to 11 words of six letters."""
  draws = np.random.RandomState(seed)
  words = [
    ''.join(draws.choice(list('abcdeé'), draws.randint(1, 9)))
    for _ in range(300)
  ]
  return [
    ' '.join(draws.choice(words, draws.randint(1, 12))) for _ in range(count)
  ]


def md5(text):
  return hashlib.md5(text.encode()).hexdigest()


class AgainstSubwordNmtTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.merges = bpe.learn(bpe.count(lines(400, 1)), 600)

  def test_it_finds_the_same_pairs(self):
    # Fewer than asked for: no other comes twice.
    self.assertLen(self.merges.pairs, 485)
    self.assertEqual(
      self.merges.pairs[:4], (('c', 'e'), ('d', 'b'), ('d', 'a'), ('c', 'a'))
    )
    self.assertEqual(
      md5(self.merges.text()), 'cfdcf74882e0b53c5119910275f497f9'
    )

  def test_it_cuts_the_same_words(self):
    cut = [' '.join(self.merges.cut(line.split(' '))) for line in lines(300, 2)]
    self.assertEqual(md5('\n'.join(cut)), '0db32be10607d64f2a8d50cc73c15573')
    self.assertEqual(
      self.merges.cut(['abcde', 'ééaf', 'a', 'x']),
      ['ab@@', 'cde', 'é@@', 'éa@@', 'f', 'a', 'x'],
    )


class LearnTest(parameterized.TestCase):
  def test_of_equal_pairs_the_last_in_order_is_joined_first(self):
    merges = bpe.learn({'ab': 2, 'cd': 2}, 1)
    self.assertEqual(merges.pairs, (('c', 'd</w>'),))

  def test_pairs_of_overlapping_words_are_counted_anew(self):
    merges = bpe.learn({'aaaa': 5, 'aab': 3}, 3)
    self.assertEqual(merges.pairs, (('a', 'a'), ('aa', 'a'), ('aaa', 'a</w>')))
    self.assertEqual(merges.cut(['aaaa', 'aab']), ['aaaa', 'aa@@', 'b'])

  def test_no_words_give_no_pairs(self):
    self.assertEmpty(bpe.learn({}, 5).pairs)

  def test_progress_is_told_to_its_end(self):
    told = []
    bpe.learn(
      bpe.count(lines(50, 3)), 120, progress=lambda *at: told.append(at)
    )
    self.assertEqual(told[-1], (120, 120))

  def test_by_frequency_equal_ones_stay_in_order(self):
    self.assertEqual(
      bpe.by_frequency(bpe.count(['b a c', 'a d'])), ['a', 'b', 'c', 'd']
    )


class VocabularyTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    merges = bpe.Merges([('d', 'e'), ('de', 'r</w>')])
    self.words = bpe.Vocabulary(['der', 'H@@', 'u@@', 'n@@', 'd', '.'], merges)

  def test_numbers_of_a_text_and_its_text_again(self):
    numbers = self.words.encode('der Hund ist .')
    self.assertEqual(numbers[:5], [4, 5, 6, 7, 8])
    self.assertEqual(numbers[-2:], [bpe.UNKNOWN, 9])
    self.assertEqual(
      self.words.sentence(np.array([2, *numbers[:5], 9, 3, 0, 0])), 'der Hund.'
    )

  def test_what_is_unknown_stays_in_the_text(self):
    self.assertEqual(self.words.decode([1, 4]), '<unk> der')

  def test_made_up_words_fill_it_up(self):
    padded = self.words.padded(8)
    self.assertLen(padded, 16)
    self.assertEqual(padded.subwords[10], 'madeupword0000')
    self.assertEqual(padded.encode('der'), [4])
    self.assertLen(padded.padded(8), 16)

  def test_it_is_read_as_it_was_written(self):
    path = os.path.join(self.create_tempdir().full_path, self.words.file)
    with open(path, 'w', encoding='utf-8') as file:
      file.write(self.words.text())
    self.assertEqual(bpe.read(path).subwords, self.words.subwords)

  def test_a_word_that_is_there_twice_is_refused(self):
    path = os.path.join(self.create_tempdir().full_path, 'words')
    with open(path, 'w', encoding='utf-8') as file:
      file.write('a\nb\na\n')
    with self.assertRaisesRegex(ValueError, "words: .* once, got 'a' again"):
      bpe.read(path)

  def test_it_survives_the_way_to_another_process(self):
    copy = pickle.loads(pickle.dumps(self.words))
    self.assertEqual(copy.encode('der Hund'), self.words.encode('der Hund'))


if __name__ == '__main__':
  absltest.main()
