"""Tests of the word error rate, with jiwer and a table as the witnesses."""

import random

from absl.testing import absltest, parameterized
import jiwer

from suite.metrics import wer


def _by_table(expected, heard):
  """Edit distance by the usual table."""
  row = [*range(len(heard) + 1)]
  for i, word in enumerate(expected, 1):
    before, row = row, [i]
    for j, other in enumerate(heard, 1):
      row.append(
        min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other))
      )
  return row[-1]


class WerTest(parameterized.TestCase):
  @parameterized.parameters(
    ('a b c', 'a b c', 0, 3),
    ('a b c', '', 3, 3),
    ('a b c', 'x a b c d', 2, 3),
    ('a b', 'b a', 2, 2),
    ('one  two ', ' one\ttwo', 0, 2),  # white space is what divides
    ('it', 'It', 1, 1),
    ('a', 'b b b', 3, 1),  # a rate above 1
    ('', 'a', 1, 0),
  )
  def test_by_hand(self, reference, heard, errors, words):
    self.assertEqual(wer.count(reference, heard), (errors, words))

  def test_over_many_it_is_what_jiwer_says(self):
    rng = random.Random(0)

    def text(least):
      return ' '.join(rng.choices('abcde', k=rng.randint(least, 9)))

    pairs = [(text(1), text(0)) for _ in range(300)]
    counts = [wer.count(*pair) for pair in pairs]
    for (reference, heard), (errors, _) in zip(pairs, counts, strict=True):
      table = _by_table(reference.split(), heard.split())
      self.assertEqual(errors, table)
    errors, words = map(sum, zip(*counts, strict=True))
    references, heards = map(list, zip(*pairs, strict=True))
    self.assertAlmostEqual(jiwer.wer(references, heards), errors / words)


if __name__ == '__main__':
  absltest.main()
