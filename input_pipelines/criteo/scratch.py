"""Large intermediate arrays: in memory, or in a file where it is too small."""

import contextlib
import os
import tempfile

import numpy as np

_SHARE = 0.7  # of the free memory that arrays may take
_MEMORY = '/proc/meminfo'
_LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current')


def zeros(length: int, dtype: type, folder: str) -> np.ndarray:
  """Zeros [length]; pages that nobody writes take no room.

  An array that free memory does not hold is in a file without a name in
  `folder`, whose pages the system writes out as it needs.
  """
  size = length * np.dtype(dtype).itemsize
  if fit(size):
    return np.zeros(length, dtype)
  with tempfile.TemporaryFile(dir=folder) as file:
    file.truncate(size)
    return np.asarray(np.memmap(file, dtype, 'r+', shape=(length,)))


def fit(size: int) -> int:
  """Number of arrays of so many bytes that free memory holds."""
  return int(_SHARE * _free()) // size


def _free() -> int:
  """Bytes that this process may still take."""
  free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2
  with contextlib.suppress(OSError), open(_MEMORY, encoding='utf-8') as file:
    facts = dict(line.split(':') for line in file)
    free = 1024 * int(facts['MemAvailable'].split()[0])
  with contextlib.suppress(OSError, ValueError):  # no limit is 'max'
    most, used = (int(open(p, encoding='utf-8').read()) for p in _LIMITS)  # noqa: SIM115
    free = min(free, most - used)
  return max(free, 0)
