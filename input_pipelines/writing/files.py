"""Files that are there whole or not at all, and their checksums."""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import json
import os
from typing import Any, BinaryIO

_PIECE = 1 << 22  # bytes that are read at once


def digest(
  path: str, algorithm: str, tick: Callable[[int], None] | None = None
) -> str:
  """The checksum of a file in hex; `tick` hears of each piece's bytes."""
  found = hashlib.new(algorithm, usedforsecurity=False)
  with open(path, 'rb') as file:
    while piece := file.read(_PIECE):
      found.update(piece)
      if tick:
        tick(len(piece))
  return found.hexdigest()


def write_json(path: str, value: Any) -> None:
  """Writes a file of JSON beside its place, and then moves it there."""
  with replacing(path) as file:
    file.write(json.dumps(value, indent=1).encode() + b'\n')


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
  """A file to write beside its place; it is moved there if nothing fails."""
  partial = f'{path}.partial'
  with open(partial, 'wb') as file:
    yield file
  place(partial, path)


def place(partial: str, path: str) -> None:
  """Moves a file that was written to its place, once the disk has it."""
  file = os.open(partial, os.O_RDONLY)
  try:
    os.fsync(file)
  finally:
    os.close(file)
  os.replace(partial, path)
