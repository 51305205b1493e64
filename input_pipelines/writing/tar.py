"""Finds the files in an archive of files, or of archives of files."""

from collections.abc import Iterator
import dataclasses
import hashlib
import os
import tarfile
from typing import BinaryIO

import numpy as np

from input_pipelines.writing import downloads, work

_PIECE = 1 << 20  # bytes that are read at once


@dataclasses.dataclass(frozen=True)
class Members:
  """The regular files of an archive, N in all, in their order there."""

  folder: np.ndarray  # bytes [N], the name of the inner archive, without .tar
  name: np.ndarray  # bytes [N]
  offset: np.ndarray  # int64 [N]
  size: np.ndarray  # int64 [N]

  def __len__(self) -> int:
    return len(self.name)


def index(
  path: str,
  *,
  md5: str | None = None,
  progress: work.Progress | None = None,
) -> Members:
  """The members of an archive; those of the archives in it in their place.

  Args:
    path: a .tar that is not compressed.
    md5: what the checksum of the archive must be, in hex. All of it is read
      then, from the beginning to the end; else only the headers are.
    progress: told of the bytes of the archive that were passed.

  Returns:
    The files.
  """
  try:
    with open(path, 'rb') as file:
      if not md5:
        return _members(_Tape(file, progress))
      tape = _Hashed(file, progress)
      members = _members(tape)
      got = tape.md5()
  except tarfile.TarError as error:
    raise ValueError(
      f'Expected a whole tar archive, got {path}: {error}'
    ) from error
  downloads.require_md5(path, md5, got)
  return members


def save(members: Members, path: str) -> None:
  """Writes the index to a file; not in one step."""
  np.savez(path, **dataclasses.asdict(members))


def load(path: str) -> Members:
  """Reads what `save` wrote."""
  with np.load(path) as arrays:
    return Members(**{name: arrays[name] for name in arrays.files})


class _Tape:
  """A file that tells how far it was read."""

  def __init__(self, file: BinaryIO, progress: work.Progress | None):
    self._file = file
    self._size = os.fstat(file.fileno()).st_size
    self._progress = progress

  def read(self, size: int) -> bytes:
    data = self._file.read(size)
    self.passed(self._file.tell())
    return data

  def passed(self, position: int) -> None:
    if self._progress:
      self._progress(position, self._size)

  def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
    return self._file.seek(position, whence)

  def tell(self) -> int:
    return self._file.tell()

  def seekable(self) -> bool:
    return True


class _Hashed(_Tape):
  """A file that is hashed on the way, with what is skipped."""

  def __init__(self, file: BinaryIO, progress: work.Progress | None):
    super().__init__(file, progress)
    self._md5 = hashlib.md5(usedforsecurity=False)
    self._hashed = 0  # bytes

  def passed(self, position: int) -> None:
    while self._hashed < position:
      piece = os.pread(self._file.fileno(), _PIECE, self._hashed)
      if not piece:
        break
      self._md5.update(piece)
      self._hashed += len(piece)
      super().passed(self._hashed)

  def md5(self) -> str:
    self.passed(self._size)
    return self._md5.hexdigest()


def _members(tape: _Tape) -> Members:
  rows = list(_walk(tape, '', 0))
  folders, names, offsets, sizes = zip(*rows, strict=True) if rows else [()] * 4
  return Members(
    np.array(folders, np.bytes_),
    np.array(names, np.bytes_),
    np.array(offsets, np.int64),
    np.array(sizes, np.int64),
  )


def _walk(
  file, folder: str, start: int
) -> Iterator[tuple[bytes, bytes, int, int]]:
  """(folder, name, offset, size) of each file, counted from `start`."""
  with tarfile.open(fileobj=file, mode='r:') as archive:
    for member in archive:
      name = os.path.normpath(member.name)
      # As TFDS does: what a Mac adds to an archive is none of its files.
      if not member.isreg() or os.path.basename(name).startswith('.'):
        continue
      offset = start + member.offset_data
      inner, extension = os.path.splitext(name)
      if extension == '.tar' and not folder:
        yield from _walk(archive.extractfile(member), inner, offset)
      else:
        yield folder.encode(), name.encode(), offset, member.size
