"""The Transformer as it is, and broken in ways that its target is to tell."""

import contextlib
import dataclasses
from unittest import mock

import jax.numpy as jnp

from models import attention, transformer


def _scaled_rate(factor: float):
  def change(hp):
    rate = hp.base_learning_rate * factor
    return dataclasses.replace(hp, base_learning_rate=rate)

  return change, contextlib.nullcontext


def _no_encoder():
  """The decoder attends to nothing but zeros."""
  encode = transformer.Transformer.encode

  def broken(self, source, packing=None, *, drop_key=None):
    return jnp.zeros_like(encode(self, source, packing, drop_key=drop_key))

  return mock.patch.object(transformer.Transformer, 'encode', broken)


def _no_causal_mask():
  """In training, the decoder sees what comes after."""
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
  """In training, the decoder is fed the token that it is to write."""
  decode = transformer.Transformer.decode

  def broken(self, memory, memory_mask, target, packing=None, *, drop_key=None):
    left = jnp.pad(target, ((0, 0), (0, 1)))[:, 1:]
    return decode(self, memory, memory_mask, left, packing, drop_key=drop_key)

  return mock.patch.object(transformer.Transformer, 'decode', broken)


_SAME = lambda hp: hp  # noqa: E731
VARIANTS = {
  'reference': (_SAME, contextlib.nullcontext),
  'learning rate x10': _scaled_rate(10.0),
  'learning rate /10': _scaled_rate(0.1),
  'no encoder': (_SAME, _no_encoder),
  'no causal mask': (_SAME, _no_causal_mask),
  'no positions': (_SAME, _no_positions),
  'labels not shifted': (_SAME, _no_shift),
}
