"""3D U-Net as it is, and variants that its target must catch."""

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np

from input_pipelines.kits19 import read as kits19
from models import unet3d
from suite.benchmarks import broken as variants
from suite.benchmarks.unet3d import task


def _no_skips():
  """Zeros in place of what the way down kept."""
  join = unet3d.join
  return mock.patch.object(
    unet3d, 'join', lambda below, skip: join(below, jnp.zeros_like(skip))
  )


def _planes():
  """Convolves each plane alone: a net of two dimensions."""
  name = 'convolve_folded'
  convolve = getattr(unet3d, name)

  def broken(x, kernel, stride):
    return convolve(x, kernel.at[::2].set(0.0), stride)

  return mock.patch.object(unet3d, name, broken)


def _flipped_images():
  """Mirrors a label once more than its image, half of the time."""
  fill = kits19.Cropping.fill

  def broken(self, volume, rng, image, label):
    fill(self, volume, rng, image, label)
    label[...] = label[:: 1 - 2 * int(rng.integers(2))]

  return mock.patch.object(kits19.Cropping, 'fill', broken)


def _no_dice():
  """Cross entropy alone."""
  return mock.patch.object(
    unet3d,
    'dice_losses',
    lambda shares, truth: jnp.zeros(shares.shape[0]),
  )


def _background_in_dice():
  """Counts the background as a class of the Dice loss."""
  losses = unet3d.dice_losses

  def whole(each):
    return jnp.concatenate([1 - each.sum(-1, keepdims=True), each], axis=-1)

  return mock.patch.object(
    unet3d,
    'dice_losses',
    lambda shares, truth: losses(whole(shares), whole(truth)),
  )


def _linear_labels():
  """Labels half a voxel further, as if interpolated and rounded down."""
  fill = kits19.Cropping.fill

  def broken(self, volume, rng, image, label):
    fill(self, volume, rng, image, label)
    for axis in range(3):
      label[...] = (label + np.roll(label, 1, axis)) // 2

  return mock.patch.object(kits19.Cropping, 'fill', broken)


def _off_centre():
  """Weighs the corner of a window most, not its middle."""
  weight = task.window_weight

  def broken(side):
    return np.roll(weight(side), side // 2, axis=(1, 2, 3))

  return mock.patch.object(task, 'window_weight', broken)


def _batch_moments():
  """Normalises by moments of the whole batch."""
  norm = unet3d.instance_norm

  def broken(x, scale, bias):
    return norm(x.reshape(1, -1, *x.shape[2:]), scale, bias).reshape(x.shape)

  return mock.patch.object(unet3d, 'instance_norm', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'no oversampling': variants.changed(
    lambda hp: dataclasses.replace(hp, oversampling=0.0)
  ),
  'no skip connections': variants.within(_no_skips),
  'planes alone': variants.within(_planes),
  'labels mirrored apart': variants.within(_flipped_images),
  'no Dice in the loss': variants.within(_no_dice),
  'background in Dice': variants.within(_background_in_dice),
  'labels interpolated': variants.within(_linear_labels),
  'windows off centre': variants.within(_off_centre),
  'norm over the batch': variants.within(_batch_moments),
}
