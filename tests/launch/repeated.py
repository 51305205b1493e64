"""Faults that are repeated at random moments, and the ranks that they befall.

TESTS_FAULTS sets how often each is repeated, TESTS_SEED other moments.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import os
import random
import signal
import threading
import time

from absl.testing import parameterized

from launch.cluster import worker
from tests.launch import processes

TIMES = int(os.environ.get('TESTS_FAULTS', '4'))
_ESTABLISHED = '01'  # in /proc/net/tcp


class RepeatedTestCase(parameterized.TestCase):
  """A test with random numbers of its own, and a folder."""

  def setUp(self):
    super().setUp()
    self.random = random.Random(self.id() + os.environ.get('TESTS_SEED', ''))
    self.folder = self.create_tempdir().full_path

  def path(self, *names: str) -> str:
    """Path in the folder."""
    return os.path.join(self.folder, *names)


class Rank:
  """A process of launch.train, and what it prints."""

  def __init__(self, arguments: Sequence[str], place: Mapping[str, str]):
    self.began = time.monotonic()
    self._place = place
    self.process = processes.start(
      'launch.train', *arguments, environment=place
    )
    self.lines: list[str] = []
    self.errors = ''
    self._threads = [
      threading.Thread(target=self._read_lines),
      threading.Thread(target=self._read_errors),
    ]
    for each in self._threads:
      each.start()

  def _read_lines(self):
    for line in self.process.stdout:
      self.lines.append(line)

  def _read_errors(self):
    self.errors = self.process.stderr.read()

  def says(self, text: str) -> bool:
    """Returns whether it has printed a line with a text."""
    return any(text in line for line in self.lines)

  def worker(self) -> int:
    """The process id of its worker; its own where it has none."""
    own = self.process.pid
    for child in read(f'/proc/{own}/task/{own}/children').split():
      # Others are programs that it asks about this machine.
      if worker.VARIABLE in read(f'/proc/{child}/environ'):
        return int(child)
    return own

  def connections(self) -> int:
    """Number of ranks of its job, on this host, that are connected."""
    port = int(self._place['PODIUM_COORDINATOR'].rpartition(':')[2]) + 1
    sockets = [
      line.split()
      for name in ('tcp', 'tcp6')
      for line in read(f'/proc/net/{name}').splitlines()[1:]
    ]
    # Those of rank 0, which they are connected to.
    return sum(
      int(each[1].rpartition(':')[2], 16) == port and each[3] == _ESTABLISHED
      for each in sockets
    )

  def ended(self) -> int:
    """Its exit code, once it has ended."""
    code = self.process.wait(processes.LONGEST)
    for each in self._threads:
      each.join()
    return code

  def end(self) -> None:
    """Kills it, if it runs."""
    self.process.kill()
    self.ended()


def read(path: str) -> str:
  """The content of a file of /proc; '' without one."""
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read()
  except (FileNotFoundError, ProcessLookupError):
    return ''


def ended(ranks: Sequence[Rank]) -> tuple[list[int], float]:
  """Exit codes of all, and the seconds until the last has ended."""
  began = time.monotonic()
  return [rank.ended() for rank in ranks], time.monotonic() - began


def until(rank: Rank, seconds: float, happens: Callable[[], object]) -> None:
  """Waits until it happens, the rank ends, or the time is over."""
  end = time.monotonic() + seconds
  while (
    rank.process.poll() is None and time.monotonic() < end and not happens()
  ):
    time.sleep(0.001)


def kill(number: int) -> None:
  """kill -9 of a process, which may be gone."""
  with contextlib.suppress(ProcessLookupError):  # it was quicker
    os.kill(number, signal.SIGKILL)
