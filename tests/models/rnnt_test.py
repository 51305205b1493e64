"""Tests of RNN-T, with numbers that the reference's own PyTorch code gave.

They are those of mlcommons/training, retired_benchmarks/rnnt/pytorch (rnnt/
model.py, common/rnn.py, rnnt/decoder.py), in float32 on a CPU, of the
parameters and the speech that are drawn here, without dropout. The loss, which
the reference leaves to a library for GPUs, is a lattice of PyTorch's numbers.
"""

import functools
import itertools

from absl.testing import absltest, parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from models import rnnt
from models.parts.functional import Functional
from suite.run import sharding
from tests import quick

SMALL = rnnt.Size(6, 7, 8, 2, 3, 2, 5, 2, 9)
LEAST = rnnt.Size(6, 7, 4, 1, 1, 2, 3, 1, 5)  # where no reference is needed
EXACT = rnnt.Compute(
  encoder_dropout=0.0, prediction_dropout=0.0, joint_dropout=0.0, block=3
)

LENGTHS = np.array([10, 8, 6], np.int32)
COUNTS = np.array([4, 2, 3], np.int32)
LOSS = 9.066108703613281
# Of classes 0 to 3, by row, frame and symbols before.
LOGITS = {
  (0, 0, 0): (0.1440746, -0.2363495, -0.9926839, 0.5098984),
  (0, 4, 4): (0.0750722, -0.2307578, -1.1643445, 0.6056372),
  (1, 3, 2): (0.0719018, -0.230543, -1.1348454, 0.5913516),
  (2, 2, 1): (0.098385, -0.2090534, -1.1972754, 0.6063653),
}
# Norms of the gradients.
NORMS = {
  'encoder/after/layers/0/hidden_bias': 0.09804522,
  'encoder/after/layers/0/hidden_kernel': 0.02856962,
  'encoder/after/layers/0/input_bias': 0.09804522,
  'encoder/after/layers/0/input_kernel': 0.07808901,
  'encoder/after/layers/1/hidden_bias': 0.2913362,
  'encoder/after/layers/1/hidden_kernel': 0.07972755,
  'encoder/after/layers/1/input_bias': 0.2913362,
  'encoder/after/layers/1/input_kernel': 0.1279919,
  'encoder/after/layers/2/hidden_bias': 0.5771885,
  'encoder/after/layers/2/hidden_kernel': 0.2383583,
  'encoder/after/layers/2/input_bias': 0.5771885,
  'encoder/after/layers/2/input_kernel': 0.2462317,
  'encoder/before/layers/0/hidden_bias': 0.01073565,
  'encoder/before/layers/0/hidden_kernel': 0.003150927,
  'encoder/before/layers/0/input_bias': 0.01073565,
  'encoder/before/layers/0/input_kernel': 0.01612423,
  'encoder/before/layers/1/hidden_bias': 0.04327722,
  'encoder/before/layers/1/hidden_kernel': 0.01694256,
  'encoder/before/layers/1/input_bias': 0.04327722,
  'encoder/before/layers/1/input_kernel': 0.01288587,
  'joint/classes/bias': 2.371677,
  'joint/classes/kernel': 4.598909,
  'joint/of_speech/bias': 1.38262,
  'joint/of_speech/kernel': 1.011335,
  'joint/of_symbols/bias': 1.38262,
  'joint/of_symbols/kernel': 0.2914376,
  'prediction/embedding': 0.05518876,
  'prediction/layers/layers/0/hidden_bias': 0.1528004,
  'prediction/layers/layers/0/hidden_kernel': 0.02265423,
  'prediction/layers/layers/0/input_bias': 0.1528004,
  'prediction/layers/layers/0/input_kernel': 0.02044448,
  'prediction/layers/layers/1/hidden_bias': 0.3637712,
  'prediction/layers/layers/1/hidden_kernel': 0.0292601,
  'prediction/layers/layers/1/input_bias': 0.3637712,
  'prediction/layers/layers/1/input_kernel': 0.1343419,
}
# Symbols per frame and in all at most -> (seed, bias of the blank) -> what each
# of four rows says, as 4x1 6x29: a 4, then 29 times 6.
HEARD = {
  (30, 300): {
    (20, 0.0): [
      '4x1 6x29 4x30 1x150 6x62',
      '4x1 1x30 4x1 1x43 4x1 1x38 4x1 1x66',
      '6x1',
      '5x1 1x120',
    ],
    (69, 2.0): [
      '3x6 6x3 0x1 3x29 0x60 3x30',
      '3x270',
      '3x30',
      '6x30',
    ],
    (92, 0.0): [
      (
        '2x2 3x1 5x2 0x1 5x2 0x1 5x1 0x2 5x2 0x2 5x1 0x4 5x1 0x4 5x1 '
        '0x2 5x1 0x3 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 '
        '3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 '
        '0x1 3x91'
      ),
      '0x30 3x14 0x1 3x6 0x1 3x6 0x1 3x1 2x30 3x10',
      '5x2 3x1 5x1',
      (
        '0x30 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x2 3x1 0x1 '
        '3x1 0x1 3x1 0x1 3x1 0x1 3x1 0x2 3x1 0x1 3x1 0x1 3x1 0x1 3x120'
      ),
    ],
  },
  (3, 8): {
    (20, 0.0): [
      '4x1 6x2 4x3 1x3',
      '4x1 1x6 4x1 1x2',
      '6x1',
      '5x1 1x9',
    ],
    (69, 2.0): [
      '3x3 6x2 0x1 3x2 0x3',
      '3x9',
      '3x3',
      '6x3',
    ],
    (92, 0.0): [
      '2x2 3x1 5x2 3x2 0x1 3x3',
      '0x3 3x3 2x3',
      '5x2 3x1',
      '0x3 3x1 0x1 3x4',
    ],
  },
  (5, 2): {
    (20, 0.0): [
      '4x1 6x4',
      '4x1 1x5',
      '6x1',
      '5x1 1x5',
    ],
    (69, 2.0): [
      '3x5',
      '3x5',
      '3x5',
      '6x5',
    ],
    (92, 0.0): [
      '2x2 3x1 5x2 0x1 5x1',
      '0x5',
      '5x2 3x1 5x1',
      '0x5',
    ],
  },
}


@functools.cache
def _model(compute=EXACT, size=SMALL):
  return Functional.of(lambda rngs: rnnt.RNNT(size, compute=compute, rngs=rngs))


def _named(tree):
  return {
    sharding.path_of(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _params(seed=11, deviation=0.5, blank=None, size=SMALL):
  """Normal numbers in the order of their names; `blank` adds to its bias."""
  shapes = jax.eval_shape(_model(size=size).init, jax.random.key(0))[0]
  draws = np.random.RandomState(seed)
  values = {
    name: draws.normal(0, deviation, leaf.shape).astype(np.float32)
    for name, leaf in sorted(_named(shapes).items())
  }
  if blank is not None:  # a machine that hears more than it remembers
    values['joint/of_speech/kernel'] *= 4
    values['joint/classes/bias'][SMALL.blank] += blank
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jnp.asarray(values[sharding.path_of(path)]), shapes
  )


def _inputs(rows=3, frames=10, symbols=4, seed=5):
  draws = np.random.RandomState(seed)
  speech = draws.normal(size=(rows, frames, 6)).astype(np.float32)
  return speech, draws.randint(0, 7, (rows, symbols)).astype(np.int32)


def _runs(symbols):
  """[4, 6, 6] -> '4x1 6x2'."""
  runs = itertools.groupby(symbols)
  return ' '.join(f'{symbol}x{len([*run])}' for symbol, run in runs)


def _loss(params, compute, speech, symbols, drop_key=None, size=SMALL):
  rows, _ = _model(compute, size).apply(
    params, {}, speech, LENGTHS, symbols, COUNTS, drop_key=drop_key
  )
  return rows.mean()


_lost = quick.jit(functools.partial(_loss, size=LEAST), static_argnums=1)


class ReferenceTest(parameterized.TestCase):
  def test_loss_and_gradients(self):
    loss, grads = quick.jit(jax.value_and_grad(_loss), static_argnums=1)(
      _params(), EXACT, *_inputs()
    )
    self.assertAlmostEqual(float(loss), LOSS, delta=1e-5)
    norms = {
      name: float(jnp.linalg.norm(leaf)) for name, leaf in _named(grads).items()
    }
    self.assertEqual({*norms}, {*NORMS})
    for name, expected in NORMS.items():
      np.testing.assert_allclose(norms[name], expected, rtol=2e-5, err_msg=name)

  def test_logits(self):
    speech, symbols = _inputs()
    logits, lengths = quick.jit(
      lambda p: _model().merged(p, {}).logits(speech, LENGTHS, symbols)
    )(_params())
    self.assertEqual(logits.shape, (3, 5, 5, 8))
    self.assertEqual(lengths.tolist(), [5, 4, 3])
    for (row, frame, place), expected in LOGITS.items():
      np.testing.assert_allclose(
        logits[row, frame, place, :4], expected, atol=2e-6
      )

  def test_greedy_decoding_says_the_same_symbols(self):
    """Machines that say much or little, with both limits at work."""

    @functools.partial(quick.jit, static_argnums=(3, 4))
    def transcribe(params, speech, lengths, per_frame, most):
      return (
        _model()
        .merged(params, {})
        .transcribe(speech, lengths, per_frame=per_frame, most=most)
      )

    lengths = np.array([20, 17, 4, 11])
    for (per_frame, most), machines in HEARD.items():
      for (seed, blank), expected in machines.items():
        found, count = transcribe(
          _params(seed, 1.5, blank),
          3 * _inputs(4, 20, seed=seed)[0],
          lengths,
          per_frame,
          most,
        )
        self.assertEqual(found.shape, (4, per_frame + most))
        heard = [
          _runs(row[:n])
          for row, n in zip(found.tolist(), count.tolist(), strict=True)
        ]
        self.assertEqual(heard, expected, (per_frame, most, seed, blank))

  def test_there_are_as_many_parameters_as_in_the_reference(self):
    shapes, stats = jax.eval_shape(
      _model(size=rnnt.FULL).init, jax.random.key(0)
    )
    leaves = jax.tree.leaves(shapes)
    self.assertEqual(sum(leaf.size for leaf in leaves), 49_006_080)
    self.assertLen(leaves, 35)  # PyTorch's tensors, two biases an LSTM
    self.assertEmpty(jax.tree.leaves(stats))


class ModelTest(parameterized.TestCase):
  def test_a_row_does_not_depend_on_the_padding_of_its_batch(self):
    """Odd lengths too, where in the reference it does."""
    speech, _ = _inputs()
    lengths = np.array([9, 7, 3])
    noise = _inputs(3, 14, seed=6)[0]
    is_frame = np.arange(14)[None] < lengths[:, None]
    longer = np.pad(speech, ((0, 0), (0, 4), (0, 0)))
    model = _model(size=LEAST).merged(_params(size=LEAST), {})
    encode = quick.jit(
      lambda x: model.encoder(x, jnp.asarray(lengths), None)[0]
    )
    one, other = (
      encode(np.where(is_frame[..., None], longer, fill)) for fill in (0, noise)
    )
    for row, length in enumerate(-(-lengths // 2)):
      np.testing.assert_array_equal(one[row, :length], other[row, :length])

  def test_padding_of_a_text_changes_nothing(self):
    speech, symbols = _inputs()
    others = np.where(np.arange(4)[None] < COUNTS[:, None], symbols, 1)
    losses = [
      _lost(_params(size=LEAST), EXACT, speech, s) for s in (symbols, others)
    ]
    self.assertAlmostEqual(*map(float, losses), places=5)

  def test_dropout_is_drawn_anew_for_each_key(self):
    compute = rnnt.Compute(block=3)
    losses = [
      float(
        _lost(_params(size=LEAST), compute, *_inputs(), jax.random.key(seed))
      )
      for seed in (0, 0, 1)
    ]
    self.assertEqual(losses[0], losses[1])
    self.assertNotEqual(losses[1], losses[2])

  def test_the_start(self):
    size = rnnt.Size(12, 7, 16, 1, 1, 2, 9, 1, 25)
    model = rnnt.RNNT(size, compute=EXACT, rngs=nnx.Rngs(3))
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)):
      name, values = '/'.join(map(str, path)), np.array(leaf[...])
      most = float(abs(values).max())
      if name == 'prediction/embedding':
        self.assertBetween(values.std(), 0.7, 1.3)
      elif name.startswith('joint'):
        features = {'of_speech': 16, 'of_symbols': 9, 'classes': 25}
        bound = features[name.split('/')[1]] ** -0.5
        self.assertBetween(most, 0.75 * bound, bound, name)
      else:  # LSTMs, halved
        width = 9 if name.startswith('prediction') else 16
        forget = slice(width, 2 * width)
        if name.endswith('input_bias'):
          np.testing.assert_array_equal(values[forget], 0.5, name)
          values[forget] = 0
        if name.endswith('hidden_bias'):
          np.testing.assert_array_equal(values[forget], 0.0, name)
        bound = 0.5 * width**-0.5
        self.assertBetween(abs(values).max(), 0.75 * bound, bound, name)

  def test_bfloat16_is_close(self):
    close = rnnt.Compute(jnp.dtype('bfloat16'), 0.0, 0.0, 0.0, block=3)
    loss, exact = (
      _lost(_params(size=LEAST), compute, *_inputs())
      for compute in (close, EXACT)
    )
    self.assertEqual(loss.dtype, jnp.float32)
    self.assertNotEqual(float(loss), float(exact))
    self.assertAlmostEqual(float(loss), float(exact), delta=0.1)

  def test_a_size_that_is_none_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected positive sizes'):
      rnnt.Size(6, 7, 8, 0, 3, 2, 5, 2, 9)


if __name__ == '__main__':
  absltest.main()
