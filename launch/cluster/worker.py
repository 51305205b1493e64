"""The worker's side of the watchdog: beats, stacks when asked, how it ended."""

from collections.abc import Iterator
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys

import jax
from jax.experimental import multihost_utils

from launch.cluster import beats as beats_lib
from launch.cluster.beats import Beats
from launch.support import progress
from suite.run import loop

# PID:FOLDER of the worker's supervisor; only a worker has it.
VARIABLE = 'PODIUM_WORKER'
BEATS, STACKS = 'beats', 'stacks.txt'
_PR_SET_PDEATHSIG = 1


class Worker:
  """Reports from a run to its supervisor, if it has one."""

  def __init__(self, beats: Beats | None = None):
    self._beats = beats

  def watch(
    self, inner: progress.RunWatcher
  ) -> 'progress.RunWatcher | Watched':
    """`inner`, and the beats of the run beside it."""
    return Watched(inner, self._beats) if self._beats else inner

  def failed(self, error: BaseException) -> None:
    """An exception has ended the run."""
    if self._beats:
      text = f'{type(error).__name__}: {error}'
      self._beats.end(beats_lib.FAILED, 1, text)

  def finished(self, code: int) -> int:
    """All is done and `code` is the exit code; returns it."""
    if self._beats:
      self._beats.end(beats_lib.FINISHED, code)
    return code


@contextlib.contextmanager
def entered() -> Iterator[Worker]:
  """This process as a worker, if it is one; it dies with its supervisor."""
  # Taken away: it is not for what the worker itself starts.
  parent, _, folder = os.environ.pop(VARIABLE, '').partition(':')
  if not folder:
    yield Worker()
    return
  _die_with(int(parent))
  beats = Beats(os.path.join(folder, BEATS))
  with open(os.path.join(folder, STACKS), 'w', encoding='utf-8') as stacks:
    faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
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


def _die_with(parent: int) -> None:
  """On Linux; elsewhere a worker whose supervisor was killed runs on."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:
    os._exit(1)
