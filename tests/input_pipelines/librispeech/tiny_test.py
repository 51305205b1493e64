"""Tests of the spoken digits."""

import collections

from absl.testing import absltest
import numpy as np

from input_pipelines.audio import log_mel
from input_pipelines.librispeech import read, tiny
from input_pipelines.reading import dataset
from suite.benchmarks import rnnt
from tests import tiny_data

WORDS = (
  'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight',
  'nine',
)  # fmt: skip


def setUpModule():
  global DIRECTORY
  DIRECTORY = tiny_data.directory(tiny.NAME)


class DigitsTest(absltest.TestCase):
  def test_the_data_set_is_whole(self):
    tiny.verify(DIRECTORY)

  def test_texts_are_two_to_four_digits_each_as_often(self):
    texts = read.texts(DIRECTORY)
    words = collections.Counter(' '.join(texts).split())
    self.assertCountEqual(words, WORDS)
    mean = sum(words.values()) / 10
    for word, count in words.items():
      self.assertBetween(count, 0.6 * mean, 1.4 * mean, word)
    self.assertEqual({len(text.split()) for text in texts}, {2, 3, 4})

  def test_pieces_are_mostly_letters(self):
    vocabulary = read.vocabulary(DIRECTORY)
    self.assertLen(vocabulary, tiny.PIECES)
    lengths = [len(vocabulary.encode(word)) for word in WORDS]
    self.assertGreater(np.mean(lengths), 2.5)

  def test_sounds_fit_the_shapes_of_the_tiny_size(self):
    hp = rnnt.BENCHMARK.size('tiny').hparams
    for split, frames, speed in (
      (read.TRAIN, hp.train_frames[-1], hp.speed_max),
      (read.EVAL, hp.eval_frames[-1], 1.0),
    ):
      samples, symbols = read.lengths(DIRECTORY, split).max(axis=0)
      self.assertBetween(samples * speed / 160, 0.9 * frames, frames - 1)
      self.assertLessEqual(symbols, hp.train_symbols[-1])

  def test_digits_are_as_loud_and_noise_is_not_silence(self):
    split, front = dataset.Split(DIRECTORY, read.EVAL), log_mel.FrontEnd()
    for number in range(20):
      sound = read.utterance(split[number]).sound
      self.assertBetween(np.sqrt(np.mean(sound**2)), 0.049, 0.06)
      self.assertLen(front.trimmed(sound), len(sound))

  def test_voices_of_the_evals_are_not_heard_in_training(self):
    heard = collections.defaultdict(set)

    def say(text, voice):
      del text
      heard[split].add(voice.name)
      return np.ones(2000, np.float32)

    for split in read.SPLITS:
      list(tiny.make(split, 300, say))
    self.assertLen(heard[read.TRAIN], 40)
    self.assertLen(heard[read.EVAL], 15)
    self.assertEmpty(heard[read.TRAIN] & heard[read.EVAL])

  def test_texts_follow_from_the_number_alone(self):
    say = lambda text, voice: np.ones(2000, np.float32)  # noqa: E731
    made = [text for text, _ in tiny.make(read.EVAL, 20, say)]
    self.assertEqual(made, read.texts(DIRECTORY)[:20])


if __name__ == '__main__':
  absltest.main()
