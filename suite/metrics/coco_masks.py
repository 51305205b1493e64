"""Masks of detections in their images, in the runs that COCO compares."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
from faster_coco_eval.core import mask as coco_mask
import numpy as np

_THRESHOLD = 0.5
_AROUND = 1  # cells of zeros around a mask, so that it can end within its box


def pasted(
  mask: np.ndarray, box: Sequence[float], size: tuple[int, int]
) -> Mapping[str, Any]:
  """A mask in its image, in runs.

  With the reference's roundings: paste_mask_in_image of its mask head.

  Args:
    mask: shares float32 [S, S].
    box: corners in pixels x0 y0 x1 y1.
    size: height and width of the image.
  """
  side = mask.shape[0] + 2 * _AROUND
  x0, y0, x1, y1 = _grown(np.asarray(box, np.float32), side / mask.shape[0])
  width, height = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
  whole = np.zeros(size, np.uint8, order='F')
  left, top = max(x0, 0), max(y0, 0)
  right, bottom = min(x1 + 1, size[1]), min(y1 + 1, size[0])
  if right > left and bottom > top:
    resized = cv2.resize(
      np.pad(mask.astype(np.float32), _AROUND), (width, height)
    )
    part = resized[top - y0 : bottom - y0, left - x0 : right - x0]
    whole[top:bottom, left:right] = part > _THRESHOLD
  return coco_mask.encode(whole)


def _grown(box: np.ndarray, factor: float) -> list[int]:
  """Corners of a box that is so many times as large, without fractions."""
  half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(factor)
  centre = (box[2:] + box[:2]) * np.float32(0.5)
  return np.concatenate([centre - half, centre + half]).astype(int).tolist()
