"""BERT as it is, and variants that its target must catch."""

import dataclasses
import re
from unittest import mock

import jax
import jax.numpy as jnp

from models import bert
from models.parts import attention
from suite.benchmarks import broken as variants
from suite.benchmarks.bert.task import BertTask
from suite.run.sharding import path_of


def _nothing_hidden():
  """Shows the tokens that are to be predicted, in training."""
  loss = BertTask.loss

  def broken(self, params, stats, batch, key):
    row = jnp.arange(batch['tokens'].shape[0])[:, None]
    # A place that is no prediction is 0, and [CLS] stays.
    label = jnp.where(
      batch['predicted_weight'] > 0, batch['labels'], batch['tokens'][:, :1]
    )
    tokens = jnp.asarray(batch['tokens']).at[row, batch['predicted']].set(label)
    return loss(self, params, stats, {**batch, 'tokens': tokens}, key)

  return mock.patch.object(BertTask, 'loss', broken)


def _no_mask():
  """Lets tokens attend to padding."""
  return mock.patch.object(
    attention,
    'same_segment',
    lambda segments, others: jnp.ones(
      (len(segments), 1, segments.shape[1], others.shape[1]), bool
    ),
  )


def _head_of_its_own():
  """Takes the matrix of the logits for a constant."""
  call = bert.Bert.__call__

  def broken(self, inputs, *, drop_key=None):
    x = self.encoder(inputs, drop_key=drop_key)
    word = self.encoder.word[...]
    self.encoder.word[...] = jax.random.permutation(jax.random.key(0), word)
    with mock.patch.object(bert.Encoder, '__call__', lambda *_, **__: x):
      return call(self, inputs, drop_key=drop_key)

  return mock.patch.object(bert.Bert, '__call__', broken)


def _next_sentence_alone():
  """Leaves the loss of the masked tokens out."""
  loss = BertTask.loss

  def broken(self, params, stats, batch, key):
    nothing = jnp.zeros_like(batch['predicted_weight'])
    batch = {**batch, 'predicted_weight': nothing}
    return loss(self, params, stats, batch, key)

  return mock.patch.object(BertTask, 'loss', broken)


def _shared_moments():
  """Trains queries, keys and values by the mean of their gradients."""
  step = BertTask.train_step

  def broken(self, state, batch):
    optimizer = self.optimizer

    def update(grads, opt, params):
      part = grads['encoder']['blocks']['attention']

      def shared(path, leaf):
        name = path_of(path)
        if not re.search(r'attention/(query|key|value)/', name):
          return leaf
        kind = name.rpartition('/')[2]
        return sum(part[each][kind] for each in ('query', 'key', 'value')) / 3

      grads = jax.tree_util.tree_map_with_path(shared, grads)
      return optimizer.update(grads, opt, params)

    self.optimizer = optimizer._replace(update=update)
    try:
      return step(self, state, batch)
    finally:
      self.optimizer = optimizer

  return mock.patch.object(BertTask, 'train_step', broken)


def _random_start():
  """Initialises what the checkpoint holds."""
  return mock.patch.object(BertTask, 'given', property(lambda self: (), _set))


def _set(self, value):
  del self, value


def _dropout_in_evals():
  predict = BertTask.predict

  def broken(self, state, batch):
    model = self._model
    key = jax.random.fold_in(state.key, state.step)

    def apply(*args, **how):
      return model.apply(*args, **how, drop_key=key)

    self._model = mock.Mock(apply=apply)
    try:
      return predict(self, state, batch)
    finally:
      self._model = model

  return mock.patch.object(BertTask, 'predict', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'nothing hidden': variants.within(_nothing_hidden),
  'attention to padding': variants.within(_no_mask),
  'head of its own': variants.within(_head_of_its_own),
  'next sentence alone': variants.within(_next_sentence_alone),
  'shared moments': variants.within(_shared_moments),
  'random start': variants.within(_random_start),
  'dropout in evals': (
    lambda hp: dataclasses.replace(hp, dropout=0.1),
    _dropout_in_evals,
  ),
}
