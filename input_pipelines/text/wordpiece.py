"""WordPiece as BERT has it: text without case and accents -> tokens.

The package `tokenizers` looks the pieces up. What comes before is done here as
in tokenization.py of mlcommons/training, retired_benchmarks/bert, for that of
the package treats a few characters otherwise: those for private use, and a
capital sigma at the end of a word.
"""

import collections
from collections.abc import Iterable, Sequence
import functools
import itertools
import os
import sys
import unicodedata

from etils import epath
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

UNKNOWN = '[UNK]'
_SPECIAL = ('[PAD]', UNKNOWN, '[CLS]', '[SEP]', '[MASK]')
_LONGEST = 200  # characters of a word; a longer one is unknown


class Vocabulary:
  """Tokens by number; the special ones by name."""

  def __init__(self, tokens: Sequence[str]):
    """ValueError where a token comes twice, or a special one is missing."""
    self.tokens = tuple(tokens)
    numbers = {token: number for number, token in enumerate(tokens)}
    if len(numbers) != len(self.tokens):
      raise ValueError(
        f'Expected {len(self.tokens)} tokens, none twice, got {len(numbers)}.'
      )
    if lacks := [token for token in _SPECIAL if token not in numbers]:
      raise ValueError(f'Expected the tokens {", ".join(lacks)}, got none.')
    self.pad, self.unknown, self.cls, self.sep, self.mask = (
      numbers[token] for token in _SPECIAL
    )
    pieces = models.WordPiece(
      numbers, unk_token=UNKNOWN, max_input_chars_per_word=_LONGEST
    )
    self._tokenizer = _tokenizer(pieces)

  def __len__(self) -> int:
    return len(self.tokens)

  def __getstate__(self):
    return self.tokens

  def __setstate__(self, tokens):
    self.__init__(tokens)

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text; no special ones are added."""
    found = self._tokenizer.encode_batch_fast(
      [plain(text) for text in texts], add_special_tokens=False
    )
    return [each.ids for each in found]


def read(path: epath.PathLike) -> Vocabulary:
  """A vocabulary of a file with a token a line."""
  text = epath.Path(path).read_text(encoding='utf-8')
  try:
    return Vocabulary([line.strip() for line in text.splitlines()])
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)}: {error}') from error


def train(texts: Iterable[str], size: int) -> Vocabulary:
  """The vocabulary of some texts, of `size` tokens or as many as letters.

  The most frequent pair of neighbours in a word becomes a token, until there
  are enough; of equally frequent ones the first in the alphabet does. The
  package's own trainer finds another vocabulary each time.
  """
  split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
  counts = collections.Counter(
    word for text in texts for word, _ in split(plain(text))
  )
  words = [[word[0], *(f'##{c}' for c in word[1:])] for word in counts]
  weights = list(counts.values())
  found = dict.fromkeys(sorted({piece for word in words for piece in word}))
  pairs: collections.Counter = collections.Counter()
  places = collections.defaultdict(set)  # the words that a pair is in

  def count(number: int, sign: int) -> None:
    for pair in itertools.pairwise(words[number]):
      pairs[pair] += sign * weights[number]
      places[pair].add(number)

  for number in range(len(words)):
    count(number, 1)
  while len(found) < size - len(_SPECIAL) and pairs:
    pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
    if pairs[pair] < 1:
      break
    merged = pair[0] + pair[1].removeprefix('##')
    found[merged] = None
    for number in sorted(places.pop(pair)):
      count(number, -1)
      words[number] = _merged(words[number], pair, merged)
      count(number, 1)
    del pairs[pair]
  return Vocabulary([*_SPECIAL, *found])


def plain(text: str) -> str:
  """Text in lower case, without accents and characters that do not print."""
  if text.isascii():
    return text.lower().translate(_changes())
  text = text.translate(_changes()).lower()
  return unicodedata.normalize('NFD', text).translate(_marks())


def _merged(word: list[str], pair: tuple[str, str], merged: str) -> list[str]:
  """A word whose pairs that are `pair` have become one."""
  found, i = [], 0
  while i < len(word):
    if tuple(word[i : i + 2]) == pair:
      found.append(merged)
      i += 2
    else:
      found.append(word[i])
      i += 1
  return found


def _tokenizer(pieces: models.Model) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(pieces)
  tokenizer.normalizer = normalizers.BertNormalizer(
    clean_text=False,
    handle_chinese_chars=True,
    strip_accents=False,
    lowercase=False,
  )
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return tokenizer


@functools.cache
def _changes() -> dict[int, str | None]:
  """Characters that are dropped, or are a space."""
  changes: dict[int, str | None] = {0: None, 0xFFFD: None}
  for number in range(sys.maxunicode + 1):
    kind = unicodedata.category(chr(number))
    if kind in ('Cc', 'Cf'):
      changes[number] = None
    elif kind == 'Zs':
      changes[number] = ' '
  return changes | dict.fromkeys(map(ord, '\t\n\r'), ' ')


@functools.cache
def _marks() -> dict[int, None]:
  """Marks that have no room of their own, as accents are."""
  return {
    number: None
    for number in range(sys.maxunicode + 1)
    if unicodedata.category(chr(number)) == 'Mn'
  }
