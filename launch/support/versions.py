"""Versions of what a result depends on, and the commit of the source."""

import functools
import importlib.metadata

from launch.support import sources

_PACKAGES = (
  'podium-bench', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
  'tensorflow-datasets', 'array-record', 'simplejpeg', 'opencv-python-headless',
  'numpy', 'mlperf-logging', 'libtpu',
)  # fmt: skip


@functools.cache
def found() -> dict[str, str]:
  """Versions of what the result depends on, and the commit of the source.

  Found once: the log and the record of a run name the same source, that which
  it was started from. Not to be changed by callers.
  """
  named = {}
  for package in _PACKAGES:
    try:
      named[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  named['commit'] = _commit()
  return named


def _commit() -> str:
  """The checkout's commit, '+changes' if it has any; 'unknown' without one."""
  commit = sources.git('rev-parse', 'HEAD').decode().strip()
  changes = sources.git('status', '--porcelain', '--untracked-files=no')
  return commit + ('+changes' if changes else '') if commit else 'unknown'
