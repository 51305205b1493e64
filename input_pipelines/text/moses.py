"""Text of words with spaces between, as readers want it: rules of Moses.

The rules are those of its detokenizer for English, which the GNMT reference
runs on German, and those by which its scripts leave pairs out: in
github.com/moses-smt/mosesdecoder, commit
8c5eaa1a122236bbf927bde4ec610906fea599e6, scripts/tokenizer/detokenizer.perl and
scripts/training/clean-corpus-n.perl.
"""

import re
import unicodedata

MAX_RATIO = 9  # of words of one side to words of the other
MAX_WORD = 1000  # characters

# In this order: what an escape gives may be part of the next.
_ESCAPES = (
  ('&bar;', '|'), ('&#124;', '|'), ('&lt;', '<'), ('&gt;', '>'),
  ('&bra;', '['), ('&ket;', ']'), ('&quot;', '"'), ('&apos;', "'"),
  ('&#91;', '['), ('&#93;', ']'), ('&amp;', '&'),
)  # fmt: skip
_OPENS = frozenset('([{¿¡')  # and currencies
_CLOSES = frozenset(',.?!:;\\%}])')
_QUOTES = frozenset('\'"„“`')
_DOUBLE = frozenset('„“”')
# Chinese, Japanese, Korean: blocks of code points, first and last.
_CJK = (
  (0x1100, 0x11FF), (0x2E80, 0xA4CF), (0xA840, 0xA87F), (0xAC00, 0xD7AF),
  (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF65, 0xFFDC), (0x20000, 0x2FFFF),
)  # fmt: skip
_TAG = re.compile(r'<.+>')


def detokenize(text: str) -> str:
  """A line without the spaces that a tokenizer put before punctuation."""
  if _TAG.fullmatch(text) or not text.strip():
    return text  # a line of markup stays
  text = f' {text} '.replace(' @-@ ', '-')
  for escape, character in _ESCAPES:
    text = text.replace(escape, character)
  words = text.rstrip(' ').split(' ')
  found, space, quotes = '', ' ', {}
  for i, word in enumerate(words):
    before = words[i - 1] if i else ''
    joins, opens = _sides(word, before, quotes)
    found += word if joins else space + word
    space = '' if opens else ' '
  return re.sub(' +', ' ', found).strip(' ')


def is_clean(source: str, target: str, *, most: int = 80) -> bool:
  """Keeps pairs of 1 to `most` words a side whose lengths are not far apart.

  Sides are as `squeezed` makes them.
  """
  words = [side.split(' ') for side in (source, target)]
  if not source or not target or max(map(len, words)) > most:
    return False
  fewer, more = sorted(map(len, words))
  if more > MAX_RATIO * fewer:
    return False
  return all(len(word) <= MAX_WORD for side in words for word in side)


def squeezed(line: str) -> str:
  """A line with one space between words, and without '|'."""
  return ' '.join(line.replace('|', '').split())


def is_latin(text: str) -> bool:
  """True where Latin-1 has all characters of a text."""
  return max(text, default='') <= '\xff'


def _sides(word: str, before: str, quotes: dict[str, int]) -> tuple[bool, bool]:
  """True where a word joins the one before it, and the next one joins it."""
  if _is_cjk(word[:1]):
    return _is_cjk(before[-1:]), False
  if word and all(c in _OPENS or _category(c) == 'Sc' for c in word):
    return False, True
  if word and _CLOSES.issuperset(word):
    return True, False
  if _is_contraction(word, before):
    return True, False
  if word and _QUOTES.issuperset(word):
    kind = '"' if _DOUBLE.issuperset(word) else word
    number = quotes.get(kind, 0)
    if number % 2 == 0 and word == "'" and before.endswith('s'):
      return True, False  # of what belongs to several
    quotes[kind] = number + 1
    return (False, True) if number % 2 == 0 else (True, False)
  return False, False


def _is_contraction(word: str, before: str) -> bool:
  """As "'s" behind a word."""
  return (
    word[:1] == "'"
    and _is_letter(word[1:2])
    and (_is_letter(before[-1:]) or _category(before[-1:]) == 'Nd')
  )


def _is_letter(character: str) -> bool:
  return character.isalpha() or _category(character) in ('Nl', 'Mn', 'Mc')


def _category(character: str) -> str:
  return unicodedata.category(character) if character else ''


def _is_cjk(character: str) -> bool:
  return bool(character) and any(
    first <= ord(character) <= last for first, last in _CJK
  )
