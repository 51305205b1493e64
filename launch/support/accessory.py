"""Accessories never end a measurement: a terminal, lines nobody can see."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import io
import os
import signal
import sys
from typing import Any


def ending_signals() -> tuple[signal.Signals, ...]:
  """Signals that end a run in order.

  SIGHUP, of a terminal that is gone, is one unless this process ignores it, as
  under nohup.
  """
  found = (signal.SIGINT, signal.SIGTERM)
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    found += (signal.SIGHUP,)
  return found


@contextlib.contextmanager
def handled(
  handle: Callable[[int, Any], None], signals: Iterable[signal.Signals]
) -> Iterator[None]:
  """Has `handle` called for signals, with their number, while this lasts."""
  before = {each: signal.signal(each, handle) for each in signals}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def protect() -> None:
  """Makes this process run on when what it prints is lost.

  The reader of a pipe or the terminal may be gone, the disk full, stdout closed
  or ASCII only. Called before anything is opened: a file must not get the
  number of a closed stdout, where libraries print.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this
  sys.stdout = _lossy(sys.stdout, 1)
  sys.stderr = _lossy(sys.stderr, 2)
  if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    # An exception could be swallowed by whatever calls Python.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _lossy(stream: io.TextIOWrapper | None, number: int) -> 'Lossy':
  # Beside the stream that is there, which handlers of logging have kept.
  if stream is None:
    return Lossy(open(number, 'wb', closefd=False), encoding='utf-8')
  stream.flush()
  return Lossy(
    open(number, 'wb', closefd=False),
    encoding=stream.encoding,
    errors='backslashreplace',
    line_buffering=stream.line_buffering,
    write_through=stream.write_through,
  )


class Lossy(io.TextIOWrapper):
  """A text stream that goes to /dev/null from the first failure on."""

  def write(self, text: str) -> int:
    """See io.TextIOBase."""
    try:
      return super().write(text)
    except (OSError, ValueError):
      self._lose()
      return len(text)

  def flush(self) -> None:
    """See io.IOBase."""
    try:
      super().flush()
    except (OSError, ValueError):
      self._lose()

  def _lose(self) -> None:
    if self.closed:
      return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self.fileno())  # for what is still in buffers, too
    os.close(nowhere)
    super().flush()
