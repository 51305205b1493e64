"""Tests of the small Wikipedia, which a package ships."""

import hashlib
import os

from absl.testing import absltest
import numpy as np

from input_pipelines.wikipedia import read as wikipedia
from input_pipelines.wikipedia import tiny
from tests import tiny_data


class TinyTest(absltest.TestCase):
  def test_it_is_the_same_wherever_it_is_made(self):
    directory = tiny_data.directory(tiny.NAME)
    tiny.verify(directory)
    digest = hashlib.sha256()
    found = wikipedia.load(directory, 'train', tiny.TRAIN)
    for values in vars(found).values():
      digest.update(np.ascontiguousarray(values).tobytes())
    self.assertEqual(digest.hexdigest()[:16], 'dc4cf054f2d40e05')

  def test_it_has_padding_and_pairs_of_sentences_to_break(self):
    found = wikipedia.load(tiny_data.directory(tiny.NAME), 'eval', tiny.EVAL)
    self.assertBetween((found.length < 128).mean(), 0.15, 0.3)
    self.assertBetween(found.is_random.mean(), 0.5, 0.7)
    self.assertBetween(found.first.mean(), 50, 70)

  def test_no_sentence_is_held_out_and_trained_on(self):
    directory = tiny_data.directory(tiny.NAME)
    self.assertTrue(os.path.exists(os.path.join(directory, 'vocab.txt')))
    ones = {
      name: wikipedia.load(directory, name, count)
      for name, count in (('train', tiny.TRAIN), ('eval', tiny.EVAL))
    }
    firsts = {}
    for name, each in ones.items():
      whole = each.tokens.copy()
      starts = each.length.cumsum() - each.length
      at = np.repeat(starts, each.predictions) + each.predicted
      whole[at] = each.labels
      firsts[name] = {
        whole[s : s + n].tobytes()
        for s, n in zip(starts, each.first, strict=True)
        if n > 40
      }
    self.assertEmpty(firsts['train'] & firsts['eval'])


if __name__ == '__main__':
  absltest.main()
