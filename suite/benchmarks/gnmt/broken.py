"""GNMT as it is, and variants that its target must catch."""

from unittest import mock

import jax.numpy as jnp

from models import gnmt
from models.parts import lstm
from suite.benchmarks import broken as variants
from suite.benchmarks.gnmt import task


def _no_attention():
  """Averages the memory with equal weights."""
  call = gnmt.Attention.__call__

  def broken(self, x, memory, keys, mask):
    return call(self, jnp.zeros_like(x), memory, jnp.zeros_like(keys), mask)

  return mock.patch.object(gnmt.Attention, '__call__', broken)


def _no_memory_mask():
  """Attends to padding as well, in training and in evals."""
  call = gnmt.Attention.__call__

  def broken(self, x, memory, keys, mask):
    return call(self, x, memory, keys, jnp.ones_like(mask))

  return mock.patch.object(gnmt.Attention, '__call__', broken)


def _no_encoder():
  """Gives the decoder zeros as its memory."""
  encode = gnmt.GNMT.encode

  def broken(self, source, *, drop_key=None):
    return jnp.zeros_like(encode(self, source, drop_key=drop_key))

  return mock.patch.object(gnmt.GNMT, 'encode', broken)


def _memory_reversed():
  """Keys are those of the places from the other end."""
  keys = gnmt.Attention.keys

  def broken(self, memory):
    return jnp.flip(keys(self, memory), axis=1)

  return mock.patch.object(gnmt.Attention, 'keys', broken)


def _no_shift():
  """Feeds the decoder the token that it must predict, in training."""
  losses = gnmt.token_losses

  def broken(logits, targets, *, smoothing):
    # The targets are the tokens after those that are fed.
    fed = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return losses(logits, fed, smoothing=smoothing)

  return mock.patch.object(gnmt, 'token_losses', broken)


def _no_forget_gate():
  """Cells forget all: what a place leaves is of that place alone."""
  activated = lstm._activated

  def broken(gates):
    i, f, g, o = jnp.split(activated(gates), 4, axis=-1)
    return jnp.concatenate([i, jnp.zeros_like(f), g, o], axis=-1)

  return mock.patch.object(lstm, '_activated', broken)


def _mean_over_tokens():
  """The loss of a token, not of a sentence."""
  loss = task.GNMTTask.loss

  def broken(self, params, stats, batch, key):
    value, rest = loss(self, params, stats, batch, key)
    tokens = (batch['target'][:, 1:] != gnmt.PAD).sum(axis=1)
    return value / jnp.maximum(tokens.mean(), 1.0), rest

  return mock.patch.object(task.GNMTTask, 'loss', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'no attention': variants.within(_no_attention),
  'no memory mask': variants.within(_no_memory_mask),
  'no encoder': variants.within(_no_encoder),
  'memory reversed': variants.within(_memory_reversed),
  'labels not shifted': variants.within(_no_shift),
  'no forget gate': variants.within(_no_forget_gate),
  'loss by token': variants.within(_mean_over_tokens),
}
