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

  @classmethod
  def of(cls, size: int, arrays) -> 'Games':
    ends = np.cumsum(arrays[f'lengths_{size}'])
    moves = np.split(arrays[f'moves_{size}'].astype(np.int32), ends[:-1])
    names = ('digests', 'scores', 'dead')
    return cls(size, moves, *(list(arrays[f'{name}_{size}']) for name in names))


@functools.cache
def _recorded(size: int) -> Games:
  with np.load(recorded.FIXTURE) as arrays:
    return Games.of(size, dict(arrays))


def _rules(size: int) -> go.Rules:
  return go.Rules(size, komi=0.0, remembered=recorded.LONGEST[size])


@functools.cache
def _replay(size: int, plies: int):
  """Moves int32 [plies, games], -1 behind the end -> last states, legal sets.

  The sets are bool [plies + 1, games, 2, P], of Black and White, before each
  move and after the last.
  """
  rules = _rules(size)

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
    return new, both(state)

  def run(moves):
    state, sets = jax.lax.scan(step, go.initial(rules), moves)
    return state, jnp.concatenate([sets, both(state)[None]])

  return jax.jit(jax.vmap(run, in_axes=1, out_axes=(0, 1)))


def _replayed(games: Games):
  longest = recorded.LONGEST[games.size]
  moves = np.full((longest, len(games.moves)), -1, np.int32)
  for game, these in enumerate(games.moves):
    moves[: len(these), game] = these
  return jax.device_get(_replay(games.size, longest)(moves))


def _sets(games: Games, sets, game: int) -> list[np.ndarray]:
  """Those of one game, as the record has them."""
  return list(sets[: len(games.moves[game]) + 1, game])


@functools.cache
def _recorded_replayed(size: int):
  return _replayed(_recorded(size))


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


def _scores(states, size: int) -> np.ndarray:
  rules = _rules(size)
  return np.asarray(jax.jit(jax.vmap(lambda s: go.score(s, rules)))(states))


class RecordTest(parameterized.TestCase):
  @parameterized.parameters(*SIZES)
  def test_all_legal_sets_are_those_of_gnugo(self, size):
    games = _recorded(size)
    _, sets = _recorded_replayed(size)
    wrong = [
      game
      for game, digest in enumerate(games.digests)
      if recorded.digest(_sets(games, sets, game)) != digest
    ]
    self.assertEmpty(wrong, self._where(games, sets, wrong))

  def _where(self, games, sets, wrong):
    """Account by a plain engine of the first game that differs."""
    if not wrong:
      return ''
    peer = go_peer.Game(games.size)
    for ply, found in enumerate(_sets(games, sets, wrong[0])):
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
    games = _recorded(size)
    scores = _scores(_recorded_replayed(size)[0], size)
    ended = _ended_in_order(games)
    self.assertGreaterEqual(len(ended), at_least)
    np.testing.assert_array_equal(
      scores[ended], np.array(games.scores, np.float32)[ended]
    )

  @parameterized.parameters((5, 400), (9, 30), (19, 2))
  def test_scores_and_pass_alive_regions_are_those_of_a_plain_engine(
    self, size, games
  ):
    rules = _rules(size)
    states, _ = _recorded_replayed(size)
    alive = jax.jit(jax.vmap(lambda state: go.pass_alive(state, rules)))
    alive, scores = jax.device_get(alive(states)), _scores(states, size)
    boards, anywhere = np.sign(states.chain), 0
    for game in range(games):
      peer = go_peer.Game(size)
      peer.stones = boards[game].tolist()
      self.assertEqual(scores[game], peer.score())
      for colour in (go.BLACK, go.WHITE):
        expected = go_peer.pass_alive(size, peer.stones, colour)
        found = set(np.flatnonzero(alive[game] == colour).tolist())
        self.assertEqual(found, expected)
        anywhere += bool(expected)
    self.assertGreater(anywhere, games // 3)

  def test_the_record_is_large_and_holds_repeated_positions(self):
    games = {size: len(_recorded(size).moves) for size in SIZES}
    self.assertEqual(games, {5: 2000, 9: 300, 19: 24})
    plies = {size: sum(map(len, _recorded(size).moves)) for size in SIZES}
    self.assertGreater(plies[5], 150_000)
    self.assertGreater(plies[9], 50_000)
    self.assertGreater(plies[19], 10_000)
    long = [moves for moves in _recorded(5).moves if len(moves) == 120]
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
    states, sets = _replayed(games)
    for game, digest in enumerate(games.digests):
      found = recorded.digest(_sets(games, sets, game))
      self.assertEqual(found, digest, f'{size}x{size}, seed {seed}, {game}')
    scores = _scores(states, size)
    for game in _ended_in_order(games):
      self.assertEqual(scores[game], games.scores[game], f'seed {seed}, {game}')


if __name__ == '__main__':
  absltest.main()
