"""Tests of GNMT, with numbers that the reference's own PyTorch code gave.

They are those of mlcommons/training, retired_benchmarks/gnmt/pytorch (model
GNMT, LabelSmoothing), in float32 on a CPU, of the parameters and sentences that
are drawn here, without dropout.
"""

import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models import gnmt
from models.parts.functional import Functional
from suite.run import sharding
from tests import quick

SMALL = gnmt.Size(29, 4, 12)
EXACT = gnmt.Compute(dropout=0.0)

SOURCE = np.array(
  [[2, 9, 13, 22, 7, 5, 3], [2, 8, 4, 3, 0, 0, 0], [2, 6, 3, 0, 0, 0, 0]],
  np.int32,
)
TARGET = np.array(
  [[2, 6, 21, 3, 0, 0], [2, 8, 15, 16, 20, 3], [2, 5, 3, 0, 0, 0]], np.int32
)
LOSS = 13.020464897155762
# Of rows 0, 0, 1, 2 at places 0, 2, 4, 1: those of tokens 0, 3, 17, 28.
LOGITS = (
  (0.8644572, -1.2959428, 0.6478436, -0.989958),
  (0.9641061, -1.4222769, 0.408172, -1.4267551),
  (0.9992225, -0.7789341, 0.2931007, -1.3906673),
  (1.1668243, -1.2866085, 0.4754016, -0.9987556),
)
# Norms of the gradients.
NORMS = {
  'embedding': 0.4108899,
  'encoder/first/forward/input_kernel': 0.4038106,
  'encoder/first/forward/hidden_kernel': 0.1837242,
  'encoder/first/backward/input_kernel': 0.1949079,
  'encoder/first/backward/hidden_bias': 0.1478663,
  'encoder/layers/0/input_kernel': 0.6325763,
  'encoder/layers/1/hidden_kernel': 0.2376752,
  'encoder/layers/2/input_bias': 0.3246721,
  'decoder/first/input_kernel': 0.2420634,
  'decoder/attention/direction': 0.008248946,
  'decoder/attention/scale': 0.002629449,
  'decoder/attention/bias': 0.003959893,
  'decoder/attention/query/kernel': 0.002982775,
  'decoder/attention/key/kernel': 0.01099187,
  'decoder/layers/0/input_kernel': 1.141594,
  'decoder/layers/1/hidden_kernel': 0.185528,
  'decoder/layers/2/hidden_bias': 0.445638,
  'classifier/kernel': 1.706009,
  'classifier/bias': 1.23811,
}
NORM_OF_ALL = 3.4788388747368884


@functools.cache
def _model(compute=EXACT, size=SMALL):
  return Functional.of(lambda rngs: gnmt.GNMT(size, compute=compute, rngs=rngs))


def _named(tree):
  return {
    sharding.path_of(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@functools.cache
def _params(seed=11):
  """Normal numbers with the deviation 0.5, in the order of their names."""
  shapes = jax.eval_shape(_model().init, jax.random.key(0))[0]
  draws = np.random.RandomState(seed)
  values = {
    name: draws.normal(0, 0.5, leaf.shape).astype(np.float32)
    for name, leaf in sorted(_named(shapes).items())
  }
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jnp.asarray(values[sharding.path_of(path)]), shapes
  )


def _loss(params, compute, source, target, drop_key=None):
  """The mean over sentences, and the logits."""
  logits, _ = _model(compute).apply(
    params, {}, source, target[:, :-1], drop_key=drop_key
  )
  losses = gnmt.token_losses(logits, target[:, 1:], smoothing=0.1)
  return losses.sum() / len(source), logits


_lost = quick.jit(_loss, static_argnums=1)


@functools.cache
def _step():
  """((loss, logits), gradients)."""
  step = quick.jit(jax.value_and_grad(_loss, has_aux=True), static_argnums=1)
  return step(_params(), EXACT, SOURCE, TARGET)


class ReferenceTest(absltest.TestCase):
  def test_logits_loss_and_gradients(self):
    (loss, logits), grads = _step()
    self.assertAlmostEqual(float(loss), LOSS, delta=1e-5)
    found = logits[jnp.array([0, 0, 1, 2]), jnp.array([0, 2, 4, 1])]
    tokens = np.array([0, 3, 17, 28])
    np.testing.assert_allclose(found[:, tokens], LOGITS, atol=2e-6)
    norms = {
      name: float(jnp.linalg.norm(leaf)) for name, leaf in _named(grads).items()
    }
    for name, expected in NORMS.items():
      np.testing.assert_allclose(norms[name], expected, rtol=2e-5, err_msg=name)
    whole = np.sqrt(sum(norm**2 for norm in norms.values()))
    np.testing.assert_allclose(whole, NORM_OF_ALL, rtol=1e-6)

  def test_there_are_as_many_parameters_as_in_the_reference(self):
    shapes, stats = jax.eval_shape(
      _model(size=gnmt.FULL).init, jax.random.key(0)
    )
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    self.assertEqual(total, 160_671_297)
    self.assertEmpty(jax.tree.leaves(stats))


class ModelTest(parameterized.TestCase):
  def test_padding_changes_nothing_and_is_not_trained(self):
    (loss, logits), grads = _step()
    wider = [np.pad(each, ((0, 0), (0, 2))) for each in (SOURCE, TARGET)]
    other, more = _lost(_params(), EXACT, *wider)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    np.testing.assert_allclose(more[:, :5], logits, atol=2e-6)
    self.assertFalse(np.asarray(grads['embedding'][gnmt.PAD]).any())
    self.assertTrue(np.asarray(grads['embedding'][gnmt.END]).any())

  def test_a_translation_is_what_all_at_once_says(self):
    """With one beam each token is the likeliest after those before it."""
    params = _params()

    @quick.jit
    def translate(source):
      found = (
        _model()
        .merged(params, {})
        .translate(source, beams=1, length=8, alpha=0.6, coverage=0.1)
      )
      return found.tokens[:, 0]

    found = np.asarray(translate(SOURCE))
    before = np.concatenate([np.full((3, 1), gnmt.START), found[:, :-1]], 1)
    _, logits = _lost(params, EXACT, SOURCE, np.pad(before, ((0, 0), (0, 1))))
    is_written = found != 0
    self.assertTrue(is_written[:, 0].all())
    best = np.asarray(logits.argmax(axis=-1))
    np.testing.assert_array_equal(best[is_written], found[is_written])

  def test_dropout_is_drawn_anew_for_each_key(self):
    compute = gnmt.Compute(dropout=0.5)
    losses = [
      float(_lost(_params(), compute, SOURCE, TARGET, jax.random.key(seed))[0])
      for seed in (0, 0, 1)
    ]
    self.assertEqual(losses[0], losses[1])
    self.assertNotEqual(losses[1], losses[2])
    self.assertNotAlmostEqual(losses[0], LOSS, delta=1e-3)

  def test_bfloat16_is_close(self):
    close = gnmt.Compute(jnp.dtype('bfloat16'), dropout=0.0)
    loss, logits = _lost(_params(), close, SOURCE, TARGET)
    self.assertAlmostEqual(float(loss), LOSS, delta=0.1)
    self.assertEqual(logits.dtype, jnp.float32)
    grads, _ = jax.eval_shape(
      lambda p: jax.grad(_loss, has_aux=True)(p, close, SOURCE, TARGET),
      _params(),
    )
    self.assertEqual(
      {leaf.dtype for leaf in jax.tree.leaves(grads)}, {jnp.dtype('float32')}
    )

  @parameterized.parameters((4, 4, 8), (9, 1, 8), (9, 4, 0))
  def test_a_size_that_is_none_is_refused(self, *size):
    with self.assertRaisesRegex(ValueError, 'Expected 5 tokens or more'):
      gnmt.Size(*size)


if __name__ == '__main__':
  absltest.main()
