"""MovieLens 20M, expanded 16 times in users and 32 times in items.

By the randomised Kronecker product of arXiv 1901.08910. A small matrix that has
the largest singular values of the matrix of ratings holds a rate for each of
its elements. Every element becomes a block: the whole matrix of ratings, its
rows and columns shuffled anew, of which as large a share is kept as the rate
says. So users and items stay as unequal as they were, on every scale.

Nothing of the size of the result is ever in memory: which ratings a block
keeps, and where they go, is computed place by place, once to count and once to
write.
"""

import dataclasses
import functools
import os

import numpy as np
from scipy import sparse
import scipy.linalg
import scipy.sparse.linalg

from input_pipelines.movielens import prepare as plain
from input_pipelines.movielens import read as movielens
from input_pipelines.reading import random_access
from input_pipelines.writing import downloads, files, recipe, work, writer

NAME = 'movielens_20m_16x32'
FACTORS = (16, 32)  # of users and items
# What the reference's own expansion, of other random numbers, comes to.
USERS = 2_197_225
ITEMS = 855_776
TRAIN = 1_223_962_043

_SEED = 0
_MIN_TIMES = 3  # different ones of a user
_RATES = (0.01, 0.95)  # the rest, dropped, is between 0.05 and 0.99
_RATE_DIGITS = 6  # so that rounding errors of the system do not change the data
# Of the counts: its random numbers are others, and so is how it averages the
# singular vectors, which decides the rates.
_TOLERANCE = {'users': 0.05, 'train': 0.5}
_SHARDS = 64
_PIECE = 1 << 20  # ratings that are looked at together
_ROWS, _COLUMNS, _KEPT = range(3)  # what a block's random orders are for


def build(
  order: recipe.Order,
  *,
  factors: tuple[int, int] = FACTORS,
  name: str = NAME,
  md5: str = plain.MD5,
  shards: int = _SHARDS,
) -> str:
  """Writes the expanded data set from MovieLens' zip; returns its directory.

  Args:
    order: where the zip is, where the data set goes, and how.
    factors: how many times the users, and the items.
    name: of the data set.
    md5: of the zip.
    shards: of the training split.
  """
  path = plain.find(order)
  directory = recipe.place(order.data_dir, name, plain.VERSION)
  made = {
    **plain.made_of(order, path),
    'recipe': name,
    'factors': list(factors),
    'seed': _SEED,
  }
  with writer.begin(directory, made) as unfinished:
    downloads.check_md5(order, [path], {plain.ARCHIVE: md5})
    ratings = split(plain.read(order, path))
    rates = reduced(ratings, factors)
    expansion = Expansion(ratings, rates, seed=_SEED)
    users = _users(unfinished, expansion, order)
    rows = {'train': users.rows, 'test': len(users.number)}
    unfinished.require_space(8 * sum(rows.values()))
    info = plain.info(
      directory,
      name,
      f'MovieLens 20M, expanded {factors[0]} x {factors[1]} times.',
      users=rows['test'],
      items=expansion.items,
      rows=rows,
    )
    blocks = {
      'train': lambda i: train_block(expansion, users, i),
      'test': lambda i: users.test_block(i),
    }
    return plain.write_blocks(
      unfinished,
      info,
      blocks,
      {'train': shards, 'test': 1},
      notes={'rates': rates.tolist()},
      order=order,
    )


def verify(
  directory: str,
  *,
  users: int = USERS,
  items: int = ITEMS,
  train: int = TRAIN,
) -> None:
  """Raises unless a directory holds the data set; reads metadata alone.

  The numbers of users and of pairs depend on the random numbers and the rates,
  so they may differ, by a twentieth and by half.
  """
  got = movielens.facts(directory)
  for name, expected in (('users', users), ('train', train)):
    tolerance = _TOLERANCE[name]
    if abs(got[name] - expected) > tolerance * expected:
      raise ValueError(
        f'Expected {expected} {name}, or {tolerance:.0%} more or less, of '
        f'{directory}, got {got[name]}.'
      )
  movielens.verify(
    directory,
    users=got['users'],
    items=items,
    train=got['train'],
    test=got['users'],
  )


@dataclasses.dataclass(frozen=True)
class Signed:
  """A matrix of ratings, some of which are for testing; sorted by user."""

  users: int
  items: int
  user: np.ndarray  # int64 [N]
  item: np.ndarray  # int64 [N]
  test: np.ndarray  # bool [N]

  def __len__(self) -> int:
    return len(self.user)

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    """Start of each user's ratings: int64 [users + 1]."""
    return np.searchsorted(self.user, np.arange(self.users + 1))


def split(ratings: plain.Ratings) -> Signed:
  """Holds out every rating of a user's last second.

  Users of fewer than three different times are left out. Users and items are
  numbered as MovieLens orders them.
  """
  order = np.lexsort((ratings.item, ratings.time, ratings.user))
  ratings = ratings[order]
  new_user = np.diff(ratings.user, prepend=-1) != 0
  number = np.cumsum(new_user) - 1
  new_time = new_user | (np.diff(ratings.time, prepend=-1) != 0)
  times = np.bincount(number, weights=new_time)
  last = ratings.time[np.append(np.flatnonzero(new_user)[1:], len(number)) - 1]
  chosen = times[number] >= _MIN_TIMES
  if not chosen.any():
    raise ValueError(f'Expected users of {_MIN_TIMES} times, got none.')
  _, user = np.unique(ratings.user[chosen], return_inverse=True)
  names, item = np.unique(ratings.item[chosen], return_inverse=True)
  test = (ratings.time == last[number])[chosen]
  by_item = np.lexsort((item, user))
  return Signed(
    int(user[-1]) + 1, len(names), user[by_item], item[by_item], test[by_item]
  )


def reduced(ratings: Signed, factors: tuple[int, int]) -> np.ndarray:
  """The rates of the blocks: float64 [rows, columns] in [0.01, 0.95].

  The largest singular values of the training ratings, with singular vectors
  that are averaged over equal runs of users or items and made orthogonal again;
  then the absolute value, over the largest one.
  """
  kept = min(factors)
  if not 1 <= kept < min(ratings.users, ratings.items):
    raise ValueError(
      f'Expected factors from 1 on, the smaller one below '
      f'{min(ratings.users, ratings.items)}, got {factors}.'
    )
  train = ~ratings.test
  matrix = sparse.csr_array(
    (np.ones(train.sum()), (ratings.user[train], ratings.item[train])),
    shape=(ratings.users, ratings.items),
  )
  # The start is fixed, so that the result is.
  u, s, v = scipy.sparse.linalg.svds(
    matrix, kept, v0=np.ones(min(matrix.shape))
  )
  small = _orthogonal(_averaged(u, factors[0])) * s
  rates = np.abs(small @ _orthogonal(_averaged(v.T, factors[1])).T)
  return np.round(np.clip(rates / rates.max(), *_RATES), _RATE_DIGITS)


def _averaged(vectors: np.ndarray, rows: int) -> np.ndarray:
  """Means over `rows` runs of about equal length: [M, K] -> [rows, K]."""
  cuts = np.linspace(0, len(vectors), rows + 1).astype(int)
  if not (np.diff(cuts) > 0).all():
    raise ValueError(f'Expected {rows} rows or more, got {len(vectors)}.')
  sums = np.add.reduceat(vectors, cuts[:-1], axis=0)
  return sums / np.diff(cuts)[:, None]


def _orthogonal(vectors: np.ndarray) -> np.ndarray:
  """The nearest matrix of orthonormal columns, [M, K] -> [M, K]."""
  return scipy.linalg.polar(vectors)[0]


class Expansion:
  """The expanded matrix of ratings, any row of it when it is asked for."""

  def __init__(self, ratings: Signed, rates: np.ndarray, *, seed: int):
    """`rates` is float64 [rows, columns]: the share of each block's ratings."""
    self.ratings = ratings
    self.rows, self.columns = rates.shape
    self._seed = seed
    self._kept = np.maximum(1, (rates * len(ratings)).astype(np.int64))

  @property
  def users(self) -> int:
    """Rows of the expanded matrix, empty ones too."""
    return self.rows * self.ratings.users

  @property
  def items(self) -> int:
    """Columns of the expanded matrix."""
    return self.columns * self.ratings.items

  def kept(self, row: int, column: int, rating: np.ndarray) -> np.ndarray:
    """Mask of the ratings that a block keeps, int64 [M] -> bool [M]."""
    place = self._order(row, column, _KEPT)(rating)
    return place < self._kept[row, column]

  def sources(self, row: int, column: int, user: np.ndarray) -> np.ndarray:
    """Whose ratings rows of a block are made of: int64 [M] -> int64 [M]."""
    return self._order(row, column, _ROWS)(user).astype(np.int64)

  def moved(self, row: int, column: int, item: np.ndarray) -> np.ndarray:
    """Columns of the expanded matrix of a block's items: int64 [M]."""
    moved = self._order(row, column, _COLUMNS)(item).astype(np.int64)
    return moved + column * self.ratings.items

  def of_users(self, row: int, first: int, end: int) -> 'Found':
    """The ratings of users first to end of a row of blocks, by user, item."""
    users, keys, tests = np.arange(first, end), [], []
    for column in range(self.columns):
      source = self.sources(row, column, users)
      begins = self.ratings.offsets[source]
      lengths = self.ratings.offsets[source + 1] - begins
      user = np.repeat(users, lengths)
      rating = np.arange(len(user)) + np.repeat(
        begins - (np.cumsum(lengths) - lengths), lengths
      )
      kept = np.flatnonzero(self.kept(row, column, rating))
      rating, user = rating[kept], user[kept]
      item = self.moved(row, column, self.ratings.item[rating])
      keys.append(movielens.key(user, item))
      tests.append(self.ratings.test[rating])
    found, test = np.concatenate(keys), np.concatenate(tests)
    return Found(np.sort(found[~test]), np.sort(found[test]))

  def counts(self, row: int, tick: work.Tick) -> 'Counts':
    """Choices of the users of a row of blocks; the ticks count ratings."""
    ratings = self.ratings
    train = np.zeros(ratings.users, np.int64)
    test = np.full(ratings.users, -1, np.int64)
    for column in range(self.columns - 1, -1, -1):
      source = self.sources(row, column, np.arange(ratings.users))
      of_source = np.zeros(ratings.users, np.int64)
      first = np.full(ratings.users, self.items, np.int64)
      for begin in range(0, len(ratings), _PIECE):
        piece = np.arange(begin, min(begin + _PIECE, len(ratings)))
        piece = piece[self.kept(row, column, piece)]
        user, is_test = ratings.user[piece], ratings.test[piece]
        of_source += np.bincount(user[~is_test], minlength=ratings.users)
        held_out = piece[is_test]
        np.minimum.at(
          first,
          user[is_test],
          self.moved(row, column, ratings.item[held_out]),
        )
        tick(min(begin + _PIECE, len(ratings)) - begin)
      train += of_source[source]
      # Columns to the left hold the smaller items, and come last.
      test = np.where(first[source] < self.items, first[source], test)
    return Counts(train, test)

  def _order(self, row: int, column: int, use: int) -> random_access.Order:
    length = {
      _ROWS: self.ratings.users,
      _COLUMNS: self.ratings.items,
      _KEPT: len(self.ratings),
    }[use]
    return _order(length, self._seed, row, column, use)


@functools.lru_cache(4096)
def _order(length: int, *seed: int) -> random_access.Order:
  return random_access.Order(length, *seed)


@dataclasses.dataclass(frozen=True)
class Found:
  """Pairs as keys, of users counted within their row of blocks."""

  train: np.ndarray  # int64 [N], sorted
  test: np.ndarray  # int64 [M], sorted


@dataclasses.dataclass(frozen=True)
class Counts:
  """Choices of the users of a row of blocks."""

  train: np.ndarray  # int64 [users], pairs to train on
  test: np.ndarray  # int64 [users], the smallest held-out item, or -1


class Users:
  """The users that are left, in order; those without a pair of a kind go."""

  def __init__(self, counts: Counts):
    """`counts` of all the rows of blocks, one after another."""
    self.number = np.flatnonzero((counts.train > 0) & (counts.test >= 0))
    if not len(self.number):
      raise ValueError('Expected users with pairs of both kinds, got none.')
    self._test = counts.test[self.number]
    # Where the pairs of each one begin: int64 [users + 1].
    self.offsets = np.append(0, np.cumsum(counts.train[self.number]))

  @property
  def rows(self) -> int:
    """Pairs to train on."""
    return int(self.offsets[-1])

  def test_block(self, number: int) -> np.ndarray:
    """A block of the test split as keys, int64 [R]."""
    first = number * movielens.BLOCK
    items = self._test[first : first + movielens.BLOCK]
    return movielens.key(np.arange(first, first + len(items)), items)


def train_block(expansion: Expansion, users: Users, number: int) -> np.ndarray:
  """A block of the training split as keys, int64 [R]."""
  first = number * movielens.BLOCK
  end = min(first + movielens.BLOCK, users.rows)
  low = int(np.searchsorted(users.offsets, first, 'right')) - 1
  high = int(np.searchsorted(users.offsets, end, 'left'))
  in_row = expansion.ratings.users
  keys, last = [], int(users.number[high - 1])
  at = int(users.number[low])
  while at <= last:  # of one row of blocks, or of two
    row = at // in_row
    stop = min(last + 1, (row + 1) * in_row)
    found = expansion.of_users(row, at - row * in_row, stop - row * in_row)
    keys.append(found.train + (row * in_row << 32))
    at = stop
  found = np.concatenate(keys)
  # Users that were left out have rows here; the others get their new numbers.
  user = found >> 32
  new = np.searchsorted(users.number, user)
  left = users.number[np.minimum(new, len(users.number) - 1)] == user
  found = movielens.key(new[left], found[left].astype(np.int32))
  return found[first - users.offsets[low] :][: end - first]


def _users(
  unfinished: writer.Unfinished, expansion: Expansion, order: recipe.Order
) -> Users:
  """The users that are left; counted once, and kept for a restart."""
  saved = unfinished.path('counts.npz')
  if not os.path.exists(saved):
    found = count(expansion, order.threads, order.stage('Counting', 'ratings'))
    partial = unfinished.path('partial', 'counts.npz')
    np.savez(partial, train=found.train, test=found.test)
    files.place(partial, saved)
  with np.load(saved) as arrays:
    return Users(Counts(arrays['train'], arrays['test']))


def count(
  expansion: Expansion,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> Counts:
  """Choices of every user of the expanded matrix."""
  of_rows: list[Counts] = work.each(
    expansion.counts,
    range(expansion.rows),
    whole=expansion.rows * expansion.columns * len(expansion.ratings),
    threads=threads,
    progress=progress,
  )
  return Counts(
    np.concatenate([each.train for each in of_rows]),
    np.concatenate([each.test for each in of_rows]),
  )


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='MovieLens 20M expanded: 1.2 G choices by 2.2 M users',
    licence=plain.RECIPES[0].licence,
    bytes=9_900_000_000,
    splits={'train': None, 'test': None},
    verify=verify,
    check=lambda features: plain.check(features, 2 * USERS, ITEMS),
    build=build,
    needs=plain.RECIPES[0].needs,
    how_to=plain.HOW_TO,
  ),
)
