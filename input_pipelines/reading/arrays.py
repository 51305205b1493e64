"""Arrays by path, in files that say the SHA-256 of each: start weights.

The files are safetensors: a header of JSON, then the bytes of one array after
the other. Its metadata hold, beside what the writer says the arrays are about,
the SHA-256 of each array, or of each `PIECE` of a long one. What is read is
compared with them, so that a host which reads a few rows of an array verifies
these and no others.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import hashlib
import json
import math
import os
import struct
from typing import Any

from etils import epath
import fsspec
import ml_dtypes
import numpy as np

from input_pipelines.reading import shards

SUFFIX = '.safetensors'
WEIGHTS = f'weights{SUFFIX}'  # its name beside the metadata of a data set
PIECE = 1 << 26  # bytes of an array under one SHA-256

_ABOUT, _SUMS, _PIECE = 'about', 'sha256', 'sha256_bytes'
_METADATA = '__metadata__'
_LENGTH = struct.Struct('<Q')  # of the header, before it
_MOST_HEADER = 100_000_000  # bytes, as the format has it
_DTYPES = {
  'BOOL': np.dtype(np.bool_),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F8_E4M3': np.dtype(ml_dtypes.float8_e4m3fn),
  'F8_E5M2': np.dtype(ml_dtypes.float8_e5m2),
  **{f'F{8 * n}': np.dtype(f'<f{n}') for n in (2, 4, 8)},
  **{f'I{8 * n}': np.dtype(f'<i{n}') for n in (1, 2, 4, 8)},
  **{f'U{8 * n}': np.dtype(f'<u{n}') for n in (1, 2, 4, 8)},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class CorruptArrayError(ValueError):
  """An array whose bytes are not those that were written."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """Place and type of an array."""

  dtype: np.dtype
  shape: tuple[int, ...]
  path: str
  first: int  # byte of the file
  piece: int  # bytes under one SHA-256
  sums: tuple[str, ...]  # SHA-256 of each piece; none in files of others

  @property
  def row_bytes(self) -> int:
    """Bytes of a row, of all of an array without dimensions."""
    return self.dtype.itemsize * math.prod(self.shape[1:])

  @property
  def nbytes(self) -> int:
    """Bytes of the array."""
    return self.dtype.itemsize * math.prod(self.shape)


class Arrays(Mapping[str, np.ndarray]):
  """The arrays of a file, or of all such files of a folder, by name.

  Headers are read at once, an array when it is asked for. On a disk or in a
  store.
  """

  def __init__(self, path: epath.PathLike):
    """ValueError, naming the file, if it is not one that can be read."""
    self.path = os.fspath(path)
    self.about: dict[str, Any] = {}
    self.entries: dict[str, Entry] = {}
    for file in _files(self.path):
      entries, about = _read_header(file)
      twice = sorted(entries.keys() & self.entries.keys())
      if twice:
        raise ValueError(
          f'Expected an array {twice[0]!r} in one file of {self.path}, got '
          'it in two.'
        )
      self.entries.update(entries)
      self.about.update(about)

  def __getitem__(self, name: str) -> np.ndarray:
    return self.rows(name)

  def __iter__(self) -> Iterator[str]:
    return iter(self.entries)

  def __len__(self) -> int:
    return len(self.entries)

  def rows(
    self, name: str, first: int = 0, last: int | None = None
  ) -> np.ndarray:
    """Rows from `first` up to `last` of an array, verified where it has sums.

    Reads these, and what lies in the same pieces. Of an array without
    dimensions it is all. Raises CorruptArrayError.
    """
    entry = self.entries[name]
    rows = entry.shape[0] if entry.shape else 1
    last = rows if last is None else last
    start, stop = first * entry.row_bytes, last * entry.row_bytes
    low, high = start, stop
    if entry.sums and stop > start:
      low = start - start % entry.piece
      high = min(-(-stop // entry.piece) * entry.piece, entry.nbytes)
    data = memoryview(_bytes(entry.path, entry.first + low, entry.first + high))
    if len(data) != high - low:
      raise CorruptArrayError(
        f'Expected {entry.nbytes} bytes of {name!r} in {entry.path}: the file '
        'was cut off.'
      )
    for at in range(low, high if entry.sums else low, entry.piece):
      found = _sum(data[at - low : at - low + entry.piece])
      if found != entry.sums[at // entry.piece]:
        raise CorruptArrayError(
          f'Expected the SHA-256 {entry.sums[at // entry.piece]} of {name!r} '
          f'in {entry.path}, from byte {at} on, got {found}.'
        )
    values = np.frombuffer(data[start - low : stop - low], entry.dtype)
    shape = (last - first, *entry.shape[1:]) if entry.shape else ()
    return values.reshape(shape)

  @functools.cached_property
  def digest(self) -> str:
    """SHA-256 of names, dtypes, shapes and sums: that of all values.

    It does not depend on the files that hold the arrays. Reads none of them;
    ValueError where an array has no sum.
    """
    without = [name for name, each in self.entries.items() if not each.sums]
    if without:
      raise ValueError(
        f'Expected the SHA-256 of {without[0]!r} in the metadata of '
        f'{self.entries[without[0]].path}, got none: it was not written here.'
      )
    facts = [
      [name, _NAMES[each.dtype], each.shape, each.piece, each.sums]
      for name, each in sorted(self.entries.items())
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def of_data_set(directory: epath.PathLike) -> Arrays:
  """The start weights of a data set, which are those that its manifest names.

  Raises ValueError where they are others, FileNotFoundError where none are.
  """
  path = epath.Path(directory) / WEIGHTS
  if not path.exists():
    raise FileNotFoundError(
      f'Expected start weights in {path}, found no such file.'
    )
  found = Arrays(path)
  manifest = epath.Path(directory) / shards.MANIFEST
  if manifest.exists():
    files = json.loads(manifest.read_text())['files']
    require(found, files.get(WEIGHTS, {}).get('arrays', 'none'))
  return found


def require(found: Arrays, digest: str) -> None:
  """ValueError unless the arrays are those of a digest."""
  if found.digest != digest:
    raise ValueError(
      f'Expected weights with the digest {digest} in {found.path}, got '
      f'{found.digest}: they are others.'
    )


def write(
  path: str,
  arrays: Mapping[str, Any],
  about: Mapping[str, Any] | None = None,
  *,
  piece: int = PIECE,
) -> str:
  """Writes a file in one step -> its digest.

  Args:
    path: the file's; it ends in `SUFFIX`.
    arrays: by name. Each is asked for twice, so they need not be in memory.
    about: what the metadata say beside the sums, as JSON has it.
    piece: bytes of an array under one SHA-256.
  """
  header, sums, at = {}, {}, 0
  for name in arrays:
    values = _stored(arrays[name])
    if values.dtype not in _NAMES:
      raise ValueError(
        f'Expected {name!r} of one of {", ".join(map(str, _NAMES))}, got '
        f'{values.dtype}.'
      )
    header[name] = {
      'dtype': _NAMES[values.dtype],
      'shape': values.shape,
      'data_offsets': [at, at + values.nbytes],
    }
    at += values.nbytes
    data = _raw(values)
    sums[name] = [
      _sum(data[first : first + piece])
      for first in range(0, max(1, len(data)), piece)
    ]
  header[_METADATA] = {
    _ABOUT: json.dumps(about or {}, sort_keys=True),
    _SUMS: json.dumps(sums),
    _PIECE: str(piece),
  }
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  with open(f'{path}.partial', 'wb') as file:
    file.write(_LENGTH.pack(len(text)) + text)
    for name in arrays:
      file.write(_raw(_stored(arrays[name])))
    file.flush()
    os.fsync(file.fileno())
  os.replace(f'{path}.partial', path)
  return Arrays(path).digest


def _stored(values: Any) -> np.ndarray:
  """As the format has it: little-endian, row after row."""
  values = np.asarray(values)
  return np.asarray(values, values.dtype.newbyteorder('<'), order='C')


def _raw(values: np.ndarray) -> memoryview:
  return memoryview(values.reshape(-1).view(np.uint8))


def _sum(data: memoryview) -> str:
  return hashlib.sha256(data).hexdigest()


def _files(path: str) -> list[str]:
  if path.endswith(SUFFIX):
    return [path]
  names = sorted(n for n in shards.sizes(path) if n.endswith(SUFFIX))
  if not names:
    raise FileNotFoundError(f'Expected a file *{SUFFIX} in {path}, found none.')
  return [os.fspath(epath.Path(path) / name) for name in names]


def _read_header(path: str) -> tuple[dict[str, Entry], dict[str, Any]]:
  """Entries by name, and what the metadata are about."""
  size = shards.sizes(os.path.dirname(path) or '.')[os.path.basename(path)]
  try:
    (length,) = _LENGTH.unpack(_bytes(path, 0, _LENGTH.size))
    if length > min(_MOST_HEADER, size - _LENGTH.size):
      raise ValueError(f'a header of {length} bytes')
    first = _LENGTH.size + length
    header = json.loads(_bytes(path, _LENGTH.size, first))
    metadata = header.pop(_METADATA, {})
    sums = json.loads(metadata.get(_SUMS, '{}'))
    piece = int(metadata.get(_PIECE, PIECE))
    entries = {
      name: Entry(
        dtype=_DTYPES[each['dtype']],
        shape=tuple(each['shape']),
        path=path,
        first=first + each['data_offsets'][0],
        piece=piece,
        sums=tuple(sums.get(name, ())),
      )
      for name, each in header.items()
    }
    about = json.loads(metadata.get(_ABOUT, '{}'))
    # One after the other and nothing between, as the format demands.
    end = first
    in_order = sorted(
      entries.items(), key=lambda item: (item[1].first, item[1].nbytes)
    )
    for name, each in in_order:
      if each.sums and len(each.sums) != max(1, -(-each.nbytes // piece)):
        raise ValueError(f'{len(each.sums)} sums of {name!r}')
      ends = first + header[name]['data_offsets'][1]
      if each.first != end or ends != end + each.nbytes:
        raise ValueError(f'bytes {header[name]["data_offsets"]} for {name!r}')
      end = ends
  except (ValueError, KeyError, TypeError, AttributeError, struct.error) as e:
    raise ValueError(
      f'Expected a header of {SUFFIX[1:]} in {path}, got {e!r}.'
    ) from None
  if end != size:
    raise ValueError(
      f'Expected {end} bytes in {path}, as its header says, got {size}.'
    )
  return entries, about


def _bytes(path: str, first: int, last: int) -> bytes:
  if shards.is_remote(path):
    files, name = fsspec.core.url_to_fs(path)
    return files.cat_file(name, start=first, end=last)
  with open(path, 'rb') as file:
    file.seek(first)
    return file.read(last - first)
