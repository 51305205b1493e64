"""Tests of the Transformer benchmark; its table is in transformer_spec_test."""

import contextlib
import dataclasses
import functools
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np

from input_pipelines.text import subwords
from input_pipelines.translation import read as translation
from models import transformer as model
from suite import hparams
from suite.benchmarks import transformer
from suite.benchmarks.transformer.task import TransformerTask
from suite.clock import Clock
from suite.hparams import Division
from suite.metrics import bleu
from suite.run import sharding
from suite.run.feed import Data
from tests import benchmark_runs
from tests.suite.benchmarks import transformer_small

REFERENCE = transformer.BENCHMARK.sizes['reference']
TINY = transformer.BENCHMARK.sizes['tiny']
SMALL, DATA = transformer_small.SIZE.hparams, transformer_small.SIZE.data
PAIRS, SENTENCES = DATA.train_samples, DATA.eval_samples


def setUpModule():
  global DIRECTORY
  DIRECTORY = benchmark_runs.small('transformer').directory


def _task(**changes):
  return TransformerTask(dataclasses.replace(SMALL, **changes), DATA)


def _blocks(task):
  return task.blocks(task.inspect(DIRECTORY))


def _data(clock, mesh, **how):
  put = lambda rows: sharding.put_rows(rows, mesh)  # noqa: E731
  return Data(clock, DIRECTORY, 7, put, **how)


def _batches(task, count, **how):
  """The first host batches of a run."""
  clock = Clock()
  clock.start()
  data = Data(clock, DIRECTORY, 7, lambda rows: rows, **how)
  feed = task.open(data, task.inspect(DIRECTORY))
  block = dataclasses.replace(_blocks(task)[0], steps=count)
  found = list(feed.train_block(block, None, None))
  feed.close()
  return found


def _override(changes, size=REFERENCE):
  return hparams.override(size.hparams, changes, Division.CLOSED)


class RulesTest(parameterized.TestCase):
  @parameterized.parameters(
    (1, [(512, 7), (455, 8), (409, 9)], (15, 256)),
    (8, [(512, 7), (456, 8), (416, 9)], (16, 256)),
  )
  def test_any_devices_train_the_rows_of_the_reference(
    self, devices, first, last
  ):
    # 4096 tokens by the end of the bucket, one more than its longest pair.
    task = TransformerTask(REFERENCE.hparams, REFERENCE.data)
    task = task.shared_by(devices)
    shapes = [spec['source'].shape for spec in task.train_specs]
    self.assertEqual((shapes[:3], shapes[-1]), (first, last))
    targets = {spec['target'].shape for spec in task.train_specs}
    self.assertEqual(targets, set(shapes))
    trained = task.facts_of(np.full((9, 2), 9)).logged['podium_trained_rows']
    self.assertLen(trained, len(shapes))
    self.assertEqual((trained[:3], trained[-1]), ([512, 455, 409], 15))

  def test_a_batch_with_fewer_rows_than_devices_is_refused(self):
    task = TransformerTask(REFERENCE.hparams, REFERENCE.data)
    with self.assertRaisesRegex(
      ValueError, '16 rows or more .*, got 15: raise'
    ):
      task.shared_by(16)

  def test_packed_rows_are_as_many_as_the_tokens_fill(self):
    # Round v0.7: 2048 rows of 256.
    hp = _override({'batching': 'packing', 'global_batch_size': '524288'})
    (spec,) = TransformerTask(hp, REFERENCE.data).train_specs
    self.assertEqual(spec['source_segment'].shape, (2048, 256))

  @parameterized.parameters(
    ({'compute_dtype': 'float16'}, "float32, bfloat16, got 'float16'"),
    ({'eval_lengths': ()}, 'eval_lengths to be one length or more'),
    ({'max_epochs': 0}, 'max_epochs is 0'),
    (
      {'batching': 'packing', 'packed_row_length': 15},
      'row_length to be .*got 15',
    ),
    (
      {'batching': 'packing', 'global_batch_size': 255},
      'of 512 tokens or more',
    ),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(SMALL, **changes)
    with self.assertRaisesRegex(ValueError, message):
      transformer.BENCHMARK.task(hp, DATA)


class EpochTest(parameterized.TestCase):
  def test_a_sentence_to_translate_that_is_too_long_is_refused_at_once(self):
    with self.assertRaisesRegex(ValueError, 'of 12 tokens or fewer'):
      _task(eval_lengths=(4, 12)).inspect(DIRECTORY)

  @parameterized.parameters('buckets', 'packing')
  def test_an_epoch_trains_on_every_pair_that_is_short_enough(self, batching):
    task = _task(batching=batching)
    block = _blocks(task)[0]
    lengths = translation.train_lengths(DIRECTORY)
    short = lengths[lengths.max(axis=1) <= 16]
    self.assertEqual(block.samples, len(short))
    self.assertLess(len(short), PAIRS)
    tokens = sum(batch['weight'].sum() for batch in _batches(task, block.steps))
    self.assertEqual(tokens, short[:, 1].sum())

  @parameterized.parameters('buckets', 'packing')
  def test_eight_devices_train_what_one_trains(self, batching):
    hp = dataclasses.replace(SMALL, row_multiple=1, batching=batching)
    task = TransformerTask(dataclasses.replace(hp, global_batch_size=550), DATA)
    batches = []
    for each in (task, task.shared_by(8)):
      batches.append(_batches(each, _blocks(each)[0].steps))
    self.assertLen(batches[1], len(batches[0]))
    for alone, shared in zip(*batches, strict=True):
      rows = len(alone['weight'])
      self.assertEqual(len(shared['weight']), -(-rows // 8) * 8)
      for name, values in shared.items():
        np.testing.assert_array_equal(values[:rows], alone[name])
        self.assertFalse(values[rows:].any())

  def test_truncating_trains_on_all_pairs(self):
    block = _blocks(_task(length_method='truncate'))[0]
    self.assertEqual(block.samples, PAIRS)


class LossTest(parameterized.TestCase):
  @functools.cached_property
  def _jitted(self):
    return jax.jit(lambda task, *args: task.loss(*args)[0], static_argnums=0)

  def _loss(self, task, batch, params):
    return float(self._jitted(task, params, {}, batch, None))

  def test_it_is_the_mean_over_the_tokens_of_the_target(self):
    task = _task()
    params, _ = jax.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    batch = _batches(task, 1)[0]

    @jax.jit
    def losses(source, target):
      logits = task._model.merged(params, {})(source, target)
      return model.token_losses(logits, target, smoothing=0.1)

    each = losses(batch['source'], batch['target'])
    is_token = batch['target'] > 0
    self.assertAlmostEqual(
      self._loss(task, batch, params), float(each[is_token].mean()), places=5
    )

  def test_pairs_that_share_rows_have_the_loss_that_they_have_alone(self):
    packed, alone = _task(batching='packing'), _task()
    params, _ = jax.jit(packed.init_model)(jax.random.key(0, impl='rbg'))

    def total(task):
      batches = _batches(task, _blocks(task)[0].steps)
      return sum(
        self._loss(task, batch, params) * batch['weight'].sum()
        for batch in batches
      )

    self.assertAlmostEqual(total(packed) / total(alone), 1, places=4)


class ScoreTest(parameterized.TestCase):
  def predictions(self, texts, *, batches=2):
    """As if beam search had found these; rows of padding among them."""
    words = translation.vocabulary(DIRECTORY)
    tokens = np.zeros((batches * 8, 64), np.int32)
    for row, text in enumerate(texts):
      found = [*words.encode(text), subwords.EOS]
      tokens[row, : len(found)] = found
    order = np.random.default_rng(0).permutation(len(tokens))
    whole = {
      'tokens': tokens,
      'id': np.arange(len(tokens)),
      'weight': (np.arange(len(tokens)) < len(texts)).astype(np.float32),
    }
    shuffled = {name: rows[order] for name, rows in whole.items()}
    return [
      {name: rows[i * 8 : (i + 1) * 8] for name, rows in shuffled.items()}
      for i in range(batches)
    ]

  def score(self, *hosts):
    """Quality by an eval that hosts share; each has some of the batches."""
    clock = Clock()
    clock.start()
    task = _task()
    data = _data(clock, sharding.make_mesh())
    feed = task.open(data, task.inspect(DIRECTORY))
    feed.close()
    told = []
    for predictions in hosts:
      maker = mock.Mock(total=lambda numbers: told.append(numbers) or numbers)
      with contextlib.suppress(RuntimeError):  # one host alone lacks some
        feed.score(iter(predictions), maker)
    whole = mock.Mock(total=lambda numbers: np.sum(told, axis=0))
    return feed.score(iter(()), whole)

  def test_it_is_bleu_of_the_texts_as_they_were(self):
    texts = translation.load_texts(DIRECTORY).target
    self.assertEqual(self.score(self.predictions(texts)), {'BLEU': 1.0})
    changed = ['die Katze sieht a small cat', *texts[1:]]
    found = self.score(self.predictions(changed))['BLEU']
    self.assertEqual(found, bleu.bleu(texts, changed))
    self.assertBetween(found, 0.3, 0.99)

  def test_hosts_that_share_the_sentences_find_the_same(self):
    texts = translation.load_texts(DIRECTORY).target
    changed = ['die Katze sieht a small cat', *texts[1:]]
    first, second = self.predictions(changed)
    found = self.score([first], [second])
    self.assertEqual(found, {'BLEU': bleu.bleu(texts, changed)})

  def test_a_sentence_that_is_missing_or_there_twice_is_an_error(self):
    texts = translation.load_texts(DIRECTORY).target
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 8 of 8'):
      self.score(self.predictions(texts[:-1]))
    twice = self.predictions(texts)
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 18 of 9'):
      self.score([*twice, *twice])
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 18 of 18'):
      self.score(twice, twice)
    # As many as there are, but one of them in the place of another.
    first, second = self.predictions(texts)
    second['id'] = np.where(second['id'] == 3, 5, second['id'])
    first['id'] = np.where(first['id'] == 3, 5, first['id'])
    with self.assertRaisesRegex(RuntimeError, '9 sentences, got 9 of'):
      self.score([first], [second])


if __name__ == '__main__':
  absltest.main()
