"""NeuMF as it is, and broken in ways that its target is to tell."""

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
  """Every batch of an epoch goes through `change(data, batch)`."""
  epoch = movielens.train_epoch

  def changed(data, **how):
    for batch in epoch(data, **how):
      yield change(data, batch)

  return mock.patch.object(movielens, 'train_epoch', changed)


def _static_negatives():
  """Every epoch is the first once more."""
  epoch = movielens.train_epoch
  return mock.patch.object(
    movielens,
    'train_epoch',
    lambda data, **how: epoch(data, **how | {'epoch': 1}),
  )


def _popular_negatives():
  """Negatives are drawn as often as people choose them, not all alike."""
  draws = np.random.default_rng(0)

  def change(data, batch):
    popular = draws.choice(data.item, len(batch['item']))
    return batch | {'item': np.where(batch['label'], batch['item'], popular)}

  return _epochs(change)


def _few_negatives():
  """Negatives come from the first tenth of the items only."""

  def change(data, batch):
    few = batch['item'] % (data.items // 10)
    return batch | {'item': np.where(batch['label'], batch['item'], few)}

  return _epochs(change)


def _no_users():
  """All users share a row, so only popularity can be learnt."""
  return _epochs(
    lambda data, batch: batch | {'user': np.zeros_like(batch['user'])}
  )


def _frozen(part: str):
  """One part of the parameters stays as it began."""

  def context():
    step = LazyNcfTask.train_step

    def broken(self, state, batch):
      after, metrics = step(self, state, batch)
      params = after.params | {part: state.params[part]}
      return dataclasses.replace(after, params=params), metrics

    return mock.patch.object(LazyNcfTask, 'train_step', broken)

  return context


def _constant_scores():
  """A model that scores all pairs alike: with ties in its favour, perfect."""
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
