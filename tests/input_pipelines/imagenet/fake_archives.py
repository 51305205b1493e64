"""Writes small archives that look as ImageNet's official ones do."""

from collections.abc import Mapping
import hashlib
import io
import os
import tarfile

import numpy as np
from PIL import Image

from input_pipelines.imagenet import prepare as imagenet
from tests.input_pipelines.imagenet import fake_imagenet

# In the real archives, too, these are a PNG and a CMYK image.
PNG = 'n02105855_2933.JPEG'
CMYK = 'n01739381_1309.JPEG'
_CLASSES = ('n01440764', 'n01739381', 'n02105855')


def png() -> bytes:
  """A picture as a PNG."""
  return _saved(Image.fromarray(fake_imagenet.photo(1)), 'PNG')


def cmyk() -> bytes:
  """A picture as Adobe writes CMYK: inverted."""
  picture = fake_imagenet.photo(2)
  black = np.full((*picture.shape[:2], 1), 40, np.uint8)
  image = Image.fromarray(np.concatenate([picture, black], axis=2), 'CMYK')
  return _saved(image, 'JPEG', quality=90)


def train() -> dict[str, dict[str, bytes]]:
  """Class -> file name -> image, 22 images in all."""
  folders = {
    name: {f'{name}_{i}.JPEG': fake_imagenet.jpeg(i + 10 * c) for i in range(k)}
    for c, (name, k) in enumerate(zip(_CLASSES, (9, 7, 4), strict=True))
  }
  folders['n02105855'][PNG] = png()
  folders['n01739381'][CMYK] = cmyk()
  return folders


def validation() -> dict[str, bytes]:
  """File name -> image, 7 of them, not in the order of their names."""
  return {
    f'ILSVRC2012_val_{i:08d}.JPEG': fake_imagenet.jpeg(i)
    for i in (3, 1, 7, 2, 6, 4, 5)
  }


def write(
  downloads: str,
  *,
  of_train: Mapping[str, Mapping[str, bytes]] | None = None,
  of_validation: Mapping[str, bytes] | None = None,
  shards: int = 3,
) -> dict[str, imagenet.Archive]:
  """Writes both archives; returns what a build has to be told of them."""
  of_train = train() if of_train is None else of_train
  of_validation = validation() if of_validation is None else of_validation
  os.makedirs(downloads, exist_ok=True)
  inner = {f'{name}.tar': _tar(files) for name, files in of_train.items()}
  images = sum(map(len, of_train.values()))
  return {
    'train': _archive(downloads, 'train', _tar(inner), images, shards),
    'validation': _archive(
      downloads, 'validation', _tar(of_validation), len(of_validation), shards
    ),
  }


def _archive(
  downloads: str, split: str, data: bytes, images: int, shards: int
) -> imagenet.Archive:
  file = imagenet.ARCHIVES[split].file
  with open(os.path.join(downloads, file), 'wb') as archive:
    archive.write(data)
  md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
  return imagenet.Archive(file, md5, images, shards)


def _tar(files: Mapping[str, bytes]) -> bytes:
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode='w') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  return data.getvalue()


def _saved(image: Image.Image, kind: str, **options) -> bytes:
  data = io.BytesIO()
  image.save(data, kind, **options)
  return data.getvalue()
