"""ImageNet, and any data set of its schema: JPEGs with a label each.

Images leave as uint8; the mean is subtracted on the device, so that a quarter
of the bytes travel.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.images import crops, decode
from input_pipelines.reading import batching, dataset
from input_pipelines.reading.settings import Skips

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

  def crops(self) -> crops.Crops:
    """The constants of the random crop."""
    return crops.Crops(
      area=self.crop_area,
      aspect=self.crop_aspect,
      attempts=self.crop_attempts,
      min_covered=self.min_object_covered,
    )


def train_batches(
  split: dataset.Split,
  *,
  batch_size: int,
  seed: int,
  preprocessing: Preprocessing,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  shuffle: bool = True,
  reading: batching.Reading = batching.DEFAULT_READING,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Args:
    split: the records, of ImageNet's schema.
    batch_size: over all hosts.
    seed: in [0, 2**32); orders the records and draws crops and flips.
    preprocessing: crop, flip and resize.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    first_step: at which a resumed run starts.
    shuffle: False reads in the order on disk, to measure what an unshuffled
      pipeline does. Not legal in the Closed division.
    reading: by how many threads and processes, and what may be skipped.

  Returns:
    An iterator of batches, B = batch_size / hosts: `image` uint8 [B, S, S, 3],
    `label` int32 [B], `weight` float32 [B] of ones.
  """
  share = batching.Share(batch_size, host, hosts)
  rows = batching.training_rows(len(split), share, seed=seed, shuffle=shuffle)
  read = _Training(split, preprocessing, seed, reading.skips)
  return batching.batches(rows, read, first_step=first_step, reading=reading)


def eval_batches(
  split: dataset.Split,
  *,
  batch_size: int,
  preprocessing: Preprocessing,
  host: int = 0,
  hosts: int = 1,
  reading: batching.Reading = batching.DEFAULT_READING,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every record once, over all hosts.

  Args:
    split: the records, of ImageNet's schema.
    batch_size: over all hosts.
    preprocessing: resize and crop.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    reading: by how many threads and processes.

  Returns:
    An iterator of batches as from `train_batches`, equally many on every host.
    Rows that pad the last ones are zero, and so is their weight.
  """
  share = batching.Share(batch_size, host, hosts)
  rows = batching.evaluation_rows(len(split), share)
  read = _Evaluation(split, preprocessing)
  return batching.batches(rows, read, reading=reading)


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
  features = dataset.load(directory).info.features
  _verify_features(directory, features)
  if features['label'].num_classes != classes:
    raise ValueError(
      f'Expected {classes} classes in {directory}, got '
      f'{features["label"].num_classes}.'
    )
  dataset.verify(directory, splits=splits)


def _verify_features(directory, features) -> None:
  expected = {
    'image': tfds.features.Image,
    'label': tfds.features.ClassLabel,
    'file_name': tfds.features.Text,
  }
  names = {name: kind.__name__ for name, kind in expected.items()}
  got = {name: type(feature).__name__ for name, feature in features.items()}
  if got != names:
    raise ValueError(
      f"Expected ImageNet's features {names} in {directory}, got {got}."
    )


@dataclasses.dataclass(frozen=True)
class _Photo:
  """A record before it is decoded."""

  record: int
  jpeg: bytes
  label: int
  size: tuple[int, int]  # height, width


def _photos(split: dataset.Split, records: Sequence[int]) -> list[_Photo]:
  return [
    _photo(split, record, features)
    for record, features in zip(records, split.records(records), strict=True)
  ]


def _photo(split: dataset.Split, record: int, features) -> _Photo:
  image = features['image'].bytes_list.value
  label = features['label'].int64_list.value
  if not image or not label:
    missing = 'label' if image else 'image'
    raise split.corrupt(record, f'it has no {missing}.')
  with _naming(split, record):
    return _Photo(record, image[0], label[0], decode.size(image[0]))


@contextlib.contextmanager
def _naming(split: dataset.Split, record: int) -> Iterator[None]:
  """Errors about a JPEG say which record it is."""
  try:
    yield
  except ValueError as error:
    raise split.corrupt(record, error) from error


def _blank(rows: batching.Rows, image_size: int) -> batching.Batch:
  shape = (len(rows.weight), image_size, image_size, 3)
  return {
    'image': batching.zeros(shape, np.uint8),
    'label': np.zeros(len(rows.weight), np.int32),
    'weight': rows.weight,
  }


@dataclasses.dataclass(frozen=True)
class _Evaluation:
  """Rows -> a batch of resized centres; padding stays zero."""

  split: dataset.Split
  preprocessing: Preprocessing

  def __call__(self, rows: batching.Rows) -> batching.Batch:
    batch = _blank(rows, self.preprocessing.image_size)
    real = rows.records[rows.weight > 0].tolist()  # padding comes last
    for row, photo in enumerate(_photos(self.split, real)):
      batch['label'][row] = photo.label
      with _naming(self.split, photo.record):
        decode.decode_centre(
          photo.jpeg, batch['image'][row], self.preprocessing.resize_size
        )
    return batch


@dataclasses.dataclass(frozen=True)
class _Training:
  """Rows -> a batch of random crops, each drawn by its place in the stream."""

  split: dataset.Split
  preprocessing: Preprocessing
  seed: int
  skips: Skips | None = None

  def __call__(self, rows: batching.Rows) -> batching.Batch:
    batch = _blank(rows, self.preprocessing.image_size)
    records = rows.records.tolist()
    if self.skips is None:
      self._fill(batch, 0, rows.first, _photos(self.split, records))
    else:
      for row, record in enumerate(records):
        self._fill_or_skip(batch, row, rows.first + row, record)
    return batch

  def _fill(self, batch, row: int, first: int, photos: list[_Photo]) -> None:
    """Writes rows from `row` on, which stand from `first` on in the stream."""
    sizes = np.array([photo.size for photo in photos])
    boxes = self.preprocessing.crops().draw(sizes, seed=self.seed, first=first)
    boxes = boxes.tolist()
    mirrored = crops.flips(
      len(photos),
      self.preprocessing.flip_probability,
      seed=self.seed,
      first=first,
    )
    for i, photo in enumerate(photos, start=row):
      with _naming(self.split, photo.record):
        decode.crop_and_resize(
          photo.jpeg,
          boxes[i - row],
          batch['image'][i],
          mirrored=bool(mirrored[i - row]),
        )
      batch['label'][i] = photo.label

  def _fill_or_skip(self, batch, row: int, position: int, record: int) -> None:
    """Writes one row, from the next record that can be read."""
    while True:
      try:
        self._fill(batch, row, position, _photos(self.split, [record]))
        return
      except dataset.CorruptRecordError as error:
        self.skips.count(record, error)
        record = (record + 1) % len(self.split)
