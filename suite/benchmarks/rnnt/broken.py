"""RNN-T as it is, and variants that its target must catch."""

from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.audio import log_mel
from models import rnnt
from models.parts import transducer
from suite.benchmarks import broken as variants
from suite.benchmarks import rnnt as declared
from suite.benchmarks.rnnt import task


def _no_blank():
  """Takes the first symbol for the blank of the lattice, in training."""
  chances = transducer.chances

  def broken(*args, **how):
    return chances(*args, **{**how, 'blank': 0})

  return mock.patch.object(transducer, 'chances', broken)


def _average_of_the_start():
  """Evals use the weights of the start, of which a step changes nothing."""
  made = task.RNNTTask._optimizer

  def broken(self):
    self.average = optax.constant_schedule(1.0)
    return made(self)

  return mock.patch.object(task.RNNTTask, '_optimizer', broken)


def _normalised_with_padding():
  """Normalises bands over as many frames as a batch of the tiny size has."""
  usual = log_mel.FrontEnd.normalised

  def broken(self, x):
    more = max(0, declared.TINY.train_frames[-1] - len(x))
    floor = np.log(np.float32(self.floor))  # of a frame without any sound
    padded = np.pad(x, ((0, more), (0, 0)), constant_values=floor)
    return usual(self, padded)[: len(x)]

  return mock.patch.object(log_mel.FrontEnd, 'normalised', broken)


def _no_prediction():
  """Says each symbol without regard to those before it."""
  layers = rnnt.Layers.step

  def all_places(self, symbols, drop_key):
    del drop_key
    shape = (len(symbols), symbols.shape[1] + 1, self.embedding.shape[1])
    return jnp.zeros(shape, jnp.float32)

  def one_place(self, symbols, states):
    x, states = layers(self.layers, self.embedding[...][symbols], states)
    return jnp.zeros_like(x), states

  def none_before(self, rows):
    x = jnp.zeros((rows, self.embedding.shape[1]), jnp.float32)
    return x, self.layers.begin(rows)

  return mock.patch.multiple(
    rnnt.Prediction,
    __call__=all_places,
    step=one_place,
    begin=none_before,
  )


def _every_second_frame():
  """Drops every second frame of the encoder instead of stacking it."""
  stacked = rnnt.Encoder.stacked

  def broken(self, x):
    kept = stacked(self, x)
    first = kept[..., : x.shape[-1]]
    return jnp.concatenate([first] * (kept.shape[-1] // x.shape[-1]), axis=-1)

  return mock.patch.object(rnnt.Encoder, 'stacked', broken)


def _masked_evals():
  """Masks bands and times in evals as in training."""
  predict = task.RNNTTask.predict

  def broken(self, state, batch):
    speech = self._masks(batch['speech'], batch['frames'], state.key)
    return predict(self, state, {**batch, 'speech': speech})

  return mock.patch.object(task.RNNTTask, 'predict', broken)


def _no_lengths():
  """Takes the padding of the batch for speech and text, in the loss."""
  losses = transducer.losses

  def broken(blank, symbol, frames, symbols):
    return losses(
      blank,
      symbol,
      jnp.full_like(frames, blank.shape[1]),
      jnp.full_like(symbols, symbol.shape[2]),
    )

  return mock.patch.object(transducer, 'losses', broken)


def _labels_shifted():
  """Trains to say the symbol before the one that was said."""
  call = rnnt.RNNT.__call__

  def broken(self, speech, lengths, symbols, counts, *, drop_key=None):
    symbols = jnp.roll(symbols, 1, axis=1)
    return call(self, speech, lengths, symbols, counts, drop_key=drop_key)

  return mock.patch.object(rnnt.RNNT, '__call__', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'no blank': variants.within(_no_blank),
  'average of the start': variants.within(_average_of_the_start),
  'normalised with padding': variants.within(_normalised_with_padding),
  'no prediction': variants.within(_no_prediction),
  'every second frame': variants.within(_every_second_frame),
  'masked evals': variants.within(_masked_evals),
  'no lengths': variants.within(_no_lengths),
  'labels shifted': variants.within(_labels_shifted),
}
