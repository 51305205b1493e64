"""Signals that end a run of one process."""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

import jax

from launch.support import signals
from suite.run import loop

_PATIENCE = 1.0  # seconds that a run may take to end in startup


class Signals:
  """Signals end the run in order, a second one at once.

  The first raises in startup. That comes late where a compilation does not come
  back to Python for minutes, and not at all where what calls Python swallows
  it, as JAX's callback of the garbage collector does. So a thread hears of
  signals, too: it has `cut_off` end a run that is in startup still, and then
  ends the process. From the first tick on a tick ends the run.
  """

  def __init__(self):
    # Gives the run its end, from outside of it; the process ends after that.
    self.cut_off: Callable[[loop.Interrupted], None] = lambda end: None
    self._raises = False
    self._startup = True
    self._cutting_off = threading.Lock()
    self._got: loop.Interrupted | None = None

  def at_stage(self) -> None:
    """Startup has come to another stage."""
    self._raises = True
    if self._got:
      raise self._got

  def at_tick(self, tick: int) -> loop.Interrupted | None:
    """Cause that ends the run, in order, at this tick; see loop.Watcher."""
    del tick
    if self._startup:
      self._end_startup()
    return self._got

  def handle(self, number: int, frame) -> None:
    """Handles the first signal."""
    del frame
    for each in signals.ending():
      signal.signal(each, lambda number, _: os._exit(128 + number))
    self._got = _interrupted(number)
    if self._raises:
      raise self._got

  def ignore(self) -> None:
    """From here on results are written: short, and not to be lost."""
    self._end_startup()
    if jax.process_count() == 1:
      for each in signals.ending():
        signal.signal(each, signal.SIG_IGN)

  def listen(self, heard: socket.socket) -> None:
    """Hears of signals until nobody sends any more; a thread calls it."""
    number = _next(heard)
    again = _next(heard, _PATIENCE) if number else None
    if number and not again:
      with self._cutting_off:
        if self._startup:
          try:
            self.cut_off(_interrupted(number))
          finally:
            os._exit(128 + number)
      again = _next(heard)
    if again:
      os._exit(128 + again)

  def _end_startup(self) -> None:
    with self._cutting_off:  # which has no end but that of the process
      self._startup = self._raises = False


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Signals]:
  """Listens for signals, which raise nothing before the first stage.

  Of several processes JAX listens itself, and all end at one tick: see
  watched.Watched.
  """
  made = Signals()
  with contextlib.ExitStack() as closing:
    if jax.process_count() == 1:
      closing.enter_context(_heard_by(made.listen))
      for each in signals.ending():
        signal.signal(each, made.handle)
    sys.unraisablehook = _unraisable
    try:
      yield made
    finally:
      made.ignore()
      sys.unraisablehook = sys.__unraisablehook__


@contextlib.contextmanager
def _heard_by(listen: Callable[[socket.socket], None]) -> Iterator[None]:
  """Has `listen`, in a thread, get the number of each signal as a byte."""
  told, heard = socket.socketpair()
  told.setblocking(False)
  before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
  thread = threading.Thread(target=listen, args=(heard,), daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    told.close()
    thread.join()
    heard.close()


def _next(heard: socket.socket, seconds: float | None = None) -> int:
  """The next signal that ends a run; 0 where none comes."""
  heard.settimeout(seconds)
  with contextlib.suppress(TimeoutError):
    while number := heard.recv(1):
      if number[0] in signals.ending():
        return number[0]
  return 0


def _interrupted(number: int) -> loop.Interrupted:
  return loop.Interrupted(signal.Signals(number).name, number)


def _unraisable(found: Any) -> None:
  """Prints what a callback swallowed, but for a signal, which is not lost."""
  if not isinstance(found.exc_value, loop.Interrupted):
    sys.__unraisablehook__(found)
