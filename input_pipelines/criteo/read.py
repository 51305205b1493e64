"""Batches of clicks: Criteo's, and any data set of the same schema.

A record holds a few thousand clicks. A mini-batch is a fixed run of clicks, as
the preparation shuffled them; what a run of training draws is the order of the
mini-batches, or nothing. So a batch depends on the seed and its step alone.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os

from etils import epath
import grain
import numpy as np

from input_pipelines.criteo import CATEGORIES, COUNTS, multi_hot
from input_pipelines.reading import batching, dataset, random_access

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

BLOCK = 2048  # clicks of a record, the last one of a split excepted

_MOST_STEPS = 2**62


@dataclasses.dataclass(frozen=True)
class Facts:
  """Metadata of a data set of clicks."""

  train: int  # clicks
  test: int
  tables: tuple[int, ...]  # rows of each
  hots: tuple[int, ...]  # ids that a click has in each
  log_offset: int  # integers enter as ln(x + this)


@dataclasses.dataclass(frozen=True)
class Block:
  """Clicks of one record."""

  label: np.ndarray  # uint8 [R]
  counts: np.ndarray  # int32 [R, 13]
  ids: np.ndarray  # int32 [R, 26]

  def __len__(self) -> int:
    return len(self.label)


class Clicks:
  """A data set, open: blocks of its splits, and what one id stands for."""

  def __init__(self, directory: epath.PathLike):
    """ValueError where the metadata are not those of clicks."""
    self.facts = facts(directory)
    self._directory = os.fspath(directory)
    self._splits = {name: dataset.Split(directory, name) for name in ROWS}
    self._drawn = multi_hot.read(directory, self.facts.tables, self.facts.hots)

  def __reduce__(self):
    return Clicks, (self._directory,)  # a process opens the files itself

  def rows(self, split: str) -> int:
    """Clicks of a split."""
    return getattr(self.facts, split)

  def batch(self, split: str, first: int, end: int, size: int):
    """Clicks first to end as a batch of `size` rows, the others padding."""
    wide = sum(self.facts.hots)
    batch = {
      'dense': batching.zeros((size, COUNTS), np.float32),
      'ids': batching.zeros((size, wide), np.int32),
      'label': batching.zeros((size,), np.float32),
      'weight': batching.zeros((size,), np.float32),
    }
    at = first
    while at < end:
      block = self._block(split, at // BLOCK)
      begin = at % BLOCK
      count = min(len(block) - begin, end - at)
      to = slice(at - first, at - first + count)
      part = slice(begin, begin + count)
      # All of a block while it is in the processor's cache.
      dense = batch['dense'][to]
      dense[:] = block.counts[part]
      dense += np.float32(self.facts.log_offset)
      np.log(dense, out=dense)
      batch['label'][to] = block.label[part]
      self._expand(block.ids[part], batch['ids'][to])
      at += count
    batch['weight'][: end - first] = 1
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

  def _block(self, split: str, record: int) -> Block:
    records = self._splits[split]
    try:
      block = block_of(records[record])
      expected = min(BLOCK, self.rows(split) - record * BLOCK)
      if len(block) != expected:
        raise ValueError(f'Expected {expected} clicks, got {len(block)}.')
      return block
    except ValueError as error:
      raise records.corrupt(record, error) from error


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
  dataset.verify(
    directory, splits={'train': records(train), 'test': records(test)}
  )
  multi_hot.read(directory, got.tables, got.hots)


def records(rows: int) -> int:
  """The records that so many clicks take."""
  return -(-rows // BLOCK)


def block_of(features: Mapping) -> Block:
  """The clicks of one record, by its features; ValueError if they are none."""
  label = _numbers(features, 'label', np.uint8, 0)
  counts = _numbers(features, 'counts', np.int32, COUNTS)
  ids = _numbers(features, 'ids', np.int32, CATEGORIES)
  if not len(label) == len(counts) == len(ids) or not len(label):
    raise ValueError(
      f'Expected as many labels as integers and ids, got {len(label)}, '
      f'{len(counts)} and {len(ids)}.'
    )
  return Block(label, counts, ids)


def check(features: Mapping, tables: Sequence[int]) -> None:
  """Raises ValueError unless a record holds clicks with ids of these tables."""
  block = block_of(features)
  most, least = block.ids.max(axis=0), block.ids.min()
  if least < 0 or (most >= tables).any():
    table = int(np.argmax(most >= np.asarray(tables)))
    raise ValueError(
      f'Expected ids from 0 on, below {tables[table]} in table {table}, got '
      f'{least} and up to {most[table]}.'
    )
  if block.label.max() > 1 or block.counts.min() < 0:
    raise ValueError(
      f'Expected labels of 0 or 1 and integers from 0 on, got '
      f'{block.label.max()} and {block.counts.min()}.'
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


def _numbers(
  features: Mapping, name: str, dtype: type, width: int
) -> np.ndarray:
  values = features[name].bytes_list.value
  data = values[0] if len(values) == 1 else b''
  row = np.dtype(dtype).itemsize * max(1, width)
  if len(data) % row:
    raise ValueError(
      f'Expected rows of {row} bytes in {name!r}, got {len(data)} bytes.'
    )
  found = np.frombuffer(data, dtype)
  return found.reshape(-1, width) if width else found
