"""ImageNet, and any data set of its schema: JPEGs with a label each.

Images leave as uint8; the mean is subtracted on the device, so that a quarter
of the bytes travel.
"""

from collections.abc import Iterator, Mapping
import dataclasses

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.images import crops, decode
from input_pipelines.reading import batching, dataset, examples

NAME = 'imagenet2012'
SPLITS = {'train': 1281167, 'validation': 50000}
CLASSES = 1000
# What the reference subtracts, on the scale 0-255; nothing is divided.
MEAN_RGB = (123.68, 116.78, 103.94)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """From a JPEG to the image that is learned from; the reference's values."""

  image_size: int = 224
  resize_size: int = 256  # of the shorter side, before the crop of an eval
  crop_area: tuple[float, float] = (0.05, 1.0)
  crop_aspect: tuple[float, float] = (0.75, 1.33)  # width / height
  crop_attempts: int = 100
  min_object_covered: float = 0.1
  flip_probability: float = 0.5

  def __post_init__(self):
    if not 0 < self.image_size <= self.resize_size:
      raise ValueError(
        'Expected 0 < image_size <= resize_size, got '
        f'{self.image_size} and {self.resize_size}.'
      )
    if not 0 <= self.flip_probability <= 1:
      raise ValueError(
        f'Expected a flip_probability in [0, 1], got {self.flip_probability}.'
      )
    self.crops()  # checks the rest

  @property
  def fields(self) -> examples.Fields:
    """Fields of a batch."""
    shape = (self.image_size, self.image_size, 3)
    return {'image': (np.uint8, *shape), 'label': np.int32}

  def crops(self) -> crops.Crops:
    """The constants of the random crop."""
    return crops.Crops(
      area=self.crop_area,
      aspect=self.crop_aspect,
      attempts=self.crop_attempts,
      min_covered=self.min_object_covered,
    )


def train_batches(
  split: dataset.Split, *, seed: int, preprocessing: Preprocessing, **how
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Args:
    split: the records, of ImageNet's schema.
    seed: in [0, 2**32); orders the records and draws crops and flips.
    preprocessing: crop, flip and resize.
    **how: see `examples.train_batches`.

  Returns:
    An iterator of batches, B = batch_size / hosts: `image` uint8 [B, S, S, 3],
    `label` int32 [B], `weight` float32 [B] of ones.
  """
  crop = _Crop(preprocessing, seed)
  return examples.train_batches(
    split, preprocessing.fields, crop, seed=seed, **how
  )


def eval_batches(
  split: dataset.Split, *, preprocessing: Preprocessing, **how
) -> Iterator[batching.Batch]:
  """This host's rows of one pass, resized and cropped: every record once.

  The batches are as from `train_batches`; see `examples.eval_batches`.
  """
  centre = _Centre(preprocessing)
  return examples.eval_batches(split, preprocessing.fields, centre, **how)


def verify(
  directory: epath.PathLike,
  *,
  splits: Mapping[str, int] = SPLITS,
  classes: int = CLASSES,
) -> None:
  """Raises unless the directory holds such a data set; reads no record.

  Args:
    directory: a data set's directory.
    splits: split -> the number of records it must have.
    classes: the number of classes it must have.
  """
  dataset.verify(
    directory,
    splits=splits,
    features={
      'image': tfds.features.Image,
      'label': tfds.features.ClassLabel,
      'file_name': tfds.features.Text,
    },
  )
  label = dataset.load(directory).info.features['label']
  if label.num_classes != classes:
    raise ValueError(
      f'Expected {classes} classes in {directory}, got {label.num_classes}.'
    )


@dataclasses.dataclass(frozen=True)
class _Photo:
  """A record before its image is decoded."""

  record: examples.Record
  jpeg: bytes
  label: int
  size: tuple[int, int]  # height, width

  @classmethod
  def of(cls, record: examples.Record) -> '_Photo':
    with record.naming():
      jpeg = examples.one(record.features, 'image')
      (label,) = examples.values(record.features, 'label', np.int32, (1,))
      return cls(record, jpeg, label, decode.size(jpeg))


@dataclasses.dataclass(frozen=True)
class _Centre:
  """Fills rows with resized centres."""

  preprocessing: Preprocessing

  def __call__(self, batch, first, records):
    del first  # nothing random
    for row, photo in enumerate(map(_Photo.of, records)):
      batch['label'][row] = photo.label
      with photo.record.naming():
        decode.decode_centre(
          photo.jpeg, batch['image'][row], self.preprocessing.resize_size
        )


@dataclasses.dataclass(frozen=True)
class _Crop:
  """Fills rows with random crops, each drawn by its place in the stream."""

  preprocessing: Preprocessing
  seed: int

  def __call__(self, batch, first, records):
    photos = list(map(_Photo.of, records))
    sizes = np.array([photo.size for photo in photos])
    boxes = self.preprocessing.crops().draw(sizes, seed=self.seed, first=first)
    mirrored = crops.flips(
      len(photos),
      self.preprocessing.flip_probability,
      seed=self.seed,
      first=first,
    )
    drawn = zip(photos, boxes.tolist(), mirrored.tolist(), strict=True)
    for row, (photo, box, mirror) in enumerate(drawn):
      batch['label'][row] = photo.label
      with photo.record.naming():
        decode.crop_and_resize(
          photo.jpeg, box, batch['image'][row], mirrored=mirror
        )
