"""Tests of the fractal expansion against its definition, on dense matrices."""

import itertools

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.movielens import expand
from input_pipelines.movielens import prepare as plain
from input_pipelines.movielens import read as movielens
from input_pipelines.writing import recipe
from tests.input_pipelines.movielens import prepare_test

_RATES = np.array([[0.9, 0.25, 0.01], [0.5, 0.6, 0.95]])


def _ratings(users=60, items=40, seed=0) -> expand.Signed:
  """Skewed ratings, a tenth of them for testing."""
  rng = np.random.default_rng(seed)
  likely = np.outer(rng.uniform(0.05, 1, users), rng.uniform(0.05, 1, items))
  user, item = np.nonzero(rng.random((users, items)) < likely)
  return expand.Signed(users, items, user, item, rng.random(len(user)) < 0.1)


def _dense(ratings: expand.Signed) -> np.ndarray:
  """1 for training, -1 for testing: [users, items]."""
  matrix = np.zeros((ratings.users, ratings.items), int)
  matrix[ratings.user, ratings.item] = np.where(ratings.test, -1, 1)
  return matrix


def _expanded(expansion: expand.Expansion) -> np.ndarray:
  """The whole expanded matrix, from what is asked of it in uneven pieces."""
  ratings = expansion.ratings
  matrix = np.zeros((expansion.users, expansion.items), int)
  cuts = (0, 7, 8, ratings.users)
  for row in range(expansion.rows):
    for first, end in itertools.pairwise(cuts):
      found = expansion.of_users(row, first, end)
      for keys, sign in ((found.train, 1), (found.test, -1)):
        assert (np.diff(keys) > 0).all()
        users = (keys >> 32) + row * ratings.users
        matrix[users, keys.astype(np.int32)] += sign
  return matrix


def _blocks(matrix, expansion):
  """Row, column, block."""
  rows = np.split(matrix, expansion.rows)
  for i, row in enumerate(rows):
    for j, block in enumerate(np.split(row, expansion.columns, axis=1)):
      yield i, j, block


class ExpansionTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.ratings = _ratings()
    self.expansion = expand.Expansion(self.ratings, _RATES, seed=1)
    self.matrix = _expanded(self.expansion)

  def test_every_block_is_the_shuffled_matrix_less_what_was_dropped(self):
    dense = _dense(self.ratings)
    for i, j, block in _blocks(self.matrix, self.expansion):
      rows = self.expansion.sources(i, j, np.arange(60))
      columns = self.expansion.moved(i, j, np.arange(40)) - 40 * j
      whole = dense[rows]
      shuffled = np.empty_like(whole)
      shuffled[:, columns] = whole
      kept = block != 0
      np.testing.assert_array_equal(block[kept], shuffled[kept])
      self.assertEqual(kept.sum(), int(_RATES[i, j] * len(self.ratings)))

  def test_shuffles_differ_from_block_to_block(self):
    blocks = list(itertools.product(range(2), range(3)))
    for of in (self.expansion.sources, self.expansion.moved):
      orders = {
        tuple((of(i, j, np.arange(40)) % 40).tolist()) for i, j in blocks
      }
      self.assertLen(orders, 6)

  def test_sparsity_is_that_of_the_kronecker_product(self):
    dense = np.abs(_dense(self.ratings))
    expected = np.kron(_RATES, dense).mean()
    self.assertAlmostEqual(np.abs(self.matrix).mean(), expected, delta=3e-4)

  def test_degrees_are_distributed_as_by_the_definition(self):
    # A user of a row of blocks is the sum over its columns of users drawn at
    # random, whose ratings are kept with the chance of the block; and so items.
    dense = np.abs(_dense(self.ratings))
    for axis, rates in ((1, _RATES), (0, _RATES.T)):
      degrees = dense.sum(axis)
      found = [
        np.abs(_expanded(expand.Expansion(self.ratings, _RATES, seed=s))).sum(
          axis
        )
        for s in range(20)
      ]
      by_row = np.reshape(found, (20, len(rates), -1))
      for i, row in enumerate(rates):
        mean = row.sum() * degrees.mean()
        variance = (row**2).sum() * degrees.var()
        variance += (row * (1 - row)).sum() * degrees.mean()
        self.assertAlmostEqual(by_row[:, i].mean() / mean, 1, delta=0.02)
        self.assertAlmostEqual(by_row[:, i].var() / variance, 1, delta=0.25)

  def test_singular_values_are_those_of_the_definition(self):
    ratings = _ratings(users=120, items=80)
    dense = np.abs(_dense(ratings))
    rng = np.random.default_rng(0)

    def by_definition():
      def block(rate):
        shuffled = dense[rng.permutation(120)][:, rng.permutation(80)]
        ones = np.flatnonzero(shuffled)
        kept = np.zeros(shuffled.size)
        kept[rng.choice(ones, int(rate * len(ones)), replace=False)] = 1
        return kept.reshape(shuffled.shape)

      return np.block([[block(rate) for rate in row] for row in _RATES])

    def values(matrix):
      return np.linalg.svd(matrix.astype(float), compute_uv=False)

    found = [
      values(_expanded(expand.Expansion(ratings, _RATES, seed=s)) != 0)
      for s in range(4)
    ]
    expected = [values(by_definition()) for _ in range(4)]
    np.testing.assert_allclose(
      np.mean(found, 0)[:100], np.mean(expected, 0)[:100], rtol=0.03
    )
    # They fall off from that of the product, most of which shuffling leaves.
    product = values(np.kron(_RATES, dense))
    self.assertBetween(found[0][0] / product[0], 0.85, 1)

  def test_counts_are_those_of_the_matrix(self):
    piece = expand._PIECE
    try:
      expand._PIECE = 100
      found = expand.count(self.expansion, threads=2)
    finally:
      expand._PIECE = piece
    np.testing.assert_array_equal(found.train, (self.matrix == 1).sum(1))
    held_out = self.matrix == -1
    np.testing.assert_array_equal(
      found.test, np.where(held_out.any(1), held_out.argmax(1), -1)
    )

  def test_blocks_hold_the_pairs_of_the_users_that_are_left(self):
    block = movielens.BLOCK
    left = (self.matrix == 1).any(1) & (self.matrix == -1).any(1)
    self.assertBetween(left.sum(), 20, 119)
    expected = movielens.key(*np.nonzero(self.matrix[left] == 1))
    users = expand.Users(expand.count(self.expansion))
    try:
      movielens.BLOCK = 97
      blocks = [
        expand.train_block(self.expansion, users, i)
        for i in range(movielens.records(users.rows))
      ]
      tests = [
        users.test_block(i) for i in range(movielens.records(left.sum()))
      ]
    finally:
      movielens.BLOCK = block
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    self.assertEqual({len(b) for b in blocks[:-1]}, {97})
    first = (self.matrix[left] == -1).argmax(1)
    np.testing.assert_array_equal(
      np.concatenate(tests), movielens.key(np.arange(left.sum()), first)
    )


class ReducedTest(parameterized.TestCase):
  @parameterized.parameters((4, 8), (5, 3), (1, 1))
  def test_it_has_the_largest_singular_values_before_its_signs_go(self, *size):
    ratings = _ratings()
    found = expand.reduced(ratings, size)
    self.assertEqual(found.shape, size)
    u, s, v = np.linalg.svd((_dense(ratings) > 0).astype(float))
    kept = min(size)

    def small(vectors, rows):
      cuts = np.linspace(0, len(vectors), rows + 1).astype(int)
      means = [vectors[a:b].mean(0) for a, b in itertools.pairwise(cuts)]
      left, _, right = np.linalg.svd(np.array(means), full_matrices=False)
      return left @ right

    signed = (
      small(u[:, :kept], size[0]) * s[:kept] @ small(v[:kept].T, size[1]).T
    )
    np.testing.assert_allclose(
      np.linalg.svd(signed, compute_uv=False), s[:kept], rtol=1e-9
    )
    expected = np.clip(np.abs(signed) / np.abs(signed).max(), 0.01, 0.95)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    self.assertEqual(found.max(), 0.95)

  def test_it_is_the_same_every_time(self):
    np.testing.assert_array_equal(
      expand.reduced(_ratings(), (4, 6)), expand.reduced(_ratings(), (4, 6))
    )

  def test_factors_that_are_too_large_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'below 40, got \(40, 50\)'):
      expand.reduced(_ratings(), (40, 50))


class SplitTest(absltest.TestCase):
  def test_all_of_the_last_second_is_held_out_by_hand(self):
    rows = [
      (4, 9, 100), (4, 7, 200), (4, 8, 300), (4, 2, 300),
      (1, 9, 5), (1, 8, 5), (1, 7, 6),  # two times: left out
      (3, 9, 30), (3, 5, 10), (3, 8, 20),
    ]  # fmt: skip
    found = expand.split(plain.Ratings(*np.array(rows).T))
    # Users 3 and 4; items 2, 5, 7, 8 and 9.
    self.assertEqual((found.users, found.items), (2, 5))
    np.testing.assert_array_equal(
      _dense(found), [[0, 1, 0, 1, -1], [-1, 0, 1, -1, 1]]
    )

  def test_ratings_are_sorted_by_user(self):
    rng = np.random.default_rng(0)
    cells = rng.choice(900, 300, replace=False)
    user, item = np.divmod(cells, 30)
    found = expand.split(plain.Ratings(user, item, rng.integers(9, size=300)))
    self.assertTrue((np.diff(found.user) >= 0).all())
    self.assertLen(found, 300)


class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.downloads = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    self.md5 = prepare_test.write_zip(
      self.downloads,
      [
        (user, int(item), 3.0, int(rng.integers(1000)))
        for user in range(1, 200)
        for item in rng.choice(50, 25, replace=False)
      ],
    )

  def _build(self, **how):
    order = recipe.Order(self.create_tempdir().full_path, self.downloads, **how)
    return expand.build(
      order, factors=(3, 4), name='small', md5=self.md5, shards=2
    )

  def test_a_zip_becomes_an_expanded_data_set(self):
    seen = []
    directory = self._build(
      progress=lambda stage, unit: lambda *done: seen.append((stage, *done))
    )
    data = movielens.load(directory)
    self.assertEqual(data.items, 200)
    self.assertBetween(data.users, 300, 3 * 199)
    self.assertGreater(len(data), 2 * 4800)
    expand.verify(directory, users=data.users, items=200, train=len(data))
    with self.assertRaisesRegex(ValueError, f'got {data.users}'):
      expand.verify(directory, users=9, items=200, train=len(data))
    # No held-out item is among its user's pairs.
    held_out = movielens.key(np.arange(data.users), data.test_item)
    self.assertFalse(data.holds(held_out).any())
    self.assertIn(('Counting', 12 * 199 * 25, 12 * 199 * 25), seen)

  def test_a_second_build_is_the_same_whatever_the_threads(self):
    one, two = (movielens.load(self._build(threads=n)) for n in (1, 3))
    np.testing.assert_array_equal(one.keys, two.keys)
    np.testing.assert_array_equal(one.test_item, two.test_item)


if __name__ == '__main__':
  absltest.main()
