"""Batches of COCO for detectors that find outlines: Mask R-CNN's.

An image keeps its aspect: its shorter side is resized to `min_size` unless the
longer one would exceed `max_size`. Wide images and others are in batches of
their own, so that batches have two shapes; padding lies to the right and below.
Corners of boxes are pixels, as in Detectron: x1 is x0 + width - 1. Crowds are
left out of training.
"""

from collections.abc import Iterator
import dataclasses
import itertools

from etils import epath
import numpy as np
from PIL import Image

from input_pipelines.coco import outlines, read
from input_pipelines.reading import batching, dataset, examples

_MULTIPLE = 32  # of which sides of batches are


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """From a photo to what is learned from."""

  min_size: int  # pixels of the shorter side
  max_size: int  # of the longer side, at most
  most_objects: int  # of an image, to which rows are padded
  mask_side: int  # cells of a side of an object's mask
  flip: float  # chance of a mirror

  def shape(self, wide: bool) -> tuple[int, int]:
    """Height and width of a batch."""
    short, long = (
      batching.rounded_up(side, _MULTIPLE)
      for side in (self.min_size, self.max_size)
    )
    return (short, long) if wide else (long, short)

  def train_fields(self, wide: bool) -> examples.Fields:
    """Fields of a training batch of wide images, or of others."""
    return {
      'image': (np.uint8, *self.shape(wide), 3),
      'size': (np.int32, 2),
      'boxes': (np.float32, self.most_objects, 4),
      'labels': (np.int32, self.most_objects),
      'masks': (np.uint8, self.most_objects, self.mask_side, self.mask_side),
      'frames': (np.float32, self.most_objects, 4),
    }

  def eval_fields(self, wide: bool) -> examples.Fields:
    """Fields of an eval batch of wide images, or of others."""
    return {
      'image': (np.uint8, *self.shape(wide), 3),
      'size': (np.int32, 2),
      'id': np.int32,
      'original': (np.int32, 2),
    }


@dataclasses.dataclass(frozen=True)
class Parts:
  """Numbers of the records of a split, in their order."""

  wide: int  # wide images with objects
  others: int  # other images with objects
  wide_empty: int  # the same without
  others_empty: int

  @classmethod
  def of(cls, directory: epath.PathLike, split: str) -> 'Parts':
    """Reads the metadata of a data set."""
    filled, wide, empty = (
      read.count_key(split),
      read.wide_key(split),
      read.wide_key(split, filled=False),
    )
    facts = dataset.facts(directory, (filled, wide, empty))
    images = dataset.load(directory).info.splits[split].num_examples
    return cls(
      wide=facts[wide],
      others=facts[filled] - facts[wide],
      wide_empty=facts[empty],
      others_empty=images - facts[filled] - facts[empty],
    )


@dataclasses.dataclass(frozen=True)
class Truth:
  """Ground truth that evals compare detections with."""

  objects: read.Objects
  outlines: list[outlines.Outline]  # of each object


def train_batches(
  directory: epath.PathLike,
  *,
  preprocessing: Preprocessing,
  seed: int,
  first_step: int = 0,
  **how,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Of the images with objects, the wide ones and the others each have a stream of
  batches. A step takes its batch from the one or the other, as often as there
  are images of its kind, and the same on all hosts.

  Returns:
    An iterator of batches, B = batch_size / hosts: `image` uint8 [B, H, W, 3];
    `size` int32 [B, 2], height and width without padding; `boxes` float32
    [B, M, 4], `labels` int32 [B, M], 0 as padding, `masks` uint8 [B, M, S, S],
    each over the rectangle x0 y0 x1 y1 of `frames` float32 [B, M, 4]; `weight`
    float32 [B]; see `examples.train_batches`.
  """
  parts = Parts.of(directory, 'train')
  counts = {True: parts.wide, False: parts.others}
  streams = {}
  for wide, count in counts.items():
    if not count:
      continue
    before = _wide_before(first_step, parts)
    streams[wide] = examples.train_batches(
      _slice(directory, 'train', parts, wide),
      preprocessing.train_fields(wide),
      examples.ByRow(_Augmented(preprocessing, seed, wide)),
      seed=seed,
      first_step=before if wide else first_step - before,
      **how,
    )
  return _Interleaved(streams, parts, first_step)


def eval_batches(
  directory: epath.PathLike,
  split: str,
  *,
  preprocessing: Preprocessing,
  **how,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every record once, the wide ones first.

  Returns:
    An iterator of batches, as above: `image`, `size`, `id` int32 [B] and
    `original` int32 [B, 2], height and width before it was resized; see
    `examples.eval_batches`.
  """
  parts = Parts.of(directory, split)
  for wide, filled in itertools.product((True, False), repeat=2):
    records = _slice(directory, split, parts, wide, filled)
    if records is not None:
      yield from examples.eval_batches(
        records,
        preprocessing.eval_fields(wide),
        examples.ByRow(_Whole(preprocessing, wide)),
        **how,
      )


def ground_truth(split: dataset.Split) -> Truth:
  """The objects of all records of a split, which it reads one by one."""
  found = []
  for number in range(len(split)):
    record = examples.Record(split, number, split[number])
    with record.naming():
      found += read.Photo.of(record.features).outlines(record.features)
  return Truth(read.ground_truth(split), found)


def resized_size(
  size: tuple[int, int], *, min_size: int, max_size: int
) -> tuple[int, int]:
  """Height and width of an image of height and width `size`, resized.

  With the reference's roundings: transforms.py, Resize.get_size.
  """
  height, width = size
  short, long = float(min(size)), float(max(size))
  side = min_size
  if long / short * side > max_size:
    side = round(max_size * short / long)
  if min(size) == side:
    return size
  if width < height:
    return int(side * height / width), side
  return side, int(side * width / height)


class _Interleaved:
  """Takes each step's batch from the stream of its kind; see train_batches."""

  def __init__(self, streams, parts: Parts, step: int):
    self._streams, self._parts, self._step = streams, parts, step

  def __iter__(self):
    return self

  def __next__(self) -> batching.Batch:
    before, after = (
      _wide_before(step, self._parts) for step in (self._step, self._step + 1)
    )
    batch = next(self._streams[after > before])
    self._step += 1
    return batch

  def close(self) -> None:
    """Ends the threads and processes of both."""
    for each in self._streams.values():
      each.close()


def _wide_before(step: int, parts: Parts) -> int:
  """Steps of wide images before a step."""
  return step * parts.wide // (parts.wide + parts.others)


def _slice(
  directory, split: str, parts: Parts, wide: bool, filled: bool = True
) -> dataset.Split | None:
  """The records of a kind; None where there are none."""
  counts = [parts.wide, parts.others, parts.wide_empty, parts.others_empty]
  place = 2 * (not filled) + (not wide)
  first, count = sum(counts[:place]), counts[place]
  if not count:
    return None
  return dataset.Split(directory, f'{split}[{first}:{first + count}]')


@dataclasses.dataclass(frozen=True)
class _Augmented:
  """A row that is mirrored at random."""

  preprocessing: Preprocessing
  seed: int
  wide: bool

  def __call__(self, features, place):
    how = self.preprocessing
    photo = read.Photo.of(features)
    rng = np.random.default_rng((self.seed, int(self.wide), place))
    image, size = _resized(photo, how)
    flips = rng.random() < how.flip
    if flips:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = photo.objects(features)
    boxes, kept = corners(found, photo.size)
    count = len(kept)
    if count > how.most_objects:
      raise ValueError(f'Expected {how.most_objects} objects, got {count}.')
    scale = np.tile(np.divide(size, photo.size)[::-1], 2)
    every = photo.outlines(features)
    row = {
      'image': _padded(image, how.shape(self.wide)),
      'size': size,
      'boxes': np.zeros((how.most_objects, 4), np.float32),
      'labels': np.zeros(how.most_objects, np.int32),
      'masks': np.zeros(
        (how.most_objects, how.mask_side, how.mask_side), np.uint8
      ),
      'frames': np.zeros((how.most_objects, 4), np.float32),
    }
    for at, number in enumerate(kept):
      frame = every[number].frame()
      frame[2:] = np.maximum(frame[2:], frame[:2] + 1)
      mask = every[number].raster(frame, how.mask_side)
      box, frame = boxes[at] * scale, frame * scale
      if flips:
        box, frame = (mirrored(each, size[1]) for each in (box, frame))
        mask = mask[:, ::-1]
      row['boxes'][at], row['frames'][at] = box, frame
      row['labels'][at], row['masks'][at] = found.label[number], mask
    return row


@dataclasses.dataclass(frozen=True)
class _Whole:
  """A row as it is, resized."""

  preprocessing: Preprocessing
  wide: bool

  def __call__(self, features, place):
    del place  # nothing random
    photo = read.Photo.of(features)
    image, size = _resized(photo, self.preprocessing)
    return {
      'image': _padded(image, self.preprocessing.shape(self.wide)),
      'size': size,
      'id': photo.id,
      'original': photo.size,
    }


def corners(
  found: read.Objects, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Boxes that are learned from: corners float64 [K, 4], and which they are.

  Boxes are cut off at the edges of an image of height and width `size`; crowds
  and what is left without area are none.
  """
  low = found.box[:, :2]
  high = low + np.maximum(found.box[:, 2:] - 1, 0)
  most = np.array(size[::-1]) - 1
  boxes = np.concatenate(
    [np.clip(each, 0, most) for each in (low, high)], axis=1
  )
  real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~found.crowd
  return boxes[real], np.flatnonzero(real)


def mirrored(box: np.ndarray, width: int) -> np.ndarray:
  """Corners in pixels [4] of an image that is flipped left to right."""
  return np.array([width - box[2] - 1, box[1], width - box[0] - 1, box[3]])


def _resized(
  photo: read.Photo, how: Preprocessing
) -> tuple[Image.Image, tuple[int, int]]:
  size = resized_size(photo.size, min_size=how.min_size, max_size=how.max_size)
  image = photo.decoded().resize(size[::-1], Image.Resampling.BILINEAR)
  return image, size


def _padded(image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
  """uint8 [H, W, 3], the image in its upper left."""
  found = np.zeros((*shape, 3), np.uint8)
  found[: image.height, : image.width] = np.asarray(image)
  return found
