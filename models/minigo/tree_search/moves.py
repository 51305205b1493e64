"""Results of a search: moves, training targets, resigning.

The rules are those of MiniGo (mlcommons/training, retired_benchmarks/minigo/
tensorflow/minigo/cc: mcts_tree), with one exception: there pruning also removes
visits from the tree that the next move starts from, which distorts the value of
its root; here only the target is pruned.
"""

# B games, A actions, the last is a pass.

import dataclasses

import jax
import jax.numpy as jnp

from models.minigo.tree_search import arrays, formulas
from models.minigo.tree_search.trees import Tree

# Exponent of visits: makes the first moves of a game slightly more diverse.
_TEMPERATURE = 0.98


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Root:
  """Root of a search and its moves, of each game."""

  sign: jax.Array  # float32 [B], 1 where Black is to play, else -1
  count: jax.Array  # int32 [B], visits of the node itself
  value: jax.Array  # float32 [B], its W / (1 + N), from Black's view
  visits: jax.Array  # int32 [B, A]
  totals: jax.Array  # float32 [B, A], W
  priors: jax.Array  # float32 [B, A], -1: illegal


def at_root(tree: Tree) -> Root:
  """Roots of trees that have been searched, so that they are expanded."""
  count = arrays.row_of(tree.visits, tree.root)
  children = arrays.nodes_at(tree.children, tree.root)
  start = arrays.row_of(tree.starts, tree.root)
  total = arrays.row_of(tree.totals, tree.root)
  return Root(
    sign=arrays.row_of(tree.signs, tree.root),
    count=count,
    value=total / (1.0 + count.astype(jnp.float32)),
    visits=arrays.of_children(tree.visits, children, jnp.zeros_like(count)),
    totals=arrays.of_children(tree.totals, children, start),
    priors=arrays.nodes_at(tree.priors, tree.root),
  )


def resigns(root: Root, threshold: jax.Array) -> jax.Array:
  """True where the player values its root below `threshold` [B]: bool [B]."""
  return root.sign * root.value < threshold


def most_visited(root: Root, allowed: jax.Array | None = None) -> jax.Array:
  """Most visited moves, of equal ones those of the best score: int32 [B].

  `allowed` bool [B, A] are the moves to choose from; a pass always is.
  """
  visits = root.visits
  if allowed is not None:
    visits = jnp.where(_or_pass(allowed), visits, -1)
  most = visits == visits.max(axis=1, keepdims=True)
  scores = jnp.where(most, _final_scores(root), -jnp.inf)
  best = jnp.argmax(scores, axis=1, keepdims=True).astype(jnp.int32)
  is_legal = jnp.take_along_axis(root.priors, best, axis=1) >= 0
  return jnp.where(is_legal, best, root.visits.shape[1] - 1)[:, 0]


def soft_pick(key: jax.Array, root: Root) -> jax.Array:
  """Random moves in proportion to N^0.98: int32 [B].

  It is a pass only if no point was visited.
  """
  points = root.visits[:, :-1].astype(jnp.float32)
  drawn = jax.random.categorical(key, _TEMPERATURE * jnp.log(points), axis=-1)
  any_point = (points > 0).any(axis=1)
  return jnp.where(any_point, drawn, points.shape[1]).astype(jnp.int32)


def choose(
  key: jax.Array,
  root: Root,
  early: jax.Array,
  allowed: jax.Array | None = None,
) -> jax.Array:
  """Random moves in games that are `early` bool [B], else the most visited.

  Random moves ignore `allowed`: those rules are for the end of games.
  """
  return jnp.where(early, soft_pick(key, root), most_visited(root, allowed))


def pruned(root: Root, allowed: jax.Array | None = None) -> jax.Array:
  """Visits without those that the final values do not justify: int32 [B, A].

  A move other than the most visited keeps as many visits as bring its score,
  Q + U, below that of the most visited. Moves that are not `allowed` bool
  [B, A] keep none; if no visits are left, a pass gets one.
  """
  scale = formulas.u_scale(root.count)
  count = root.count.astype(jnp.float32)
  best = most_visited(root)[:, None]
  best_score = jnp.take_along_axis(_final_scores(root), best, axis=1)
  value = root.sign[:, None] * root.totals / (1.0 + root.visits)
  lead = best_score - value
  needed = (scale * jnp.sqrt(count))[:, None] * jnp.maximum(root.priors, 0.0)
  needed = jnp.floor(needed / jnp.where(lead > 0, lead, 1.0))
  # May exceed the largest int32.
  visits = root.visits.astype(jnp.float32)
  kept = jnp.where(lead > 0, jnp.minimum(visits, needed), 0.0)
  is_best = jnp.arange(visits.shape[1])[None] == best
  kept = jnp.where(is_best, visits, kept).astype(jnp.int32)
  if allowed is not None:
    kept = jnp.where(_or_pass(allowed), kept, 0)
  nothing = (kept == 0).all(axis=1)
  return kept.at[:, -1].set(jnp.where(nothing, 1, kept[:, -1]))


def policy_target(visits: jax.Array, early: jax.Array) -> jax.Array:
  """Shares of visits int32 [B, A]; of N^0.98 in games `early` bool [B]."""
  counts = visits.astype(jnp.float32)
  counts = jnp.where(early[:, None], counts**_TEMPERATURE, counts)
  return counts / counts.sum(axis=1, keepdims=True)


def _final_scores(root: Root) -> jax.Array:
  """Scores [B, A] for ties and pruning, with sqrt(1 + N)."""
  count = 1.0 + root.count.astype(jnp.float32)
  return formulas.action_scores(
    visits=root.visits,
    totals=root.totals,
    priors=root.priors,
    sign=root.sign,
    weight=formulas.u_scale(root.count) * jnp.sqrt(count),
  )


def _or_pass(allowed: jax.Array) -> jax.Array:
  return allowed.at[:, -1].set(True)
