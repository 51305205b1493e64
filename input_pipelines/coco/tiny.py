"""Scenes of shapes with COCO's schema: a small COCO.

Discs, squares, triangles, rings and crosses lie on a ground of blotches and
noise, at any angle, some squeezed. Later ones hide parts of earlier ones, and
what can be seen is the object. Their sides are from a twentieth to half of the
image's. Few images have nothing in them, some are crowded, and some hold a
crowd: a cluster of specks that is annotated as one, as COCO has it.

The scenes are written as zip files like the official ones, and prepared as COCO
is.
"""

import dataclasses
import json
import os
from typing import Any
import zipfile

import cv2
import numpy as np
import simplejpeg

from input_pipelines.coco import prepare, read
from input_pipelines.writing import recipe

NAME = 'scenes'
VERSION = prepare.VERSION
IMAGES = {'train': 1600, 'validation': 100}
WITH_OBJECTS = {'train': 1559, 'validation': 96}
SHAPES = ('disc', 'square', 'triangle', 'ring', 'cross')

_SEED = 0
_SIDES = (96, 128)  # pixels of an image
_SIZES = (7, 48)  # pixels of an object
_COUNTS, _CROWDED = (1, 5), (6, 10)  # objects
_EMPTY_SHARE, _CROWDED_SHARE, _CROWD_SHARE = 0.03, 0.08, 0.04  # of images
_HIDDEN = 0.5  # share of an object that others hide, at most
_LEAST = 25  # pixels of an object that are seen
_FINER = 4  # outlines lie on a grid so many times as fine as the pixels'
_QUALITY = 95
_SHARDS = 4


@dataclasses.dataclass(frozen=True)
class Shape:
  """The part of an object that is seen."""

  label: int
  mask: np.ndarray  # bool [H, W]
  crowd: bool = False


def build(
  data_dir: str | os.PathLike, *, images: dict[str, int] | None = None
) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.
    images: split -> images, where they are to be others.

  Returns:
    The data set's own directory, `<data_dir>/scenes/<version>`.
  """
  with recipe.generated(data_dir, NAME, VERSION) as (
    unfinished,
    order,
  ):
    folder = unfinished.path('zips')
    os.makedirs(folder, exist_ok=True)
    return prepare.write(
      unfinished,
      {
        split: write_split(folder, split, count)
        for split, count in (images or IMAGES).items()
      },
      name=NAME,
      description='Generated scenes of five shapes.',
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  read.verify(
    directory,
    images=IMAGES,
    with_objects=WITH_OBJECTS,
    classes=len(SHAPES),
  )


def write_split(folder: str, split: str, count: int) -> prepare.Source:
  """Writes a split as a zip of images and one of annotations."""
  images, things = [], []
  member = f'annotations/instances_{split}.json'
  paths = [os.path.join(folder, f'{split}{end}.zip') for end in ('', '_labels')]
  with zipfile.ZipFile(paths[0], 'w') as archive:
    for number in range(count):
      pixels, shapes = scene(np.random.default_rng((_SEED, len(split), number)))
      height, width = pixels.shape[:2]
      name = f'{number + 1:012d}.jpg'
      jpeg = simplejpeg.encode_jpeg(pixels, _QUALITY, 'RGB', '444')
      archive.writestr(f'{split}/{name}', jpeg)
      images.append(
        {'id': number + 1, 'file_name': name, 'height': height, 'width': width}
      )
      for shape in shapes:
        things.append(_annotation(len(things) + 1, number + 1, shape))
  # As in COCO, numbers of categories have gaps.
  categories = [{'id': 1 + 2 * n, 'name': s} for n, s in enumerate(SHAPES)]
  text = json.dumps(
    {'images': images, 'annotations': things, 'categories': categories}
  )
  with zipfile.ZipFile(paths[1], 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(member, text)
  return prepare.Source(*paths, member, shards=min(_SHARDS, count))


def scene(rng: np.random.Generator) -> tuple[np.ndarray, list[Shape]]:
  """An image uint8 [H, W, 3] and the shapes in it, from back to front."""
  kind = rng.random()
  size = tuple(int(n) for n in rng.integers(*_SIDES, 2, endpoint=True))
  image = ground(rng, size)
  shapes: list[Shape] = []
  if kind < _EMPTY_SHARE:
    return noisy(rng, image), shapes
  crowded = kind < _EMPTY_SHARE + _CROWDED_SHARE
  count = rng.integers(*(_CROWDED if crowded else _COUNTS), endpoint=True)
  if kind > 1 - _CROWD_SHARE:
    shapes.append(_cluster(rng, image))
  while not shapes or len(shapes) < count:
    label = int(rng.integers(len(SHAPES)))
    most = _SIZES[1] / (2 if crowded else 1)
    # Small ones are as many as large ones, by ratio.
    side = _SIZES[0] * (most / _SIZES[0]) ** rng.random()
    mask = drawn(rng, SHAPES[label], side, size)
    left = [each.mask & ~mask for each in shapes]
    hidden = any(
      part.sum() < max(_LEAST, (1 - _HIDDEN) * each.mask.sum())
      for part, each in zip(left, shapes, strict=True)
    )
    if hidden or mask.sum() < _LEAST:
      count -= 1  # there is no room
      continue
    shapes = [
      dataclasses.replace(each, mask=part)
      for each, part in zip(shapes, left, strict=True)
    ]
    shapes.append(Shape(label, mask))
    image[mask] = rng.uniform(0, 255, 3)
  return noisy(rng, image), shapes


def drawn(
  rng: np.random.Generator, shape: str, side: float, size: tuple[int, int]
) -> np.ndarray:
  """A mask bool [H, W] of a shape somewhere in the image, turned, squeezed."""
  half = side / 2
  x, y = (
    float(rng.uniform(min(half, n / 2), max(n - half, n / 2)))
    for n in size[::-1]
  )
  turn, squeeze = rng.uniform(-0.5, 0.5), rng.uniform(0.6, 1.0)
  # Nothing is drawn further away than half the diagonal of the shape.
  window = tuple(
    slice(max(0, int(at - 1.4 * half)), min(n, int(at + 1.4 * half) + 2))
    for at, n in zip((y, x), size, strict=True)
  )
  rows, columns = np.mgrid[window] + 0.5
  dx, dy = (columns - x) / half, (rows - y) / half
  u = dx * np.cos(turn) - dy * np.sin(turn)
  v = (dx * np.sin(turn) + dy * np.cos(turn)) / squeeze
  mask = np.zeros(size, bool)
  mask[window] = _inside(shape, u, v)
  return mask


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Mask of the places u, v, in halves of a side, that a shape covers."""
  radius, far = np.hypot(u, v), np.maximum(np.abs(u), np.abs(v))
  if shape == 'disc':
    return radius < 0.95
  if shape == 'square':
    return far < 0.75
  if shape == 'triangle':
    return (v > -0.7) & (v < 2.2 * (0.45 - np.abs(u)) + 0.35)
  if shape == 'ring':
    return (radius < 0.95) & (radius > 0.5)
  return (np.minimum(np.abs(u), np.abs(v)) < 0.3) & (far < 0.9)


def runs(mask: np.ndarray) -> list[int]:
  """Lengths of runs outside and inside, column by column, as in COCO."""
  flat = np.concatenate([[False], mask.T.reshape(-1)])
  ends = np.flatnonzero(np.diff(flat))
  return np.diff(np.concatenate([[0], ends, [mask.size]])).tolist()


def polygons(mask: np.ndarray) -> list[list[float]]:
  """Outlines of the pieces of a mask, x y x y ... each."""
  rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
  first = np.array([columns[0], rows[0]])
  part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
  fine = cv2.resize(
    part.astype(np.uint8), None, fx=_FINER, fy=_FINER,
    interpolation=cv2.INTER_NEAREST,
  )  # fmt: skip
  found, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
  return [
    ((each.reshape(-1, 2) + 0.5) / _FINER + first).reshape(-1).tolist()
    for each in found
    if len(each) > 2
  ]


def _annotation(number: int, image: int, shape: Shape) -> dict[str, Any]:
  rows, columns = (np.flatnonzero(shape.mask.any(axis)) for axis in (1, 0))
  outline: Any = polygons(shape.mask)
  # Polygons have no holes.
  if shape.crowd or SHAPES[shape.label] == 'ring':
    outline = {'counts': runs(shape.mask), 'size': list(shape.mask.shape)}
  x, y = int(columns[0]), int(rows[0])
  return {
    'id': number,
    'image_id': image,
    'category_id': 1 + 2 * shape.label,
    'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
    'area': float(shape.mask.sum()),
    'iscrowd': int(shape.crowd),
    'segmentation': outline,
  }


def single(
  rng: np.random.Generator,
  *,
  rows: int = 48,
  side: int = 48,
  sizes: tuple[float, float] = (12, 40),
) -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 [rows, side, side, 3] of one shape each, and labels [rows].

  Shapes have `sizes` pixels a side. They are what backbones are trained with
  that detectors start from.
  """
  labels = rng.integers(0, len(SHAPES), rows)
  images = []
  for label in labels:
    image = ground(rng, (side, side))
    mask = drawn(rng, SHAPES[label], rng.uniform(*sizes), (side, side))
    image[mask] = rng.uniform(0, 255, 3)
    images.append(noisy(rng, image))
  return np.stack(images), labels.astype(np.int32)


def ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
  """Blotches of six by six colours, float32 [H, W, 3]."""
  blotches = rng.uniform(0, 0.6 * 255, (6, 6, 3)).astype(np.float32)
  return cv2.resize(blotches, size[::-1], interpolation=cv2.INTER_LINEAR)


def _cluster(rng: np.random.Generator, image: np.ndarray) -> Shape:
  """Paints specks close together -> the crowd."""
  size = image.shape[:2]
  label = int(rng.integers(len(SHAPES)))
  centre = [rng.uniform(0.25, 0.75) * n for n in size]
  whole = np.zeros(size, bool)
  for _ in range(rng.integers(10, 16)):
    speck = drawn(rng, SHAPES[label], rng.uniform(5, 8), (16, 16))
    y, x = (
      int(np.clip(c + rng.normal(0, 7) - 8, 0, n - 16))
      for c, n in zip(centre, size, strict=True)
    )
    image[y : y + 16, x : x + 16][speck] = rng.uniform(0, 255, 3)
    whole[y : y + 16, x : x + 16] |= speck
  return Shape(label, whole, crowd=True)


def noisy(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """An image with noise in each of its numbers: uint8 [H, W, 3]."""
  noise = rng.normal(0, 20, image.shape).astype(np.float32)
  return np.clip(image + noise, 0, 255).astype(np.uint8)


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='1700 made-up scenes of five shapes, as COCO 2017',
    licence='none needed; it is generated',
    bytes=25_000_000,
    splits=IMAGES,
    verify=verify,
    check=prepare.check,
    build=lambda order: build(order.data_dir),
  ),
)
