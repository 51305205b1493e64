"""Reads a log file in one pass: what the checks need, in bounded memory.

Logs are untrusted. Nothing in them is opened or executed, and no line, key or
count of theirs makes this program keep more than the limits below.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
import dataclasses
import functools
import hashlib
import operator
import os
import pathlib
import re
from typing import Any, BinaryIO, NamedTuple

from suite import files
from suite.results.audit import record as record_lib
from suite.results.audit.findings import ERROR, WARNING, Finding, show
from suite.results.audit.record import (
  MAX_LINE,
  TIMELINE,
  TOKEN,
  Record,
  Usual,
  same,
)

_MAX_TIMELINE = 20_000  # records
_MAX_SETTINGS = 4_096  # different keys
_MAX_RULED = 20_000  # records of keys that official rules name
_MAX_FINDINGS = 50  # per file, of reading alone
_MAX_BACKWARDS = 5
_HEAD = 1 << 16  # bytes that tell what a file is
# 2001 to 2286: what milliseconds since 1970 look like, and no other unit.
_EARLIEST_MS, _LATEST_MS = 1e12, 1e13
_START = TOKEN + b' '
# What terminals are told by, such as colours; in a record it is no JSON.
_CODES = re.compile(
  rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]{0,200}(?:\x07|\x1b\\)'
  rb'|[()][0-9A-Z]|[=>78])'
)
_new = tuple.__new__  # several times as fast as that of a NamedTuple


@dataclasses.dataclass
class Setting:
  """A key outside the timeline: its first record, and their number."""

  first: Record
  count: int = 1
  other: Record | None = None  # the first one with another value


class Moment(NamedTuple):
  """Time of a record."""

  line: int
  time_ms: float
  key: str


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
  odd_time: Moment | None = None
  backwards: list[tuple[Moment, Moment]] = dataclasses.field(
    default_factory=list
  )  # (the latest before, one that is earlier), the first few
  ordered: bool = False  # whether the times of the timeline never decrease

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

  def sort(self) -> None:
    """Puts the timeline into the order of its times."""
    if not self.ordered:
      self.timeline.sort(key=operator.attrgetter('time_ms'))
      self.ordered = True
      self.__dict__.pop('by_key', None)

  @functools.cached_property
  def by_key(self) -> Mapping[str, Sequence[Record]]:
    """The timeline by keys, once the log is read."""
    found = collections.defaultdict(list)
    for record in self.timeline:
      found[record.key].append(record)
    return dict(found)

  def of(self, *keys: str) -> Sequence[Record]:
    """The records of one or several keys of the timeline, in its order."""
    if len(keys) == 1:
      return self.by_key.get(keys[0], ())
    return [record for record in self.timeline if record.key in keys]

  def first(self, key: str) -> Record | None:
    """The first record of a key of the timeline."""
    found = self.by_key.get(key)
    return found[0] if found else None


def read(
  path: str | os.PathLike,
  ruled: Set[str] = frozenset(),
  usual: Usual | None = None,
) -> Log:
  """Reads a log; parts that can't be read or parsed become findings.

  Args:
    path: of the file.
    ruled: keys beyond the timeline of which the order matters.
    usual: reader that knows the lines of the set's other logs, and learns.
  """
  path = pathlib.Path(path)
  log = Log(path.name)
  try:
    with files.opened_log(path) as stream:
      _read(stream, log, _Builder(log, ruled, usual or Usual()))
  except (OSError, ValueError) as error:  # ValueError: a NUL in the name
    return _unreadable(log, str(getattr(error, 'strerror', None) or error))
  if not log.records and not log.findings:
    log.findings.append(_no_records(log, path))
  return log


def holds_records(path: str | os.PathLike) -> bool:
  """Returns whether a file begins like a log of any round."""
  try:
    with files.opened_log(path) as stream:
      return b':::ML' in stream.read(_HEAD)
  except (OSError, ValueError):
    return False


def _read(stream: BinaryIO, log: Log, builder: '_Builder') -> None:
  digest = hashlib.sha256()
  coloured = False
  for number, block, cut in _blocks(stream, digest):
    if b'\x1b' in block:
      plain = _CODES.sub(b'', block)
      coloured |= plain != block
      block = plain
    if cut:
      builder.add_line(number, block, cut)
    else:
      builder.add_block(number, block)
  log.digest = digest.hexdigest()
  builder.finish()
  if coloured:
    text = 'expected a log as it was written, got one with the colour codes of '
    text += 'a terminal, which were left out'
    log.findings.append(log.warning(None, text, 'text'))


def _blocks(stream: BinaryIO, digest) -> Iterator[tuple[int, bytes, bool]]:
  """Blocks of whole lines: number of the first, text, is it one that was cut.

  Lines end in a newline, or in the carriage return with which progress bars
  overwrite theirs. Most of a log is neither decoded nor split into lines.
  """
  number, rest, skipping = 1, b'', False
  while chunk := stream.read(MAX_LINE):
    digest.update(chunk)
    if skipping:  # the end of a line that is too long
      ends = [at for at in map(chunk.find, (b'\n', b'\r')) if at >= 0]
      if not ends:
        continue
      chunk, skipping = chunk[min(ends) :], False
    block = rest + chunk
    end = block.rfind(b'\n') + 1
    yield number, block[:end], False
    number += block.count(b'\n', 0, end)
    rest = block[max(end, block.rfind(b'\r')) :]
    if len(rest) < len(block) - end:  # lines that were overwritten
      yield number, block[end : len(block) - len(rest)], False
    if len(rest) > MAX_LINE:
      start = rest.rfind(TOKEN)
      skipping = start >= 0
      if skipping:
        yield number, rest[start:], True
      rest = b'' if skipping else rest[-len(TOKEN) :]
  yield number, rest, False


def _with_token(block: bytes, number: int) -> Iterator[tuple[int, bytes, bool]]:
  """The lines with the token of a block: number, text, is it cut."""
  done = 0
  while (at := block.find(TOKEN, done)) >= 0:
    start = block.rfind(b'\n', done, at) + 1 or done
    number += block.count(b'\n', done, start)
    end = block.find(b'\n', at)
    line = block[start : len(block) if end < 0 else end]
    for piece in line.split(b'\r') if b'\r' in line else (line,):
      if TOKEN in piece:
        cut = len(piece) - piece.rfind(TOKEN) > MAX_LINE
        yield number, piece, cut
    done = start + len(line)


# Line, time and rest of a record.
_Found = tuple[int, tuple[float, record_lib.Rest]]


class _Builder:
  """Adds records to a log, within its limits."""

  def __init__(self, log: Log, ruled: Set[str], usual: Usual):
    self._log = log
    self._ruled = ruled
    self._usual = usual
    self._last: dict[str, tuple[Record, int]] = {}  # of a key, how often
    self._latest: tuple[int, float, str] | None = None
    self._expected_ms = _EARLIEST_MS  # a time from then on is as it should be
    self._malformed = 0
    self._beyond = {'timeline': 0, 'settings': 0, 'ruled': 0}

  def add_block(self, number: int, block: bytes) -> None:
    """Adds the records of whole lines, of which the first has that number."""
    before, *pieces = block.split(_START)
    if block.count(TOKEN) != len(pieces):
      for line, text, cut in _with_token(block, number):
        self.add_line(line, text, cut)
      return
    number += before.count(b'\n')
    spaced = b'" ' in block or b'"\t' in block
    returns = b'\r' in block
    last = len(pieces) - 1
    found, held, read_usual = [], b'', self._usual.read
    for place, piece in enumerate(pieces):
      end = piece.find(b'\n') + 1
      body = piece[:end] if 0 < end < len(piece) else piece
      if returns:
        body = body.partition(b'\r')[0]
      if not end and len(body) == len(piece) and place < last:
        held += _START + piece  # several on one line
      elif not held and (fields := read_usual(body, spaced)):
        found.append((number, fields))
      else:
        text = held + _START + body.removesuffix(b'\n')
        found += self._parsed(number, text, len(text) > MAX_LINE)
        held = b''
      if end:
        number += 1 if end == len(piece) else piece.count(b'\n')
    self._add(found)

  def add_line(self, number: int, text: bytes, cut: bool) -> None:
    """Adds the record of a line, or what is wrong with it."""
    self._add(self._parsed(number, text, cut))

  def finish(self) -> None:
    """Tells of what went beyond the limits."""
    log = self._log
    log.ordered = not log.backwards
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

  def _parsed(self, number: int, text: bytes, cut: bool) -> list[_Found]:
    try:
      record = record_lib.parse(number, text, cut)
    except record_lib.Malformed as error:
      self._malformed += 1
      if self._malformed <= _MAX_FINDINGS:
        fault = self._log.error(number, str(error), 'record')
        self._log.findings.append(fault)
      return []
    return [(number, (record.time_ms, record[2:]))] if record else []

  def _add(self, found: Sequence[_Found]) -> None:
    log, ruled = self._log, self._ruled
    log.records += len(found)
    for line, (time_ms, rest) in found:
      _, key, value, _ = rest
      if self._expected_ms <= time_ms < _LATEST_MS:
        self._expected_ms = time_ms
        self._latest = line, time_ms, key
      else:
        self._watch_time(Moment(line, time_ms, key))
      if key in TIMELINE:
        if len(log.timeline) < _MAX_TIMELINE:
          record = _new(Record, (line, time_ms, *rest))
          log.timeline.append(record)
          log.ruled.append(record)
        else:
          self._beyond['timeline'] += 1
        continue
      setting = log.settings.get(key)
      if setting is not None:
        setting.count += 1
        known = setting.other is not None or same(value, setting.first.value)
        if known and key not in ruled:
          continue  # most of a log: statistics that come again and again
      record = Record(line, time_ms, *rest)
      if setting is None:
        self._set(record)
      elif setting.other is None and not known:
        setting.other = record
      if key in ruled:
        self._rule(record)

  def _set(self, record: Record) -> None:
    settings = self._log.settings
    if len(settings) < _MAX_SETTINGS:
      settings[record.key] = Setting(record)
    else:
      self._beyond['settings'] += 1

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

  def _watch_time(self, moment: Moment) -> None:
    """Keeps times that are no milliseconds, or earlier than one before."""
    odd = self._log.odd_time
    if not _EARLIEST_MS <= moment.time_ms < _LATEST_MS and (
      odd is None or (odd.key not in TIMELINE and moment.key in TIMELINE)
    ):
      self._log.odd_time = moment
    latest = self._latest and Moment(*self._latest)
    if latest is None or moment.time_ms >= latest.time_ms:
      self._latest = moment
      self._expected_ms = max(moment.time_ms, _EARLIEST_MS)
    elif len(self._log.backwards) < _MAX_BACKWARDS:
      self._log.backwards.append((latest, moment))


def _unreadable(log: Log, why: str) -> Log:
  log.findings.append(log.error(None, f'cannot be read: {why}', 'readable'))
  return log


def _no_records(log: Log, path: pathlib.Path) -> Finding:
  with files.opened_log(path) as stream:
    start = stream.read(_HEAD)
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
