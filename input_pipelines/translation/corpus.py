"""Parallel text: sentences and their translations, by number.

Nothing as long as a corpus is kept in memory.
"""

from collections.abc import Iterable, Iterator, Sequence
import os
from typing import Protocol

from etils import epath
import numpy as np

from input_pipelines.reading import dataset
from input_pipelines.writing import work

_EVERY = 1024  # lines from one known place of a file to the next
_PIECE = 1 << 24  # bytes that are read at once
_RECORDS = 1024  # that are read at once

Lines = list[str]


class Corpus(Protocol):
  """Pairs of a sentence and its translation."""

  size: int  # bytes, about

  def __len__(self) -> int: ...

  def pairs(self, first: int, end: int) -> tuple[Lines, Lines]:
    """The sentences in [first, end) and their translations, stripped."""

  def samples(self, budget: int) -> Iterator[str]:
    """Lines of both sides to find subwords in, spread over the corpus."""


class File:
  """The lines of a text file by number; only '\\n' ends one."""

  def __init__(self, path: str, progress: work.Progress | None = None):
    """Goes through the file once; `progress` is told of its bytes."""
    self.path = path
    self.size = os.path.getsize(path)
    places = [np.zeros(1, np.int64)]
    at = lines = 0
    with open(path, 'rb') as file:
      while piece := file.read(_PIECE):
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord('\n'))
        # The places where the lines 1024, 2048, ... begin.
        places.append(ends[-(lines + 1) % _EVERY :: _EVERY] + at + 1)
        lines += len(ends)
        at += len(piece)
        rest = not piece.endswith(b'\n')
        if progress:
          progress(at, self.size)
    self._lines = lines + (rest if at else 0)
    self._places = np.concatenate(places)

  def __len__(self) -> int:
    return self._lines

  def lines(self, first: int = 0, end: int | None = None) -> Iterator[str]:
    """The lines in [first, end), stripped; ValueError if not UTF-8."""
    end = len(self) if end is None else end
    number = first // _EVERY * _EVERY
    with open(self.path, 'rb') as file:
      file.seek(self._places[first // _EVERY])
      for line in file:
        if number >= end:
          return
        if number >= first:
          try:
            yield line.decode('utf-8').strip()
          except UnicodeDecodeError as error:
            raise ValueError(
              f'Expected UTF-8 in line {number + 1} of {self.path}, got: '
              f'{error}'
            ) from error
        number += 1


class Files:
  """Pairs of text files, one after the other."""

  def __init__(
    self,
    paths: Sequence[tuple[str, str]],
    progress: work.Progress | None = None,
  ):
    """`paths` of sentences and of translations, line by line."""
    self._files = []
    before, whole = 0, sum(os.path.getsize(p) for each in paths for p in each)
    for pair in paths:
      found = []
      for path in pair:
        tell = progress and _shifted(progress, before, whole)
        found.append(File(path, tell))
        before += found[-1].size
      self._files.append(_matching(*found))
    self.size = whole
    self._ends = np.cumsum([len(source) for source, _ in self._files])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def pairs(self, first: int, end: int) -> tuple[Lines, Lines]:
    """See Corpus."""
    sides: tuple[Lines, Lines] = ([], [])
    begin = 0
    for files, stop in zip(self._files, self._ends.tolist(), strict=True):
      a, b = max(first, begin) - begin, min(end, stop) - begin
      if a < b:
        for lines, file in zip(sides, files, strict=True):
          lines += file.lines(a, b)
      begin = stop
    return sides

  def samples(self, budget: int) -> Iterator[str]:
    """See Corpus; `budget` characters of each file."""
    for side in (0, 1):
      for files in self._files:
        yield from _spread(files[side].lines(), files[side].size, budget)


class Texts:
  """Pairs that are in memory."""

  def __init__(self, source: Lines, target: Lines):
    self._sides = (source, target)
    self.size = sum(len(line) for side in self._sides for line in side)

  def __len__(self) -> int:
    return len(self._sides[0])

  def pairs(self, first: int, end: int) -> tuple[Lines, Lines]:
    """See Corpus."""
    source, target = self._sides
    return source[first:end], target[first:end]

  def samples(self, budget: int) -> Iterator[str]:
    """See Corpus."""
    for side in self._sides:
      yield from _spread(side, sum(map(len, side)), budget)


class Tfds:
  """Pairs of a TFDS data set of translations, in the order on disk."""

  def __init__(
    self, directory: epath.PathLike, split: str, languages: tuple[str, str]
  ):
    """`languages` of the sentences and of the translations, as 'en', 'de'."""
    self._split = dataset.Split(directory, split)
    self._languages = languages
    self.size = int(dataset.load(directory).info.splits[split].num_bytes)

  def __len__(self) -> int:
    return len(self._split)

  def pairs(self, first: int, end: int) -> tuple[Lines, Lines]:
    """See Corpus."""
    sides: tuple[Lines, Lines] = ([], [])
    found = self._split.records(range(first, end))
    for record, features in enumerate(found, start=first):
      for lines, language in zip(sides, self._languages, strict=True):
        values = features[language].bytes_list.value
        if len(values) != 1:
          raise self._split.corrupt(record, f'it has no text in {language!r}.')
        lines.append(values[0].decode('utf-8').strip())
    return sides

  def samples(self, budget: int) -> Iterator[str]:
    """See Corpus; `budget` characters of each language."""
    for side in (0, 1):
      yield from _spread(self._side(side), self.size // 2, budget)

  def _side(self, side: int) -> Iterator[str]:
    for first in range(0, len(self), _RECORDS):
      end = min(first + _RECORDS, len(self))
      yield from self.pairs(first, end)[side]


def _spread(lines: Iterable[str], size: int, budget: int) -> Iterator[str]:
  """One of so many lines, up to `budget` characters, as the reference does.

  The step from one to the next is `size` / (2 * `budget`), so that the budget
  is spent half way.
  """
  skip = int(size / (2 * budget))
  for number, line in enumerate(lines):
    if number % (skip + 1) < skip:
      continue
    if budget < 0:
      return
    budget -= len(line)
    yield line


def _matching(source: File, target: File) -> tuple[File, File]:
  if len(source) != len(target):
    raise ValueError(
      f'Expected as many lines in {source.path} as in {target.path}, got '
      f'{len(source)} and {len(target)}.'
    )
  return source, target


def _shifted(tell: work.Progress, before: int, whole: int) -> work.Progress:
  """The progress of a part, as that of the whole."""
  return lambda done, _: tell(before + done, whole)
