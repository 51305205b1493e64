"""Writes MovieLens 20M, as pairs of a user and an item, from its official zip.

The steps are those of the benchmark's rules: every rating is a choice, whatever
it says; users of fewer than 20 ratings are left out; users and items get
numbers from 0 on, in order of first appearance in the file; the last choice of
every user by time is held out, and of those of the same second the one that
stands last in the file.
"""

from collections.abc import Callable, Mapping
import dataclasses
import os
from typing import Any, BinaryIO
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.movielens import read as movielens
from input_pipelines.writing import downloads, recipe, work, writer

ARCHIVE = 'ml-20m.zip'
MD5 = 'cd245b17a1ae2cc31bb14903e1204af3'
FILE = 'ml-20m/ratings.csv'
VERSION = '1.0.0'
MIN_RATINGS = 20  # of a user
SHARDS = 4

HOW_TO = """\
MovieLens 20M may be used for research, is not to be redistributed, and is to be
acknowledged; its README.txt says how.
  1. Download https://files.grouplens.org/datasets/movielens/ml-20m.zip, 190 MB,
     into {downloads}.
  2. Run this command again: it checks it and writes the data set."""

_HEADER = b'userId,movieId,rating,timestamp'
_PIECE = 1 << 24  # bytes that are read at once


@dataclasses.dataclass(frozen=True)
class Ratings:
  """Ratings in the order of the file; what they say is left out."""

  user: np.ndarray  # int64 [N], as the file numbers them
  item: np.ndarray  # int64 [N]
  time: np.ndarray  # int64 [N], seconds since 1970

  def __len__(self) -> int:
    return len(self.user)

  def __getitem__(self, chosen: np.ndarray) -> 'Ratings':
    """Some of them, by bool or int [M]."""
    return Ratings(self.user[chosen], self.item[chosen], self.time[chosen])


def build(
  order: recipe.Order,
  *,
  md5: str = MD5,
  users: int = movielens.USERS,
  items: int = movielens.ITEMS,
  train: int = movielens.ROWS['train'],
) -> str:
  """Writes the data set from the zip; returns its directory.

  Args:
    order: where the zip is, where the data set goes, and how.
    md5: of the zip.
    users: that it must come to.
    items: that it must come to.
    train: pairs to train on that it must come to.
  """
  path = find(order)
  directory = recipe.place(order.data_dir, movielens.NAME, VERSION)
  made = {**made_of(order, path), 'recipe': movielens.NAME}
  with writer.begin(directory, made) as unfinished:
    downloads.check_md5(order, [path], {ARCHIVE: md5})
    data = hold_out(read(order, path))
    got = (data.users, data.items, len(data))
    if got != (users, items, train):
      raise ValueError(
        f'Expected {users} users, {items} items and {train} pairs to train on '
        f'of {path}, got {got[0]}, {got[1]} and {got[2]}.'
      )
    return write(
      unfinished,
      data,
      name=movielens.NAME,
      description='MovieLens 20M as pairs of a user and an item.',
      shards=SHARDS,
      order=order,
    )


def find(order: recipe.Order) -> str:
  """The path of the zip."""
  path = os.path.join(os.path.expanduser(order.downloads), ARCHIVE)
  if not os.path.isfile(path):
    raise FileNotFoundError(f'Expected {path}, found nothing there.')
  return path


def made_of(order: recipe.Order, path: str) -> dict[str, Any]:
  """Sources of a data set, for its manifest."""
  return {
    'source': downloads.facts([path]),
    'options': {'check_downloads': order.check_downloads},
    'versions': recipe.versions(),
  }


def read(order: recipe.Order, path: str) -> Ratings:
  """The ratings in the zip."""
  try:
    with zipfile.ZipFile(path) as archive, archive.open(FILE) as file:
      size = archive.getinfo(FILE).file_size
      tell = order.stage(f'Reading {FILE}', 'bytes')
      return read_csv(file, size=size, progress=tell)
  except (zipfile.BadZipFile, KeyError, EOFError) as error:
    raise ValueError(f'Expected {FILE} in {path}, got: {error}') from error


def read_csv(
  file: BinaryIO, *, size: int = 0, progress: work.Progress | None = None
) -> Ratings:
  """Reads MovieLens' ratings.csv, a piece at a time.

  Args:
    file: opened in binary mode.
    size: its bytes, for the progress.
    progress: told of the bytes read.
  """
  header = file.readline()
  if header.strip() != _HEADER:
    raise ValueError(
      f'Expected a first line {_HEADER.decode()}, got {header[:80]!r}.'
    )
  found = [np.empty((0, 3), np.int64)]
  lines = 1
  while piece := file.read(_PIECE):
    piece += file.readline()
    found.append(_parse(piece, lines))
    lines += len(found[-1])
    if progress:
      progress(min(size, file.tell()), size)
  rows = np.concatenate(found)
  return Ratings(rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy())


def _parse(lines: bytes, before: int) -> np.ndarray:
  """Lines of the file: user, item and time, int64 [N, 3]."""
  count = lines.count(b'\n') + (not lines.endswith(b'\n'))
  commas = lines.rstrip().replace(b'\n', b',').decode('ascii', 'replace')
  try:
    numbers = np.fromiter(map(float, commas.split(',')), np.float64)
  except ValueError as error:
    raise ValueError(
      f'Expected numbers in the lines {before + 1} to {before + count}, got: '
      f'{error}'
    ) from error
  if len(numbers) != 4 * count:
    raise ValueError(
      f'Expected 4 values in each of the lines {before + 1} to '
      f'{before + count}, got {len(numbers)} in all.'
    )
  return numbers.reshape(-1, 4)[:, [0, 1, 3]].astype(np.int64)


def hold_out(
  ratings: Ratings, min_ratings: int = MIN_RATINGS
) -> movielens.Interactions:
  """From ratings to the pairs to train on and the held-out items."""
  _, user, counts = np.unique(
    ratings.user, return_inverse=True, return_counts=True
  )
  ratings = ratings[counts[user] >= min_ratings]
  if not len(ratings):
    raise ValueError(f'Expected users of {min_ratings} ratings, got none.')
  user = number(ratings.user)
  item = number(ratings.item)
  last = last_of_each(user, ratings.time)
  keys = movielens.key(user, item)
  train = np.sort(np.delete(keys, last))
  if (repeated := train[1:] == train[:-1]).any() or np.isin(
    keys[last], train
  ).any():
    raise ValueError(
      'Expected every user to rate an item once, got '
      f'{repeated.sum() + np.isin(keys[last], train).sum()} repeats.'
    )
  return movielens.Interactions(
    users=int(user.max()) + 1,
    items=int(item.max()) + 1,
    keys=train,
    test_item=item[last].astype(np.int32),
  )


def number(values: np.ndarray) -> np.ndarray:
  """Numbers from 0 on, in order of first appearance: int64 [N]."""
  _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
  numbers = np.empty(len(first), np.int64)
  numbers[np.argsort(first)] = np.arange(len(first))
  return numbers[inverse]


def last_of_each(user: np.ndarray, time: np.ndarray) -> np.ndarray:
  """The latest rating of each user; of several the last: int64 [users]."""
  order = np.lexsort((time, user))  # stable
  ends = np.append(np.flatnonzero(np.diff(user[order])), len(user) - 1)
  return order[ends]


def write(
  unfinished: writer.Unfinished,
  data: movielens.Interactions,
  *,
  name: str,
  description: str,
  shards: int,
  order: recipe.Order,
) -> str:
  """Writes pairs as a TFDS data set; returns its directory.

  Args:
    unfinished: where to, of `writer.begin`.
    data: the pairs.
    name: of the data set.
    description: for its metadata.
    shards: of the training split; the other has one.
    order: how.
  """
  test = movielens.key(np.arange(data.users), data.test_item)
  rows = {'train': len(data), 'test': len(test)}

  def block_of(keys: np.ndarray) -> Callable[[int], np.ndarray]:
    return lambda i: keys[i * movielens.BLOCK : (i + 1) * movielens.BLOCK]

  return write_blocks(
    unfinished,
    info(
      unfinished.directory,
      name,
      description,
      users=data.users,
      items=data.items,
      rows=rows,
    ),
    {'train': block_of(data.keys), 'test': block_of(test)},
    {'train': shards, 'test': 1},
    order=order,
  )


def write_blocks(
  unfinished: writer.Unfinished,
  info: tfds.core.DatasetInfo,
  blocks: Mapping[str, Callable[[int], np.ndarray]],
  shards: Mapping[str, int],
  *,
  notes: Mapping[str, Any] | None = None,
  order: recipe.Order,
) -> str:
  """Writes blocks of rows that are made when they are written.

  Args:
    unfinished: where to, of `writer.begin`.
    info: of `info`.
    blocks: split -> from the number of a block to its rows as keys, int64 [R].
    shards: split -> the number of them.
    notes: for the manifest.
    order: how.
  """

  def example_of(block: Callable[[int], np.ndarray]):
    def example(i: int) -> writer.Example:
      keys = block(i)
      return {
        'user': (keys >> 32).astype(np.int32),
        'item': keys.astype(np.int32),
      }

    return example

  splits = []
  for name, block in blocks.items():
    records = movielens.records(info.metadata[name])
    splits.append(
      writer.Split(name, records, min(shards[name], records), example_of(block))
    )
  return writer.write(
    unfinished,
    info,
    splits,
    notes=notes,
    threads=order.threads,
    progress=order.stage('Writing', 'blocks'),
  )


def info(
  directory: str,
  name: str,
  description: str,
  *,
  users: int,
  items: int,
  rows: Mapping[str, int],
) -> tfds.core.DatasetInfo:
  """The metadata of a data set of pairs."""
  column = writer.column(np.int32)
  return writer.info(
    directory,
    name=name,
    version=VERSION,
    description=description,
    module=__name__,
    features={'user': column, 'item': column},
    facts={'users': users, 'items': items, **rows},
  )


def check(
  features: Mapping[str, Any],
  users: int = movielens.USERS,
  items: int = movielens.ITEMS,
) -> None:
  """Raises ValueError unless a record holds rows of these users and items."""
  keys = movielens.row_keys(features)
  user, item = (keys >> 32).max(), keys.astype(np.int32).max()
  if user >= users or item >= items:
    raise ValueError(
      f'Expected users in [0, {users}) and items in [0, {items}), got user '
      f'{user} and item {item}.'
    )


RECIPES = (
  recipe.Recipe(
    name=movielens.NAME,
    summary='MovieLens 20M: which of 26,744 films 138,493 users rated',
    licence='research; not to be redistributed (ml-20m/README.txt)',
    bytes=161_000_000,
    splits={name: movielens.records(n) for name, n in movielens.ROWS.items()},
    verify=movielens.verify,
    check=check,
    build=build,
    needs='a zip that is downloaded by hand, 190 MB',
    how_to=HOW_TO,
  ),
)
