"""The rules of Go for one game: stones, captures, legal moves, the end.

Everything is a pure function of a `State` of one game, of static shapes, to be
mapped over games: `jax.vmap(lambda s, a: play(s, a, rules))`. Games in the
leading dimension were faster on CPUs than games in the last one, and the
functions are written so that mapped they become operations on whole boards:
shifts, comparisons, sums. There is no gather but of the four neighbours of the
move.

Every stone knows its chain, that chain's liberties and hash, so that a move
only compares chain numbers, and all legal moves follow from four shifts. Only
the liberties of chains beside captured stones are counted again; that is a loop
over them, rarely more than a few.

No position may repeat (positional superko). Positions are compared by 64 bits,
one random number for each stone, exclusive or. A game of M moves on P points
makes P M^2 / 2 comparisons: 1e8 for 722 moves on 19x19, so in one of 2e11 such
games a move is forbidden in error. A state holds a fixed number of positions,
the most recent ones: a cycle of more plies than that goes unnoticed. The
reference remembers all of them.
"""

# P points (size * size), A actions (P + 1, the last is the pass), M positions.

import dataclasses

import jax
import jax.numpy as jnp

from models.minigo.go import points

BLACK, WHITE = 1, -1


@dataclasses.dataclass(frozen=True)
class Rules:
  """Rules of a game: area scoring, no suicide, positional superko.

  From v0.7 on the reference's games have no limit of plies: they end by passes,
  by resignation, or once nothing is left to play. `max_plies` is by default the
  most that 16 bits hold, which records use. (In v0.6 games ended after 2 N^2.)

  Attributes:
    size: points in a row.
    komi: points that White is given.
    max_plies: moves and passes until the game ends and is scored as it stands.
    remembered: most recent positions that may not repeat; None: 2 N^2.
    settled_from: plies until `settle` ends a game with nothing left to play;
      None: as the reference computes it.
    passes_to_forbid: passes in a row by which a player closes the pass-alive
      regions to the opponent, for the rest of the game.
  """

  size: int
  komi: float = 7.5
  max_plies: int = 2**15 - 1
  remembered: int | None = None
  settled_from: int | None = None
  passes_to_forbid: int = 4

  def __post_init__(self):
    if not 2 <= self.size <= 25:
      raise ValueError(f'Expected a board of 2 to 25 rows, got {self.size}.')
    defaults = {
      'remembered': 2 * self.size**2,
      'settled_from': self.size * -(-self.size // 3),
    }
    for name, value in defaults.items():
      if getattr(self, name) is None:
        object.__setattr__(self, name, value)
    for name, least in (
      ('max_plies', 1),
      ('remembered', 1),
      ('settled_from', 0),
      ('passes_to_forbid', 1),
    ):
      if getattr(self, name) < least:
        raise ValueError(
          f'Expected {name} of at least {least}, got {getattr(self, name)}.'
        )
    if self.max_plies >= 2**15:
      raise ValueError(
        f'Expected max_plies that 16 bits hold, got {self.max_plies}.'
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """One game, after any number of moves."""

  to_play: jax.Array  # int32 [], BLACK or WHITE
  ply: jax.Array  # int32 [], moves and passes so far
  passes: jax.Array  # int32 [], the last moves that were passes
  pass_runs: jax.Array  # int32 [2], Black's and White's own passes in a row
  chain: jax.Array  # int32 [P], > 0 Black's, < 0 White's, 0 empty
  liberties: jax.Array  # int32 [P], of the stone's chain; 0 where empty
  chain_hash: jax.Array  # uint32 [2, P], of the stone's chain; 0 where empty
  recent: jax.Array  # uint8 [2, P], Black's and White's; bit t: t plies ago
  hash: jax.Array  # uint32 [2], of the position
  # uint32 [2, M], `hash` after recent plies, that of ply p at (p - 1) % M; 0,
  # the hash of the empty board, where there was none yet.
  history: jax.Array


def initial(rules: Rules) -> State:
  """The empty board, Black to play."""
  area = rules.size**2
  return State(
    to_play=jnp.int32(BLACK),
    ply=jnp.int32(0),
    passes=jnp.int32(0),
    pass_runs=jnp.zeros(2, jnp.int32),
    chain=jnp.zeros(area, jnp.int32),
    liberties=jnp.zeros(area, jnp.int32),
    chain_hash=jnp.zeros((2, area), jnp.uint32),
    recent=jnp.zeros((2, area), jnp.uint8),
    hash=jnp.zeros(2, jnp.uint32),
    history=jnp.zeros((2, rules.remembered), jnp.uint32),
  )


def board(state: State) -> jax.Array:
  """The stones: int32 [P], BLACK, WHITE or 0."""
  return jnp.sign(state.chain)


def is_over(state: State, rules: Rules) -> jax.Array:
  """True after two passes in a row or the last ply: bool []."""
  return (state.passes >= 2) | (state.ply >= rules.max_plies)


def legal(state: State, rules: Rules) -> jax.Array:
  """Legal actions of the player, in a game that is not over: bool [A]."""
  size = rules.size
  empty = state.chain == 0
  side = state.chain * state.to_play
  in_atari = state.liberties == 1
  taken = (side < 0) & in_atari
  breathes = points.beside(empty | taken | ((side > 0) & ~in_atari), size)
  # Otherwise XLA computes the hashes again for each position of the history.
  after = jax.lax.optimization_barrier(_hashes_after(state, taken, size))
  allowed = empty & breathes & ~_is_in(after, state.history)
  return jnp.append(allowed, True)


def play(state: State, action: jax.Array, rules: Rules) -> State:
  """State after a legal action int32 []; the game must not be over."""
  size, to_play = rules.size, state.to_play
  near = jnp.asarray(points.neighbours(size))[action]
  ids = jnp.append(state.chain, 0)[near]
  mine, theirs = ids * to_play > 0, ids * to_play < 0
  taken = theirs & (jnp.append(state.liberties, 0)[near] == 1)
  captured = _union(state.chain, ids, taken)
  joined = _union(state.chain, ids, mine) | (jnp.arange(size**2) == action)
  pressed = _union(state.chain, ids, theirs)

  # No chain on the board has this number: it names a stone of the chain, and
  # this point was empty.
  chain = jnp.where(joined, (action + 1) * to_play, state.chain)
  chain = jnp.where(captured, 0, chain)
  liberties = state.liberties - pressed.astype(jnp.int32)
  liberties = jnp.where(joined, _liberties(joined, chain, size), liberties)
  liberties = jnp.where(captured, 0, liberties)
  freed = points.beside(captured, size) & (chain != 0) & ~joined

  stone = jnp.asarray(points.stone_hashes(size))[action]
  stone = jnp.where(to_play > 0, stone[0], stone[1])
  chain_hash = _chain_hash(state, stone, joined, captured, near, mine)
  new_hash = state.hash ^ stone ^ _hash_of(state.chain_hash, ids, near, taken)
  now = jnp.stack([chain > 0, chain < 0]).astype(jnp.uint8)
  is_pass = action == size**2
  place = state.ply % state.history.shape[-1]
  return State(
    to_play=-to_play,
    ply=state.ply + 1,
    passes=jnp.where(is_pass, state.passes + 1, 0),
    pass_runs=_pass_runs(state, is_pass, rules),
    chain=chain,
    liberties=_recount(liberties, freed, chain, size),
    chain_hash=chain_hash,
    recent=(state.recent << 1) | now,
    hash=new_hash,
    history=jax.lax.dynamic_update_slice(
      state.history, new_hash[:, None], (0, place)
    ),
  )


def _union(chain: jax.Array, ids: jax.Array, which: jax.Array) -> jax.Array:
  """Stones of the selected chains: ids int32 [4], bool [4] -> bool [P]."""
  found = jnp.zeros(chain.shape, bool)
  for side in range(4):
    found |= (chain == ids[side]) & which[side]
  return found


def _liberties(stones: jax.Array, chain: jax.Array, size: int) -> jax.Array:
  """Number of empty points beside the stones: bool [P] -> int32 []."""
  free = (chain == 0) & points.beside(stones, size)
  return jnp.sum(free, dtype=jnp.int32)


def _recount(liberties, pending, chain, size) -> jax.Array:
  """Liberties int32 [P], counted again for chains in `pending` bool [P]."""
  lowest = jnp.iinfo(jnp.int32).min

  def count_one(carry):
    liberties, pending = carry
    this = chain == jnp.max(jnp.where(pending, chain, lowest))
    count = _liberties(this, chain, size)
    return jnp.where(this, count, liberties), pending & ~this

  carry = (liberties, pending)
  return jax.lax.while_loop(lambda carry: carry[1].any(), count_one, carry)[0]


def _hash_of(chain_hash, ids, near, which) -> jax.Array:
  """Hash of the selected ones of four chains `ids`, each once: uint32 [2]."""
  padded = jnp.pad(chain_hash, [(0, 0), (0, 1)])
  is_first = jnp.stack(points.firsts([ids[side] for side in range(4)]))
  each = jnp.where((which & is_first)[None, :], padded[:, near], 0)
  return each[:, 0] ^ each[:, 1] ^ each[:, 2] ^ each[:, 3]


def _chain_hash(state, stone, joined, captured, near, mine) -> jax.Array:
  ids = jnp.append(state.chain, 0)[near]
  of_joined = stone ^ _hash_of(state.chain_hash, ids, near, mine)
  kept = jnp.where(captured[None, :], 0, state.chain_hash)
  return jnp.where(joined[None, :], of_joined[:, None], kept)


def _pass_runs(state: State, is_pass: jax.Array, rules: Rules) -> jax.Array:
  """Passes in a row of each player; a count at the limit stays there."""
  player = jnp.array([BLACK, WHITE]) == state.to_play
  counts = player & (state.pass_runs < rules.passes_to_forbid)
  grown = jnp.where(is_pass, state.pass_runs + 1, 0)
  return jnp.where(counts, grown, state.pass_runs)


def _hashes_after(state: State, taken: jax.Array, size: int) -> jax.Array:
  """Hash of the position after a stone on each point: uint32 [2, P].

  `taken` bool [P] are stones that any move beside them captures.
  """
  own = points.stone_hashes(size)[:-1]
  ids = points.around(jnp.where(taken, state.chain, 0), size)
  is_first = points.firsts(ids)
  words = []
  for word in range(2):
    stone = jnp.where(state.to_play > 0, own[:, 0, word], own[:, 1, word])
    total = stone ^ state.hash[word]
    chains = points.around(state.chain_hash[word], size)
    for counts, chain in zip(is_first, chains, strict=True):
      total ^= jnp.where(counts, chain, 0)
    words.append(total)
  return jnp.stack(words)


def _is_in(hashes: jax.Array, history: jax.Array) -> jax.Array:
  """True for hashes uint32 [2, P] that the history [2, M] holds: bool [P]."""
  first = hashes[0][None, :] == history[0][:, None]
  second = hashes[1][None, :] == history[1][:, None]
  return (first & second).any(axis=0)
