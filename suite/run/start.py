"""Start weights: leaves of a run's state that are read and not initialised.

A leaf has the same name whether it is frozen or trained, that of the path that
`Task.init_model` gives it: `frozen/params/embedding` is `params/embedding`. So
weights do not depend on what a recipe freezes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from suite.run import held
from suite.run.sharding import path_of


class Weights(Protocol):
  """Arrays by the path of a leaf, each verified when it is read."""

  entries: Mapping[str, Any]  # of each array, `dtype` and `shape`
  path: str  # for messages

  def rows(self, name: str, first: int, last: int) -> np.ndarray:
    """Rows of an array, or all of one without dimensions."""


def is_given(path: str, patterns: Sequence[str]) -> bool:
  """True for a leaf that is read, or that begins as a copy of such a leaf."""
  return held.matches(_source(path), patterns)


def made(state: Any, patterns: Sequence[str]) -> Any:
  """The leaves of a state that are initialised: None in place of the others."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: None if is_given(path_of(path), patterns) else leaf,
    state,
  )


def check(weights: Weights | None, state: Any, patterns: Sequence[str]) -> None:
  """ValueError unless the weights are what a state of shapes needs, no more."""
  leaves = [
    (_source(path_of(path)), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  ]
  held.require_use(patterns, [name for name, _ in leaves])
  leaves = [each for each in leaves if held.matches(each[0], patterns)]
  for name, leaf in leaves:
    if weights is None:
      raise ValueError(
        f'Expected start weights with {name} and others, got none: the size '
        'declares none.'
      )
    found = weights.entries.get(name)
    wanted = f'{leaf.dtype} {leaf.shape}'
    got = f'{found.dtype} {tuple(found.shape)}' if found else 'none'
    if got != wanted:
      raise ValueError(
        f'Expected an array {name!r} {wanted} in {weights.path}, got {got}.'
      )
  unread = sorted(weights.entries.keys() - dict(leaves)) if weights else ()
  if unread:
    raise ValueError(
      f'Expected arrays in {weights.path} that the task reads, got '
      f'{", ".join(unread)}, which no pattern of `Task.given` matches.'
    )


def fill(state: Any, spec: Any, weights: Weights | None) -> Any:
  """Reads what `made` left out -> the whole state, as `spec` lays it out.

  Each process reads the rows that its devices need, one array after the other.
  Without weights these leaves are zero, as the warm-up wants them.
  """

  def filled(path, leaf, spec):
    if leaf is not None or spec is None:
      return leaf
    if weights is None:
      return _zeros(spec)
    return _read(weights, _source(path_of(path)), spec)

  return jax.tree_util.tree_map_with_path(
    filled, state, spec, is_leaf=lambda leaf: leaf is None
  )


def span(indices: Iterable[tuple[slice, ...]], rows: int) -> tuple[int, int]:
  """The first row that any of the indices takes, and one after the last."""
  spans = [index[0].indices(rows) for index in indices]
  return min(s[0] for s in spans), max(s[1] for s in spans)


def _source(path: str) -> str:
  """The name in the weights: averages begin as the parameters."""
  head, _, rest = path.partition('/')
  return {'average': f'params/{rest}', 'frozen': rest}.get(head, path)


def _zeros(spec: jax.ShapeDtypeStruct) -> jax.Array:
  def part(index):
    shape = np.broadcast_to(np.int8(0), spec.shape)[index].shape
    return np.zeros(shape, spec.dtype)

  return jax.make_array_from_callback(spec.shape, spec.sharding, part)


def _read(weights: Weights, name: str, spec: jax.ShapeDtypeStruct) -> jax.Array:
  if not spec.shape:
    values = weights.rows(name, 0, 1)
    return jax.make_array_from_callback((), spec.sharding, lambda _: values)
  needed = spec.sharding.addressable_devices_indices_map(spec.shape)
  first, last = span(needed.values(), spec.shape[0])
  rows = weights.rows(name, first, last)

  def part(index):
    start, stop, _ = index[0].indices(spec.shape[0])
    return rows[(slice(start - first, stop - first), *index[1:])]

  return jax.make_array_from_callback(spec.shape, spec.sharding, part)
