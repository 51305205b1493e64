"""Locks of an output: one process makes a run, or a set of runs, at a time.

The system frees a lock when its holder, and those who inherited it, have ended
in whatever way. So a file that a dead process left keeps nobody out.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import fcntl
import os
import re
import socket
import sys

from suite import files

# Variable that tells a run who holds the set that it is made for.
HOLDER = 'PODIUM_SET'
_SET = 'lock'
_RUN = re.compile(r'run_\d{1,6}\.lock')
# Errors of a file system that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def is_lock(name: str) -> bool:
  """Returns whether a file of this name in an output is a lock."""
  return name == _SET or _RUN.fullmatch(name) is not None


def holder() -> str:
  """Name of this process in its locks."""
  return f'{os.getpid()} on {socket.gethostname()}'


def of_set(output: str) -> int:
  """Locks a set; returns the descriptor, which its runs inherit.

  ValueError where another process makes runs there.
  """

  def says(who: str) -> str:
    return (
      f'Expected an --output where nothing runs, got {output}: process {who} '
      'is at work there, or a run that it started. Wait until it has ended, or '
      'give another --output.'
    )

  handle = _lock(os.path.join(output, _SET), says)
  try:
    # The set first and runs after that, and the other way round in `of_run`, so
    # that of two at once one sees the other.
    for name in filter(_RUN.fullmatch, os.listdir(output)):
      os.close(_lock(os.path.join(output, name), says))
  except BaseException:
    os.close(handle)
    raise
  _sign(handle)
  return handle


@contextlib.contextmanager
def of_run(output: str, run: int) -> Iterator[int]:
  """Locks a run while this lasts, and makes the folder where there is none.

  Yields the descriptor. ValueError where another process makes the run, or
  where one makes a set of runs that did not start this one. Leaves no lock, and
  no empty folder that it made.
  """
  made = not os.path.exists(output)
  files.claim_directory(output)
  path = os.path.join(output, f'run_{run}.lock')
  handle = _lock(
    path,
    lambda who: (
      f'Expected a run that nobody makes, got run {run} in {output}: process '
      f'{who} is at work on it. Wait until it has ended, or give another '
      '--output or --run.'
    ),
  )
  try:
    _sign(handle)
    _require_no_other_set(output)
    yield handle
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)  # while it is held: see _lock
    os.close(handle)
    if made:
      with contextlib.suppress(OSError):  # it is not empty
        os.rmdir(output)


def _require_no_other_set(output: str) -> None:
  path = os.path.join(output, _SET)
  mine = os.environ.pop(HOLDER, None)  # not for what the run starts
  if os.path.exists(path) and _signature(path) != mine:
    os.close(
      _lock(
        path,
        lambda who: (
          f'Expected an --output where no set of runs is made, got {output}: '
          f'process {who} makes one there. Wait until it has ended, or give '
          'another --output.'
        ),
      )
    )


def _lock(path: str, says: Callable[[str], str]) -> int:
  """Locks a file; ValueError, which `says` of its holder, where it is locked.

  Tells where the file system has no locks, and goes on without.
  """
  flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
  while True:
    handle = os.open(path, flags, 0o666)
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(handle)
      raise ValueError(says(_signature(path))) from None
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        os.close(handle)
        raise
      print(
        f'{path} cannot be locked ({error.strerror}): that two processes write '
        'there would not be noticed',
        file=sys.stderr,
      )
      return handle
    if _is_at(handle, path):
      return handle
    os.close(handle)  # its holder has removed it since


def _is_at(handle: int, path: str) -> bool:
  with contextlib.suppress(FileNotFoundError):
    return os.path.samestat(os.fstat(handle), os.lstat(path))
  return False


def _sign(handle: int) -> None:
  os.ftruncate(handle, 0)
  os.pwrite(handle, holder().encode(), 0)


def _signature(path: str) -> str:
  try:
    return files.read_bytes(path, 200).decode('ascii', 'replace')
  except (OSError, ValueError):
    return 'unknown'
