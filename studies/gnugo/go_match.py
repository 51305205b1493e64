"""Games of Go between a search on the device and another program."""

# N games, A actions, the last is a pass.

from collections.abc import Callable, Mapping
import dataclasses
import itertools
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.minigo import go, self_play
from models.minigo.tree_search import trees
from studies.gnugo import gtp


@dataclasses.dataclass(frozen=True)
class Side:
  """Player against the program."""

  name: str
  arrays: Any  # argument of `player`
  player: Callable[[Any], self_play.Player]
  settings: self_play.MatchSettings  # `readouts` are its own


@dataclasses.dataclass
class Game:
  """Game in progress or ended."""

  number: int
  ours: int  # our colour, 1 or -1
  moves: list[int]
  resigned: bool = False  # GNU Go did
  score: float | None = None  # Black's minus White's, by our engine
  their_score: float | None = None  # the same, by GNU Go

  @property
  def winner(self) -> int:
    """1 Black, -1 White, or 0 for a draw."""
    return self.ours if self.resigned else int(np.sign(self.score))


class Broken(Exception):
  """A game cannot continue: engines disagree on the rules, or one failed."""


def openings(count: int, size: int, seed: int) -> list[Game]:
  """Games after two random plies, each opening as Black and as White.

  No opening repeats before all of the board have been used.
  """
  pairs = list(itertools.permutations(range(size**2), 2))
  random.Random(seed).shuffle(pairs)
  drawn = itertools.islice(itertools.cycle(pairs), count // 2)
  return [
    Game(2 * n + (ours != go.BLACK), ours, list(pair))
    for n, pair in enumerate(drawn)
    for ours in (go.BLACK, go.WHITE)
  ]


def play(
  games: list[Game],
  table: 'Table',
  pool: gtp.Pool,
  seed: int,
  tell: Callable[[int, int], None],
) -> None:
  """Plays the games to their end, and has both engines score them.

  While the device searches for our moves, the programs find those of the other
  games. `tell` is called with a ply, from 0, and the number of games that
  continue after it.
  """
  is_black = np.array([game.ours == go.BLACK for game in games])
  moves = np.array([game.moves for game in games], np.int32)
  for before in moves.T:
    table.move(before)
  for ply in itertools.count(moves.shape[1]):
    if not table.going.any():
      break
    ours = table.going & (is_black == (ply % 2 == 0))
    searched = table.search(ours)
    theirs = table.going & ~ours
    answers = pool.of_each(
      np.flatnonzero(theirs).tolist(),
      lambda engine, n: _answer(engine, games[n], seed),
    )
    _add_moves(games, table, np.asarray(searched), ours, answers)
    tell(ply, int(table.going.sum()))
  _count(games, table, pool)


class Table:
  """Games on the device, with a tree for each; nothing is compiled twice."""

  def __init__(self, side: Side, games: int):
    self.size = side.settings.rules.size
    self._games = games
    rules, settings = side.settings.rules, side.settings

    def search(arrays, salts, tree, games):
      evaluate = side.player(arrays)(salts)
      readouts = jnp.int32(settings.readouts)
      return self_play.searched(tree, evaluate, readouts, games, settings)

    def move(tree, actions, games):
      tree, going = self_play.moved(tree, actions, games, settings)
      states = trees.root_states(tree)
      legal = jax.vmap(lambda state: go.legal(state, rules))(states)
      return tree, going, legal

    def count(tree):
      states = trees.root_states(tree)
      return jax.vmap(lambda state: go.score(state, rules))(states)

    self._plant = jax.jit(lambda: self_play.planted(games, settings))
    self._search = jax.jit(search, donate_argnums=2)
    self._move = jax.jit(move, donate_argnums=0)
    self._count = jax.jit(count)

  def begin(self, arrays: Any, seed: int) -> None:
    """Starts with empty boards, for the side's player with `arrays`."""
    salts = np.random.default_rng(seed).integers(2**32, size=self._games)
    self._salts = salts.astype(np.uint32)
    self._arrays = jax.device_put(arrays)
    self._tree = self._plant()
    self.going = np.ones(self._games, bool)
    self.legal = np.ones((self._games, self.size**2 + 1), bool)

  def search(self, games: np.ndarray) -> jax.Array:
    """Moves int32 [N] of `games` bool [N]; does not wait for them."""
    self._tree, actions = self._search(
      self._arrays, self._salts, self._tree, games
    )
    return actions

  def move(self, actions: np.ndarray) -> None:
    """Plays `actions` int32 [N] in the games that continue."""
    self._tree, going, legal = self._move(self._tree, actions, self.going)
    # A copy, as arrays of the device are read-only.
    self.going, self.legal = np.array(going), np.asarray(legal)

  def scores(self) -> np.ndarray:
    """Black's area minus White's and komi, as the boards stand: float32 [N]."""
    return np.asarray(self._count(self._tree))


def _answer(engine: gtp.Engine, game: Game, seed: int) -> int | None:
  """Move of GNU Go, seeded by game and ply alone; None: it resigns."""
  draw = random.Random(f'{seed} {game.number} {len(game.moves)}')

  def ask():
    engine.set_seed(draw.getrandbits(31))
    return engine.generate(-game.ours)

  return _asked(engine, game, ask)


def _asked(engine: gtp.Engine, game: Game, ask):
  try:
    engine.stand_after(game.moves)
    return ask()
  except (gtp.Refused, gtp.Ended) as error:
    raise Broken(f'{error}\n{shown(game, engine.size)}') from None


def _add_moves(
  games: list[Game],
  table: Table,
  searched: np.ndarray,
  ours: np.ndarray,
  answers: Mapping[int, int | None],
) -> None:
  """Plays a move in each game that continues, or ends it."""
  actions = np.where(ours, searched, 0).astype(np.int32)
  for n, answer in answers.items():
    games[n].resigned = answer is None
    table.going[n] = answer is not None
    actions[n] = 0 if answer is None else answer
  for n in np.flatnonzero(table.going).tolist():
    game, action = games[n], int(actions[n])
    if not table.legal[n, action]:
      size = table.size
      raise Broken(
        f'{"Our search" if ours[n] else "GNU Go"} plays '
        f'{gtp.vertex(action, size)}, which is not legal.\n{shown(game, size)}'
      )
    game.moves.append(action)
  table.move(actions)


def _count(games: list[Game], table: Table, pool: gtp.Pool) -> None:
  """Has both engines score the games that were played to their end."""
  ours = table.scores()
  ended = [n for n, game in enumerate(games) if not game.resigned]
  theirs = pool.of_each(
    ended, lambda engine, n: _asked(engine, games[n], engine.score)
  )
  for n in ended:
    games[n].score, games[n].their_score = float(ours[n]), theirs[n]


def shown(game: Game, size: int) -> str:
  """Text of a game so far, for people."""
  colour = 'White' if game.ours == go.BLACK else 'Black'
  moves = ' '.join(gtp.vertex(move, size) for move in game.moves)
  return f'Game {game.number}, GNU Go is {colour}: {moves}'
