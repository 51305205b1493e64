"""Feature planes: the input of the net, seen by the player to move."""

# N rows, P points (N * N).

import jax
import jax.numpy as jnp

from models.minigo.go import points
from models.minigo.go.game import Rules, State, legal

PLANES = {'mlperf07': 13, 'agz': 17}


def mlperf07(state: State, rules: Rules) -> jax.Array:
  """The planes of rounds v0.7 to v2.1: bool [N, N, 13].

  Own and opponent's stones now, and one, two and three plies ago, in pairs; all
  ones if Black is to play; stones of chains with one, two, and three or more
  liberties; points where a legal move captures. Before the first move there are
  no stones.
  """
  liberties = state.liberties
  planes = [
    *_stones(state, 4),
    _is_black(state),
    liberties == 1,
    liberties == 2,
    liberties >= 3,
    _captures(state, rules),
  ]
  return _image(planes, rules)


def agz(state: State, rules: Rules) -> jax.Array:
  """The planes of round v0.6: bool [N, N, 17].

  Own and opponent's stones in pairs, now and up to seven plies ago; all ones if
  Black is to play.
  """
  return _image([*_stones(state, 8), _is_black(state)], rules)


def _stones(state: State, plies: int) -> list[jax.Array]:
  is_black = state.to_play > 0
  own = jnp.where(is_black, state.recent[0], state.recent[1])
  other = jnp.where(is_black, state.recent[1], state.recent[0])
  found = []
  for ply in range(plies):
    found += [(side >> ply) & 1 == 1 for side in (own, other)]
  return found


def _is_black(state: State) -> jax.Array:
  return jnp.broadcast_to(state.to_play > 0, state.chain.shape)


def _captures(state: State, rules: Rules) -> jax.Array:
  in_atari = (state.chain * state.to_play < 0) & (state.liberties == 1)
  return legal(state, rules)[:-1] & points.beside(in_atari, rules.size)


def _image(planes: list[jax.Array], rules: Rules) -> jax.Array:
  return jnp.stack(planes, axis=-1).reshape(rules.size, rules.size, -1)
