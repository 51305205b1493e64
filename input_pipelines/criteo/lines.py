"""Parses lines of click logs: a label, 13 integers and 26 hexadecimal values.

Fields are separated by tabs; a missing one is 0. A field is read as one word of
eight bytes, and all fields of a piece at a time.
"""

import dataclasses

import numpy as np

from input_pipelines.criteo import CATEGORIES, COUNTS

_FIELDS = 1 + COUNTS + CATEGORIES
_ALLOWED = b'0123456789abcdefABCDEF-\t\n'
_TAB, _END, _MINUS = b'\t\n-'
_WORD = 8  # bytes
# The bytes of a word that a field of so many characters takes: the last ones.
_KEPT = np.array(
  [0] + [2**64 - 2 ** (8 * (_WORD - n)) for n in range(1, _WORD + 1)], np.uint64
)


@dataclasses.dataclass(frozen=True)
class Lines:
  """Content of N lines."""

  label: np.ndarray  # uint8 [N], 0 or 1
  counts: np.ndarray  # int32 [N, 13]
  categories: np.ndarray  # uint32 [N, 26]

  def __len__(self) -> int:
    return len(self.label)


def parse(text: bytes, first: int = 1) -> Lines:
  """Parses whole lines; the last may lack its end.

  Args:
    text: the lines.
    first: number of the first one, for messages.

  Raises ValueError, with the number of the line, where one is not as expected.
  """
  if not text.endswith(b'\n'):
    text += b'\n'
  # A word may begin before the text.
  raw = np.frombuffer(bytes(_WORD) + text, np.uint8)
  ends = np.flatnonzero((raw == _TAB) | (raw == _END))
  if len(ends) % _FIELDS or text.translate(None, _ALLOWED):
    raise _fault(text, first)
  ends = ends.reshape(-1, _FIELDS)
  at_end = raw[ends] == _END
  if at_end[:, :-1].any() or not at_end[:, -1].all():
    raise _fault(text, first)
  starts = np.empty_like(ends)
  starts.reshape(-1)[0] = _WORD
  starts.reshape(-1)[1:] = ends.reshape(-1)[:-1] + 1
  words = np.ndarray(len(raw) - _WORD + 1, '<u8', raw, strides=(1,))
  try:
    numbers = _integers(
      raw, words, starts[:, : 1 + COUNTS], ends[:, : 1 + COUNTS]
    )
    categories = _hexadecimals(
      words, starts[:, 1 + COUNTS :], ends[:, 1 + COUNTS :]
    )
    if (numbers[:, 0] >> 1).any():
      raise ValueError('a label')
  except ValueError:
    raise _fault(text, first) from None
  return Lines(numbers[:, 0].astype(np.uint8), numbers[:, 1:], categories)


def _integers(
  raw: np.ndarray, words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
  """Decimal fields [N, K] -> int32 [N, K]; ValueError if one is not."""
  negative = raw[starts] == _MINUS
  starts = starts + negative
  lengths = ends - starts
  if (negative & (lengths == 0)).any():
    raise ValueError('a sign alone')
  kept = _KEPT[np.minimum(lengths, _WORD)]
  word = words[ends - _WORD] & kept
  digits = word ^ (kept & np.uint64(0x3030303030303030))
  over = (digits + np.uint64(0x7676767676767676)) | digits
  if (over & np.uint64(0x8080808080808080)).any():
    raise ValueError('no digit')
  # Pairs of digits, then of pairs, then of those.
  for mask, factor, shift in (
    (0x0F0F0F0F0F0F0F0F, 10 * 2**8 + 1, 8),
    (0x00FF00FF00FF00FF, 100 * 2**16 + 1, 16),
    (0x0000FFFF0000FFFF, 10_000 * 2**32 + 1, 32),
  ):
    digits &= np.uint64(mask)
    digits *= np.uint64(factor)
    digits >>= np.uint64(shift)
  numbers = digits.astype(np.int64)
  for place in zip(*np.nonzero(lengths > _WORD), strict=True):
    numbers[place] = int(bytes(raw[starts[place] : ends[place]]))
  np.negative(numbers, out=numbers, where=negative)
  if len(numbers) and np.abs(numbers).max() >= 2**31:
    raise ValueError('too large')
  return numbers.astype(np.int32)


def _hexadecimals(
  words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
  """Hexadecimal fields [N, K] -> uint32 [N, K]; ValueError if one is not."""
  lengths = ends - starts
  if len(lengths) and lengths.max() > _WORD:
    raise ValueError('too long')
  kept = _KEPT[lengths]
  word = words[ends - _WORD] & kept
  ones = np.uint64(0x0101010101010101)
  letters = (word >> np.uint64(6)) & ones
  if (((word >> np.uint64(4)) | letters) & ones != kept & ones).any():
    raise ValueError('a sign')
  word &= np.uint64(0x0F0F0F0F0F0F0F0F)
  letters *= np.uint64(9)
  word += letters
  for shift, mask in (
    (4, 0x00FF00FF00FF00FF),
    (8, 0x0000FFFF0000FFFF),
    (16, 0x00000000FFFFFFFF),
  ):
    word = (word << np.uint64(shift)) | (word >> np.uint64(2 * shift))
    word &= np.uint64(mask)
  return word.astype(np.uint32)


def _fault(text: bytes, first: int) -> ValueError:
  """The error that names the first line that is not as expected."""
  number, line = next(
    (number, line)
    for number, line in enumerate(text[:-1].split(b'\n'), first)
    if not _is_whole(line)
  )
  shown = line if len(line) <= 120 else line[:120] + b'...'
  return ValueError(
    f'Expected a label of 0 or 1, {COUNTS} integers of 32 bits and '
    f'{CATEGORIES} hexadecimal values of at most 8 digits, separated by tabs, '
    f'in line {number}, got {line.count(_TAB) + 1} fields: {shown!r}.'
  )


def _is_whole(line: bytes) -> bool:
  fields = line.split(b'\t')
  if len(fields) != _FIELDS or line.translate(None, _ALLOWED):
    return False
  try:
    numbers = [int(field or b'0') for field in fields[: 1 + COUNTS]]
    for field in fields[1 + COUNTS :]:
      int(field or b'0', 16)
  except ValueError:
    return False
  return (
    numbers[0] in (0, 1)
    and max(map(abs, numbers)) < 2**31
    and not any(len(f) > _WORD or b'-' in f for f in fields[1 + COUNTS :])
  )
