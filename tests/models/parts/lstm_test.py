"""Tests of LSTM layers, with PyTorch's as the witness."""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np
import torch

from models.parts import lstm
from models.parts.functional import Functional
from suite.run import sharding
from tests import quick

ROWS, PLACES, FEATURES, WIDTH = 4, 6, 5, 7
LENGTHS = np.array([6, 4, 2, 1], np.int32)


def uniform(key, shape, dtype=jnp.float32):
  """Parameters none of which is 0."""
  return jax.random.uniform(key, shape, dtype, -0.5, 0.5)


def made(kind=lstm.LSTM, **how):
  """A layer and its parameters, of which the second bias is not 0 either."""
  biases = how.pop('biases', 2)
  model = Functional.of(
    lambda rngs: kind(
      FEATURES,
      WIDTH,
      biases=biases,
      kernel_init=uniform,
      bias_init=uniform,
      compute=lstm.Compute(**how),
      rngs=rngs,
    )
  )
  params, _ = quick.jit(model.init)(jax.random.key(0, impl='rbg'))
  keys = iter(jax.random.split(jax.random.key(1), 8))
  return model, jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      uniform(next(keys), leaf.shape) if path[-1].key == 'hidden_bias' else leaf
    ),
    params,
  )


def inputs():
  """Numbers that go in, and weights of the sum of what comes out."""
  draws = np.random.default_rng(0)
  x = draws.normal(size=(ROWS, PLACES, FEATURES))
  return x.astype(np.float32), draws.normal(size=(ROWS, PLACES, 2 * WIDTH))


def witness(params):
  """PyTorch's layer with the same parameters, in both directions or one."""
  ways = [params]
  if 'forward' in params:
    ways = [params['forward'], params['backward']]
  layer = torch.nn.LSTM(
    FEATURES, WIDTH, bidirectional=len(ways) == 2, batch_first=True
  )
  with torch.no_grad():
    for way, suffix in zip(ways, ('', '_reverse'), strict=False):
      for ours, theirs in (
        ('input_kernel', 'weight_ih_l0'),
        ('hidden_kernel', 'weight_hh_l0'),
        ('input_bias', 'bias_ih_l0'),
        ('hidden_bias', 'bias_hh_l0'),
      ):
        values = np.array(way.get(ours, np.zeros(4 * WIDTH)), np.float32)
        getattr(layer, theirs + suffix).copy_(torch.tensor(values.T))
  return layer


class AgainstTorchTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'remat': True, 'unroll': 4},
  )
  def test_both_ways_over_rows_of_any_length(self, **how):
    model, params = made(lstm.BothWays, **how)
    x, weights = inputs()

    @quick.jit
    def ours(params, x):
      def loss(params, x):
        y, _ = model.apply(params, {}, x, jnp.asarray(LENGTHS))
        return (y * jnp.asarray(weights, jnp.float32)).sum(), y

      return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    (_, y), (grads, d_x) = ours(params, x)
    layer, given = witness(params), torch.tensor(x, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
      given, torch.tensor(LENGTHS), batch_first=True
    )
    theirs, _ = torch.nn.utils.rnn.pad_packed_sequence(
      layer(packed)[0], batch_first=True
    )
    (theirs * torch.tensor(weights)).sum().backward()
    close = functools.partial(np.testing.assert_allclose, atol=2e-6)
    close(y, theirs.detach().numpy())
    close(d_x, given.grad.numpy())
    for way, suffix in (('forward', ''), ('backward', '_reverse')):
      for name, kind in (('input', 'ih'), ('hidden', 'hh')):
        kernel = getattr(layer, f'weight_{kind}_l0{suffix}').grad.numpy()
        close(grads[way][f'{name}_kernel'], kernel.T)
        bias = getattr(layer, f'bias_{kind}_l0{suffix}').grad.numpy()
        close(grads[way][f'{name}_bias'], bias)

  @parameterized.parameters(1, 2)
  def test_from_a_state_to_the_state_after(self, biases):
    model, params = made(biases=biases)
    self.assertEqual('hidden_bias' in params, biases == 2)
    x, _ = inputs()
    draws = np.random.default_rng(7)
    first = [draws.normal(size=(ROWS, WIDTH)).astype('f') for _ in range(2)]

    def loss(params, first):
      (y, last), _ = model.apply(params, {}, x, None, lstm.State(*first))
      return (last.cell * last.hidden).sum() + y[:, 2].sum(), (y, last)

    (_, (y, last)), grads = quick.jit(
      jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    )(params, first)
    layer = witness(params)
    given = [torch.tensor(each[None], requires_grad=True) for each in first]
    theirs, (hidden, cell) = layer(torch.tensor(x), tuple(given))
    ((hidden * cell).sum() + theirs[:, 2].sum()).backward()
    close = functools.partial(np.testing.assert_allclose, atol=2e-6)
    close(y, theirs.detach().numpy())
    close(last.hidden, hidden[0].detach().numpy())
    close(last.cell, cell[0].detach().numpy())
    close(grads[1][0], given[0].grad[0].numpy())
    close(grads[1][1], given[1].grad[0].numpy())
    close(grads[0]['hidden_kernel'], layer.weight_hh_l0.grad.numpy().T)
    close(grads[0]['input_bias'], layer.bias_ih_l0.grad.numpy())


class LayerTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_padding_gives_zeros_and_keeps_the_state(self, reverse):
    model, params = made()
    x, _ = inputs()

    @quick.jit
    def run(x, lengths):
      return model.apply(params, {}, x, lengths, reverse=reverse)[0]

    y, last = run(x, jnp.asarray(LENGTHS))
    other, same = run(
      np.where(np.arange(PLACES)[None, :, None] < LENGTHS[:, None, None], x, 9),
      jnp.asarray(LENGTHS),
    )
    np.testing.assert_array_equal(y, other)
    np.testing.assert_array_equal(last.cell, same.cell)
    for row, length in enumerate(LENGTHS):
      self.assertFalse(np.asarray(y[row, length:]).any())
      at = 0 if reverse else length - 1
      np.testing.assert_array_equal(last.hidden[row], y[row, at])

  def test_step_by_step_is_all_at_once(self):
    model, params = made()
    x, _ = inputs()
    (y, last), _ = quick.jit(lambda: model.apply(params, {}, x))()
    layer = model.merged(params, {})
    state, step = layer.start(ROWS), quick.jit(layer.step)
    for place in range(PLACES):
      state = step(x[:, place], state)
      np.testing.assert_allclose(state.hidden, y[:, place], atol=1e-6)
    np.testing.assert_allclose(state.cell, last.cell, atol=1e-6)

  def test_bfloat16_is_close_and_gradients_stay_float32(self):
    x, _ = inputs()
    found = []
    for dtype in (jnp.float32, jnp.bfloat16):
      model, params = made(lstm.BothWays, dtype=dtype)
      loss = lambda p, model=model: (  # noqa: E731
        model.apply(p, {}, x, jnp.asarray(LENGTHS))[0].astype('f').sum()
      )
      found.append(quick.jit(jax.grad(loss))(params))
    exact, close = found
    for a, b in zip(*map(jax.tree.leaves, (exact, close)), strict=True):
      self.assertEqual(b.dtype, jnp.float32)
      np.testing.assert_allclose(a, b, atol=0.05 * float(abs(a).max()) + 0.01)

  def test_the_loop_multiplies_by_the_hidden_kernel_alone(self):
    """One product a place each way; what can be made at once is."""
    model, params = made()
    x, _ = inputs()
    loss = lambda p: model.apply(p, {}, x)[0][0].sum()  # noqa: E731
    jaxpr = jax.make_jaxpr(jax.grad(loss))(params)
    inside = []

    def look(jaxpr, in_loop):
      for each in jaxpr.eqns:
        if each.primitive.name == 'dot_general' and in_loop:
          inside.append(each.outvars[0].aval.shape)
        for value in each.params.values():
          inner = getattr(value, 'jaxpr', value)
          if hasattr(inner, 'eqns'):
            look(inner, in_loop or each.primitive.name == 'scan')

    look(jaxpr.jaxpr, False)
    self.assertEqual(inside, [(ROWS, 4 * WIDTH), (ROWS, WIDTH)])

  def test_devices_that_share_the_rows_exchange_gradients_of_kernels_alone(
    self,
  ):
    model, params = made()
    mesh = sharding.make_mesh()
    rows = NamedSharding(mesh, sharding.ROWS)
    spec = jax.ShapeDtypeStruct(
      (8, PLACES, FEATURES), np.float32, sharding=rows
    )

    def loss(params, x):
      return (model.apply(params, {}, x)[0][0] ** 2).sum()

    compiled = quick.jit(jax.grad(loss)).lower(params, spec).compile()
    self.assertIn('all-reduce', compiled.as_text())
    self.assertNotIn('all-gather', compiled.as_text())

  def test_settings_that_do_not_go_together_are_refused(self):
    for how in (
      {'kernel': 'fast'},
      {'unroll': 0},
      {'kernel': 'cudnn', 'dtype': jnp.bfloat16},
    ):
      with self.assertRaises(ValueError):
        lstm.Compute(**how)
    with self.assertRaisesRegex(ValueError, 'one bias or two, got 3'):
      made(biases=3)


@absltest.skipUnless(jax.default_backend() == 'gpu', 'needs an NVIDIA GPU')
class CudnnTest(parameterized.TestCase):
  @parameterized.parameters('one way', 'reverse', 'both ways')
  def test_it_is_the_same_function(self, way):
    x, weights = inputs()
    found = []
    for kernel in (lstm.SCAN, lstm.CUDNN):
      kind = lstm.BothWays if way == 'both ways' else lstm.LSTM
      model, params = made(kind, kernel=kernel)

      def loss(params, x, model=model):
        how = {'reverse': True} if way == 'reverse' else {}
        y, _ = model.apply(params, {}, x, jnp.asarray(LENGTHS), **how)
        y = y if way == 'both ways' else y[0]
        return (y * jnp.asarray(weights[..., : y.shape[-1]], 'f')).sum(), y

      with jax.default_matmul_precision('highest'):
        found.append(
          jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        )
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
