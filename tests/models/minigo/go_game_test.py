"""Tests of Go's moves: positions by hand, and games with a plain engine."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.minigo import go
from models.minigo.go import points
from tests import quick
from tests.models.minigo import go_boards as boards
from tests.models.minigo import go_peer

FIVE, NINE = go.Rules(5), go.Rules(9)
BLACK, WHITE = go.BLACK, go.WHITE


def _after(state, moves, rules):
  """The state after moves, each of which must be legal; None is a pass."""
  for move in moves:
    move = rules.size**2 if move is None else move
    assert boards.can_play(state, move, rules), f'{move} is not legal.'
    state = boards.play(rules)(state, jnp.int32(move))
  return state


def _is_over(state, moves, rules=FIVE):
  return bool(go.is_over(_after(state, moves, rules), rules))


@functools.cache
def _random_games(rules, games, plies):
  """States after each ply, [plies, games, ...], actions and legal sets before.

  Moves are legal and random, passes rare.
  """

  def step(states, key):
    legal = jax.vmap(lambda state: go.legal(state, rules))(states)
    is_pass = jnp.arange(rules.size**2 + 1) == rules.size**2
    odds = jax.random.uniform(key, legal.shape)
    odds = jnp.where(is_pass[None, :], odds * 0.6, odds)
    actions = jnp.argmax(jnp.where(legal, odds, -1.0), axis=1)
    actions = actions.astype(jnp.int32)
    new = jax.vmap(lambda state, a: go.play(state, a, rules))(states, actions)
    return new, (new, actions, legal)

  @quick.jit
  def run(key):
    states = jax.vmap(lambda _: go.initial(rules))(jnp.arange(games))
    return jax.lax.scan(step, states, jax.random.split(key, plies))[1]

  return jax.device_get(run(jax.random.key(7)))


class MovesTest(parameterized.TestCase):
  def test_a_chain_without_liberties_is_taken_off(self):
    text = 'XXa.. OO... ..... ..... .....'
    state = boards.drawn(text, FIVE, WHITE)
    state = _after(state, [boards.points(text)['a']], FIVE)
    self.assertEqual(
      go.board(state).tolist(), boards.stones('..O.. OO... ..... ..... .....')
    )

  def test_one_move_takes_four_chains(self):
    text = '..X.. .XOX. XOaOX .XOX. ..X..'
    state = _after(boards.drawn(text, FIVE), [12], FIVE)
    after = '..X.. .X.X. X.X.X .X.X. ..X..'
    self.assertEqual(go.board(state).tolist(), boards.stones(after))
    np.testing.assert_array_equal(state.hash, boards.drawn(after, FIVE).hash)

  def test_a_chain_that_is_touched_twice_counts_once_in_the_hash(self):
    text = 'aOX.. OOX.. XX... ..... .....'
    state = _after(boards.drawn(text, FIVE), [0], FIVE)
    after = 'X.X.. ..X.. XX... ..... .....'
    self.assertEqual(go.board(state).tolist(), boards.stones(after))
    np.testing.assert_array_equal(state.hash, boards.drawn(after, FIVE).hash)

  def test_suicide_of_one_stone_or_of_several_is_illegal(self):
    text = 'XXaO. OOO.. ...O. ..ObO ...O.'
    at = boards.points(text)
    state = boards.drawn(text, FIVE)
    self.assertFalse(boards.can_play(state, at['a'], FIVE))
    self.assertFalse(boards.can_play(state, at['b'], FIVE))
    state = boards.drawn(text, FIVE, WHITE)
    self.assertTrue(boards.can_play(state, at['a'], FIVE))
    self.assertTrue(boards.can_play(state, at['b'], FIVE))

  def test_a_stone_without_liberties_that_captures_is_legal(self):
    text = 'aOX.. OX... X.... ..... .....'
    self.assertTrue(boards.can_play(boards.drawn(text, FIVE), 0, FIVE))
    text = 'aOX.. O.... X.... ..... .....'
    self.assertFalse(boards.can_play(boards.drawn(text, FIVE), 0, FIVE))

  def test_an_occupied_point_is_illegal_and_the_pass_always_legal(self):
    state = boards.drawn('X.O.. ..... ..... ..... .....', FIVE)
    legal = boards.legal(FIVE)(state)
    self.assertEqual(np.flatnonzero(~np.asarray(legal)).tolist(), [0, 2])

  def test_a_ko_may_be_retaken_only_when_the_board_has_changed(self):
    text = '.XO.. XOaO. .XO.. ...bc .....'
    at = boards.points(text)
    state = _after(boards.drawn(text, FIVE), [at['a']], FIVE)
    self.assertFalse(boards.can_play(state, 6, FIVE))
    passed = _after(state, [None, None], FIVE)
    self.assertFalse(boards.can_play(passed, 6, FIVE))
    changed = _after(state, [at['b'], at['c']], FIVE)
    self.assertTrue(boards.can_play(changed, 6, FIVE))

  def test_snapback_retakes_three_for_one(self):
    text = 'tuX.. OOX.. XX... ..... .....'
    at = boards.points(text)
    moves = [at['t'], at['u'], at['t']]
    state = _after(boards.drawn(text, FIVE), moves, FIVE)
    self.assertEqual(
      go.board(state).tolist(), boards.stones('X.X.. ..X.. XX... ..... .....')
    )

  def test_sending_two_and_returning_one_repeats_the_board(self):
    text = 'aObX. OXXX. OO... ..... .....'
    at = boards.points(text)
    state = boards.drawn(text, FIVE, WHITE)
    state = _after(state, [at['b'], at['a']], FIVE)
    self.assertFalse(boards.can_play(state, 1, FIVE))
    # With any other stone added in between it is another position.
    state = _after(state, [24, 20], FIVE)
    self.assertTrue(boards.can_play(state, 1, FIVE))

  def test_the_sixth_move_of_a_triple_ko_is_illegal(self):
    # Thrice X k a O, X below k and O below a; Black holds the second ko.
    text = """
      XOaO.XbXO
      .XO...XO.
      .........
      .........
      .........
      .........
      .........
      .XO......
      XOcO.....
    """
    state = boards.drawn(text, NINE)
    first, second, third = (1, 2), (6, 7), (73, 74)
    named = {'a': first[1], 'b': second[0], 'c': third[1]}
    self.assertEqual(boards.points(text), named)
    moves = [first[1], second[0], third[1], first[0], second[1]]
    state = _after(state, moves, NINE)
    self.assertFalse(boards.can_play(state, third[0], NINE))
    state = _after(state, [40, 41], NINE)
    self.assertTrue(boards.can_play(state, third[0], NINE))

  def test_in_seki_whoever_fills_a_shared_liberty_is_taken(self):
    text = 'XXaOO XXXOO XXXOO XXXOO XXbOO'
    at = boards.points(text)
    state = _after(boards.drawn(text, FIVE), [at['a'], at['b']], FIVE)
    taken = '...OO ...OO ...OO ...OO ..OOO'
    self.assertEqual(go.board(state).tolist(), boards.stones(taken))
    state = boards.drawn(text, FIVE, WHITE)
    state = _after(state, [at['a'], at['b']], FIVE)
    taken = 'XX... XXX.. XXX.. XXX.. XXX..'
    self.assertEqual(go.board(state).tolist(), boards.stones(taken))

  def test_bent_four_is_played_out(self):
    text = 'XXXbO aOOOO OOXXX XXXXX .X.X.'
    at = boards.points(text)
    state = _after(boards.drawn(text, FIVE), [at['a'], at['b']], FIVE)
    taken = '...OO .OOOO OOXXX XXXXX .X.X.'
    self.assertEqual(go.board(state).tolist(), boards.stones(taken))
    # Black plays the vital point, and passes where White can be fought off.
    state = _after(state, [1, 0, None, 2], FIVE)
    fought = 'O.OOO .OOOO OOXXX XXXXX .X.X.'
    self.assertEqual(go.board(state).tolist(), boards.stones(fought))

  def test_two_passes_in_turn_end_the_game(self):
    state = go.initial(FIVE)
    self.assertFalse(_is_over(state, [None, 3, None]))
    self.assertTrue(_is_over(state, [3, None, None]))

  def test_the_last_ply_ends_the_game(self):
    rules = go.Rules(5, max_plies=3)
    self.assertFalse(_is_over(go.initial(rules), [1, 2], rules))
    self.assertTrue(_is_over(go.initial(rules), [1, 2, 3], rules))
    self.assertFalse(_is_over(go.initial(FIVE), [1, 2, 3]))

  def test_passes_in_a_row_are_counted_for_each_player_up_to_the_limit(self):
    rules = go.Rules(5, passes_to_forbid=2)
    state = _after(go.initial(rules), [0, None, 1, 5, None], rules)
    self.assertEqual(state.pass_runs.tolist(), [1, 0])
    state = _after(state, [None, None, None, 7], rules)
    self.assertEqual(state.pass_runs.tolist(), [2, 2])
    state = _after(state, [8, 9], rules)
    self.assertEqual(state.pass_runs.tolist(), [2, 2])

  def test_rules_that_cannot_be_are_refused(self):
    for wrong in ({'size': 1}, {'size': 26}):
      with self.assertRaisesRegex(ValueError, '2 to 25 rows, got'):
        go.Rules(**wrong)
    for name, least in (
      ('max_plies', 1),
      ('remembered', 1),
      ('passes_to_forbid', 1),
      ('settled_from', 0),
    ):
      says = f'{name} of at least {least}, got {least - 1}'
      with self.assertRaisesRegex(ValueError, says):
        go.Rules(5, **{name: least - 1})
    with self.assertRaisesRegex(ValueError, '16 bits hold, got 32768'):
      go.Rules(5, max_plies=2**15)

  @parameterized.parameters((19, 722, 133), (9, 162, 27), (5, 50, 10))
  def test_limits_follow_from_the_size(self, size, remembered, settled):
    rules = go.Rules(size)
    self.assertEqual(
      (rules.remembered, rules.settled_from), (remembered, settled)
    )
    self.assertEqual(rules.max_plies, 32_767)  # none, as in the reference

  def test_a_position_may_repeat_once_it_is_no_longer_remembered(self):
    text = '.XO.. XOaO. .XO.. ..... .....'
    for remembered, legal in ((4, False), (3, True)):
      rules = go.Rules(5, remembered=remembered)
      state = _after(boards.drawn(text, rules), [7, None, None], rules)
      self.assertEqual(boards.can_play(state, 6, rules), legal)


class RandomGamesTest(parameterized.TestCase):
  """Every state of random games, beside sets in plain Python."""

  @parameterized.parameters((3, 24, 60), (5, 12, 90), (9, 2, 200))
  def test_states_agree_with_a_plain_engine(self, size, games, plies):
    rules = go.Rules(size, remembered=plies)
    states, actions, legal = _random_games(rules, games, plies)
    for game in range(games):
      peer = go_peer.Game(size)
      for ply in range(plies):
        found = np.flatnonzero(legal[ply, game])
        self.assertEqual(found.tolist(), [*peer.legal(), size**2])
        peer.play(int(actions[ply, game]))
        state = jax.tree.map(lambda leaf, p=ply, g=game: leaf[p, g], states)
        self.assertEqual(np.sign(state.chain).tolist(), peer.stones)
        self.assertEqual(int(state.to_play), peer.to_play)
        if ply % 5 == 0:
          self._assert_chains_agree(state, peer)

  def _assert_chains_agree(self, state, peer):
    numbers = points.stone_hashes(peer.size)
    for point, stone in enumerate(peer.stones):
      if not stone:
        self.assertEqual(state.liberties[point], 0)
        continue
      chain = sorted(peer.chain(point))
      same = np.flatnonzero(state.chain == state.chain[point])
      self.assertEqual(same.tolist(), chain)
      expected = len(peer.liberties(set(chain)))
      self.assertEqual(state.liberties[point], expected)
      hashes = numbers[chain, 0 if stone > 0 else 1]
      np.testing.assert_array_equal(
        state.chain_hash[:, point], np.bitwise_xor.reduce(hashes)
      )

  def test_hashes_are_equal_where_boards_are(self):
    rules = go.Rules(5, remembered=90)
    states, _, _ = _random_games(rules, 12, 90)
    signs = np.sign(states.chain).reshape(-1, 25)
    hashes = states.hash.reshape(-1, 2)
    pairs = {
      (board.tobytes(), key.tobytes())
      for board, key in zip(signs, hashes, strict=True)
    }
    self.assertLen({board for board, _ in pairs}, len(pairs))
    self.assertLen({key for _, key in pairs}, len(pairs))
    self.assertGreater(len(pairs), 500)

  def test_the_last_eight_boards_are_kept(self):
    rules = go.Rules(5, remembered=90)
    states, _, _ = _random_games(rules, 12, 90)
    signs = np.sign(states.chain)
    for ago in range(8):
      black, white = (
        (states.recent[20, :, side] >> ago) & 1 for side in (0, 1)
      )
      kept = black.astype(int) - white.astype(int)
      np.testing.assert_array_equal(kept, signs[20 - ago])


class HashesTest(absltest.TestCase):
  def test_no_two_stones_share_a_number(self):
    numbers = points.stone_hashes(19)[:-1].reshape(-1, 2)
    self.assertLen(np.unique(numbers[:, 0]), 722)
    self.assertLen(np.unique(numbers[:, 1]), 722)

  def test_the_numbers_of_stones_never_change(self):
    # A checkpoint keeps hashes of games that were begun.
    numbers = points.stone_hashes(19)
    total = np.bitwise_xor.reduce(numbers.reshape(-1, 2), axis=0)
    self.assertEqual(
      [hex(word) for word in total], ['0xc9d83466', '0xdf236b46']
    )


if __name__ == '__main__':
  absltest.main()
