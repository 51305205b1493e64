"""The Transformer as it is, and variants that its target must catch."""

from unittest import mock

import jax.numpy as jnp

from models import transformer
from models.parts import attention
from suite.benchmarks import broken as variants


def _no_encoder():
  """Gives the decoder zeros as its memory."""
  encode = transformer.Transformer.encode

  def broken(self, source, packing=None, *, drop_key=None):
    return jnp.zeros_like(encode(self, source, packing, drop_key=drop_key))

  return mock.patch.object(transformer.Transformer, 'encode', broken)


def _no_causal_mask():
  """Shows the decoder later tokens in training."""
  call = attention.Attention.__call__

  def broken(self, *arrays, causal=False, drop_key=None):
    del causal
    *arrays, mask = arrays
    if mask is None:
      mask = jnp.ones((1, 1, 1, 1), bool)
    return call(self, *arrays, mask, drop_key=drop_key)

  return mock.patch.object(attention.Attention, '__call__', broken)


def _no_positions():
  return mock.patch.object(
    transformer,
    'signal',
    lambda positions, width: jnp.zeros((*positions.shape, width)),
  )


def _no_shift():
  """Feeds the decoder the token that it must predict, in training."""
  decode = transformer.Transformer.decode

  def broken(self, memory, memory_mask, target, packing=None, *, drop_key=None):
    left = jnp.pad(target, ((0, 0), (0, 1)))[:, 1:]
    return decode(self, memory, memory_mask, left, packing, drop_key=drop_key)

  return mock.patch.object(transformer.Transformer, 'decode', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'no encoder': variants.within(_no_encoder),
  'no causal mask': variants.within(_no_causal_mask),
  'no positions': variants.within(_no_positions),
  'labels not shifted': variants.within(_no_shift),
}
