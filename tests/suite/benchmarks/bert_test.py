"""Tests of the BERT benchmark; its table is in bert_spec_test."""

import dataclasses
import functools
import re

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.wikipedia import read as wikipedia
from suite.benchmarks import bert
from suite.benchmarks.bert import bootstrap, broken
from suite.benchmarks.bert import task as module
from suite.benchmarks.bert.task import BertTask
from tests import benchmark_runs, quick
from tests.suite.benchmarks import bert_small

SMALL, DATA = bert_small.SIZE.hparams, bert_small.SIZE.data
STILL = {'dropout': 0.0}


def _task(**changes):
  hp = dataclasses.replace(SMALL, **STILL | changes)
  return BertTask(hp, DATA)


@functools.cache
def _samples():
  return wikipedia.load(benchmark_runs.small('bert').directory, 'eval', 21)


def _batch(rows_of, shape):
  """Samples by number in rows: [[0, 1], [2]]."""
  members = [number for row in rows_of for number in row]
  row = [i for i, each in enumerate(rows_of) for _ in each]
  return wikipedia.fill(
    _samples(), np.array(members), np.array(row), shape, len(rows_of)
  )


ALONE = wikipedia.Shape(6, 24, 4)
SHARED = wikipedia.Shape(4, 72, 14, 3)


@functools.cache
def _state():
  task = _task(length=72)
  return quick.jit(task.init)(jax.random.key(1, impl='rbg'))


@functools.cache
def _fresh():
  return quick.jit(_task().init)(jax.random.key(0, impl='rbg'))


@functools.cache
def _gradient():
  task, stats = _task(length=72), _state().stats
  return quick.jit(
    jax.value_and_grad(
      lambda params, batch: task.loss(params, stats, batch, None)[0]
    )
  )


def _gradients(batch):
  """The loss of a batch, and its gradients."""
  return _gradient()(_state().params, batch)


class LossTest(absltest.TestCase):
  def test_samples_that_share_rows_have_the_loss_of_rows_of_their_own(self):
    alone = _batch([[0], [1], [2], [3], [4], [5]], ALONE)
    shared = _batch([[5, 1], [0], [4, 3, 2], []], SHARED)
    (loss, grads), (other, others) = (
      _gradients(batch) for batch in (alone, shared)
    )
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
      others,
      grads,
    )

  def test_it_is_the_sum_of_two_means_over_the_batch(self):
    """Over all predictions and over all samples, whatever rows they are in."""
    task, state = _task(length=72), _state()
    batch = _batch([[0], [1], [2], [3], [4], [5]], ALONE)
    loss, _ = _gradients(batch)

    (tokens, samples), _ = quick.jit(task._model.apply)(
      state.params, state.stats, module._inputs(batch)
    )
    tokens, samples = (
      jax.device_get(jax.nn.log_softmax(x)) for x in (tokens, samples)
    )
    of_tokens, count = 0.0, 0
    for row, col in zip(*np.nonzero(batch['predicted_weight']), strict=True):
      of_tokens -= tokens[row, col, batch['labels'][row, col]]
      count += 1
    of_samples = -np.mean(
      [samples[row, 0, batch['is_random'][row, 0]] for row in range(6)]
    )
    np.testing.assert_allclose(
      loss, of_tokens / (count + 1e-5) + of_samples, rtol=1e-6
    )

  def test_a_batch_of_zeros_is_finite(self):
    batch = jax.tree.map(
      np.zeros_like, _batch([[0], [1], [2], [3], [4], [5]], ALONE)
    )
    for leaf in jax.tree.leaves(_gradients(batch)):
      self.assertTrue(np.isfinite(leaf).all())


class AccuracyTest(absltest.TestCase):
  def test_it_is_pooled_over_tokens(self):
    found = [
      {'correct': 3.0, 'predicted': 4.0, 'samples': 20.0},
      {'correct': 0.0, 'predicted': 6.0, 'samples': 1.0},
    ]
    self.assertEqual(_task()._accuracy(found), {bert.METRIC: 0.3})
    with self.assertRaisesRegex(RuntimeError, '21 samples, each once, got 20'):
      _task()._accuracy(found[:1])

  def test_padded_predictions_and_rows_do_not_count(self):
    task, state = _task(), _fresh()
    shape = wikipedia.Shape(16, 24, 4)
    *_, last = wikipedia.eval_batches(_samples(), shape, count=21)
    found = jax.device_get(quick.jit(task.predict)(state, last))
    count = _samples().predictions[16:21].sum()
    self.assertEqual((found['predicted'], found['samples']), (count, 5))

    (tokens, _), _ = quick.jit(task._model.apply)(
      state.params, state.stats, module._inputs(last)
    )
    right = np.argmax(tokens, axis=-1) == last['labels']
    self.assertEqual(
      found['correct'], right[last['predicted_weight'] > 0].sum()
    )

  def test_nothing_is_dropped_in_evals(self):
    state = _fresh()
    *_, batch = wikipedia.eval_batches(_samples(), ALONE, count=21)
    one, other = (
      quick.jit(_task(dropout=rate).predict)(state, batch)
      for rate in (0.0, 0.5)
    )
    self.assertEqual(jax.device_get(one), jax.device_get(other))


@functools.cache
def _programs(name):
  """The train step and the eval of a variant as programs, and its `given`."""
  change, context = broken.VARIANTS[name]
  with context():
    task = BertTask(change(_task()._hp), DATA)
    state = jax.eval_shape(task.init, jax.random.key(0))
    batch, evaluated = dict(task.train_specs[0]), dict(task.eval_specs[0])
    made = [
      str(jax.make_jaxpr(task.train_step)(state, batch)),
      str(jax.make_jaxpr(task.predict)(state, evaluated)),
    ]
    return [re.sub('0x[0-9a-f]+', '', text) for text in made], task.given


class BrokenTest(absltest.TestCase):
  def test_what_is_broken_is_what_its_name_says(self):
    train, predict = _programs('reference')[0]
    for name, evals_too in (
      ('nothing hidden', False),
      ('shared moments', False),
      ('next sentence alone', False),
      ('attention to padding', True),
      ('head of its own', True),
      ('dropout in evals', True),
    ):
      with self.subTest(name):
        (other_train, other_predict), given = _programs(name)
        self.assertEqual(given, ('^params/',))
        self.assertNotEqual(other_train, train)
        self.assertEqual(other_predict != predict, evals_too)
    (other, _), given = _programs('random start')
    self.assertEqual((other, given), (train, ()))
    for name in ('learning rate x10', 'learning rate /10'):
      self.assertNotEqual(_programs(name)[0][0], train)


class BootstrapTest(absltest.TestCase):
  def test_heads_of_the_first_layer_begin_with_one_neighbour_each(self):
    tiny = bert.BENCHMARK.size('tiny')
    task = BertTask(tiny.hparams, tiny.data)
    params, _ = quick.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    params = bootstrap.primed(params, np.random.default_rng(0))
    encoder = jax.device_get(params['encoder'])
    tokens = np.random.default_rng(1).integers(5, 290, 128)
    x = encoder['word'][tokens] + encoder['position'] + encoder['type'][:1]
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    part = encoder['blocks']['attention']
    query, key = (
      np.einsum('lw,whd->hld', x, part[name]['kernel'][0])
      for name in ('query', 'key')
    )
    weights = jax.nn.softmax(jnp.asarray(query @ key.swapaxes(1, 2)) / 4)
    for head, offset in enumerate(bootstrap._OFFSETS):
      near = [weights[head, i, i + offset] for i in range(8, 120)]
      self.assertGreater(float(np.mean(near)), 0.5, offset)


if __name__ == '__main__':
  absltest.main()
