"""A net as the search asks it, a game as the search plays it; keys of games."""

# N games, B of them on a device, K states of a round: some of each game.

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

# Vectorized over keys, each key's draws are its own, which of the generators
# that are quicker on accelerators is not so. Little is drawn.
_GENERATOR = 'threefry2x32'


def go_game(rules: go.Rules) -> Game:
  """Go as `models.minigo.tree_search` plays it."""
  return Game(
    play=jax.vmap(lambda state, action: go.play(state, action, rules)),
    legal=jax.vmap(lambda state: go.legal(state, rules)),
    is_over=jax.vmap(lambda state: go.is_over(state, rules)),
    value_at_end=jax.vmap(lambda state: go.winner(state, rules)),
    to_play=lambda states: states.to_play,
  )


def evaluator(net: Net, salts: jax.Array, settings: Any):
  """The net as `search.grow` calls it: Go states [K] -> logits, values.

  It sees each position under one of 8 symmetries, which the stones and the
  game's salt, uint32 [B], decide: in a game always the same one.
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
  """States [B] after `go.settle` in the games that `moved` bool [B]."""
  late = moved & (states.ply >= rules.settled_from)
  settle = jax.vmap(lambda state: go.settle(state, rules).passes)
  passes = arrays.of_few(settle, late, states, states.passes)
  return dataclasses.replace(states, passes=passes)


def allowed(states: go.State, rules: go.Rules) -> jax.Array:
  """What may be chosen of what is legal: bool [B, A]."""
  shut = (states.pass_runs >= rules.passes_to_forbid).any(axis=1)
  forbidden = arrays.of_few(
    jax.vmap(lambda state: go.forbidden(state, rules)),
    shut,
    states,
    jnp.zeros((states.ply.shape[0], rules.size**2 + 1), bool),
  )
  return ~forbidden


def winners(states: go.State, ended: jax.Array, rules: go.Rules) -> jax.Array:
  """Who won of the games that `ended` bool [B]: int32 [B]; else 0."""
  return arrays.of_few(
    jax.vmap(lambda state: go.winner(state, rules)),
    ended,
    states,
    jnp.zeros_like(states.ply),
  )


def keys_of(key: jax.Array, numbers: jax.Array) -> jax.Array:
  """A key for each of `numbers` int32 [N], whatever else is among them."""
  base = jax.random.key(jax.random.bits(key, (), jnp.uint32), impl=_GENERATOR)
  return jax.vmap(lambda number: jax.random.fold_in(base, number))(numbers)


def on_each_device(
  function: Callable[[Any, Any], Any], mesh: Mesh | None, axis: str = 'data'
) -> Callable[[Any, Any], Any]:
  """`function(whole, rows) -> rows`, of which each device does its own rows.

  `whole` is the same on all. They send each other nothing, and none waits for
  another. Without a mesh it is the function itself.
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
  """uint32 to uint32, one to one; every bit depends on all."""
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
  return bits ^ (bits >> 16)
