"""The first step of Mask R-CNN: boxes that may have an object of any class."""

from collections.abc import Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp

from models.parts import boxes as boxes_lib
from models.parts import matching

# A better box is at most so many times as large: of Detectron's coder.
MOST = math.log(1000 / 16)
_CODES = (1.0, 1.0)  # scale of codes, see `boxes.encode`
_SMOOTH = 1 / 9  # where the loss of a code becomes a line


@dataclasses.dataclass(frozen=True)
class Choice:
  """Numbers that proposals are chosen with."""

  before: int  # of a map that are looked at
  of_map: int  # of a map
  of_all: int  # of all maps, of an image or of `span` images together
  overlap: float  # with a better one of its map it has no more


@dataclasses.dataclass(frozen=True)
class Draw:
  """Numbers that anchors or boxes are matched and drawn with."""

  low: float  # below this overlap they have no object
  high: float  # from this on they have one
  count: int  # that are drawn, of an image
  positive: float  # share of them that may have an object


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Proposals:
  """Boxes of each image, padded with the score -1."""

  boxes: jax.Array  # corners in pixels [N, P, 4]
  scores: jax.Array  # [N, P]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
  """Terms of a mean loss: a sum [N], and how many it is over [N]."""

  total: jax.Array
  count: jax.Array

  def mean(self, span: int) -> jax.Array:
    """The mean over `span` images at a time, and of these means: []."""
    total, count = (
      each.reshape(-1, span).sum(axis=1) for each in (self.total, self.count)
    )
    return jnp.mean(total / jnp.maximum(count, 1))


def select(
  logits: Sequence[jax.Array],
  codes: Sequence[jax.Array],
  anchors: Sequence[jax.Array],
  sizes: jax.Array,
  *,
  how: Choice,
  span: int | None = None,
) -> Proposals:
  """The best proposals of each image, none of which overlap on a map.

  Args:
    logits: of each map [N, A].
    codes: of each map [N, A, 4].
    anchors: of each map, corners in pixels [A, 4].
    sizes: height and width of the images without padding, int32 [N, 2].
    how: numbers.
    span: images that share `how.of_all`; None: each has that many.
  """
  parts = [
    jax.vmap(_of_map, (0, 0, None, 0, None))(*each, sizes, how)
    for each in zip(logits, codes, anchors, strict=True)
  ]
  boxes, scores = (
    jnp.concatenate(each, axis=1) for each in zip(*parts, strict=True)
  )
  if span is not None and span > 1:
    together = scores.reshape(-1, span * scores.shape[1])
    _, best = jax.lax.top_k(together, min(how.of_all, together.shape[1]))
    rows = jnp.arange(len(together))[:, None]
    chosen = jnp.zeros(together.shape, bool).at[rows, best].set(True)
    scores = jnp.where(chosen.reshape(scores.shape), scores, -1.0)
  scores, best = jax.lax.top_k(scores, min(how.of_all, scores.shape[1]))
  return Proposals(jnp.take_along_axis(boxes, best[..., None], axis=1), scores)


def clipped(boxes: jax.Array, size: jax.Array) -> jax.Array:
  """Corners [..., 4] within an image of height and width [2]."""
  most = jnp.tile(size[::-1], 2).astype(boxes.dtype) - 1
  return jnp.clip(boxes, 0, most.reshape((1,) * (boxes.ndim - 1) + (4,)))


def draw(
  key: jax.Array, positive: jax.Array, negative: jax.Array, how: Draw
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws of those with an object, up to a share, and fills up with others.

  Args:
    key: of the draw.
    positive: bool [A].
    negative: bool [A].
    how: numbers.

  Returns:
    The places int32 [D], and whether they have an object and whether they count
    at all, bool [D] each. Those with an object are the first ones, and at most
    `most_positive(how)`.
  """
  chance = jax.random.uniform(key, positive.shape)
  count = min(how.count, len(positive))
  most = min(most_positive(how), count)
  best, places = jax.lax.top_k(jnp.where(positive, chance, -1.0), most)
  drawn = jnp.zeros(positive.shape, bool).at[places].set(best >= 0)
  order = jnp.where(drawn, 2 + chance, jnp.where(negative, chance, -1.0))
  order, places = jax.lax.top_k(order, count)
  return places, order >= 2, order >= 0


def most_positive(how: Draw) -> int:
  """The largest number of those with an object."""
  return int(how.count * how.positive)


def losses(
  logits: Sequence[jax.Array],
  codes: Sequence[jax.Array],
  anchors: Sequence[jax.Array],
  *,
  sizes: jax.Array,
  boxes: jax.Array,
  labels: jax.Array,
  keys: jax.Array,
  how: Draw,
) -> tuple[Sums, Sums]:
  """Losses of the logits and of the codes of anchors that are drawn.

  Args:
    logits: as of `select`.
    codes: as of `select`.
    anchors: as of `select`.
    sizes: as of `select`.
    boxes: of objects, corners in pixels [N, M, 4].
    labels: of objects, int32 [N, M]; 0 is padding.
    keys: of the draw of each image [N].
    how: numbers.
  """
  every = jnp.concatenate(anchors)

  def each(logits, codes, size, boxes, labels, key):
    index, positive, negative = targets(every, size, boxes, labels, how)
    places, is_object, counts = draw(key, positive, negative, how)
    logits, of_places = logits[places], codes[places]
    cross = jnp.logaddexp(0.0, logits) - logits * is_object
    wanted = boxes_lib.encode(
      boxes_lib.centred(boxes[index[places]], plus=1),
      boxes_lib.centred(every[places], plus=1),
      _CODES,
    )
    apart = boxes_lib.smooth_l1(of_places - wanted, beta=_SMOOTH).sum(axis=-1)
    sums = (
      jnp.sum(jnp.where(counts, cross, 0.0)),
      jnp.sum(jnp.where(is_object, apart, 0.0)),
    )
    return *sums, counts.sum()

  objects, places, count = jax.vmap(each)(
    jnp.concatenate(logits, axis=1),
    jnp.concatenate(codes, axis=1),
    sizes,
    boxes,
    labels,
    keys,
  )
  return Sums(objects, count), Sums(places, count)


def targets(
  anchors: jax.Array,
  size: jax.Array,
  boxes: jax.Array,
  labels: jax.Array,
  how: Draw,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Objects of anchors [A, 4] of an image: int32 [A], and bool [A] twice.

  Which object an anchor has, and whether it has one, or none. Those that reach
  out of the image, of height and width `size` [2], have neither; an object
  whose best anchor does may be without any.
  """
  overlaps = boxes_lib.iou(boxes, anchors, plus=1)
  found = matching.banded(
    overlaps, labels > 0, low=how.low, high=how.high, keep_best=True
  )
  height, width = size
  inside = (anchors[:, :2] >= 0).all(axis=1)
  inside &= (anchors[:, 2] < width) & (anchors[:, 3] < height)
  return (
    jnp.maximum(found, 0),
    (found >= 0) & inside,
    (found == matching.NEGATIVE) & inside,
  )


def _of_map(logits, codes, anchors, size, how):
  """Boxes [P, 4] and scores [P] of a map of an image; -1 if suppressed."""
  scores, best = jax.lax.top_k(
    jax.nn.sigmoid(logits), min(how.before, len(anchors))
  )
  boxes = boxes_lib.decode(
    codes[best], boxes_lib.centred(anchors[best], plus=1), _CODES, most=MOST
  )
  boxes = clipped(boxes_lib.corners(boxes, plus=1), size)
  kept = boxes_lib.nms(
    boxes, jnp.ones(len(boxes), bool), threshold=how.overlap, plus=1
  )
  kept &= jnp.cumsum(kept) <= how.of_map
  return boxes, jnp.where(kept, scores, -1.0)
