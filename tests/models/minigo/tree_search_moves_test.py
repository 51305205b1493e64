"""Tests of what is read off a searched root, by hand and by plain Python."""

import math

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.minigo.tree_search import moves
from tests import quick
from tests.models.minigo import tree_search_peer as peer

_pruned, _most_visited = quick.jit(moves.pruned), quick.jit(moves.most_visited)
_soft_pick, _choose = quick.jit(moves.soft_pick), quick.jit(moves.choose)
_policy_target = quick.jit(moves.policy_target)


def _root(visits, totals, priors, *, sign=1, count=None, value=0.0):
  """A root of one game."""
  visits = jnp.asarray([visits], jnp.int32)
  count = visits.sum(axis=1) + 1 if count is None else jnp.asarray([count])
  return moves.Root(
    sign=jnp.asarray([float(sign)]),
    count=count,
    value=jnp.asarray([value], jnp.float32),
    visits=visits,
    totals=jnp.asarray([totals], jnp.float32),
    priors=jnp.asarray([priors], jnp.float32),
  )


def _random_roots(games=400, actions=7, seed=0):
  """As a search may leave them: of a few moves many visits, of others none."""
  draws = np.random.default_rng(seed)
  priors = draws.dirichlet([0.4] * actions, games)
  illegal = draws.random((games, actions)) < 0.2
  illegal[:, -1] = False
  visits = draws.poisson(60 * priors * draws.random((games, actions)))
  visits = np.where(illegal, 0, visits)
  values = draws.uniform(-1, 1, (games, actions))
  return moves.Root(
    sign=jnp.asarray(draws.choice([-1.0, 1.0], games), jnp.float32),
    count=jnp.asarray(visits.sum(axis=1) + 1, jnp.int32),
    value=jnp.zeros(games),
    visits=jnp.asarray(visits, jnp.int32),
    totals=jnp.asarray(values * (1 + visits), jnp.float32),
    priors=jnp.asarray(np.where(illegal, -1, priors), jnp.float32),
  )


class PlainRoot:
  """One game's root, with its formulas written out."""

  def __init__(self, root, index):
    self.sign, self.n = float(root.sign[index]), int(root.count[index])
    self.visits = np.asarray(root.visits)[index]
    self.totals = np.asarray(root.totals)[index]
    self.priors = np.asarray(root.priors)[index]
    self.scale = peer.u_scale(self.n)

  def value(self, move):
    return self.sign * self.totals[move] / (1 + self.visits[move])

  def score(self, move):
    if self.priors[move] < 0:
      return -1000.0
    u = self.scale * math.sqrt(1 + self.n) * self.priors[move]
    return self.value(move) + u / (1 + self.visits[move])

  def best(self, allowed=None):
    found, actions = None, len(self.visits)
    for move in range(actions):
      if allowed is None or allowed[move] or move == actions - 1:
        key = self.visits[move], self.score(move)
        if found is None or key > found[0]:
          found = key, move
    return found[1]

  def pruned(self, allowed):
    best = self.best()
    kept = []
    for move, visits in enumerate(self.visits):
      if move < len(self.visits) - 1 and not allowed[move]:
        kept.append(0)
      elif move == best:
        kept.append(int(visits))
      else:
        lead = self.score(best) - self.value(move)
        prior = max(self.priors[move], 0)
        needed = self.scale * prior * math.sqrt(self.n) / lead
        kept.append(max(0, min(int(visits), math.floor(needed))))
    if not any(kept):
      kept[-1] = 1
    return kept


class PrunedTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 3)
  def test_visits_that_are_kept_are_those_of_the_plain_formula(self, seed):
    roots = _random_roots(seed=seed)
    allowed = np.random.default_rng(seed).random(roots.visits.shape) < 0.85
    ours = np.asarray(_pruned(roots, jnp.asarray(allowed)))
    theirs = [
      PlainRoot(roots, index).pruned(allowed[index])
      for index in range(len(ours))
    ]
    np.testing.assert_array_equal(ours, theirs)
    taken = np.asarray(roots.visits) - ours
    self.assertGreater((taken > 0).mean(), 0.1)
    self.assertGreater(((taken > 0) & (ours > 0)).mean(), 0.05)

  def test_the_best_move_keeps_its_visits_and_a_bad_one_loses_most(self):
    #  Q: 0.4, -0.5, 0.3.
    root = _root([49, 9, 19], [20.0, -5.0, 6.0], [0.5, 0.3, 0.2])
    scale = 2 * (math.log((1 + 78 + 19652) / 19652) + 1.25)
    best = 0.4 + scale * math.sqrt(79) * 0.5 / 50
    expected = [
      49,
      min(9, math.floor(scale * 0.3 * math.sqrt(78) / (best + 0.5))),
      min(19, math.floor(scale * 0.2 * math.sqrt(78) / (best - 0.3))),
    ]
    self.assertEqual(_pruned(root)[0].tolist(), expected)
    self.assertEqual(expected, [49, 5, 13])

  def test_a_move_whose_value_is_above_the_best_score_keeps_none(self):
    root = _root([60, 3, 0], [-30.0, 3.9, 0.0], [0.1, 0.5, 0.4])
    self.assertEqual(_pruned(root)[0].tolist(), [60, 0, 0])

  def test_the_best_move_keeps_its_visits_even_without_a_prior(self):
    root = _root([9, 0, 0], [9.0, 0.0, 0.0], [0.0, 0.5, 0.5])
    self.assertEqual(_pruned(root)[0].tolist(), [9, 0, 0])

  def test_if_only_regions_that_are_not_allowed_were_read_a_pass_counts_one(
    self,
  ):
    root = _root([30, 4, 0], [3.0, 0.0, 0.0], [0.6, 0.3, 0.1])
    kept = _pruned(root, jnp.asarray([[False, False, False]]))
    self.assertEqual(kept[0].tolist(), [0, 0, 1])


class MostVisitedTest(parameterized.TestCase):
  @parameterized.parameters(1, 2)
  def test_it_is_the_move_that_plain_python_finds(self, seed):
    roots = _random_roots(seed=seed)
    # Few visits, so that many are equal.
    few = moves.Root(
      **{**vars(roots), 'visits': jnp.minimum(roots.visits, seed)}
    )
    allowed = np.random.default_rng(seed).random(roots.visits.shape) < 0.6
    for root in (roots, few):
      ours = (
        np.asarray(_most_visited(root)),
        np.asarray(_most_visited(root, jnp.asarray(allowed))),
      )
      for index in range(len(allowed)):
        plain = PlainRoot(root, index)
        self.assertEqual(ours[0][index], plain.best())
        self.assertEqual(ours[1][index], plain.best(allowed[index]))

  @parameterized.parameters((1, 1), (-1, 0))
  def test_of_equal_visits_the_better_score_for_who_plays_wins(
    self, sign, expected
  ):
    root = _root([9, 9, 2], [-3.0, 3.0, 0.0], [0.4, 0.4, 0.2], sign=sign)
    self.assertEqual(int(_most_visited(root)[0]), expected)

  def test_what_is_not_allowed_leaves_the_next_or_a_pass(self):
    root = _root([9, 5, 0], [0.0, 0.0, 0.0], [0.4, 0.4, 0.2])
    for allowed, expected in (
      ([True, True, False], 0),
      ([False, True, False], 1),
      ([False, False, False], 2),
    ):
      found = _most_visited(root, jnp.asarray([allowed]))
      self.assertEqual(int(found[0]), expected)


class SoftPickTest(parameterized.TestCase):
  def _shares(self, root, draws=4000):
    many = jax.tree.map(
      lambda leaf: jnp.broadcast_to(leaf, (draws, *leaf.shape[1:])), root
    )
    found = np.asarray(_soft_pick(jax.random.key(2), many))
    return np.bincount(found, minlength=root.visits.shape[1]) / draws

  def test_moves_are_drawn_by_their_visits_and_a_pass_never(self):
    # The power shows: 600^0.98 to 1^0.98 is 528 to 1.
    visits = [600, 200, 0, 40, 900]
    shares = self._shares(_root(visits, [0.0] * 5, [0.2] * 5))
    powers = np.asarray([600**0.98, 200**0.98, 0, 40**0.98, 0])
    np.testing.assert_allclose(shares, powers / powers.sum(), atol=0.025)
    self.assertEqual(shares[2], 0)
    self.assertEqual(shares[4], 0)

  def test_the_power_is_that_of_the_reference(self):
    counts = jnp.asarray([[10**9, 10**7, 0]])
    target = _policy_target(counts, jnp.asarray([True]))
    np.testing.assert_allclose(
      target[0, 0] / target[0, 1], 100**0.98, rtol=1e-4
    )
    # Drawn as it is learned: at these counts a power of 1 would leave 0.99.
    root = _root([10**9, 10**7, 0], [0.0] * 3, [0.3] * 3, count=1)
    with jax.default_matmul_precision('highest'):
      shares = self._shares(root, draws=200_000)
    np.testing.assert_allclose(shares[1], target[0, 1], rtol=0.05)

  def test_a_pass_is_taken_if_nothing_else_was_read(self):
    shares = self._shares(_root([0, 0, 7], [0.0] * 3, [0.3] * 3), draws=8)
    self.assertEqual(shares.tolist(), [0, 0, 1])

  def test_only_early_moves_are_drawn(self):
    root = _root([5, 4, 90], [0.0] * 3, [0.3] * 3)
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), root)
    found = _choose(jax.random.key(0), both, jnp.asarray([True, False]))
    self.assertLess(int(found[0]), 2)
    self.assertEqual(int(found[1]), 2)


class TargetTest(parameterized.TestCase):
  def test_shares_of_the_visits_a_little_flatter_early(self):
    visits = jnp.asarray([[30, 10, 0], [30, 10, 0]])
    target = _policy_target(visits, jnp.asarray([False, True]))
    np.testing.assert_allclose(target[0], [0.75, 0.25, 0], rtol=1e-6)
    early = 30**0.98 / (30**0.98 + 10**0.98)
    np.testing.assert_allclose(target[1], [early, 1 - early, 0], rtol=1e-5)

  @parameterized.parameters(
    (1, -0.96, True), (1, -0.94, False), (-1, 0.96, True), (-1, -0.96, False)
  )
  def test_who_is_to_play_resigns_by_its_own_view(self, sign, value, expected):
    root = _root([1, 1], [0.0, 0.0], [0.5, 0.5], sign=sign, value=value)
    resigns = moves.resigns(root, jnp.asarray([-0.95]))
    self.assertEqual(bool(resigns[0]), expected)


if __name__ == '__main__':
  absltest.main()
