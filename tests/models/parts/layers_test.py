"""Tests of the layers that models share."""

import re

from absl.testing import absltest, parameterized
from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from models.parts import functional, layers
from tests import quick


def _mesh() -> Mesh:
  devices = jax.devices('cpu')
  if len(devices) < 8:
    raise RuntimeError(f'Expected 8 fake CPU devices; there are {devices}.')
  return Mesh(devices[:8], ('data',))


def _norm(channels, **kwargs):
  return layers.GroupedBatchNorm(channels, rngs=nnx.Rngs(0), **kwargs)


def _input(*shape, offset=1.0, spread=3.0):
  noise = np.random.default_rng(0).standard_normal(shape)
  return (offset + spread * noise).astype(np.float32)


def _by_hand(x, span, scale, bias, epsilon=1e-5):
  """The definition in float64, group by group."""
  parts = []
  for start in range(0, len(x), span):
    part = x[start : start + span].astype(np.float64)
    mean, var = part.mean(axis=(0, 1, 2)), part.var(axis=(0, 1, 2))
    parts.append((part - mean) / np.sqrt(var + epsilon) * scale + bias)
  return np.concatenate(parts)


class GroupedBatchNormTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 3, 6, None)
  def test_each_group_is_normalised_by_its_own_moments(self, span):
    x = _input(6, 4, 5, 3)
    norm = _norm(3, span=span)
    norm.scale[...] = jnp.asarray([0.5, 2.0, -1.0])
    norm.bias[...] = jnp.asarray([1.0, 0.0, -3.0])
    expected = _by_hand(x, span or 6, [0.5, 2.0, -1.0], [1.0, 0.0, -3.0])
    np.testing.assert_allclose(
      norm(x, train=True), expected, rtol=1e-5, atol=1e-5
    )

  def test_running_moments_move_a_tenth_towards_the_mean_of_the_groups(self):
    x = _input(6, 2, 2, 1)
    norm = _norm(1, span=3)
    norm.mean[...], norm.var[...] = jnp.asarray([5.0]), jnp.asarray([7.0])
    norm(x, train=True)
    groups = x.astype(np.float64).reshape(2, 12)
    # 12 values a group: the variance that is kept divides by 11.
    var = groups.var(axis=1, ddof=1).mean()
    np.testing.assert_allclose(
      norm.mean[...], [0.9 * 5 + 0.1 * groups.mean()], rtol=1e-6
    )
    np.testing.assert_allclose(norm.var[...], [0.9 * 7 + 0.1 * var], rtol=1e-6)

  def test_running_variance_is_the_unbiased_one(self):
    # Of the values 1, 3 the mean is 2, the biased variance 1, the unbiased 2.
    norm = _norm(1, span=None)
    y = norm(jnp.asarray([1.0, 3.0]).reshape(2, 1, 1, 1), train=True)
    np.testing.assert_allclose(y.ravel(), [-1, 1], rtol=1e-4)
    np.testing.assert_allclose(norm.mean[...], [0.2], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9 + 0.1 * 2], rtol=1e-6)

  def test_a_group_of_one_value_has_no_variance_and_no_nan(self):
    norm = _norm(2, span=1)
    y = norm(jnp.asarray([4.0, -2.0]).reshape(1, 1, 1, 2), train=True)
    np.testing.assert_array_equal(y.ravel(), [0, 0])
    np.testing.assert_allclose(norm.var[...], [0.9, 0.9])

  def test_evaluation_uses_the_running_moments_and_keeps_them(self):
    x = _input(3, 2, 2, 2)
    norm = _norm(2, span=7)  # A span does not restrict the rows of an eval.
    norm.mean[...] = jnp.asarray([2.0, -1.0])
    norm.var[...] = jnp.asarray([4.0, 0.25])
    y = norm(x, train=False)
    expected = (x - [2.0, -1.0]) / np.sqrt(np.asarray([4.0, 0.25]) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(norm.mean[...], [2.0, -1.0])
    np.testing.assert_array_equal(norm.var[...], [4.0, 0.25])

  def test_a_bfloat16_input_has_float32_moments(self):
    # Summed in bfloat16, 4096 values near 1 would stop growing at 256.
    x = jnp.asarray(_input(16, 16, 16, 2, offset=1.0, spread=0.1), jnp.bfloat16)
    norm = _norm(2, span=None)
    y = norm(x, train=True)
    self.assertEqual(y.dtype, jnp.bfloat16)
    self.assertEqual(norm.mean[...].dtype, jnp.float32)
    self.assertEqual(norm.var[...].dtype, jnp.float32)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(
      norm.mean[...], 0.1 * exact.mean(axis=(0, 1, 2)), rtol=1e-5
    )
    np.testing.assert_allclose(
      y.astype(np.float32), _by_hand(exact, 16, 1, 0), rtol=1e-2, atol=1e-2
    )

  def test_running_moments_do_not_change_what_training_computes(self):
    x = jnp.asarray(_input(4, 3, 3, 2))
    model = functional.Functional.of(
      lambda rngs: layers.GroupedBatchNorm(2, span=2, rngs=rngs)
    )
    params, fresh = quick.jit(model.init)(jax.random.key(0, impl='rbg'))
    settled = jax.tree.map(lambda m: m + jnp.asarray([-20.0, 3.0]), fresh)

    @jax.value_and_grad
    def total(x, stats):
      return (model.apply(params, stats, x, train=True)[0] ** 3).sum()

    (y, grad), (z, other) = total(x, fresh), total(x, settled)
    np.testing.assert_allclose(y, z, rtol=1e-4)
    np.testing.assert_allclose(grad, other, atol=1e-3)

  def test_a_large_mean_does_not_swallow_the_variance(self):
    x = _input(8, 4, 4, 1, offset=3000.0, spread=1.0)
    norm = _norm(1, span=4)
    norm.mean[...] = jnp.asarray([2990.0])  # As after some steps.
    np.testing.assert_allclose(
      norm(x, train=True), _by_hand(x, 4, 1, 0), atol=2e-3
    )

  def test_a_batch_of_broken_groups_is_refused_with_both_numbers(self):
    norm = _norm(1, span=4)
    with self.assertRaisesRegex(ValueError, '6 rows .* groups of 4'):
      norm(jnp.zeros([6, 1, 1, 1]), train=True)
    with self.assertRaisesRegex(ValueError, '2 rows .* groups of 4'):
      norm(jnp.zeros([2, 1, 1, 1]), train=True)
    with self.assertRaisesRegex(ValueError, 'at least one row or None: 0'):
      _norm(1, span=0)


class ShardedBatchNormTest(parameterized.TestCase):
  """64 rows over 8 devices, 8 rows on each."""

  def setUp(self):
    super().setUp()
    mesh = _mesh()
    self.rows, self.all = (NamedSharding(mesh, p) for p in (P('data'), P()))

  def _compile(self, span, output):
    """`output(y, stats)` of a train-mode call, compiled for the mesh."""
    model = functional.Functional.of(
      lambda rngs: layers.GroupedBatchNorm(3, span=span, rngs=rngs)
    )
    params, stats = quick.jit(model.init)(jax.random.key(0, impl='rbg'))
    forward = jax.jit(
      lambda params, stats, x: output(
        *model.apply(params, stats, x, train=True)
      ),
      in_shardings=(self.all, self.all, self.rows),
    )
    x = jax.device_put(_input(64, 2, 2, 3), self.rows)
    return forward.lower(params, stats, x).compile(), (params, stats, x)

  @parameterized.parameters(
    (1, 0), (2, 0), (4, 0), (8, 0), (16, 1), (32, 1), (64, 1), (None, 1)
  )
  def test_only_groups_that_cross_devices_communicate(self, span, expected):
    compiled, _ = self._compile(span, lambda y, stats: y)
    collectives = re.findall(
      r' (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)'
      r'(?:-start)?\(',
      compiled.as_text(),
    )
    self.assertEqual(collectives, ['all-reduce'] * expected)

  def test_running_moments_cost_one_reduction_of_two_rows_of_channels(self):
    compiled, _ = self._compile(8, lambda y, stats: (y, stats))
    reductions = re.findall(
      r'f32\[(\S+?)\]\S* all-reduce\(', compiled.as_text()
    )
    self.assertEqual(reductions, ['2,3'])

  @parameterized.parameters(4, 16, None)
  def test_sharded_and_whole_give_the_same_numbers(self, span):
    compiled, arguments = self._compile(span, lambda y, stats: (y, stats))
    y, stats = compiled(*jax.device_put(arguments[:2], self.all), arguments[2])
    norm = _norm(3, span=span)
    x = np.asarray(arguments[2])
    np.testing.assert_allclose(y, norm(x, train=True), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats['mean'], norm.mean[...], rtol=1e-5)
    np.testing.assert_allclose(stats['var'], norm.var[...], rtol=1e-5)


if __name__ == '__main__':
  absltest.main()
