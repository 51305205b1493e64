"""Tests of the RNN-T benchmark; its table is in rnnt_spec_test."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
import numpy as np

from input_pipelines.audio import log_mel
from input_pipelines.librispeech import read as librispeech
from suite.benchmarks import rnnt
from suite.benchmarks.rnnt import broken
from suite.benchmarks.rnnt.task import RNNTTask
from suite.clock import Clock
from suite.run.feed import Data
from tests import benchmark_runs
from tests.suite.benchmarks import rnnt_small

SMALL, DATA = rnnt_small.SIZE.hparams, rnnt_small.SIZE.data
# Programs that run once or twice; most of the time would go into their code.
_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def setUpModule():
  global DIRECTORY
  DIRECTORY = benchmark_runs.small('rnnt').directory


def _task(**changes):
  return RNNTTask(dataclasses.replace(SMALL, **changes), DATA)


def _feed():
  task, clock = _task(), Clock()
  clock.start()
  data = Data(clock, DIRECTORY, 7, lambda rows: rows)
  return task, task.open(data, task.inspect(DIRECTORY))


class RulesTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'compute_dtype': 'float16'}, "float32, bfloat16, got 'float16'"),
    ({'eval_frames': ()}, 'eval_frames to be rising multiples of splice'),
    (
      {'train_frames': (30, 52)},
      r'train_frames to be rising .*\(splice is 3\)',
    ),
    ({'train_symbols': (9, 8)}, 'train_symbols to be positive, not falling'),
    ({'speed_min': 1.2}, 'speed_max is 1.15'),
    ({'max_epochs': 0}, 'max_epochs is 0'),
    ({'freq_min': 3}, 'freq_min no more than freq_max, .* freq_max is 2'),
    ({'freq_max': 9}, 'no more than bands, got .* bands is 8'),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(SMALL, **changes)
    with self.assertRaisesRegex(ValueError, message):
      rnnt.BENCHMARK.task(hp, DATA)

  @parameterized.parameters(
    ({'pieces': 1023}, 'Expected 1023 pieces'),
    ({'eval_frames': (30,)}, 'Expected eval_frames up to 4.*, got 30'),
    ({'train_frames': (24, 30)}, '30 frames or fewer.*last of train_frames'),
    ({'train_symbols': (2, 2)}, '2 symbols or fewer.*last of train_symbols'),
    ({'utterances': 200}, 'Expected 4 batches of 16, as the .*utterances='),
  )
  def test_a_data_set_that_does_not_fit_is_refused(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      _task(**changes).inspect(DIRECTORY)

  def test_another_number_of_utterances_is_refused(self):
    fewer = dataclasses.replace(DATA, eval_samples=20)
    with self.assertRaisesRegex(ValueError, 'Expected 20 examples'):
      RNNTTask(SMALL, fewer).inspect(DIRECTORY)

  def test_an_epoch_has_whole_batches_alone(self):
    self.assertEqual(DATA.trained(SMALL), 64)
    block = _task().blocks(None)[1]
    self.assertEqual((block.steps, block.samples), (4, 64))
    self.assertEqual(block.at, {'epoch_num': 2})


class LossTest(absltest.TestCase):
  def test_it_is_the_mean_over_utterances_of_the_models(self):
    task, feed = _feed()
    block = dataclasses.replace(task.blocks(None)[0], steps=1)
    (batch,) = feed.train_block(block, None, None)
    feed.close()
    params, _ = task.init_model(jax.random.key(0, impl='rbg'))
    loss = _jit(lambda batch, key: task.loss(params, {}, batch, key)[0])
    speech = np.reshape(batch['speech'], (16, -1, 3 * SMALL.bands))
    lengths = np.ceil(np.asarray(batch['frames']) / 3).astype(np.int32)
    each, _ = _jit(task._model.apply)(
      params, {}, speech, lengths, batch['symbols'], batch['count']
    )
    self.assertAlmostEqual(
      float(loss(batch, None)), float(each.mean()), places=4
    )
    half = {**batch, 'weight': np.arange(16) % 2.0}
    self.assertAlmostEqual(
      float(loss(half, None)), float(each[1::2].mean()), places=4
    )
    # Masks and dropout are drawn by the key.
    key = jax.random.key(1)
    self.assertNotAlmostEqual(
      float(loss(batch, key)), float(each.mean()), places=3
    )


class ScoreTest(absltest.TestCase):
  def test_it_counts_the_words_of_each_utterance_once(self):
    _, feed = _feed()
    self.addCleanup(feed.close)
    texts, words = (
      librispeech.texts(DIRECTORY),
      librispeech.vocabulary(DIRECTORY),
    )
    total = sum(len(text.split()) for text in texts)
    tokens = [words.encode(text) for text in texts]

    class Maker:
      total = staticmethod(np.asarray)

    def scored(tokens, numbers=None):
      numbers = range(len(texts)) if numbers is None else numbers
      symbols = np.zeros((len(tokens) + 1, 12), np.int32)
      count = np.zeros(len(tokens) + 1, np.int32)
      for row, each in enumerate(tokens):
        symbols[row, : len(each)], count[row] = each, len(each)
      weight = (np.arange(len(count)) < len(tokens)).astype(np.float32)
      numbers = np.array([*numbers, 0])
      return feed.score(
        iter([{'symbols': symbols, 'count': count, 'id': numbers,
               'weight': weight}]), Maker
      )  # fmt: skip

    self.assertEqual(scored(tokens), {'WER': 0.0})
    nothing = [[]] * len(texts)
    self.assertEqual(scored(nothing), {'WER': 1.0})
    # One that is said twice over adds as many words as it has.
    doubled = [np.concatenate([tokens[0], tokens[0]]), *tokens[1:]]
    wrong = len(texts[0].split())
    self.assertAlmostEqual(scored(doubled)['WER'], wrong / total)
    with self.assertRaisesRegex(RuntimeError, '27 utterances .*, got 27 of 26'):
      scored(tokens, [0, *range(26)])
    with self.assertRaisesRegex(RuntimeError, 'got 26 of 26'):
      scored(tokens[:26], range(26))


@functools.cache
def _changed_by(name):
  """Programs of training and of evals, and what else a variant may change."""
  change, context = broken.VARIANTS[name]
  with context():
    hp = dataclasses.replace(change(SMALL), **rnnt_small.STILL)
    task = RNNTTask(hp, DATA)
    state = jax.eval_shape(task.init, jax.random.key(0))
    trains = jax.make_jaxpr(task.loss)(
      state.params, {}, dict(task.train_specs[0]), None
    )
    hears = jax.make_jaxpr(task.predict)(state, dict(task.eval_specs[0]))
    x = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    features = log_mel.FrontEnd(bands=8).normalised(x)
    kept = float(task.average(0)), features.tobytes()
  return str(trains), str(hears), kept


class BrokenTest(parameterized.TestCase):
  @parameterized.parameters(*broken.VARIANTS)
  def test_a_variant_changes_what_it_says(self, name):
    """Training, evals, or beside both the average or the features."""
    expected = {
      'no blank': (True, False, False),
      'average of the start': (False, False, True),
      'normalised with padding': (False, False, True),
      'no prediction': (True, True, False),
      'every second frame': (True, True, False),
      'masked evals': (False, True, False),
      'no lengths': (True, False, False),
      'labels shifted': (True, False, False),
    }
    pairs = zip(_changed_by(name), _changed_by('reference'), strict=True)
    changed = tuple(ours != usual for ours, usual in pairs)
    self.assertEqual(changed, expected.get(name, (False, False, False)))


if __name__ == '__main__':
  absltest.main()
