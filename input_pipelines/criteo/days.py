"""Day files of click logs, once they are parsed: a file for each column.

So a column can be numbered on its own, and nothing has to be in memory but a
piece of a day.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import gzip
import itertools
import json
import os
import shutil
from typing import BinaryIO
import zlib

import numpy as np

from input_pipelines.criteo import CATEGORIES, COUNTS, DAYS, lines
from input_pipelines.writing import files, work

_PIECE = 1 << 23  # bytes of text that are read at once
_PARSED = 4096  # lines that are parsed at once; their arrays stay in cache
_FACTS = 'facts.json'


@dataclasses.dataclass(frozen=True)
class Clicks:
  """Some clicks in the order of a day."""

  label: np.ndarray  # uint8 [N]
  counts: np.ndarray  # int32 [N, 13]
  ids: np.ndarray  # uint32 [N, 26]: numbered values


@dataclasses.dataclass(frozen=True)
class Day:
  """A day that was parsed, by the folder that holds its columns."""

  folder: str
  rows: int
  least: int  # of the integers

  def column(self, column: int) -> np.ndarray:
    """Values of a column: uint32 [rows], on disk."""
    return self._open(_column(column), np.uint32)

  def remove(self, column: int) -> None:
    """Removes a column, whose values are no longer needed."""
    os.remove(os.path.join(self.folder, _column(column)))

  def clicks(self, first: int, end: int, numbered: Callable) -> Clicks:
    """Clicks first to end; `numbered(day, column)` are a column's ids."""
    return Clicks(
      np.array(self._open('label', np.uint8)[first:end]),
      np.array(self._open('counts', np.int32, COUNTS)[first:end]),
      np.stack(
        [numbered(self, c)[first:end] for c in range(CATEGORIES)], axis=1
      ),
    )

  def _open(self, name: str, dtype: type, width: int = 0) -> np.ndarray:
    shape = (self.rows, width) if width else (self.rows,)
    return np.memmap(os.path.join(self.folder, name), dtype, 'r', shape=shape)


def find(folder: str) -> list[str]:
  """The paths of day_0 to day_23, each as text or with `.gz`."""
  paths = []
  for day in range(DAYS):
    path = os.path.join(folder, f'day_{day}')
    there = [p for p in (path, f'{path}.gz') if os.path.isfile(p)]
    if not there:
      raise FileNotFoundError(f'Expected {path} or {path}.gz, found neither.')
    paths.append(there[0])
  return paths


def parse(
  paths: Sequence[str],
  folder: str,
  *,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> list[Day]:
  """Writes the columns of the days that are not yet in a folder.

  Args:
    paths: of the day files.
    folder: where each day gets a folder of its own.
    threads: that parse a day each; None for one a core.
    progress: told of the bytes of the files.
  """
  sizes = [os.path.getsize(path) for path in paths]
  missing = [day for day in range(len(paths)) if _read(folder, day) is None]
  work.each(
    lambda day, tick: _parse_day(paths[day], _folder(folder, day), tick),
    sorted(missing, key=lambda day: -sizes[day]),
    whole=sum(sizes),
    done=sum(sizes) - sum(sizes[day] for day in missing),
    threads=threads,
    progress=progress,
  )
  return parsed(folder)


def parsed(folder: str) -> list[Day]:
  """The days whose columns are in a folder, in order."""
  found = map(functools.partial(_read, folder), itertools.count())
  return list(itertools.takewhile(lambda day: day is not None, found))


def _folder(folder: str, day: int) -> str:
  return os.path.join(folder, f'day_{day}')


def _column(column: int) -> str:
  return f'category_{column:02d}'


def _read(folder: str, number: int) -> Day | None:
  """A day that was parsed; None where it was not, or not to its end."""
  path = _folder(folder, number)
  try:
    with open(os.path.join(path, _FACTS), encoding='utf-8') as file:
      return Day(path, **json.load(file))
  except FileNotFoundError:
    return None


def _parse_day(path: str, folder: str, tick: work.Tick) -> None:
  """Writes a day's columns and, when they are whole, its facts."""
  shutil.rmtree(folder, ignore_errors=True)
  os.makedirs(folder)
  names = ['label', 'counts', *map(_column, range(CATEGORIES))]
  columns = [open(os.path.join(folder, n), 'wb') for n in names]  # noqa: SIM115
  rows, least = 0, np.iinfo(np.int32).max
  try:
    for text in _pieces(path, tick):
      parsed = _parse_piece(path, text, rows)
      rows += len(parsed)
      least = min(least, int(parsed.counts.min()))
      arrays = [parsed.label, parsed.counts, *parsed.categories.T]
      for column, values in zip(columns, arrays, strict=True):
        column.write(np.ascontiguousarray(values).data)
  finally:
    for column in columns:
      column.close()
  if not rows:
    raise ValueError(f'Expected clicks in {path}, got an empty file.')
  facts = {'rows': rows, 'least': least}
  files.write_json(os.path.join(folder, _FACTS), facts)


def _parse_piece(path: str, text: bytes, before: int) -> lines.Lines:
  """Whole lines, of which `before` come before them in the file."""
  ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord('\n')) + 1
  cuts = [0, *ends[_PARSED - 1 : -1 : _PARSED].tolist(), len(text)]
  found = []
  for part, (first, end) in enumerate(itertools.pairwise(cuts)):
    try:
      found.append(lines.parse(text[first:end], before + part * _PARSED + 1))
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
  return lines.Lines(
    *(
      np.concatenate([getattr(each, field.name) for each in found])
      for field in dataclasses.fields(lines.Lines)
    )
  )


def _pieces(path: str, tick: work.Tick):
  """Yields the text of a file, a few whole lines at a time."""
  with open(path, 'rb') as raw:
    file: BinaryIO = raw
    if path.endswith('.gz'):
      file = gzip.GzipFile(fileobj=raw)
    rest, done = b'', 0
    try:
      while piece := file.read(_PIECE):
        at = piece.rfind(b'\n') + 1
        if at:
          yield rest + piece[:at]
          rest = piece[at:]
        else:
          rest += piece
        tick(raw.tell() - done)
        done = raw.tell()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
      raise ValueError(
        f'Expected a whole gzip file in {path}, got: {error}. Download it '
        'again.'
      ) from error
    if rest:
      yield rest
