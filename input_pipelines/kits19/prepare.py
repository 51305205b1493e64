"""Prepares KiTS19 as a TFDS data set, from the NIfTI files of its repository.

As in mlcommons/training, retired_benchmarks/unet3d/pytorch
(preprocess_dataset.py): volumes are resampled to one spacing, images are cut
off at two intensities and normalised, and volumes that are too small for a crop
are padded. Image and label of a case become two files of NumPy, named as there
and the same byte for byte, so the MD5 sums that the reference publishes verify
them. A record has the case, its shape, and boxes around the two largest
connected pieces of each class, which the reference finds for each crop anew.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np
from scipy import ndimage

from input_pipelines.kits19 import (
  CASES,
  CLASSES,
  EVAL_CASES,
  NAME,
  VOLUMES,
  read,
  resample,
)
from input_pipelines.reading import batching, mapped
from input_pipelines.writing import recipe, work, writer

VERSION = '1.0.0'
FILES = ('imaging.nii.gz', 'segmentation.nii.gz')
BYTES = 31_000_000_000
BOXES = 2  # of a class, at most

_MOST_THREADS = 4  # each holds a volume, up to 3 GB

HOW_TO = """\
KiTS19 may be used under CC BY-NC-SA 4.0.
  1. Clone https://github.com/neheller/kits19 below {downloads}
     and run its starter_code.get_imaging, which fetches the images, 30 GB.
     There are then case_00000 to case_00209, each with imaging.nii.gz and
     segmentation.nii.gz.
  2. Run this command again: it finds the cases and writes the data set."""


@dataclasses.dataclass(frozen=True)
class Preparation:
  """Constants of the reference's preprocess_dataset.py."""

  spacing: tuple[float, float, float] = (1.6, 1.2, 1.2)  # mm, as D, H, W
  least: float = -79.0  # intensities, in Hounsfield units
  most: float = 304.0
  mean: float = 101.0
  deviation: float = 76.9
  side: int = 128  # voxels of an axis, at least


@dataclasses.dataclass(frozen=True)
class Case:
  """A case as its publisher hands it out."""

  name: str
  image: str  # path
  label: str


def build(order: recipe.Order, *, md5: Mapping[str, str] | None = None) -> str:
  """Writes the data set from the NIfTI files; returns its directory.

  Args:
    order: where the files are, where the data set goes, and how.
    md5: file -> its checksum; by default those that the reference publishes.
  """
  cases = find(order)
  directory = recipe.place(order.data_dir, NAME, VERSION)
  made = {
    'recipe': NAME,
    'source': {'cases': len(cases)},
    'options': {'check_downloads': order.check_downloads},
    'versions': recipe.versions(),
  }
  with writer.begin(directory, made) as unfinished:
    unfinished.require_space(BYTES)
    held_out = {name_of(number) for number in EVAL_CASES}
    return write(
      unfinished,
      {
        'train': [case for case in cases if case.name not in held_out],
        'validation': [case for case in cases if case.name in held_out],
      },
      Preparation(),
      name=NAME,
      description='KiTS19, resampled to 1.6 x 1.2 x 1.2 mm and normalised.',
      md5=(published() if md5 is None else md5)
      if order.check_downloads
      else {},
      order=order,
    )


def name_of(number: int) -> str:
  """Name of a case: case_00042."""
  return f'case_{number:05d}'


@functools.cache
def published() -> Mapping[str, str]:
  """MD5 sums of the prepared files, by name, from the reference."""
  path = os.path.join(os.path.dirname(__file__), 'md5.txt')
  with open(path, encoding='utf-8') as file:
    return {name: digest for digest, name in map(str.split, file)}


def find(order: recipe.Order) -> list[Case]:
  """All cases, in order; FileNotFoundError names missing ones."""
  places = {}
  for folder, _, names in os.walk(os.path.expanduser(order.downloads)):
    if {*FILES} <= {*names}:
      places.setdefault(os.path.basename(folder), folder)
  wanted = [name_of(number) for number in range(CASES)]
  missing = [name for name in wanted if name not in places]
  if missing:
    raise FileNotFoundError(
      f'Expected {" and ".join(FILES)} of {CASES} cases below '
      f'{order.downloads}, found none of {len(missing)}, as {missing[0]}.'
    )
  return [
    Case(name, *(os.path.join(places[name], file) for file in FILES))
    for name in wanted
  ]


def write(
  unfinished: writer.Unfinished,
  splits: Mapping[str, Sequence[Case]],
  how: Preparation,
  *,
  name: str,
  description: str,
  md5: Mapping[str, str],
  order: recipe.Order,
) -> str:
  """Prepares cases and writes the data set; returns its directory.

  Cases that are prepared already are kept. A file of labels must have its MD5
  sum, where there is one. An image is rounded as the machine rounds, so the
  manifest says how many are what the reference published.
  """
  cases = [case for each in splits.values() for case in each]
  facts = dict(
    work.each(
      lambda case, tick: _prepare(unfinished, case, how, md5, tick),
      cases,
      whole=len(cases),
      threads=order.threads or min(batching.cores(), _MOST_THREADS),
      progress=order.stage('Preparing', 'cases'),
    )
  )

  def split(name: str, cases: Sequence[Case]) -> writer.Split:
    def example(record: int) -> writer.Example:
      case = cases[record].name
      found = facts[case]
      return {'case': case, 'shape': found['shape'], 'boxes': found['boxes']}

    return writer.Split(name, len(cases), 1, example)

  shapes = {
    name: [facts[case.name]['shape'] for case in each]
    for name, each in splits.items()
  }
  images = [name for name in md5 if name.endswith(f'_{read.IMAGE}.npy')]
  same = [
    name for each in facts.values() for name in each['same'] if name in images
  ]
  return writer.write(
    unfinished,
    writer.info(
      unfinished.directory,
      name=name,
      version=VERSION,
      description=description,
      module=__name__,
      features=read.FEATURES,
      facts={read.SHAPES: shapes, read.SIDE: how.side},
    ),
    [split(name, each) for name, each in splits.items()],
    notes={
      'source': {name: each['source'] for name, each in facts.items()},
      'images_as_published': f'{len(same)} of {len(images)}',
    },
    threads=order.threads,
    progress=order.stage('Writing', 'records'),
  )


def prepared(
  image: np.ndarray,
  label: np.ndarray,
  spacing: Sequence[float],
  how: Preparation,
) -> tuple[np.ndarray, np.ndarray]:
  """A case [D, H, W] as it is trained on: image float32, label uint8.

  Args:
    image: float32, in Hounsfield units.
    label: uint8.
    spacing: of the voxels, in mm.
    how: constants.
  """
  scale = np.asarray(spacing, np.float64) / np.asarray(how.spacing)
  shape = tuple((scale * np.asarray(image.shape)).astype(int).tolist())
  if min(shape) < 1:
    raise ValueError(
      f'Expected voxels on each axis, got {image.shape} of {list(spacing)} mm.'
    )
  image = resample.trilinear(image, shape)
  label = resample.nearest(label, shape)
  np.clip(image, how.least, how.most, out=image)
  image = (image - np.float32(how.mean)) / np.float32(how.deviation)
  short = [max(0, how.side - size) for size in shape]
  pad = [(n // 2, n - n // 2) for n in short]
  return np.pad(image, pad, mode='edge'), np.pad(label, pad, mode='edge')


def boxes(label: np.ndarray) -> list[int]:
  """Boxes of the largest connected pieces of each class, as numbers in a row.

  Pieces are connected by faces, and large is what has a large box.
  """
  found = []
  for number in range(1, CLASSES):
    pieces, _ = ndimage.label(label == number)
    cuts = ndimage.find_objects(pieces)
    volumes = [np.prod([s.stop - s.start for s in cut]) for cut in cuts]
    for piece in np.argsort(volumes, kind='stable')[-BOXES:]:
      low, high = zip(*((s.start, s.stop) for s in cuts[piece]), strict=True)
      found += [number, *low, *high]
  return found


def check(record: Mapping[str, Any]) -> None:
  """Raises ValueError unless a record describes a volume."""
  read.contents(record)


def load(case: Case) -> tuple[np.ndarray, np.ndarray, list[float]]:
  """Image float32, label uint8 and spacing of a case; ValueError if damaged."""
  import nibabel  # takes a third of a second, and only this needs it
  from nibabel.filebasedimages import ImageFileError

  try:
    image, label = nibabel.load(case.image), nibabel.load(case.label)
    spacing = image.header['pixdim'][1:4].tolist()
    voxels, classes = (np.asarray(each.dataobj) for each in (image, label))
  except (OSError, EOFError, ValueError, ImageFileError) as e:
    raise ValueError(f'Expected NIfTI files of {case.name}, got: {e}') from e
  if voxels.shape != classes.shape or voxels.ndim != 3:
    raise ValueError(
      f'Expected an image and a label of one shape of {case.name}, got '
      f'{voxels.shape} and {classes.shape}.'
    )
  classes = classes.astype(np.uint8)
  if classes.max() >= CLASSES:
    raise ValueError(
      f'Expected classes below {CLASSES} in {case.label}, got {classes.max()}.'
    )
  return voxels.astype(np.float32), classes, spacing


def _prepare(
  unfinished: writer.Unfinished,
  case: Case,
  how: Preparation,
  md5: Mapping[str, str],
  tick: work.Tick,
) -> tuple[str, dict[str, Any]]:
  """Writes the files of a case, if they are not there -> name and facts."""
  facts = unfinished.noted(case.name) or {}
  source = [os.path.getsize(p) for p in (case.image, case.label)]
  if facts.get('source') != source:
    image, label = prepared(*load(case), how)
    same = []
    for kind, array in ((read.IMAGE, image), (read.LABEL, label)):
      name = mapped.path_of('', case.name, kind)
      with unfinished.file(name) as partial:
        np.save(partial, array[None], allow_pickle=False)
        if _matches(partial, md5.get(name)):
          same.append(name)
        elif name in md5 and kind == read.LABEL:
          raise ValueError(
            f'Expected the MD5 {md5[name]} of the labels of {case.name}, once '
            'they are prepared, got another: the files are others than the '
            "reference's."
          )
    facts = {
      'source': source,  # bytes: a download that was mended is another
      'shape': list(image.shape),
      'boxes': boxes(label),
      'same': same,
    }
    unfinished.note(case.name, facts)
  tick(1)
  return case.name, facts


def _matches(path: str, expected: str | None) -> bool:
  if expected is None:
    return False
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'md5').hexdigest() == expected


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='KiTS19: 210 CT volumes with kidneys and tumours marked',
    licence='CC BY-NC-SA 4.0',
    bytes=BYTES,
    splits=VOLUMES,
    verify=functools.partial(
      read.verify, splits=VOLUMES, side=Preparation.side
    ),
    check=check,
    build=build,
    needs='NIfTI files that are downloaded by hand, 30 GB',
    how_to=HOW_TO,
  ),
)
