"""Writes ImageNet from its official archives, as TFDS's own builder does.

The records are the same, in the same order and the same shards, but TensorFlow
is not needed, the work is shared by threads and resumes where it stopped.
A record is read from its place in the archive when its shard is written, so
that nothing is unpacked on the way.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import os
from typing import Any, BinaryIO

import cv2
import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from input_pipelines.imagenet import read as imagenet
from input_pipelines.images import decode
from input_pipelines.writing import downloads, files, recipe, tar, writer

_LABELS = 'datasets/imagenet2012/validation_labels.txt'  # in TFDS's package
_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_QUALITY = 100  # of the JPEGs that are made from something else
# Density 300 x 300 dots an inch, as TensorFlow's encoder has it.
_DENSITY = bytes.fromhex('01012c012c')
# The metadata, what differs in the sizes of records, and the file system.
_MORE_SPACE = 1.02


@dataclasses.dataclass(frozen=True)
class Archive:
  """An archive as it is published."""

  file: str
  md5: str
  images: int
  shards: int  # that TFDS writes of it


ARCHIVES = {
  'train': Archive(
    'ILSVRC2012_img_train.tar',
    '1d675b47d978889d74fa0da5fadfb00e',
    imagenet.SPLITS['train'],
    1024,
  ),
  'validation': Archive(
    'ILSVRC2012_img_val.tar',
    '29b22e2961454d5413ddabcf34fc5622',
    imagenet.SPLITS['validation'],
    64,
  ),
}

HOW_TO = """\
ImageNet cannot be downloaded freely. It takes about 155 GB for the archives and
as much again for the data set.
  1. Register at https://image-net.org, accept its terms of access (research and
     education, no commercial use) and download ILSVRC2012_img_train.tar and
     ILSVRC2012_img_val.tar into {downloads}.
  2. Run this command again: it checks them and writes the data set.
Where ImageNet lies as a TFDS directory already, in TFRecord or ArrayRecord,
here or in a bucket, --from=PATH converts it instead."""


def build(
  order: recipe.Order, archives: Mapping[str, Archive] = ARCHIVES
) -> str:
  """Writes the data set from the archives; returns its directory.

  Args:
    order: where the archives are, where the data set goes, and how.
    archives: split -> the archive that it is in.

  Returns:
    The data set's own directory.
  """
  paths = _find(order.downloads, archives)
  builder = _tfds_builder(order.data_dir)
  directory = recipe.place(order.data_dir, builder.name, str(builder.version))
  with (
    writer.begin(directory, _made(order, paths)) as unfinished,
    contextlib.ExitStack() as opened,
  ):
    _check_space(unfinished, paths)
    splits = []
    for name, archive in archives.items():
      members = _index(unfinished, order, archive, paths[name])
      file = opened.enter_context(open(paths[name], 'rb', buffering=0))
      labels = _labels(members, file.name, builder.info.features['label'])
      images_of = _in_order(members, file, labels, name, order.change_jpeg)
      splits.append(writer.Split(name, len(members), archive.shards, images_of))
    return writer.write(
      unfinished,
      builder.info,
      splits,
      notes={'md5': _checked(order, archives)},
      threads=order.threads,
      progress=order.stage('Writing', 'images'),
    )


def check(features: Mapping[str, Any], classes: int = imagenet.CLASSES) -> None:
  """Raises ValueError unless a record has a label, a name and an RGB image."""
  labels = list(features['label'].int64_list.value)
  if len(labels) != 1 or not 0 <= labels[0] < classes:
    raise ValueError(f'Expected a label in [0, {classes}), got {labels}.')
  if not features['file_name'].bytes_list.value[0]:
    raise ValueError('Expected a file name, got an empty one.')
  decode.decode(features['image'].bytes_list.value[0])


def as_rgb_jpeg(image: bytes) -> bytes:
  """The image as a JPEG that decodes to RGB; most are that already.

  What is CMYK, and what is a PNG in truth, becomes an RGB JPEG of quality 100,
  equal byte for byte to what TFDS makes of it with TensorFlow. It tells them by
  what they are rather than by a list of names.
  """
  if image.startswith(_PNG):
    return _encode(_decode_png(image))
  if not image.startswith(_JPEG):
    raise ValueError(f'Expected a JPEG or a PNG, got {image[:8]!r}...')
  marks = _marks(image)
  if marks.components != 4:
    return image
  return _encode(_decode_cmyk(image, inverted=marks.adobe))


@dataclasses.dataclass(frozen=True)
class _Marks:
  components: int
  adobe: bool  # whether Adobe wrote it, which inverts CMYK


def _marks(jpeg: bytes) -> _Marks:
  """Segments before the pixels of a JPEG, by ITU-T T.81."""
  at, adobe = 2, False
  while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
    marker = jpeg[at + 1]
    if marker == 0xFF:  # fill
      at += 1
      continue
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return _Marks(jpeg[at + 9] if at + 9 < len(jpeg) else 0, adobe)
    adobe |= marker == 0xEE and jpeg[at + 4 : at + 9] == b'Adobe'
    at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], 'big')
  raise ValueError('Expected a frame header in the JPEG, found none.')


def _decode_cmyk(jpeg: bytes, *, inverted: bool) -> np.ndarray:
  """uint8 [H, W, 3], by the formula of TensorFlow's decoder."""
  cmyk = simplejpeg.decode_jpeg(jpeg, 'CMYK', fastdct=True).astype(np.uint16)
  if not inverted:
    cmyk = 255 - cmyk
  return (cmyk[..., :3] * cmyk[..., 3:] // 255).astype(np.uint8)


def _decode_png(png: bytes) -> np.ndarray:
  """uint8 [H, W, 3]; what is transparent loses that."""
  image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
  if image is None:
    raise ValueError('Expected a whole PNG, got one that does not decode.')
  return image


def _encode(image: np.ndarray) -> bytes:
  jpeg = simplejpeg.encode_jpeg(image, _QUALITY, 'RGB', '420', fastdct=False)
  return jpeg[:13] + _DENSITY + jpeg[18:]


def _find(downloads: str, archives: Mapping[str, Archive]) -> dict[str, str]:
  """Split -> the path of its archive."""
  paths = {
    split: os.path.join(os.path.expanduser(downloads), archive.file)
    for split, archive in archives.items()
  }
  missing = [path for path in paths.values() if not os.path.isfile(path)]
  if missing:
    raise FileNotFoundError(
      f'Expected {" and ".join(missing)}, found nothing there.'
    )
  return paths


def _tfds_builder(data_dir: str) -> tfds.core.DatasetBuilder:
  """TFDS's own builder, for the metadata; it works without TensorFlow."""
  version = f'{imagenet.NAME}:5.1.0'
  return tfds.builder(version, data_dir=os.path.expanduser(data_dir))


def _made(order: recipe.Order, paths: Mapping[str, str]) -> dict[str, Any]:
  return {
    'recipe': imagenet.NAME,
    'source': downloads.facts([*paths.values()]),
    'options': {'change_jpeg': _name_of(order.change_jpeg)},
    'versions': recipe.versions(),
  }


def _checked(
  order: recipe.Order, archives: Mapping[str, Archive]
) -> dict[str, str]:
  """Archive -> the checksum that it was found to have."""
  if not order.check_downloads:
    return {}
  return {archive.file: archive.md5 for archive in archives.values()}


def _name_of(function: Callable | None) -> str | None:
  return function and f'{function.__module__}.{function.__qualname__}'


def _index(
  unfinished: writer.Unfinished,
  order: recipe.Order,
  archive: Archive,
  path: str,
) -> tar.Members:
  """The images of an archive, which is passed through once and no more."""
  checked = 'checked' if order.check_downloads else 'listed'
  saved = unfinished.path(f'{archive.file}.{checked}.npz')
  if os.path.exists(saved):
    return tar.load(saved)
  members = tar.index(
    path,
    md5=archive.md5 if order.check_downloads else None,
    progress=order.stage(f'Reading {archive.file}', 'bytes'),
  )
  if len(members) != archive.images:
    raise ValueError(
      f'Expected {archive.images} images in {path}, got {len(members)}.'
    )
  partial = unfinished.path('partial', 'members.npz')
  tar.save(members, partial)
  files.place(partial, saved)
  return members


def _check_space(
  unfinished: writer.Unfinished, paths: Mapping[str, str]
) -> None:
  archives = sum(os.path.getsize(path) for path in paths.values())
  unfinished.require_space(int(archives * _MORE_SPACE))


def _in_order(
  members: tar.Members,
  file: BinaryIO,
  labels: list[int],
  split: str,
  change: Callable[[bytes], bytes] | None,
) -> Callable[[int], writer.Example]:
  """Index -> example, in TFDS's order, which is that of hashes of the names."""
  hasher = hashing.Hasher(split)
  keys = [hasher.hash_key(bytes(member)) for member in members.name]
  if len({*keys}) != len(keys):
    raise ValueError(
      f'Expected every name once in {file.name}, some come twice.'
    )
  by_key = np.array(sorted(range(len(keys)), key=keys.__getitem__))

  def example(i: int) -> writer.Example:
    member = by_key[i]
    file_name = members.name[member].decode()
    offset, size = int(members.offset[member]), int(members.size[member])
    image = os.pread(file.fileno(), size, offset)
    try:
      jpeg = as_rgb_jpeg(image)
      jpeg = change(jpeg) if change else jpeg
    except ValueError as error:
      raise ValueError(f'{file_name} in {file.name}: {error}') from error
    return {'image': jpeg, 'label': labels[member], 'file_name': file_name}

  return example


def _labels(
  members: tar.Members, path: str, classes: tfds.features.ClassLabel
) -> list[int]:
  """The class of each image, counted from 0."""
  folders = [folder.decode() for folder in members.folder]
  names = folders if all(folders) else _validation_labels(members, path)
  if unknown := {*names} - {*classes.names}:
    raise ValueError(
      f"Expected ImageNet's classes in {path}, got also {min(unknown)!r}."
    )
  return [classes.str2int(name) for name in names]


def _validation_labels(members: tar.Members, path: str) -> list[str]:
  """The classes from the list in TFDS's package, as WordNet numbers them."""
  labels = tfds.core.tfds_path(_LABELS).read_text().split()
  if members.folder.astype(bool).any() or len(members) > len(labels):
    raise ValueError(
      f'Expected archives of images or {len(labels)} images in {path}, got '
      f'{len(members)} images.'
    )
  # The list goes by the names of the images, sorted.
  labels_of = dict(zip(sorted(members.name.tolist()), labels, strict=False))
  return [labels_of[name] for name in members.name.tolist()]


RECIPES = (
  recipe.Recipe(
    name=imagenet.NAME,
    summary='ImageNet-1k (ILSVRC 2012): photos of 1000 classes',
    licence='research and education, no commercial use (image-net.org)',
    bytes=155_000_000_000,
    splits=imagenet.SPLITS,
    verify=imagenet.verify,
    check=check,
    build=build,
    needs='two archives that are downloaded by hand, 155 GB',
    how_to=HOW_TO,
    tfds=imagenet.NAME,
    jpegs='image',
  ),
)
