"""SSD as it is, and variants that its target must catch."""

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np

from input_pipelines.coco import sampled_crop
from models import ssd
from models.parts import boxes, matching
from suite.benchmarks import broken as variants


def _decoded_otherwise():
  """Decodes with the variances exchanged, and codes with them as they are."""
  decode = boxes.decode
  return mock.patch.object(
    boxes,
    'decode',
    lambda found, anchors, scale, **how: decode(
      found, anchors, scale[::-1], **how
    ),
  )


def _x_for_y():
  """Codes y x h w, and decodes x y w h."""
  encode = boxes.encode
  order = jnp.array([1, 0, 3, 2])
  return mock.patch.object(
    boxes, 'encode', lambda *how: encode(*how)[..., order]
  )


def _by_cell():
  """Reads the channels of a head as shape by shape, not number by number."""

  def broken(x, part):
    rows, height, width, channels = x.shape
    x = x.reshape(rows, height, width, channels // part, part)
    # Row by row, and the shapes of a cell together: not as anchors are laid.
    return x.reshape(rows, -1, part)

  return mock.patch.object(ssd, 'by_anchor', broken)


def _not_forced():
  """Leaves an object out where no anchor overlaps it enough."""

  def broken(overlaps, real, *, threshold):
    overlaps = jnp.where(real[:, None], overlaps, -1.0)
    index = jnp.argmax(overlaps, axis=0).astype(jnp.int32)
    return matching.Matches(index, jnp.max(overlaps, axis=0) > threshold)

  return mock.patch.object(matching, 'forced', broken)


def _all_negatives():
  """Counts every anchor without an object, hard or not."""
  return mock.patch.object(
    ssd, 'hard_negatives', lambda losses, positive, count: ~positive
  )


def _not_renormalised():
  """Leaves the boxes of a crop where they were in the whole image."""

  def broken(found, edges, box):
    del box
    low = np.maximum(found[:, :2], np.float32(edges[:2]))
    high = np.minimum(found[:, 2:], np.float32(edges[2:]))
    return np.concatenate([low, high], axis=1)

  return mock.patch.object(sampled_crop, '_within', broken)


def _images_flipped_alone():
  """Mirrors an image, and not its boxes."""
  return mock.patch.object(sampled_crop, 'mirrored', lambda found: found)


def _no_suppression():
  """Keeps every detection."""
  return mock.patch.object(boxes, 'nms', lambda found, valid, **how: valid)


def _without_anchors():
  """Decodes as if every anchor were the whole image."""
  decode = boxes.decode

  def broken(found, anchors, scale, **how):
    whole = jnp.broadcast_to(
      jnp.array([[0.5, 0.5, 1.0, 1.0]], anchors.dtype), anchors.shape
    )
    return decode(found, whole, scale, **how)

  return mock.patch.object(boxes, 'decode', broken)


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'variances exchanged in decoding': variants.within(_decoded_otherwise),
  'x for y in coding': variants.within(_x_for_y),
  'heads read by cell': variants.within(_by_cell),
  'no forced matches': variants.within(_not_forced),
  'all negatives': variants.within(_all_negatives),
  'one negative a match': variants.changed(
    lambda hp: dataclasses.replace(hp, negatives=1)
  ),
  'boxes of crops not renormalised': variants.within(_not_renormalised),
  'images flipped alone': variants.within(_images_flipped_alone),
  'no suppression': variants.within(_no_suppression),
  'decoded without anchors': variants.within(_without_anchors),
}
