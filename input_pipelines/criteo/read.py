"""Batches of clicks: Criteo's, and any data set of the same schema.

Clicks are rows of NumPy files, which are mapped into memory; a record of the
data set describes a file. A mini-batch is a fixed run of clicks, as the
preparation shuffled them; what a run of training draws is the order of the
mini-batches, or nothing. So a batch depends on the seed and its step alone.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any

from etils import epath
import grain
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.criteo import CATEGORIES, COUNTS, multi_hot
from input_pipelines.reading import batching, dataset, mapped, random_access

NAME = 'criteo_1tb'
MULTI_HOT_NAME = 'criteo_1tb_multi_hot'
ROWS = {'train': 4_195_197_692, 'test': 89_137_319}
# Rows of the tables. Values were taken modulo 40,000,000, then numbered.
TABLES = (
  39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546,
  403346, 10, 2208, 11938, 155, 4, 976, 14, 39979771, 25641295, 39664984,
  585935, 12972, 108, 36,
)  # fmt: skip
ONE_HOT = (1,) * CATEGORIES
# The same of the multi-hot data: numbered, then modulo the size of the table.
MULTI_HOT_TABLES = (
  40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956,
  405282, 10, 2209, 11938, 155, 4, 976, 14, 40000000, 40000000, 40000000,
  590152, 12973, 108, 36,
)  # fmt: skip
HOTS = (
  3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3,
  1, 1,
)  # fmt: skip

# A row of a file, int32, as the reference's: label, 13 integers, 26 ids.
ROW = 1 + COUNTS + CATEGORIES
FEATURES = {
  'clicks': tfds.features.Scalar(np.int64),  # rows of the file
  'least': tfds.features.Tensor(shape=(ROW,), dtype=np.int64),  # of a column
  'most': tfds.features.Tensor(shape=(ROW,), dtype=np.int64),
}
_PIECE = 2048  # clicks that stay in a processor's cache
_MOST_STEPS = 2**62


@dataclasses.dataclass(frozen=True)
class Facts:
  """Metadata of a data set of clicks."""

  train: int  # clicks
  test: int
  tables: tuple[int, ...]  # rows of each
  hots: tuple[int, ...]  # ids that a click has in each
  log_offset: int  # integers enter as ln(x + this)


class Clicks:
  """A data set, open: rows of its splits, and what one id stands for."""

  def __init__(self, directory: epath.PathLike):
    """ValueError where metadata or files are not those of clicks."""
    self.facts = facts(directory)
    self._directory = os.fspath(directory)
    mapped.require_disk(directory)
    sizes = files(directory)
    dataset.allow_open_files(sum(map(len, sizes.values())))
    self._files = {
      split: [
        mapped.load(path_of(directory, split, number), (rows, ROW), np.int32)
        for number, rows in enumerate(of_split)
      ]
      for split, of_split in sizes.items()
    }
    self._drawn = multi_hot.read(directory, self.facts.tables, self.facts.hots)

  def __reduce__(self):
    return Clicks, (self._directory,)  # a process maps the files itself

  def rows(self, split: str) -> int:
    """Clicks of a split."""
    return getattr(self.facts, split)

  def runs(self, split: str, first: int, end: int) -> Iterator[np.ndarray]:
    """Clicks first to end of a split, at most so many at a time as a cache has.

    Int32 [R, 40], of the disk: label, integers, one id a table.
    """
    size = len(self._files[split][0])
    while first < end:
      number, begin = divmod(first, size)
      run = self._files[split][number][begin : begin + min(_PIECE, end - first)]
      yield run
      first += len(run)

  def batch(self, split: str, first: int, end: int, size: int):
    """Clicks first to end as a batch of `size` rows, the others padding."""
    wide = sum(self.facts.hots)
    batch = {
      'dense': batching.zeros((size, COUNTS), np.float32),
      'ids': batching.zeros((size, wide), np.int32),
      'label': batching.zeros((size,), np.float32),
      'weight': batching.zeros((size,), np.float32),
    }
    at = 0
    for run in self.runs(split, first, end):
      to = slice(at, at + len(run))
      dense = batch['dense'][to]
      dense[:] = run[:, 1 : 1 + COUNTS]
      dense += np.float32(self.facts.log_offset)
      np.log(dense, out=dense)
      batch['label'][to] = run[:, 0]
      self._expand(run[:, 1 + COUNTS :], batch['ids'][to])
      at += len(run)
    batch['weight'][:at] = 1
    return batch

  def _expand(self, ids: np.ndarray, into: np.ndarray) -> None:
    """From one id a table, int32 [N, 26], to all of them."""
    if sum(self.facts.hots) == CATEGORIES:
      into[:] = ids
      return
    for drawn, to, one in zip(
      self._drawn,
      multi_hot.columns(self.facts.hots),
      np.ascontiguousarray(ids.T),
      strict=True,
    ):
      into[:, to.start] = one
      if drawn is not None and drawn.shape[1] == 1:  # faster than a row of one
        into[:, to.start + 1] = drawn[:, 0].take(one)
      elif drawn is not None:
        into[:, to.start + 1 : to.stop] = drawn.take(one, axis=0)


def load(directory: epath.PathLike) -> Clicks:
  """Opens a data set of clicks; what is read of it stays with the system."""
  return Clicks(directory)


def facts(directory: epath.PathLike) -> Facts:
  """Clicks, tables and the rest, from the metadata."""
  metadata = dataset.load(directory).info.metadata or {}
  names = [field.name for field in dataclasses.fields(Facts)]
  if lacks := [name for name in names if metadata.get(name) is None]:
    raise ValueError(
      f'Expected the {" and ".join(lacks)} in metadata.json of '
      f'{os.fspath(directory)}, got {dict(metadata)}.'
    )
  found = Facts(
    **{
      name: tuple(value) if isinstance(value, list) else value
      for name in names
      for value in [metadata[name]]
    }
  )
  for name in ('tables', 'hots'):
    if len(getattr(found, name)) != CATEGORIES:
      raise ValueError(
        f'Expected {CATEGORIES} {name} in metadata.json of '
        f'{os.fspath(directory)}, got {getattr(found, name)}.'
      )
  return found


def verify(
  directory: epath.PathLike,
  *,
  train: int = ROWS['train'],
  test: int = ROWS['test'],
  tables: Sequence[int] = TABLES,
  hots: Sequence[int] | None = None,
) -> None:
  """Raises unless a directory holds these clicks; reads metadata alone.

  Args:
    directory: of the data set.
    train: clicks to train on.
    test: clicks of evals.
    tables: rows of each table.
    hots: ids of a click in each; None: one.
  """
  got = facts(directory)
  expected = {
    'train': train,
    'test': test,
    'tables': tuple(tables),
    'hots': tuple(hots or ONE_HOT),
  }
  for name, value in expected.items():
    if getattr(got, name) != value:
      what = f'clicks in {name!r}' if name in ROWS else name
      raise ValueError(
        f'Expected {value} {what} of {os.fspath(directory)}, got '
        f'{getattr(got, name)}.'
      )
  mapped.require_disk(directory)
  sizes = files(directory)
  dataset.verify(
    directory,
    splits={split: len(of_split) for split, of_split in sizes.items()},
    features={name: type(kind) for name, kind in FEATURES.items()},
  )
  for split, of_split in sizes.items():
    shapes = [(rows, ROW) for rows in of_split]
    mapped.verify(directory, split, shapes, np.int32)
  multi_hot.read(directory, got.tables, got.hots)


def layout(rows: int, most: int) -> list[int]:
  """Rows of each file of a split, at most so many; all but the last alike."""
  size = -(-rows // most)
  return [min(size, rows - first) for first in range(0, rows, size)]


def files(directory: epath.PathLike) -> dict[str, list[int]]:
  """Rows of the files of each split, by the metadata."""
  got, splits = facts(directory), dataset.load(directory).info.splits
  if lacks := sorted({*ROWS} - {*splits}):
    raise ValueError(
      f'Expected the splits {" and ".join(ROWS)} in {os.fspath(directory)}, '
      f'found no {" and no ".join(lacks)}.'
    )
  return {
    split: layout(getattr(got, split), splits[split].num_examples)
    for split in ROWS
  }


def path_of(directory: epath.PathLike, split: str, number: int) -> str:
  """A file of clicks."""
  return mapped.path_of(directory, f'{number:05d}', split)


def described(rows: np.ndarray) -> dict[str, Any]:
  """The record of a file with these rows [N, 40]."""
  return {
    'clicks': len(rows),
    'least': rows.min(axis=0).astype(np.int64),
    'most': rows.max(axis=0).astype(np.int64),
  }


def check(features: Mapping, tables: Sequence[int]) -> None:
  """ValueError unless a record is of clicks with ids of these tables."""
  least, most = (
    np.asarray(features[name].int64_list.value) for name in ('least', 'most')
  )
  if len(least) != ROW or len(most) != ROW:
    raise ValueError(
      f'Expected the least and the most of {ROW} columns, got {len(least)} and '
      f'{len(most)}.'
    )
  if least.min() < 0 or most[0] > 1:
    raise ValueError(
      'Expected labels of 0 or 1, and integers and ids from 0 on, got '
      f'{least.min()}, and labels up to {most[0]}.'
    )
  over = np.flatnonzero(most[1 + COUNTS :] >= tables)
  if len(over):
    table = int(over[0])
    raise ValueError(
      f'Expected ids below {tables[table]} in table {table}, got '
      f'{most[1 + COUNTS + table]}.'
    )


def steps_per_epoch(rows: int, batch_size: int, *, drop_last: bool) -> int:
  """Mini-batches of an epoch, a short last one included or dropped."""
  return rows // batch_size if drop_last else -(-rows // batch_size)


def train_batches(
  clicks: Clicks,
  *,
  batch_size: int,
  seed: int,
  shuffle: bool,
  drop_last: bool,
  first_step: int = 0,
  host: int = 0,
  hosts: int = 1,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Args:
    clicks: the data set.
    batch_size: over all hosts.
    seed: from 0 on; orders the mini-batches of each epoch.
    shuffle: False visits them as they are on disk.
    drop_last: whether the last clicks, fewer than a batch, are left out; if
      not, padding of weight 0 fills their batch.
    first_step: through all epochs, at which a resumed run starts.
    host: which of the `hosts` this is.
    hosts: how many share the rows of a batch.
    threads: that make batches ahead; None for one a core, 0 for none.

  Returns:
    An iterator, which can be closed, of batches, B = batch_size / hosts:
    `dense` float32 [B, 13], `ids` int32 [B, F], those of a table after those
    of the one before, `label` and `weight` float32 [B].
  """
  rows = clicks.rows('train')
  steps = steps_per_epoch(rows, batch_size, drop_last=drop_last)
  if not steps:
    raise ValueError(
      f'Expected at least {batch_size} clicks, a batch, got {rows}.'
    )
  share = batching.Share(batch_size, host, hosts)

  @functools.lru_cache(2)
  def order(epoch: int) -> random_access.Order:
    return random_access.Order(steps, seed, epoch)

  def read(step: int) -> batching.Batch:
    epoch, number = divmod(step, steps)
    if shuffle:
      number = int(order(epoch)(np.array([number]))[0])
    return _share_of(clicks, 'train', share, number)

  stream = grain.MapDataset.range(_MOST_STEPS)
  reading = batching.Reading(threads=threads)
  return batching.batches(stream, read, first_step=first_step, reading=reading)


def eval_batches(
  clicks: Clicks,
  *,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass over the test clicks, in their order.

  All hosts get as many batches; padding of weight 0 fills the last ones. See
  `train_batches`.
  """
  share = batching.Share(batch_size, host, hosts)
  steps = steps_per_epoch(clicks.rows('test'), batch_size, drop_last=False)
  return batching.batches(
    grain.MapDataset.range(steps),
    lambda step: _share_of(clicks, 'test', share, step),
    reading=batching.Reading(threads=threads),
  )


def _share_of(
  clicks: Clicks, split: str, share: batching.Share, number: int
) -> batching.Batch:
  """A host's rows of a mini-batch."""
  first = min(share.first(number), clicks.rows(split))
  end = min(first + share.rows, clicks.rows(split))
  return clicks.batch(split, first, end, share.rows)
