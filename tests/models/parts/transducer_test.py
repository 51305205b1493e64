"""Tests of the transducer's loss: all alignments, and float64 beside it."""

import functools
import itertools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.parts import transducer
from tests import quick


def _random_chances(rows, frames, symbols, seed=0):
  """Log-chances of blanks [B, T, U + 1] and of symbols [B, T, U], float64."""
  draws = np.random.default_rng(seed)
  logits = 2 * draws.normal(size=(rows, frames, symbols + 1, 5))
  logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return logs[..., 4], logs[:, :, :-1, 0]


def _by_all_alignments(blank, symbol, frames, symbols):
  """The loss of one row, as the sum over every alignment."""
  total = 0.0
  # The symbols come before any of the blanks but the last, or between them.
  for places in itertools.combinations(range(frames - 1 + symbols), symbols):
    frame, said, logarithm = 0, 0, 0.0
    for step in range(frames - 1 + symbols):
      if step in places:
        logarithm += symbol[frame, said]
        said += 1
      else:
        logarithm += blank[frame, said]
        frame += 1
    total += np.exp(logarithm + blank[frames - 1, symbols])
  return -np.log(total)


def _by_forward_and_backward(blank, symbol, frames, symbols):
  """Loss and gradients of one row in float64.

  A gradient is minus the chance of going through a place that way.
  """
  forward = np.full((frames, symbols + 1), -np.inf)
  backward = np.full((frames, symbols + 1), -np.inf)
  forward[0, 0], backward[-1, -1] = 0, blank[frames - 1, symbols]
  for t, u in itertools.product(range(frames), range(symbols + 1)):
    if t:
      come = forward[t - 1, u] + blank[t - 1, u]
      forward[t, u] = np.logaddexp(forward[t, u], come)
    if u:
      come = forward[t, u - 1] + symbol[t, u - 1]
      forward[t, u] = np.logaddexp(forward[t, u], come)
  for t, u in itertools.product(
    range(frames - 1, -1, -1), range(symbols, -1, -1)
  ):
    if t + 1 < frames:
      go = backward[t + 1, u] + blank[t, u]
      backward[t, u] = np.logaddexp(backward[t, u], go)
    if u < symbols:
      go = backward[t, u + 1] + symbol[t, u]
      backward[t, u] = np.logaddexp(backward[t, u], go)
  whole = backward[0, 0]
  after = np.full_like(backward, -np.inf)
  after[:-1], after[-1, -1] = backward[1:], 0.0
  d_blank = -np.exp(forward + blank[:frames, : symbols + 1] + after - whole)
  d_symbol = -np.exp(
    forward[:, :-1] + symbol[:frames, :symbols] + backward[:, 1:] - whole
  )
  return -whole, d_blank, d_symbol


class LossTest(parameterized.TestCase):
  def test_it_is_the_sum_over_all_alignments(self):
    lengths = np.array([*itertools.product((1, 2, 3, 4), (0, 1, 2, 3))])
    blank, symbol = _random_chances(len(lengths), 4, 3)
    found = quick.jit(transducer.losses)(
      jnp.float32(blank), jnp.float32(symbol), *jnp.asarray(lengths.T)
    )
    expected = [
      _by_all_alignments(blank[i], symbol[i], *each)
      for i, each in enumerate(lengths.tolist())
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-6)

  def test_loss_and_gradients_of_long_rows_are_those_of_float64(self):
    lengths = np.array([[60, 25], [60, 0], [7, 25], [1, 3], [33, 12]])
    blank, symbol = _random_chances(len(lengths), 60, 25, seed=1)

    def total(blank, symbol):
      found = transducer.losses(blank, symbol, *jnp.asarray(lengths.T))
      return found.sum(), found

    grads, found = quick.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(
      jnp.float32(blank), jnp.float32(symbol)
    )
    for row, (frames, symbols) in enumerate(lengths.tolist()):
      loss, *expected = _by_forward_and_backward(
        blank[row], symbol[row], frames, symbols
      )
      np.testing.assert_allclose(found[row], loss, rtol=2e-6)
      for name, grad, of_row in zip(
        ('blank', 'symbol'), grads, expected, strict=True
      ):
        outside = np.array(grad[row])
        ours = outside[:frames, : of_row.shape[1]].copy()
        np.testing.assert_allclose(ours, of_row, atol=1e-4, err_msg=name)
        # What is no place of the row moves nothing.
        outside[:frames, : of_row.shape[1]] = 0
        self.assertFalse(outside.any(), name)

  def test_gradients_are_finite_differences(self):
    blank, symbol = _random_chances(1, 3, 2, seed=2)
    lengths = jnp.array([3]), jnp.array([2])
    grad = quick.jit(
      jax.grad(lambda b: transducer.losses(b, symbol, *lengths)[0])
    )(jnp.float32(blank))
    for t, u in itertools.product(range(3), range(3)):
      moved = []
      for step in (1e-5, -1e-5):
        other = blank[0].copy()
        other[t, u] += step
        moved.append(_by_all_alignments(other, symbol[0], 3, 2))
      self.assertAlmostEqual(
        float(grad[0, t, u]), (moved[0] - moved[1]) / 2e-5, places=4
      )

  def test_a_row_of_padding_has_a_finite_loss_and_gradient(self):
    blank, symbol = _random_chances(1, 3, 2)
    none = jnp.array([0])
    value, grad = quick.jit(
      jax.value_and_grad(
        lambda b: transducer.losses(b, jnp.float32(symbol), none, none)[0]
      )
    )(jnp.float32(blank))
    self.assertTrue(np.isfinite(value))
    self.assertTrue(np.isfinite(grad).all())


def _join(frames, texts, key):
  """Logits [B, K, U + 1, D] of sums."""
  del key
  return jnp.tanh(frames[:, :, None] + texts[:, None]) * 3


class ChancesTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 7, 20)
  def test_blocks_of_any_size_give_the_chances_of_all_at_once(self, block):
    draws = np.random.default_rng(0)
    frames = draws.normal(size=(2, 7, 6)).astype(np.float32)
    texts = draws.normal(size=(2, 4, 6)).astype(np.float32)
    symbols = draws.integers(0, 5, (2, 3))
    blank, symbol = quick.jit(
      functools.partial(transducer.chances, _join, blank=5, block=block)
    )(frames, texts, symbols)
    logs = np.asarray(jax.nn.log_softmax(_join(frames, texts, None)))
    np.testing.assert_allclose(blank, logs[..., 5], rtol=1e-5)
    for row, place in itertools.product(range(2), range(3)):
      expected = logs[row, :, place, symbols[row, place]]
      np.testing.assert_allclose(symbol[row, :, place], expected, rtol=1e-5)

  def test_each_block_has_a_key_of_its_own(self):
    def join(frames, texts, key):
      shape = (len(frames), frames.shape[1], texts.shape[1], 3)
      return jax.random.normal(key, shape)

    frames, texts, symbols = jnp.zeros((1, 4, 2)), jnp.zeros((1, 2, 2)), [[0]]
    blank, _ = quick.jit(
      lambda key: transducer.chances(
        join, frames, texts, np.array(symbols), blank=2, block=2, drop_key=key
      )
    )(jax.random.key(0))
    self.assertLen(set(np.asarray(blank).ravel().tolist()), 8)


if __name__ == '__main__':
  absltest.main()
