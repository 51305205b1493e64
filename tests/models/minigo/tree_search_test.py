"""Tests of the tree search: the same trees as one in plain Python."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
from scipy import stats

from models.minigo.tree_search import formulas, moves, search, trees
from tests import quick
from tests.models.minigo import tree_search_peer as peer

BATCH = 24


class Pair:
  """The same games, on the device and one by one in plain Python."""

  def __init__(self, settings, actions=5, first_seed=0, **start):
    self.toy, self.settings = peer.Toy(actions), settings
    seeds = np.arange(first_seed, first_seed + BATCH)
    states = self.toy.start(seeds, **start)
    self.programs = _programs(self.toy, settings)
    self.tree = self.programs['plant'](states)
    self.peers = [
      peer.Search(self.toy, _game(states, index), settings)
      for index in range(BATCH)
    ]

  def aim(self, readouts, noise=None, games=None):
    games = np.ones(BATCH, bool) if games is None else games
    readouts = np.broadcast_to(readouts, BATCH).astype(np.int32)
    rows = np.zeros((BATCH, self.toy.actions), np.float32)
    rows = rows if noise is None else noise
    self.tree = self.programs['aim'](self.tree, readouts, rows, games)
    for index in np.flatnonzero(games):
      row = rows[index] if rows[index].any() else None
      self.peers[index].aim(int(readouts[index]), row)

  def clear(self, games):
    self.tree = self.programs['clear'](self.tree, games)
    for index in np.flatnonzero(games):
      self.peers[index].clear()

  def grow(self):
    self.tree = self.programs['grow'](self.tree)
    for game in self.peers:
      game.grow()

  def search(self):
    self.tree = self.programs['search'](self.tree)
    for game in self.peers:
      game.run()

  def advance(self, actions, games=None):
    games = np.ones(BATCH, bool) if games is None else games
    self.tree = self.programs['advance'](self.tree, actions, games)
    for index in np.flatnonzero(games):
      self.peers[index].advance(int(actions[index]))

  def root(self):
    return self.programs['root'](self.tree)


def _game(states, index):
  return jax.tree.map(lambda leaf: leaf[index : index + 1], states)


@functools.cache
def _programs(toy, settings):
  game = toy.game()
  return {
    'plant': quick.jit(lambda states: trees.plant(states, game, settings)),
    'aim': quick.jit(
      lambda tree, readouts, noise, games: trees.aim(
        tree, readouts, settings, games=games, noise=noise
      )
    ),
    'clear': quick.jit(lambda tree, games: trees.clear(tree, game, games)),
    'grow': quick.jit(
      lambda tree: search.grow(tree, game, toy.evaluate, settings)
    ),
    'search': quick.jit(
      lambda tree: search.search(tree, game, toy.evaluate, settings)
    ),
    'advance': quick.jit(
      lambda tree, actions, games: trees.advance(tree, actions, game, games)
    ),
    'root': quick.jit(moves.at_root),
  }


def _noise(actions, seed=1):
  draws = np.random.default_rng(seed)
  return draws.dirichlet([0.3] * actions, BATCH).astype(np.float32)


_root_noise = quick.jit(formulas.root_noise, static_argnums=2)


class SameTreeTest(parameterized.TestCase):
  def _assert_same(self, pair):
    root, tree = jax.device_get((pair.root(), pair.tree))
    # Where rounding could have decided, another processor may decide otherwise.
    clear = [i for i, game in enumerate(pair.peers) if game.closest > 2e-6]
    self.assertGreaterEqual(len(clear), BATCH - 2)
    for index in clear:
      game = pair.peers[index]
      self.assertEqual(root.count[index], game.root.n)
      self.assertAlmostEqual(root.value[index], game.root.q(), delta=1e-5)
      # A root that is over is never expanded, so it has no children to read.
      if game.root.expanded:
        self.assertSequenceEqual(root.visits[index].tolist(), game.visits())
      self._assert_every_node_is_the_same(tree, index, game)

  def _assert_every_node_is_the_same(self, tree, index, game):
    """By state: the device's places have another order than the objects."""
    bits = tree.states['bits'].reshape(tree.visits.shape)
    ours = [
      (bits[index, place], tree.visits[index, place])
      for place in np.flatnonzero(tree.in_use[index])
    ]
    theirs = [(node.state['bits'][0], node.n) for node in game.nodes()]
    self.assertSequenceEqual(sorted(ours), sorted(theirs))

  @parameterized.parameters(1, 4)
  def test_every_node_has_the_visits_of_the_plain_search(self, leaves):
    self._assert_the_search_is_the_plain_one(leaves, first_seed=0)

  @parameterized.product(leaves=(1, 4), first_seed=(50, 100, 150, 200, 250))
  @pytest.mark.slow
  def test_many_games_have_the_visits_of_the_plain_search(
    self, leaves, first_seed
  ):
    self._assert_the_search_is_the_plain_one(leaves, first_seed)

  # Games in which 1 of 3, 4, 5, ... states is the end, and some without.
  def _assert_the_search_is_the_plain_one(self, leaves, first_seed):
    pair = Pair(
      trees.Settings(96, leaves=leaves),
      first_seed=first_seed,
      ending=np.where(np.arange(BATCH) % 4, np.arange(BATCH) + 2, 10**6),
      limit=np.arange(BATCH) % 9 + 4,
    )
    pair.aim(np.arange(BATCH) % 7 + 40)
    pair.search()
    self._assert_same(pair)

  def test_any_number_of_actions_will_do(self):
    pair = Pair(trees.Settings(96), actions=9)
    pair.aim(60)
    pair.search()
    self._assert_same(pair)

  @parameterized.parameters((1, 0), (4, 100))
  def test_noise_moves_follow_and_clearing_change_nothing_of_that(
    self, leaves, first_seed
  ):
    self._assert_moves_follow(leaves, first_seed)

  @parameterized.parameters((1, 100), (4, 0))
  @pytest.mark.slow
  def test_noise_and_moves_change_nothing_of_that_in_more_games(
    self, leaves, first_seed
  ):
    self._assert_moves_follow(leaves, first_seed)

  def _assert_moves_follow(self, leaves, first_seed):
    pair = Pair(
      trees.Settings(96, leaves=leaves),
      first_seed=first_seed,
      ending=np.arange(BATCH) % 12 + 3,
      limit=40,
    )
    draws = np.random.default_rng(4)
    for move in range(6):
      full = draws.random(BATCH) < 0.4
      noise = _noise(5, seed=move) * full[:, None]
      pair.aim(np.where(full, 40, 12), noise.astype(np.float32))
      pair.clear(full)
      pair.search()
      self._assert_same(pair)
      pair.advance(np.asarray(moves.most_visited(pair.root())))

  def test_a_full_search_reads_what_its_root_had_been_read_on_top(self):
    pair = Pair(trees.Settings(96), ending=10**6)
    for _ in range(2):
      pair.aim(30)
      pair.search()
      pair.advance(np.asarray(moves.most_visited(pair.root())))
    had = np.asarray(pair.root().count)
    self.assertGreater(had.max(), 8)
    pair.aim(30)
    pair.clear(np.ones(BATCH, bool))
    np.testing.assert_array_equal(pair.root().count, 0)
    pair.search()
    self._assert_same(pair)
    self.assertGreaterEqual((np.asarray(pair.root().count) - had).min(), 30)

  def test_rounds_agree_one_by_one_while_games_are_in_different_phases(self):
    pair = Pair(trees.Settings(96), first_seed=300)
    pair.aim(np.arange(BATCH) % 30)
    for number in range(14):
      pair.grow()
      if number % 5 == 4:
        done = np.asarray(trees.is_done(pair.tree))
        pair.advance(np.full(BATCH, 3), done)
        pair.aim(9, games=done)
      self._assert_same(pair)

  @parameterized.parameters(0, 1, 2, 3, 4)
  def test_a_move_that_was_never_read_starts_a_new_tree(self, action):
    pair = Pair(trees.Settings(96), ending=10**6)
    for reads in (6, 0, 9):
      pair.aim(reads)
      pair.search()
      pair.advance(np.full(BATCH, action))
    self._assert_same(pair)
    pair.aim(12)
    pair.search()
    self._assert_same(pair)

  def test_a_pass_is_read_only_if_nothing_else_is_legal_where_it_may_not(self):
    pair = Pair(
      trees.Settings(64, leaves=2, may_pass=False), actions=3, ending=10**6
    )
    pair.aim(30)
    pair.search()
    self._assert_same(pair)
    root = pair.root()
    others = (np.asarray(root.priors)[:, :-1] >= 0).any(axis=1)
    self.assertBetween(others.sum(), 1, BATCH - 1)
    passes = np.asarray(root.visits)[:, -1]
    self.assertEqual(passes[others].max(), 0)
    self.assertEqual(passes[~others].min(), 29)

  @parameterized.parameters(2, 50)
  def test_a_round_gives_up_after_its_attempts_and_the_search_goes_on(
    self, attempts
  ):
    settings = trees.Settings(64, leaves=2, attempts=attempts)
    pair = Pair(settings, actions=2, ending=2)
    pair.aim(40)
    pair.search()
    self._assert_same(pair)

  def test_a_search_from_a_game_that_is_over_counts_its_end(self):
    pair = Pair(trees.Settings(96), limit=0)
    pair.aim(7)
    pair.search()
    self._assert_same(pair)
    ends = np.asarray(pair.toy.value_at_end(pair.toy.start(np.arange(BATCH))))
    np.testing.assert_allclose(pair.root().value, ends * 7 / 8, rtol=1e-6)


class BoundsTest(parameterized.TestCase):
  def test_reads_are_bounded_by_the_room_and_never_overflow_it(self):
    pair = Pair(trees.Settings(20), ending=10**6, limit=500)
    for _ in range(6):
      pair.aim(1000)
      pair.search()
      counts = np.asarray(pair.root().count)
      self.assertBetween(counts.min(), 17, 20)
      self.assertBetween(counts.max(), 17, 20)
      self.assertLessEqual(int(pair.tree.in_use.sum(axis=1).max()), 20)
      pair.advance(np.asarray(moves.most_visited(pair.root())))

  def test_a_game_that_is_done_does_not_change_while_others_go_on(self):
    pair = Pair(trees.Settings(96))
    pair.aim(np.where(np.arange(BATCH) % 2, 8, 40))
    for _ in range(4):
      pair.grow()
    before = jax.device_get(pair.tree)
    done = np.asarray(trees.is_done(pair.tree))
    self.assertBetween(done.sum(), 1, BATCH - 1)
    pair.search()
    after = jax.device_get(pair.tree)
    for old, new in zip(
      jax.tree.leaves(before), jax.tree.leaves(after), strict=True
    ):
      # Of what has a row for each node a game has several.
      old, new = (leaf.reshape(BATCH, -1) for leaf in (old, new))
      np.testing.assert_array_equal(old[done], new[done])

  def test_games_do_not_read_each_other(self):
    """So that they can be split over devices, and no round waits for one."""
    toy = peer.Toy()
    settings = trees.Settings(64)
    game = toy.game()

    def play(states):
      tree = trees.plant(states, game, settings)
      games = jnp.ones(tree.root.shape, jnp.bool)
      readouts = jnp.full(tree.root.shape, 30, jnp.int32)
      tree = trees.aim(tree, readouts, settings, games=games)
      tree = search.search(tree, game, toy.evaluate, settings)
      return moves.at_root(tree).visits

    mesh = Mesh(np.asarray(jax.devices()[:4]), ('data',))
    split = quick.jit(
      jax.shard_map(
        play,
        mesh=mesh,
        in_specs=P('data'),
        out_specs=P('data'),
        check_vma=False,
      )
    )
    states = toy.start(np.arange(8))
    text = split.lower(states).compile().as_text()
    for collective in ('all-gather', 'all-reduce', 'all-to-all', 'permute('):
      self.assertNotIn(collective, text)
    np.testing.assert_array_equal(split(states), quick.jit(play)(states))

  @parameterized.parameters(
    {'capacity': 1, 'leaves': 1},
    {'capacity': 3, 'leaves': 4},
    {'capacity': 8, 'leaves': 0},
    {'capacity': 8, 'leaves': 4, 'attempts': 3},
    {'capacity': 8, 'noise_mix': 1.1},
    {'capacity': 8, 'value_init_penalty': -0.2},
  )
  def test_settings_that_cannot_work_are_refused(self, **settings):
    with self.assertRaisesRegex(ValueError, 'Expected .* got'):
      trees.Settings(**settings)


class NoiseTest(parameterized.TestCase):
  def test_root_noise_is_a_dirichlet_over_legal_moves(self):
    legal = jnp.broadcast_to(jnp.arange(6) < 4, (20_000, 6))
    noise = np.asarray(_root_noise(jax.random.key(0), legal, 0.5))
    np.testing.assert_array_equal(noise[:, 4:], 0)
    np.testing.assert_allclose(noise.sum(axis=1), 1, rtol=1e-5)
    # Of a symmetric Dirichlet over k: mean 1 / k, variance
    # (k - 1) / (k^2 (k alpha + 1)).
    np.testing.assert_allclose(noise[:, :4].mean(axis=0), 0.25, atol=0.01)
    variance = 3 / (16 * (4 * 0.5 + 1))
    np.testing.assert_allclose(noise[:, :4].var(axis=0), variance, rtol=0.05)

  @parameterized.parameters(0.03, 0.5, 2.5)
  def test_the_share_of_one_of_two_moves_has_a_beta_distribution(self, alpha):
    legal = jnp.ones((20_000, 2), bool)
    noise = np.asarray(_root_noise(jax.random.key(0), legal, alpha), float)
    # Of scipy; below this share and above its complement float32 is too coarse.
    least = 1e-6
    share = np.clip(noise[:, 0], least, 1 - least)
    at = np.linspace(least, 1 - least, 101)[1:-1]
    found = (share[:, None] <= at).mean(axis=0)
    wanted = stats.beta(alpha, alpha).cdf(at)
    # The largest gap is below this 99 times of 100 (Kolmogorov and Smirnov).
    np.testing.assert_array_less(abs(found - wanted), 1.63 / 20_000**0.5)

  def test_little_alpha_leaves_no_row_empty(self):
    legal = jnp.arange(362)[None] % 7 == jnp.arange(50)[:, None] % 7
    noise = _root_noise(jax.random.key(1), legal, 0.03)
    self.assertTrue(bool(jnp.isfinite(noise).all()))
    np.testing.assert_allclose(noise.sum(axis=1), 1, rtol=1e-5)
    self.assertGreater(float(noise.max(axis=1).mean()), 0.3)

  def test_noise_is_mixed_once_over_legal_moves_after_the_root_was_read(self):
    pair = Pair(trees.Settings(96), ending=10**6)
    noise = _noise(5)
    pair.aim(20, noise)
    pair.grow()
    plain = np.asarray(pair.root().priors)
    pair.grow()
    mixed = np.asarray(pair.root().priors)
    legal = plain >= 0
    self.assertBetween(legal.sum(), BATCH + 1, 5 * BATCH - 1)
    over_legal = noise * legal / (noise * legal).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
      mixed[legal], (0.7 * plain + 0.3 * over_legal)[legal], rtol=1e-5
    )
    np.testing.assert_array_equal(mixed[~legal], -1)
    pair.grow()
    np.testing.assert_array_equal(pair.root().priors, mixed)


@quick.jit
def _one_read(states):
  """Roots, after one read, of games that always stand as at the start."""
  game = trees.Game(
    play=lambda states, _: states,
    legal=lambda states: jnp.ones((states['sign'].shape[0], 3), jnp.bool),
    is_over=lambda states: jnp.zeros(states['sign'].shape, jnp.bool),
    value_at_end=lambda states: states['sign'],
    to_play=lambda states: states['sign'],
  )
  settings, count = trees.Settings(8), states['sign'].shape[0]

  def evaluate(states):
    return jnp.zeros((states['value'].shape[0], 3)), states['value']

  tree = trees.plant(states, game, settings)
  tree = trees.aim(
    tree, jnp.full(count, 1), settings, games=jnp.ones(count, jnp.bool)
  )
  return moves.at_root(search.grow(tree, game, evaluate, settings))


class FormulaTest(parameterized.TestCase):
  def test_u_scale_by_hand(self):
    np.testing.assert_allclose(
      formulas.u_scale(jnp.asarray([0, 799, 19651])),
      [2 * (1 / 19652 + 1.25), 2.5798, 2 * (np.log(2) + 1.25)],
      rtol=1e-4,
    )

  @parameterized.parameters(1, -1)
  def test_scores_by_hand(self, sign):
    scores = formulas.action_scores(
      visits=jnp.asarray([[0, 3, 1]]),
      totals=jnp.asarray([[-0.5, 2.0, 0.8]]),
      priors=jnp.asarray([[0.25, 0.75, -1.0]]),
      sign=jnp.asarray([float(sign)]),
      weight=jnp.asarray([2.0]),
    )
    expected = [
      -0.5 * sign + 2 * 0.25,
      0.5 * sign + 2 * 0.75 / 4,
      0.4 * sign - 1000,
    ]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-6)

  @parameterized.parameters((0.95, -1, 1.0), (0.5, 1, 0.3), (-0.9, 1, -1.0))
  def test_a_child_begins_a_fifth_worse_for_who_chooses_it(
    self, value, sign, expected
  ):
    # Each game has a value and a player of its own.
    states = {
      'value': np.full(2, value, np.float32),
      'sign': np.full(2, sign, np.int32),
    }
    root = _one_read(states)
    np.testing.assert_allclose(
      root.totals, np.full((2, 3), expected), rtol=1e-6
    )
    np.testing.assert_allclose(root.value, np.full(2, value / 2), rtol=1e-6)

  def test_search_finds_a_win_three_moves_deep_for_either_colour(self):
    """Only play 2, 0, 2 wins: no net could know it, search must."""
    path = jnp.asarray([2, 0, 2])

    def play(states, actions):
      depth = states['depth']
      matches = actions == path[jnp.minimum(depth, 2)]
      # The reply is free: whatever it is, the winner may go on.
      matches = matches | (depth == 1)
      return {
        'depth': depth + 1,
        'on': states['on'] & matches,
        'first': states['first'],
      }

    game = trees.Game(
      play=play,
      legal=lambda states: jnp.ones((states['depth'].shape[0], 3), jnp.bool),
      is_over=lambda states: states['depth'] >= 3,
      value_at_end=lambda states: (
        jnp.where(states['on'], 1, -1) * states['first']
      ),
      to_play=lambda states: states['first'] * (1 - 2 * (states['depth'] % 2)),
    )
    settings = trees.Settings(256)
    states = {
      'depth': jnp.zeros(2, jnp.int32),
      'on': jnp.ones(2, jnp.bool),
      'first': jnp.asarray([1, -1]),
    }

    def evaluate(states):
      rows = states['depth'].shape[0]
      return jnp.zeros((rows, 3)), jnp.zeros(rows)

    @quick.jit
    def read(states):
      tree = trees.plant(states, game, settings)
      both = jnp.ones(2, jnp.bool)
      tree = trees.aim(tree, jnp.full(2, 200), settings, games=both)
      return moves.at_root(search.search(tree, game, evaluate, settings))

    root = read(states)
    np.testing.assert_array_equal(moves.most_visited(root), 2)
    self.assertGreater(float((root.sign * root.value).min()), 0.3)


if __name__ == '__main__':
  absltest.main()
