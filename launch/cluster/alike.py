"""Settings that all ranks of a job must share, as text to compare."""

import hashlib
import os
import platform

from absl import flags as absl_flags

from launch.support import run_flags, versions
from suite import hparams
from suite.files import PACKAGES, ROOT

# Flags that say where things lie on a host, or how its own work is done.
_OF_A_HOST = {
  'compile_cache', 'data_dir', 'input_processes', 'input_threads', 'output',
}  # fmt: skip
_VARIABLES = ('LIBTPU_INIT_ARGS', 'XLA_FLAGS')
_VARIABLES_OF_A_HOST = (
  'JAX_COMPILATION_CACHE_DIR', 'JAX_COORDINATOR', 'JAX_LOCAL_DEVICE_IDS',
  'JAX_NUM_CPU_DEVICES', 'JAX_PARTITION_INDEX', 'JAX_SLICE_INDEX',
)  # fmt: skip


def settings(request: run_flags.Request) -> dict[str, str]:
  """This rank's settings by name; ranks that differ cannot make one run."""
  return {
    'code': source_hash(),
    'python': platform.python_version(),
    **versions.found(),
    **_flags(),
    **{d.name: repr(d.value) for d in hparams.declared(request.hparams)},
    **_variables(),
  }


def source_hash() -> str:
  """Hash of our modules as they are on this disk, changes included."""
  found = hashlib.sha256()
  for folder in PACKAGES:
    for path in sorted((ROOT / folder).rglob('*.py')):
      name = str(path.relative_to(ROOT)).encode()
      found.update(name + b'\0' + path.read_bytes() + b'\0')
  return found.hexdigest()[:12]


def _flags() -> dict[str, str]:
  module = absl_flags.FLAGS.flags_by_module_dict()[run_flags.__name__]
  return {
    f'--{flag.name}': str(flag.value)
    for flag in module
    if flag.name not in _OF_A_HOST
  }


def _variables() -> dict[str, str]:
  return {
    name: value
    for name, value in os.environ.items()
    if name in _VARIABLES
    or (name.startswith('JAX_') and not name.startswith(_VARIABLES_OF_A_HOST))
  }
