"""Reads and writes one place of each game in arrays of many."""

# B games, M places, K places of a game at once. Where each place has a row, the
# rows of all games share one dimension, B * M: with a dimension for each, TPUs
# use one layout for reads and another for writes, and copy between them.

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def row_of(values: jax.Array, at: jax.Array) -> jax.Array:
  """values [B, M, ...], at [B] -> [B, ...]."""
  return jax.vmap(
    lambda rows, place: jax.lax.dynamic_index_in_dim(
      rows, place, keepdims=False
    )
  )(values, at)


def rows_of(values: jax.Array, at: jax.Array) -> jax.Array:
  """values [B, M, ...], at [B, K] -> [B, K, ...]."""
  return jax.vmap(lambda rows, places: rows[places])(values, at)


def of_children(values: jax.Array, children: jax.Array, none: jax.Array):
  """Values [B, M] of children [B, A]; `none` [B] where there is no child."""
  found = rows_of(values, jnp.maximum(children, 0))
  return jnp.where(children < 0, none[:, None], found)


def one_hot(at: jax.Array, like: jax.Array) -> jax.Array:
  """One-hot masks of places `at` [B], with the shape of `like`: bool [B, M]."""
  return jnp.arange(like.shape[1], dtype=jnp.int32)[None] == at[:, None]


def put_row(values: jax.Array, at: jax.Array, rows: jax.Array) -> jax.Array:
  """values [B, M, ...] with rows [B, K, ...] at [B, K]; -1: nowhere."""
  at = jnp.where(at < 0, values.shape[1], at)
  return jax.vmap(
    lambda into, places, new: into.at[places].set(new, mode='drop')
  )(values, at, rows)


def nodes_at(values: jax.Array, at: jax.Array) -> jax.Array:
  """values [B * M, ...], at [B] or [B, K] of a game's own -> [B, (K,) ...]."""
  return values.at[_places(values, at)].get(mode='promise_in_bounds')


def put_nodes(values: jax.Array, at: jax.Array, new: jax.Array) -> jax.Array:
  """values [B * M, ...], new [B, (K,) ...] at [B] or [B, K]; -1: nowhere."""
  places = jnp.where(at < 0, values.shape[0], _places(values, at))
  return values.at[places].set(new, mode='drop')


def _places(values: jax.Array, at: jax.Array) -> jax.Array:
  games = at.shape[0]
  first = jnp.arange(games, dtype=at.dtype) * (values.shape[0] // games)
  return at + jnp.expand_dims(first, range(1, at.ndim))


def of_few(
  function: Callable[[Any], Any],
  which: jax.Array,
  rows: Any,
  otherwise: Any,
) -> Any:
  """Results of `function(rows)` in `which` bool [B], else `otherwise`.

  Both are pytrees of arrays [B, ...]. The function is called for some of these
  rows at a time, so that an expensive one that few rows need costs little. If
  all rows need it, it is called about eight times.
  """
  count = which.shape[0]
  at_once = min(max(8, count // 8), count)

  def more(carry):
    found, waits = carry
    at = jnp.nonzero(waits, size=at_once, fill_value=count)[0]
    asked = jax.tree.map(lambda leaf: leaf[jnp.minimum(at, count - 1)], rows)
    found = jax.tree.map(
      lambda all_of_them, some: all_of_them.at[at].set(some, mode='drop'),
      found,
      function(asked),
    )
    return found, waits.at[at].set(False, mode='drop')

  return jax.lax.while_loop(
    lambda carry: carry[1].any(), more, (otherwise, which)
  )[0]


def merge(values: jax.Array) -> jax.Array:
  """[B, L, ...] -> [B * L, ...]."""
  return values.reshape(-1, *values.shape[2:])
