"""Tree search on the device: many games at once, several leaves of each.

The search is that of MiniGo in mlcommons/training, rounds v0.7 to v2.1:
retired_benchmarks/minigo/tensorflow/minigo/cc, mcts_tree and
concurrent_selfplay. A round selects up to L leaves of every game, evaluates the
leaves of all games in one call of the net, and backs the values up. A selected
leaf counts as a loss for the player who chose it until it is evaluated (virtual
loss), so that the next one differs; a leaf that is selected twice is evaluated
once. Leaves where the game is over are backed up at once and take none of the L
places.

mctx is not used: it selects one leaf a game and call, has no virtual losses,
and cannot keep the subtree of a move that was played.

The leading dimension of all arrays is games, which are independent of each
other, so that they can be split over devices. The layout follows the costs of a
round:

- Descending reads two rows [A] of one node at each step, of [B * M, A].
  Statistics that visits change are arrays [B, M] of the nodes themselves; they
  are read through `children` and written densely, with the path of a leaf as a
  mask. Nothing is scattered.
- Every node keeps its state, a row of [B * M, N], so that a leaf is one move
  from its parent. Replaying the moves from the root would cost one move for
  each step of its depth, about 6 % of an evaluation by a small net (9x9, CPU).
- A node that leaves the tree frees its place, and a new one takes the first
  free place. So moves that were not played are dropped without a copy.

A node with A actions takes 8 A bytes and its state: on 19x19 2.9 kB and, with
the hashes of 722 positions, 12.3 kB; a tree for 800 reads takes 12.3 MB.
"""

# B games, M nodes of a tree, A actions (the last is a pass), L leaves a round.

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from models.minigo.tree_search import arrays, formulas, trees
from models.minigo.tree_search.trees import Game, Settings, Tree

# Below any other score: a pass is chosen only if nothing else is legal.
_NO_PASS = -100_000.0

# states [K, ...] -> (logits float32 [K, A], values float32 [K] for Black)
Evaluate = Callable[[Any], tuple[jax.Array, jax.Array]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Picked:
  """Leaves of each game that wait for the net."""

  leaves: jax.Array  # int32 [B, L]
  paths: jax.Array  # bool [B, L, M], from the root to the leaf
  count: jax.Array  # int32 [B]


def search(
  tree: Tree, game: Game, evaluate: Evaluate, settings: Settings
) -> Tree:
  """Runs rounds until every game is done; finished games wait for the rest."""
  return jax.lax.while_loop(
    lambda tree: ~trees.is_done(tree).all(),
    lambda tree: grow(tree, game, evaluate, settings),
    tree,
  )


def grow(
  tree: Tree, game: Game, evaluate: Evaluate, settings: Settings
) -> Tree:
  """Runs one round, with one call of the net for B * L states.

  Trees that are done do not change.
  """
  tree, picked = _pick(_mix_noise(tree, settings), game, settings)
  states = jax.tree.map(arrays.merge, trees.states_at(tree, picked.leaves))
  logits, values = evaluate(states)
  priors = _priors(logits, game.legal(states))
  shape = picked.leaves.shape
  return _answer(
    tree,
    picked,
    priors.reshape(*shape, -1),
    values.astype(jnp.float32).reshape(shape),
    settings,
  )


def _mix_noise(tree: Tree, settings: Settings) -> Tree:
  """Mixes pending noise into the priors of roots that have been expanded."""
  row = arrays.nodes_at(tree.priors, tree.root)
  legal = row >= 0
  waits = (tree.noise > 0).any(axis=1) & arrays.row_of(tree.expanded, tree.root)
  noise = jnp.where(legal, tree.noise, 0.0)
  noise = noise / jnp.maximum(
    noise.sum(axis=1, keepdims=True), jnp.finfo(jnp.float32).tiny
  )
  mix = settings.noise_mix
  mixed = jnp.where(legal, (1 - mix) * row + mix * noise, row)
  at = jnp.where(waits, tree.root, -1)
  return dataclasses.replace(
    tree,
    priors=arrays.put_nodes(tree.priors, at, mixed),
    noise=jnp.where(waits[:, None], 0.0, tree.noise),
  )


def _pick(tree: Tree, game: Game, settings: Settings) -> tuple[Tree, _Picked]:
  """Descends until every game has its leaves or enough reads, or gives up."""
  games, nodes = tree.in_use.shape
  picked = _Picked(
    leaves=jnp.zeros((games, settings.leaves), jnp.int32),
    paths=jnp.zeros((games, settings.leaves, nodes), jnp.bool),
    count=jnp.zeros(games, jnp.int32),
  )
  attempts = settings.attempts or 2 * settings.leaves

  def goes_on(carry):
    _, _, active, attempt = carry
    return active.any() & (attempt < attempts)

  def body(carry):
    tree, picked, active, attempt = carry
    tree, picked, active = _attempt(tree, picked, active, game, settings)
    return tree, picked, active, attempt + 1

  carry = tree, picked, ~trees.is_done(tree), jnp.int32(0)
  tree, picked, _, _ = jax.lax.while_loop(goes_on, body, carry)
  return tree, picked


def _attempt(tree: Tree, picked: _Picked, active, game, settings):
  """Descends once in the `active` games, bool [B], to a leaf of each."""
  node, action, is_new, path = _descend(tree, picked, active, settings)
  place = jnp.argmin(tree.in_use, axis=1).astype(jnp.int32)
  leaf = jnp.where(is_new, place, node)
  tree = _grown(tree, game, node, action, jnp.where(is_new, place, -1))
  path = (path | arrays.one_hot(leaf, path)) & active[:, None]
  over = active & arrays.row_of(tree.over, leaf)
  backed = path & over[:, None]
  tree = dataclasses.replace(
    tree,
    visits=tree.visits + backed,
    totals=tree.totals
    + jnp.where(backed, arrays.row_of(tree.ends, leaf)[:, None], 0.0),
  )
  waits = active & ~over
  picked = _add(picked, leaf, path, waits)
  active = active & ~(waits & (leaf == tree.root))
  active = active & (picked.count < settings.leaves) & ~trees.is_done(tree)
  return tree, picked, active


def _add(picked: _Picked, leaf, path, waits) -> _Picked:
  """Adds a leaf in the games in `waits` bool [B]."""
  free = arrays.one_hot(picked.count, picked.leaves) & waits[:, None]
  return _Picked(
    leaves=jnp.where(free, leaf[:, None], picked.leaves),
    paths=jnp.where(free[..., None], path[:, None], picked.paths),
    count=picked.count + waits,
  )


def _descend(tree: Tree, picked: _Picked, active, settings):
  """Descends to a node that is not expanded, or to a move without a node.

  Returns the nodes [B], the moves [B], a mask of moves without a node [B], and
  the nodes of the path, bool [B, M].
  """
  # The player to move at a node is the opponent of the one who chose it, so
  # adding the sign of the former takes a win from the latter.
  waiting = picked.paths.astype(jnp.float32).sum(axis=1)
  totals = tree.totals + waiting * tree.signs

  def body(carry):
    node, action, is_new, path, going = carry
    row = arrays.nodes_at(tree.children, node)
    best = _select(tree, totals, node, row, settings)
    child = arrays.row_of(row, best)
    ends = going & (child < 0)
    steps = going & (child >= 0)
    node = jnp.where(steps, child, node)
    return (
      node,
      jnp.where(ends, best, action),
      is_new | ends,
      path | (arrays.one_hot(node, path) & steps[:, None]),
      steps & arrays.row_of(tree.expanded, node),
    )

  carry = (
    tree.root,
    jnp.zeros_like(tree.root),
    jnp.zeros_like(active),
    arrays.one_hot(tree.root, tree.in_use),
    active & arrays.row_of(tree.expanded, tree.root),
  )
  *found, _ = jax.lax.while_loop(lambda carry: carry[-1].any(), body, carry)
  return found


def _select(tree: Tree, totals, node, children, settings) -> jax.Array:
  """Move of the highest score at `node` [B], the first of equal ones."""
  count = arrays.row_of(tree.visits, node)
  reads = jnp.maximum(count - 1, 1).astype(jnp.float32)
  priors = arrays.nodes_at(tree.priors, node)
  scores = formulas.action_scores(
    visits=arrays.of_children(tree.visits, children, jnp.zeros_like(count)),
    totals=arrays.of_children(
      totals, children, arrays.row_of(tree.starts, node)
    ),
    priors=priors,
    sign=arrays.row_of(tree.signs, node),
    weight=formulas.u_scale(count) * jnp.sqrt(reads),
  )
  if not settings.may_pass:
    scores = scores.at[:, -1].set(_NO_PASS)
  best = jnp.argmax(scores, axis=1).astype(jnp.int32)
  return trees.or_pass(best, arrays.row_of(priors, best) >= 0, tree)


def _grown(tree: Tree, game: Game, node, action, place) -> Tree:
  """Adds the node that `action` [B] leads to, at `place` [B]; -1: none."""
  is_new = place >= 0
  before = trees.states_at(tree, node)
  states = game.play(before, trees.or_pass(action, is_new, tree))
  start = arrays.row_of(tree.starts, node)
  tree = trees.with_nodes(
    trees.put(tree, states, place), game, states, place, node, start
  )
  children = arrays.nodes_at(tree.children, node)
  children = jnp.where(
    arrays.one_hot(action, children), place[:, None], children
  )
  at = jnp.where(is_new, node, -1)
  return dataclasses.replace(
    tree, children=arrays.put_nodes(tree.children, at, children)
  )


def _priors(logits: jax.Array, legal: jax.Array) -> jax.Array:
  """Priors: softmax over legal moves, -1 for the others."""
  logits = jnp.where(
    legal, logits.astype(jnp.float32), jnp.finfo(jnp.float32).min
  )
  return jnp.where(legal, jax.nn.softmax(logits, axis=-1), -1.0)


def _answer(tree: Tree, picked: _Picked, priors, values, settings) -> Tree:
  """Expands the leaves with priors [B, L, A] and backs values [B, L] up."""
  rank = jnp.arange(settings.leaves)[None]
  same = picked.leaves[:, :, None] == picked.leaves[:, None, :]
  again = (same & (rank[..., None] > rank[:, None])).any(axis=2)
  answered = (rank < picked.count[:, None]) & ~again
  at = jnp.where(answered, picked.leaves, -1)
  visits, totals = tree.visits, tree.totals
  expanded, starts = tree.expanded, tree.starts
  for leaf in range(settings.leaves):
    here = arrays.one_hot(at[:, leaf], tree.in_use)
    path = picked.paths[:, leaf] & answered[:, leaf, None]
    value = values[:, leaf, None]
    start = value - settings.value_init_penalty * tree.signs
    visits = visits + path
    totals = totals + jnp.where(path, value, 0.0)
    expanded = expanded | here
    starts = jnp.where(here, jnp.clip(start, -1.0, 1.0), starts)
  none = jnp.full(priors.shape, -1, jnp.int32)
  return dataclasses.replace(
    tree,
    children=arrays.put_nodes(tree.children, at, none),
    priors=arrays.put_nodes(tree.priors, at, priors),
    visits=visits,
    totals=totals,
    expanded=expanded,
    starts=starts,
  )
