"""Tests of dropout's keys where rows are split over devices."""

import re

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.parts import attention
from suite.run import sharding

ROWS, REST = 64, (24, 10)


def _dropped(key, mesh):
  """Ones with a tenth of them dropped, and the program that did it."""
  rows = sharding.split_rows(mesh)
  program = (
    jax.jit(
      lambda key, x: attention.drop(x, 0.1, key),
      in_shardings=(sharding.replicated(mesh), rows),
      out_shardings=rows,
    )
    .lower(key, jnp.ones((ROWS, *REST)))
    .compile()
  )
  return np.asarray(program(key, jnp.ones((ROWS, *REST)))), program.as_text()


def _most_drawn(text):
  """Elements of the largest array of random bits in a program."""
  shapes = re.findall(r'u(?:32|64)\[([\d,]+)\]', text)
  return max(np.prod([int(n) for n in shape.split(',')]) for shape in shapes)


class RowKeyTest(parameterized.TestCase):
  @parameterized.parameters(1, 2)
  def test_a_device_draws_for_its_own_rows_only(self, model):
    mesh = sharding.make_mesh(model)
    key = jax.random.key(3, impl='rbg')
    _, text = _dropped(attention.RowKey(key, mesh, sharding.DATA), mesh)
    ways = mesh.shape[sharding.DATA]
    whole = ROWS * np.prod(REST)
    self.assertLessEqual(_most_drawn(text), whole // ways)
    # What XLA makes of a plain key.
    self.assertGreaterEqual(_most_drawn(_dropped(key, mesh)[1]), whole)

  def test_devices_drop_others(self):
    mesh = sharding.make_mesh()
    key = jax.random.key(3, impl='rbg')
    found, _ = _dropped(attention.RowKey(key, mesh, sharding.DATA), mesh)
    self.assertAlmostEqual((found == 0).mean(), 0.1, delta=0.01)
    self.assertAlmostEqual(found.mean(), 1, delta=0.01)
    shares = np.split(found == 0, 8)
    for i, share in enumerate(shares):
      self.assertAlmostEqual(share.mean(), 0.1, delta=0.03)
      for other in shares[:i]:
        # Independent masks agree in 0.82 of their places.
        self.assertAlmostEqual((share == other).mean(), 0.82, delta=0.04)

  def test_alone_a_device_drops_what_the_plain_key_says(self):
    mesh = jax.sharding.Mesh(
      np.array(jax.devices()[:1]).reshape(1, 1), (sharding.DATA, 'model')
    )
    key = jax.random.key(3, impl='rbg')
    found, _ = _dropped(attention.RowKey(key, mesh, sharding.DATA), mesh)
    expected, _ = _dropped(key, mesh)
    np.testing.assert_array_equal(found, expected)

  def test_parts_of_a_key_are_those_of_the_key_inside(self):
    mesh = sharding.make_mesh()
    key = jax.random.key(3)
    inside = attention.fork(attention.RowKey(key, mesh, sharding.DATA), 3)
    for part, expected in zip(inside, attention.fork(key, 3), strict=True):
      self.assertEqual(part.mesh, mesh)
      self.assertTrue(jnp.all(part.key == expected))
    self.assertEqual(attention.fork(None, 2), [None, None])


if __name__ == '__main__':
  absltest.main()
