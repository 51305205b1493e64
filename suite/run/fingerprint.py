"""Fingerprint of a state, made on the devices: a number for each leaf."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Odd factors of well-known mixers: each is a bijection of uint32.
_PLACE, _MIX_1, _MIX_2 = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def fingerprint(state: Any) -> jax.Array:
  """State -> uint32 [leaves]; each changes with any element of its leaf.

  Every element is mixed with its place and they are added modulo 2**32, which
  gives the same however the leaf is spread over devices.
  """
  return jnp.stack([_mark(leaf) for leaf in jax.tree.leaves(state)])


def _mark(leaf: jax.Array) -> jax.Array:
  words = _words(leaf)
  place, stride = jnp.zeros((), jnp.uint32), 1
  for axis in reversed(range(words.ndim)):
    along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place = place + along * np.uint32(stride % 2**32)
    stride *= words.shape[axis]
  # Every line is a bijection: no two words of a place give the same.
  mixed = words + place * np.uint32(_PLACE)
  mixed = (mixed ^ (mixed >> 16)) * np.uint32(_MIX_1)
  mixed = (mixed ^ (mixed >> 13)) * np.uint32(_MIX_2)
  return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def _words(leaf: jax.Array) -> jax.Array:
  """Bits of every element as uint32; 64 bits as a last axis of two."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  if leaf.dtype == jnp.bool_:
    leaf = leaf.astype(jnp.uint8)
  bits = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
  return jax.lax.bitcast_convert_type(leaf, bits).astype(jnp.uint32)
