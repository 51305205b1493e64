"""Tests of reading and writing one place of each game."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.minigo.tree_search import arrays


class OfFewTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 7, 8, 9, 20)
  def test_it_is_the_function_where_asked_and_nothing_else_elsewhere(self, few):
    draws = np.random.default_rng(few)
    which = np.zeros(20, bool)
    which[draws.choice(20, few, replace=False)] = True
    rows = {'a': jnp.arange(20.0), 'b': jnp.asarray(draws.random((20, 3)))}
    otherwise = {'sum': jnp.full(20, -1.0), 'b': jnp.zeros((20, 3))}
    called = []

    def function(rows):
      called.append(rows['a'].shape)
      return {'sum': rows['a'] + rows['b'].sum(axis=1), 'b': rows['b']}

    found = jax.jit(
      lambda which: arrays.of_few(function, which, rows, otherwise)
    )(which)
    everywhere = function(rows)
    for name, values in found.items():
      wanted = np.array(otherwise[name])
      wanted[which] = everywhere[name][which]
      np.testing.assert_array_equal(values, wanted)
    self.assertEqual(called[0], (8,))

  def test_of_fewer_rows_than_are_asked_for_at_once_each_is_asked_once(self):
    found = arrays.of_few(
      lambda x: 2 * x,
      jnp.array([True, False, True]),
      jnp.arange(3),
      jnp.full(3, -1),
    )
    np.testing.assert_array_equal(found, [0, -1, 4])


if __name__ == '__main__':
  absltest.main()
