"""Resamples volumes as PyTorch's `interpolate` does, a plane at a time.

The images are trilinear with aligned corners, the labels nearest. Places and
weights are float32 there, so they are here, and so is the order of rounding.
"""

import numpy as np


def trilinear(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """float32 [D, H, W] -> float32 of another shape, corners on corners."""
  result = np.empty(shape, np.float32)
  first, second, weight = _between(volume.shape[0], shape[0])
  planes = {}  # of the input, resampled; two are needed at a time
  for i, (low, high) in enumerate(zip(first, second, strict=True)):
    planes = {
      z: planes[z] if z in planes else _bilinear(volume[z], shape[1:])
      for z in (low, high)
    }
    result[i] = _mix(planes[low], planes[high], weight[i])
  return result


def nearest(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """[D, H, W] -> the same dtype in another shape."""
  places = []
  for size, wanted in zip(volume.shape, shape, strict=True):
    step = np.float32(size) / np.float32(wanted)
    place = np.floor(np.arange(wanted, dtype=np.float32) * step)
    places.append(np.minimum(place.astype(np.int64), size - 1))
  return volume[np.ix_(*places)]


def _bilinear(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  first, second, weight = _between(plane.shape[1], shape[1])
  wide = _mix(plane[:, first], plane[:, second], weight)
  first, second, weight = _between(plane.shape[0], shape[0])
  return _mix(wide[first], wide[second], weight[:, None])


def _between(
  size: int, wanted: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Places on both sides of each wanted one, and the second one's weight."""
  step = np.float32(0)
  if wanted > 1:
    step = np.float32(size - 1) / np.float32(wanted - 1)
  place = np.arange(wanted, dtype=np.float32) * step
  first = np.minimum(place.astype(np.int64), size - 1)
  weight = np.clip(place - first.astype(np.float32), 0, 1)
  return first, np.minimum(first + 1, size - 1), weight


def _mix(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
  """A weighted sum by a fused multiply-add, which rounds the second product."""
  rest = np.float32(1) - weight
  return (np.asarray(low, np.float64) * rest + high * weight).astype(np.float32)
