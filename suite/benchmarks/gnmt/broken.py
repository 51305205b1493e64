"""GNMT as it is, and variants that its target must catch."""

from unittest import mock

import jax.numpy as jnp

from models import gnmt
from suite.benchmarks import broken as variants


def _no_attention():
  """Averages the memory with equal weights."""
  call = gnmt.Attention.__call__

  def broken(self, x, memory, keys, mask):
    return call(self, jnp.zeros_like(x), memory, jnp.zeros_like(keys), mask)

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


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'no attention': variants.within(_no_attention),
  'no encoder': variants.within(_no_encoder),
  'memory reversed': variants.within(_memory_reversed),
  'labels not shifted': variants.within(_no_shift),
}
