"""Files of a result: names, whole writes, and one reader for files of others.

A file of somebody else may be a pipe, a device, endless or nested without end;
`opened` and what reads by it refuse it in bounded time and memory.
"""

from collections.abc import Iterator
import contextlib
import errno
import gzip
import io
import json
import os
import pathlib
import re
import secrets
import stat
import tempfile
from typing import Any, BinaryIO
import zlib

# The folder that holds our packages, and these.
ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ('input_pipelines', 'launch', 'models', 'suite')
# What a full or broken disk says: errors that the same command meets again.
DISK_ERRORS = (
  errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO,
)  # fmt: skip
MAX_RECORD = 64 << 20  # bytes; a run of a million steps has less
MAX_LOG = 1 << 30  # bytes
MAX_DEPTH = 50  # of values within values
_NUMBERS = (int, float)
_TOO_DEEP = f'expected values nested at most {MAX_DEPTH} deep, got deeper ones'
# A log as checkers name it, and as people keep it: compressed, in other case.
_LOG = re.compile(r'result_(.*)\.txt', re.DOTALL)
_KEPT_LOG = re.compile(r'result_(.*)\.txt(\.gz)?', re.DOTALL | re.IGNORECASE)
_PARTIAL = re.compile(r'.+\.[0-9a-f]{16}\.partial', re.DOTALL)
_GZIP = b'\x1f\x8b'
_NUMBER = re.compile(r'[0-9]{1,6}')


def log_path(directory: str, run: int) -> str:
  """Path of the log of a run, by the name that checkers look for."""
  return os.path.join(directory, f'result_{run}.txt')


def is_log(name: str) -> bool:
  """Returns whether a file of this name is read as the log of a run."""
  return _KEPT_LOG.fullmatch(name) is not None


def is_named_as_log(name: str) -> bool:
  """Returns whether checkers take a file of this name for the log of a run."""
  return _LOG.fullmatch(name) is not None


def logs(directory: str | os.PathLike) -> tuple[dict[int, pathlib.Path], bool]:
  """The logs in a folder by number, and whether their names hold it.

  Where names hold other things than numbers, or two the same one, logs are
  numbered from 0 in the order of their names. Of a log that is kept in two
  ways, under its usual name and another, the usual one counts.
  """
  paths = [p for p in pathlib.Path(directory).iterdir() if is_log(p.name)]
  usual = {_number(p.name) for p in paths if is_named_as_log(p.name)}
  paths = [
    path
    for path in paths
    if is_named_as_log(path.name) or _number(path.name) not in usual
  ]
  texts = {path: _number(path.name) for path in paths}
  named = all(map(_NUMBER.fullmatch, texts.values()))
  numbers = [int(text) for text in texts.values()] if named else []
  if named and len(set(numbers)) == len(numbers):
    return dict(sorted(zip(numbers, paths, strict=True))), True
  return dict(enumerate(sorted(paths))), False


def _number(name: str) -> str:
  return _KEPT_LOG.fullmatch(name)[1]


def record_path(directory: str, run: int) -> str:
  """Path of the record of a finished run, for the report."""
  return os.path.join(directory, f'run_{run}.json')


def checkpoints_path(directory: str, run: int) -> str:
  """Path of the checkpoints of a run while it is not finished."""
  return os.path.join(directory, f'checkpoints_{run}')


def beside_checkpoints(path: str) -> str:
  """Path where a feed keeps its data, beside the checkpoints at `path`."""
  return f'{path}_data'


def claim_directory(path: str) -> None:
  """Makes the directory unless it exists; ValueError where we can't write."""
  try:
    os.makedirs(path, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise ValueError(
      f'Cannot write to directory {path}: {error.strerror}.'
    ) from None


def write_text(path: str, text: str) -> None:
  """Moves the whole file into place, so that no reader sees half of it."""
  write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Moves the whole file into place; see `write_text`."""
  partial = partial_path(path)
  # 'x' follows no link and opens no pipe that somebody put there.
  with open(partial, 'xb') as file:
    try:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
      os.replace(partial, path)
    finally:
      with contextlib.suppress(FileNotFoundError):
        os.remove(partial)


def partial_path(path: str | os.PathLike) -> str:
  """Path beside `path`, which nobody can guess, to write it at first."""
  return f'{os.fspath(path)}.{secrets.token_hex(8)}.partial'


def is_partial(name: str) -> bool:
  """Returns whether a file of this name is one that is being written."""
  return _PARTIAL.fullmatch(name) is not None


def write_json(path: str, value: Any) -> None:
  """Writes `value` as JSON; ValueError for numbers that JSON lacks."""
  write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


@contextlib.contextmanager
def opened(
  path: str | os.PathLike, limit: int, *, links: bool = True
) -> Iterator[BinaryIO]:
  """Opens a regular file to read, through links only where `links` says so.

  OSError if it can't be opened, ValueError if it is none or larger than
  `limit`, in bytes.
  """
  follow = 0 if links else os.O_NOFOLLOW
  # Without O_NONBLOCK, opening a pipe waits for a writer.
  handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | follow)
  try:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
      raise ValueError('expected a regular file, got none')
    if found.st_size > limit:
      raise ValueError(_too_large(limit))
    with open(handle, 'rb', closefd=False) as file:
      yield file
  finally:
    os.close(handle)


@contextlib.contextmanager
def opened_log(
  path: str | os.PathLike, limit: int = MAX_LOG
) -> Iterator[BinaryIO]:
  """Opens a log to read, decompressed where it is compressed by gzip.

  See `opened`. A compressed one is read up to `limit` bytes of text; reading
  further, or what is no gzip, raises ValueError.
  """
  with opened(path, limit) as file:
    if file.peek(2)[:2] != _GZIP:
      yield file
      return
    with gzip.GzipFile(fileobj=file) as text:
      yield io.BufferedReader(_Limited(text, limit))


class _Limited(io.RawIOBase):
  """Reads from a decompressor, in bounded memory and time."""

  def __init__(self, source: BinaryIO, limit: int):
    self._source = source
    self._limit = limit
    self._left = limit

  def readable(self) -> bool:
    """See RawIOBase."""
    return True

  def readinto(self, buffer) -> int:
    """See RawIOBase."""
    try:
      found = self._source.read1(min(len(buffer), self._left + 1))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
      raise ValueError(f'expected a whole file of gzip, got {error}') from None
    self._left -= len(found)
    if self._left < 0:
      raise ValueError(_too_large(self._limit))
    buffer[: len(found)] = found
    return len(found)


def read_bytes(
  path: str | os.PathLike, limit: int, *, links: bool = True
) -> bytes:
  """Reads the whole of a file; see `opened`."""
  with opened(path, limit, links=links) as file:
    content = file.read(limit + 1)
  if len(content) > limit:  # one that grows, or that tells no size
    raise ValueError(_too_large(limit))
  return content


def _too_large(limit: int) -> str:
  return f'expected at most {limit} bytes, got more'


def read_text(path: str | os.PathLike, limit: int = MAX_RECORD) -> str:
  """Reads a file of UTF-8; ValueError naming it if it is missing or none."""
  try:
    return read_bytes(path, limit).decode()
  except (OSError, ValueError) as error:
    raise ValueError(f'Cannot read {path}: {error}') from None


def read_json(path: str | os.PathLike) -> Any:
  """Reads a JSON file; ValueError naming it if it is missing or broken."""
  text = read_text(path)
  try:
    value = json.loads(text, parse_constant=_refuse_constant)
    _require_shallow(value)
    if '\\ud' in text.lower():  # half a character, which no file can hold
      json.dumps(value, ensure_ascii=False).encode()
    return value
  except RecursionError:
    raise ValueError(f'Cannot read {path}: {_TOO_DEEP}') from None
  except ValueError as error:
    raise ValueError(f'Cannot read {path}: {error}') from None


def _refuse_constant(name: str) -> None:
  raise ValueError(f'expected numbers of JSON, got {name}')


def _require_shallow(value: Any) -> None:
  level = [value] if isinstance(value, dict | list) else []
  for _ in range(MAX_DEPTH):
    inside = (v.values() if isinstance(v, dict) else v for v in level)
    level = [v for each in inside for v in each if isinstance(v, dict | list)]
    if not level:
      return
  raise ValueError(_TOO_DEEP)


def is_number(value: Any) -> bool:
  """Returns whether a JSON value is a finite number; a bool is none."""
  if not isinstance(value, _NUMBERS) or isinstance(value, bool):
    return False
  return -1e300 < value < 1e300
