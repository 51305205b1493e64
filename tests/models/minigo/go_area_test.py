"""Tests of Go's score and of what cannot be taken, on boards by hand."""

import dataclasses

from absl.testing import absltest, parameterized
import jax.numpy as jnp
import numpy as np

from models.minigo import go
from tests.models.minigo import go_boards as boards
from tests.models.minigo import go_peer

FIVE, NINE = go.Rules(5), go.Rules(9)


def _alive(text, rules=FIVE):
  """The pass-alive regions, as a drawing: X, O, or a point."""
  found = boards.compiled(go.pass_alive, rules)(boards.drawn(text, rules))
  letters = ''.join('.XO'[int(owner)] for owner in found)
  size = rules.size
  return ' '.join(letters[at : at + size] for at in range(0, size**2, size))


def _score(text, rules=FIVE):
  return float(boards.compiled(go.score, rules)(boards.drawn(text, rules)))


class PassAliveTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('empty', '..... ..... ..... ..... .....', '..... ..... ..... ..... .....'),
    (
      'two_eyes_each',
      '.X.X. XXXXX ..... OOOOO .O.O.',
      'X.X.X ..... ..... ..... O.O.O',
    ),
    (
      'one_eye',
      '.XO.. XXO.. OOO.. ..... .....',
      '..... ..... ..... ..... .....',
    ),
    (
      'no_wall_but_one_inner_point',
      'O.OOO OOOOO OOOOO OOOOO OOOOO',
      '..... ..... ..... ..... .....',
    ),
    (
      'false_eye',
      '.XO.. X.XO. OXXO. OOOO. .....',
      '..... ..... ..... ..... .....',
    ),
    (
      # The upper chain and the lower one live of the two corners they share.
      'two_chains_share_two_eyes',
      '.XXX. X...X X...X X...X XXXXX',
      'X...X .XXX. .XXX. .XXX. .....',
    ),
    (
      # As before, but one shared corner only: both could be taken.
      'two_chains_share_one_eye',
      '.XXXX X...O X...O X...O XXXOO',
      '..... ..... ..... ..... .....',
    ),
    (
      'opponents_in_a_small_region',
      '.XO.X XXXXX ..... ..... .....',
      'X.XX. ..... ..... ..... .....',
    ),
    (
      'one_point_inside_touches_no_wall',
      'XXXX. X..XX X..X. XXXXX X.X.X',
      '....X .XX.. .XX.X ..... .X.X.',
    ),
  )
  def test_regions(self, text, expected):
    self.assertEqual(_alive(text), expected)
    swapped = str.maketrans('XO', 'OX')
    self.assertEqual(
      _alive(text.translate(swapped)), expected.translate(swapped)
    )

  def test_a_dead_chain_ends_all_regions_that_it_borders_on(self):
    # The stone in the corner, which White can take, touches the eye beside it
    # at White's stone only; then White can take the other one too.
    text = '.XaOX XXXX. ..... ..... .....'
    self.assertEqual(_alive(text), '..... ..... ..... ..... .....')
    stones = boards.stones(text)
    self.assertEmpty(go_peer.pass_alive(5, stones, go.BLACK))
    # The reference keeps that eye, and credits what is left of the chain.
    found = go_peer.pass_alive(5, stones, go.BLACK, by_liberties=True)
    self.assertEqual(found, {0})

  @parameterized.parameters('.', 'O')
  def test_a_region_counts_with_one_inner_point_not_with_two(self, inner):
    room = f"""
      .X.XXXXX.
      XXXX...X.
      ...X.{inner}.X.
      ...X...X.
      ...XXXXX.
      .........
      .........
      .........
      .........
    """
    larger = room.replace('...XXXXX.', '...X...X.')
    larger = larger.replace('.........', '...XXXXX.', 1)
    self.assertEqual(_alive(room, NINE).split()[2][5], 'X')
    # Two rows in the middle: one of their points may be empty.
    expected = '.' if inner == '.' else 'X'
    self.assertEqual(_alive(larger, NINE).split()[2][5], expected)


class ScoreTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('empty', '..... ..... ..... ..... .....', 0),
    ('one_stone_owns_all', '..... ..... ..X.. ..... .....', 25),
    ('one_of_each', 'X.... ..... ..... ..... ....O', 0),
    ('walls', '..XO. ..XO. ..XO. ..XO. ..XO.', 5),
    ('dead_in_a_pass_alive_region', '.XO.X XXXXX ..... OOOOO .O.O.', 0),
    (
      'stones_that_can_be_taken_count_else',
      'OX... .X... X.... ..... .....',
      22,
    ),
    ('seki_shares_no_points', 'XXaOO XXXOO XXXOO XXXOO XXbOO', 3),
    ('bent_four_is_alive_until_taken', 'XXXbO aOOOO OOXXX XXXXX .X.X.', 9),
  )
  def test_area_without_komi(self, text, expected):
    self.assertEqual(_score(text) + FIVE.komi, expected)

  def test_komi_is_whites(self):
    black = boards.drawn('..... ..... ..X.. ..... .....', FIVE)
    white = boards.drawn('..... ..... ..O.. ..... .....', FIVE)
    score = boards.compiled(go.score, FIVE)
    self.assertEqual([score(black), score(white)], [17.5, -32.5])

  def test_the_winner_has_more_and_of_equals_there_is_none(self):
    black = boards.drawn('..... ..... ..X.. ..... .....', FIVE)
    white = boards.drawn('..... ..... ..O.. ..... .....', FIVE)
    even = go.Rules(5, komi=25.0)
    winner = boards.compiled(go.winner, FIVE)
    self.assertEqual([winner(black), winner(white)], [go.BLACK, go.WHITE])
    self.assertEqual(boards.compiled(go.winner, even)(black), 0)


class SettleTest(absltest.TestCase):
  SETTLED = '.XXX. X...X X...X X...X XXXXX'
  OPEN = '.X.X. XXXXX ..... OOOOO .O.O.'

  def _settled(self, text, ply, passes=0):
    state = boards.drawn(text, FIVE)
    state = dataclasses.replace(
      state, ply=jnp.int32(ply), passes=jnp.int32(passes)
    )
    return boards.compiled(go.settle, FIVE)(state)

  def test_a_game_ends_where_all_is_pass_alive_and_not_before_its_time(self):
    self.assertTrue(go.is_over(self._settled(self.SETTLED, 10), FIVE))
    self.assertTrue(go.is_over(self._settled(self.SETTLED, 11, passes=1), FIVE))
    self.assertFalse(go.is_over(self._settled(self.SETTLED, 9), FIVE))
    self.assertFalse(go.is_over(self._settled(self.OPEN, 30), FIVE))

  def test_what_is_not_over_stays_as_it_was(self):
    state = self._settled(self.OPEN, 30, passes=1)
    self.assertEqual((int(state.ply), int(state.passes)), (30, 1))


class ForbiddenTest(absltest.TestCase):
  def test_pass_alive_regions_are_shut_after_four_passes_of_the_opponent(self):
    state = boards.drawn('.X.X. XXXXX ..... OOOOO .O.O.', FIVE)
    forbidden = boards.compiled(go.forbidden, FIVE)
    for runs, colour, shut in (
      ([0, 4], go.BLACK, True),
      ([0, 4], go.WHITE, False),
      ([4, 0], go.WHITE, True),
      ([3, 3], go.BLACK, False),
    ):
      turned = dataclasses.replace(
        state,
        to_play=jnp.int32(colour),
        pass_runs=jnp.array(runs, jnp.int32),
      )
      expected = [0, 2, 4, 20, 22, 24] if shut else []
      found = np.flatnonzero(forbidden(turned)).tolist()
      self.assertEqual(found, expected)


if __name__ == '__main__':
  absltest.main()
