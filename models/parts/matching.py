"""Which object an anchor is to find, from the overlaps of both.

Objects are padded to a number G; `real` says which are none of the padding.
"""

import dataclasses

import jax
import jax.numpy as jnp

NEGATIVE, IGNORED = -1, -2  # in place of an object


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Matches:
  """An object for each anchor, and whether the anchor is to find it."""

  index: jax.Array  # int32 [A]
  positive: jax.Array  # bool [A]


def forced(
  overlaps: jax.Array, real: jax.Array, *, threshold: float
) -> Matches:
  """Matches of SSD, given overlaps [G, A] and `real` [G].

  An anchor has the first of the objects that it overlaps most, and finds it
  where that is more than the threshold. Besides, the first of the anchors that
  an object overlaps most finds that object whatever it overlaps, and of several
  such objects the last.
  """
  overlaps = jnp.where(real[:, None], overlaps, -1.0)
  index = jnp.argmax(overlaps, axis=0).astype(jnp.int32)
  best = jnp.max(overlaps, axis=0)
  objects = jnp.arange(len(real), dtype=jnp.int32)
  own = jnp.argmax(overlaps, axis=1)
  # The largest number of an object wins in whatever order they are written.
  claims = jnp.full(overlaps.shape[1], -1, jnp.int32)
  claims = claims.at[own].max(jnp.where(real, objects, -1))
  return Matches(
    jnp.where(claims >= 0, claims, index), (best > threshold) | (claims >= 0)
  )


def banded(
  overlaps: jax.Array,
  real: jax.Array,
  *,
  low: float,
  high: float,
  keep_best: bool,
) -> jax.Array:
  """Matches of Faster R-CNN: objects [A] int32, NEGATIVE or IGNORED.

  An anchor has the first of the objects that it overlaps most where that is
  `high` or more; below `low` it is negative, between them ignored. With
  `keep_best`, all anchors that share the largest overlap of an object keep
  their own first object, whatever they overlap. Without real objects all are
  negative.
  """
  overlaps = jnp.where(real[:, None], overlaps, -1.0)
  index = jnp.argmax(overlaps, axis=0).astype(jnp.int32)
  best = jnp.max(overlaps, axis=0)
  found = jnp.where(best >= high, index, IGNORED)
  found = jnp.where(best < low, NEGATIVE, found)
  if keep_best:
    most = jnp.max(overlaps, axis=1, keepdims=True)
    shared = jnp.any((overlaps == most) & real[:, None], axis=0)
    found = jnp.where(shared, index, found)
  return found
