"""The process of a worker, as its supervisor makes it."""

from collections.abc import Callable
import ctypes
import os
import signal
import sys
import tempfile

_PR_SET_PDEATHSIG = 1


def unnamed_file() -> int:
  """Descriptor of an empty file, in memory where the system has such."""
  if hasattr(os, 'memfd_create'):
    return os.memfd_create('stacks')
  with tempfile.TemporaryFile() as file:
    return os.dup(file.fileno())


def ends_with(parent: int) -> Callable[[], None]:
  """First call of a new process, which has it end as soon as `parent` does.

  On Linux; elsewhere a worker whose supervisor was killed runs on.
  """
  library = ctypes.CDLL(None)

  def call() -> None:
    if sys.platform == 'linux':
      library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
      os._exit(1)
    # Until it listens, being asked for its stacks must not end it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

  return call
