"""Outlines of objects as masks: polygons or runs, as COCO has them.

Polygons become masks by COCO's own code, whose rule is not that of the middles
of pixels.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from faster_coco_eval.core import mask as coco_mask
import numpy as np


@dataclasses.dataclass(frozen=True)
class Outline:
  """Polygons x y x y ..., or runs outside and inside, column by column."""

  polygons: Sequence[np.ndarray]  # float64, pixels; () with runs
  runs: np.ndarray  # float64; empty with polygons
  size: tuple[int, int]  # height, width of the image

  def segmentation(self) -> Any:
    """The outline as COCO's file of annotations has it."""
    if self.runs.size:
      counts = self.runs.astype(int).tolist()
      return {'counts': counts, 'size': list(self.size)}
    return [each.tolist() for each in self.polygons]

  def frame(self) -> np.ndarray:
    """The rectangle x0 y0 x1 y1 that the object fills, float64 [4]."""
    if not self.runs.size:
      points = np.concatenate(self.polygons).reshape(-1, 2)
      return np.concatenate([points.min(axis=0), points.max(axis=0)])
    mask = self._decoded()
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
      return np.zeros(4)
    return np.array(
      [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64
    )

  def raster(self, frame: np.ndarray, side: int) -> np.ndarray:
    """The part within a rectangle as uint8 [side, side], 0 or 1."""
    low = frame[:2]
    extent = np.maximum(frame[2:] - low, 1.0)
    if self.runs.size:
      middles = (np.arange(side) + 0.5) / side
      columns, rows = (
        np.clip((low[i] + middles * extent[i]).astype(int), 0, most - 1)
        for i, most in enumerate(self.size[::-1])
      )
      return self._decoded()[np.ix_(rows, columns)].astype(np.uint8)
    scaled = [
      ((each.reshape(-1, 2) - low) / extent * side).reshape(-1).tolist()
      for each in self.polygons
    ]
    found = coco_mask.frPyObjects(scaled, side, side)
    return np.asarray(coco_mask.decode(coco_mask.merge(found)), np.uint8)

  def _decoded(self) -> np.ndarray:
    """Runs as a mask, bool [H, W]."""
    counts = self.runs.astype(int)
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(self.size[::-1]).T


def split(
  pieces: np.ndarray,
  sizes: np.ndarray,
  polygons: np.ndarray,
  size: tuple[int, int],
) -> list[Outline]:
  """The outlines of an image from the columns of its record.

  Args:
    pieces: all numbers of polygons and runs.
    sizes: how many each of them has.
    polygons: how many an object has; 0 where it has runs.
    size: height and width of the image.
  """
  parts = np.split(np.asarray(pieces, np.float64), np.cumsum(sizes)[:-1])
  found, first = [], 0
  for count in polygons.tolist():
    mine = parts[first : first + max(count, 1)]
    first += len(mine)
    if count:
      found.append(Outline(tuple(mine), np.zeros(0), size))
    else:
      found.append(Outline((), mine[0], size))
  return found
