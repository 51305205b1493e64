"""Reads a log file in one pass: what the checks need, in bounded memory.

Logs are untrusted. Nothing in them is opened or executed, and no line, key or
count of theirs makes this program keep more than the limits below.
"""

from collections.abc import Callable, Iterator, Set
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
from typing import Any, BinaryIO, NamedTuple

from suite.files import is_number
from suite.log_keys import INTERRUPTED, RESUMED
from suite.results.audit.findings import ERROR, WARNING, Finding, show

TOKEN = b':::MLLOG'
TIMELINE = frozenset({
  'init_start', 'init_stop', 'run_start', 'run_stop', 'block_start',
  'block_stop', 'epoch_start', 'epoch_stop', 'eval_start', 'eval_accuracy',
  'eval_stop', RESUMED, INTERRUPTED,
})  # fmt: skip

_MAX_LINE = 1 << 20  # bytes of one line
_MAX_VALUE = 1 << 14  # bytes of a record whose value is kept as it is ...
_MAX_TIMELINE_VALUE = 1 << 11  # ... and of one that belongs to the timeline
_MAX_TEXT = 512  # characters of a text in the metadata
_MAX_DEPTH = 8  # lists in lists
_MAX_TIMELINE = 20_000  # records
_MAX_SETTINGS = 4_096  # different keys ...
_MAX_RULED = 20_000  # records of keys that official rules name
_MAX_KEY = 200  # ... of so many characters
_MAX_FINDINGS = 50  # per file, of reading alone


class Record(NamedTuple):
  """One event of a log."""

  line: int
  time_ms: float
  event_type: Any
  key: str
  value: Any
  metadata: dict[str, Any]


@dataclasses.dataclass
class Setting:
  """A key outside the timeline: its first record, and their number."""

  first: Record
  count: int = 1
  other: Record | None = None  # the first one with another value


@dataclasses.dataclass
class Log:
  """Facts that one pass over a file keeps."""

  name: str
  records: int = 0
  timeline: list[Record] = dataclasses.field(default_factory=list)
  settings: dict[str, Setting] = dataclasses.field(default_factory=dict)
  # Records of the timeline and of keys that official rules name, in file order;
  # of equal ones in a row, two.
  ruled: list[Record] = dataclasses.field(default_factory=list)
  findings: list[Finding] = dataclasses.field(default_factory=list)
  digest: str = ''
  # The first that is not ms since 1970, of the timeline if one of it is.
  odd_time: Record | None = None
  backwards: list[tuple[Record, Record]] = dataclasses.field(
    default_factory=list
  )  # (the latest before, one that is earlier), the first few

  def error(
    self, line: int | None, text: str, rule: str, key: str = ''
  ) -> Finding:
    """An error in this file; `key` is that of a line that is missing."""
    return Finding(ERROR, self.name, line, text, rule, key)

  def missing(self, key: str, rule: str, text: str = '') -> Finding:
    """An error: no line has this key."""
    return self.error(None, text or f'expected {key}, got none', rule, key)

  def warning(self, line: int | None, text: str, rule: str) -> Finding:
    """A warning about this file."""
    return Finding(WARNING, self.name, line, text, rule)

  def hold(
    self,
    key: str,
    valid: Callable[[Any], bool],
    expected: str,
    rule: str,
    *,
    missing: bool = False,
    unsaid: str = ERROR,
    wrong: str = ERROR,
  ) -> Iterator[Finding]:
    """Holds the value of a setting to a condition; `expected` is it in words.

    Args:
      key: of the setting.
      valid: whether a value will do; None is not asked about.
      expected: what is said to be expected of a value that will not.
      rule: that it breaks.
      missing: whether a log without the key has a fault.
      unsaid: severity of a key without a value.
      wrong: severity of another value.
    """
    if key not in self.settings:
      if missing:
        yield self.missing(key, rule, f'expected {expected}, got none')
      return
    value, severity = self.value(key), wrong
    if value is None:
      got, severity = 'no value', unsaid
    elif valid(value):
      return
    else:
      got = show(value)
    text = f'expected {expected}, got {got}'
    yield Finding(severity, self.name, self.line(key), text, rule)

  def value(self, key: str) -> Any:
    """The value of a setting at its first line; None if it is missing."""
    setting = self.settings.get(key)
    return setting.first.value if setting else None

  def line(self, key: str) -> int | None:
    """The first line of a setting."""
    setting = self.settings.get(key)
    return setting.first.line if setting else None

  def of(self, key: str) -> list[Record]:
    """The records of a key of the timeline, in the file's order."""
    return [record for record in self.timeline if record.key == key]

  def first(self, key: str) -> Record | None:
    """The first record of a key of the timeline."""
    return next((r for r in self.timeline if r.key == key), None)


class _Malformed(ValueError):
  """A line that is no record; the message says why."""


def read(path: str | os.PathLike, ruled: Set[str] = frozenset()) -> Log:
  """Reads a log; parts that can't be read or parsed become findings.

  `ruled` are the keys beyond the timeline of which the order matters.
  """
  path = pathlib.Path(path)
  log = Log(path.name)
  try:
    # A pipe would block when opened, a device might never end.
    if not stat.S_ISREG(path.stat().st_mode):
      return _unreadable(log, 'it is no regular file')
    with path.open('rb') as stream:
      _read(stream, log, ruled)
  except (OSError, ValueError) as error:  # ValueError: a NUL in the name
    return _unreadable(log, str(getattr(error, 'strerror', None) or error))
  if not log.records and not log.findings:
    log.findings.append(_no_records(log, path))
  return log


def same(a: Any, b: Any) -> bool:
  """Returns whether two JSON values are equal; true is not 1."""
  return isinstance(a, bool) == isinstance(b, bool) and a == b


def _read(stream: BinaryIO, log: Log, ruled: Set[str]) -> None:
  digest = hashlib.sha256()
  builder = _Builder(log, ruled)
  for number, text, cut in _lines(stream, digest):
    try:
      record = _parse(number, text, cut)
    except _Malformed as error:
      builder.malformed(number, str(error))
    else:
      if record:
        builder.add(record)
  log.digest = digest.hexdigest()
  builder.finish()


def _lines(stream: BinaryIO, digest) -> Iterator[tuple[int, bytes, bool]]:
  """Lines that hold the token: number, text, is it cut.

  Lines end in a newline, or in the carriage return with which progress bars
  overwrite theirs. Most of a log is neither decoded nor split into lines.
  """
  number, rest, skipping = 1, b'', False
  while chunk := stream.read(_MAX_LINE):
    digest.update(chunk)
    if skipping:  # the end of a line that is too long
      ends = [at for at in map(chunk.find, (b'\n', b'\r')) if at >= 0]
      if not ends:
        continue
      chunk, skipping = chunk[min(ends) :], False
    block = rest + chunk
    end = block.rfind(b'\n') + 1
    yield from _with_token(block[:end], number)
    number += block.count(b'\n', 0, end)
    rest = block[max(end, block.rfind(b'\r')) :]
    if len(rest) < len(block) - end:  # lines that were overwritten
      yield from _with_token(block[end : len(block) - len(rest)], number)
    if len(rest) > _MAX_LINE:
      start = rest.rfind(TOKEN)
      skipping = start >= 0
      if skipping:
        yield number, rest[start:], True
      rest = b'' if skipping else rest[-len(TOKEN) :]
  yield from _with_token(rest, number)


def _with_token(block: bytes, number: int) -> Iterator[tuple[int, bytes, bool]]:
  """The lines with the token of a block that begins at a line's number."""
  done = 0
  while (at := block.find(TOKEN, done)) >= 0:
    start = block.rfind(b'\n', done, at) + 1 or done
    number += block.count(b'\n', done, start)
    end = block.find(b'\n', at)
    line = block[start : len(block) if end < 0 else end]
    for piece in line.split(b'\r') if b'\r' in line else (line,):
      if TOKEN in piece:
        cut = len(piece) - piece.rfind(TOKEN) > _MAX_LINE
        yield number, piece, cut
    done = start + len(line)


def _parse(number: int, text: bytes, cut: bool) -> Record | None:
  """One line -> its record; None where the token stands in mere prose."""
  before, _, body = text.rpartition(TOKEN)
  if not body.startswith((b' ', b'{')) and not body.lstrip().startswith(b'{'):
    return None
  if cut:
    raise _Malformed(f'expected a line below {_MAX_LINE} bytes, got a longer')
  if TOKEN in before:
    raise _Malformed(
      'expected one record on a line, got several: '
      'do several processes write this file?'
    )
  if not body.startswith(b' '):
    raise _Malformed('expected a space after the token')
  return _record(number, _decoded(body), len(body))


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
    raise _Malformed(f'expected a JSON object, got {show(body[:60])}') from None
  except UnicodeDecodeError as error:
    raise _Malformed(
      f'expected UTF-8, got {show(body[error.start :])}'
    ) from None
  except (ValueError, RecursionError) as error:
    raise _Malformed(
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
    raise _Malformed(_missing(fields)) from None
  if not is_number(time_ms):
    raise _Malformed(f'expected a number as time_ms, got {show(time_ms)}')
  if type(key) is not str or len(key) > _MAX_KEY:
    raise _Malformed(f'expected a short string as key, got {show(key)}')
  if type(metadata) is not dict:
    raise _Malformed(f'expected an object as metadata, got {show(metadata)}')
  if size > _MAX_TIMELINE_VALUE or type(value) in (list, dict):
    limit = _MAX_TIMELINE_VALUE if key in TIMELINE else _MAX_VALUE
    if size > limit or _deeper(value, _MAX_DEPTH):
      value = f'<{size} bytes>'
  kept = {
    name: part if type(part) is int else _brief(part)
    for name, part in metadata.items()
    if name in _METADATA
  }
  return Record(number, time_ms, fields.get('event_type'), key, value, kept)


def _missing(fields: Any) -> str:
  if not isinstance(fields, dict):
    return f'expected a JSON object, got {show(fields)}'
  missing = ', '.join(sorted(_FIELDS - fields.keys()))
  return f'expected the fields {missing}'


_FIELDS = frozenset({'time_ms', 'key', 'value', 'metadata'})
_METADATA = frozenset({
  'status', 'reason', 'first_epoch_num', 'epoch_count', 'epoch_num',
  'samples_count', 'step_num', 'metric', 'file', 'lineno', 'tensor', 'method',
  'timestamp', 'iteration', 'lost_seconds',
})  # fmt: skip


def _brief(value: Any) -> Any:
  if isinstance(value, str):
    return value[:_MAX_TEXT]
  if isinstance(value, list | dict):
    return f'<{type(value).__name__}>'
  return value


def _deeper(value: Any, levels: int) -> bool:
  if not isinstance(value, list | dict):
    return False
  items = value.values() if isinstance(value, dict) else value
  return levels == 0 or any(_deeper(item, levels - 1) for item in items)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The fields of a JSON object; ValueError where one stands twice."""
  fields = dict(pairs)
  if len(fields) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'expected every field once, got {show(twice)} twice')
  return fields


# What `JSONDecoder.raw_decode` calls, in C where there is one.
_SCAN = json.JSONDecoder().scan_once
_SCAN_UNIQUE = json.JSONDecoder(object_pairs_hook=unique).scan_once


class _Builder:
  """Adds records to a log, within its limits."""

  # 2001 to 2286: what milliseconds since 1970 look like, and no other unit.
  _MILLISECONDS = (1e12, 1e13)

  def __init__(self, log: Log, ruled: Set[str]):
    self._log = log
    self._ruled = ruled
    self._last: dict[str, tuple[Record, int]] = {}  # of a key, how often
    self._latest: Record | None = None
    self._malformed = 0
    self._beyond = {'timeline': 0, 'settings': 0, 'ruled': 0}

  def malformed(self, line: int, text: str) -> None:
    self._malformed += 1
    if self._malformed <= _MAX_FINDINGS:
      self._log.findings.append(self._log.error(line, text, 'record'))

  def add(self, record: Record) -> None:
    self._log.records += 1
    self._watch_time(record)
    if record.key in TIMELINE:
      if len(self._log.timeline) < _MAX_TIMELINE:
        self._log.timeline.append(record)
        self._log.ruled.append(record)
      else:
        self._beyond['timeline'] += 1
    else:
      self._set(record)
      if record.key in self._ruled:
        self._rule(record)

  def finish(self) -> None:
    log = self._log
    if self._malformed > _MAX_FINDINGS:
      more = self._malformed - _MAX_FINDINGS
      log.findings.append(
        log.error(None, f'{more} more lines are no records', 'record')
      )
    limits = {
      'timeline': _MAX_TIMELINE,
      'settings': _MAX_SETTINGS,
      'ruled': _MAX_RULED,
    }
    for what, count in self._beyond.items():
      if count:
        text = f'expected at most {limits[what]} different {what} records'
        log.findings.append(
          log.error(None, f'{text}, got {count} more', 'size of a log')
        )

  def _set(self, record: Record) -> None:
    settings = self._log.settings
    setting = settings.get(record.key)
    if setting is None:
      if len(settings) < _MAX_SETTINGS:
        settings[record.key] = Setting(record)
      else:
        self._beyond['settings'] += 1
      return
    setting.count += 1
    if setting.other is None and not same(record.value, setting.first.value):
      setting.other = record

  def _rule(self, record: Record) -> None:
    last, count = self._last.get(record.key, (None, 0))
    again = (
      last is not None
      and same(last.value, record.value)
      and last.metadata.get('tensor') == record.metadata.get('tensor')
    )
    self._last[record.key] = (record, count + 1 if again else 1)
    if again and count >= 2:
      return
    if self._beyond['ruled'] or len(self._log.ruled) >= _MAX_RULED * 2:
      self._beyond['ruled'] += 1
    else:
      self._log.ruled.append(record)

  def _watch_time(self, record: Record) -> None:
    low, high = self._MILLISECONDS
    odd = self._log.odd_time
    if not low <= record.time_ms < high and (
      odd is None or (odd.key not in TIMELINE and record.key in TIMELINE)
    ):
      self._log.odd_time = record
    latest = self._latest
    if latest is None or record.time_ms >= latest.time_ms:
      self._latest = record
    elif len(self._log.backwards) < 5:
      self._log.backwards.append((latest, record))


def _unreadable(log: Log, why: str) -> Log:
  log.findings.append(log.error(None, f'cannot be read: {why}', 'readable'))
  return log


def _no_records(log: Log, path: pathlib.Path) -> Finding:
  with path.open('rb') as stream:
    start = stream.read(1 << 16)
  why = 'the file has none'
  if not start:
    why = 'the file is empty'
  elif start[:2] in (b'\xff\xfe', b'\xfe\xff'):
    why = 'the file is UTF-16, not UTF-8'
  elif b':::MLP' in start or b':::MLL ' in start:
    why = 'the file has those of rounds before v0.7, which are not read here'
  return log.error(
    None, f'expected lines with {TOKEN.decode()} records, but {why}', 'record'
  )
