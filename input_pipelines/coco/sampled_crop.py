"""SSD's augmentation: a sampled crop, a mirror, colours.

As in utils.py of mlcommons/training, retired_benchmarks/ssd-v1/ssd, step by
step and in its order, with its arithmetic: boxes are float32, images those of
Pillow, whose bilinear resize blurs what it shrinks. Colours are changed as by
torchvision's ColorJitter, with 8 bits after each change.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageEnhance

# A crop must overlap every object more than so much; NONE keeps the image.
_NONE = math.inf
_OVERLAPS = (_NONE, 0.1, 0.3, 0.5, 0.7, 0.9, -math.inf)
_LEAST_SIDE = 0.3  # of a crop, in images
_LEAST_ASPECT, _MOST_ASPECT = 0.5, 2.0  # width over height, both in images


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Constants of the augmentation."""

  max_samples: int  # crops that are tried before another rule is drawn
  flip: float  # chance of a mirror
  brightness: float  # factors are drawn from 1 less this to 1 and this
  contrast: float
  saturation: float
  hue: float  # shifts are drawn from -this to this, in turns


def augment(
  image: Image.Image,
  boxes: np.ndarray,
  labels: np.ndarray,
  rng: np.random.Generator,
  *,
  size: int,
  how: Augmentation,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """An image with boxes float32 [N, 4], corners in images, and labels [N].

  Returns:
    uint8 [size, size, 3], and the boxes and labels that are left.
  """
  box, boxes, labels = crop(boxes, labels, rng, max_samples=how.max_samples)
  if box is not None:
    image = image.crop(pixels_of(box, image.size))
  if rng.random() < how.flip:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    boxes = mirrored(boxes)
  image = image.resize((size, size), Image.Resampling.BILINEAR)
  return np.asarray(coloured(image, rng, how)), boxes, labels


def resized(image: Image.Image, size: int) -> np.ndarray:
  """The whole image as a square: uint8 [size, size, 3]."""
  return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def crop(
  boxes: np.ndarray,
  labels: np.ndarray,
  rng: np.random.Generator,
  *,
  max_samples: int,
) -> tuple[tuple[float, float, float, float] | None, np.ndarray, np.ndarray]:
  """Draws a crop -> left top width height in images, and what it holds.

  A rule is drawn, and up to `max_samples` crops; where none of them will do,
  another rule. Every object must overlap the crop by more than the rule says,
  and those whose centre lies inside are left, cut off at its edges. None is the
  whole image.
  """
  while True:
    overlap = _OVERLAPS[rng.integers(len(_OVERLAPS))]
    if overlap == _NONE:
      return None, boxes, labels
    for _ in range(max_samples):
      width, height = rng.uniform(_LEAST_SIDE, 1.0, 2)
      if not _LEAST_ASPECT <= width / height <= _MOST_ASPECT:
        continue
      left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
      found = (left, top, width, height)
      edges = left, top, left + width, top + height
      if not (_overlaps(boxes, np.float32(edges)) > overlap).all():
        continue
      x, y = (0.5 * (boxes[:, i] + boxes[:, i + 2]) for i in (0, 1))
      inside = (x > left) & (x < edges[2]) & (y > top) & (y < edges[3])
      if inside.any():
        return found, _within(boxes[inside], edges, found), labels[inside]


def pixels_of(
  box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
  """Edges of a crop in pixels, rounded down; `size` is width, height."""
  left, top, width, height = box
  return (
    int(left * size[0]),
    int(top * size[1]),
    int((left + width) * size[0]),
    int((top + height) * size[1]),
  )


def mirrored(boxes: np.ndarray) -> np.ndarray:
  """Boxes of an image that is flipped left to right."""
  return np.stack(
    [1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1
  )


def coloured(
  image: Image.Image, rng: np.random.Generator, how: Augmentation
) -> Image.Image:
  """Changes brightness, contrast, saturation and hue, in a random order."""
  order = rng.permutation(4)
  factors = [
    rng.uniform(1 - most, 1 + most)
    for most in (how.brightness, how.contrast, how.saturation)
  ]
  shift = rng.uniform(-how.hue, how.hue)
  for number in order:
    if number < 3:
      image = (brighter, contrasted, saturated)[number](image, factors[number])
    else:
      image = turned(image, shift)
  return image


def brighter(image: Image.Image, factor: float) -> Image.Image:
  """Blends the image with black."""
  return ImageEnhance.Brightness(image).enhance(factor)


def contrasted(image: Image.Image, factor: float) -> Image.Image:
  """Blends the image with the mean of its grey levels, rounded."""
  return ImageEnhance.Contrast(image).enhance(factor)


def saturated(image: Image.Image, factor: float) -> Image.Image:
  """Blends the image with its grey levels."""
  return ImageEnhance.Color(image).enhance(factor)


def turned(image: Image.Image, turns: float) -> Image.Image:
  """Shifts the hue, of which 256 levels make a turn."""
  hue, *others = image.convert('HSV').split()
  levels = np.asarray(hue) + np.uint8(int(turns * 255) % 256)
  return Image.merge('HSV', (Image.fromarray(levels), *others)).convert('RGB')


def _overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
  """Overlap of each of float32 [N, 4] with one [4]."""
  low = np.maximum(boxes[:, :2], box[:2])
  high = np.minimum(boxes[:, 2:], box[2:])
  both = np.prod(np.maximum(high - low, 0), axis=1)
  areas = [np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, box)]
  return both / (areas[0] + areas[1] - both)


def _within(boxes: np.ndarray, edges, box) -> np.ndarray:
  """Boxes cut off at the edges of a crop, in crops."""
  left, top, width, height = (np.float32(each) for each in box)
  right, bottom = np.float32(edges[2]), np.float32(edges[3])
  low = np.maximum(boxes[:, :2], [left, top])
  high = np.minimum(boxes[:, 2:], [right, bottom])
  shift, scale = np.array([left, top]), np.array([width, height])
  return np.concatenate([(low - shift) / scale, (high - shift) / scale], axis=1)
