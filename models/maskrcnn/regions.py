"""The second step of Mask R-CNN: classes, better boxes and masks of boxes."""

import dataclasses

import jax
import jax.numpy as jnp

from models.maskrcnn import proposals
from models.maskrcnn.proposals import Draw, Proposals, Sums
from models.parts import boxes as boxes_lib
from models.parts import matching

_CODES = (10.0, 5.0)  # scale of codes, see `boxes.encode`
# Classes whose boxes are compared at a time: all would need too much memory.
_CLASSES_AT_ONCE = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Objects:
  """Objects of images, padded with the label 0."""

  boxes: jax.Array  # corners in pixels [N, M, 4]
  labels: jax.Array  # int32 [N, M]
  # The masks, 0 or 1 [N, M, S, S], each over a rectangle x0 y0 x1 y1 [N, M, 4].
  masks: jax.Array
  frames: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Regions:
  """Boxes that were drawn; those that have an object come first."""

  boxes: jax.Array  # corners in pixels [N, R, 4]
  index: jax.Array  # int32 [N, R], the object
  labels: jax.Array  # int32 [N, R], its class; 0 without one
  counts: jax.Array  # bool [N, R]; False is padding


@dataclasses.dataclass(frozen=True)
class Choice:
  """Numbers that detections are chosen with."""

  score: float  # a detection has more
  overlap: float  # with a better one of its class it has no more
  of_image: int  # detections of an image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detections:
  """The best detections of each image, padded with the score 0."""

  boxes: jax.Array  # corners in pixels [N, D, 4]
  scores: jax.Array  # [N, D]
  labels: jax.Array  # int32 [N, D]


def drawn(
  found: Proposals, objects: Objects, keys: jax.Array, how: Draw
) -> Regions:
  """Draws of the proposals, and of the boxes of the objects themselves.

  Nothing that depends on a parameter has a gradient here.
  """

  def each(boxes, scores, truth, labels, key):
    boxes = jnp.concatenate([boxes, truth])
    real = jnp.concatenate([scores >= 0, labels > 0])
    matched = matching.banded(
      boxes_lib.iou(truth, boxes, plus=1),
      labels > 0,
      low=how.low,
      high=how.high,
      keep_best=False,
    )
    negative = (matched == matching.NEGATIVE) & real
    places, positive, counts = proposals.draw(
      key, (matched >= 0) & real, negative, how
    )
    index = jnp.maximum(matched[places], 0)
    label = jnp.where(positive, labels[index], 0)
    return Regions(boxes[places], index, label, counts)

  found = jax.lax.stop_gradient(found)
  return jax.vmap(each)(
    found.boxes, found.scores, objects.boxes, objects.labels, keys
  )


def box_losses(
  logits: jax.Array, codes: jax.Array, regions: Regions, objects: Objects
) -> tuple[Sums, Sums]:
  """Losses of logits [N, R, K] and of codes [N, R, K, 4].

  Only the codes of a region's class count.
  """
  labels, counts = regions.labels, regions.counts
  index = labels[..., None]
  shares = jax.nn.log_softmax(logits)
  cross = -jnp.take_along_axis(shares, index, axis=-1)[..., 0]
  of_class = jnp.take_along_axis(codes, index[..., None], axis=2)[:, :, 0]
  apart = boxes_lib.smooth_l1(of_class - wanted_codes(regions, objects))
  classes, places = (
    jnp.sum(jnp.where(real, each, 0.0), axis=1)
    for real, each in ((counts, cross), (labels > 0, apart.sum(axis=-1)))
  )
  count = counts.sum(axis=1)
  return Sums(classes, count), Sums(places, count)


def wanted_codes(regions: Regions, objects: Objects) -> jax.Array:
  """Codes [N, R, 4] that lead from the regions to their objects."""
  truth = jnp.take_along_axis(objects.boxes, regions.index[..., None], axis=1)
  return boxes_lib.encode(
    boxes_lib.centred(truth, plus=1),
    boxes_lib.centred(regions.boxes, plus=1),
    _CODES,
  )


def first(regions: Regions, count: int) -> Regions:
  """The first regions of each image, among which are all with an object."""
  return jax.tree.map(lambda each: each[:, :count], regions)


def mask_loss(logits: jax.Array, regions: Regions, objects: Objects) -> Sums:
  """The loss of masks [N, R, S, S] of the regions that have an object."""
  wanted = mask_targets(regions, objects, side=logits.shape[-1])
  cross = jnp.logaddexp(0.0, logits) - logits * wanted
  real = regions.labels > 0
  total = jnp.where(real, cross.mean(axis=(2, 3)), 0.0).sum(axis=1)
  return Sums(total, real.sum(axis=1))


def mask_targets(regions: Regions, objects: Objects, *, side: int) -> jax.Array:
  """The masks of the objects as regions see them: 0 or 1 [N, R, side, side].

  A region is x1 - x0 wide here, and at least a pixel, as in the reference.
  """

  def each(boxes, index, masks, frames):
    masks, frames = masks[index], frames[index]
    rows, columns = (
      _between(boxes, frames, axis, side, masks.shape[-1]) for axis in (1, 0)
    )
    return jnp.einsum(
      'rph,rhw,rqw->rpq', rows, masks.astype(jnp.float32), columns
    )

  found = jax.vmap(each)(
    regions.boxes, regions.index, objects.masks, objects.frames
  )
  return (found >= 0.5).astype(jnp.float32)


def detect(
  logits: jax.Array,
  codes: jax.Array,
  found: Proposals,
  sizes: jax.Array,
  how: Choice,
) -> Detections:
  """The best detections of each image, of all classes but the background.

  Args:
    logits: of the proposals [N, P, K].
    codes: of the proposals [N, P, K, 4].
    found: the proposals.
    sizes: height and width of the images without padding, int32 [N, 2].
    how: numbers.
  """

  def of_class(scores, boxes):
    """Scores [P] and boxes [P, 4], the best first; 0 where suppressed."""
    scores, best = jax.lax.top_k(scores, len(scores))
    boxes = boxes[best]
    kept = boxes_lib.nms(
      boxes, scores > how.score, threshold=how.overlap, plus=1
    )
    return jnp.where(kept, scores, 0.0), boxes

  def each(logits, codes, boxes, real, size):
    anchors = boxes_lib.centred(boxes, plus=1)[:, None]
    decoded = boxes_lib.decode(codes, anchors, _CODES, most=proposals.MOST)
    decoded = proposals.clipped(boxes_lib.corners(decoded, plus=1), size)
    shares = jnp.where(real[:, None], jax.nn.softmax(logits), 0.0)
    scores, boxes = jax.lax.map(
      lambda at: of_class(*at),
      (shares[:, 1:].T, jnp.moveaxis(decoded, 1, 0)[1:]),
      batch_size=_CLASSES_AT_ONCE,
    )
    most = min(how.of_image, scores.size)
    best, places = jax.lax.top_k(scores.reshape(-1), most)
    labels = (places // scores.shape[1] + 1).astype(jnp.int32)
    return Detections(boxes.reshape(-1, 4)[places], best, labels)

  return jax.vmap(each)(logits, codes, found.boxes, found.scores >= 0, sizes)


def _between(boxes, frames, axis, side, cells):
  """Shares [R, side, cells] of a mask's cells at the places of a grid.

  A place outside the rectangle of the mask has none.
  """
  low, high = boxes[:, axis], boxes[:, axis + 2]
  size = jnp.maximum(high - low, 1.0)
  steps = (jnp.arange(side) + 0.5) / side
  places = low[:, None] + steps[None] * size[:, None]
  begin, end = frames[:, axis, None], frames[:, axis + 2, None]
  inside = (places >= begin) & (places <= end)
  extent = jnp.where(end > begin, end - begin, 1.0)
  # Cells have their middles at halves.
  at = (places - begin) / extent * cells - 0.5
  at = jnp.clip(at, 0, cells - 1)[..., None]
  shares = jnp.maximum(0, 1 - jnp.abs(at - jnp.arange(cells)[None, None]))
  return shares * inside[..., None]
