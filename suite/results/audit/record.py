"""Lines of a log as records: quickly where they are as usual, else exactly.

Nearly all of a log is lines that a fast parser takes as they are. What it
refuses, or might read otherwise than Python's (numbers beyond 64 bits, a name
that stands twice), is read again by the exact one, which says what is wrong.
"""

import json
from typing import Any, NamedTuple

import orjson

from suite.files import is_number
from suite.log_keys import INTERRUPTED, RESUMED
from suite.results.audit.findings import show

TOKEN = b':::MLLOG'
TIMELINE = frozenset({
  'init_start', 'init_stop', 'run_start', 'run_stop', 'block_start',
  'block_stop', 'epoch_start', 'epoch_stop', 'eval_start', 'eval_accuracy',
  'eval_stop', RESUMED, INTERRUPTED,
})  # fmt: skip
MAX_LINE = 1 << 20  # bytes of one line

_MAX_VALUE = 1 << 14  # bytes of a record whose value is kept as it is ...
_MAX_TIMELINE_VALUE = 1 << 11  # ... and of one that belongs to the timeline
_MAX_TEXT = 512  # characters of a text in the metadata
_MAX_DEPTH = 8  # lists in lists
_MAX_KEY = 200  # characters
_MAX_KNOWN = 20_000  # lines of a set that are remembered


class Record(NamedTuple):
  """One event of a log."""

  line: int
  time_ms: float
  event_type: Any
  key: str
  value: Any
  metadata: dict[str, Any]


class Malformed(ValueError):
  """A line that is no record; the message says why."""


def parse(number: int, text: bytes, cut: bool) -> Record | None:
  """One line -> its record; None where the token stands in mere prose."""
  before, _, body = text.rpartition(TOKEN)
  if not body.startswith((b' ', b'{')) and not body.lstrip().startswith(b'{'):
    return None
  if cut:
    raise Malformed(f'expected a line below {MAX_LINE} bytes, got a longer')
  if TOKEN in before:
    raise Malformed(
      'expected one record on a line, got several: '
      'do several processes write this file?'
    )
  if not body.startswith(b' '):
    raise Malformed('expected a space after the token')
  return _record(number, _decoded(body), len(body))


# Event type, key, value and metadata of a record.
Rest = tuple[Any, str, Any, dict[str, Any]]


class Usual:
  """Reads usual lines, and knows those that it has read but for their times.

  The runs of a set repeat each other in most of their lines.
  """

  _DIGITS = 13  # of milliseconds since 1970
  _NAME = b'"time_ms": '

  def __init__(self):
    self._start = b''  # of known lines, before the time
    self._known: dict[bytes, Rest] = {}  # by what stands after the time

  def read(self, body: bytes, spaced: bool) -> tuple[float, Rest] | None:
    """Time and rest of a record; None where `parse` has to look closer.

    Args:
      body: what follows the token and a space, with the line's end or without.
      spaced: whether a space or tab may stand between a name and its colon.
    """
    at = len(self._start)
    digits = body[at : at + self._DIGITS]
    rest = self._known.get(body[at + self._DIGITS :])
    usual = rest and digits.isdigit() and digits > b'1'
    if usual and body.startswith(self._start):
      return int(digits), rest
    found = _quick(body, spaced)
    # Other values hardly come again.
    if found and type(found[1][2]) in _SCALARS and len(body) <= _MAX_TEXT:
      self._learn(body, *found)
    return found

  def _learn(self, body: bytes, time_ms: float, rest: Rest) -> None:
    start, name, after = body.partition(self._NAME)
    digits = str(time_ms).encode()
    if (
      len(digits) == self._DIGITS
      and after.startswith(digits + b',')
      and start.count(b'{') == 1
      and len(self._known) < _MAX_KNOWN
    ):
      self._start = self._start or start + name
      if self._start == start + name:
        self._known[after[self._DIGITS :]] = rest


def _quick(body: bytes, spaced: bool) -> tuple[float, Rest] | None:
  try:
    fields = orjson.loads(body)
    time_ms, key = fields['time_ms'], fields['key']
    value, metadata = fields['value'], fields['metadata']
    event_type = fields.get('event_type')
    names = len(fields) + len(metadata)
  except (LookupError, TypeError, ValueError):
    return None
  if (
    type(time_ms) is not int
    or type(key) is not str
    or type(metadata) is not dict
    or type(event_type) is not str
    or len(key) > _MAX_KEY
  ):
    return None
  if type(value) not in _SCALARS:
    if not _is_exact(value) or len(body) >= _MAX_TIMELINE_VALUE:
      return None
    names += len(value) if type(value) is dict else 0
  # Names that stand twice come out as one, and this counts all of them.
  if body.count(b'":') != names or (
    spaced and (b' :' in body or b'\t:' in body)
  ):
    return None
  if len(body) >= _MAX_TIMELINE_VALUE:
    return None
  if len(body) > _MAX_TEXT or not _METADATA.issuperset(metadata):
    metadata = _trimmed(metadata)
  if not _SCALARS.issuperset(map(type, metadata.values())):
    if not _is_exact(metadata):
      return None
    metadata = _trimmed(metadata)
  return time_ms, (event_type, key, value, metadata)


def same(a: Any, b: Any) -> bool:
  """Returns whether two JSON values are equal; true is not 1."""
  return isinstance(a, bool) == isinstance(b, bool) and a == b


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The fields of a JSON object; ValueError where one stands twice."""
  fields = dict(pairs)
  if len(fields) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'expected every field once, got {show(twice)} twice')
  return fields


def _trimmed(metadata: dict[str, Any]) -> dict[str, Any]:
  """Metadata of names that are known, cut to short values."""
  return {
    name: _brief(part) for name, part in metadata.items() if name in _METADATA
  }


def _is_exact(value: Any) -> bool:
  """Returns whether the fast parser reads a value as the exact one does.

  A float beyond 64 bits may have been an integer, and no value is nested.
  """
  kind = type(value)
  if kind is float:
    return -_BIG < value < _BIG
  for item in value.values() if kind is dict else value:
    kind = type(item)
    if kind is float:
      if not -_BIG < item < _BIG:
        return False
    elif kind is dict or kind is list:
      return False
  return True


def _decoded(body: bytes) -> Any:
  try:
    text = body.decode('utf-8').strip()
    fields, end = _SCAN(text, 0)
    if end != len(text):
      raise ValueError(f'more after its end in column {end}')
    if text.count('":') != _names(fields):
      fields, _ = _SCAN_UNIQUE(text, 0)  # a name that stands twice, perhaps
    return fields
  except StopIteration:
    raise Malformed(f'expected a JSON object, got {show(body[:60])}') from None
  except UnicodeDecodeError as error:
    raise Malformed(
      f'expected UTF-8, got {show(body[error.start :])}'
    ) from None
  except (ValueError, RecursionError) as error:
    raise Malformed(
      f'expected a JSON object, got {show(body[:60])}: {error}'
    ) from None


def _names(fields: Any) -> int:
  """Number of names in a record whose value holds none."""
  if type(fields) is not dict:
    return -1
  metadata = fields.get('metadata')
  return len(fields) + (len(metadata) if type(metadata) is dict else 0)


def _record(number: int, fields: Any, size: int) -> Record:
  try:
    time_ms, key = fields['time_ms'], fields['key']
    metadata, value = fields['metadata'], fields['value']
  except (KeyError, TypeError):
    raise Malformed(_missing(fields)) from None
  if not is_number(time_ms):
    raise Malformed(f'expected a number as time_ms, got {show(time_ms)}')
  if type(key) is not str or len(key) > _MAX_KEY:
    raise Malformed(f'expected a short string as key, got {show(key)}')
  if type(metadata) is not dict:
    raise Malformed(f'expected an object as metadata, got {show(metadata)}')
  if size > _MAX_TIMELINE_VALUE or type(value) in (list, dict):
    limit = _MAX_TIMELINE_VALUE if key in TIMELINE else _MAX_VALUE
    if size > limit or _deeper(value, _MAX_DEPTH):
      value = f'<{size} bytes>'
  event_type = fields.get('event_type')
  metadata = _trimmed(metadata)
  return Record(number, time_ms, event_type, key, value, metadata)


def _missing(fields: Any) -> str:
  if not isinstance(fields, dict):
    return f'expected a JSON object, got {show(fields)}'
  missing = ', '.join(sorted(_FIELDS - fields.keys()))
  return f'expected the fields {missing}'


_BIG = 2.0**63
_ENDLESS = 10**300  # no float holds more
_SCALARS = frozenset({int, str, bool, type(None)})  # read alike by all parsers
_FIELDS = frozenset({'time_ms', 'key', 'value', 'metadata'})
_METADATA = frozenset({
  'status', 'reason', 'first_epoch_num', 'epoch_count', 'epoch_num',
  'samples_count', 'step_num', 'metric', 'file', 'lineno', 'tensor', 'method',
  'timestamp', 'iteration', 'lost_seconds',
})  # fmt: skip


def _brief(value: Any) -> Any:
  if isinstance(value, str):
    return value[:_MAX_TEXT]
  endless = isinstance(value, int) and abs(value) >= _ENDLESS
  if endless or isinstance(value, list | dict):
    return f'<{type(value).__name__}>'
  return value


def _deeper(value: Any, levels: int) -> bool:
  if not isinstance(value, list | dict):
    return False
  items = value.values() if isinstance(value, dict) else value
  return levels == 0 or any(_deeper(item, levels - 1) for item in items)


# What `JSONDecoder.raw_decode` calls, in C where there is one.
_SCAN = json.JSONDecoder().scan_once
_SCAN_UNIQUE = json.JSONDecoder(object_pairs_hook=unique).scan_once
