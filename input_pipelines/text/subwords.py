r"""Text as numbers of subwords, in the form that tensor2tensor gave it.

A text is cut where letters and digits meet other characters; a single space
between two words is left out, since it can be put back. Every piece is escaped,
ends with '_', and is cut greedily into the longest subwords there are:

  'no_one, twice' -> 'no' '_' 'one' ', ' 'twice'
                  -> 'no_' '\u_' 'one_' ', _' 'twi' 'ce_', for example

Within a piece '\' is '\\', '_' is '\u', and a character that the vocabulary
lacks is '\228;', its code point.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
import itertools
import os
import re

from etils import epath
import numpy as np

PAD, EOS = 0, 1
_RESERVED = ('<pad>', '<EOS>')

# Letters and numbers (Unicode's categories L and N), or anything else.
_PIECES = re.compile(r'[^\W_]+|[\W_]+')
_ESCAPE = '\\_u;0123456789'
_ESCAPED = re.compile(r'\\u|\\\\|\\([0-9]+);')
_NO_CHARACTER = '\u3013'  # for the code point of none
_MOST_KEPT = 1 << 20  # pieces whose numbers are remembered

_ITERATIONS = 4
_MIN_COUNTS = (1, 1000)  # searched, both included


class Vocabulary:
  """Subwords by number; 0 pads, 1 ends a sentence."""

  file = 'vocabulary.subwords'  # in a data set
  start = ()  # what a sentence begins with
  end = EOS

  def __init__(self, subwords: Sequence[str]):
    """`subwords` in the order of their numbers, with the first two reserved."""
    _require_sound(subwords)
    self.subwords = tuple(subwords)
    self._numbers = {subword: i for i, subword in enumerate(subwords)}
    self._longest = max(map(len, subwords))
    self._alphabet = _alphabet(subwords)
    self._kept: dict[str, list[int]] = {}

  def __len__(self) -> int:
    return len(self.subwords)

  def __getstate__(self):
    return {**self.__dict__, '_kept': {}}

  def encode(self, text: str) -> list[int]:
    """The numbers of a text's subwords; no end of sentence is added."""
    kept = self._kept
    found = []
    for piece in pieces(text):
      numbers = kept.get(piece)
      if numbers is None:
        numbers = self._encode_piece(piece)
      found += numbers
    return found

  def decode(self, numbers: Iterable[int]) -> str:
    """The text of subwords; numbers past the vocabulary's end are left out."""
    escaped = ''.join(
      self.subwords[n] for n in _integers(numbers) if n < len(self)
    )
    words = [_unescape(each) for each in escaped.split('_') if each]
    spaced = words[:1]
    for before, word in itertools.pairwise(words):
      if before[0].isalnum() and word[0].isalnum():
        spaced.append(' ')
      spaced.append(word)
    return ''.join(spaced)

  def sentence(self, numbers: Iterable[int]) -> str:
    """The text of a model's output: what stands before the first EOS."""
    numbers = _integers(numbers)
    return self.decode(itertools.takewhile(lambda n: n != EOS, numbers))

  def text(self) -> str:
    """The vocabulary as it stands in a file."""
    return ''.join(f"'{subword}'\n" for subword in self.subwords)

  def _encode_piece(self, piece: str) -> list[int]:
    escaped = _escape(piece, self._alphabet)
    parts = _longest_first(escaped, self._numbers, self._longest)
    numbers = [self._numbers[part] for part in parts]
    if len(self._kept) >= _MOST_KEPT:
      self._kept.clear()
    self._kept[piece] = numbers
    return numbers


def read(path: epath.PathLike) -> Vocabulary:
  """Reads a vocabulary: a subword a line, in single quotes, by number.

  The lines are the numbers, the reserved ones included. (The file of WMT's
  32,768 subwords has them as '<pad>_' and '<EOS>_'; a reader that puts its own
  before them shifts all the others by two.)
  """
  text = epath.Path(path).read_bytes().decode('utf-8')
  lines = text.removesuffix('\n').split('\n')
  wrong = [i for i, line in enumerate(lines) if not _is_quoted(line.strip())]
  if wrong:
    raise ValueError(
      f'Expected a subword in single quotes in every line of {path}, got '
      f'{lines[wrong[0]][:40]!r} in line {wrong[0] + 1}.'
    )
  try:
    return Vocabulary([line.strip()[1:-1] for line in lines])
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)}: {error}') from error


def pieces(text: str) -> list[str]:
  """Cuts a text where letters and digits meet other characters.

  A single space is left out unless the text begins or ends with it.
  """
  found = _PIECES.findall(text)
  inner = [piece for piece in found[1:-1] if piece != ' ']
  return found[:1] + inner + found[1:][-1:]


def count(texts: Iterable[str]) -> collections.Counter[str]:
  """Number of times that each piece occurs in texts."""
  counts: collections.Counter[str] = collections.Counter()
  for text in texts:
    counts.update(pieces(text))
  return counts


def build(
  counts: Mapping[str, int],
  *,
  size: int,
  tolerance: float = 0.01,
  min_count: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Vocabulary:
  """Finds the subwords of some text.

  A subword must come `min_count` times. Which number that is, where none is
  given, is found by bisection: the first that gives about the size asked for,
  or else, of those that were tried, the one that comes nearest.

  Args:
    counts: how often each piece comes, as of `count`.
    size: of the vocabulary that is asked for.
    tolerance: how far from it a size may be, as a part of it.
    min_count: given, the size is what it comes to.
    progress: told of the pieces that were looked at, and of all of them.
  """
  if not counts:
    raise ValueError('Expected a text to find subwords in, got none.')
  rounds = 1
  if min_count is None:
    rounds = (_MIN_COUNTS[1] - _MIN_COUNTS[0]).bit_length()
  tell = _Telling(progress, rounds * _ITERATIONS * len(counts))
  found = _Search(counts, size, tolerance * size, tell)
  best = found.at(min_count) if min_count else found.bisect(*_MIN_COUNTS)
  tell.end()
  return Vocabulary(best)


class _Search:
  """The search for the count that gives a size."""

  def __init__(self, counts, size: int, tolerance: float, tell: '_Telling'):
    self._counts = counts
    self._alphabet = _alphabet(counts)
    self._size = size
    self._tolerance = tolerance
    self._tell = tell

  def bisect(self, low: int, high: int) -> list[str]:
    """The subwords nearest to the size, of min_counts in [low, high]."""
    middle = (low + high) // 2
    found = self.at(middle)
    away = abs(len(found) - self._size)
    if away < self._tolerance or low >= high or middle < 2:
      return found
    if len(found) > self._size:
      other = self.bisect(middle + 1, high)
    else:
      other = self.bisect(low, middle - 1)
    return other if abs(len(other) - self._size) < away else found

  def at(self, min_count: int) -> list[str]:
    """The subwords that come `min_count` times, the most frequent first."""
    found = [*_RESERVED, *self._alphabet]
    escaped = {
      _escape(piece, self._alphabet): n for piece, n in self._counts.items()
    }
    for _ in range(_ITERATIONS):
      found = self._again(found, escaped, min_count)
    return found

  def _again(self, subwords, escaped, min_count: int) -> list[str]:
    """Cuts all pieces by some subwords; what then comes often is the next."""
    known = dict.fromkeys(subwords)
    longest = max(len(s) for s in subwords if s not in _RESERVED)
    candidates: collections.defaultdict[str, int] = collections.defaultdict(int)
    for piece, n in escaped.items():
      first = 0
      for part in _longest_first(piece, known, longest):
        for end in range(first + 1, len(piece) + 1):
          candidates[piece[first:end]] += n
        first += len(part)
      self._tell.one()
    return self._chosen(candidates, min_count)

  def _chosen(self, candidates, min_count: int) -> list[str]:
    """Longer ones first: what a subword covers no longer counts for its parts.

    Only for its beginnings, that is, since cutting is from left to right.
    """
    often = [s for s, n in candidates.items() if n >= min_count]
    chosen = []
    for subword in sorted(often, key=len, reverse=True):
      n = candidates[subword]
      if n < min_count:  # most of what it was were parts of longer ones
        continue
      if subword not in self._alphabet and subword not in _RESERVED:
        chosen.append((n, subword))
      for end in range(1, len(subword)):
        candidates[subword[:end]] -= n
    chosen += [(candidates.get(c, 0), c) for c in self._alphabet]
    return [*_RESERVED, *(s for _, s in sorted(chosen, reverse=True))]


class _Telling:
  """Tells of progress now and then, and at the end of all of it."""

  _EVERY = 4096

  def __init__(self, progress, whole: int):
    self._progress = progress
    self._whole = whole
    self._done = 0

  def one(self) -> None:
    self._done += 1
    if self._progress and not self._done % self._EVERY:
      self._progress(self._done, self._whole)

  def end(self) -> None:
    if self._progress:  # a search that was lucky is over early
      self._progress(self._whole, self._whole)


def _require_sound(subwords: Sequence[str]) -> None:
  first = [s.removesuffix('_') for s in subwords[:2]]
  if first != list(_RESERVED):
    raise ValueError(
      f'Expected {_RESERVED[0]!r} and {_RESERVED[1]!r} as the first two of the '
      f'vocabulary, with or without a "_", got {list(subwords[:2])}.'
    )
  if len(set(subwords)) != len(subwords):
    twice = collections.Counter(subwords).most_common(1)[0][0]
    raise ValueError(f'Expected every subword once, got {twice!r} again.')
  if lacks := sorted(_alphabet(subwords) - set(subwords)):
    raise ValueError(
      'Expected every character of the vocabulary, and those that escape '
      f'others, as a subword of its own; {len(lacks)} are not, as {lacks[0]!r}.'
    )


def _alphabet(texts: Iterable[str]) -> set[str]:
  """The characters that need no escape."""
  return set(_ESCAPE).union(*texts, *_RESERVED)


def _escape(piece: str, alphabet: set[str]) -> str:
  piece = piece.replace('\\', '\\\\').replace('_', '\\u')
  if not alphabet.issuperset(piece) or '\n' in piece:
    piece = ''.join(
      c if c in alphabet and c != '\n' else f'\\{ord(c)};' for c in piece
    )
  return piece + '_'


def _unescape(piece: str) -> str:
  return _ESCAPED.sub(_character, piece) if '\\' in piece else piece


def _character(match: re.Match) -> str:
  number = match.group(1)
  if number is None:
    return '_' if match.group(0) == '\\u' else '\\'
  try:
    return chr(int(number))
  except (ValueError, OverflowError):
    return _NO_CHARACTER


def _longest_first(escaped: str, known: Mapping, longest: int) -> list[str]:
  """Cuts an escaped piece into the longest subwords, from left to right."""
  found = []
  first = 0
  while first < len(escaped):
    end = min(len(escaped), first + longest)
    while escaped[first:end] not in known:
      end -= 1
    found.append(escaped[first:end])
    first = end
  return found


def _integers(numbers: Iterable[int]) -> list[int]:
  return np.asarray(
    numbers if hasattr(numbers, '__array__') else list(numbers), np.int64
  ).tolist()


def _is_quoted(line: str) -> bool:
  return len(line) > 2 and line[0] == line[-1] == "'"
