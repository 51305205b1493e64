"""Anchors: the boxes that detectors start from, laid over feature maps."""

from collections.abc import Sequence
import itertools
import math

import numpy as np


def default_boxes(
  cells: Sequence[int],
  *,
  image: float,
  steps: Sequence[float],
  scales: Sequence[float],
  ratios: Sequence[Sequence[float]],
) -> np.ndarray:
  """SSD's default boxes -> centre and size in images, float32 [A, 4].

  The order is map, shape, row, column. A map has a square of its scale, one of
  the geometric mean of its scale and the next, and two boxes of each ratio, the
  wide one first. All numbers are cut off at 0 and 1.

  Args:
    cells: of a side of each map.
    image: pixels of a side of the image.
    steps: pixels from one cell to the next, of each map.
    scales: pixels of a side, of each map and one more.
    ratios: width over height, of each map.
  """
  found = []
  for number, (side, step) in enumerate(zip(cells, steps, strict=True)):
    scale, following = (s / image for s in scales[number : number + 2])
    mean = math.sqrt(scale * following)
    shapes = [(scale, scale), (mean, mean)]
    for ratio in ratios[number]:
      long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
      shapes += [(long, short), (short, long)]
    a_side = image / step
    for width, height in shapes:
      for row, column in itertools.product(range(side), repeat=2):
        x, y = (column + 0.5) / a_side, (row + 0.5) / a_side
        found.append((x, y, width, height))
  return np.clip(np.asarray(found, np.float32), 0, 1)


def pixel_anchors(
  cells: tuple[int, int], *, stride: int, size: float, ratios: Sequence[float]
) -> np.ndarray:
  """Detectron's anchors of one level -> corners in pixels, float32 [A, 4].

  The order is row, column, ratio. Corners are pixels, so a width is x1 - x0 + 1
  (`plus=1` in `boxes`). Shapes are rounded at the size of a stride and scaled
  up afterwards. They reach beyond the image.

  Args:
    cells: rows and columns of the map.
    stride: pixels from one cell to the next.
    size: pixels of a side of the square one.
    ratios: height over width.
  """
  centre = (stride - 1) / 2
  shapes = []
  for ratio in ratios:
    width = np.round(math.sqrt(stride**2 / ratio))
    height = np.round(width * ratio)
    half = (np.array([width, height]) * (size / stride) - 1) / 2
    shapes.append(np.concatenate([centre - half, centre + half]))
  rows, columns = (stride * np.arange(count) for count in cells)
  y, x = np.meshgrid(rows, columns, indexing='ij')
  shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
  return (shifts + np.stack(shapes)).reshape(-1, 4).astype(np.float32)
