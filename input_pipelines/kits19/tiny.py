"""Volumes of made-up bodies with KiTS19's schema: a small KiTS19.

A body holds two organs, and tumours that sit on them. Elsewhere in the body lie
lumps that are as bright as a tumour, and tubes as bright as an organ which go
through many planes: what a voxel is shows in its surroundings in all three
dimensions, not in its intensity, nor in the plane that it lies in. A plane
through a tube looks like one through an organ, and one through a lump on a tube
like one through a tumour. Everything has noise.

The volumes are written as NIfTI files of different spacings, and prepared as
KiTS19 is.
"""

import os
import shutil

import numpy as np

from input_pipelines.kits19 import prepare as of_kits19
from input_pipelines.kits19 import read
from input_pipelines.writing import recipe

NAME = 'organs'
VERSION = of_kits19.VERSION
VOLUMES = {'train': 32, 'validation': 6}
SIDE = 16  # voxels of an axis, at least, once it is prepared

_SEED = 0
# Intensities in Hounsfield units.
_AIR, _BODY, _TUMOUR, _ORGAN = -400.0, 20.0, 110.0, 190.0
_SPREAD = 12.0  # of the mean intensity of a thing
_NOISE = 20.0
_EDGE = (28, 34)  # voxels of an axis, prepared


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.

  Returns:
    The data set's own directory, `<data_dir>/organs/<version>`.
  """
  with recipe.generated(data_dir, NAME, VERSION) as (unfinished, order):
    folder = unfinished.path('nifti')
    cases, first = {}, 0
    for split, count in VOLUMES.items():
      cases[split] = [
        write_case(folder, number) for number in range(first, first + count)
      ]
      first += count
    return of_kits19.write(
      unfinished,
      cases,
      of_kits19.Preparation(side=SIDE),
      name=NAME,
      description='Generated bodies with organs and tumours.',
      md5={},
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  read.verify(directory, splits=VOLUMES, side=SIDE)


def write_case(folder: str, number: int) -> of_kits19.Case:
  """Writes a case as two NIfTI files."""
  import nibabel

  rng = np.random.default_rng((_SEED, number))
  spacing = (rng.uniform(1.8, 3.2), *2 * (rng.uniform(0.9, 1.5),))
  image, label = body(rng, spacing)
  name = of_kits19.name_of(number)
  place = os.path.join(folder, name)
  shutil.rmtree(place, ignore_errors=True)
  os.makedirs(place)
  paths = []
  affine = np.diag([*spacing, 1.0])
  for file, array in zip(
    of_kits19.FILES, (np.round(image).astype(np.int16), label), strict=True
  ):
    paths.append(os.path.join(place, file))
    nibabel.save(nibabel.Nifti1Image(array, affine), paths[-1])
  return of_kits19.Case(name, *paths)


def body(
  rng: np.random.Generator, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """A body: image in Hounsfield units and label uint8, both [D, H, W]."""
  scale = np.asarray(spacing) / of_kits19.Preparation.spacing
  edge = rng.integers(*_EDGE, 3, endpoint=True)
  shape = np.ceil(edge / scale).astype(int)
  # Places in voxels as they are once the volume is prepared: [D, H, W, 3].
  axes = [
    np.arange(size) * step for size, step in zip(shape, scale, strict=True)
  ]
  grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
  inside = _ellipsoid(grid, edge / 2, edge * 0.48)
  image = np.where(inside, _BODY, _AIR)
  label = np.zeros(shape, np.uint8)

  def paint(where, intensity, number=0):
    image[where] = rng.normal(intensity, _SPREAD)
    label[where] = number

  # Organs lie on two sides, a tube runs between them and one beside.
  sides = rng.permutation([0.28, 0.72])
  for place in (0.5, rng.choice([0.25, 0.75])):
    centre = edge * np.array([0.5, place, 0.5]) + rng.normal(0, 1.5, 3)
    radius = rng.uniform(2.5, 4.0)
    tilt = np.array([1.0, *rng.normal(0, 0.15, 2)])
    paint(_tube(grid, centre, tilt, radius) & inside, _ORGAN)
    along = rng.uniform(0.25, 0.75) * edge[0] - centre[0]
    lump = centre + along * tilt + radius * _direction(rng, flat=True)
    paint(_ellipsoid(grid, lump, rng.uniform(2.0, 3.4, 3)), _TUMOUR)
  for _ in range(2):
    lump = rng.uniform(0.25, 0.75, 3) * edge
    paint(_ellipsoid(grid, lump, rng.uniform(2.0, 3.4, 3)), _TUMOUR)
  for side, tumours in zip(sides, (1, rng.integers(2)), strict=True):
    centre = edge * np.array([rng.uniform(0.4, 0.6), 0.5, side])
    centre += rng.normal(0, 1.0, 3)
    radii = rng.uniform(4.5, 6.5, 3)
    paint(_ellipsoid(grid, centre, radii), _ORGAN, 1)
    for _ in range(tumours):
      lump = centre + 0.8 * radii * _direction(rng)
      paint(_ellipsoid(grid, lump, rng.uniform(2.2, 3.6, 3)), _TUMOUR, 2)
  return image + rng.normal(0, _NOISE, shape), label


def _ellipsoid(grid, centre, radii) -> np.ndarray:
  return np.square((grid - centre) / radii).sum(-1) < 1


def _tube(grid, centre, tilt, radius) -> np.ndarray:
  """Mask of voxels near a line through `centre`; depth is 1 of `tilt`."""
  depth = grid[..., :1] - centre[0]
  return np.square(grid - centre - depth * tilt).sum(-1) < radius**2


def _direction(rng: np.random.Generator, *, flat: bool = False) -> np.ndarray:
  """A random direction, in the plane if it is flat."""
  found = rng.normal(size=3) * (not flat, 1, 1)
  return found / np.linalg.norm(found)


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='38 made-up bodies with organs and tumours, as KiTS19',
    licence='none needed; it is generated',
    bytes=8_000_000,
    splits=VOLUMES,
    verify=verify,
    check=of_kits19.check,
    build=lambda order: build(order.data_dir),
  ),
)
