"""Area: pass-alive regions, the score, and the rules that depend on them.

A region of a player is a maximal connected set of points without a stone of
theirs. It is vital to a chain if all its empty points are liberties of that
chain. Chains with two vital regions each, whose vital regions border on such
chains alone, are alive even if their owner always passes (Benson, 1976). As in
the reference, a region enclosed by such chains alone is credited to the owner,
with all stones in it, if at most one of its empty points touches none of them.

Where a chain turns out not to be alive, the reference (position.cc) discards
the regions that hold a liberty of it, Benson all regions that it borders on.
They differ where a dead chain touches a region at stones of the opponent only:
the reference then credits chains that can be captured. Its comments describe
Benson's algorithm, and that is what is implemented here. Scores can differ only
if such a chain is still on the board when a game is scored.

These are loops over whole boards, a hundred times the work of a move: for the
end of a game and once a move, not for every leaf of a search.
"""

# P points, A actions (P + 1, the last is the pass).

import jax
import jax.numpy as jnp

from models.minigo.go import points
from models.minigo.go.game import BLACK, WHITE, Rules, State, board


def score(state: State, rules: Rules) -> jax.Array:
  """Black's area minus White's minus komi, as the board stands: float32 []."""
  owned = _owned(state, rules)
  return jnp.sum(owned).astype(jnp.float32) - rules.komi


def winner(state: State, rules: Rules) -> jax.Array:
  """BLACK, WHITE, or 0 for a draw: int32 []."""
  return jnp.sign(score(state, rules)).astype(jnp.int32)


def pass_alive(state: State, rules: Rules) -> jax.Array:
  """Points in pass-alive regions: int32 [P], BLACK, WHITE or 0.

  The chains around them are not among them.
  """
  colours = jnp.array([BLACK, WHITE], jnp.int32)
  inside = jax.vmap(lambda one: _alive_regions(state.chain * one, rules.size))
  black, white = inside(colours)
  return black.astype(jnp.int32) - white.astype(jnp.int32)


def settle(state: State, rules: Rules) -> State:
  """Ends a game that is late enough if all empty points are pass-alive.

  The reference has both players pass; those passes are not counted as plies.
  """
  is_open = (board(state) == 0) & (pass_alive(state, rules) == 0)
  is_settled = (state.ply >= rules.settled_from) & ~is_open.any()
  passes = jnp.where(is_settled, 2, state.passes)
  return State(**{**vars(state), 'passes': passes})


def forbidden(state: State, rules: Rules) -> jax.Array:
  """Actions that the player may search but not choose: bool [A].

  They are the points of pass-alive regions, of either player, once the opponent
  has passed often enough in a row.
  """
  theirs = jnp.where(
    state.to_play == BLACK, state.pass_runs[1], state.pass_runs[0]
  )
  is_closed = theirs >= rules.passes_to_forbid
  return jnp.append(is_closed & (pass_alive(state, rules) != 0), False)


def _owned(state: State, rules: Rules) -> jax.Array:
  """Owner of each point: int32 [P], BLACK, WHITE or 0."""
  alive = pass_alive(state, rules)
  owner = jnp.where(alive != 0, alive, board(state))
  masks = jnp.stack([owner == BLACK, owner == WHITE])

  def spread(carry):
    masks, _ = carry
    beside = jax.vmap(lambda mask: points.beside(mask, rules.size))(masks)
    grown = masks | (beside & (owner == 0)[None, :])
    return grown, (grown != masks).any()

  start = (masks, jnp.bool_(True))
  masks, _ = jax.lax.while_loop(lambda carry: carry[1], spread, start)
  return masks[0].astype(jnp.int32) - masks[1].astype(jnp.int32)


def _alive_regions(chain: jax.Array, size: int) -> jax.Array:
  """Pass-alive regions of the player with chains > 0: int32 [P] -> bool [P]."""
  own = jnp.maximum(chain, 0)
  walls = points.around(own, size)
  region = _regions(chain, size)
  chains, is_vital = _vital(chain, region, walls)
  is_wall = (own > 0) & points.beside(chain <= 0, size)

  def narrow(carry):
    is_alive, _ = carry
    eyes = _totals(chains, is_vital & is_alive[:, None])
    dead = is_wall & (eyes[own] < 2)
    kept = is_alive & (_totals(region, points.beside(dead, size)) == 0)[:-1]
    return kept, (kept != is_alive).any()

  start = (jnp.ones(chain.shape, bool), jnp.bool_(True))
  is_alive, _ = jax.lax.while_loop(lambda carry: carry[1], narrow, start)
  is_border = (walls[0] | walls[1] | walls[2] | walls[3]) > 0
  inner = _totals(region, (chain == 0) & ~is_border)
  border = _totals(region, is_border)
  credited = jnp.append(is_alive, False) & (inner <= 1) & (border > 0)
  # Stones of the player belong to no region: their name is P.
  return credited[region] & (chain <= 0)


def _vital(chain, region, walls):
  """Chains around the point that names a region, and those it is vital to.

  Every empty point of a region touches the chains that the region is vital to.
  The point that names it is one, so those are among its four neighbours. ->
  chains int32 [P, 4], bool [P, 4].
  """
  is_first = jnp.stack(points.firsts(walls), axis=1)
  walls = jnp.stack(walls, axis=1)
  chains = jnp.where(is_first, walls, 0)
  named = jnp.pad(chains, [(0, 1), (0, 0)])[region]
  touches = (walls[:, None, :] == named[:, :, None]).any(axis=2)
  lacking = (chain == 0)[:, None] & ~touches
  columns = [_totals(region, lacking[:, side])[:-1] for side in range(4)]
  is_name = region == jnp.arange(chain.size)
  is_vital = (jnp.stack(columns, axis=1) == 0) & is_name[:, None]
  return chains, is_vital & (chains > 0)


def _regions(chain: jax.Array, size: int) -> jax.Array:
  """Name of the region of each point: int32 [P]; P for the player's stones.

  It is the number of one of the region's empty points.
  """
  area = size**2
  far = 2 * area
  is_in = chain <= 0
  name = jnp.arange(area) + jnp.where(chain < 0, area, 0)

  def join(carry):
    name, _ = carry
    above, below, left, right = points.around(name, size, far)
    low = jnp.minimum(jnp.minimum(above, below), jnp.minimum(left, right))
    low = jnp.where(is_in, jnp.minimum(low, name), far)
    # The name of the point that it is named after: halves the steps.
    low = jnp.where(is_in, jnp.minimum(low, low[low % area]), far)
    return low, (low != name).any()

  start = (jnp.where(is_in, name, far), jnp.bool_(True))
  name, _ = jax.lax.while_loop(lambda carry: carry[1], join, start)
  return jnp.where(is_in, name % area, area)


def _totals(names: jax.Array, counted: jax.Array) -> jax.Array:
  """Sums of `counted` for each name: both [P, ...] -> int32 [P + 1]."""
  found = jnp.zeros(names.shape[0] + 1, jnp.int32)
  return found.at[names].add(counted.astype(jnp.int32))
