"""ImageNet, and any data set of its schema: JPEGs with a label each.

Images leave as uint8; the mean is subtracted on the device, so that a quarter
of the bytes travel.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines import batching, crops, dataset, images

NAME = 'imagenet2012'
SPLITS = {'train': 1281167, 'validation': 50000}
CLASSES = 1000
# What the reference subtracts, on the scale 0-255; nothing is divided.
MEAN_RGB = (123.68, 116.78, 103.94)

HOW_TO_PREPARE = """\
ImageNet cannot be downloaded freely. It takes about 150 GB for the archives and
as much again for the data set.
  1. Register at https://image-net.org, accept its terms of access (research and
     education, no commercial use) and download ILSVRC2012_img_train.tar and
     ILSVRC2012_img_val.tar into {data_dir}/downloads/manual.
  2. In an environment of its own with tensorflow and tensorflow-datasets, which
     training does not need:
       tfds build imagenet2012 --data_dir={data_dir} --file_format=array_record
  3. Run this command again: it checks what is there."""


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
        'Expected 0 < image_size <= resize_size, came '
        f'{self.image_size} and {self.resize_size}.'
      )
    if not 0 <= self.flip_probability <= 1:
      raise ValueError(
        f'Expected a flip_probability in [0, 1], came {self.flip_probability}.'
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
  directory: epath.PathLike,
  *,
  split: str = 'train',
  batch_size: int,
  seed: int,
  preprocessing: Preprocessing,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  shuffle: bool = True,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Args:
    directory: a data set of ImageNet's schema.
    split: a split of it, or a slice of one.
    batch_size: over all hosts.
    seed: in [0, 2**32); orders the records and draws crops and flips.
    preprocessing: crop, flip and resize.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    first_step: where a restarted run goes on.
    shuffle: False reads in the order on disk, to measure what an unshuffled
      pipeline does. Not legal in the Closed division.
    threads: None for one a core.

  Returns:
    An iterator of batches, B = batch_size / hosts: `image` uint8 [B, S, S, 3],
    `label` int32 [B], `weight` float32 [B] of ones.
  """
  source = dataset.Split(directory, split)
  share = batching.Share(batch_size, host, hosts)
  rows = batching.training_rows(len(source), share, seed=seed, shuffle=shuffle)
  box = preprocessing.crops()

  def read(rows: batching.Rows) -> batching.Batch:
    batch, jpegs = _start(source, rows, preprocessing.image_size)
    sizes = np.array([_size(source, i, jpeg) for i, jpeg in jpegs])
    boxes = box.draw(sizes, seed=seed, first=rows.first)
    mirrored = crops.flips(
      len(jpegs), preprocessing.flip_probability, seed=seed, first=rows.first
    )
    for row, (i, jpeg) in enumerate(jpegs):
      y, x, h, w = boxes[row]
      image = _decode(source, i, jpeg)[y : y + h, x : x + w]
      images.resize(image, batch['image'][row], mirrored=bool(mirrored[row]))
    return batch

  return batching.batches(rows, read, first_step=first_step, threads=threads)


def eval_batches(
  directory: epath.PathLike,
  *,
  split: str = 'validation',
  batch_size: int,
  preprocessing: Preprocessing,
  host: int = 0,
  hosts: int = 1,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every record once, over all hosts.

  Args:
    directory: a data set of ImageNet's schema.
    split: a split of it, or a slice of one.
    batch_size: over all hosts.
    preprocessing: resize and crop.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    threads: None for one a core.

  Returns:
    An iterator of batches as from `train_batches`, equally many on every host.
    Rows that pad the last ones are zero, and so is their weight.
  """
  source = dataset.Split(directory, split)
  share = batching.Share(batch_size, host, hosts)

  def read(rows: batching.Rows) -> batching.Batch:
    batch, jpegs = _start(source, rows, preprocessing.image_size)
    for row, (i, jpeg) in enumerate(jpegs):  # padding comes last
      image = _decode(source, i, jpeg)
      images.resize_and_crop(
        image, batch['image'][row], preprocessing.resize_size
      )
    return batch

  rows = batching.evaluation_rows(len(source), share)
  return batching.batches(rows, read, threads=threads)


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
      f'Expected {classes} classes in {directory}, came '
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
  came = {name: type(feature).__name__ for name, feature in features.items()}
  if came != names:
    raise ValueError(
      f"Expected ImageNet's features {names} in {directory}, came {came}."
    )


def _start(
  source: dataset.Split, rows: batching.Rows, image_size: int
) -> tuple[batching.Batch, list[tuple[int, bytes]]]:
  """A batch without its images yet, and the JPEGs of its real rows."""
  batch = {
    'image': np.zeros((len(rows.weight), image_size, image_size, 3), np.uint8),
    'label': np.zeros(len(rows.weight), np.int32),
    'weight': rows.weight,
  }
  jpegs = []
  for row in np.flatnonzero(rows.weight):
    record = int(rows.records[row])
    features = source[record]
    if not features['image'].bytes_list.value:
      raise source.corrupt(record, 'it has no image.')
    if not features['label'].int64_list.value:
      raise source.corrupt(record, 'it has no label.')
    batch['label'][row] = features['label'].int64_list.value[0]
    jpegs.append((record, features['image'].bytes_list.value[0]))
  return batch, jpegs


def _reading(what: Callable) -> Callable:
  """`what` of a JPEG, with errors that name the record."""

  def read(source: dataset.Split, record: int, jpeg: bytes):
    try:
      return what(jpeg)
    except ValueError as error:
      raise source.corrupt(record, error) from error

  return read


_size = _reading(images.size)
_decode = _reading(images.decode)
