"""The worker's side of the watchdog: beats, stacks when asked, how it ended."""

from collections.abc import Iterator
import contextlib
import faulthandler
import os
import signal

import jax
from jax.experimental import multihost_utils

from launch.cluster import beats as beats_lib
from launch.cluster.beats import Beats
from launch.support import progress
from suite.run import loop

# FOLDER:DESCRIPTOR, where the worker beats and writes its stacks; only a worker
# has it.
VARIABLE = 'PODIUM_WORKER'
BEATS = 'beats'


class Worker:
  """Reports from a run to its supervisor, if it has one."""

  def __init__(self, beats: Beats | None = None):
    self._beats = beats

  def watch(
    self, inner: progress.RunWatcher
  ) -> 'progress.RunWatcher | Watched':
    """`inner`, and the beats of the run beside it."""
    return Watched(inner, self._beats) if self._beats else inner

  def failed(self, error: BaseException, *, fatal: bool = False) -> None:
    """An exception has ended the run; a `fatal` one would end the next too."""
    if self._beats:
      kind = beats_lib.FATAL if fatal else beats_lib.FAILED
      self._beats.end(kind, 1, f'{type(error).__name__}: {error}')

  def finished(self, code: int) -> int:
    """All is done and `code` is the exit code; returns it."""
    if self._beats:
      self._beats.end(beats_lib.FINISHED, code)
    return code


@contextlib.contextmanager
def entered() -> Iterator[Worker]:
  """This process as a worker, if it is one."""
  # Taken away: it is not for what the worker itself starts.
  folder, _, stacks = os.environ.pop(VARIABLE, '').rpartition(':')
  if not folder:
    yield Worker()
    return
  beats = Beats(os.path.join(folder, BEATS))
  faulthandler.register(signal.SIGUSR1, int(stacks), all_threads=True)
  worker = Worker(beats)
  try:
    yield worker
  except (ValueError, OSError) as error:
    beats.end(beats_lib.REFUSED, 2, str(error))
    raise
  except BaseException as error:
    worker.failed(error)
    raise
  finally:
    faulthandler.unregister(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


class Watched:
  """A run's watcher that also beats, and ends the run on all ranks at one tick.

  Everything else goes to `inner`.
  """

  def __init__(self, inner: progress.RunWatcher, beats: Beats):
    self._inner = inner
    self._beats = beats
    self._several = jax.process_count() > 1
    self.at = beats.at  # several times a tick, so with no call between

  def __getattr__(self, name):
    return getattr(self._inner, name)

  def stage(self, text: str) -> None:
    """See loop.Watcher."""
    self._beats.stage(text)
    self._inner.stage(text)

  def interrupted(self, tick: int) -> loop.Interrupted | None:
    """See loop.Watcher."""
    # JAX carries a SIGTERM to all ranks and has them agree on a tick.
    if not self._several:
      return self._inner.interrupted(tick)
    if not multihost_utils.reached_preemption_sync_point(tick):
      return None
    number = self._beats.signal or signal.SIGTERM
    return loop.Interrupted(signal.Signals(number).name, int(number))
