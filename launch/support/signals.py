"""Signals that end a run of one process."""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
from typing import Any

import jax

from launch.support import accessory
from suite.run import loop


class Signals:
  """Signals end the run in order, a second one at once.

  The first raises in startup, so that no compilation is waited for. Code that
  calls Python may swallow that, as JAX's callback of the garbage collector
  does; then the next stage raises it again. From the first tick on a tick ends
  the run.
  """

  def __init__(self):
    self._raises = False
    self._got: loop.Interrupted | None = None

  def at_stage(self) -> None:
    """Startup has come to another stage."""
    self._raises = True
    if self._got:
      raise self._got

  def at_tick(self, tick: int) -> loop.Interrupted | None:
    """Cause that ends the run, in order, at this tick; see loop.Watcher."""
    del tick
    self._raises = False
    return self._got

  def handle(self, number: int, frame) -> None:
    """Handles the first signal."""
    del frame
    for each in accessory.ending_signals():
      signal.signal(each, lambda number, _: os._exit(128 + number))
    self._got = loop.Interrupted(signal.Signals(number).name, number)
    if self._raises:
      raise self._got

  def ignore(self) -> None:
    """From here on results are written: short, and not to be lost."""
    self._raises = False
    if jax.process_count() == 1:
      for each in accessory.ending_signals():
        signal.signal(each, signal.SIG_IGN)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Signals]:
  """Listens for signals, which do nothing before the first stage.

  Of several processes JAX listens itself, and all end at one tick: see
  watched.Watched.
  """
  signals = Signals()
  if jax.process_count() == 1:
    for each in accessory.ending_signals():
      signal.signal(each, signals.handle)
  sys.unraisablehook = _unraisable
  try:
    yield signals
  finally:
    signals.ignore()
    sys.unraisablehook = sys.__unraisablehook__


def _unraisable(found: Any) -> None:
  """Prints what a callback swallowed, but for a signal, which is not lost."""
  if not isinstance(found.exc_value, loop.Interrupted):
    sys.__unraisablehook__(found)
