"""RoIAlign: a fixed grid of features for each box, from maps of several sizes.

As Detectron has it: cells of a map begin where their pixels do, without a shift
by half of one, a box is x1 - x0 wide, and at least a cell.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp
import numpy as np

from models.parts import boxes as boxes_lib

_EPSILON = 1e-6  # in the logarithm of a size


def levels(
  boxes: jax.Array, *, count: int, finest: int, size: float, level: int
) -> jax.Array:
  """The map of each box, corners in pixels [..., 4] -> int32 [...], from 0.

  Args:
    boxes: whose corners are pixels (`plus=1` in `boxes`).
    count: number of maps.
    finest: the level of the first of them: its stride is 2 to the power of it.
    size: pixels of a side of a square that has the map of `level`.
    level: see above.
  """
  side = jnp.sqrt(boxes_lib.area(boxes, plus=1))
  found = jnp.floor(level + jnp.log2(side / size + _EPSILON)) - finest
  return jnp.clip(found, 0, count - 1).astype(jnp.int32)


def pool(
  maps: Sequence[jax.Array],
  boxes: jax.Array,
  level: jax.Array,
  *,
  finest: int,
  side: int,
  samples: int,
) -> jax.Array:
  """Features of boxes, each from one map -> [N, R, side, side, C].

  A cell is the mean of `samples` times `samples` places, each interpolated
  between four cells of the map. Places more than a cell outside count as 0.

  Args:
    maps: [N, H, W, C] each, the finest first; each half as fine as the one
      before.
    boxes: corners in pixels [N, R, 4].
    level: the map of each box, int32 [N, R].
    finest: see `levels`.
    side: cells of a side of the grid.
    samples: places of a side of a cell.
  """
  shapes = np.array([each.shape[1:3] for each in maps])
  begins = np.cumsum([0, *(math.prod(shape) for shape in shapes[:-1])])
  # One array of the cells of all maps, so that a gather finds any box's.
  cells = jnp.concatenate(
    [each.reshape(len(each), -1, each.shape[-1]) for each in maps], axis=1
  )
  height, width = (jnp.asarray(n, jnp.int32)[level] for n in shapes.T)
  begin = jnp.asarray(begins, jnp.int32)[level]
  scale = jnp.exp2(-(finest + level.astype(boxes.dtype)))
  x, y = (
    _places(boxes[..., i] * scale, boxes[..., i + 2] * scale, side * samples)
    for i in (0, 1)
  )
  rows, columns = _between(y, height), _between(x, width)

  def each(cells, begin, width, rows, columns):
    total = 0.0
    for row, of_row in rows:
      for column, of_column in columns:
        index = (begin + row * width[:, None])[:, :, None] + column[:, None]
        share = of_row[:, :, None] * of_column[:, None]
        found = cells.at[index].get(mode='promise_in_bounds')
        total = total + share.astype(found.dtype)[..., None] * found
    return total

  found = jax.vmap(each)(cells, begin[..., None], width, rows, columns)
  shape = (*boxes.shape[:2], side, samples, side, samples, cells.shape[-1])
  return found.reshape(shape).mean(axis=(3, 5))


def _places(low: jax.Array, high: jax.Array, count: int) -> jax.Array:
  """The middles of so many equal parts [..., count] of at least a cell."""
  size = jnp.maximum(high - low, 1.0)[..., None]
  steps = (np.arange(count, dtype=np.float32) + 0.5) / count
  return low[..., None] + size * steps.reshape((1,) * low.ndim + (count,))


def _between(places: jax.Array, cells: jax.Array):
  """Two cells around each place [N, R, S], and how much of each it has.

  `cells` [N, R] are those of a side of the map.
  """
  most = cells[..., None] - 1
  inside = (places >= -1) & (places <= cells[..., None])
  places = jnp.clip(places, 0, most)
  low = jnp.floor(places).astype(jnp.int32)
  share = places - low
  counts = inside.astype(places.dtype)
  return (
    (low, (1 - share) * counts),
    (jnp.minimum(low + 1, most), share * counts),
  )
