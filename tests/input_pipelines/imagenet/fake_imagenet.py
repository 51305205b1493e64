"""Writes a small data set with ImageNet's name, schema and file format.

The production code reads it byte for byte as it reads the real one.
"""

from collections.abc import Iterator, Mapping, Sequence
import io
import os

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds

from input_pipelines.reading import tfrecord
from tests.input_pipelines.reading import fake_tfds


def photo(index: int) -> np.ndarray:
  """A smooth picture with noise: uint8 [H, W, 3], both sides often odd."""
  rng = np.random.default_rng(index)
  height, width = rng.integers(30, 91, 2)
  y, x = np.mgrid[:height, :width][..., None]
  waves = np.sin(x * rng.uniform(0.05, 0.4, 3) + y * rng.uniform(0.05, 0.4, 3))
  noise = rng.normal(0, 8, (height, width, 3))
  return np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)


def jpeg(index: int) -> bytes:
  """The picture as a JPEG; every fifth is grey, of the rest half are 4:2:0."""
  image = photo(index)
  if index % 5 == 0:
    grey = np.ascontiguousarray(image[:, :, :1])
    return simplejpeg.encode_jpeg(grey, 90, 'GRAY', 'Gray')
  return simplejpeg.encode_jpeg(image, 90, 'RGB', ('420', '444')[index % 2])


def write_both(
  data_dir: str, splits: Mapping[str, int | Sequence[bytes]]
) -> tuple[str, str]:
  """Writes it as ArrayRecord and as TFRecord with an index -> both directories.

  They are in the folders `arrays` and `frames` of the directory.
  """
  arrays = write(os.path.join(data_dir, 'arrays'), splits)
  frames = write(
    os.path.join(data_dir, 'frames'), splits, file_format='tfrecord'
  )
  tfrecord.write_index(frames)
  return arrays, frames


def write(
  data_dir: str,
  splits: Mapping[str, int | Sequence[bytes]],
  *,
  classes: int = 1000,
  shards: int = 3,
  file_name: str = 'file_name',
  file_format: str = 'array_record',
) -> str:
  """Writes the data set; a record's label is its place in the split.

  Args:
    data_dir: the directory that holds data sets.
    splits: split -> the number of records, or their JPEGs.
    classes: the number of classes.
    shards: the number of files of each split, or its records if fewer.
    file_name: the name of that feature.
    file_format: 'array_record' or 'tfrecord'.

  Returns:
    The data set's own directory.
  """
  features = {
    'image': tfds.features.Image(encoding_format='jpeg'),
    'label': tfds.features.ClassLabel(num_classes=classes),
    file_name: tfds.features.Text(),
  }
  return fake_tfds.write(
    data_dir,
    name='imagenet2012',
    version='5.1.0',
    features=tfds.features.FeaturesDict(features),
    examples={split: _examples(of, file_name) for split, of in splits.items()},
    shards=shards,
    file_format=file_format,
    supervised_keys=('image', 'label'),
  )


def _examples(jpegs: int | Sequence[bytes], file_name: str) -> Iterator[dict]:
  if isinstance(jpegs, int):
    jpegs = [jpeg(i) for i in range(jpegs)]
  for i, image in enumerate(jpegs):
    yield {
      'image': io.BytesIO(image),
      'label': i,
      file_name: f'n{i:08d}.JPEG',
    }
