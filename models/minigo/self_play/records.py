"""Records of games, packed for storage and unpacked for training.

A position keeps its planes as bits and its visits after pruning as integers, so
nothing is lost: `policy_target` turns visits into the target of the policy. On
19x19 this takes 587 + 724 bytes, and 6 for ply and game. Boards could be
rebuilt from the moves, but liberties and captures only by replaying the game.
"""

# B places of games, K records of each in a call, N positions, A actions,
# S points on a side, F planes.

from collections.abc import Mapping
import dataclasses

import jax
import jax.numpy as jnp

from models.minigo import go
from models.minigo import net as minigo
from models.minigo.self_play.settings import Settings
from models.minigo.tree_search import arrays, moves


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Positions:
  """Recorded positions: the first `count` of K at each place."""

  planes: jax.Array  # uint8 [B, K, bytes], bits of [S, S, F]
  visits: jax.Array  # uint16 [B, K, A]
  ply: jax.Array  # int16 [B, K], plies before the position
  game: jax.Array  # int32 [B, K], number of the game at its place, from 0
  count: jax.Array  # int32 [B]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ends:
  """Games that ended: the first `count` of K at each place."""

  game: jax.Array  # int32 [B, K]
  winner: jax.Array  # int8 [B, K], 1 Black, -1 White
  plies: jax.Array  # int16 [B, K], moves and passes
  resigned: jax.Array  # bool [B, K]
  # The first player who resigned or would have: 1 Black, -1 White, 0 nobody. If
  # that player won, resigning would have been an error.
  despaired: jax.Array  # int8 [B, K]
  count: jax.Array  # int32 [B]


def none(places: int, settings: Settings) -> tuple[Positions, Ends]:
  """Empty buffers with room for all records of one call."""
  side = settings.rules.size
  bits = side**2 * go.PLANES[settings.planes]
  shape = (places, settings.most_per_call)
  count = jnp.zeros(places, jnp.int32)
  positions = Positions(
    planes=jnp.zeros((*shape, -(-bits // 8)), jnp.uint8),
    visits=jnp.zeros((*shape, side**2 + 1), jnp.uint16),
    ply=jnp.zeros(shape, jnp.int16),
    game=jnp.zeros(shape, jnp.int32),
    count=count,
  )
  ends = Ends(
    game=jnp.zeros(shape, jnp.int32),
    winner=jnp.zeros(shape, jnp.int8),
    plies=jnp.zeros(shape, jnp.int16),
    resigned=jnp.zeros(shape, bool),
    despaired=jnp.zeros(shape, jnp.int8),
    count=count,
  )
  return positions, ends


def put(records, which: jax.Array, **rows: jax.Array):
  """Appends rows [B] to positions or ends at places `which` bool [B]."""
  at = jnp.where(which, records.count, -1)
  kept = {
    name: arrays.put_row(into, at, rows[name].astype(into.dtype))
    for name, into in vars(records).items()
    if name != 'count'
  }
  return type(records)(**kept, count=records.count + which)


def packed(planes: jax.Array) -> jax.Array:
  """Packs planes: bool [B, S, S, F] -> uint8 [B, bytes]."""
  return jnp.packbits(planes.reshape(planes.shape[0], -1), axis=1)


def unpacked(packed: jax.Array, settings: Settings) -> jax.Array:
  """Unpacks planes: uint8 [N, bytes] -> bool [N, S, S, F]."""
  side, planes = settings.rules.size, go.PLANES[settings.planes]
  bits = jnp.unpackbits(packed, axis=1, count=side**2 * planes)
  return bits.reshape(-1, side, side, planes).astype(bool)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Examples:
  """Training examples of a net."""

  planes: jax.Array  # bool [N, S, S, F]
  pi: jax.Array  # float32 [N, A], sums to one
  outcome: jax.Array  # float32 [N], from Black's view


def examples(batch: Mapping[str, jax.Array], settings: Settings) -> Examples:
  """Examples of a batch of records, each under its symmetry.

  `batch` holds planes uint8 [N, bytes], visits uint16 [N, A], ply int16 [N],
  outcome int8 [N] and symmetry int32 [N], 0 to 7.
  """
  symmetry = batch['symmetry'].astype(jnp.int32)
  early = batch['ply'] < settings.early_plies
  pi = moves.policy_target(batch['visits'].astype(jnp.int32), early)
  planes = unpacked(batch['planes'], settings)
  return Examples(
    planes=minigo.transform(planes, symmetry),
    pi=minigo.transform_moves(pi, symmetry),
    outcome=batch['outcome'].astype(jnp.float32),
  )
