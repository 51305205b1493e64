"""Findings of an audit, one line each, safe to print whatever a log holds."""

from collections.abc import Container, Iterable, Sequence
import dataclasses
import re
from typing import Any

ERROR, WARNING = 'error', 'warning'
_SHOWN = 80  # characters of a value from a log that a finding repeats
_LINE = 1000  # characters of a finding


@dataclasses.dataclass(frozen=True)
class Finding:
  """One fault: its place, what was expected, what was found, by which rule."""

  severity: str  # ERROR or WARNING
  file: str
  line: int | None  # counted from 1; None: the file or folder as a whole
  text: str
  rule: str
  key: str = ''  # of the log, where the finding is about one that is missing

  def __str__(self) -> str:
    place = self.file if self.line is None else f'{self.file}:{self.line}'
    text = self.text if len(self.text) < _LINE else self.text[:_LINE] + '...'
    return printable(f'{self.severity} {place}: {text} [{self.rule}]')


@dataclasses.dataclass(frozen=True)
class Kind:
  """Findings that differ in their places and values alone."""

  findings: Sequence[Finding]  # at least one; the first found is the first

  @property
  def first(self) -> Finding:
    """The first of them."""
    return self.findings[0]

  def __str__(self) -> str:
    count = len(self.findings)
    if count == 1:
      return str(self.first)
    files = len({finding.file for finding in self.findings})
    where = f'in {files} files' if files > 1 else 'in this file'
    return f'{self.first} and {count - 1} more like it, {count} {where}'


# What makes findings of a kind differ: texts in quotes, numbers, names of logs.
_VALUES = re.compile(r"'[^']*'|result_\S+|[-+]?[0-9][0-9.,e+-]*|nan|None")


def kinds(
  findings: Iterable[Finding], *, first: Container[str] = ()
) -> list[Kind]:
  """Findings by kind: errors, of them those of the rules `first`, then others.

  The order is otherwise that in which they were found.
  """
  found: dict[tuple[str, str, str], list[Finding]] = {}
  for finding in findings:
    shape = _VALUES.sub('#', finding.text)
    key = (finding.severity, finding.rule, shape)
    found.setdefault(key, []).append(finding)
  order = sorted(found, key=lambda key: (key[0] != ERROR, key[1] not in first))
  return [Kind(found[key]) for key in order]


def errors(
  findings: Iterable[Finding], *, beside: Container[str] = ()
) -> list[Finding]:
  """The findings that are errors, those of the rules `beside` left out."""
  return [f for f in findings if f.severity == ERROR and f.rule not in beside]


def show(value: Any) -> str:
  """A value from a log, short and on one line."""
  text = repr(value)
  return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'


def printable(text: str) -> str:
  """`text` in printable ASCII: a log must not steer anyone's terminal."""
  if text.isascii() and text.isprintable():
    return text
  return ''.join(
    c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text
  )
