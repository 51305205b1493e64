"""The engine beside GNU Go: every legal set and the score of random games.

`record_go_games.py` made the record; a test behind the marker `gnugo` plays
new games where the program is installed.
"""

import dataclasses
import functools
import random

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.minigo import go
from studies.gnugo import gtp
from tests import quick
from tests.models.minigo import go_peer
from tests.models.minigo import record_go_games as recorded

SIZES = tuple(recorded.LONGEST)


@dataclasses.dataclass(frozen=True)
class Games:
  """Random games on one board, judged by GNU Go."""

  size: int
  moves: list[np.ndarray]
  digests: list[int]
  scores: list[float]
  dead: list[np.ndarray]  # bool [P]

  def first(self, count: int) -> 'Games':
    """The first of the games."""
    lists = (self.moves, self.digests, self.scores, self.dead)
    return Games(self.size, *(some[:count] for some in lists))

  @classmethod
  def of(cls, size: int, arrays) -> 'Games':
    ends = np.cumsum(arrays[f'lengths_{size}'])
    moves = np.split(arrays[f'moves_{size}'].astype(np.int32), ends[:-1])
    names = ('digests', 'scores', 'dead')
    return cls(size, moves, *(list(arrays[f'{name}_{size}']) for name in names))


@functools.cache
def _whole(size: int) -> Games:
  with np.load(recorded.FIXTURE) as arrays:
    return Games.of(size, dict(arrays))


def _rules(size: int) -> go.Rules:
  return go.Rules(size, komi=0.0, remembered=recorded.LONGEST[size])


@dataclasses.dataclass(frozen=True)
class Replayed:
  """What the engine has of games, of which some end before others."""

  legal: np.ndarray  # bool [plies + 1, games, 2, P], Black's and White's
  boards: np.ndarray  # int32 [games, P], at the end
  alive: np.ndarray  # int32 [games, P], whose pass-alive region it is
  scores: np.ndarray  # float32 [games]

  def sets(self, games: Games, game: int) -> list[np.ndarray]:
    """Those of one game, as the record has them."""
    return list(self.legal[: len(games.moves[game]) + 1, game])


def _replayed(games: Games) -> Replayed:
  longest, rules = recorded.LONGEST[games.size], _rules(games.size)
  moves = np.full((longest, len(games.moves)), -1, np.int32)
  for game, these in enumerate(games.moves):
    moves[: len(these), game] = these

  def both(state):
    turned = [
      dataclasses.replace(state, to_play=jnp.int32(colour))
      for colour in (go.BLACK, go.WHITE)
    ]
    return jnp.stack([go.legal(one, rules)[:-1] for one in turned])

  def step(state, move):
    new = go.play(state, jnp.maximum(move, 0), rules)
    goes_on = move >= 0
    new = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), new, state)
    return new, both(new)

  def run(moves):
    start = go.initial(rules)
    last, sets = jax.lax.scan(step, start, moves)
    return {
      'legal': jnp.concatenate([both(start)[None], sets]),
      'boards': go.board(last),
      'alive': go.pass_alive(last, rules),
      'scores': go.score(last, rules),
    }

  axes = {'legal': 1, 'boards': 0, 'alive': 0, 'scores': 0}
  replay = jax.jit(
    jax.vmap(run, in_axes=1, out_axes=axes), compiler_options=quick.LOOPS
  )
  return Replayed(**jax.device_get(replay(moves)))


@functools.cache
def _recorded(size: int, count: int) -> tuple[Games, Replayed]:
  games = _whole(size).first(count)
  return games, _replayed(games)


def _ended_in_order(games: Games) -> list[int]:
  """Those that two passes ended, with nothing for GNU Go to judge.

  It holds no stone for dead, and the players kept their eyes: of a board full
  of one colour but for one point, GNU Go does not count that point.
  """
  return [
    game
    for game, (moves, dead) in enumerate(
      zip(games.moves, games.dead, strict=True)
    )
    if recorded.keeps_eyes(game)
    and len(moves) < recorded.LONGEST[games.size]
    and not dead.any()
  ]


class RecordTest(parameterized.TestCase):
  """A share of the record."""

  share = 0.2

  def recorded(self, size: int) -> tuple[Games, Replayed]:
    count = round(self.share * len(_whole(size).moves))
    return _recorded(size, count)

  @parameterized.parameters(*SIZES)
  def test_all_legal_sets_are_those_of_gnugo(self, size):
    games, replayed = self.recorded(size)
    wrong = [
      game
      for game, digest in enumerate(games.digests)
      if recorded.digest(replayed.sets(games, game)) != digest
    ]
    self.assertEmpty(wrong, self._where(games, replayed, wrong))

  def _where(self, games, replayed, wrong):
    """Account by a plain engine of the first game that differs."""
    if not wrong:
      return ''
    peer = go_peer.Game(games.size)
    for ply, found in enumerate(replayed.sets(games, wrong[0])):
      for side, colour in enumerate((1, -1)):
        if np.flatnonzero(found[side]).tolist() != peer.legal(colour):
          return f'Game {wrong[0]} differs from a plain engine at ply {ply}.'
      if ply < len(games.moves[wrong[0]]):
        peer.play(int(games.moves[wrong[0]][ply]))
    return f'Game {wrong[0]} differs from the record, not from a plain engine.'

  @parameterized.parameters((5, 700), (9, 110), (19, 7))
  def test_scores_are_those_of_gnugo_of_games_that_ended_in_order(
    self, size, at_least
  ):
    games, replayed = self.recorded(size)
    ended = _ended_in_order(games)
    self.assertGreaterEqual(len(ended), int(self.share * at_least))
    np.testing.assert_array_equal(
      replayed.scores[ended], np.array(games.scores, np.float32)[ended]
    )

  @parameterized.parameters((5, 400), (9, 30), (19, 2))
  def test_scores_and_pass_alive_regions_are_those_of_a_plain_engine(
    self, size, count
  ):
    _, replayed = self.recorded(size)
    count, anywhere = max(1, round(self.share * count)), 0
    for game in range(count):
      peer = go_peer.Game(size)
      peer.stones = replayed.boards[game].tolist()
      self.assertEqual(replayed.scores[game], peer.score())
      for colour in (go.BLACK, go.WHITE):
        expected = go_peer.pass_alive(size, peer.stones, colour)
        found = np.flatnonzero(replayed.alive[game] == colour).tolist()
        self.assertEqual(set(found), expected)
        anywhere += bool(expected)
    self.assertGreater(anywhere, count // 3)


@pytest.mark.slow
class WholeRecordTest(RecordTest):
  """All of it."""

  share = 1


class FixtureTest(absltest.TestCase):
  def test_the_record_is_large_and_holds_repeated_positions(self):
    games = {size: len(_whole(size).moves) for size in SIZES}
    self.assertEqual(games, {5: 2000, 9: 300, 19: 24})
    plies = {size: sum(map(len, _whole(size).moves)) for size in SIZES}
    self.assertGreater(plies[5], 150_000)
    self.assertGreater(plies[9], 50_000)
    self.assertGreater(plies[19], 10_000)
    # Of games that are replayed whenever the tests run.
    long = [moves for moves in _whole(5).moves[:400] if len(moves) == 120]
    bans = [_superko_bans(moves, 5) for moves in long[:12]]
    self.assertGreater(sum(bans), 10)


def _superko_bans(moves, size: int) -> int:
  """Points that only superko forbids, over the positions of a game."""
  peer, count = go_peer.Game(size), 0
  for move in moves:
    free = [p for p in range(size**2) if peer.after(p, peer.to_play)]
    count += len(free) - len(peer.legal())
    peer.play(int(move))
  return count


@pytest.mark.gnugo
class LiveTest(parameterized.TestCase):
  @parameterized.parameters((5, 60), (9, 12), (19, 2))
  def test_new_random_games_agree(self, size, count):
    if not gtp.find():
      self.skipTest('GNU Go is not installed.')
    seed = random.SystemRandom().randrange(2**32)
    games = Games.of(size, recorded.record(size, count, seed))
    replayed = _replayed(games)
    for game, digest in enumerate(games.digests):
      found = recorded.digest(replayed.sets(games, game))
      self.assertEqual(found, digest, f'{size}x{size}, seed {seed}, {game}')
    for game in _ended_in_order(games):
      self.assertEqual(
        replayed.scores[game], games.scores[game], f'seed {seed}, {game}'
      )


if __name__ == '__main__':
  absltest.main()
