"""Byte pair encoding: words as joined pairs of symbols, found in a text.

The text is words with spaces between. A word begins as its characters, of which
the last knows that it ends the word; then the pairs of the list are joined, the
first of the list first. A subword that others follow ends with '@@':

  'lower lowest' -> 'low@@ er low@@ est', for example

Lists and cuts are those of subword-nmt, in the version that the GNMT reference
names (github.com/rsennrich/subword-nmt, commit
48ba99e657591c329e0003f0c6e32e493fa959ef).
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
import itertools
import os

from etils import epath
import numpy as np

from input_pipelines.text import moses

PAD, UNKNOWN, START, EOS = range(4)
# As the reference writes them.
RESERVED = ('<pad>', '<unk>', '<s>', r'<\s>')
MARK = '@@'

_END = '</w>'
_MOST_KEPT = 1 << 20  # words whose subwords are remembered
_RARE = 10_000  # merges after which the bar for rare pairs rises no more, about
_PRUNED_EVERY = 100  # merges

Pair = tuple[str, str]


class Vocabulary:
  """Subwords by number: the reserved ones, then the most frequent first."""

  file = 'vocabulary.bpe'  # in a data set
  start = (START,)  # what a sentence begins with
  end = EOS

  def __init__(self, subwords: Sequence[str], merges: 'Merges | None' = None):
    """`subwords` without the reserved; `merges` cut words that are no subwords.

    Without merges a text is subwords already.
    """
    if len({*subwords, *RESERVED}) != len(subwords) + len(RESERVED):
      twice, _ = collections.Counter((*RESERVED, *subwords)).most_common(1)[0]
      raise ValueError(f'Expected every subword once, got {twice!r} again.')
    self.subwords = (*RESERVED, *subwords)
    self._numbers = {subword: i for i, subword in enumerate(self.subwords)}
    self._merges = merges

  def __len__(self) -> int:
    return len(self.subwords)

  def encode(self, text: str) -> list[int]:
    """The numbers of a text's subwords, without start and end."""
    words = text.split()
    if self._merges:
      words = self._merges.cut(words)
    return [self._numbers.get(word, UNKNOWN) for word in words]

  def decode(self, numbers: Iterable[int]) -> str:
    """The text of subwords, with spaces only where a reader wants them."""
    if hasattr(numbers, '__array__'):
      numbers = np.asarray(numbers).tolist()
    text = ' '.join(self.subwords[n] for n in numbers)
    text = text.replace(f'{MARK} ', '').replace(MARK, '')
    for number in (START, EOS, PAD):  # what is unknown stays
      text = text.replace(RESERVED[number], '')
    return moses.detokenize(text.strip())

  def sentence(self, numbers: Iterable[int]) -> str:
    """The text of a model's output, of which ends and padding are no part."""
    return self.decode(numbers)

  def padded(self, multiple: int) -> 'Vocabulary':
    """With words that no text has, up to a multiple."""
    more = -len(self) % multiple
    made_up = [f'madeupword{i:04d}' for i in range(more)]
    return Vocabulary([*self.subwords[len(RESERVED) :], *made_up], self._merges)

  def text(self) -> str:
    """The vocabulary as in a file: by number, without the reserved."""
    return ''.join(f'{word}\n' for word in self.subwords[len(RESERVED) :])


class Merges:
  """Cuts words by a list of pairs; the earlier are joined first."""

  def __init__(self, pairs: Sequence[Pair]):
    self.pairs = tuple(pairs)
    self._rank = {}
    for rank, pair in enumerate(pairs):
      self._rank.setdefault(pair, rank)
    self._kept: dict[str, tuple[str, ...]] = {}

  def __getstate__(self):
    return {**self.__dict__, '_kept': {}}

  def cut(self, words: Iterable[str]) -> list[str]:
    """The subwords of words, one after the other."""
    found: list[str] = []
    for word in words:
      parts = self._kept.get(word)
      if parts is None:
        if len(self._kept) >= _MOST_KEPT:
          self._kept.clear()
        parts = self._kept[word] = self._cut(word)
      found += parts
    return found

  def text(self) -> str:
    """The list as it stands in a file."""
    lines = ''.join(f'{first} {second}\n' for first, second in self.pairs)
    return f'#version: 0.2\n{lines}'

  def _cut(self, word: str) -> tuple[str, ...]:
    symbols = _symbols(word)
    while len(symbols) > 1:
      known = [p for p in itertools.pairwise(symbols) if p in self._rank]
      if not known:
        break
      symbols = _joined(symbols, min(known, key=self._rank.__getitem__))
    # What ends the word is no subword of its own: it follows a character.
    *before, last = symbols
    return (*(f'{part}{MARK}' for part in before), last.removesuffix(_END))


def read(path: epath.PathLike) -> Vocabulary:
  """Reads a vocabulary: a subword a line, without the reserved ones."""
  text = epath.Path(path).read_bytes().decode('utf-8')
  try:
    return Vocabulary([line.strip() for line in text.split('\n')[:-1]])
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)}: {error}') from error


def count(lines: Iterable[str]) -> collections.Counter[str]:
  """Counts each word in lines of words with spaces between."""
  counts: collections.Counter[str] = collections.Counter()
  for line in lines:
    counts.update(word for word in line.split(' ') if word)
  return counts


def by_frequency(counts: Mapping[str, int]) -> list[str]:
  """The most frequent first; of equal ones, what came first."""
  return sorted(counts, key=lambda word: -counts[word])


def learn(
  counts: Mapping[str, int],
  merges: int,
  *,
  min_count: int = 2,
  progress: Callable[[int, int], None] | None = None,
) -> Merges:
  """Finds pairs to join: each time the most frequent, of equal ones the last.

  Args:
    counts: how often each word comes.
    merges: pairs to find; fewer if the rest comes less than `min_count` times.
    min_count: of a pair.
    progress: told of the pairs that were found, and of all.
  """
  return Merges(_Learner(counts).pairs(merges, min_count, progress))


class _Learner:
  """The words as they are cut so far, and how often each pair comes in them."""

  def __init__(self, counts: Mapping[str, int]):
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    self._words = [(_symbols(word), n) for word, n in ordered]
    self._counts: dict[Pair, int] = collections.defaultdict(int)
    self._where: dict[Pair, dict[int, int]] = collections.defaultdict(
      lambda: collections.defaultdict(int)
    )
    for number, (symbols, n) in enumerate(self._words):
      for pair in itertools.pairwise(symbols):
        self._counts[pair] += n
        self._where[pair][number] += 1
    # Of all pairs, also those too rare to be looked through each time.
    self._all = dict(self._counts)

  def pairs(self, most: int, min_count: int, progress) -> list[Pair]:
    """The pairs in the order in which they are joined."""
    found: list[Pair] = []
    bar = max(self._counts.values(), default=0) / 10
    for number in range(most):
      best = self._best()
      if best is None or (number and self._counts[best] < bar):
        self._prune(bar)
        self._counts = collections.defaultdict(int, self._all)
        best = self._best()
        if best is None:
          break
        bar = self._counts[best] * number / (number + _RARE)
        self._prune(bar)
      if self._counts[best] < min_count:
        break
      found.append(best)
      self._join(best)
      if number % _PRUNED_EVERY == 0:
        self._prune(bar)
        if progress:
          progress(number, most)
    if progress:
      progress(most, most)
    return found

  def _best(self) -> Pair | None:
    counts = self._counts
    return max(counts, key=lambda p: (counts[p], p)) if counts else None

  def _prune(self, bar: float) -> None:
    """Sets rare pairs aside, as the original does, its bookkeeping included."""
    for pair, n in list(self._counts.items()):
      if n < bar:
        del self._counts[pair]
        self._all[pair] = n if n >= 0 else self._all.get(pair, 0) + n

  def _join(self, pair: Pair) -> None:
    """Joins a pair in all words, and counts the pairs around it anew."""
    where = [number for number, n in self._where[pair].items() if n > 0]
    self._counts[pair] = 0
    self._where[pair] = collections.defaultdict(int)
    joined = ''.join(pair)
    for number in where:
      old, n = self._words[number]
      new = _joined(old, pair)
      self._words[number] = (new, n)
      for near in _beside_pair(old, pair):
        self._counts[near] -= n
        self._where[near][number] -= 1
      for near in _beside_joined(new, joined):
        self._counts[near] += n
        self._where[near][number] += 1
    self._counts[pair] = 0


def _beside_pair(symbols: Sequence[str], pair: Pair) -> Iterable[Pair]:
  """Pairs that are gone when a pair is joined."""
  at = 0
  while at + 1 < len(symbols):
    if symbols[at : at + 2] != pair:
      at += 1
      continue
    if at:
      yield symbols[at - 1 : at + 1]
    # Of A B A B the pair B A is given once, by the second A B.
    if at + 2 < len(symbols) and symbols[at + 2 : at + 4] != pair:
      yield symbols[at + 1 : at + 3]
    at += 2


def _beside_joined(symbols: Sequence[str], joined: str) -> Iterable[Pair]:
  """Pairs that are there once a pair is joined."""
  for at, symbol in enumerate(symbols):
    if symbol != joined:
      continue
    if at:
      yield symbols[at - 1 : at + 1]
    if at + 1 < len(symbols) and symbols[at + 1] != joined:
      yield symbols[at : at + 2]


def _symbols(word: str) -> tuple[str, ...]:
  return (*word[:-1], word[-1] + _END)


def _joined(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
  """Symbols with a pair joined, from left to right."""
  found, at = [], 0
  while at < len(symbols):
    if tuple(symbols[at : at + 2]) == pair:
      found.append(''.join(pair))
      at += 2
    else:
      found.append(symbols[at])
      at += 1
  return tuple(found)
