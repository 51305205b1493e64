"""Tests of the opponent that values leaves by random games."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.minigo import go, self_play
from models.minigo.self_play import playouts
from models.minigo.tree_search.trees import Settings as TreeSettings
from tests import quick
from tests.models.minigo import go_boards, go_peer

RULES = go.Rules(5, komi=7.5)
EVEN = go.Rules(5, komi=0.5)

# Two chains of two eyes each; at most five points are left to White.
BLACK_LIVES = 'X.X.X XXXXX ..... XXXXX X.X.X'
EYES_IN_CORNERS = '.X... XX... ..... ...XX ...X.'

OPEN = """
. . . . .
. X O . .
. O X . .
. . X O .
. . . . .
"""


@functools.cache
def compiled(games: int, states: int):
  """Games' salts and states -> logits and the means of 16 random games."""
  return (
    quick.jit(lambda salts, many: playouts.evaluator(salts, EVEN, 16)(many))
    .lower(salts(games), batch(go.initial(EVEN), states))
    .compile(compiler_options=quick.OPTIONS)
  )


def evaluate(salts: jax.Array, states: go.State):
  return compiled(salts.shape[0], states.ply.shape[0])(salts, states)


own_eyes = quick.jit(playouts.own_eyes, static_argnums=2)


def batch(state: go.State, count: int) -> go.State:
  return jax.tree.map(
    lambda leaf: jnp.broadcast_to(leaf[None], (count, *leaf.shape)), state
  )


def salts(count: int, start: int = 0) -> jax.Array:
  return start + jnp.arange(count, dtype=jnp.uint32)


def eyes(drawn: str, colour: int = go.BLACK) -> set[int]:
  """Own eyes of a drawn board."""
  stones = np.array(go_boards.stones(drawn), np.int32)
  size = int(len(stones) ** 0.5)
  found = own_eyes(stones, np.int32(colour), size)
  return set(np.flatnonzero(found).tolist())


def plain_eyes(game: go_peer.Game) -> set[int]:
  """The same by counting."""
  size, found = game.size, set()
  for point in range(size**2):
    if game.stones[point] or not game.fills_eye(point):
      continue
    row, column = divmod(point, size)
    corners = [(row + i, column + j) for i in (-1, 1) for j in (-1, 1)]
    on = [r * size + c for r, c in corners if 0 <= r < size and 0 <= c < size]
    against = sum(game.stones[p] == -game.to_play for p in on)
    if against <= (len(on) == 4):
      found.add(point)
  return found


def plain_winner(state: go.State, rules: go.Rules, rng) -> int:
  """Winner of a random game, in plain Python with all of superko."""
  game = go_peer.Game(rules.size)
  game.stones = go.board(state).tolist()
  game.to_play = int(state.to_play)
  game.seen = {tuple(game.stones)}
  passes = 0
  for _ in range(3 * rules.size**2):
    points = sorted(set(game.legal()) - plain_eyes(game))
    passes = 0 if points else passes + 1
    if passes == 2:
      break
    game.play(int(rng.choice(points)) if points else rules.size**2)
  return int(np.sign(game.score() - rules.komi))


class EyesTest(parameterized.TestCase):
  @parameterized.parameters(
    ('in the middle', '..... ..X.. .X.X. ..X.. .....', {12}),
    ('one diagonal lost', '..... .OX.. .X.X. ..X.. .....', {12}),
    ('two diagonals lost', '..... .OXO. .X.X. ..X.. .....', set()),
    ('two across', '..... .OX.. .X.X. ..XO. .....', set()),
    ('a side open', '..... ..X.. .X.X. ..... .....', set()),
    ('a side of the other', '..... ..X.. .X.X. ..O.. .....', set()),
    ('at the edge', '.X.X. ..X.. ..... ..... .....', {2}),
    ('at the edge, a diagonal lost', '.X.X. .OX.. ..... ..... .....', set()),
    ('in a corner', '.X... X.... ..... ..... .....', {0}),
    ('in a corner, the diagonal lost', '.X... XO... ..... ..... .....', set()),
    ('no wrap to the next row', '....X X.... ....X ..... .....', set()),
    ('of two points', '.X... ..X.. .X.X. .X.X. ..X..', set()),
    ('filled', '..... ..X.. .XXX. ..X.. .....', set()),
  )
  def test_an_own_eye(self, _, drawn, expected):
    self.assertEqual(eyes(drawn), expected)
    turned = drawn.translate(str.maketrans('XO', 'OX'))
    self.assertEqual(eyes(turned, go.WHITE), expected)
    self.assertEqual(eyes(turned), set())

  def test_eyes_of_random_boards_are_those_that_are_counted(self):
    rng, seen = np.random.default_rng(2), 0
    found = quick.jit(
      jax.vmap(lambda stones: playouts.own_eyes(stones, jnp.int32(1), 5))
    )
    # Mostly Black's stones, or there are hardly any.
    boards = rng.choice([1, 1, 1, 0, -1], (300, 25)).astype(np.int32)
    for stones, got in zip(boards, found(boards), strict=True):
      game = go_peer.Game(5)
      game.stones = stones.tolist()
      self.assertEqual(set(np.flatnonzero(got)), plain_eyes(game))
      seen += got.sum()
    self.assertGreater(seen, 30)


class ValuesTest(parameterized.TestCase):
  @parameterized.parameters((BLACK_LIVES, 1), (BLACK_LIVES, -1))
  def test_whoever_alone_has_stones_that_live_wins(self, drawn, colour):
    if colour < 0:
      drawn = drawn.replace('X', 'O')
    for to_play in (go.BLACK, go.WHITE):
      state = go_boards.drawn(drawn, EVEN, to_play)
      _, values = evaluate(salts(64), batch(state, 64))
      np.testing.assert_array_equal(values, np.full(64, colour))

  @parameterized.parameters((OPEN, go.BLACK), (OPEN, go.WHITE))
  def test_values_are_those_of_games_in_plain_python(self, drawn, to_play):
    state = go_boards.drawn(drawn, EVEN, to_play)
    _, values = evaluate(salts(64), batch(state, 64))
    rng, count = np.random.default_rng(4), 400
    plain = np.mean([plain_winner(state, EVEN, rng) for _ in range(count)])
    error = np.sqrt((1 - plain**2) * (1 / count + 1 / (64 * 16)))
    self.assertLess(abs(values.mean() - plain), 3 * error)

  def test_each_move_that_makes_sense_is_drawn_as_often(self):
    state = go_boards.drawn(EYES_IN_CORNERS, EVEN)
    keys = self_play.keys_of(jax.random.key(3), jnp.arange(2048))
    drawn = quick.jit(
      lambda keys, states: playouts._drawn(keys, states, jnp.int32(0), EVEN)
    )(keys, batch(state, 2048))
    counts = np.bincount(drawn, minlength=26)
    stones = np.array(go_boards.stones(EYES_IN_CORNERS))
    open_points = np.flatnonzero(stones == 0)
    expected = set(open_points.tolist()) - {0, 24}
    self.assertEqual(set(np.flatnonzero(counts).tolist()), expected)
    mean = 2048 / len(expected)
    off = np.abs(counts[sorted(expected)] - mean).max()
    self.assertLess(off, 4 * np.sqrt(mean))

  def test_a_game_that_is_over_is_counted_as_it_stands(self):
    # Black leads by one stone, less komi; any stone of White's would win.
    state = go_boards.drawn('..... ..... ..X.. ..... .....', EVEN)
    for ended in (
      state.__class__(**{**vars(state), 'passes': jnp.int32(2)}),
      state.__class__(**{**vars(state), 'ply': jnp.int32(EVEN.max_plies)}),
    ):
      _, values = evaluate(salts(64), batch(ended, 64))
      np.testing.assert_array_equal(values, np.ones(64))

  def test_values_follow_from_salt_position_and_ply(self):
    state = go_boards.drawn(OPEN, EVEN)
    later = state.__class__(**{**vars(state), 'ply': jnp.int32(3)})
    _, values = evaluate(salts(64), batch(state, 64))
    _, again = evaluate(salts(64)[::-1], batch(state, 64))
    np.testing.assert_array_equal(values, again[::-1])
    self.assertGreater(np.unique(values).size, 4)
    _, other = evaluate(salts(64), batch(later, 64))
    self.assertFalse(np.array_equal(values, other))

  def test_values_do_not_depend_on_how_the_batch_is_split(self):
    states = jax.tree.map(
      lambda one, two: jnp.stack([one, two] * 32),
      go_boards.drawn(OPEN, EVEN),
      go_boards.drawn(EYES_IN_CORNERS, EVEN, go.WHITE),
    )
    whole = evaluate(jnp.repeat(salts(32), 2), states)
    # Eight games at a time, of each two states.
    for at in range(0, 32, 8):
      part = jax.tree.map(lambda leaf, a=at: leaf[2 * a : 2 * a + 16], states)
      got = evaluate(salts(8, at), part)
      for one, all_of in zip(got, whole, strict=True):
        np.testing.assert_array_equal(one, all_of[2 * at : 2 * at + 16])

  def test_points_come_before_the_pass_and_that_before_own_eyes(self):
    state = go_boards.drawn(EYES_IN_CORNERS, EVEN)
    logits, _ = evaluate(salts(64), batch(state, 64))
    points = np.delete(logits[0], [0, 24, 25])
    np.testing.assert_array_equal(points, np.zeros(23))
    self.assertLess(logits[0, 25], -5)
    self.assertLess(logits[0, [0, 24]].max(), logits[0, 25] - 5)

  def test_a_side_without_a_playout_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'at least one playout, got 0'):
      self_play.of_playouts(RULES, 0)


class MatchTest(absltest.TestCase):
  # That it beats who passes is tested with `play_gnugo`.
  @pytest.mark.slow
  def test_more_readouts_win_with_either_colour(self):
    settings = self_play.MatchSettings(
      RULES,
      TreeSettings(capacity=34, leaves=2),
      readouts=16,
      other_readouts=1,
    )
    player = self_play.of_playouts(RULES)
    keys = self_play.keys_of(jax.random.key(1), jnp.arange(32, dtype=jnp.int32))
    run = quick.jit(
      lambda keys: self_play.match(player, player, keys, settings)
    )
    won = run(keys).winner == 1
    self.assertGreater(won[0::2].mean(), 0.7)
    self.assertGreater(won[1::2].mean(), 0.7)

  def test_readouts_of_either_side_need_room(self):
    with self.assertRaisesRegex(ValueError, 'other_readouts=50.*for 49'):
      self_play.MatchSettings(
        RULES, TreeSettings(50, leaves=2), readouts=9, other_readouts=50
      )


if __name__ == '__main__':
  absltest.main()
