"""Tests of the optimizers and schedules, with numbers from the reference."""

import re

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from suite.run import optimizers, sharding

LARS_SKIP = r'(bn/scale|/bias)$'
BATCH_NORM = r'bn/(scale|bias)$'

WEIGHTS = {
  'conv/kernel': [[0.5, -1.25], [2.0, 0.75]],
  'bn/scale': [1.0, 0.5],
  'bn/bias': [0.25, -0.5],
  'dense/kernel': [[0.0, 0.0]],  # Its norm is 0 until it first moves.
  'dense/bias': [0.1, -0.3],
}
GRADIENTS = [
  {
    'conv/kernel': [[0.1, 0.2], [-0.3, 0.4]],
    'bn/scale': [0.5, -0.25],
    'bn/bias': [0.125, 1.0],
    'dense/kernel': [[0.3, -0.4]],
    'dense/bias': [-0.2, 0.6],
  },
  {
    'conv/kernel': [[-0.7, 0.1], [0.2, 0.9]],
    'bn/scale': [-0.1, 0.3],
    'bn/bias': [0.2, -0.6],
    'dense/kernel': [[0.05, 0.1]],
    'dense/bias': [0.4, -0.1],
  },
  {
    'conv/kernel': [[0.0, 0.0], [0.0, 0.0]],
    'bn/scale': [0.2, 0.2],
    'bn/bias': [-0.3, 0.1],
    'dense/kernel': [[-0.2, 0.7]],
    'dense/bias': [0.0, 0.5],
  },
  {
    'conv/kernel': [[0.01, -0.02], [0.03, 0.01]],
    'bn/scale': [-0.4, 0.1],
    'bn/bias': [0.7, 0.2],
    'dense/kernel': [[0.6, -0.1]],
    'dense/bias': [-0.3, 0.2],
  },
]

# The weights after each of these gradients, and the momentum after the last,
# from the code of the reference (mlcommons/training, folder
# retired_benchmarks/resnet-tf2/tensorflow2) run with TensorFlow 2.21 on CPU:
# LARSOptimizer of lars_optimizer.py with momentum 0.9, weight_decay 2e-4,
# epsilon 0.0 and the skip_list of common.py, under PolynomialDecayWithWarmup of
# lars_util.py with base 10, end 1e-4, two steps to the epoch, one epoch of
# warmup and five steps in all.
SHORT = {
  'base': 10.0,
  'end': 1e-4,
  'power': 2,
  'warmup_steps': 2,
  'decay_steps': 4,
}
LARS_WEIGHTS = [
  {
    'conv/kernel': [0.5, -1.25, 2.0, 0.75],
    'bn/scale': [1.0, 0.5],
    'bn/bias': [0.25, -0.5],
    'dense/kernel': [0.0, 0.0],
    'dense/bias': [0.100000001, -0.300000012],
  },
  {
    'conv/kernel': [0.507601321, -1.25108337, 1.99782348, 0.740223825],
    'bn/scale': [1.5, -1.0],
    'bn/bias': [-0.75, 2.5],
    'dense/kernel': [-0.25, -0.5],
    'dense/bias': [-1.89999998, 0.199999988],
  },
  {
    'conv/kernel': [0.513427317, -1.24955618, 1.99186897, 0.729944825],
    'bn/scale': [-0.0499999523, -4.3499999],
    'bn/bias': [1.3499999, 4.19999981],
    'dense/kernel': [-0.473464102, -0.955373466],
    'dense/bias': [-3.69999981, -4.35000038],
  },
  {
    'conv/kernel': [0.515027761, -1.24087977, 1.97554851, 0.717035115],
    'bn/scale': [0.805017829, -7.92750406],
    'bn/bias': [-0.697530985, 4.60499096],
    'dense/kernel': [-0.680494905, -1.36422205],
    'dense/bias': [-3.63248634, -9.57000923],
  },
]
LARS_MOMENTUM = {
  'conv/kernel': [0.00160044595, 0.00867642276, -0.0163204726, -0.0129096881],
  'bn/scale': [0.855017781, -3.57750416],
  'bn/bias': [-2.04753089, 0.404990911],
  'dense/kernel': [-0.207030818, -0.408848554],
  'dense/bias': [0.0675133467, -5.22000885],
}
# The same schedule with the Keras SGD that common.py builds, momentum 0.9, and
# the gradient of l2_loss in resnet_runnable.py with weight_decay 2e-4.
SGD_WEIGHTS = [
  LARS_WEIGHTS[0],
  {
    'conv/kernel': [3.99900007, -1.74749994, 0.996000051, -3.75149965],
    'bn/scale': [1.5, -1.0],
    'bn/bias': [-0.75, 2.5],
    'dense/kernel': [-0.25, -0.5],
    'dense/bias': [-1.90020001, 0.200599968],
  },
  {
    'conv/kernel': [7.13210392, -2.18826008, 0.0884161592, -7.78784323],
    'bn/scale': [-0.0499999523, -4.3499999],
    'bn/bias': [1.3499999, 4.19999981],
    'dense/kernel': [1.5259999, -7.94799995],
    'dense/bias': [-3.69277906, -4.34966183],
  },
  {
    'conv/kernel': [9.87959957, -2.46751952, -0.89735961, -11.45928],
    'bn/scale': [0.805017829, -7.92750406],
    'bn/bias': [-0.697530985, 4.60499096],
    'dense/kernel': [-0.254060149, -14.0708122],
    'dense/bias': [-3.61027813, -9.56011963],
  },
]
SGD_MOMENTUM = {
  'conv/kernel': [2.74749589, -0.279259503, -0.985775769, -3.67143679],
  'bn/scale': [0.855017781, -3.57750416],
  'bn/bias': [-2.04753089, 0.404990911],
  'dense/kernel': [-1.78006005, -6.12281227],
  'dense/bias': [0.0825009346, -5.2104578],
}


def nested(flat) -> dict:
  """{'a/b': value} -> {'a': {'b': array}}."""
  tree = {}
  for path, value in flat.items():
    layer, name = path.split('/')
    tree.setdefault(layer, {})[name] = jnp.asarray(value, jnp.float32)
  return tree


def flat(tree) -> dict:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in leaves
  }


def train(optimizer, weights, gradients):
  """The flat weights after every step, and the last state."""
  params = nested(weights)
  state, seen = optimizer.init(params), []
  update = jax.jit(optimizer.update)
  for grads in gradients:
    updates, state = update(nested(grads), state, params)
    params = optax.apply_updates(params, updates)
    seen.append(flat(params))
  return seen, state


class PolynomialWarmupTest(parameterized.TestCase):
  # PolynomialDecayWithWarmup of the reference for a global batch of 4096, the
  # recipe of its README: base 10, 42 epochs of 312 steps, 5 of them warmup.
  @parameterized.parameters(
    (0, 0.0),
    (1, 0.006410256493836641),
    (780, 5.0),
    (1559, 9.993589401245117),
    (1560, 10.0),
    (1561, 9.998268127441406),
    (5000, 4.928589820861816),
    (13103, 0.00010030001431005076),
    (13104, 0.00010007500532083213),
    (13105, 9.999999747378752e-05),
    (20000, 9.999999747378752e-05),
  )
  def test_rates_are_those_of_the_reference(self, step, expected):
    schedule = optimizers.polynomial_warmup(
      base=10.0,
      end=1e-4,
      power=2,
      warmup_steps=5 * 312,
      decay_steps=(42 - 5) * 312 + 1,
    )
    np.testing.assert_allclose(schedule(step), expected, rtol=2e-5)
    np.testing.assert_allclose(
      jax.jit(schedule)(jnp.int32(step)), expected, rtol=2e-5
    )

  def test_rates_by_hand(self):
    schedule = optimizers.polynomial_warmup(
      base=8.0, end=2.0, power=1, warmup_steps=4, decay_steps=3
    )
    rates = [float(schedule(step)) for step in range(10)]
    np.testing.assert_allclose(rates, [0, 2, 4, 6, 8, 6, 4, 2, 2, 2], rtol=1e-6)

  def test_without_warmup_the_first_rate_is_the_base(self):
    # The reference divides 0 by 0 here; its later steps are these.
    schedule = optimizers.polynomial_warmup(
      base=2.0, end=1e-4, power=2, warmup_steps=0, decay_steps=21
    )
    rates = [float(schedule(step)) for step in range(3)]
    np.testing.assert_allclose(
      rates, [2.0, 1.81406831741333, 1.6372063159942627], rtol=1e-6
    )

  @parameterized.parameters((-1, 5), (0, 0), (3, -2))
  def test_impossible_lengths_are_refused(self, warmup, decay):
    with self.assertRaisesRegex(ValueError, f'got {warmup} and {decay}'):
      optimizers.polynomial_warmup(
        base=1.0, end=0.0, power=2, warmup_steps=warmup, decay_steps=decay
      )


class LarsTest(parameterized.TestCase):
  def test_four_steps_are_those_of_the_reference(self):
    optimizer = optimizers.lars(
      optimizers.polynomial_warmup(**SHORT),
      weight_decay=2e-4,
      momentum=0.9,
      skip=LARS_SKIP,
    )
    seen, state = train(optimizer, WEIGHTS, GRADIENTS)
    for step, (ours, theirs) in enumerate(zip(seen, LARS_WEIGHTS, strict=True)):
      for path, expected in theirs.items():
        np.testing.assert_allclose(
          ours[path].ravel(), expected, rtol=2e-6, err_msg=f'{step} {path}'
        )
    for path, expected in LARS_MOMENTUM.items():
      np.testing.assert_allclose(
        flat(state.momentum)[path].ravel(), expected, rtol=2e-5, err_msg=path
      )

  def test_two_steps_by_hand(self):
    # |w| = 5, |g| = 10: trust = 0.1 * 5 / (10 + 0.5 * 5 + 0) = 0.04, and the
    # decayed gradient is (6, 8) + 0.5 (3, 4) = (7.5, 10).
    optimizer = optimizers.lars(
      lambda count: 1.0 + count,
      weight_decay=0.5,
      momentum=0.5,
      eta=0.1,
      epsilon=0.0,
      skip=None,
    )
    seen, state = train(
      optimizer,
      {'a/w': [3.0, 4.0]},
      [{'a/w': [6.0, 8.0]}, {'a/w': [0.0, 0.0]}],
    )
    np.testing.assert_allclose(seen[0]['a/w'], [2.7, 3.6], rtol=1e-6)
    # No gradient: trust 1, rate 2, and the decay alone moves the weights:
    # v = 0.5 (-0.3, -0.4) - 2 * 0.5 (2.7, 3.6) = (-2.85, -3.8).
    np.testing.assert_allclose(
      flat(state.momentum)['a/w'], [-2.85, -3.8], rtol=1e-6
    )
    np.testing.assert_allclose(seen[1]['a/w'], [-0.15, -0.2], rtol=1e-5)

  def test_epsilon_is_not_the_zero_that_the_log_reports(self):
    # With gradients of 1e-7 an epsilon of 1e-7 halves the step.
    optimizer = optimizers.lars(
      lambda count: 1.0, weight_decay=0.0, momentum=0.0, skip=None
    )
    seen, _ = train(optimizer, {'a/w': [1.0]}, [{'a/w': [1e-7]}])
    np.testing.assert_allclose(seen[0]['a/w'], [1 - 0.001 / 2], rtol=1e-6)


class MomentumSgdTest(parameterized.TestCase):
  def test_four_steps_are_those_of_the_reference(self):
    optimizer = optimizers.momentum_sgd(
      optimizers.polynomial_warmup(**SHORT),
      momentum=0.9,
      weight_decay=2e-4,
      skip=BATCH_NORM,
    )
    seen, state = train(optimizer, WEIGHTS, GRADIENTS)
    for step, (ours, theirs) in enumerate(zip(seen, SGD_WEIGHTS, strict=True)):
      for path, expected in theirs.items():
        np.testing.assert_allclose(
          ours[path].ravel(), expected, rtol=2e-6, err_msg=f'{step} {path}'
        )
    for path, expected in SGD_MOMENTUM.items():
      np.testing.assert_allclose(
        flat(state.momentum)[path].ravel(), expected, rtol=2e-6, err_msg=path
      )

  def test_the_decay_is_the_gradient_of_the_sum_of_squares(self):
    weights, decay = {'a/w': [3.0, -4.0]}, 0.01
    schedule = optax.constant_schedule(0.5)
    added = optimizers.momentum_sgd(schedule, momentum=0.9, weight_decay=decay)
    plain = optimizers.momentum_sgd(schedule, momentum=0.9)
    grads = [{'a/w': [1.0, 2.0]}]
    term = jax.grad(lambda w: decay * jnp.sum(w**2))(jnp.asarray([3.0, -4.0]))
    within, _ = train(plain, weights, [{'a/w': jnp.asarray([1.0, 2.0]) + term}])
    outside, _ = train(added, weights, grads)
    np.testing.assert_allclose(outside[0]['a/w'], within[0]['a/w'], rtol=1e-6)

  def test_at_one_rate_it_is_the_sgd_of_pytorch(self):
    # With a rate that changes it is not: PyTorch keeps it outside the buffer.
    torch = pytest.importorskip('torch')
    optimizer = optimizers.momentum_sgd(
      lambda count: 0.1, momentum=0.9, weight_decay=0.01
    )
    seen, _ = train(optimizer, WEIGHTS, GRADIENTS)
    theirs = {path: torch.tensor(value) for path, value in WEIGHTS.items()}
    other = torch.optim.SGD(
      theirs.values(), lr=0.1, momentum=0.9, weight_decay=2 * 0.01
    )
    for ours, grads in zip(seen, GRADIENTS, strict=True):
      for path, tensor in theirs.items():
        tensor.grad = torch.tensor(grads[path])
      other.step()
      for path, tensor in theirs.items():
        np.testing.assert_allclose(ours[path], tensor.numpy(), rtol=1e-5)


@parameterized.parameters(optimizers.lars, optimizers.momentum_sgd)
class EitherTest(parameterized.TestCase):
  def _make(self, optimizer, **changes):
    given = {'momentum': 0.9, 'weight_decay': 0.1, 'skip': None} | changes
    return optimizer(lambda count: 0.1, **given)

  def test_momentum_lies_under_the_paths_of_the_parameters(self, optimizer):
    params = nested(WEIGHTS)
    state = self._make(optimizer).init(params)
    paths = set(flat(state))
    self.assertEqual(paths, {'count'} | {f'momentum/{p}' for p in flat(params)})
    self.assertEqual(
      {re.sub('^momentum/', '', p) for p in paths if re.search('kernel$', p)},
      {'conv/kernel', 'dense/kernel'},
    )
    for leaf in jax.tree.leaves(state):
      np.testing.assert_array_equal(leaf, np.zeros_like(leaf))

  def test_the_counter_counts_steps(self, optimizer):
    _, state = train(self._make(optimizer), WEIGHTS, GRADIENTS)
    self.assertEqual(int(state.count), 4)
    self.assertEqual(state.count.dtype, jnp.int32)

  def test_a_mask_that_matches_nothing_is_refused(self, optimizer):
    with self.assertRaisesRegex(ValueError, "'gamma' to match a parameter"):
      self._make(optimizer, skip='gamma').init(nested(WEIGHTS))

  def test_an_update_needs_the_parameters(self, optimizer):
    made, params = self._make(optimizer), nested(WEIGHTS)
    with self.assertRaisesRegex(ValueError, 'got None'):
      made.update(params, made.init(params))

  def test_impossible_constants_are_refused(self, optimizer):
    with self.assertRaisesRegex(ValueError, r'got 1\.0 and 0\.1'):
      self._make(optimizer, momentum=1.0)
    with self.assertRaisesRegex(ValueError, r'got 0\.9 and -0\.1'):
      self._make(optimizer, weight_decay=-0.1)


class SumRowsTest(absltest.TestCase):
  def test_a_row_named_twice_has_the_sum_and_every_row_comes_once(self):
    ids = jnp.asarray([4, 1, 4, 0, 1, 4], jnp.int32)
    values = jnp.asarray([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60]])
    rows = optimizers.sum_rows(ids, values, table_rows=5)
    np.testing.assert_array_equal(rows.ids[:3], [0, 1, 4])
    np.testing.assert_array_equal(
      rows.values[:3], [[4, 40], [7, 70], [10, 100]]
    )
    # The rest is no row of the table, still rising, and none comes twice.
    self.assertTrue((np.diff(rows.ids) > 0).all())
    self.assertGreaterEqual(int(rows.ids[3]), 5)

  def test_in_the_table_it_is_the_gradient_of_a_lookup(self):
    draws = np.random.default_rng(0)
    table = jnp.asarray(draws.normal(size=(50, 3)), jnp.float32)
    ids = jnp.asarray(draws.integers(0, 50, 64), jnp.int32)
    out = jnp.asarray(draws.normal(size=(64, 3)), jnp.float32)
    dense = jax.grad(lambda table: jnp.sum(table[ids] * out))(table)
    rows = jax.jit(optimizers.sum_rows, static_argnames='table_rows')(
      ids, out, table_rows=50
    )
    spread = jnp.zeros_like(table).at[rows.ids].add(rows.values, mode='drop')
    np.testing.assert_allclose(spread, dense, rtol=1e-5, atol=1e-6)


class LazyAdamTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    draws = np.random.default_rng(2)
    self.params = {
      'table': jnp.asarray(draws.normal(size=(6, 2)), jnp.float32),
      'bias': jnp.asarray([0.5, -0.5], jnp.float32),
    }
    # Steps name rows 1 and 4, then 4 twice and 0, then 1.
    self.steps = [
      (np.int32(ids), np.float32(draws.normal(size=(len(ids), 2))))
      for ids in ([1, 4], [4, 0, 4], [1])
    ]
    self.optimizer = optimizers.lazy_adam(
      lambda count: 0.1 / (1 + count), beta_1=0.8, beta_2=0.9, epsilon=1e-8
    )

  def _apply(self, params, state, ids, values):
    rows = optimizers.sum_rows(ids, values, table_rows=6)
    grads = {'table': rows, 'bias': values.sum(axis=0)}
    return jax.jit(self.optimizer.apply)(grads, state, params)

  def test_rows_that_no_batch_names_stay_bit_for_bit(self):
    params, state = self.params, self.optimizer.init(self.params)
    for ids, values in self.steps:
      before, was = params, state
      params, state = self._apply(params, state, ids, values)
      absent = np.setdiff1d(np.arange(6), ids)
      for ours, old in (
        (params['table'], before['table']),
        (state.mu['table'], was.mu['table']),
        (state.nu['table'], was.nu['table']),
      ):
        np.testing.assert_array_equal(ours[absent], old[absent])
        self.assertTrue((ours[ids] != old[ids]).all())
    self.assertEqual(int(state.count), 3)

  def test_three_steps_are_those_of_adam_in_each_row_by_hand(self):
    params, state = self.params, self.optimizer.init(self.params)
    table = np.float64(params['table'])
    mean, square = np.zeros((6, 2)), np.zeros((6, 2))
    for step, (ids, values) in enumerate(self.steps, start=1):
      params, state = self._apply(params, state, ids, values)
      for row in {*ids.tolist()}:
        g = np.float64(values[ids == row]).sum(axis=0)
        mean[row] = 0.8 * mean[row] + 0.2 * g
        square[row] = 0.9 * square[row] + 0.1 * g * g
        root = np.sqrt(square[row] / (1 - 0.9**step)) + 1e-8
        table[row] -= 0.1 / step * mean[row] / (1 - 0.8**step) / root
      np.testing.assert_allclose(params['table'], table, rtol=2e-5)

  def test_where_every_row_is_named_it_is_adam(self):
    other = optax.adam(lambda count: 0.1 / (1 + count), b1=0.8, b2=0.9)
    lazy, dense = self.params, self.params
    state, kept = self.optimizer.init(lazy), other.init(dense)
    for seed in range(4):
      values = np.random.default_rng(seed).normal(size=(6, 2))
      values = values.astype(np.float32)
      lazy, state = self._apply(
        lazy, state, np.arange(6, dtype=np.int32), values
      )
      grads = {'table': values, 'bias': values.sum(axis=0)}
      updates, kept = other.update(grads, kept)
      dense = optax.apply_updates(dense, updates)
      for name in lazy:
        np.testing.assert_allclose(lazy[name], dense[name], rtol=2e-5)

  def test_at_one_rate_it_is_the_sparse_adam_of_pytorch(self):
    torch = pytest.importorskip('torch')
    optimizer = optimizers.lazy_adam(
      lambda count: 0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-10
    )
    table = torch.nn.Embedding(6, 2, sparse=True)
    with torch.no_grad():
      table.weight.copy_(torch.tensor(np.array(self.params['table'])))
    other = torch.optim.SparseAdam(
      table.parameters(), lr=0.1, betas=(0.8, 0.9), eps=1e-10
    )
    params = {'table': self.params['table']}
    state = optimizer.init(params)
    for ids, values in self.steps:
      rows = optimizers.sum_rows(ids, values, table_rows=6)
      params, state = optimizer.apply({'table': rows}, state, params)
      other.zero_grad()
      (table(torch.tensor(ids)) * torch.tensor(values)).sum().backward()
      other.step()
      np.testing.assert_allclose(
        params['table'], table.weight.detach(), rtol=2e-5
      )

  def test_buffers_lie_under_the_paths_of_the_parameters(self):
    state = self.optimizer.init(self.params)
    paths = {f'{part}/{p}' for part in ('mu', 'nu') for p in self.params}
    self.assertEqual(set(flat(state)), {'count'} | paths)

  def test_impossible_constants_are_refused(self):
    for changes, got in (
      ({'beta_1': 1.0}, r'got 1\.0, 0\.9'),
      ({'epsilon': 0.0}, r'and 0\.0'),
    ):
      values = {'beta_1': 0.9, 'beta_2': 0.9, 'epsilon': 1e-8} | changes
      with self.assertRaisesRegex(ValueError, got):
        optimizers.lazy_adam(lambda count: 0.1, **values)


class RowAdagradTest(absltest.TestCase):
  def test_three_steps_are_those_of_adagrad_in_each_row_by_hand(self):
    rows = optimizers.row_adagrad(
      lambda count: 0.5 / (1 + count), epsilon=1e-2, initial=0.25
    )
    table = jnp.ones((4, 2))
    state = rows.init(table)
    expected, sums = np.ones((4, 2)), np.full((4, 2), 0.25)
    for step, ids in enumerate(([2, 0, 2], [3, 3, 3], [0, 2, 3])):
      values = np.arange(6.0).reshape(3, 2) - 2
      summed = optimizers.sum_rows(
        jnp.asarray(ids), jnp.float32(values), table_rows=4
      )
      table, state = jax.jit(rows.apply)(summed, state, table)
      gradient = np.zeros((4, 2))
      np.add.at(gradient, ids, values)
      sums += gradient**2
      expected -= 0.5 / (1 + step) * gradient / (np.sqrt(sums) + 1e-2)
      np.testing.assert_allclose(table, expected, rtol=1e-5)
    np.testing.assert_array_equal(table[1], [1, 1])  # no batch names it
    self.assertEqual(int(state.count), 3)

  def test_decay_is_of_the_rows_that_a_batch_names(self):
    rows = optimizers.row_adagrad(
      lambda count: 0.5, epsilon=0.0, initial=1.0, weight_decay=0.5
    )
    table = jnp.ones((3, 1))
    named = optimizers.sum_rows(jnp.array([1]), jnp.ones((1, 1)), table_rows=3)
    after, _ = rows.apply(named, rows.init(table), table)
    moved = 1 - 0.5 * 1.5 / np.sqrt(1 + 1.5**2)
    np.testing.assert_allclose(after[:, 0], [1, moved, 1], rtol=1e-6)


class RowSgdTest(absltest.TestCase):
  def test_rows_move_by_the_rate_of_the_step_and_others_stay(self):
    rows = optimizers.row_sgd(lambda count: 1.0 + count)
    table = jnp.zeros((3, 1))
    state = rows.init(table)
    for _ in range(2):
      named = optimizers.sum_rows(
        jnp.array([2, 2]), jnp.ones((2, 1)), table_rows=3
      )
      table, state = rows.apply(named, state, table)
    self.assertEqual(table[:, 0].tolist(), [0, 0, -2 - 4])
    self.assertEqual(int(state), 2)


class InverseSqrtTest(parameterized.TestCase):
  def test_rates_by_hand(self):
    schedule = optimizers.inverse_sqrt_warmup(
      base=2.0, width=1024, warmup_steps=16_000
    )
    found = [schedule(step) for step in (0, 1, 8000, 16_000, 64_000)]
    # 2 / 32, by the root of 16,000, which is 126.49; later of 64,000.
    highest = 0.0625 / 126.4911
    expected = [0, highest / 16_000, highest / 2, highest, highest / 2]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  @parameterized.parameters({'warmup_steps': 0}, {'width': 0})
  def test_impossible_constants_are_refused(self, **change):
    constants = {'base': 2.0, 'width': 4, 'warmup_steps': 3, **change}
    with self.assertRaisesRegex(ValueError, 'at least 1, got'):
      optimizers.inverse_sqrt_warmup(**constants)


# The weights after each of four gradients, from v1.train.AdamOptimizer of
# TensorFlow 2.21 on CPU with betas 0.9 and 0.997, at rates 0.1 / (1 + step).
ADAM_GRADIENTS = [
  [[0.1, 0.2], [-0.3, 0.4]],
  [[-0.7, 0.1], [0.2, 0.9]],
  [[0.0, 0.0], [0.0, 0.0]],
  [[0.01, -0.02], [0.03, 1e-8]],
]
ADAM_WEIGHTS = {
  1e-9: [
    [0.400000036, -1.35000002, 2.0999999, 0.650000036],
    [0.432082176, -1.39662302, 2.10722733, 0.602412045],
    [0.448623508, -1.42066157, 2.11095381, 0.577875972],
    [0.45858407, -1.43408012, 2.1120286, 0.562794566],
  ],
  # So large that it matters where it is added.
  0.05: [
    [0.490127057, -1.26797163, 2.02473474, 0.719532371],
    [0.504130423, -1.27713609, 2.02677965, 0.694838345],
    [0.511344373, -1.28185546, 2.02783275, 0.682115495],
    [0.515684903, -1.28449523, 2.02813697, 0.674300909],
  ],
}


class AdamTfTest(parameterized.TestCase):
  @parameterized.parameters(1e-9, 0.05)
  def test_weights_are_those_of_tensorflow(self, epsilon):
    optimizer = optimizers.adam_tf(
      lambda count: 0.1 / (1 + count),
      beta_1=0.9,
      beta_2=0.997,
      epsilon=epsilon,
    )
    params = {'kernel': jnp.asarray([[0.5, -1.25], [2.0, 0.75]])}
    state = optimizer.init(params)
    for gradient, expected in zip(
      ADAM_GRADIENTS, ADAM_WEIGHTS[epsilon], strict=True
    ):
      grads = {'kernel': jnp.asarray(gradient)}
      updates, state = jax.jit(optimizer.update)(grads, state)
      params = optax.apply_updates(params, updates)
      np.testing.assert_allclose(params['kernel'].ravel(), expected, rtol=1e-5)
    self.assertEqual(int(state.count), 4)

  def test_buffers_lie_under_the_paths_of_the_parameters(self):
    optimizer = optimizers.adam_tf(
      lambda count: 0.1, beta_1=0.9, beta_2=0.997, epsilon=1e-9
    )
    state = optimizer.init({'dense': {'bias': jnp.ones(2)}})
    paths = {'count', 'mu/dense/bias', 'nu/dense/bias'}
    found = jax.tree_util.tree_leaves_with_path(state)
    self.assertEqual({sharding.path_of(path) for path, _ in found}, paths)

  def test_impossible_constants_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'got 0\.9, 1\.0'):
      optimizers.adam_tf(
        lambda count: 0.1, beta_1=0.9, beta_2=1.0, epsilon=1e-9
      )


class DecayMaskTest(absltest.TestCase):
  def test_optax_decays_all_but_the_paths_that_match(self):
    params = {'dense': {'kernel': jnp.ones(2), 'bias': jnp.ones(2)}}
    optimizer = optax.adamw(
      1.0, weight_decay=0.5, mask=optimizers.decay_mask('bias$')
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates['dense']['kernel'], -0.5)
    np.testing.assert_allclose(updates['dense']['bias'], 0.0)

  def test_a_pattern_that_matches_nothing_is_refused(self):
    with self.assertRaisesRegex(ValueError, "'bais' to match"):
      optimizers.decay_mask('bais')({'bias': 0.0})


# Rates of updates 1, 2, ... by WarmupMultiStepLR of mlcommons/training,
# retired_benchmarks/gnmt, pytorch/seq2seq/train/lr_scheduler.py: (base, warmup,
# remain, interval, decays, factor) -> {update: rate}.
_RATES = (
  (
    (0.001, 200, 6453, 809, 4, 0.5),
    {
      1: 1.023293e-05,
      2: 1.0471285e-05,
      50: 3.1622777e-05,
      100: 0.0001,
      199: 0.00097723722,
      200: 0.001,
      201: 0.001,
      3000: 0.001,
      6452: 0.001,
      6453: 0.0005,
      7261: 0.0005,
      7262: 0.00025,
      8071: 0.000125,
      8880: 6.25e-05,
      9689: 6.25e-05,
      20000: 6.25e-05,
    },
  ),
  (
    (0.0025, 30, 12, 5, 3, 0.3),
    {
      1: 3.6694982e-05,
      2: 5.3860867e-05,
      6: 0.00025,
      11: 0.0017032302,
      12: 0.0025,
      13: 0.00075,
      16: 0.00075,
      17: 0.000225,
      21: 0.000225,
      22: 6.75e-05,
      26: 6.75e-05,
      27: 6.75e-05,
      90: 6.75e-05,
    },
  ),
  (
    (0.7, 0, 10, 4, 4, 0.5),
    {
      1: 0.7,
      2: 0.7,
      5: 0.7,
      9: 0.7,
      10: 0.35,
      11: 0.35,
      13: 0.35,
      14: 0.175,
      18: 0.0875,
      22: 0.04375,
      26: 0.04375,
      50: 0.04375,
    },
  ),
)


class ExponentialWarmupTest(parameterized.TestCase):
  @parameterized.parameters(*_RATES)
  def test_rates_are_those_of_the_reference(self, constants, rates):
    base, warmup, remain, interval, decays, factor = constants
    schedule = optimizers.exponential_warmup(
      base=base,
      warmup_steps=warmup,
      remain_steps=remain,
      decay_interval=interval,
      decay_steps=decays,
      decay_factor=factor,
    )
    self.assertGreaterEqual(len(rates), 10)
    for update, expected in rates.items():
      np.testing.assert_allclose(
        schedule(update - 1), expected, rtol=2e-6, err_msg=str(update)
      )

  def test_without_an_end_the_rate_stays(self):
    schedule = optimizers.exponential_warmup(
      base=0.5, warmup_steps=0, remain_steps=np.inf, decay_interval=3,
      decay_steps=4, decay_factor=0.5,
    )  # fmt: skip
    for step in (0, 1, 10**6):
      self.assertEqual(float(schedule(step)), 0.5)

  def test_steps_that_make_no_schedule_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'decay_interval and .*, got 3, 4'):
      optimizers.exponential_warmup(
        base=1.0, warmup_steps=3, remain_steps=4, decay_interval=0,
        decay_steps=4, decay_factor=0.5,
      )  # fmt: skip


if __name__ == '__main__':
  absltest.main()
