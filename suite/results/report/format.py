"""Numbers as text for people, in the report and in programs."""

from collections.abc import Callable, Sequence
import datetime
import math
import numbers
import re

NOTHING = '\u2013'  # a dash, where there is no number

_UNITS = {
  'epoch_num': ('epoch', 'epochs'),
  'samples_count': ('sample', 'samples'),
  'step_num': ('step', 'steps'),
}


def duration_parts(seconds: float | None) -> list[tuple[str, str]]:
  """A duration as (number, unit) pairs, largest unit first; [] if unknown."""
  if not is_finite(seconds):
    return []
  if seconds < 0:
    parts = duration_parts(-seconds)
    return [('-' + parts[0][0], parts[0][1]), *parts[1:]]
  tenths = round(seconds * 10)
  if seconds > 0 and tenths < 10:
    return [(f'{seconds * 1000:.3g}', 'ms')]
  if tenths < 600:
    return [(f'{tenths / 10:.1f}', 's')]
  if tenths < 36_000:
    minutes, rest = divmod(tenths, 600)
    return [(str(minutes), 'min'), (f'{rest / 10:.1f}', 's')]
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return [(str(hours), 'h'), (str(minutes), 'min'), (str(rest), 's')]


def duration(seconds: float | None) -> str:
  """Seconds for people: '41.2 s', '1 min 23.4 s', '2 h 5 min 9 s'."""
  parts = duration_parts(seconds)
  return ' '.join(f'{number} {unit}' for number, unit in parts) or NOTHING


def limit(seconds: float | None) -> str:
  """A round duration without its zeros: '30 min', '4 h'."""
  parts = duration_parts(seconds)
  while len(parts) > 1 and float(parts[-1][0]) == 0:
    parts.pop()
  return ' '.join(f'{number} {unit}' for number, unit in parts) or NOTHING


def plain_seconds(seconds: float | None) -> str:
  """Seconds for a column of a table: '41.20', '1,234.5'."""
  if not is_finite(seconds):
    return NOTHING
  return f'{seconds:,.2f}' if abs(seconds) < 1000 else f'{seconds:,.1f}'


def quality(value: float | None) -> str:
  """A measured quality, with as many digits as anyone compares."""
  if not is_finite(value):
    return NOTHING if value is None else str(value)
  return f'{value:.4f}' if abs(value) < 10 else f'{value:.2f}'


def percent(share: float | None) -> str:
  return f'{share * 100:.1f} %' if is_finite(share) else NOTHING


def rate(value: float | None, unit: str) -> str:
  """A large number with an SI prefix: '1.2 GFLOP'."""
  if not is_finite(value):
    return NOTHING
  for prefix in ('', 'k', 'M', 'G', 'T', 'P'):
    if abs(value) < 1000 or prefix == 'P':
      return f'{value:.3g} {prefix}{unit}'
    value /= 1000
  raise AssertionError('The loop above returns.')


def count(value: float | None) -> str:
  """A count, or a nearly whole number such as epochs: '80,640', '2.5'."""
  if not is_finite(value):
    return NOTHING
  return f'{value:,.0f}' if value == round(value) else f'{value:,.2f}'


def rough(value: float) -> str:
  """A statistic, with as many digits as tell anything: '17.2', '1,032'."""
  return count(round(value)) if abs(value) >= 100 else f'{value:.3g}'


def units(name: str | None) -> tuple[str, str]:
  """Unit of a place in a log, in words, one and several: 'epoch', 'epochs'."""
  return _UNITS.get(name, ('unit', 'units'))


def plain(value: object) -> str:
  """Anything that stood in JSON, as a reader expects to see it."""
  if value is None:
    return NOTHING
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, float):
    return f'{value:.6g}'
  if isinstance(value, dict):
    return ', '.join(f'{name} {plain(item)}' for name, item in value.items())
  if isinstance(value, list | tuple):
    return ', '.join(plain(item) for item in value) or NOTHING
  return str(value) or NOTHING


def shorten(words: str, characters: int) -> str:
  """The words, or their beginning and an ellipsis."""
  if len(words) <= characters:
    return words
  return words[: characters - 1].rstrip() + '\u2026'


def moment(text: str) -> str:
  """An ISO time as '23 November 2026, 15:00 UTC'; other text unchanged."""
  try:
    time = datetime.datetime.fromisoformat(text)
  except ValueError:
    return text
  zone = time.strftime(' %Z') if time.tzinfo else ''
  return f'{time.day} {time:%B %Y, %H:%M}{zone}'


def slug(words: str) -> str:
  """Words as part of a file's name."""
  kept = re.sub(r'[^A-Za-z0-9]+', '-', words).strip('-').lower()
  return kept[:60] or 'x'


def columns(
  rows: Sequence[Sequence[str]],
  aligned: Callable[[str, int], str] = str.ljust,
) -> list[str]:
  """The lines of a table, every column as wide as its widest cell."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return ['  '.join(map(aligned, row, widths)).rstrip() for row in rows]


def enumeration(words: Sequence[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  *first, last = words
  return f'{", ".join(first)} and {last}' if first else last


def is_finite(value: object) -> bool:
  """Returns whether a value is a finite number."""
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    return False
  return math.isfinite(value)
