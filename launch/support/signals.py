"""Signals of processes that are measured, or that start others."""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any, NoReturn


def ending() -> tuple[signal.Signals, ...]:
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


class Children:
  """Processes started here, which get this one's signals from their start on.

  `handle` is the handler. A signal that comes while a process is being started
  reaches it then, and each reaches it once.
  """

  def __init__(self, *, second_kills: bool = False):
    """With `second_kills` they are killed at the second signal."""
    self._second_kills = second_kills
    self._children: list[subprocess.Popen] = []
    self._got: list[tuple[int, list[subprocess.Popen]]] = []  # and who was told

  def __iter__(self) -> Iterator[subprocess.Popen]:
    return iter(self._children)

  @property
  def signal(self) -> int | None:
    """The last signal."""
    return self._got[-1][0] if self._got else None

  def add(self, child: subprocess.Popen) -> None:
    """One more was started."""
    self._children.append(child)
    for count, (number, told) in enumerate(self._got):
      if child not in told:
        self._tell(child, number, again=count > 0)

  def handle(self, number: int, frame) -> None:
    """Passes a signal on."""
    del frame
    told = [*self._children]
    self._got.append((number, told))
    for child in told:
      self._tell(child, number, again=len(self._got) > 1)

  def _tell(self, child: subprocess.Popen, number: int, *, again: bool) -> None:
    # Both do nothing, if it has ended.
    if again and self._second_kills:
      child.kill()
    child.send_signal(number)


def by_default(handler: Any) -> None:
  """Sets what Ctrl-C does while nobody else handles it.

  SIG_DFL ends the process at once; Python's own handler raises an exception,
  which cleans up on its way, and is raised again if a callback swallows it.
  """
  own = signal.SIG_DFL, signal.default_int_handler
  if signal.getsignal(signal.SIGINT) in own:  # else it is ignored
    signal.signal(signal.SIGINT, handler)
    sys.unraisablehook = _ctrl_c_again


def _ctrl_c_again(found: Any) -> None:
  """Repeats a Ctrl-C whose exception a callback swallowed; prints all else.

  Callbacks of the garbage collector, such as JAX's, let no exception out.
  """
  if isinstance(found.exc_value, KeyboardInterrupt):
    # A moment later: raised in here it would be swallowed, too.
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
  else:
    sys.__unraisablehook__(found)


def end_by(number: int) -> NoReturn:
  """Ends this process by a signal, as one that did not handle it."""
  sys.stdout.flush()
  sys.stderr.flush()
  signal.signal(number, signal.SIG_DFL)
  os.kill(os.getpid(), number)
  raise SystemExit(128 + number)
