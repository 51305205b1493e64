"""Tests of the planes that the network sees, on boards by hand."""

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np

from models.minigo import go
from tests.models.minigo import go_boards as boards

FIVE = go.Rules(5)


def _flat(planes):
  """bool [N, N, C] -> for each plane the points that are set."""
  planes = np.asarray(planes).reshape(25, -1)
  return [np.flatnonzero(planes[:, c]).tolist() for c in range(planes.shape[1])]


def _played(moves):
  state = go.initial(FIVE)
  for move in moves:
    state = boards.play(FIVE)(state, jnp.int32(move))
  return state


def _mlperf07(state):
  return _flat(boards.compiled(go.mlperf07, FIVE)(state))


def _agz(state):
  return _flat(boards.compiled(go.agz, FIVE)(state))


ALL = list(range(25))


class Mlperf07Test(absltest.TestCase):
  def test_the_first_position_has_but_blacks_turn(self):
    planes = _mlperf07(_played([]))
    self.assertEqual(planes, [*[[]] * 8, ALL, [], [], [], []])

  def test_stones_of_four_plies_come_in_pairs_from_the_players_side(self):
    # Black 6, White 8, Black passes; White is to play.
    planes = _mlperf07(_played([6, 8, 25]))
    pairs = [[8], [6], [8], [6], [], [6], [], []]
    self.assertEqual(planes[:8], pairs)
    self.assertEqual(planes[8], [])
    # After White's 16 Black is to play, and the first stone is the oldest.
    planes = _mlperf07(_played([6, 8, 25, 16]))
    pairs = [[6], [8, 16], [6], [8], [6], [8], [6], []]
    self.assertEqual(planes[:9], [*pairs, ALL])

  def test_captured_stones_stay_in_the_past(self):
    # White's 0 is taken by Black's 1 and 5.
    planes = _mlperf07(_played([1, 0, 5]))
    self.assertEqual(planes[:6], [[], [1, 5], [0], [1], [], [1]])

  def test_liberties_are_one_two_and_more(self):
    text = '.OX.. OXX.. ..... ...OO ...O.'
    planes = _mlperf07(boards.drawn(text, FIVE))
    self.assertEqual(planes[9:12], [[1], [5], [2, 6, 7, 18, 19, 23]])

  def test_captures_are_moves_of_the_player_that_take(self):
    text = 'aOX.. OX... X.... ....X ...bO'
    at = boards.points(text)
    planes = _mlperf07(boards.drawn(text, FIVE))
    self.assertEqual(planes[12], [at['a'], at['b']])
    planes = _mlperf07(boards.drawn(text, FIVE, go.WHITE))
    self.assertEqual(planes[12], [])

  def test_a_capture_that_repeats_the_board_is_not_one(self):
    text = '.XO.. XOaO. .XO.. ..... .....'
    state = boards.drawn(text, FIVE)
    self.assertEqual(_mlperf07(state)[12], [7])
    state = boards.play(FIVE)(state, jnp.int32(7))
    self.assertEqual(_mlperf07(state)[12], [])


class AgzTest(absltest.TestCase):
  def test_stones_of_eight_plies_and_the_colour(self):
    moves = [0, 24, 1, 23, 2, 22, 3, 21, 10]
    planes = _agz(_played(moves))
    own, other = [21, 22, 23, 24], [0, 1, 2, 3, 10]
    expected = []
    for ago in range(8):
      black, white = moves[: 9 - ago : 2], moves[1 : 9 - ago : 2]
      expected += [sorted(white), sorted(black)]
    self.assertEqual(expected[:2], [own, other])
    self.assertEqual(planes, [*expected, []])

  def test_black_to_play_is_all_ones(self):
    planes = _agz(_played([3, 4]))
    self.assertEqual(planes[:4], [[3], [4], [3], []])
    self.assertEqual(planes[4:], [*[[]] * 12, ALL])

  def test_the_numbers_of_planes_are_the_stated(self):
    state = go.initial(FIVE)
    shapes = {
      'mlperf07': go.mlperf07(state, FIVE).shape,
      'agz': go.agz(state, FIVE).shape,
    }
    self.assertEqual({n: shape[2] for n, shape in shapes.items()}, go.PLANES)


if __name__ == '__main__':
  absltest.main()
