"""Tests of the making of samples, with the reference's own as the witness."""

import collections
import hashlib

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.text import wordpiece
from input_pipelines.wikipedia import samples
from tests.input_pipelines.wikipedia import random_text

# create_training_instances of create_pretraining_data.py in mlcommons/training,
# retired_benchmarks/bert/cleanup_scripts, run on `random_text.lines(40, 0)`
# with max_seq_length 24, dupe_factor 3, short_seq_prob 0.1, masked_lm_prob
# 0.15, max_predictions_per_seq 4, random.Random(12345) and the vocabulary of
# random_text: how many there are, the first two, and the SHA-256 of all.
COUNT = 231
FIRST = (
  '[2, 11, 16, 11, 12, 4, 6, 7, 16, 11, 12, 8, 9, 5, 4, 3, 13, 4, 12, 8, 9, '
  '11, 1, 3] 16 [5, 13, 14, 17] [5, 5, 11, 14] 1',
  '[2, 5, 6, 7, 5, 4, 7, 5, 6, 7, 16, 11, 3, 16, 13, 12, 16, 11, 5, 8, 10, 8, '
  '9, 3] 13 [5, 9, 14, 22] [6, 7, 11, 10] 0',
)
SHA256 = '649b4a60879c92f96b7561f2205bf4a8d395756b4087e042157b05a207570c2e'


def _documents(lines):
  documents = [[]]
  for line, tokens in zip(
    lines, random_text.VOCABULARY.encode(lines), strict=True
  ):
    if not line:
      documents.append([])
    elif tokens:
      documents[-1].append(tokens)
  return [each for each in documents if each]


def _made(**changes):
  how = {'length': 24, 'predictions': 4, 'passes': 3} | changes
  return samples.make(
    _documents(random_text.lines(40, 0)),
    random_text.VOCABULARY,
    samples.Settings(**how),
  )


class SamplesTest(parameterized.TestCase):
  def test_they_are_those_of_the_reference_one_by_one(self):
    lines = [
      f'{each.tokens.tolist()} {each.first} {each.predicted.tolist()} '
      f'{each.labels.tolist()} {int(each.is_random)}'
      for each in _made()
    ]
    self.assertLen(lines, COUNT)
    self.assertEqual(tuple(lines[:2]), FIRST)
    text = ''.join(f'{line}\n' for line in lines)
    self.assertEqual(hashlib.sha256(text.encode()).hexdigest(), SHA256)

  def test_four_of_five_are_hidden_and_one_of_ten_is_any_token(self):
    found = collections.Counter()
    for each in _made(passes=60):
      for place, label in zip(each.predicted, each.labels, strict=True):
        token = each.tokens[place]
        kind = 'mask' if token == random_text.VOCABULARY.mask else 'other'
        found['kept' if token == label else kind] += 1
    total = sum(found.values())
    self.assertAlmostEqual(found['mask'] / total, 0.8 + 0.1 / 17, delta=0.01)
    # A random token may be the one that was there.
    self.assertAlmostEqual(found['kept'] / total, 0.1 + 0.1 / 17, delta=0.01)

  def test_a_sample_is_two_sentences_between_special_tokens(self):
    of = random_text.VOCABULARY
    for each in _made():
      self.assertEqual(each.tokens[0], of.cls)
      self.assertEqual((each.tokens[each.first - 1], each.tokens[-1]),
                       (of.sep, of.sep))  # fmt: skip
      self.assertLessEqual(len(each.tokens), 24)
      whole = each.tokens.copy()
      whole[each.predicted] = each.labels
      self.assertNotIn(of.mask, whole)
      self.assertEqual(np.count_nonzero(whole == of.sep), 2)
      expected = min(4, max(1, round(0.15 * len(whole))))
      self.assertLen(each.predicted, expected)

  @parameterized.parameters((10, 10, [*range(10)]), (25, 10, None))
  def test_evals_take_samples_at_even_distances(self, count, most, expected):
    found = samples.picked(count, most)
    self.assertEqual(found, expected or [0, 2, 5, 7, 10, 12, 15, 17, 20, 22])


class WordpieceTest(absltest.TestCase):
  def test_what_is_odd_is_as_in_the_reference(self):
    # FullTokenizer of tokenization.py there.
    found = random_text.VOCABULARY.encode(
      ['Unaffable ÜN', 'ΣΟΦΟΣ', 'a\ue000 a', 'g\u200bold', '中the', 'x', '']
    )
    self.assertEqual(
      found, [[5, 6, 7, 5], [15], [1, 13], [12], [16, 11], [1], []]
    )

  def test_a_vocabulary_is_found_again_and_has_the_frequent_pairs(self):
    texts = ['low low low lower', 'newest newest lowest'] * 3
    found, again = (wordpiece.train(texts, 20) for _ in range(2))
    self.assertEqual(found.tokens, again.tokens)
    self.assertLen(found, 20)
    self.assertIn('##est', found.tokens)
    self.assertEqual(found.encode(['low'])[0], found.encode(['Low'])[0])

  def test_a_vocabulary_without_special_tokens_or_with_repeats_is_refused(self):
    with self.assertRaisesRegex(ValueError, r'the tokens \[MASK\]'):
      wordpiece.Vocabulary(random_text.TOKENS[:4])
    with self.assertRaisesRegex(ValueError, 'none twice'):
      wordpiece.Vocabulary([*random_text.TOKENS, 'the'])


if __name__ == '__main__':
  absltest.main()
