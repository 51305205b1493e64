"""Writes small zip files that look as COCO's official ones do, faults included.

They have grey photos, photos without objects, a crowd with runs in place of
polygons, an object of no width, two objects in one place, and boxes that end
at the edge of the photo.
"""

from collections.abc import Mapping
import hashlib
import io
import json
import os
from typing import Any
import zipfile

import numpy as np
from PIL import Image

from input_pipelines.coco import prepare
from input_pipelines.writing import recipe, writer

NAME = 'photos'
CATEGORIES = (
  {'supercategory': 'person', 'id': 1, 'name': 'person'},
  {'supercategory': 'vehicle', 'id': 3, 'name': 'car'},
  {'supercategory': 'animal', 'id': 90, 'name': 'cat'},
)
# Of the images, by number: every fourth has no objects.
_EMPTY_EVERY = 4


def photo(number: int) -> bytes:
  """A JPEG of noise in blocks; every fifth is grey."""
  rng = np.random.default_rng(number)
  width, height = size(number)
  blocks = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
  image = Image.fromarray(blocks).resize((width, height))
  file = io.BytesIO()
  image.convert('L' if number % 5 == 4 else 'RGB').save(file, 'JPEG')
  return file.getvalue()


def size(number: int) -> tuple[int, int]:
  """Width and height of a photo."""
  return 40 + 3 * (number % 7), 36 + 5 * (number % 3)


def instances(count: int) -> dict[str, Any]:
  """The annotations of so many photos, as COCO's file has them."""
  images, things = [], []
  for number in range(count):
    width, height = size(number)
    images.append(
      {
        'license': 4,
        'file_name': name_of(number),
        'coco_url': '',
        'height': height,
        'width': width,
        'date_captured': '2013-11-14 17:02:52',
        'id': id_of(number),
      }
    )
    if number % _EMPTY_EVERY == 3:
      continue
    boxes = [[1.5, 2.25, 20.0, 12.5], [10.0, 9.0, width - 10.0, height - 9.0]]
    if number % 3 == 1:
      boxes += [boxes[0], [5.0, 5.0, 0.0, 9.0]]
    for place, (x, y, w, h) in enumerate(boxes):
      outline: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
      crowd = place == 1 and number % 3 == 2
      if crowd:
        outline = {
          'counts': [5, 7, width * height - 12], 'size': [height, width]
        }  # fmt: skip
      elif place == 1:
        outline.append([0.0, 0.0, 1.5, 0.0, 1.5, 2.5])
      things.append(
        {
          'segmentation': outline,
          'area': w * h / 2 + 0.25,
          'iscrowd': int(crowd),
          'image_id': id_of(number),
          'bbox': [x, y, w, h],
          'category_id': CATEGORIES[(number + place) % 3]['id'],
          'id': 1000 + len(things),
        }
      )
  # As in COCO, objects of an image do not follow each other.
  things = things[::2] + things[1::2]
  return {
    'info': {},
    'licenses': [],
    'images': images[::-1],
    'annotations': things,
    'categories': list(CATEGORIES),
  }


def name_of(number: int) -> str:
  """File name of a photo."""
  return f'{id_of(number):012d}.jpg'


def id_of(number: int) -> int:
  """The id of a photo."""
  return 100_000 + 9 * number


def write_zips(
  folder: str, counts: Mapping[str, int]
) -> tuple[dict[str, prepare.Archive], prepare.Archive]:
  """Writes the official files, small -> those of images and of labels."""
  os.makedirs(folder, exist_ok=True)
  labels = os.path.join(folder, prepare.ANNOTATIONS.file)
  images = {}
  with zipfile.ZipFile(labels, 'w', zipfile.ZIP_DEFLATED) as archive:
    for split, count in counts.items():
      member = prepare._MEMBERS[split]
      archive.writestr(member, json.dumps(instances(count)))
      path = os.path.join(folder, prepare.IMAGES[split].file)
      with zipfile.ZipFile(path, 'w') as of_split:
        of_split.writestr(f'{split}2017/', b'')
        for number in range(count):
          of_split.writestr(f'{split}2017/{name_of(number)}', photo(number))
      images[split] = archive_of(path)
  return images, archive_of(labels)


def archive_of(path: str) -> prepare.Archive:
  """A file as it is."""
  with open(path, 'rb') as file:
    digest = hashlib.sha256(file.read()).hexdigest()
  return prepare.Archive(os.path.basename(path), digest, 3)


def write(data_dir, *, train: int, validation: int) -> str:
  """Writes a data set of such photos; returns its directory."""
  counts = {'train': train, 'validation': validation}
  directory = recipe.place(str(data_dir), NAME, prepare.VERSION)
  with writer.begin(directory, {'recipe': NAME}) as unfinished:
    folder = unfinished.path('zips')
    images, labels = write_zips(folder, counts)
    return prepare.write(
      unfinished,
      {
        split: prepare.Source(
          os.path.join(folder, images[split].file),
          os.path.join(folder, labels.file),
          prepare._MEMBERS[split],
          shards=2,
        )
        for split in counts
      },
      name=NAME,
      description='Noise with boxes.',
      order=recipe.Order(str(data_dir), ''),
    )


def with_objects(count: int) -> int:
  """Of so many photos, those with objects."""
  return count - sum(n % _EMPTY_EVERY == 3 for n in range(count))
