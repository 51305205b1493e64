"""Mask R-CNN as it is, and variants that its target must catch."""

from unittest import mock

import jax.numpy as jnp

from input_pipelines.coco import outlined
from models.maskrcnn import proposals, regions
from models.parts import boxes, roi_align
from suite.benchmarks import broken as variants


def _x_for_y():
  """Codes y x h w, and decodes x y w h."""
  encode = boxes.encode
  order = jnp.array([1, 0, 3, 2])
  return mock.patch.object(
    boxes, 'encode', lambda *how: encode(*how)[..., order]
  )


def _no_suppression():
  """Keeps every proposal and every detection."""
  return mock.patch.object(boxes, 'nms', lambda found, valid, **how: valid)


def _moved_cells():
  """Reads the maps of the pyramid two cells away."""
  places = roi_align._places
  return mock.patch.object(roi_align, '_places', lambda *how: places(*how) + 2)


def _masks_of_objects():
  """Learns the mask of an object as it is, wherever the region lies."""
  targets = regions.mask_targets

  def broken(drawn, objects, *, side):
    index = drawn.index[..., None]
    own = jnp.take_along_axis(objects.boxes, index, axis=1)
    seen = regions.Regions(own, drawn.index, drawn.labels, drawn.counts)
    return targets(seen, objects, side=side)

  return mock.patch.object(regions, 'mask_targets', broken)


def _boxes_flipped_alone():
  """Mirrors an image and its masks, and not the boxes of its objects."""
  return mock.patch.object(outlined, 'mirrored', lambda box, width: box)


def _no_negatives():
  """Draws anchors and regions that have an object alone."""
  draw = proposals.draw
  return mock.patch.object(
    proposals,
    'draw',
    lambda key, positive, negative, how: draw(
      key, positive, negative & False, how
    ),
  )


VARIANTS = {
  **variants.usual('base_learning_rate'),
  'x for y in coding': variants.within(_x_for_y),
  'no suppression': variants.within(_no_suppression),
  'maps read two cells away': variants.within(_moved_cells),
  'masks of objects, not of regions': variants.within(_masks_of_objects),
  'images flipped alone': variants.within(_boxes_flipped_alone),
  'no negatives': variants.within(_no_negatives),
}
