"""Crops of volumes to train on, and windows over whole volumes for evals.

Volumes are NumPy files beside a TFDS data set whose records say what they hold:
the case, its shape, and boxes around what is to be segmented. They are mapped
into memory, so that a crop costs the reading of its own voxels. Which crop is
taken depends on the seed and its place in the stream alone.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from etils import epath
import grain
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.kits19 import CLASSES
from input_pipelines.kits19.windows import IGNORED, Lanes
from input_pipelines.reading import batching, dataset, mapped

IMAGE, LABEL = 'x', 'y'
DTYPES = {IMAGE: np.dtype(np.float32), LABEL: np.dtype(np.uint8)}
SPLITS = ('train', 'validation')
# Metadata: shapes by split, and the least side of a volume.
SHAPES, SIDE = 'shapes', 'side'

_NUMBERS = tfds.features.Tensor(shape=(None,), dtype=np.int64)
FEATURES = {
  'case': tfds.features.Text(),
  'shape': _NUMBERS,
  'boxes': _NUMBERS,
}
_BOX = 7  # numbers: class, lower corner, upper corner
PAD = -2.2  # around volumes in evals, nearly the least value of an image


@dataclasses.dataclass(frozen=True)
class Box:
  """The bounds of a connected piece of one class; `high` is behind its end."""

  label: int
  low: tuple[int, ...]
  high: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Volume:
  """A volume on disk."""

  case: str
  image: np.ndarray  # float32 [D, H, W]
  label: np.ndarray  # uint8 [D, H, W]
  boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True)
class Cropping:
  """Settings of what is drawn of a volume, and of what is done to it.

  A crop is around a piece of foreground with the chance `oversampling`: one of
  the classes that the volume has, and one of its boxes. Otherwise it may be
  anywhere. Then each axis is mirrored, the image scaled, and noise added, each
  with a chance of its own, in that order.
  """

  side: int
  oversampling: float
  flip: float
  scale: float
  scale_by: tuple[float, float]  # 1 is added to what is drawn from here
  noise: float
  noise_deviation: float  # of the noise, at most

  def corner(
    self, volume: Volume, rng: np.random.Generator
  ) -> tuple[int, int, int]:
    """The lower corner of a crop."""
    shape = volume.image.shape
    room = [size - self.side for size in shape]
    if rng.random() >= self.oversampling or not volume.boxes:
      return tuple(_below(rng, size) for size in room)
    present = sorted({box.label for box in volume.boxes})
    label = present[rng.integers(len(present))]
    boxes = [box for box in volume.boxes if box.label == label]
    box = boxes[rng.integers(len(boxes))]
    corner = []
    for low, high, most in zip(box.low, box.high, room, strict=True):
      spare = self.side - (high - low)  # the box fits in, or is larger
      offset = _below(rng, abs(spare))
      corner.append(low - offset if spare > 0 else low + offset)
      corner[-1] = min(max(corner[-1], 0), most)
    return tuple(corner)

  def fill(
    self,
    volume: Volume,
    rng: np.random.Generator,
    image: np.ndarray,
    label: np.ndarray,
  ) -> None:
    """Draws a crop into arrays [S, S, S]."""
    cut = tuple(
      slice(first, first + self.side) for first in self.corner(volume, rng)
    )
    flips = tuple(
      slice(None, None, -1 if rng.random() < self.flip else 1) for _ in cut
    )
    image[...] = volume.image[cut][flips]
    label[...] = volume.label[cut][flips]
    if rng.random() < self.scale:
      image *= np.float32(1 + rng.uniform(*self.scale_by))
    if rng.random() < self.noise:
      deviation = np.float32(rng.uniform(0, self.noise_deviation))
      image += deviation * rng.standard_normal(image.shape, np.float32)


def train_batches(
  volumes: Sequence[Volume],
  cropping: Cropping,
  *,
  batch_size: int,
  seed: int,
  last: str,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """Batches of crops, one of each volume in an epoch.

  Args:
    volumes: to train on.
    cropping: what is drawn.
    batch_size: over all hosts.
    seed: of the order and of all crops.
    last: what becomes of the last batch of an epoch: see `training_rows`.
    host: of `hosts`.
    hosts: that share the rows.
    first_step: at which a resumed run starts.
    threads: that make batches ahead; see `Reading`.
  """

  def read(rows: batching.Rows) -> batching.Batch:
    batch = _blank(len(rows.weight), cropping.side)
    for row, record in enumerate(rows.records.tolist()):
      if rows.weight[row]:
        cropping.fill(
          volumes[record],
          np.random.default_rng((seed, rows.first + row)),
          batch['image'][row],
          batch['label'][row],
        )
    return {**batch, 'weight': rows.weight}

  share = batching.Share(batch_size, host, hosts)
  rows = batching.training_rows(len(volumes), share, seed=seed, last=last)
  reading = batching.Reading(threads)
  return batching.batches(rows, read, first_step=first_step, reading=reading)


def eval_batches(
  volumes: Sequence[Volume],
  lanes: Lanes,
  *,
  host: int = 0,
  hosts: int = 1,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """Batches of windows; all of a volume come in one lane, in order.

  The voxels of a label that no window completes are IGNORED.
  """

  def read(step: int) -> batching.Batch:
    rows = lanes.rows(step, host=host, hosts=hosts)
    batch = _blank(len(rows), lanes.side)
    batch |= {
      'volume': np.zeros(len(rows), np.int32),
      'window': np.zeros(len(rows), np.int32),
      'slot': np.tile(np.arange(8, dtype=np.int32), (len(rows), 1)),
      'begins': np.zeros((len(rows), 8), np.bool_),
      'weight': np.zeros(len(rows), np.float32),
    }
    for row, window in enumerate(rows):
      if window is None:
        continue
      volume = volumes[window.volume]
      batch['image'][row] = PAD
      batch['label'][row] = IGNORED
      inside, there = window.overlap
      batch['image'][row][inside] = volume.image[there]
      for inside, there in window.completed:
        batch['label'][row][inside] = volume.label[there]
      batch['volume'][row] = window.volume
      batch['window'][row] = window.number
      batch['slot'][row] = window.slots
      batch['begins'][row] = window.begins
      batch['weight'][row] = 1
    return batch

  steps = grain.MapDataset.range(lanes.steps)
  return batching.batches(steps, read, reading=batching.Reading(threads))


def load(directory: epath.PathLike, split: str) -> list[Volume]:
  """Maps the volumes of a split into memory; reads their records."""
  records = dataset.Split(directory, split)
  return [
    _volume(records, number, records[number]) for number in range(len(records))
  ]


def shapes(directory: epath.PathLike, split: str) -> list[tuple[int, ...]]:
  """Shapes of the volumes of a split, by the metadata alone."""
  found = dataset.facts(directory, [SHAPES])[SHAPES]
  return [tuple(shape) for shape in found[split]]


def verify(
  directory: epath.PathLike, *, splits: Mapping[str, int], side: int
) -> None:
  """Raises unless the directory holds such a data set, whole; reads no record.

  Args:
    directory: a data set's directory, on a disk.
    splits: split -> its volumes.
    side: voxels that each axis of a volume has, at least.
  """
  mapped.require_disk(directory)
  kinds = {name: type(feature) for name, feature in FEATURES.items()}
  dataset.verify(directory, splits=splits, features=kinds)
  metadata = dataset.facts(directory, (SHAPES, SIDE))
  if metadata[SIDE] < side:
    raise ValueError(
      f'Expected volumes of {side} voxels or more on each axis in {directory}, '
      f'got {metadata[SIDE]}: they were prepared for smaller crops.'
    )
  for kind, dtype in DTYPES.items():
    shapes_of = [s for split in splits for s in metadata[SHAPES][split]]
    mapped.verify(directory, kind, shapes_of, dtype)


def contents(record: Mapping[str, Any]) -> tuple[str, tuple, tuple[Box, ...]]:
  """Case, shape and boxes of a record; ValueError where they do not fit."""
  case, shape, numbers = (
    getattr(record[name], kind).value
    for name, kind in zip(
      FEATURES, ('bytes_list', 'int64_list', 'int64_list'), strict=True
    )
  )
  boxes = np.reshape(numbers, (-1, _BOX)) if len(numbers) % _BOX == 0 else None
  if len(case) != 1 or len(shape) != 3 or boxes is None:
    raise ValueError(
      f'it has {len(case)} cases, a shape of {len(shape)} axes and '
      f'{len(numbers)} numbers of boxes.'
    )
  found = tuple(
    Box(int(label), tuple(low), tuple(high))
    for label, low, high in zip(
      boxes[:, 0], boxes[:, 1:4].tolist(), boxes[:, 4:].tolist(), strict=True
    )
  )
  for box in found:
    inside = zip(box.low, box.high, shape, strict=True)
    if not 0 < box.label < CLASSES or not all(
      0 <= low < high <= size for low, high, size in inside
    ):
      raise ValueError(f'its {box} is not in a volume of {list(shape)}.')
  return case[0].decode(), tuple(shape), found


def _volume(records: dataset.Split, number: int, record) -> Volume:
  try:
    case, shape, boxes = contents(record)
    arrays = [
      mapped.load(
        mapped.path_of(records.directory, case, kind), (1, *shape), dtype
      )
      for kind, dtype in DTYPES.items()
    ]
  except (ValueError, KeyError, UnicodeError) as error:
    raise records.corrupt(number, error) from error
  return Volume(case, arrays[0][0], arrays[1][0], boxes)


def _blank(rows: int, side: int) -> batching.Batch:
  shape = (rows, side, side, side)
  return {
    'image': batching.zeros(shape, np.float32),
    'label': batching.zeros(shape, np.uint8),
  }


def _below(rng: np.random.Generator, limit: int) -> int:
  """A random number below a limit; 0 below 0.

  So the last place is never drawn, as in the reference.
  """
  return int(rng.integers(limit)) if limit > 0 else 0
