"""Batches of a split that holds an example a record: what each schema shares.

A data set's folder says which fields a batch has, and how a record fills a row
of them. Order, padding, shares of hosts, threads, errors that name the record
and records that may be skipped are here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from input_pipelines.reading import batching, dataset
from input_pipelines.reading.settings import Skips

# Name -> dtype, or (dtype, *shape) of a row: as `batch_spec` takes them.
Fields = Mapping[str, Any]
Features = Mapping[str, Any]  # of a record by name, as protocol buffers


@dataclasses.dataclass(frozen=True)
class Record:
  """A record before it is decoded."""

  split: dataset.Split
  number: int
  features: Features

  @contextlib.contextmanager
  def naming(self) -> Iterator[None]:
    """A ValueError says which record could not be used."""
    try:
      yield
    except dataset.CorruptRecordError:
      raise
    except ValueError as error:
      raise self.split.corrupt(self.number, error) from error


# Writes records into rows of a batch, whose arrays are zero before. `first` is
# the place of the first of them in the stream: what is random depends on the
# seed and the place alone.
Fill = Callable[[batching.Batch, int, Sequence[Record]], None]


@dataclasses.dataclass(frozen=True)
class ByRow:
  """Fills row by row: `example(features, place)` -> the row's fields.

  It raises ValueError for a record that cannot be used.
  """

  example: Callable[[Features, int], Mapping[str, Any]]

  def __call__(self, batch, first, records):
    """Writes the fields of every record; see Fill."""
    for row, record in enumerate(records):
      with record.naming():
        for name, value in self.example(record.features, first + row).items():
          expected = batch[name].shape[1:]
          if np.shape(value) != expected:
            raise ValueError(
              f'Expected the shape {expected} of {name!r}, got '
              f'{np.shape(value)}.'
            )
          batch[name][row] = value


def train_batches(
  split: dataset.Split,
  fields: Fields,
  fill: Fill,
  *,
  batch_size: int,
  seed: int,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  shuffle: bool = True,
  reading: batching.Reading = batching.DEFAULT_READING,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Args:
    split: the records.
    fields: of a batch, without its weight.
    fill: writes rows; called from several threads at once, and copied to worker
      processes, so what it holds must be picklable.
    batch_size: over all hosts.
    seed: in [0, 2**32); orders the records.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    first_step: at which a resumed run starts.
    shuffle: False reads in the order on disk, to measure what an unshuffled
      pipeline does. Not legal in the Closed division.
    reading: by how many threads and processes, and what may be skipped.

  Returns:
    An iterator, which can be closed, of batches, B = batch_size / hosts: the
    fields, [B, ...] each, and `weight` float32 [B] of ones.
  """
  share = batching.Share(batch_size, host, hosts)
  rows = batching.training_rows(len(split), share, seed=seed, shuffle=shuffle)
  read = _Reader(split, fields, fill, reading.skips)
  return batching.batches(rows, read, first_step=first_step, reading=reading)


def eval_batches(
  split: dataset.Split,
  fields: Fields,
  fill: Fill,
  *,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
  reading: batching.Reading = batching.DEFAULT_READING,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every record once, over all hosts.

  Returns batches as `train_batches`, equally many on every host. Rows that pad
  the last ones are zero, and so is their weight. Nothing is skipped.
  """
  share = batching.Share(batch_size, host, hosts)
  rows = batching.evaluation_rows(len(split), share)
  read = _Reader(split, fields, fill)
  return batching.batches(rows, read, reading=reading)


def values(
  features: Features,
  name: str,
  dtype: Any,
  shape: Sequence[int] | None = None,
) -> np.ndarray:
  """A feature's numbers: a list of them, or the bytes of an array.

  Args:
    features: of a record.
    name: of the feature.
    dtype: that the numbers are to have; that of the bytes, little-endian.
    shape: that they are to have; None: as many as there are, one or more, [N].

  Returns:
    An array, which may be read only. ValueError where there is no such one.
  """
  dtype = np.dtype(dtype).newbyteorder('<')
  feature = features[name]
  kind = feature.WhichOneof('kind')
  if kind == 'bytes_list':
    data = one(features, name)
    if len(data) % dtype.itemsize:
      raise ValueError(
        f'Expected {dtype} numbers as bytes in {name!r}, got {len(data)} bytes.'
      )
    found = np.frombuffer(data, dtype)
  else:
    found = np.asarray(getattr(feature, kind).value if kind else (), dtype)
  if not len(found) if shape is None else found.size != math.prod(shape):
    expected = 'numbers' if shape is None else f'numbers of the shape {shape}'
    raise ValueError(f'Expected {expected} in {name!r}, got {found.size}.')
  return found if shape is None else found.reshape(shape)


def one(features: Features, name: str) -> bytes:
  """The one value of a feature of bytes, which is not empty; ValueError."""
  found = features[name].bytes_list.value
  if len(found) != 1 or not found[0]:
    size = sum(map(len, found))
    raise ValueError(
      f'Expected a value of {name!r}, got {len(found)} of {size} bytes.'
    )
  return found[0]


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Rows -> a batch; padding stays zero."""

  split: dataset.Split
  fields: Fields
  fill: Fill
  skips: Skips | None = None

  def __call__(self, rows: batching.Rows) -> batching.Batch:
    count = len(rows.weight)
    batch = {'weight': rows.weight}
    for name, field in self.fields.items():
      dtype, *shape = field if isinstance(field, tuple) else (field,)
      batch[name] = batching.zeros((count, *shape), dtype)
    real = rows.records[rows.weight > 0].tolist()  # padding comes last
    if self.skips is None:
      self._fill(batch, slice(0, len(real)), rows.first, real)
    else:
      for row, record in enumerate(real):
        self._fill_or_skip(batch, row, rows.first + row, record)
    return batch

  def _fill(self, batch, at: slice, first: int, numbers: Sequence[int]) -> None:
    if not numbers:
      return
    found = [
      Record(self.split, number, features)
      for number, features in zip(
        numbers, self.split.records(numbers), strict=True
      )
    ]
    part = {name: batch[name][at] for name in self.fields}
    self.fill(part, first, found)

  def _fill_or_skip(self, batch, row: int, place: int, number: int) -> None:
    """Writes one row, from the next record that can be read."""
    for each in itertools.count(number):
      each %= len(self.split)
      try:
        return self._fill(batch, slice(row, row + 1), place, [each])
      except dataset.CorruptRecordError as error:
        self.skips.count(each, error)
        for name in self.fields:
          batch[name][row] = 0
