"""A step done in parts: the memory of a part, the update of the whole."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from suite.run.sharding import Layout, path_of

PyTree = Any


def in_parts(
  function: Callable[
    [Mapping[str, jax.Array], jax.Array], tuple[PyTree, PyTree]
  ],
  batch: Mapping[str, jax.Array],
  key: jax.Array,
  *,
  parts: int,
  layout: Layout,
) -> tuple[PyTree, PyTree]:
  """Results of `function(batch, key)`, found part by part.

  It returns means over the rows of a batch, and values [N, ...] of each row
  that are terms of such a mean. Of the parts, the means are averaged by the sum
  of their rows' `weight`; the values of a row are scaled by its part's share,
  so that their sum is what it was. Every part has a key of its own.

  Args:
    function: (part of the batch, key) -> (means, values by row), all float.
    batch: leaves [N, ...]; 'weight' is among them.
    key: a part's is one of `parts` that this one is split into; if there is
      only one part it has this one.
    parts: divides the rows of each device, which are cut where they lie.
    layout: says which rows are on one device.
  """
  if parts == 1:
    return function(batch, key)
  function = jax.jit(function)  # traced once, for its shapes and for the scan
  cut = {name: _cut(rows, parts, layout) for name, rows in batch.items()}
  keys = jax.random.split(key, parts)
  first = jax.tree.map(lambda x: x[0], (cut, keys))
  means, _ = jax.eval_shape(function, *first)
  _require_floats(means)

  def add(total, each):
    part, share, key = each
    means, by_row = function(part, key)
    total = jax.tree.map(
      lambda t, m: t + m * share.astype(m.dtype), total, means
    )
    return total, jax.tree.map(lambda x: x * share.astype(x.dtype), by_row)

  zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), means)
  shares = _shares(cut['weight'])
  total, by_row = jax.lax.scan(add, zeros, (cut, shares, keys))
  return total, jax.tree.map(lambda x: _joined(x, layout), by_row)


def _shares(weight: jax.Array) -> jax.Array:
  """Weights [parts, N / parts] -> the share of each part [parts], sum 1."""
  each = weight.sum(axis=1)
  total = each.sum()
  # Of nothing but padding, as in the warm-up, all parts count alike.
  even = jnp.full_like(each, 1 / len(each))
  return jnp.where(total > 0, each / jnp.where(total > 0, total, 1), even)


def _cut(rows: jax.Array, parts: int, layout: Layout) -> jax.Array:
  """[N, ...] -> [parts, N / parts, ...]; no row leaves its device."""
  shape = rows.shape[1:]
  of_devices = layout.rows(rows.reshape(layout.ways, parts, -1, *shape), 0)
  cut = jnp.moveaxis(of_devices, 1, 0).reshape(parts, -1, *shape)
  return layout.rows(cut, 1)


def _joined(cut: jax.Array, layout: Layout) -> jax.Array:
  """The inverse of `_cut`."""
  parts, shape = cut.shape[0], cut.shape[2:]
  of_parts = cut.reshape(parts, layout.ways, -1, *shape)
  return layout.rows(jnp.moveaxis(of_parts, 0, 1).reshape(-1, *shape), 0)


def _require_floats(means: PyTree) -> None:
  for path, leaf in jax.tree_util.tree_leaves_with_path(means):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      raise ValueError(
        'Expected floats, of which a step in parts takes the mean; '
        f'{path_of(path)} is {leaf.dtype}.'
      )
