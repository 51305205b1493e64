"""ResNet as it is, and variants broken in ways that its target must catch."""

from unittest import mock

from input_pipelines.imagenet import read as imagenet
from models.parts import layers
from suite.benchmarks import broken as variants


def _unshuffled():
  batches = imagenet.train_batches
  return mock.patch.object(
    imagenet, 'train_batches', lambda *a, **k: batches(*a, **k, shuffle=False)
  )


def _frozen_moments():
  """Keeps running moments at their initial values, 0 and 1, for evals."""
  call = layers.GroupedBatchNorm.__call__

  def broken(self, x, *, train):
    mean, var = self.mean[...], self.var[...]
    y = call(self, x, train=train)
    self.mean[...], self.var[...] = mean, var
    return y

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


def _no_normalisation():
  """Applies scale and bias only, as if the moments were 0 and 1."""

  def broken(self, x, *, train):
    del train
    return (x * self.scale[...] + self.bias[...]).astype(x.dtype)

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'not shuffled': variants.within(_unshuffled),
  'batch norm: moments frozen': variants.within(_frozen_moments),
  'batch norm: no normalisation': variants.within(_no_normalisation),
}
