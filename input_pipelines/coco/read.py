"""Batches of COCO, and of any data set of its schema, for detectors.

Boxes leave as corners x0 y0 x1 y1 in images, not cut off at its edges; labels
count from 1, and rows are padded with the label 0.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import io

from etils import epath
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from input_pipelines.coco import outlines, sampled_crop
from input_pipelines.reading import batching, dataset, examples

# Mean and deviation of RGB in [0, 1], which the reference normalises with.
MEAN_RGB = (0.485, 0.456, 0.406)
STDDEV_RGB = (0.229, 0.224, 0.225)

_FEATURES = {
  'image': tfds.features.Image,
  'image/filename': tfds.features.Text,
  'image/id': tfds.features.Tensor,
  'objects': tfds.features.Sequence,
  'image/height': tfds.features.Tensor,
  'image/width': tfds.features.Tensor,
  'boxes': tfds.features.Tensor,
  'areas': tfds.features.Tensor,
  'outlines': tfds.features.Tensor,
  'outline_sizes': tfds.features.Tensor,
  'polygons': tfds.features.Tensor,
}


def count_key(split: str) -> str:
  """Key of a fact of a data set: images of a split that have objects."""
  return f'{split}_with_objects'


def wide_key(split: str, *, filled: bool = True) -> str:
  """Key of a fact: the wide ones of the images with objects, or of others."""
  return f'{split}_wide' if filled else f'{split}_wide_without_objects'


def most_key(split: str) -> str:
  """Key of a fact of a data set: objects of the image that has most."""
  return f'{split}_most_objects'


@dataclasses.dataclass(frozen=True)
class Objects:
  """Objects of images, one after another: N in all."""

  image: np.ndarray  # int64 [N], its id
  label: np.ndarray  # int64 [N], from 1
  box: np.ndarray  # float64 [N, 4], x y width height in pixels
  area: np.ndarray  # float64 [N], in pixels
  crowd: np.ndarray  # bool [N]


@dataclasses.dataclass(frozen=True)
class Photo:
  """A record before its image is decoded."""

  jpeg: bytes
  id: int
  size: tuple[int, int]  # height, width
  boxes: np.ndarray  # float32 [N, 4], corners in images
  labels: np.ndarray  # int32 [N], from 1

  @classmethod
  def of(cls, features: examples.Features) -> 'Photo':
    """Reads the features of a record; ValueError where they are no such."""
    id_, height, width = (
      int(examples.values(features, f'image/{name}', np.int64, (1,))[0])
      for name in ('id', 'height', 'width')
    )
    labels = np.array(features['objects/label'].int64_list.value, np.int32) + 1
    boxes = np.array(features['objects/bbox'].float_list.value, np.float32)
    if boxes.size != 4 * labels.size:
      raise ValueError(
        f'Expected {4 * labels.size} numbers of boxes, got {boxes.size}.'
      )
    # TFDS has y before x.
    boxes = boxes.reshape(-1, 4)[:, [1, 0, 3, 2]]
    jpeg = examples.one(features, 'image')
    return cls(jpeg, id_, (height, width), boxes, labels)

  def objects(self, features: examples.Features) -> Objects:
    """The objects exactly, as evals compare them; ValueError."""
    count = len(self.labels)
    box, area = (
      _column(features, name, np.float64, size)
      for name, size in (('boxes', 4 * count), ('areas', count))
    )
    self.outlines(features)
    crowd = np.array(features['objects/is_crowd'].int64_list.value, bool)
    if len(crowd) != count:
      raise ValueError(f'Expected {count} flags of crowds, got {len(crowd)}.')
    return Objects(
      np.full(count, self.id),
      self.labels.astype(np.int64),
      box.reshape(-1, 4),
      area,
      crowd,
    )

  def outlines(self, features: examples.Features) -> list[outlines.Outline]:
    """The outline of each object; ValueError."""
    polygons = _column(features, 'polygons', np.int32, len(self.labels))
    pieces = int(np.maximum(polygons, 1).sum())
    sizes = _column(features, 'outline_sizes', np.int32, pieces)
    numbers = _column(features, 'outlines', np.float64, int(sizes.sum()))
    return outlines.split(numbers, sizes, polygons, self.size)

  def decoded(self) -> Image.Image:
    """The image in RGB, decoded as the references do; ValueError."""
    try:
      image = Image.open(io.BytesIO(self.jpeg))
      if image.size[::-1] != self.size:
        raise ValueError(
          f'Expected an image of {self.size}, height and width, got '
          f'{image.size[::-1]}.'
        )
      return image.convert('RGB')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
      raise ValueError(f'Expected a whole JPEG, got: {error}') from error


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """From a photo to what is learned from."""

  image_size: int
  most_boxes: int  # of an image, to which rows are padded
  augmentation: sampled_crop.Augmentation

  @property
  def train_fields(self) -> examples.Fields:
    """Fields of a training batch."""
    return {
      'image': (np.uint8, self.image_size, self.image_size, 3),
      'boxes': (np.float32, self.most_boxes, 4),
      'labels': (np.int32, self.most_boxes),
    }

  @property
  def eval_fields(self) -> examples.Fields:
    """Fields of an eval batch."""
    return {
      'image': (np.uint8, self.image_size, self.image_size, 3),
      'id': np.int32,
      'size': (np.int32, 2),
    }


def train_batches(
  split: dataset.Split, *, preprocessing: Preprocessing, seed: int, **how
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  The random numbers of a row depend on the seed and on its place in the stream.

  Returns:
    An iterator of batches, B = batch_size / hosts: `image` uint8 [B, S, S, 3],
    `boxes` float32 [B, M, 4], `labels` int32 [B, M], `weight` float32 [B]; see
    `examples.train_batches`.
  """
  row = examples.ByRow(_Augmented(preprocessing, seed))
  return examples.train_batches(
    split, preprocessing.train_fields, row, seed=seed, **how
  )


def eval_batches(
  split: dataset.Split, *, preprocessing: Preprocessing, **how
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every record once.

  Returns:
    An iterator of batches, as above: `image`, `id` int32 [B] and `size` int32
    [B, 2], height and width before it was resized; see `examples.eval_batches`.
  """
  row = examples.ByRow(_Whole(preprocessing))
  return examples.eval_batches(split, preprocessing.eval_fields, row, **how)


def ground_truth(split: dataset.Split) -> Objects:
  """The objects of all records of a split, which it reads one by one."""
  found = []
  for number in range(len(split)):
    record = examples.Record(split, number, split[number])
    with record.naming():
      found.append(Photo.of(record.features).objects(record.features))
  fields = (field.name for field in dataclasses.fields(Objects))
  return Objects(*(
    np.concatenate([getattr(each, name) for each in found]) for name in fields
  ))  # fmt: skip


def slice_with_objects(directory: epath.PathLike, split: str) -> dataset.Split:
  """The records of a split that have objects."""
  key = count_key(split)
  count = dataset.facts(directory, [key])[key]
  return dataset.Split(directory, f'{split}[:{count}]')


def verify(
  directory: epath.PathLike,
  *,
  with_objects: Mapping[str, int],
  classes: int,
  images: Mapping[str, int] | None = None,
  most_boxes: int | None = None,
) -> None:
  """Raises unless the directory holds such a data set; reads no record.

  Args:
    directory: a data set's directory.
    with_objects: split -> images that have objects.
    classes: without the background.
    images: split -> records; None: any number.
    most_boxes: that an image may have, with which it is trained on; None: any.
  """
  info = dataset.load(directory).info
  if images is None:
    images = {
      split: info.splits[split].num_examples
      for split in with_objects
      if split in info.splits
    }
  dataset.verify(directory, splits=images, features=_FEATURES)
  most_of_train = most_key('train')
  facts = dataset.facts(
    directory, [most_of_train, *map(count_key, with_objects)]
  )
  for split, count in with_objects.items():
    got = facts[count_key(split)]
    if got != count:
      raise ValueError(
        f'Expected {count} images with objects in {split!r} of {directory}, '
        f'got {got}.'
      )
  label = info.features['objects']['label']
  if label.num_classes != classes:
    raise ValueError(
      f'Expected {classes} classes in {directory}, got {label.num_classes}.'
    )
  most = facts[most_of_train]
  if most_boxes is not None and most > most_boxes:
    raise ValueError(
      f'Expected most_boxes of {most} or more, as many as an image of '
      f'{directory} has, got {most_boxes}.'
    )


@dataclasses.dataclass(frozen=True)
class _Augmented:
  """A row that is cropped, mirrored and coloured at random."""

  preprocessing: Preprocessing
  seed: int

  def __call__(self, features, place):
    how = self.preprocessing
    photo = Photo.of(features)
    rng = np.random.default_rng((self.seed, place))
    image, boxes, labels = sampled_crop.augment(
      photo.decoded(),
      photo.boxes,
      photo.labels,
      rng,
      size=how.image_size,
      how=how.augmentation,
    )
    count = len(labels)
    if count > how.most_boxes:
      raise ValueError(f'Expected {how.most_boxes} objects, got {count}.')
    padded = np.zeros((how.most_boxes, 4), np.float32)
    padded[:count] = boxes
    row = np.zeros(how.most_boxes, np.int32)
    row[:count] = labels
    return {'image': image, 'boxes': padded, 'labels': row}


@dataclasses.dataclass(frozen=True)
class _Whole:
  """A row as it is, resized."""

  preprocessing: Preprocessing

  def __call__(self, features, place):
    del place  # nothing random
    photo = Photo.of(features)
    size = self.preprocessing.image_size
    return {
      'image': sampled_crop.resized(photo.decoded(), size),
      'id': photo.id,
      'size': photo.size,
    }


def _column(features, name: str, dtype, count: int) -> np.ndarray:
  """A column of so many numbers; that of none has no bytes."""
  if not count and not any(features[name].bytes_list.value):
    return np.zeros(0, dtype)
  return examples.values(features, name, dtype, (count,))
