"""Tests of the bridge between modules and arrays."""

from absl.testing import absltest
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from models.parts import functional


class Counter(nnx.Module):
  """A line through two weights that counts how often it was drawn."""

  def __init__(self, *, rngs: nnx.Rngs):
    self.line = nnx.Linear(2, 1, rngs=rngs)
    self.calls = nnx.BatchStat(jnp.zeros([]))

  def __call__(self, x, *, by=1.0):
    self.calls[...] = self.calls[...] + by
    return self.line(x)


class Sleepy(nnx.Module):
  """Keeps random state inside, which a functional module may not."""

  def __init__(self, *, rngs: nnx.Rngs):
    self.dropout = nnx.Dropout(0.5, rngs=rngs)


def paths(tree) -> list[str]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [
    jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves
  ]


class FunctionalTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.model = functional.Functional.of(lambda rngs: Counter(rngs=rngs))
    self.params, self.stats = self.model.init(jax.random.key(0))

  def test_trees_hold_plain_arrays_under_chosen_paths(self):
    self.assertEqual(paths(self.params), ['line/bias', 'line/kernel'])
    self.assertEqual(paths(self.stats), ['calls'])
    for leaf in jax.tree.leaves((self.params, self.stats)):
      self.assertIsInstance(leaf, jax.Array)

  def test_same_key_same_parameters(self):
    again, _ = self.model.init(jax.random.key(0))
    other, _ = self.model.init(jax.random.key(1))
    kernel = self.params['line']['kernel']
    np.testing.assert_array_equal(again['line']['kernel'], kernel)
    self.assertFalse(np.array_equal(other['line']['kernel'], kernel))

  def test_apply_is_the_module_called_on_these_parameters(self):
    x = jnp.asarray([[1.0, 2.0], [3.0, -1.0]])
    output, _ = self.model.apply(self.params, self.stats, x)
    line = self.params['line']
    np.testing.assert_allclose(
      output, np.asarray(x) @ line['kernel'] + line['bias'][None], rtol=1e-6
    )

  def test_apply_returns_new_stats_and_leaves_the_old(self):
    x = jnp.zeros([1, 2])
    _, once = self.model.apply(self.params, self.stats, x)
    _, more = self.model.apply(self.params, once, x, by=4.0)
    self.assertEqual(float(self.stats['calls']), 0)
    self.assertEqual(float(once['calls']), 1)
    self.assertEqual(float(more['calls']), 5)
    self.assertEqual(jax.tree.structure(more), jax.tree.structure(self.stats))

  def test_plain_jax_transforms_see_through_it(self):
    @jax.jit
    def step(params, stats, x):
      def loss(params):
        output, new = self.model.apply(params, stats, x)
        return output.sum(), new

      return jax.grad(loss, has_aux=True)(params)

    grads, stats = step(self.params, self.stats, jnp.asarray([[3.0, 5.0]]))
    np.testing.assert_allclose(grads['line']['kernel'], [[3.0], [5.0]])
    np.testing.assert_allclose(grads['line']['bias'], [1.0])
    self.assertEqual(float(stats['calls']), 1)

  def test_learning_the_structure_allocates_nothing(self):
    before = jax.live_arrays()  # Held, so that none of them goes meanwhile.
    model = functional.Functional.of(lambda rngs: Counter(rngs=rngs))
    shapes = jax.eval_shape(model.init, jax.eval_shape(jax.random.key, 0))
    self.assertEmpty({*map(id, jax.live_arrays())} - {*map(id, before)})
    self.assertEqual(shapes[0]['line']['kernel'].shape, (2, 1))

  def test_a_module_with_random_state_inside_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'handed its random keys'):
      functional.Functional.of(lambda rngs: Sleepy(rngs=rngs))


if __name__ == '__main__':
  absltest.main()
