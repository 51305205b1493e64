"""Writes small cases as KiTS19 hands them out, and data sets of such cases."""

import os

import nibabel
import numpy as np

from input_pipelines.kits19 import prepare
from input_pipelines.writing import recipe, writer

NAME = 'cases'
SIDE = 8  # voxels of an axis, at least


def random(
  seed: int, shape=(7, 12, 11), spacing=(2.0, 1.0, 1.25)
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
  """Image int16, label uint8 with two pieces of each class, and spacing."""
  rng = np.random.default_rng(seed)
  image = rng.integers(-300, 500, shape).astype(np.int16)
  label = np.zeros(shape, np.uint8)
  half = shape[2] // 2
  for number, depth in ((1, 1), (2, 4)):
    label[depth : depth + 2, 2:5, 1 : 1 + number] = number
    label[depth : depth + 2, 6:8, half : half + 3] = number
  return image, label, spacing


def write_case(folder, name, image, label, spacing) -> prepare.Case:
  """Writes the two files of a case."""
  place = os.path.join(folder, name)
  os.makedirs(place)
  paths = [os.path.join(place, file) for file in prepare.FILES]
  affine = np.diag([*spacing, 1.0])
  for path, array in zip(paths, (image, label), strict=True):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
  return prepare.Case(name, *paths)


def write(data_dir, *, train: int, validation: int, side: int = SIDE) -> str:
  """Writes a data set of random cases; returns its directory."""
  directory = recipe.place(str(data_dir), NAME, prepare.VERSION)
  cases = []
  with writer.begin(directory, {'recipe': NAME}) as unfinished:
    for number in range(train + validation):
      shape = (5 + number % 4, 10 + number % 3, 12)
      cases.append(
        write_case(
          unfinished.path('nifti'),
          prepare.name_of(number),
          *random(number, shape),
        )
      )
    return prepare.write(
      unfinished,
      {'train': cases[:train], 'validation': cases[train:]},
      prepare.Preparation(side=side),
      name=NAME,
      description='Random cases.',
      md5={},
      order=recipe.Order(str(data_dir), ''),
    )
