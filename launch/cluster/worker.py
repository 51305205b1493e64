"""The worker's side of the watchdog: beats, stacks when asked, how it ended."""

from collections.abc import Iterator
import contextlib
import faulthandler
import os
import signal

from launch.cluster import beats as beats_lib
from launch.cluster.beats import Beats

# FOLDER:DESCRIPTOR, where the worker beats and writes its stacks; only a worker
# has it.
VARIABLE = 'PODIUM_WORKER'
BEATS = 'beats'


class Worker:
  """Reports from a run to its supervisor, if it has one."""

  def __init__(self, beats: Beats | None = None):
    self.beats = beats

  def failed(self, error: BaseException, *, fatal: bool = False) -> None:
    """An exception has ended the run; a `fatal` one would end the next too."""
    if self.beats:
      kind = beats_lib.FATAL if fatal else beats_lib.FAILED
      self.beats.end(kind, 1, f'{type(error).__name__}: {error}')

  def finished(self, code: int) -> int:
    """All is done and `code` is the exit code; returns it."""
    if self.beats:
      self.beats.end(beats_lib.FINISHED, code)
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
