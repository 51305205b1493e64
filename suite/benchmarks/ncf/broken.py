"""NeuMF as it is, and variants broken in ways that its target must catch."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.movielens import read as movielens
from models import ncf as model
from suite.benchmarks import broken as variants
from suite.benchmarks.ncf.task import LazyNcfTask


def _epochs(change):
  """Changes every batch of an epoch by `change(data, batch)`."""
  epoch = movielens.train_epoch

  def changed(data, **how):
    for batch in epoch(data, **how):
      yield change(data, batch)

  return mock.patch.object(movielens, 'train_epoch', changed)


def _static_negatives():
  """Repeats the first epoch."""
  epoch = movielens.train_epoch
  return mock.patch.object(
    movielens,
    'train_epoch',
    lambda data, **how: epoch(data, **how | {'epoch': 1}),
  )


def _popular_negatives():
  """Draws negatives by their popularity, not uniformly."""
  draws = np.random.default_rng(0)

  def change(data, batch):
    popular = draws.choice(data.item, len(batch['item']))
    return batch | {'item': np.where(batch['label'], batch['item'], popular)}

  return _epochs(change)


def _few_negatives():
  """Draws negatives from the first tenth of the items only."""

  def change(data, batch):
    few = batch['item'] % (data.items // 10)
    return batch | {'item': np.where(batch['label'], batch['item'], few)}

  return _epochs(change)


def _no_users():
  """Gives all users one row, so that only popularity can be learnt."""
  return _epochs(
    lambda data, batch: batch | {'user': np.zeros_like(batch['user'])}
  )


def _frozen(part: str):
  """Keeps one part of the parameters at its initial values."""

  def context():
    step = LazyNcfTask.train_step

    def broken(self, state, batch):
      after, metrics = step(self, state, batch)
      params = after.params | {part: state.params[part]}
      return dataclasses.replace(after, params=params), metrics

    return mock.patch.object(LazyNcfTask, 'train_step', broken)

  return context


def _constant_scores():
  """Gives all pairs the same score, which is perfect if ties are hits."""
  call = model.Tower.__call__

  def broken(self, *rows, **how):
    return jax.lax.stop_gradient(jnp.zeros_like(call(self, *rows, **how)))

  return mock.patch.object(model.Tower, '__call__', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'negatives never redrawn': variants.within(_static_negatives),
  'negatives by popularity': variants.within(_popular_negatives),
  'negatives from a tenth of the items': variants.within(_few_negatives),
  'users ignored': variants.within(_no_users),
  'tower frozen': variants.within(_frozen('tower')),
  'tables frozen': variants.within(_frozen('tables')),
  'all scores alike': variants.within(_constant_scores),
}
