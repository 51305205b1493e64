"""TFRecord shards by index, without TensorFlow.

A shard is a run of frames: the record's length in 8 bytes, a checksum of them
in 4, the record, its checksum in 4. Where each frame begins is found once,
offline, and kept in one file beside the shards.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import dataclasses
import io
import os
import struct
import zipfile

from etils import epath
import fsspec
import google_crc32c
import numpy as np

from input_pipelines.reading import shards

INDEX = 'tfrecord_index.npz'
_FORMAT = 1
_HEADER = struct.Struct('<QI')
_CHECKSUM = struct.Struct('<I')
_AROUND = _HEADER.size + _CHECKSUM.size  # bytes of a frame beside its record
_THREADS = 16  # they wait for the disk or the store


@dataclasses.dataclass(frozen=True)
class Index:
  """Places of the records in a directory's TFRecord shards."""

  names: tuple[str, ...]  # of the shards
  first: np.ndarray  # int64 [shards + 1], records before each shard
  bounds: np.ndarray  # int64 [records + 1], bytes before each frame, all shards

  def sizes(self) -> dict[str, int]:
    """The bytes of every shard, by name."""
    return dict(
      zip(self.names, np.diff(self.bounds[self.first]).tolist(), strict=True)
    )

  def counts(self) -> dict[str, int]:
    """The records of every shard, by name."""
    return dict(zip(self.names, np.diff(self.first).tolist(), strict=True))


def write_index(
  directory: epath.PathLike,
  *,
  threads: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> str:
  """Finds every record of a directory's TFRecord shards; keeps it beside them.

  Args:
    directory: a data set's directory.
    threads: shards that are gone through at once; None for 16.
    progress: called with the shards done and all of them.

  Returns:
    The path of the index.
  """
  names = sorted(n for n in shards.sizes(directory) if '.tfrecord' in n)
  if not names:
    raise ValueError(f'Expected TFRecord shards in {directory}, found none.')
  lengths = []
  with futures.ThreadPoolExecutor(threads or _THREADS) as pool:
    paths = [os.fspath(epath.Path(directory) / name) for name in names]
    try:
      for found in pool.map(_frames, paths):
        lengths.append(found)
        if progress:
          progress(len(lengths), len(names))
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return _save(directory, names, lengths)


def read_index(directory: epath.PathLike) -> Index:
  """The index of a directory; FileNotFoundError where there is none."""
  path = epath.Path(directory) / INDEX
  data = path.read_bytes()
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
      if file['format'] != _FORMAT:
        raise ValueError(f'of the format {file["format"]}')
      lengths, counts = file['lengths'], file['counts']
      names = tuple(file['names'].tolist())
  except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
    raise ValueError(
      f'Expected an index of TFRecord shards in {path}, got one that is '
      f'{error}. Remove it to have it made again.'
    ) from error
  return Index(names, _ends(counts), _ends(lengths.astype(np.int64) + _AROUND))


def read(path: str) -> Iterator[bytes]:
  """The records of one shard from first to last, checked."""
  with shards.open_through(path) as file:
    number = 0
    while header := file.read(_HEADER.size):
      try:
        length = _length(header)
        frame = header + file.read(length + _CHECKSUM.size)
        yield _record(frame, length)
      except ValueError as error:
        raise _corrupt(path, number, error) from error
      number += 1


class Source(shards.Records):
  """Records of TFRecord shards by their index."""

  def __init__(self, directory: epath.PathLike, parts: Sequence[shards.Part]):
    """`parts` as from `shards.parts_of`; their shards lie in `directory`."""
    super().__init__(parts)
    self._directory = os.fspath(directory)
    self._index: Index | None = read_index(directory)
    self._numbers = {name: i for i, name in enumerate(self._index.names)}
    counts = self._index.counts()
    for part in self._parts:
      if counts.get(part.shard) != part.in_shard:
        raise ValueError(
          f'Expected {part.in_shard} records of {part.path} in {INDEX}, got '
          f'{counts.get(part.shard, "no such shard")}.'
        )

  def __getstate__(self):
    # Other processes read the index themselves: ImageNet's is 10 MB.
    return {**super().__getstate__(), '_index': None}

  def _open_shard(self, part):
    if self._index is None:
      self._index = read_index(self._directory)
    shard = (_RemoteShard if shards.is_remote(part.path) else _Shard)(part.path)
    expected = self._index.sizes()[part.shard]
    if shard.size != expected:
      raise shards.CorruptRecordError(
        f'Expected {expected} bytes in {part.path}, as in {INDEX}, got '
        f'{shard.size}.'
      )
    return shard

  def _read(self, shard, part, position):
    index = self._index
    first = index.first[self._numbers[part.shard]]
    begin, end = index.bounds[first + position : first + position + 2]
    start = int(begin - index.bounds[first])
    length = int(end - begin) - _AROUND
    frame = shard.read(start, length + _AROUND)
    if (got := _length(frame[: _HEADER.size])) != length:
      raise ValueError(f'expected its length to be {length}, got {got}.')
    return _record(frame, length)


class _Shard:
  """A file that is read at offsets, by several threads at once."""

  def __init__(self, path: str):
    self._file = os.open(path, os.O_RDONLY)
    self.size = os.fstat(self._file).st_size

  def read(self, start: int, length: int) -> bytes:
    """The bytes there; fewer only at the end of the file."""
    return os.pread(self._file, length, start)

  def __del__(self):
    if hasattr(self, '_file'):
      os.close(self._file)


class _RemoteShard:
  """The same of an object in a store."""

  def __init__(self, path: str):
    self._files, self._path = fsspec.core.url_to_fs(path)
    self.size = self._asked(self._files.size, self._path)

  def read(self, start: int, length: int) -> bytes:
    """The bytes there; fewer only at the end of the object."""
    return self._asked(
      self._files.cat_file, self._path, start=start, end=start + length
    )

  def _asked(self, what: Callable, *args, **kwargs):
    try:
      return what(*args, **kwargs)
    except OSError:
      raise
    except Exception as error:  # every store has errors of its own
      raise OSError(f'{type(error).__name__}: {error}') from error


def _frames(path: str) -> np.ndarray:
  """The lengths of a shard's records, from their headers: uint32 [records]."""
  lengths = []
  with shards.open_through(path) as file:
    size = file.seek(0, os.SEEK_END)
    at = file.seek(0)
    while at < size:
      try:
        length = _length(file.read(_HEADER.size))
        if at + length + _AROUND > size:
          raise ValueError(
            f'expected {length + _AROUND} bytes, the file ends after '
            f'{size - at}.'
          )
      except ValueError as error:
        raise _corrupt(path, len(lengths), error) from error
      lengths.append(length)
      at = file.seek(at + length + _AROUND)
  return np.asarray(lengths, np.uint32)  # a protocol buffer has at most 2 GiB


def _save(directory, names: list[str], lengths: list[np.ndarray]) -> str:
  """Writes the index under another name and then gives it its own."""
  data = io.BytesIO()
  np.savez(
    data,
    format=np.int64(_FORMAT),
    names=np.asarray(names),
    counts=np.asarray([len(each) for each in lengths], np.int64),
    lengths=np.concatenate(lengths),
  )
  path = epath.Path(directory) / INDEX
  if shards.is_remote(path):  # a store shows an object when it is whole
    path.write_bytes(data.getvalue())
    return os.fspath(path)
  beside = path.with_name(f'.{INDEX}.{os.getpid()}')
  beside.write_bytes(data.getvalue())
  os.replace(beside, path)
  return os.fspath(path)


def _ends(counts: np.ndarray) -> np.ndarray:
  """Running sums, from 0 on: int64 [n + 1]."""
  return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _length(header: bytes) -> int:
  """The length that a frame's header claims, checked."""
  if len(header) < _HEADER.size:
    raise ValueError(
      f'expected {_HEADER.size} bytes of a header, the file ends after '
      f'{len(header)}.'
    )
  length, checksum = _HEADER.unpack(header)
  if _masked(header[:8]) != checksum:
    raise ValueError('the checksum of its length is wrong.')
  return length


def _record(frame: bytes, length: int) -> bytes:
  """The record of a frame, checked."""
  if len(frame) < length + _AROUND:
    raise ValueError(
      f'expected {length + _AROUND} bytes, the file ends after {len(frame)}.'
    )
  record = frame[_HEADER.size : -_CHECKSUM.size]
  if _masked(record) != _CHECKSUM.unpack(frame[-_CHECKSUM.size :])[0]:
    raise ValueError('its checksum is wrong.')
  return record


def _masked(data: bytes) -> int:
  """CRC-32C, turned and shifted as TFRecord has it."""
  value = google_crc32c.value(data)
  return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _corrupt(path, number: int, why: object) -> shards.CorruptRecordError:
  return shards.CorruptRecordError(
    f'Record {number} of {path} cannot be read: {why}'
  )
