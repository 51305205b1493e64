"""Boxes: overlaps, coders, and the suppression of those that overlap.

A box is four numbers in one of two forms: its corners x0 y0 x1 y1, or its
centre and size x y w h. A width is x1 - x0, or x1 - x0 + 1 where corners are
pixels, as in Detectron and what descends from it: `plus` is then 1, else 0.
"""

import jax
import jax.numpy as jnp
import numpy as np

# In place of a size of 0, whose logarithm would be infinite and its gradient no
# number. A smooth L1 loss has the slope 1 there, as at infinity.
_LEAST = np.float32(np.finfo(np.float32).tiny)


def centred(boxes: jax.Array, *, plus: int = 0) -> jax.Array:
  """Corners [..., 4] -> centre and size [..., 4]."""
  low, high = boxes[..., :2], boxes[..., 2:]
  size = high - low + plus
  if plus:
    return jnp.concatenate([low + 0.5 * size, size], axis=-1)
  return jnp.concatenate([0.5 * (low + high), size], axis=-1)


def corners(boxes: jax.Array, *, plus: int = 0) -> jax.Array:
  """Centre and size [..., 4] -> corners [..., 4]."""
  centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
  return jnp.concatenate([centre - half, centre + half - plus], axis=-1)


def iou(a: jax.Array, b: jax.Array, *, plus: int = 0) -> jax.Array:
  """Overlap of every pair of corners [..., N, 4], [..., M, 4] -> [..., N, M].

  It is the area that both cover over the area that either does. Two boxes
  without area have an overlap of 0.
  """
  low = jnp.maximum(a[..., :, None, :2], b[..., None, :, :2])
  high = jnp.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
  both = jnp.prod(jnp.maximum(high - low + plus, 0), axis=-1)
  either = area(a, plus=plus)[..., :, None] + area(b, plus=plus)[..., None, :]
  either -= both
  return jnp.where(either != 0, both / jnp.where(either != 0, either, 1), 0)


def area(boxes: jax.Array, *, plus: int = 0) -> jax.Array:
  """Areas [...] of corners [..., 4]."""
  return jnp.prod(boxes[..., 2:] - boxes[..., :2] + plus, axis=-1)


def encode(
  boxes: jax.Array, anchors: jax.Array, scale: tuple[float, float]
) -> jax.Array:
  """Differences [..., 4] of boxes from anchors, both as centre and size.

  Of centres it is in sizes of the anchor, of sizes the logarithm of the ratio;
  each is multiplied by its scale. A size of 0 counts as the least above it.
  """
  of_centres, of_sizes = scale
  offset = boxes[..., :2] - anchors[..., :2]
  ratio = jnp.maximum(boxes[..., 2:], _LEAST) / anchors[..., 2:]
  return jnp.concatenate(
    [
      of_centres * offset / anchors[..., 2:],
      of_sizes * jnp.log(jnp.maximum(ratio, _LEAST)),
    ],
    axis=-1,
  )


def decode(
  found: jax.Array,
  anchors: jax.Array,
  scale: tuple[float, float],
  *,
  most: float | None = None,
) -> jax.Array:
  """The inverse of `encode`: differences [..., 4] -> centre and size [..., 4].

  `most` bounds the logarithm of a ratio of sizes.
  """
  of_centres, of_sizes = scale
  offset, logs = found[..., :2] / of_centres, found[..., 2:] / of_sizes
  if most is not None:
    logs = jnp.minimum(logs, most)
  sizes = anchors[..., 2:]
  return jnp.concatenate(
    [offset * sizes + anchors[..., :2], jnp.exp(logs) * sizes], axis=-1
  )


def smooth_l1(difference: jax.Array, *, beta: float = 1.0) -> jax.Array:
  """A square up to `beta`, then a line of slope 1."""
  size = jnp.abs(difference)
  # The square of a large difference might overflow, and its gradient with it.
  square = 0.5 / beta * jnp.square(jnp.minimum(size, beta))
  return square + jnp.maximum(size - beta, 0.0)


def nms(
  boxes: jax.Array,
  valid: jax.Array,
  *,
  threshold: float,
  inclusive: bool = False,
  plus: int = 0,
) -> jax.Array:
  """Non-maximum suppression of N boxes -> those that are kept, bool [N].

  Args:
    boxes: corners [N, 4], the most important first.
    valid: bool [N]; others are neither kept nor exclude any.
    threshold: a kept box excludes later ones whose overlap with it is larger.
    inclusive: also those whose overlap is the threshold.
    plus: see above.
  """
  overlap = iou(boxes, boxes, plus=plus)
  excludes = overlap >= threshold if inclusive else overlap > threshold
  return greedy(excludes, valid)


def greedy(excludes: jax.Array, valid: jax.Array) -> jax.Array:
  """The choice of a greedy pass over N, where a chosen i `excludes[i, j]`.

  A later one is chosen unless one that was chosen before excludes it. The pass
  has N steps in a row; this repeats all of them at once until none changes,
  which gives the same after as many rounds as one exclusion undoes another in a
  chain: a few, as a rule. [N, N] and [N] bool -> [N] bool.
  """
  places = jnp.arange(len(valid))
  before = (places[:, None] < places[None]) & excludes

  def again(state):
    kept, _ = state
    new = valid & ~jnp.any(before & kept[:, None], axis=0)
    return new, jnp.any(new != kept)

  start = valid, jnp.any(valid)
  return jax.lax.while_loop(lambda state: state[1], again, start)[0]
