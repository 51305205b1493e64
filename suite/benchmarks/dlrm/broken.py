"""DLRM as it is, and variants broken in ways that its target must catch."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp

from models import dlrm
from models.parts.tables import Tables
from suite.benchmarks import broken as variants
from suite.benchmarks.dlrm.task import ClicksTask
from suite.run import optimizers

_DEVICES = 8  # of the variant that sums their means


def patched(owner, name: str, changed):
  """Trains with `changed(original)` in place of a function or a method."""
  original = getattr(owner, name)
  return variants.within(
    lambda: mock.patch.object(owner, name, changed(original))
  )


def _batches(change):
  """Changes every batch that the loss and `predict` see."""

  def loss(original):
    return lambda self, whole, large, stats, batch: original(
      self, whole, large, stats, change(batch)
    )

  return patched(ClicksTask, '_loss', loss)


def _last_wins(original):
  """Keeps of a row that comes several times the last gradient, not the sum."""

  def last(ids, values, *, table_rows):
    rows = original(ids, values, table_rows=table_rows)
    order = jnp.argsort(ids, stable=True)
    place = jnp.searchsorted(rows.ids, ids[order])
    values = rows.values.at[place].set(values[order])
    return dataclasses.replace(rows, values=values)

  return last


def _frozen_tables(step):
  """Keeps all tables at their initial values."""

  def broken(self, state, batch):
    after, metrics = step(self, state, batch)
    small = state.params['whole']['small']
    params = {
      'store': state.params['store'],
      'whole': {**after.params['whole'], 'small': small},
    }
    return dataclasses.replace(after, params=params), metrics

  return broken


def _first_row(rows):
  """Gives all categories of a column one row."""
  return lambda self, ids, *, large: rows(self, 0 * ids, large=large)


def _concatenated(dots):
  """The vectors themselves, as many numbers as there would be products."""

  def broken(vectors):
    count = jax.eval_shape(dots, vectors).shape[1]
    flat = vectors.reshape(len(vectors), -1)[:, :count]
    return jnp.pad(flat, ((0, 0), (0, count - flat.shape[1])))

  return broken


SHARED = {
  **variants.usual('base_learning_rate'),
  'duplicates not summed': patched(optimizers, 'sum_rows', _last_wins),
  'tables frozen': patched(ClicksTask, 'train_step', _frozen_tables),
  'one row in a table': patched(Tables, '_rows', _first_row),
  'labels shifted': _batches(
    lambda batch: {**batch, 'label': jnp.roll(batch['label'], 1)}
  ),
}


def _rates(factor: float):
  """Both names of the learning rate, times `factor`."""

  def change(hp):
    rate = factor * hp.base_learning_rate
    return dataclasses.replace(
      hp, base_learning_rate=rate, sgd_base_learning_rate=rate
    )

  return variants.changed(change)


VARIANTS = {
  **SHARED,
  'learning rate x10': _rates(10.0),
  'learning rate /10': _rates(0.1),
  'no dot products': patched(dlrm, 'dots', _concatenated),
  f'means of {_DEVICES} devices summed': patched(
    ClicksTask, '_loss', lambda loss: lambda *of: _DEVICES * loss(*of)
  ),
}
