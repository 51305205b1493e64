"""Accessories never end a measurement: a terminal, lines nobody can see."""

import atexit
import io
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
  """Ends this process when its work is done, waiting for no thread.

  At the end of Python, threads of libraries are waited for, such as a
  checkpoint's whose peers are gone, and one that is stopped where it holds a
  lock of its library may keep the others from ending. What is registered to be
  called at exit is called.
  """
  atexit._run_exitfuncs()
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  os._exit(code)


def show_all() -> None:
  """Has characters that the terminal's encoding lacks printed as escapes.

  Names of files and of others may hold any.
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


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
