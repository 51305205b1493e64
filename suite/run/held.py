"""Takes leaves out of trees by their paths, and puts them back.

A tree keeps its structure: where a leaf is taken out, it holds None.
"""

from collections.abc import Sequence
import re
from typing import Any

import jax

from suite.run.sharding import path_of


def matches(path: str, patterns: Sequence[str]) -> bool:
  """True where a regex is found in the path of a leaf."""
  return any(re.search(pattern, path) for pattern in patterns)


def require_use(patterns: Sequence[str], paths: Sequence[str]) -> None:
  """ValueError for a pattern that matches no path, or one that is no list."""
  if isinstance(patterns, str):
    raise ValueError(f'Expected a list of patterns, got the str {patterns!r}.')
  idle = [p for p in patterns if not any(re.search(p, path) for path in paths)]
  if idle:
    raise ValueError(
      f'Expected patterns that match a leaf, got {idle}; leaves are '
      f'{", ".join(paths)}.'
    )


def take(tree: Any, patterns: Sequence[str]) -> tuple[Any, Any]:
  """Splits a tree -> the rest, and the leaves whose paths match.

  Raises as `require_use` does.
  """
  require_use(
    patterns,
    [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)],
  )

  def taken(path, leaf):
    return leaf if matches(path_of(path), patterns) else None

  held = jax.tree_util.tree_map_with_path(taken, tree)
  return without(tree, held), held


def without(tree: Any, held: Any) -> Any:
  """The leaves of a tree that are not held."""
  return _merged(
    lambda leaf, other: leaf if other is None else None, tree, held
  )


def put_back(tree: Any, held: Any) -> Any:
  """All leaves: of two trees that `take` made, the whole."""
  return _merged(
    lambda leaf, other: other if leaf is None else leaf, tree, held
  )


def _merged(function: Any, tree: Any, held: Any) -> Any:
  return jax.tree.map(function, tree, held, is_leaf=lambda leaf: leaf is None)
