"""What a run was made on and with: hardware, versions, source."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from typing import Any

import jax

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGES = (
  'podium-bench', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
  'tensorflow-datasets', 'array-record', 'simplejpeg', 'opencv-python-headless',
  'numpy', 'mlperf-logging', 'libtpu',
)  # fmt: skip


def describe() -> dict[str, Any]:
  """The system, as one flat table of text and numbers."""
  devices = jax.devices()
  return {
    'host': platform.node(),
    'processor': _processor(),
    'cores': os.cpu_count(),
    'memory_gib': round(_memory_bytes() / 2**30, 1),
    'accelerator': devices[0].device_kind,
    'platform': devices[0].platform,
    'devices': len(devices),
    'processes': jax.process_count(),
    'operating_system': f'{platform.system()} {platform.release()}',
    'python': platform.python_version(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
  }


@functools.cache
def versions() -> dict[str, str]:
  """Versions of what the result depends on, and the commit of the source.

  Found once: the log and the record of a run name the same source, that which
  it was started from. Not to be changed by callers.
  """
  found = {}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  found['commit'] = _commit()
  return found


def _commit() -> str:
  """The checkout's commit, '+changes' if it has any; 'unknown' without one."""
  try:
    commit = _git('rev-parse', 'HEAD')
    changes = _git('status', '--porcelain', '--untracked-files=no')
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
  return commit + ('+changes' if changes else '')


def _git(*words: str) -> str:
  return subprocess.run(
    ('git', '-C', _ROOT, *words), check=True, capture_output=True, text=True
  ).stdout.strip()


def _processor() -> str:
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      for line in file:
        if line.startswith('model name'):
          return line.partition(':')[2].strip()
  except OSError:
    pass
  return platform.processor() or platform.machine()


def _memory_bytes() -> int:
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  except (ValueError, OSError):
    return 0
