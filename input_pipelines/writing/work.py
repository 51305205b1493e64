"""Runs the pieces of a long job in threads: counted, shown, stopped early."""

from collections.abc import Callable, Sequence
from concurrent import futures
import threading
from typing import TypeVar

from input_pipelines.reading import batching

Item = TypeVar('Item')
Result = TypeVar('Result')
Progress = Callable[[int, int], None]  # what is done, and of how much
Tick = Callable[[int], None]  # so much more is done

_SECONDS_BETWEEN = 0.2  # of one progress and the next


class Stopped(Exception):
  """Raised by a tick when the job is over early, so that its piece ends."""


def each(
  do: Callable[[Item, Tick], Result],
  items: Sequence[Item],
  *,
  whole: int,
  done: int = 0,
  threads: int | None = None,
  progress: Progress | None = None,
) -> list[Result]:
  """`do(item, tick)` of every item, several at a time.

  The first error, or Ctrl-C, ends the others at their next tick and is raised.

  Args:
    do: called in threads.
    items: what it is called with.
    whole: what the ticks add up to, with `done`.
    done: what was done before.
    threads: None for one a core.
    progress: called in this thread: at first, a few times a second, at the end.

  Returns:
    What `do` returned, in the order of the items.
  """
  counter = _Counter(done)
  if progress:
    progress(done, whole)
  pool = futures.ThreadPoolExecutor(threads or batching.cores())
  try:
    pieces = [pool.submit(do, item, counter.tick) for item in items]
    left = set(pieces)
    while left:
      ready, left = futures.wait(
        left, _SECONDS_BETWEEN, futures.FIRST_EXCEPTION
      )
      for piece in ready:
        piece.result()
      if progress:
        progress(counter.value, whole)
  finally:
    counter.stop()
    pool.shutdown(cancel_futures=True)
  return [piece.result() for piece in pieces]


class _Counter:
  def __init__(self, value: int):
    self.value = value
    self._lock = threading.Lock()
    self._stopped = False

  def tick(self, more: int) -> None:
    with self._lock:
      self.value += more
    if self._stopped:
      raise Stopped

  def stop(self) -> None:
    self._stopped = True
