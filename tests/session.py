"""Makes things once for all tests of a session, whichever worker is first."""

from collections.abc import Callable
import fcntl
import os
import tempfile


def once(name: str, make: Callable[[str], object]) -> str:
  """Returns the folder that `make(folder)` fills for the whole session."""
  place = os.environ.get('TESTS_SESSION_DIR') or tempfile.mkdtemp()
  folder = os.path.join(place, name)
  with open(f'{folder}.lock', 'w', encoding='utf-8') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not os.path.exists(folder):
      os.mkdir(f'{folder}.begun')
      make(f'{folder}.begun')
      os.rename(f'{folder}.begun', folder)
  return folder
