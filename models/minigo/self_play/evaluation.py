"""Adapters of net and rules to the search, and the keys of games."""

# N games, B of them on a device, K states of a round: several of each game.

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from models.minigo import go
from models.minigo import net as minigo
from models.minigo.tree_search import arrays
from models.minigo.tree_search.trees import Game

# planes bool [K, S, S, F] -> (logits [K, A], values for Black [K])
Net = Callable[[jax.Array], tuple[jax.Array, jax.Array]]

# Draws depend on their key alone even when vectorized over keys; those of the
# generators that are faster on accelerators do not. Little is drawn.
_GENERATOR = 'threefry2x32'


def go_game(rules: go.Rules) -> Game:
  """Rules of Go as `models.minigo.tree_search` calls them."""
  return Game(
    play=jax.vmap(lambda state, action: go.play(state, action, rules)),
    legal=jax.vmap(lambda state: go.legal(state, rules)),
    is_over=jax.vmap(lambda state: go.is_over(state, rules)),
    value_at_end=jax.vmap(lambda state: go.winner(state, rules)),
    to_play=lambda states: states.to_play,
  )


def evaluator(net: Net, salts: jax.Array, settings: Any):
  """Net as `search.grow` calls it: Go states [K] -> logits, values.

  Each position is seen under one of 8 symmetries, chosen by the stones and the
  salt of the game, uint32 [B]: in a game always the same one.
  """
  encode = jax.vmap(lambda state: settings.encode(state, settings.rules))

  def evaluate(states: go.State):
    each = states.hash.shape[0] // salts.shape[0]
    mixed = _mix(states.hash[:, 0] ^ jnp.repeat(salts, each))
    symmetry = (mixed & (minigo.SYMMETRIES - 1)).astype(jnp.int32)
    logits, values = minigo.under_symmetry(net, encode(states), symmetry)
    return logits, values

  return evaluate


def initial(games: int, rules: go.Rules) -> go.State:
  """Empty boards [B]."""
  return jax.tree.map(
    lambda leaf: jnp.broadcast_to(leaf[None], (games, *leaf.shape)),
    go.initial(rules),
  )


def settled(states: go.State, moved: jax.Array, rules: go.Rules) -> go.State:
  """States [B] after `go.settle` in games that `moved` bool [B]."""
  late = moved & (states.ply >= rules.settled_from)
  settle = jax.vmap(lambda state: go.settle(state, rules).passes)
  passes = arrays.of_few(settle, late, states, states.passes)
  return dataclasses.replace(states, passes=passes)


def allowed(states: go.State, rules: go.Rules) -> jax.Array:
  """Actions that may be chosen if they are legal: bool [B, A]."""
  shut = (states.pass_runs >= rules.passes_to_forbid).any(axis=1)
  forbidden = arrays.of_few(
    jax.vmap(lambda state: go.forbidden(state, rules)),
    shut,
    states,
    jnp.zeros((states.ply.shape[0], rules.size**2 + 1), bool),
  )
  return ~forbidden


def winners(states: go.State, ended: jax.Array, rules: go.Rules) -> jax.Array:
  """Winners of the games that `ended` bool [B]: int32 [B]; others 0."""
  return arrays.of_few(
    jax.vmap(lambda state: go.winner(state, rules)),
    ended,
    states,
    jnp.zeros_like(states.ply),
  )


def keys_of(key: jax.Array, numbers: jax.Array) -> jax.Array:
  """Keys of `numbers` int32 [N], each independent of the others."""
  base = jax.random.key(jax.random.bits(key, (), jnp.uint32), impl=_GENERATOR)
  return jax.vmap(lambda number: jax.random.fold_in(base, number))(numbers)


def on_each_device(
  function: Callable[[Any, Any], Any], mesh: Mesh | None, axis: str = 'data'
) -> Callable[[Any, Any], Any]:
  """Runs `function(whole, rows) -> rows` on each device, for its own rows.

  `whole` is the same on all devices. They do not communicate. Without a mesh
  the result is the function itself.
  """
  if mesh is None:
    return function
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(P(), P(axis)),
    out_specs=P(axis),
    check_vma=False,
  )


def _mix(bits: jax.Array) -> jax.Array:
  """Bijection of uint32 in which every bit depends on all bits."""
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
  return bits ^ (bits >> 16)
