"""MovieLens, and any data set of pairs of a user and an item.

Training batches are made while they are asked for, from nothing but the pairs:
which sample stands at a place of an epoch, and which item is drawn for it, are
functions of the seed, the epoch and the place. They are the same for any number
of hosts and threads, and a run resumes at any step.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
import functools
import itertools
import os

from etils import epath
import numpy as np

from input_pipelines.movielens import pairs
from input_pipelines.reading import batching, dataset, examples, random_access

NAME = 'movielens_20m'
USERS = 138_493
ITEMS = 26_744
# Pairs; the records of the files are blocks of them.
ROWS = {'train': 19_861_770, 'test': USERS}
BLOCK = 65_536  # rows of a record, the last one of a split excepted

_PIECE = 1 << 16  # rows that a thread makes at once; their arrays stay in cache
_PIECES = 4  # of a group of batches, for each thread
_ORDER, _NEGATIVES, _CANDIDATES = range(3)  # what a seed is used for


Interactions = pairs.Interactions
key = pairs.key


def load(directory: epath.PathLike) -> Interactions:
  """Reads a data set of pairs; all of it, into memory."""
  got = facts(directory)
  train = _read(directory, 'train', got['train'])
  test = _read(directory, 'test', got['test'])
  if not np.array_equal(test >> 32, np.arange(got['users'])):
    raise ValueError(
      f'Expected a test item of every user, sorted, in {directory}, got others.'
    )
  test_item = test.astype(np.int32)
  try:
    return Interactions(got['users'], got['items'], train, test_item)
  except ValueError as error:
    raise ValueError(f'{directory}: {error}') from error


def verify(
  directory: epath.PathLike,
  *,
  users: int = USERS,
  items: int = ITEMS,
  train: int = ROWS['train'],
  test: int = ROWS['test'],
) -> None:
  """Raises unless a directory holds so many pairs; reads metadata alone."""
  dataset.verify(
    directory, splits={'train': records(train), 'test': records(test)}
  )
  expected = {'users': users, 'items': items, 'train': train, 'test': test}
  dataset.require_facts(directory, facts(directory), expected, 'pairs')


def facts(directory: epath.PathLike) -> dict[str, int]:
  """users, items, and the rows of train and test, from the metadata."""
  return dataset.facts(directory, ('users', 'items', *ROWS))


def records(rows: int) -> int:
  """The records that so many rows take."""
  return -(-rows // BLOCK)


def row_keys(features: Mapping) -> np.ndarray:
  """The rows of one record as keys, int64 [R]; ValueError if it has none."""
  user, item = (
    examples.values(features, name, np.int32) for name in ('user', 'item')
  )
  if len(user) != len(item) or min(user.min(), item.min()) < 0:
    raise ValueError(
      f'Expected as many users as items, from 0 on, got {len(user)} from '
      f'{user.min()} on and {len(item)} from {item.min()} on.'
    )
  return key(user, item)


def train_epoch(
  data: Interactions,
  *,
  epoch: int,
  batch_size: int,
  seed: int,
  negatives: int = 4,
  reject: bool = True,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the batches of one epoch.

  An epoch holds every pair, and for each of them `negatives` samples of its
  user with an item that is drawn anew: uniformly, with replacement, and again
  while the user has it among the pairs. All of them come in random order; what
  is left of the last batch is padding.

  Args:
    data: the pairs.
    epoch: from 0 on; each has an order and negatives of its own.
    batch_size: over all hosts.
    seed: from 0 on.
    negatives: samples for each pair beside itself.
    reject: False takes any item, as the expanded data set's rules have it.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    first_step: of the epoch, at which a resumed run starts.
    threads: that make batches ahead; None for one a core, 0 for none, so that
      they are made when they are asked for.

  Returns:
    An iterator, which can be closed, of batches, B = batch_size / hosts: `user`
    int32 [B], `item` int32 [B], `label` float32 [B], 1 for a pair, and `weight`
    float32 [B], 0 for padding.
  """
  share = batching.Share(batch_size, host, hosts)
  samples = _Samples(data, negatives, reject, seed, epoch)
  steps = -(-len(samples) // batch_size)
  if not 0 <= first_step <= steps:
    raise ValueError(
      f'Expected a first step in [0, {steps}], got {first_step}.'
    )
  if threads is None:
    threads = batching.default_threads()
  a_group = max(1, _PIECE * _PIECES * max(1, threads) // share.rows)
  groups = [
    range(first, min(first + a_group, steps))
    for first in range(first_step, steps, a_group)
  ]
  return _made_ahead(samples, share, groups, threads)


class _Samples:
  """The samples of an epoch by place."""

  def __init__(
    self,
    data: Interactions,
    negatives: int,
    reject: bool,
    seed: int,
    epoch: int,
  ):
    for name, value in (
      ('negatives', negatives),
      ('seed', seed),
      ('epoch', epoch),
    ):
      if value < 0:
        raise ValueError(f'Expected {name} from 0 on, got {value}.')
    self._data = data
    self._a_pair = 1 + negatives
    self._reject = reject
    self._order = random_access.Order(len(self), seed, epoch, _ORDER)
    self._keys = _attempts(seed, epoch, _NEGATIVES)

  def __len__(self) -> int:
    return len(self._data) * self._a_pair

  def fill(self, places: np.ndarray, out: batching.Batch) -> None:
    """Writes the samples at places, int64 [M], into the arrays of a batch."""
    inside = int(np.searchsorted(places, len(self)))  # places rise
    if inside < len(places):
      for column in out.values():
        column[inside:] = 0
      out = {name: column[:inside] for name, column in out.items()}
    places = places[:inside]
    sample = self._order(places)
    row = sample // sample.dtype.type(self._a_pair)
    positive = row * sample.dtype.type(self._a_pair) == sample
    positives = self._data.keys.take(row.astype(np.int64), mode='clip')
    user = positives & ~0xFFFFFFFF
    drawn = _draw(self._data, user, places, self._keys, positive, self._reject)
    np.copyto(drawn, positives, where=positive)
    out['user'][:] = drawn >> 32
    out['item'][:] = drawn.astype(np.int32)
    out['label'][:] = positive
    out['weight'][:] = 1


def _attempts(*seed: int) -> Callable[[int], np.uint64]:
  """The key of the first, second, ... draw for a place."""

  @functools.cache
  def key_of(attempt: int) -> np.uint64:
    return random_access.keys(1, *seed, attempt)[0]

  return key_of


def _draw(
  data: Interactions,
  user: np.ndarray,
  counters: np.ndarray,
  key_of: Callable[[int], np.uint64],
  skip: np.ndarray | None,
  reject: bool,
) -> np.ndarray:
  """Pairs of users with random items, none of them to train on.

  Args:
    data: the pairs to train on.
    user: the users, int64 [M], times 2**32.
    counters: what the draws depend on, int64 [M].
    key_of: the number of an attempt -> its key.
    skip: bool [M], where any item will do; None for nowhere.
    reject: False where any item will do everywhere.

  Returns:
    int64 [M].
  """

  def pairs_of(user, counters, attempt):
    items = random_access.below(data.items, key_of(attempt), counters)
    items = items.view(np.int64)
    items |= user
    return items

  drawn = pairs_of(user, counters, 0)
  if not reject:
    return drawn
  held = data.holds(drawn)
  if skip is not None:
    held &= ~skip
  again = np.flatnonzero(held)
  for attempt in itertools.count(1):
    if not len(again):
      return drawn
    drawn[again] = found = pairs_of(user[again], counters[again], attempt)
    again = again[data.holds(found)]


def _made_ahead(
  samples: _Samples,
  share: batching.Share,
  groups: list[range],
  threads: int,
) -> Iterator[batching.Batch]:
  """The batches of the groups of steps, two groups ahead of who asks."""
  if not threads:
    for steps in groups:
      batches, pieces = _group(samples, share, steps)
      for fill in pieces:
        fill()
      yield from batches
    return
  pool = futures.ThreadPoolExecutor(threads)
  try:
    waiting = []
    for steps in itertools.chain(groups, (None, None)):
      if steps is not None:
        batches, pieces = _group(samples, share, steps)
        waiting.append((batches, [pool.submit(fill) for fill in pieces]))
      if waiting and (steps is None or len(waiting) > 2):
        batches, filling = waiting.pop(0)
        for future in filling:
          future.result()
        yield from batches
  finally:
    pool.shutdown(cancel_futures=True)


def _group(
  samples: _Samples, share: batching.Share, steps: range
) -> tuple[list[batching.Batch], list[Callable[[], None]]]:
  """Batches that are empty as yet, and the calls that fill them."""
  rows = len(steps) * share.rows
  columns = {
    'user': np.empty(rows, np.int32),
    'item': np.empty(rows, np.int32),
    'label': np.empty(rows, np.float32),
    'weight': np.empty(rows, np.float32),
  }

  def fill(piece: slice) -> None:
    row = np.arange(piece.start, piece.stop)
    step, in_step = np.divmod(row, share.rows)
    places = step * share.batch_size
    places += in_step
    places += share.first(steps.start)
    samples.fill(places, {name: c[piece] for name, c in columns.items()})

  batches = [
    {
      name: c[i * share.rows : (i + 1) * share.rows]
      for name, c in columns.items()
    }
    for i in range(len(steps))
  ]
  pieces = [
    slice(first, min(first + _PIECE, rows)) for first in range(0, rows, _PIECE)
  ]
  return batches, [functools.partial(fill, piece) for piece in pieces]


def eval_candidates(
  data: Interactions,
  *,
  seed: int,
  negatives: int = 999,
  threads: int | None = None,
) -> np.ndarray:
  """Items that each user's test item is ranked among: int32 [users, negatives].

  They are drawn uniformly, with replacement, from the items that are not among
  the user's pairs to train on; so the test item may be one of them.
  """
  if negatives < 1:
    raise ValueError(f'Expected 1 negative or more, got {negatives}.')
  candidates = np.empty((data.users, negatives), np.int32)
  key_of = _attempts(seed, _CANDIDATES)

  def fill(users: slice) -> None:
    user = np.repeat(np.arange(users.start, users.stop) << 32, negatives)
    first = users.start * negatives
    counters = np.arange(first, first + len(user))
    drawn = _draw(data, user, counters, key_of, None, True)
    candidates[users] = drawn.astype(np.int32).reshape(-1, negatives)

  _each_piece(fill, data.users, max(1, _PIECE // negatives), threads)
  return candidates


def distinct(
  data: Interactions, candidates: np.ndarray, *, threads: int | None = None
) -> np.ndarray:
  """Mask of the candidates that count, the test item last: bool [users, 1 + M].

  Each item counts once: where it comes again, the first place does, and of the
  test item the last, which is its own.
  """
  valid = np.empty((data.users, 1 + candidates.shape[1]), bool)

  def fill(users: slice) -> None:
    valid[users] = _distinct(candidates[users], data.test_item[users])

  _each_piece(fill, data.users, max(1, _PIECE // valid.shape[1]), threads)
  return valid


def _distinct(candidates: np.ndarray, test_item: np.ndarray) -> np.ndarray:
  """int32 [U, M] and [U] -> bool [U, 1 + M]."""
  users, places = len(candidates), 1 + candidates.shape[1]
  largest = max(candidates.max(), test_item.max())
  # Sorted by item and then place; that of the test item, last, counts as first.
  dtype = np.uint32 if (largest + 1) * places < 2**32 else np.uint64
  order = np.empty((users, places), dtype)
  order[:, 0] = test_item
  order[:, 1:] = candidates
  order *= dtype(places)
  order += np.arange(places, dtype=dtype)
  order.sort(axis=1)
  item = order // dtype(places)
  row, after = np.nonzero(item[:, 1:] == item[:, :-1])
  place = order[row, after + 1] % dtype(places)
  valid = np.ones(order.shape, bool)
  valid[row, place - dtype(1)] = False  # never the first place: it sorts first
  return valid


def eval_batches(
  data: Interactions,
  candidates: np.ndarray,
  *,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
  valid: np.ndarray | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the batches that rank every user's test item once.

  Args:
    data: the pairs.
    candidates: int32 [users, M], of `eval_candidates`.
    batch_size: users over all hosts.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    valid: what `distinct` returns, for who evaluates often; None: found here.

  Yields:
    Batches, U = batch_size / hosts: `user` int32 [U], `item` int32 [U, 1 + M]
    with the test item last, `valid` bool [U, 1 + M], False for a repeat of an
    item, and `weight` float32 [U], 0 for padding. All hosts get as many.
  """
  if len(candidates) != data.users:
    raise ValueError(
      f'Expected candidates of {data.users} users, got {len(candidates)}.'
    )
  share = batching.Share(batch_size, host, hosts)
  for step in range(-(-data.users // batch_size)):
    place = share.first(step) + np.arange(share.rows)
    user = np.minimum(place, data.users - 1)
    test_item = data.test_item[user]
    drawn = candidates[user]
    yield {
      'user': user.astype(np.int32),
      'item': np.concatenate([drawn, test_item[:, None]], axis=1),
      'valid': _distinct(drawn, test_item) if valid is None else valid[user],
      'weight': (place < data.users).astype(np.float32),
    }


def _each_piece(
  fill: Callable[[slice], None], length: int, piece: int, threads: int | None
) -> None:
  """Calls `fill` of pieces of [0, length) in threads."""
  pieces = [
    slice(first, min(first + piece, length))
    for first in range(0, length, piece)
  ]
  if threads == 0:
    for each in pieces:
      fill(each)
    return
  with futures.ThreadPoolExecutor(
    threads or batching.default_threads()
  ) as pool:
    for _ in pool.map(fill, pieces):
      pass


def _read(directory: epath.PathLike, name: str, rows: int) -> np.ndarray:
  """The rows of a split as keys, int64 [N]."""
  split = dataset.Split(directory, name)
  if len(split) != records(rows):
    raise ValueError(
      f'Expected {records(rows)} records of {rows} rows in {name!r} of '
      f'{os.fspath(directory)}, got {len(split)}.'
    )
  keys = np.empty(rows, np.int64)

  def fill(piece: slice) -> None:
    features = split[piece.start]
    wanted = keys[piece.start * BLOCK : piece.stop * BLOCK]
    try:
      found = row_keys(features)
      if len(found) != len(wanted):
        raise ValueError(f'Expected {len(wanted)} rows, got {len(found)}.')
    except ValueError as error:
      raise split.corrupt(piece.start, error) from error
    wanted[:] = found

  _each_piece(fill, len(split), 1, None)
  return keys
