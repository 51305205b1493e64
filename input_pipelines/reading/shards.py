"""Records of a split by index, from shards that lie here or in a bucket.

A path with a scheme, as gs://bucket/folder, is remote. What is common to the
file formats is here, and so is ArrayRecord; TFRecord is in `tfrecord`.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
import dataclasses
import functools
import itertools
import os
import queue
import threading
from typing import Any, BinaryIO

from array_record.python import array_record_module
import fsspec

MANIFEST = 'manifest.json'  # beside the files of a data set

# A store that answers nothing is tried again and again by its client, the one
# of ArrayRecord for a quarter of an hour. Here it is an error after this.
REMOTE_SECONDS = 120.0
_REMOTE_THREADS = 32  # requests under way at once; each waits, none computes
_REMOTE_BLOCK = 1 << 23  # bytes of one request where a file is read through
# Without these the reader reads ahead of single records.
_READER = {
  'options': 'readahead_buffer_size:0',
  'file_reader_buffer_size': 32768,
}


class CorruptRecordError(ValueError):
  """A record that cannot be read; the message says which."""


@dataclasses.dataclass(frozen=True)
class Part:
  """A run of records of one shard."""

  path: str
  first: int  # the place of the run's first record in the shard
  records: int  # of the run
  in_shard: int  # records of the whole shard

  @property
  def shard(self) -> str:
    """The file's name."""
    return self.path.rpartition('/')[2]


def parts_of(file_instructions: Iterable) -> tuple[Part, ...]:
  """The parts of a split, or of a slice of one, from TFDS's instructions."""
  return tuple(
    Part(os.fspath(f.filename), f.skip, f.take, f.examples_in_shard)
    for f in file_instructions
    if f.take
  )


def is_remote(path: str | os.PathLike) -> bool:
  """Returns whether a path leads to an object store, not a file system."""
  return '://' in os.fspath(path)


def sizes(directory: str | os.PathLike) -> dict[str, int]:
  """The names of a directory's files and their bytes, without folders."""
  if not is_remote(directory):
    with os.scandir(directory) as entries:
      return {e.name: e.stat().st_size for e in entries if e.is_file()}
  files, path = fsspec.core.url_to_fs(os.fspath(directory))
  files.invalidate_cache(path)
  found = files.ls(path, detail=True)  # one request for a thousand files
  return {
    each['name'].rpartition('/')[2]: each['size']
    for each in found
    if each['type'] == 'file'
  }


def open_through(path: str) -> BinaryIO:
  """Opens a file to be read from its beginning to its end."""
  if not is_remote(path):
    return open(path, 'rb')
  files, name = fsspec.core.url_to_fs(path)
  return files.open(
    name, 'rb', block_size=_REMOTE_BLOCK, cache_type='readahead'
  )


class Records(Sequence[bytes]):
  """The records of some parts by index; safe in threads, and picklable.

  A shard is opened when its first record is asked for. Subclasses say how.
  """

  def __init__(self, parts: Sequence[Part]):
    self._parts = tuple(parts)
    self._remote = any(is_remote(part.path) for part in self._parts)
    self._ends = list(itertools.accumulate(p.records for p in self._parts))
    self._reset()

  def __len__(self) -> int:
    return self._ends[-1] if self._ends else 0

  def __getitem__(self, index: int) -> bytes:
    if self._remote:
      return self.__getitems__([index])[0]
    return self._get(*self._find(index))

  def __getitems__(self, indices: Iterable[int]) -> list[bytes]:
    """Records in the order asked; those of a store are fetched at once."""
    if not self._remote:
      return [self._get(*self._find(i)) for i in indices]
    reads = [functools.partial(self._get, *self._find(i)) for i in indices]
    waiting = [_remote_threads().submit(read) for read in reads]
    return [
      self._wait(future, read)
      for future, read in zip(waiting, reads, strict=True)
    ]

  def where(self, index: int) -> str:
    """'record 17 of train.array_record-00003-of-01024', counted from 0."""
    part, position = self._find(index)
    return f'record {position} of {self._parts[part].shard}'

  def __getstate__(self):
    state = dict(self.__dict__)
    for each in ('_open', '_lock'):
      del state[each]
    return state

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._reset()

  def _reset(self) -> None:
    self._open: list[Any] = [None] * len(self._parts)
    self._lock = threading.Lock()

  def _find(self, index: int) -> tuple[int, int]:
    """The number of the part, and the place of the record in its shard."""
    index = index.__index__()
    if not 0 <= index < len(self):
      raise IndexError(f'Expected a record in [0, {len(self)}), got {index}.')
    part = bisect.bisect_right(self._ends, index)
    end = self._parts[part]
    return part, index - self._ends[part] + end.records + end.first

  def _get(self, number: int, position: int) -> bytes:
    part = self._parts[number]
    try:
      shard = self._open[number] or self._opened(number)
      return self._read(shard, part, position)
    except OSError as error:
      raise _with_place(error, part, position) from error
    except CorruptRecordError:
      raise
    except (ValueError, IndexError, RuntimeError) as error:
      raise CorruptRecordError(
        f'Record {position} of {part.path} cannot be read: {error}'
      ) from error

  def _opened(self, number: int) -> Any:
    shard = self._open_shard(self._parts[number])
    with self._lock:  # another thread may have been faster
      self._open[number] = self._open[number] or shard
    return self._open[number]

  def _wait(self, future: futures.Future, read: functools.partial) -> bytes:
    try:
      return future.result(REMOTE_SECONDS)
    except TimeoutError as error:
      if future.done():  # the store's own
        raise
      number, position = read.args
      raise TimeoutError(
        f'Record {position} of {self._parts[number].path} cannot be read: no '
        f'answer within {REMOTE_SECONDS:g} s.'
      ) from error

  def _open_shard(self, part: Part) -> Any:
    raise NotImplementedError

  def _read(self, shard: Any, part: Part, position: int) -> bytes:
    raise NotImplementedError


class ArrayRecords(Records):
  """Records of ArrayRecord shards."""

  def _open_shard(self, part):
    if not is_remote(part.path):
      with open(part.path, 'rb'):  # the reader keeps quiet about what it lacks
        pass
    reader = array_record_module.ArrayRecordReader(part.path, **_READER)
    count = reader.num_records()
    if count != part.in_shard:
      raise CorruptRecordError(
        f'Expected {part.in_shard} records in {part.path}, got {count}: '
        f'{_why(reader)}'
      )
    return reader

  def _read(self, shard, part, position):
    del part
    # A range of one: a list of one takes time in proportion to the records of
    # the shard.
    record = shard.read(position, position + 1)[0]
    if not record:  # so it tells of a file that was cut off since it was opened
      raise ValueError('it is empty.')
    return record


def _why(reader) -> str:
  """Why a reader found no records; it says so only when it is asked for one."""
  try:
    reader.read([0])
  except RuntimeError as error:
    return str(error)
  return 'the file is not what the metadata describe, or was cut off.'


def _with_place(error: OSError, part: Part, position: int) -> OSError:
  """An error of the system, as it was, with the record at which it occurred."""
  what = f'Record {position} of {part.path} cannot be read: '
  if error.errno is None:
    return type(error)(f'{what}{error}')
  return OSError(error.errno, f'{what}{error.strerror}')


class _Threads:
  """Threads that are not waited for when the process ends.

  One of them may hang in a request that is never answered.
  """

  def __init__(self, count: int):
    self._work: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(count):
      threading.Thread(target=self._run, daemon=True).start()

  def submit(self, what: Callable[[], bytes]) -> futures.Future:
    """Calls `what` as soon as a thread is free."""
    future: futures.Future = futures.Future()
    self._work.put((future, what))
    return future

  def _run(self) -> None:
    while True:
      future, what = self._work.get()
      try:
        future.set_result(what())
      except BaseException as error:  # belongs to the thread that waits
        future.set_exception(error)


@functools.cache
def _remote_threads() -> _Threads:
  return _Threads(_REMOTE_THREADS)
