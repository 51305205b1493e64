"""Reads COCO's annotations: a file of JSON for all images of a split."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Thing:
  """An object in an image, or a crowd of objects."""

  id: int
  label: int  # from 0, in the order of the categories
  box: tuple[float, float, float, float]  # x y width height, pixels
  area: float  # pixels
  crowd: bool
  polygons: Sequence[np.ndarray]  # float64, x y x y ..., each; () with runs
  # Lengths of runs outside and inside, column by column; empty with polygons.
  runs: np.ndarray  # float64


@dataclasses.dataclass(frozen=True)
class Image:
  """An image and what is in it, in the order of the file."""

  id: int
  file_name: str
  height: int
  width: int
  things: Sequence[Thing]

  @property
  def wide(self) -> bool:
    """True for an image that is wider than it is high."""
    return self.width > self.height


@dataclasses.dataclass(frozen=True)
class Annotations:
  """All images of a split.

  Those with something in them come first, and of these and of the others the
  wide ones.
  """

  images: Sequence[Image]
  categories: Sequence[str]

  @property
  def with_objects(self) -> int:
    """Number of images with an object or more."""
    return sum(bool(image.things) for image in self.images)

  def wide(self, *, filled: bool) -> int:
    """Number of wide images with an object or more, or of those without."""
    return sum(i.wide and bool(i.things) == filled for i in self.images)

  @property
  def most_objects(self) -> int:
    """Objects of the image that has most."""
    return max((len(image.things) for image in self.images), default=0)


def parse(data: bytes) -> Annotations:
  """Reads such a file; ValueError names what is wrong in it."""
  try:
    found = json.loads(data)
    labels = {each['id']: n for n, each in enumerate(found['categories'])}
    images = {each['id']: each for each in found['images']}
    if len(images) != len(found['images']):
      raise ValueError('two images of one id')
    things: dict[int, list[Thing]] = {number: [] for number in images}
    for each in found['annotations']:
      image = images.get(each['image_id'])
      if image is None:
        raise ValueError(f'object {each["id"]} of no image')
      things[image['id']].append(_thing(each, image, labels))
    names = [each['name'] for each in found['categories']]
    everything = [
      Image(
        id=number,
        file_name=each['file_name'],
        height=int(each['height']),
        width=int(each['width']),
        things=tuple(things[number]),
      )
      for number, each in images.items()
    ]
  except (ValueError, KeyError, TypeError, IndexError) as error:
    raise ValueError(f"Expected COCO's annotations, got {error!r}.") from error
  # Sorting keeps the order of the file otherwise.
  everything.sort(key=lambda image: (not image.things, not image.wide))
  return Annotations(tuple(everything), tuple(names))


def _thing(
  each: Mapping[str, Any], image: Mapping[str, Any], labels: Mapping[int, int]
) -> Thing:
  segment, polygons, runs = each['segmentation'], (), np.zeros(0)
  if isinstance(segment, Mapping):
    # A text would be runs in a packed form, which COCO 2017 has not.
    runs = np.asarray(segment['counts'], np.float64)
    pixels = image['height'] * image['width']
    if runs.sum() != pixels:
      raise ValueError(f'object {each["id"]}: not the runs of {pixels} pixels')
  else:
    polygons = tuple(np.asarray(piece, np.float64) for piece in segment)
  box = tuple(map(float, each['bbox']))
  if len(box) != 4 or not np.isfinite(box).all():
    raise ValueError(f'object {each["id"]}: a box {box}')
  return Thing(
    id=each['id'],
    label=labels[each['category_id']],
    box=box,
    area=float(each['area']),
    crowd=bool(each['iscrowd']),
    polygons=polygons,
    runs=runs,
  )
