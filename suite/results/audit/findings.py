"""Findings of an audit, one line each, safe to print whatever a log holds."""

from collections.abc import Container, Iterable
import dataclasses
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
