r"""BLEU of translations, as the reference of the Transformer benchmark has it.

Words are cut as mteval-v14 does: a space on both sides of punctuation, unless
it stands between digits (or at an end of the text, beside one), and on both
sides of symbols. It differs from other scripts in small things:

- '\' is no punctuation.
- a length of n-grams that no translation has counts as if all of them matched.
"""

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import functools
import itertools
import math
import re
import sys
import unicodedata

import numpy as np

ORDER = 4  # the longest n-grams that are counted
COUNTS = 2 + 2 * ORDER
_LAST_OF_PLANE = '\uffff'


def bleu(
  references: Sequence[str], translations: Sequence[str], *, cased: bool = False
) -> float:
  """BLEU of a corpus, a fraction: in [0, 1].

  Args:
    references: a text for each translation.
    translations: in the same order.
    cased: True where 'The' and 'the' differ.
  """
  if len(references) != len(translations) or not references:
    raise ValueError(
      'Expected as many references as translations, and some, got '
      f'{len(references)} and {len(translations)}.'
    )
  pairs = zip(references, translations, strict=True)
  return of_counts(sum(count(*pair, cased=cased) for pair in pairs))


def count(
  reference: str, translation: str, *, cased: bool = False
) -> np.ndarray:
  """Counts of one pair, int64 [COUNTS]; their sum over a corpus gives BLEU.

  Words of both, then n-grams of the translation by n: how many match, and how
  many there are.
  """
  if not cased:
    reference, translation = reference.lower(), translation.lower()
  expected, got = tokenize(reference), tokenize(translation)
  matches, possible = [0] * ORDER, [0] * ORDER
  wanted = collections.Counter(_ngrams(expected))
  for ngram, n in collections.Counter(_ngrams(got)).items():
    possible[len(ngram) - 1] += n
    matches[len(ngram) - 1] += min(n, wanted[ngram])
  return np.array([len(expected), len(got), *matches, *possible])


def of_counts(counts: Sequence[float]) -> float:
  """BLEU, in [0, 1], of the sum of `count` over a corpus."""
  reference, translation, *ngrams = (int(each) for each in counts)
  mean = _geometric_mean(_precisions(ngrams[:ORDER], ngrams[ORDER:]))
  return mean * _brevity_penalty(reference, translation)


def printed(counts: Sequence[float]) -> float:
  """BLEU, in [0, 1], as sacrebleu 1.2.10 prints it with -lc --tokenize intl.

  It cuts texts in the same way, rounds to a hundredth of a percent, and gives 0
  where no translation has ORDER words.
  """
  if not all(counts[-ORDER:]):
    return 0.0
  return round(100 * of_counts(counts), 2) / 100


def tokenize(text: str) -> list[str]:
  """Cuts a text into words, punctuation and symbols."""
  cuts = _cuts(max(text, default='') > _LAST_OF_PLANE)
  text = cuts.after_other.sub(r'\1 \2 ', text)
  text = cuts.before_other.sub(r' \1 \2', text)
  return cuts.symbol.sub(r' \1 ', text).split()


@dataclasses.dataclass(frozen=True)
class _Cuts:
  after_other: re.Pattern  # anything but a digit, then punctuation
  before_other: re.Pattern
  symbol: re.Pattern


@functools.cache
def _cuts(every_plane: bool) -> _Cuts:
  """The patterns; of the first plane alone they are ten times as fast."""
  # The reference puts the characters into brackets as they are, where '\' only
  # escapes the ']' that comes next.
  mark = _any_of('P', every_plane, but='\\')
  symbol = _any_of('S', every_plane)
  return _Cuts(
    after_other=re.compile(rf'(\D)({mark})'),
    before_other=re.compile(rf'({mark})(\D)'),
    symbol=re.compile(f'({symbol})'),
  )


def _any_of(category: str, every_plane: bool, but: str = '') -> str:
  """A pattern of one of a category's characters, as 'P' for punctuation."""
  last = sys.maxunicode if every_plane else ord(_LAST_OF_PLANE)
  every = map(chr, range(last + 1))
  found = [c for c in every if unicodedata.category(c)[0] == category]
  return f'[{re.escape("".join(c for c in found if c not in but))}]'


def _ngrams(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
  """All runs of 1 to 4 words."""
  return itertools.chain.from_iterable(
    zip(*(words[first:] for first in range(n)), strict=False)
    for n in range(1, ORDER + 1)
  )


def _precisions(matches: Sequence[int], possible: Sequence[int]) -> list[float]:
  """The part of the n-grams that match, by n; where none does, not quite 0.

  The first n of which none matches counts as half a match, the next as a
  quarter, and so on. What is not possible is 0.
  """
  smooth = 1.0
  found = []
  for matched, of in zip(matches, possible, strict=True):
    if of and not matched:
      smooth *= 2
    found.append((matched or 1 / smooth) / of if of else 0.0)
  return found


def _geometric_mean(precisions: Sequence[float]) -> float:
  logs = [math.log(p) for p in precisions if p]
  return math.exp(sum(logs) / ORDER) if logs else 0.0


def _brevity_penalty(reference: int, translation: int) -> float:
  """Lengths of the corpora in words -> what a short translation costs."""
  if not translation:
    return 0.0
  return min(1.0, math.exp(1 - reference / translation))
