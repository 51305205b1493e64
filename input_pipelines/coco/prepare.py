"""Prepares COCO 2017 as a data set of TFDS, from the official zip files.

A record is that of TFDS's `coco/2017`, and what that leaves out: the size of
the image, exact boxes and areas, outlines. Images without objects come last in
their split, and of these and of the others the wide ones come first, so that
detectors learn from slices of it. JPEGs are read from
their place in the zip file when their shard is written; nothing is unpacked.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import functools
import os
from typing import Any
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from input_pipelines import coco
from input_pipelines.coco import annotations, read
from input_pipelines.writing import downloads, files, recipe, work, writer

VERSION = '1.0.0'
BYTES = 20_500_000_000

HOW_TO = """\
COCO's annotations are CC BY 4.0; the photos have the terms of Flickr.
  1. Put train2017.zip (19 GB), val2017.zip and annotations_trainval2017.zip of
     https://cocodataset.org anywhere below {downloads}.
  2. Run this command again: it checks them and writes the data set."""

_JPEG = b'\xff\xd8'


@dataclasses.dataclass(frozen=True)
class Archive:
  """A file as its publisher hands it out."""

  file: str
  sha256: str
  shards: int = 1  # that are written of it


# The sums are those of TFDS 4.9.10, url_checksums/coco.txt.
ANNOTATIONS = Archive(
  'annotations_trainval2017.zip',
  '113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268',
)
IMAGES = {
  'train': Archive(
    'train2017.zip',
    '69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929',
  ),
  'validation': Archive(
    'val2017.zip',
    '4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05',
    16,
  ),
}
_MEMBERS = {
  'train': 'annotations/instances_train2017.json',
  'validation': 'annotations/instances_val2017.json',
}


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a split comes from."""

  images: str  # a zip file of JPEGs, in whatever folder
  annotations: str  # a zip file
  member: str  # of it: the annotations
  shards: int


def build(
  order: recipe.Order,
  *,
  images: Mapping[str, Archive] = IMAGES,
  labels: Archive = ANNOTATIONS,
) -> str:
  """Writes the data set from the zip files; returns its directory."""
  archives = [*images.values(), labels]
  paths = _find(order.downloads, [archive.file for archive in archives])
  made = {
    'recipe': coco.NAME,
    'source': {name: os.path.getsize(path) for name, path in paths.items()},
    'options': {'check_downloads': order.check_downloads},
    'versions': recipe.versions(),
  }
  directory = recipe.place(order.data_dir, coco.NAME, VERSION)
  with writer.begin(directory, made) as unfinished:
    unfinished.require_space(sum(map(os.path.getsize, paths.values())))
    if order.check_downloads:
      _check_sums(unfinished, order, archives, paths)
    return write(
      unfinished,
      {
        split: Source(
          paths[archive.file],
          paths[labels.file],
          _MEMBERS[split],
          archive.shards,
        )
        for split, archive in images.items()
      },
      name=coco.NAME,
      description='COCO 2017: objects of 80 classes, with boxes and outlines.',
      order=order,
    )


def write(
  unfinished: writer.Unfinished,
  sources: Mapping[str, Source],
  *,
  name: str,
  description: str,
  order: recipe.Order,
) -> str:
  """Writes the records of all splits; returns the data set's directory.

  The metadata have, of each split, the images with objects, how many of them
  and of the others are wide, and the objects of the image that has most.
  """
  found = {
    split: _annotations(source, order) for split, source in sources.items()
  }
  names = {each.categories for each in found.values()}
  if len(names) != 1:
    raise ValueError(
      f'Expected the same categories in {", ".join(found)}, got others.'
    )
  info = writer.info(
    unfinished.directory,
    name=name,
    version=VERSION,
    description=description,
    module=__name__,
    features=features(*names),
    facts={
      key: value
      for split, each in found.items()
      for key, value in (
        (read.count_key(split), each.with_objects),
        (read.wide_key(split), each.wide(filled=True)),
        (read.wide_key(split, filled=False), each.wide(filled=False)),
        (read.most_key(split), each.most_objects),
      )
    },
  )
  with contextlib.ExitStack() as opened:
    splits = []
    for split, source in sources.items():
      archive = opened.enter_context(_opened(source.images))
      images = found[split].images
      example = functools.partial(_example, archive, _members(archive), images)
      splits.append(writer.Split(split, len(images), source.shards, example))
    return writer.write(
      unfinished,
      info,
      splits,
      threads=order.threads,
      progress=order.stage('Writing', 'images'),
    )


def features(names: Sequence[str]) -> dict[str, Any]:
  """Features of a record: those of `coco/2017` in TFDS, and ours."""
  return {
    'image': tfds.features.Image(encoding_format='jpeg'),
    'image/filename': tfds.features.Text(),
    'image/id': np.int64,
    'objects': tfds.features.Sequence({
      'area': np.int64,
      'bbox': tfds.features.BBoxFeature(),
      'id': np.int64,
      'is_crowd': np.bool_,
      'label': tfds.features.ClassLabel(names=list(names)),
    }),
    'image/height': np.int64,
    'image/width': np.int64,
    # Of each object x y width height, and its area, in pixels.
    'boxes': writer.column(np.float64),
    'areas': writer.column(np.float64),
    # Pieces of outlines: the numbers of all, how many each has, and how many
    # polygons an object has. An object with none has one piece, of runs.
    'outlines': writer.column(np.float64),
    'outline_sizes': writer.column(np.int32),
    'polygons': writer.column(np.int32),
  }  # fmt: skip


def encode(image: annotations.Image, jpeg: bytes) -> writer.Example:
  """The record of an image."""
  things, pieces = image.things, []
  for thing in things:
    pieces += [thing.runs] if thing.runs.size else thing.polygons
  return {
    'image': jpeg,
    'image/filename': image.file_name,
    'image/id': image.id,
    'image/height': image.height,
    'image/width': image.width,
    'objects': [
      {
        'area': int(thing.area),
        'bbox': _normalised(thing.box, image),
        'id': thing.id,
        'is_crowd': thing.crowd,
        'label': thing.label,
      }
      for thing in things
    ],
    'boxes': np.array([thing.box for thing in things], np.float64).reshape(-1),
    'areas': np.array([thing.area for thing in things], np.float64),
    'outlines': np.concatenate([np.zeros(0), *pieces]),
    'outline_sizes': np.array(list(map(len, pieces)), np.int32),
    'polygons': np.array([len(thing.polygons) for thing in things], np.int32),
  }


def check(record: Mapping[str, Any]) -> None:
  """Raises ValueError unless a record's image and objects can be used."""
  found = read.Photo.of(record)
  found.objects(record)
  found.decoded()


def _normalised(box, image: annotations.Image) -> tfds.features.BBox:
  x, y, width, height = box
  return tfds.features.BBox(
    ymin=y / image.height,
    xmin=x / image.width,
    ymax=(y + height) / image.height,
    xmax=(x + width) / image.width,
  )


def _find(directory: str, names: Sequence[str]) -> dict[str, str]:
  """Name -> path; FileNotFoundError names missing ones."""
  found = downloads.below(directory)
  if missing := [name for name in names if name not in found]:
    raise FileNotFoundError(
      f'Expected {" and ".join(missing)} below {directory}, found none.'
    )
  return found


def _check_sums(
  unfinished: writer.Unfinished,
  order: recipe.Order,
  archives: Sequence[Archive],
  paths: Mapping[str, str],
) -> None:
  """ValueError where a file is another; those checked before are not read."""
  for archive in archives:
    if unfinished.noted(archive.file) == {'sha256': archive.sha256}:
      continue
    path = paths[archive.file]
    (got,) = work.each(
      lambda path, tick: files.digest(path, 'sha256', tick),
      [path],
      whole=os.path.getsize(path),
      progress=order.stage(f'Checking {archive.file}', 'bytes'),
    )
    if got != archive.sha256:
      raise ValueError(
        f'Expected the SHA-256 {archive.sha256} of {path}, got {got}: '
        'download it again.'
      )
    unfinished.note(archive.file, {'sha256': archive.sha256})


def _opened(path: str) -> zipfile.ZipFile:
  try:
    return zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise ValueError(f'Expected a whole zip file, got {path}: {error}') from (
      error
    )


def _annotations(
  source: Source, order: recipe.Order
) -> annotations.Annotations:
  tell = order.stage(f'Reading {os.path.basename(source.member)}', 'files')
  with _opened(source.annotations) as archive:
    try:
      data = archive.read(source.member)
    except (KeyError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'Expected {source.member} in {source.annotations}, got: {error}'
      ) from error
  try:
    found = annotations.parse(data)
  except ValueError as error:
    raise ValueError(
      f'{source.member} in {source.annotations}: {error}'
    ) from error
  if tell:
    tell(1, 1)
  return found


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
  return {os.path.basename(each.filename): each for each in archive.infolist()}


def _example(
  archive: zipfile.ZipFile,
  members: Mapping[str, zipfile.ZipInfo],
  images: Sequence[annotations.Image],
  number: int,
) -> writer.Example:
  image = images[number]
  member = members.get(image.file_name)
  if member is None:
    raise ValueError(
      f'Expected {image.file_name} in {archive.filename}, found none.'
    )
  try:
    jpeg = archive.read(member)
    if not jpeg.startswith(_JPEG):
      raise ValueError(f'Expected a JPEG, got {jpeg[:8]!r}.')
    return encode(image, jpeg)
  except (ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{image.file_name} in {archive.filename}: {error}'
    ) from error


RECIPES = (
  recipe.Recipe(
    name=coco.NAME,
    summary='COCO 2017: 123,287 photos, objects of 80 classes',
    licence='CC BY 4.0 (annotations), terms of Flickr (photos)',
    bytes=BYTES,
    splits=coco.IMAGES,
    verify=functools.partial(
      read.verify,
      images=coco.IMAGES,
      with_objects=coco.WITH_OBJECTS,
      classes=coco.CLASSES,
    ),
    check=check,
    build=build,
    needs='three zip files that are downloaded by hand, 20 GB',
    how_to=HOW_TO,
  ),
)
