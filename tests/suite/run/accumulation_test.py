"""Tests of steps done in parts, on 8 CPU devices."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from suite.run import accumulation, sharding

ROWS = 32


def _batch(weight=None):
  draws = np.random.default_rng(0)
  weight = draws.random(ROWS) if weight is None else weight
  return {
    'x': draws.normal(size=(ROWS, 3)).astype(np.float32),
    'weight': weight.astype(np.float32),
  }


def _mean(part, key):
  """The weighted mean of the rows, and every row's term of it."""
  del key
  weight = part['weight'][:, None]
  terms = part['x'] * weight / jnp.maximum(weight.sum(), 1e-9)
  return {'mean': terms.sum(axis=0)}, terms


def _in_parts(function, batch, parts, mesh=None):
  layout = sharding.Layout(mesh)
  run = jax.jit(
    lambda batch, key: accumulation.in_parts(
      function, batch, key, parts=parts, layout=layout
    )
  )
  if mesh is not None:
    batch = sharding.put_rows(batch, mesh)
  return run(batch, jax.random.key(0))


class AccumulationTest(parameterized.TestCase):
  @parameterized.product(parts=(1, 2, 4), sharded=(False, True))
  def test_the_mean_of_the_parts_is_that_of_the_whole(self, parts, sharded):
    batch = _batch()
    mesh = sharding.make_mesh() if sharded else None
    means, terms = _in_parts(_mean, batch, parts, mesh)
    weight = np.float64(batch['weight'])[:, None]
    expected = batch['x'] * weight / weight.sum()
    np.testing.assert_allclose(means['mean'], expected.sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(terms, expected, atol=1e-6)  # in their order

  def test_a_part_of_padding_does_not_count(self):
    batch = _batch(np.arange(ROWS) < 5)
    means, terms = _in_parts(_mean, batch, 4)
    expected = batch['x'][:5].mean(axis=0)
    np.testing.assert_allclose(means['mean'], expected, rtol=1e-5)
    np.testing.assert_array_equal(terms[5:], 0)

  def test_parts_of_nothing_but_padding_count_alike(self):
    means, _ = _in_parts(lambda part, key: (jnp.float32(7), ()),
                         _batch(np.zeros(ROWS)), 4)  # fmt: skip
    self.assertEqual(float(means), 7)

  def test_every_part_has_a_key_of_its_own(self):
    def draw(part, key):
      return jax.random.normal(key), jax.random.normal(key) + 0 * part['weight']

    _, terms = _in_parts(draw, _batch(np.ones(ROWS)), 4)
    draws = np.asarray(terms).reshape(4, 8)
    self.assertLen(np.unique(draws), 4)
    np.testing.assert_array_equal(draws, draws[:, :1] + np.zeros((1, 8)))

  def test_no_row_leaves_its_device(self):
    layout = sharding.Layout(sharding.make_mesh())

    def doubled(batch, key):
      # Values by row only: a mean would be added up over the devices.
      return accumulation.in_parts(
        lambda part, key: (jnp.float32(0), 2 * part['x']), batch, key,
        parts=2, layout=layout,
      )  # fmt: skip

    rows = sharding.split_rows(layout.mesh)
    batch = sharding.put_rows(_batch(np.ones(ROWS)), layout.mesh)
    text = (
      jax.jit(doubled, in_shardings=(rows, None), out_shardings=(None, rows))
      .lower(batch, jax.random.key(0))
      .compile()
      .as_text()
    )
    # The sums of the weights are added up, and nothing else is sent.
    for moves in ('all-gather', 'all-to-all', 'collective-permute'):
      self.assertNotIn(moves, text)

  def test_what_has_no_mean_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected floats.* n is int32'):
      _in_parts(lambda part, key: ({'n': jnp.int32(1)}, ()), _batch(), 2)


if __name__ == '__main__':
  absltest.main()
