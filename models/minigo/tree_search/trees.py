"""Search trees: their layout, and how they advance by a move."""

# B games, M nodes of a tree, A actions (the last is a pass).

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from models.minigo.tree_search import arrays


@dataclasses.dataclass(frozen=True)
class Game:
  """Game of two players as functions on K states, a pytree of [K, ...].

  The last action is a pass, which is always legal. `play` is also called where
  its result is discarded, with a pass, even if the game is over.
  """

  play: Callable[[Any, jax.Array], Any]  # states, actions int32 [K] -> states
  legal: Callable[[Any], jax.Array]  # states -> bool [K, A]
  is_over: Callable[[Any], jax.Array]  # states -> bool [K]
  value_at_end: Callable[[Any], jax.Array]  # states -> -1, 0, 1 [K], for Black
  to_play: Callable[[Any], jax.Array]  # states -> 1 Black, -1 White [K]


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a tree.

  `capacity` is the number of nodes; a root gets at most `capacity - leaves + 1`
  visits. A round gives up on a game after `attempts` descents, by default twice
  its leaves: near the end of a game hundreds can reach a state that is over,
  while all other games wait.
  """

  capacity: int
  leaves: int = 4
  value_init_penalty: float = 0.2
  noise_mix: float = 0.3
  may_pass: bool = True
  attempts: int | None = None

  def __post_init__(self):
    if self.leaves < 1 or self.capacity < max(2, self.leaves):
      raise ValueError(
        'Expected at least one leaf a round and room for two nodes and for '
        f'every leaf, got leaves={self.leaves}, capacity={self.capacity}.'
      )
    if self.attempts is not None and self.attempts < self.leaves:
      raise ValueError(
        'Expected at least as many attempts as leaves, got '
        f'attempts={self.attempts}, leaves={self.leaves}.'
      )
    if self.value_init_penalty < 0 or not 0 <= self.noise_mix <= 1:
      raise ValueError(
        'Expected a penalty of at least 0 and a share of noise in [0, 1], got '
        f'value_init_penalty={self.value_init_penalty}, '
        f'noise_mix={self.noise_mix}.'
      )

  @property
  def most_reads(self) -> int:
    """Upper bound of the visits of a root."""
    return self.capacity - self.leaves + 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tree:
  """A tree for each of B games. Values and totals are from Black's view.

  Places that are not in use hold stale values, as do the children and priors of
  nodes that are not expanded. `aim` sets `target` and `noise`; noise of zeros
  is none.

  Leaves of states are kept as numbers or rows, whatever their shape, as TPUs
  pad the last two dimensions. `states_at` reads them.
  """

  states: Any  # [B * M] or [B * M, N]; see `states_at`
  children: jax.Array  # int32 [B * M, A], -1: none
  priors: jax.Array  # float32 [B * M, A], -1: illegal
  root: jax.Array  # int32 [B]
  parents: jax.Array  # int32 [B, M], that of the root is the root
  in_use: jax.Array  # bool [B, M]
  expanded: jax.Array  # bool [B, M]
  over: jax.Array  # bool [B, M]
  ends: jax.Array  # float32 [B, M], the value where the game is over
  signs: jax.Array  # float32 [B, M], 1 where Black is to play, else -1
  visits: jax.Array  # int32 [B, M]
  totals: jax.Array  # float32 [B, M], initial value plus those of all visits
  starts: jax.Array  # float32 [B, M], initial total of children
  target: jax.Array  # int32 [B], visits of the root
  noise: jax.Array  # float32 [B, A]
  # Of a state's leaves.
  shapes: tuple[tuple[int, ...], ...] = dataclasses.field(
    metadata={'static': True}
  )


def plant(states: Any, game: Game, settings: Settings) -> Tree:
  """Trees that consist of roots, states [B, ...], with a target of 0."""
  games = jax.tree.leaves(states)[0].shape[0]
  nodes = settings.capacity
  actions = jax.eval_shape(game.legal, states).shape[1]

  def make_room(leaf):
    room = jnp.zeros((games * nodes, *leaf.shape[1:]), leaf.dtype)
    return room.at[::nodes].set(leaf)

  def full(value, dtype, *shape):
    return jnp.full((games, *shape), value, dtype)

  signs = game.to_play(states).astype(jnp.float32)
  tree = Tree(
    states=jax.tree.map(make_room, _as_rows(states)),
    children=jnp.full((games * nodes, actions), -1, jnp.int32),
    priors=jnp.zeros((games * nodes, actions), jnp.float32),
    root=full(0, jnp.int32),
    parents=full(0, jnp.int32, nodes),
    in_use=full(False, jnp.bool, nodes),
    expanded=full(False, jnp.bool, nodes),
    over=full(False, jnp.bool, nodes),
    ends=full(0, jnp.float32, nodes),
    signs=jnp.broadcast_to(signs[:, None], (games, nodes)),
    visits=full(0, jnp.int32, nodes),
    totals=full(0, jnp.float32, nodes),
    starts=full(0, jnp.float32, nodes),
    target=full(0, jnp.int32),
    noise=full(0, jnp.float32, actions),
    shapes=tuple(leaf.shape[1:] for leaf in jax.tree.leaves(states)),
  )
  return with_nodes(tree, game, states, tree.root, tree.root, tree.totals[:, 0])


def replant(tree: Tree, states: Any, game: Game, games: jax.Array) -> Tree:
  """Replaces trees by their roots, states [B, ...], in `games` bool [B].

  Their targets stay.
  """
  planted = with_nodes(
    put(tree, states, jnp.where(games, tree.root, -1)),
    game,
    states,
    jnp.where(games, tree.root, -1),
    tree.root,
    jnp.zeros_like(tree.totals[:, 0]),
  )
  at_root = arrays.one_hot(tree.root, tree.in_use)
  in_use = jnp.where(games[:, None], at_root, planted.in_use)
  return dataclasses.replace(planted, in_use=in_use)


def clear(tree: Tree, game: Game, games: jax.Array) -> Tree:
  """Drops all nodes but the root in `games` bool [B].

  MiniGo aims before it clears, so that a full search after other searches adds
  its readouts to the visits that its root had before.
  """
  return replant(tree, root_states(tree), game, games)


def aim(
  tree: Tree,
  readouts: jax.Array,
  settings: Settings,
  *,
  games: jax.Array,
  noise: jax.Array | None = None,
) -> Tree:
  """Requests `readouts` int32 [B] more visits of the root in `games` bool [B].

  `noise` float32 [B, A] is mixed into the priors of the root once it has some;
  over legal moves it is scaled to a sum of one.
  """
  target = arrays.row_of(tree.visits, tree.root) + readouts
  target = jnp.minimum(target, settings.most_reads)
  noise = jnp.zeros_like(tree.noise) if noise is None else noise
  return dataclasses.replace(
    tree,
    target=jnp.where(games, target, tree.target),
    noise=jnp.where(games[:, None], noise, tree.noise),
  )


def is_done(tree: Tree) -> jax.Array:
  """True where the root has the requested visits: bool [B]."""
  return arrays.row_of(tree.visits, tree.root) >= tree.target


def advance(
  tree: Tree, actions: jax.Array, game: Game, games: jax.Array
) -> Tree:
  """Plays `actions` int32 [B] in `games` bool [B], and keeps their subtrees.

  The games are then done until they are aimed again. A move without visits
  leaves a tree that consists of its root.
  """
  child = arrays.row_of(arrays.nodes_at(tree.children, tree.root), actions)
  exists = (child >= 0) & arrays.row_of(tree.expanded, tree.root)
  # Nothing of the old tree is kept then: any place but that of the root works.
  spare = (tree.root + 1) % tree.in_use.shape[1]
  kept = _below(tree, jnp.where(exists, child, tree.root))
  made = games & ~exists
  states = game.play(root_states(tree), or_pass(actions, made, tree))
  start = jnp.where(
    arrays.row_of(tree.expanded, tree.root),
    arrays.row_of(tree.starts, tree.root),
    0.0,
  )
  root = jnp.where(games, jnp.where(exists, child, spare), tree.root)
  at = jnp.where(made, spare, -1)
  tree = with_nodes(put(tree, states, at), game, states, at, root, start)
  at_root = arrays.one_hot(root, kept)
  in_use = jnp.where(exists[:, None], kept, at_root)
  return dataclasses.replace(
    tree,
    root=root,
    parents=jnp.where(at_root, root[:, None], tree.parents),
    in_use=jnp.where(games[:, None], in_use, tree.in_use),
    target=jnp.where(games, 0, tree.target),
    noise=jnp.where(games[:, None], 0.0, tree.noise),
  )


def root_states(tree: Tree) -> Any:
  """States at the roots: [B, ...]."""
  return states_at(tree, tree.root)


def states_at(tree: Tree, at: jax.Array) -> Any:
  """States of nodes at [B] or [B, K], as a pytree of [B, (K,) ...]."""
  leaves, structure = jax.tree.flatten(tree.states)
  return structure.unflatten(
    arrays.nodes_at(leaf, at).reshape(*at.shape, *shape)
    for leaf, shape in zip(leaves, tree.shapes, strict=True)
  )


def put(tree: Tree, states: Any, at: jax.Array) -> Tree:
  """Puts states [B, ...] at places [B]; -1: nowhere."""
  kept = jax.tree.map(
    lambda old, new: arrays.put_nodes(old, at, new),
    tree.states,
    _as_rows(states),
  )
  return dataclasses.replace(tree, states=kept)


def with_nodes(tree: Tree, game: Game, states, at, parent, start) -> Tree:
  """Sets the arrays [B, M] for new nodes at [B]; -1: nowhere."""
  here = arrays.one_hot(at, tree.in_use)
  over = game.is_over(states)
  # Scoring a board is expensive, and rarely needed.
  ends = arrays.of_few(
    lambda states: game.value_at_end(states).astype(jnp.float32),
    over & (at >= 0),
    states,
    jnp.zeros(at.shape, jnp.float32),
  )
  signs = game.to_play(states).astype(jnp.float32)
  return dataclasses.replace(
    tree,
    parents=jnp.where(here, parent[:, None], tree.parents),
    in_use=tree.in_use | here,
    expanded=tree.expanded & ~here,
    over=jnp.where(here, over[:, None], tree.over),
    ends=jnp.where(here, ends[:, None], tree.ends),
    signs=jnp.where(here, signs[:, None], tree.signs),
    visits=jnp.where(here, 0, tree.visits),
    totals=jnp.where(here, start[:, None], tree.totals),
  )


def _as_rows(states: Any) -> Any:
  """Leaves [B, ...] as [B] or [B, N]."""
  return jax.tree.map(
    lambda leaf: leaf.reshape(leaf.shape[0], -1) if leaf.ndim > 1 else leaf,
    states,
  )


def or_pass(actions: jax.Array, holds: jax.Array, tree: Tree) -> jax.Array:
  """Replaces `actions` by passes where it does not hold; all [B]."""
  return jnp.where(holds, actions, tree.noise.shape[1] - 1)


def _below(tree: Tree, top: jax.Array) -> jax.Array:
  """The nodes in use from `top` [B] down, bool [B, M]."""
  nodes = tree.in_use.shape[1]
  below, above = arrays.one_hot(top, tree.in_use), tree.parents
  for _ in range(max(1, (nodes - 1).bit_length())):
    below = below | arrays.rows_of(below, above)
    above = arrays.rows_of(above, above)
  return below & tree.in_use
