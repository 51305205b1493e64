"""Writes a small data set with ImageNet's name, schema and file format.

The production code reads it byte for byte as it reads the real one.
"""

from collections.abc import Mapping, Sequence
import contextlib
import io
import os

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds


def photo(index: int) -> np.ndarray:
  """A smooth picture with noise: uint8 [H, W, 3], both sides often odd."""
  rng = np.random.default_rng(index)
  height, width = rng.integers(30, 91, 2)
  y, x = np.mgrid[:height, :width][..., None]
  waves = np.sin(x * rng.uniform(0.05, 0.4, 3) + y * rng.uniform(0.05, 0.4, 3))
  noise = rng.normal(0, 8, (height, width, 3))
  return np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)


def jpeg(index: int) -> bytes:
  """That picture; every fifth is grey, every second of the rest 4:2:0."""
  image = photo(index)
  if index % 5 == 0:
    grey = np.ascontiguousarray(image[:, :, :1])
    return simplejpeg.encode_jpeg(grey, 90, 'GRAY', 'Gray')
  return simplejpeg.encode_jpeg(image, 90, 'RGB', ('420', '444')[index % 2])


def write(
  data_dir: str,
  splits: Mapping[str, int | Sequence[bytes]],
  *,
  classes: int = 1000,
  shards: int = 3,
  file_name: str = 'file_name',
) -> str:
  """Writes the data set; a record's label is its place in the split.

  Args:
    data_dir: the directory that holds data sets.
    splits: split -> the number of records, or their JPEGs.
    classes: the number of classes.
    shards: the number of files of each split, or its records if fewer.
    file_name: the name of that feature.

  Returns:
    The data set's own directory.
  """
  jpegs = {
    split: [jpeg(i) for i in range(of)] if isinstance(of, int) else of
    for split, of in splits.items()
  }
  builder = _Builder(
    jpegs, classes, file_name, data_dir=data_dir, file_format='array_record'
  )
  with contextlib.redirect_stdout(io.StringIO()):
    tfds.disable_progress_bar()
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        num_shards=min(shards, *map(len, jpegs.values()))
      )
    )
  return os.fspath(builder.data_path)


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  name = 'imagenet2012'
  VERSION = tfds.core.Version('5.1.0')

  def __init__(self, jpegs, classes: int, file_name: str, **kwargs):
    self._jpegs = jpegs
    self._classes = classes
    self._file_name = file_name
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'image': tfds.features.Image(encoding_format='jpeg'),
      'label': tfds.features.ClassLabel(num_classes=self._classes),
      self._file_name: tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(jpegs)
      for split, jpegs in self._jpegs.items()
    }

  def _generate_examples(self, jpegs: Sequence[bytes]):
    for i, image in enumerate(jpegs):
      yield (
        i,
        {
          'image': io.BytesIO(image),
          'label': i,
          self._file_name: f'n{i:08d}.JPEG',
        },
      )
