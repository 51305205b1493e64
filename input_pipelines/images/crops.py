"""Random crops as the references draw them, a batch at a time.

The random numbers of a row depend on the seed and on the row's position in the
stream, so threads and hosts do not change them: attempt a at position p reads
block p of the Philox stream with key (seed, a), which is four numbers.
"""

import dataclasses

import numpy as np

# Attempts have the keys 0, 1, 2, ... beside the seed; flips this one.
_FLIP = 2**32


@dataclasses.dataclass(frozen=True)
class Crops:
  """Constraints on a crop: the constants of the distorted box."""

  area: tuple[float, float]  # of the image
  aspect: tuple[float, float]  # width / height
  attempts: int
  min_covered: float  # of the object, which is the whole image

  def __post_init__(self):
    if not 0 < self.area[0] <= self.area[1] <= 1:
      raise ValueError(f'Expected 0 < low <= high <= 1, got area {self.area}.')
    if not 0 < self.aspect[0] <= self.aspect[1]:
      raise ValueError(f'Expected 0 < low <= high, got aspect {self.aspect}.')
    if self.attempts < 1 or not 0 <= self.min_covered <= 1:
      raise ValueError(
        'Expected an attempt or more and a part in [0, 1] to cover, got '
        f'{self.attempts} and {self.min_covered}.'
      )

  def draw(self, sizes: np.ndarray, *, seed: int, first: int) -> np.ndarray:
    """One crop an image.

    Args:
      sizes: int [B, 2], height and width of the images.
      seed: of the run.
      first: the position in the stream of the first image; the others follow.

    Returns:
      int64 [B, 4], as y x height width; the whole image where no attempt
      succeeded.
    """
    boxes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    left = np.arange(len(sizes))
    for attempt in range(self.attempts):
      draws = _uniform(seed, attempt, first, len(sizes))[left]
      proposed, accepted = self._propose(sizes[left], draws)
      boxes[left[accepted]] = proposed[accepted]
      left = left[~accepted]
      if not len(left):
        break
    return boxes

  def _propose(self, sizes, draws) -> tuple[np.ndarray, np.ndarray]:
    """One attempt for every image: boxes [B, 4], and which are good [B].

    What is uniform is the aspect and, given that, the height between those of
    the smallest and the largest area; the area itself is not. Arithmetic is in
    single precision and rounds half to even, as in TensorFlow's
    sample_distorted_bounding_box, so that the same boxes can occur.
    """
    height, width = sizes.T.astype(np.float32)
    low, high = np.float32(self.aspect)
    aspect = draws[:, 0].astype(np.float32) * (high - low) + low
    smallest, largest = (np.float32(a) * width * height for a in self.area)

    tallest = _fit(np.rint(np.sqrt(largest / aspect)), aspect, width)
    tallest = np.minimum(tallest, height)
    shortest = np.minimum(np.rint(np.sqrt(smallest / aspect)), tallest)
    h = shortest + np.floor(draws[:, 1] * (tallest - shortest + 1))
    h = h.astype(np.float32)
    w = np.rint(h * aspect)
    # Rounding may have carried the area just out of the range: one pixel more
    # or less may bring it back.
    h += w * h < smallest
    w = np.rint(h * aspect)
    h -= w * h > largest
    w = np.rint(h * aspect)

    area = w * h
    good = (smallest <= area) & (area <= largest) & (area > 0)
    good &= (w <= width) & (h <= height)
    good &= area / (width * height) >= np.float32(self.min_covered)
    # The last possible offset is never drawn, as in the reference.
    y = np.floor(draws[:, 2] * (height - h))
    x = np.floor(draws[:, 3] * (width - w))
    return np.stack([y, x, h, w], axis=1).astype(np.int64), good


def flips(
  rows: int, probability: float, *, seed: int, first: int
) -> np.ndarray:
  """Mask of mirrored rows: bool [rows]."""
  return _uniform(seed, _FLIP, first, rows)[:, 0] < probability


def _fit(h: np.ndarray, aspect: np.ndarray, width: np.ndarray) -> np.ndarray:
  """Lowers heights [B] until the width that follows fits the image's."""
  wide = np.rint(h * aspect) > width
  widest = np.trunc((width + (0.5 - 1e-7)) / aspect.astype(np.float64))
  h = np.where(wide, widest, h).astype(np.float32)
  return h - (np.rint(h * aspect) > width)


def _uniform(seed: int, purpose: int, first: int, rows: int) -> np.ndarray:
  """Numbers in [0, 1) for positions [first, first + rows): [rows, 4]."""
  key = np.array([seed, purpose], np.uint64)
  bits = np.random.Philox(key=key, counter=first).random_raw(4 * rows)
  return (bits >> np.uint64(11)).reshape(rows, 4) * 2.0**-53
