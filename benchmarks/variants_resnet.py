"""ResNet as it is, and broken in ways that its target is to tell."""

import contextlib
import dataclasses
from unittest import mock

from input_pipelines import imagenet
from models import layers


def _scaled_rate(factor: float):
  def change(hp):
    rate = hp.base_learning_rate * factor
    return dataclasses.replace(hp, base_learning_rate=rate)

  return change, contextlib.nullcontext


def _unshuffled():
  batches = imagenet.train_batches
  return mock.patch.object(
    imagenet, 'train_batches', lambda *a, **k: batches(*a, **k, shuffle=False)
  )


def _frozen_moments():
  """Running moments that stay as they began: evals normalise by 0 and 1."""
  call = layers.GroupedBatchNorm.__call__

  def broken(self, x, *, train):
    mean, var = self.mean[...], self.var[...]
    y = call(self, x, train=train)
    self.mean[...], self.var[...] = mean, var
    return y

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


def _no_normalisation():
  """Scale and bias only, as if the moments were 0 and 1 in training too."""

  def broken(self, x, *, train):
    del train
    return (x * self.scale[...] + self.bias[...]).astype(x.dtype)

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


_SAME = lambda hp: hp  # noqa: E731
VARIANTS = {
  'reference': (_SAME, contextlib.nullcontext),
  'learning rate x10': _scaled_rate(10.0),
  'learning rate /10': _scaled_rate(0.1),
  'not shuffled': (_SAME, _unshuffled),
  'batch norm: moments frozen': (_SAME, _frozen_moments),
  'batch norm: no normalisation': (_SAME, _no_normalisation),
}
