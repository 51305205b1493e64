"""Tests of counting the operations of programs as they were written."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from suite.run import flops, program, sharding
from tests.suite.run import fake_task

LAYERS, ROWS, WIDTH = 6, 64, 32


class Deep(fake_task.FakeTask):
  """Six equal layers, of which a scan holds one."""

  def __init__(self, *, remat=False, parts=1):
    super().__init__([0.9])
    self.optimizer = optax.sgd(0.1)
    self.parts, self._remat = parts, remat
    self.train_specs = self.eval_specs = [
      {
        'x': jax.ShapeDtypeStruct((ROWS, WIDTH), np.float32),
        'weight': jax.ShapeDtypeStruct((ROWS,), np.float32),
      }
    ]

  def init_model(self, key):
    return {'kernels': jax.random.normal(key, (LAYERS, WIDTH, WIDTH))}, {}

  def loss(self, params, stats, batch, key):
    del key

    def layer(x, kernel):
      return jnp.tanh(x @ kernel), None

    layer = jax.checkpoint(layer) if self._remat else layer
    y, _ = jax.lax.scan(layer, batch['x'], params['kernels'])
    return (batch['weight'] * y.sum(axis=1)).mean(), (stats, {})


class StepTest(parameterized.TestCase):
  """A train step's operations, against a count by hand."""

  @parameterized.parameters(
    # Forward, and the gradients of what a layer takes and of its kernel.
    ({}, 3),
    # In parts a step does the same.
    ({'parts': 4}, 3),
    # Each layer's forward pass is done again before its backward pass.
    ({'remat': True}, 4),
  )
  def test_all_layers_of_a_scan_count(self, how, passes):
    lowered = program.lower(Deep(**how), sharding.make_mesh())
    (step,) = lowered['train_step']
    product = 2 * ROWS * WIDTH * WIDTH
    self.assertEqual(flops.total(step), passes * LAYERS * product)

  def test_the_total_of_a_program_is_none_where_it_is_not_certain(self):
    def loop(x):
      return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x)

    self.assertIsNone(flops.total(_lowered(loop, (4, 4))))
    self.assertIsNone(flops.total(_lowered(jnp.sin, (4, 4))))
    self.assertEqual(flops.total(_lowered(lambda x: x @ x, (4, 4))), 128)


class CountTest(parameterized.TestCase):
  def test_padding_is_not_counted(self):
    # A window of 3 over 4 numbers with one of padding at both ends meets
    # 2 + 3 + 3 + 2 numbers.
    self.assertEqual(
      flops.convolution([1, 1, 4], [4], features=1,
                       windows=[flops.Window(3, 1, 1)]),
      2 * 10,
    )  # fmt: skip

  def test_a_dilated_input_counts_where_its_numbers_are(self):
    # x 0 x 0 x under a window of 2: every place meets one.
    window = flops.Window(2, base_dilation=2)
    self.assertEqual(
      flops.convolution([1, 1, 4], [3], features=1, windows=[window]), 2 * 4
    )

  @parameterized.parameters((1, 'SAME'), (2, 'SAME'), (2, 'VALID'))
  def test_a_convolution_and_its_gradients_cost_the_same(self, stride, padding):
    def forward(x, w):
      return jax.lax.conv_general_dilated(
        x, w, (stride, stride), padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )  # fmt: skip

    def both(x, w):
      out, back = jax.vjp(forward, x, w)
      return out, back(out)

    shapes = ((2, 9, 9, 3), (3, 3, 3, 4))
    once, _ = _count(forward, *shapes)
    thrice, _ = _count(both, *shapes)
    self.assertGreater(once['f32'], 0)
    self.assertEqual(thrice['f32'], 3 * once['f32'])

  def test_a_loop_without_a_bound_is_marked(self):
    def loop(x, w):
      return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ w, x)

    asked, certain = _count(loop, (4, 8), (8, 8))
    self.assertEqual((asked['f32'], certain), (2 * 4 * 8 * 8, False))

  def test_a_loop_over_a_float_is_marked(self):
    def loop(x, w):
      step = lambda c: (c[0] @ w, c[1] + 1)  # noqa: E731
      return jax.lax.while_loop(lambda c: c[1] < x.sum(), step, (x, 0.0))[0]

    _, certain = _count(loop, (4, 8), (8, 8))
    self.assertFalse(certain)

  def test_a_loop_turns_from_where_it_starts(self):
    def loop(x, w):
      return jax.lax.fori_loop(3, 7, lambda _, c: c @ w, x)

    asked, certain = _count(loop, (4, 8), (8, 8))
    self.assertEqual((asked['f32'], certain), (4 * 2 * 4 * 8 * 8, True))

  def test_a_hand_partitioned_product_counts_on_all_devices(self):
    mesh = jax.make_mesh((8,), ('data',), (AxisType.Auto,))
    mapped = jax.shard_map(
      lambda a, b: a @ b, mesh=mesh, in_specs=(P('data'), P()),
      out_specs=P('data'),
    )  # fmt: skip
    asked, _ = _count(mapped, (64, 8), (8, 8))
    self.assertEqual(asked['f32'], 2 * 64 * 8 * 8)

  def test_a_function_counts_each_time_that_it_is_called(self):
    product = jax.jit(lambda x, w: x @ w)
    asked, _ = _count(lambda x, w: product(product(x, w), w), (4, 8), (8, 8))
    self.assertEqual(asked['f32'], 2 * 2 * 4 * 8 * 8)

  def test_of_two_branches_the_larger_counts(self):
    def either(x, w):
      return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    asked, certain = _count(either, (4, 8), (8, 8))
    self.assertEqual((asked['f32'], certain), (2 * 2 * 4 * 8 * 8, True))

  def test_a_loop_without_products_leaves_the_count_certain(self):
    def loop(x, w):
      return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x @ w)

    asked, certain = _count(loop, (4, 8), (8, 8))
    self.assertEqual((asked['f32'], certain), (2 * 4 * 8 * 8, True))


def _count(function, *shapes):
  return flops.count(_lowered(function, *shapes))


def _lowered(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return jax.jit(function).lower(*arguments)


if __name__ == '__main__':
  absltest.main()
