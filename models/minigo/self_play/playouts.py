"""An untrained opponent: a search that values leaves by random games.

From a leaf, both sides play any legal move that does not fill an own eye, until
neither has one; the value of the leaf is the mean outcome. This is Monte Carlo
Go from before neural nets. Its strength depends on the readouts alone, and it
needs no file, so it is a fixed yardstick for nets that learn.

Random games differ from Go in three ways. They remember only the last few
positions, so only short cycles are forbidden. They end after three plies for
each point of the board, whatever limit the game itself has. And they are scored
by plain area, without pass-alive regions: hardly a dead stone is left by then.
"""

# B games, K states to value, N random games, P points, A actions (P + 1).

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from models.minigo import go
from models.minigo.go import points

_PLIES_PER_POINT = 3
# Positions that may not repeat.
_REMEMBERED = 4
# Logits; those of points are 0. A pass, and below it a move that fills an own
# eye, are searched only if everything else is worse or illegal.
_PASS, _EYE = -10.0, -20.0
# As in `evaluation`: draws depend on their key alone, even vectorized.
_GENERATOR = 'threefry2x32'


def player(rules: go.Rules, playouts: int = 1):
  """Player of `matches.match` with `playouts` random games for each leaf."""
  if playouts < 1:
    raise ValueError(f'Expected at least one playout, got {playouts}.')
  return lambda salts: evaluator(salts, rules, playouts)


def evaluator(salts: jax.Array, rules: go.Rules, playouts: int = 1):
  """Random games as `search.grow` calls them: Go states [K] -> logits, values.

  Draws depend on the position, its ply and the game's salt, uint32 [B], alone.
  """

  def evaluate(states: go.State):
    each = states.ply.shape[0] // salts.shape[0]
    keys = _keys(jnp.repeat(salts, each), states, playouts)
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, playouts, axis=0), states)
    won = finish(keys.reshape(-1), many, rules)
    values = won.reshape(-1, playouts).astype(jnp.float32).mean(axis=1)
    return _logits(states, rules), values

  return evaluate


def finish(keys: jax.Array, states: go.State, rules: go.Rules) -> jax.Array:
  """Winner of a random game from each of states [N]: int32 [N], 1 Black.

  A game that is over is scored as it stands.
  """
  is_over = jax.vmap(lambda state: go.is_over(state, rules))(states)
  states = _remembering(states)
  most = _PLIES_PER_POINT * rules.size**2

  def move(carry):
    states, going, ply = carry
    actions = _drawn(keys, states, ply, rules)
    # A pass does not change the board.
    actions = jnp.where(going, actions, rules.size**2)
    states = jax.vmap(lambda state, a: go.play(state, a, rules))(
      states, actions
    )
    return states, going & (states.passes < 2), ply + 1

  states, _, _ = jax.lax.while_loop(
    lambda carry: carry[1].any() & (carry[2] < most),
    move,
    (states, ~is_over, jnp.int32(0)),
  )
  return _winners(states.chain, rules)


def own_eyes(stones: jax.Array, to_play: jax.Array, size: int) -> jax.Array:
  """Points of a board, int32 [P], that the player should not fill: bool [P].

  All neighbours of such a point are the player's own, and of the points
  diagonal to it the opponent has at most one, at the edge of the board none.
  """
  own, theirs = stones == to_play, stones == -to_play
  above, below, left, right = points.around(own, size, True)
  _, _, west, east = points.around(theirs.astype(jnp.int32), size)
  corners = [*points.around(west, size)[:2], *points.around(east, size)[:2]]
  against = sum(corners) + jnp.asarray(_at_edge(size), jnp.int32)
  enclosed = above & below & left & right
  return (stones == 0) & enclosed & (against <= 1)


def _at_edge(size: int) -> np.ndarray:
  """Points at the edge: bool [P]."""
  inner = np.zeros((size, size), bool)
  inner[1:-1, 1:-1] = True
  return ~inner.ravel()


def _keys(salts: jax.Array, states: go.State, playouts: int) -> jax.Array:
  """Keys of the random games: [K, playouts]."""

  def of_one(salt, words, ply):
    key = jax.random.key(salt, impl=_GENERATOR)
    for word in (words[0], words[1], ply):
      key = jax.random.fold_in(key, word)
    return jax.random.split(key, playouts)

  return jax.vmap(of_one)(salts, states.hash, states.ply)


def _remembering(states: go.State) -> go.State:
  """States with room for few positions, filled with the last but one.

  That one a simple ko could repeat; the last one only a pass or many moves.
  """
  at = (states.ply - 2) % states.history.shape[-1]
  before = jnp.take_along_axis(states.history, at[:, None, None], axis=2)
  before = jnp.where((states.ply >= 2)[:, None, None], before, 0)
  shape = (*before.shape[:2], _REMEMBERED)
  return dataclasses.replace(states, history=jnp.broadcast_to(before, shape))


def _drawn(keys, states: go.State, ply, rules: go.Rules) -> jax.Array:
  """Random move in each of states [N]: int32 [N], a pass if there is none."""

  def draw(key, state):
    sensible = go.legal(state, rules)[:-1] & ~own_eyes(
      go.board(state), state.to_play, rules.size
    )
    bits = jax.random.bits(jax.random.fold_in(key, ply), (), jnp.uint32)
    rank = jnp.cumsum(sensible, dtype=jnp.uint32)
    nth = bits % jnp.maximum(rank[-1], 1) + 1
    # The first point of that rank; if there is none, the pass.
    return jnp.sum(rank < nth, dtype=jnp.int32)

  return jax.vmap(draw)(keys, states)


def _logits(states: go.State, rules: go.Rules) -> jax.Array:
  """Logits float32 [K, A]; the search drops those of illegal moves."""

  def of_one(state):
    eyes = own_eyes(go.board(state), state.to_play, rules.size)
    return jnp.append(jnp.where(eyes, _EYE, 0.0), _PASS)

  return jax.vmap(of_one)(states)


def _winners(chain: jax.Array, rules: go.Rules) -> jax.Array:
  """Owner of the larger area, int32 [N], on boards int32 [N, P]."""
  beside = jax.vmap(lambda mask: points.beside(mask, rules.size))
  empty = chain == 0

  def spread(carry):
    black, white, _ = carry
    more = black | (beside(black) & empty), white | (beside(white) & empty)
    return *more, ((more[0] != black) | (more[1] != white)).any()

  black, white, _ = jax.lax.while_loop(
    lambda carry: carry[2], spread, (chain > 0, chain < 0, jnp.bool_(True))
  )
  area = black.sum(axis=1) - white.sum(axis=1)
  return jnp.sign(area - rules.komi).astype(jnp.int32)
