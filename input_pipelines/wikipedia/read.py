"""Samples of Wikipedia in rows of tokens, one or several to a row.

A record holds a few dozen samples, as they were shuffled when they were made.
The stream takes whole records in random order, and mixes the samples of as many
records as a window holds, which are a few batches; so what a batch holds
depends on the seed and its step alone, and every batch has as many samples as
the next, however they share rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import io
import itertools
import os

from etils import epath
import grain
import numpy as np

from input_pipelines.reading import batching, dataset, examples, random_access
from input_pipelines.text import buckets, packing, wordpiece

VOCABULARY = 'vocab.txt'
COUNTS = 'train_counts.npy'  # samples of every record to train on
BLOCK = 64  # samples of a record, the last one of a shard excepted
SPLITS = ('train', 'eval')
# Samples of the splits, tokens of the vocabulary, and what a sample may hold.
FACTS = (*SPLITS, 'vocabulary', 'length', 'predictions')

_MOST_STEPS = 2**62
_WINDOW = 8192  # samples that are mixed, or those of two batches
_PACKED = 2048  # samples that are put into rows together


@dataclasses.dataclass(frozen=True)
class Samples:
  """Samples one after the other."""

  tokens: np.ndarray  # uint16 [T]
  length: np.ndarray  # int64 [N], tokens of each
  first: np.ndarray  # int64 [N], of these up to the first [SEP]
  predicted: np.ndarray  # uint16 [M], places in their sample
  labels: np.ndarray  # uint16 [M]
  predictions: np.ndarray  # int64 [N], of each
  is_random: np.ndarray  # uint8 [N]

  def __len__(self) -> int:
    return len(self.length)


@dataclasses.dataclass(frozen=True)
class Shape:
  """Shape of a global batch."""

  rows: int
  length: int  # tokens of a row
  predictions: int  # of a row
  samples: int = 1  # that may share a row

  @property
  def fields(self) -> dict[str, tuple]:
    """dtype and shape of a row, by field, without its weight."""
    of_tokens = (np.int32, self.length)
    of_predictions = (self.predictions,)
    return {
      'tokens': of_tokens,
      'types': of_tokens,
      'segments': of_tokens,
      'positions': of_tokens,
      'predicted': (np.int32, *of_predictions),
      'labels': (np.int32, *of_predictions),
      'predicted_weight': (np.float32, *of_predictions),
      'first': (np.int32, self.samples),
      'is_random': (np.int32, self.samples),
      'sample_weight': (np.float32, self.samples),
    }


def facts(directory: epath.PathLike) -> dict[str, int]:
  """Metadata: a number for each of `FACTS`."""
  return dataset.facts(directory, FACTS)


def records(samples: int) -> int:
  """The records that so many samples take."""
  return -(-samples // BLOCK)


def verify(
  directory: epath.PathLike,
  *,
  train: int = 1,
  evaluated: int | None = None,
  vocabulary: int | None = None,
  length: int | None = None,
  predictions: int | None = None,
) -> None:
  """Raises unless a directory holds such samples; reads metadata alone.

  There must be `train` samples or more to train on; what is None may be any
  number.
  """
  got = facts(directory)
  if got['train'] < train:
    raise ValueError(
      f'Expected {train} samples or more to train on in '
      f'{os.fspath(directory)}, got {got["train"]}.'
    )
  expected = {
    'eval': evaluated,
    'vocabulary': vocabulary,
    'length': length,
    'predictions': predictions,
  }
  dataset.require_facts(directory, got, expected, 'samples')
  numbers = {
    'train': len(counts(directory)),
    'eval': records(got['eval']),
  }
  dataset.verify(directory, splits=numbers)
  words = wordpiece.read(epath.Path(directory) / VOCABULARY)
  if len(words) != got['vocabulary']:
    raise ValueError(
      f'Expected {got["vocabulary"]} tokens in {VOCABULARY} of '
      f'{os.fspath(directory)}, got {len(words)}.'
    )


def counts(directory: epath.PathLike) -> np.ndarray:
  """Samples of every record to train on, int64 [R]; reads metadata alone."""
  path = epath.Path(directory) / COUNTS
  try:
    found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise ValueError(
      f'Expected the samples of every record in {path}, got: {error}'
    ) from error
  expected = facts(directory)['train']
  if found.ndim != 1 or found.sum(dtype=np.int64) != expected:
    raise ValueError(
      f'Expected {expected} samples in {path}, got {found.sum(dtype=np.int64)}.'
    )
  return found.astype(np.int64)


def samples_of(features: Mapping) -> Samples:
  """The samples of one record; ValueError if it has none."""

  def column(name: str, dtype: type) -> np.ndarray:
    return examples.values(features, name, dtype)

  found = Samples(
    tokens=column('tokens', np.uint16),
    length=column('length', np.uint16).astype(np.int64),
    first=column('first', np.uint16).astype(np.int64),
    predicted=column('predicted', np.uint16),
    labels=column('labels', np.uint16),
    predictions=column('predictions', np.uint16).astype(np.int64),
    is_random=column('is_random', np.uint8),
  )
  counts = {len(found.first), len(found.predictions), len(found.is_random)}
  if counts != {len(found)}:
    raise ValueError(
      f'Expected {len(found)} samples in every column, got {sorted(counts)}.'
    )
  for name, values, ends in (
    ('tokens', found.tokens, found.length),
    ('predictions', found.predicted, found.predictions),
    ('labels', found.labels, found.predictions),
  ):
    if len(values) != ends.sum():
      raise ValueError(f'Expected {ends.sum()} {name}, got {len(values)}.')
  within = np.repeat(found.length, found.predictions)
  if (found.first > found.length).any() or (found.predicted >= within).any():
    raise ValueError('Expected places in their sample, got others.')
  return found


def load(directory: epath.PathLike, split: str, count: int) -> Samples:
  """The first samples of a split, into memory."""
  source = dataset.Split(directory, split)
  blocks: list[Samples] = []
  while (got := sum(map(len, blocks))) < count:
    if len(blocks) == len(source):
      raise ValueError(
        f'Expected {count} samples in {split!r} of {os.fspath(directory)}, got '
        f'{got}.'
      )
    blocks.append(_block(source, len(blocks)))
  return _slice(_joined(blocks), 0, count)


def train_batches(
  directory: epath.PathLike,
  shape: Shape,
  *,
  batch_size: int,
  seed: int,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Every batch has `batch_size` samples. Where a row holds one, there are as many
  rows; else there may be rows of padding, the last ones.

  Args:
    directory: the data set's.
    shape: of a global batch.
    batch_size: samples of a global batch.
    seed: from 0 on; orders the samples.
    host: which of the `hosts` this is.
    hosts: how many share the rows of a batch.
    first_step: at which a resumed run starts.
    threads: that make batches ahead; None for one a core, 0 for none.

  Returns:
    An iterator, which can be closed, of batches: the fields of `shape` for
    rows / hosts, and `weight` float32, the samples of a row. A token has the
    number of its sample in the row, from 1 on and 0 for padding, as its
    segment, and its place in the sample as its position.
  """
  share = batching.Share(shape.rows, host, hosts)
  plan = _Plan(dataset.Split(directory, 'train'), shape, batch_size)

  def read(step: int) -> batching.Batch:
    samples, members, row = plan.batch(seed, step)
    first = share.first(0)
    mine = slice(*np.searchsorted(row, (first, first + share.rows)))
    return fill(samples, members[mine], row[mine] - first, shape, share.rows)

  steps = grain.MapDataset.range(_MOST_STEPS)
  reading = batching.Reading(threads=threads)
  return batching.batches(steps, read, first_step=first_step, reading=reading)


def eval_batches(
  samples: Samples,
  shape: Shape,
  *,
  count: int,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[batching.Batch]:
  """This host's rows of the batches that hold the first samples once each.

  Batches are as those of `train_batches`, a sample a row. All hosts get as
  many; what is left of the last one is padding.
  """
  share = batching.Share(shape.rows, host, hosts)
  for step in range(-(-count // shape.rows)):
    first = share.first(step)
    members = np.arange(first, min(first + share.rows, count))
    yield fill(samples, members, members - first, shape, share.rows)


def fill(
  samples: Samples,
  members: np.ndarray,
  row: np.ndarray,
  shape: Shape,
  rows: int,
) -> batching.Batch:
  """The rows that hold some samples.

  Args:
    samples: of which.
    members: their numbers, int64 [K].
    row: of each, rising, int64 [K].
    shape: of a batch.
    rows: how many there are.
  """
  batch = {
    name: batching.zeros((rows, *size), dtype)
    for name, (dtype, *size) in shape.fields.items()
  }
  batch['weight'] = batching.zeros((rows,), np.float32)
  np.add.at(batch['weight'], row, 1)
  number = _within_groups(row, np.ones_like(row))  # in its row
  length, count = samples.length[members], samples.predictions[members]
  at, nth = _within_groups(row, length), _within_groups(row, count)
  if len(members) and (
    number.max() >= shape.samples
    or (at + length).max() > shape.length
    or (nth + count).max() > shape.predictions
  ):
    raise ValueError(
      f'Expected {shape.samples} samples or fewer in a row, {shape.length} '
      f'tokens and {shape.predictions} predictions, got {number.max() + 1}, '
      f'{(at + length).max()} and {(nth + count).max()}.'
    )
  within, source, place = _places(
    samples.length, members, row * shape.length + at
  )
  flat = {name: values.reshape(-1) for name, values in batch.items()}
  flat['tokens'][place] = samples.tokens[source]
  flat['types'][place] = within >= np.repeat(samples.first[members], length)
  flat['segments'][place] = np.repeat(number + 1, length)
  flat['positions'][place] = within
  _, source, place = _places(
    samples.predictions, members, row * shape.predictions + nth
  )
  flat['predicted'][place] = samples.predicted[source] + np.repeat(at, count)
  flat['labels'][place] = samples.labels[source]
  flat['predicted_weight'][place] = 1
  place = row * shape.samples + number
  flat['first'][place] = at
  flat['is_random'][place] = samples.is_random[members]
  flat['sample_weight'][place] = 1
  return batch


@dataclasses.dataclass(frozen=True)
class _Window:
  """The samples of a few batches, and which batch and row each has."""

  samples: Samples
  members: Sequence[np.ndarray]  # of each batch, int64 [K]
  rows: Sequence[np.ndarray]  # of the members, rising, int64 [K]


class _Plan:
  """Which samples make up the batch of a step."""

  def __init__(self, split: dataset.Split, shape: Shape, batch_size: int):
    self._split, self._shape, self._batch_size = split, shape, batch_size
    self._counts = counts(split.directory)
    self._steps = max(2, -(-_WINDOW // batch_size))  # of a window
    self._windows = buckets.Epochs(self._window)
    self._epochs = functools.lru_cache(2)(self._epoch)

  def batch(
    self, seed: int, step: int
  ) -> tuple[Samples, np.ndarray, np.ndarray]:
    """Samples, and of those in a batch the numbers and the rows."""
    number, step = divmod(step, self._steps)
    window = self._windows(seed, number)
    return window.samples, window.members[step], window.rows[step]

  def _window(self, seed: int, number: int) -> _Window:
    size, rng = self._batch_size, np.random.default_rng((seed, number))
    samples = self._read(seed, number * self._steps * size, self._steps * size)
    if self._shape.samples == 1:
      members = np.split(rng.permutation(len(samples)), self._steps)
      return _Window(samples, members, [np.arange(size)] * self._steps)
    lengths = np.stack([samples.length, np.ones_like(samples.length)], axis=1)
    packed = packing.pack(
      np.arange(len(samples)),
      lengths,
      (self._shape.length, self._shape.samples),
      window=_PACKED,
    )
    if len(packed) > self._steps * self._shape.rows:
      raise ValueError(
        f'Expected {len(samples)} samples in {self._steps} batches of '
        f'{self._shape.rows} rows, got {len(packed)} rows: plan for fewer '
        'samples a row.'
      )
    counts = np.diff(packed.ends, prepend=0)
    starts, members, rows = packed.ends - counts, [], []
    for dealt in packing.deal(counts, self._steps, size):
      dealt = rng.permutation(dealt)
      of_row = counts[dealt]
      at = np.repeat(starts[dealt], of_row) + _nth(of_row)
      members.append(packed.members[at])
      rows.append(np.repeat(np.arange(len(dealt)), of_row))
    return _Window(samples, members, rows)

  def _read(self, seed: int, first: int, count: int) -> Samples:
    """Samples of the stream, which comes to all again and again."""
    found = []
    while count:
      epoch, place = divmod(first, int(self._counts.sum()))
      order, ends = self._epochs(seed, epoch)
      number = int(np.searchsorted(ends, place, side='right'))
      block = _block(self._split, int(order[number]))
      at = place - (int(ends[number]) - len(block))
      taken = min(count, len(block) - at)
      found.append(_slice(block, at, at + taken))
      first, count = first + taken, count - taken
    return _joined(found)

  def _epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The records in the order of an epoch, and where each one ends."""
    order = random_access.Order(len(self._counts), seed, epoch)
    order = order(np.arange(len(self._counts)))
    return order, self._counts[order].cumsum()


def _block(split: dataset.Split, number: int) -> Samples:
  record = examples.Record(split, number, split[number])
  with record.naming():
    return samples_of(record.features)


def _joined(parts: Iterable[Samples]) -> Samples:
  parts = list(parts)
  return Samples(**{
    field.name: np.concatenate([getattr(each, field.name) for each in parts])
    for field in dataclasses.fields(Samples)
  })  # fmt: skip


def _slice(samples: Samples, first: int, end: int) -> Samples:
  if (first, end) == (0, len(samples)):
    return samples
  ends = [0, *itertools.accumulate(samples.length.tolist())]
  of_tokens = slice(ends[first], ends[end])
  ends = [0, *itertools.accumulate(samples.predictions.tolist())]
  of_predictions = slice(ends[first], ends[end])
  return Samples(
    samples.tokens[of_tokens],
    samples.length[first:end],
    samples.first[first:end],
    samples.predicted[of_predictions],
    samples.labels[of_predictions],
    samples.predictions[first:end],
    samples.is_random[first:end],
  )


def _nth(counts: np.ndarray) -> np.ndarray:
  """[2, 3] -> [0, 1, 0, 1, 2]."""
  return np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)


def _within_groups(group: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Sum of the sizes, int64 [K], before each in its group."""
  before = sizes.cumsum() - sizes
  starts = np.flatnonzero(np.diff(group, prepend=-1))
  counts = np.diff(starts, append=len(group))
  return before - np.repeat(before[starts], counts)


def _places(
  counts: np.ndarray, members: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each value of some members: its place in it, its source, its target.

  Args:
    counts: values of all samples, int64 [N], which lie one after the other.
    members: int64 [K].
    targets: where the first value of each goes, int64 [K].
  """
  sources = (counts.cumsum() - counts)[members]
  lengths = counts[members]
  within = _nth(lengths)
  source, target = (
    np.repeat(each, lengths) + within for each in (sources, targets)
  )
  return within, source, target
