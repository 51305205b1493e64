"""The environment variables that change what a run computes or how fast."""

from collections.abc import Mapping
import os
import re

_NAMES = (
  'CUDA_DEVICE_MAX_CONNECTIONS', 'CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES',
  'OMP_NUM_THREADS',
)  # fmt: skip
_FAMILIES = ('JAX_', 'XLA_', 'LIBTPU_', 'TPU_', 'NCCL_', 'PODIUM_', 'TF_XLA_')
# Of those, the ones that say which process of several this is.
_PROCESSES = ('JAX_COORDINATOR', 'PODIUM_', 'TPU_PROCESS_', 'TPU_WORKER_')
# And the ones that only say where a process is; they may differ between
# the runs of a set.
_PLACES = (*_PROCESSES, 'JAX_COMPILATION_CACHE_DIR', 'TPU_LOG_DIR')

# Variables that a record of somebody else may set, and the values that can do
# nothing but change numbers and speed. XLA_FLAGS is none: some of its flags
# load libraries or write files.
_COUNT = re.compile('[0-9]{1,6}')
_SWITCH = re.compile('(?i:0|1|true|false)')
_HARMLESS = {
  'CUDA_DEVICE_MAX_CONNECTIONS': _COUNT,
  'CUDA_VISIBLE_DEVICES': re.compile('[0-9,]{0,200}'),
  'HIP_VISIBLE_DEVICES': re.compile('[0-9,]{0,200}'),
  'OMP_NUM_THREADS': _COUNT,
  'JAX_DEFAULT_MATMUL_PRECISION': re.compile(r'\w{1,40}'),
  'JAX_DEFAULT_PRNG_IMPL': re.compile('threefry2x32|rbg|unsafe_rbg'),
  'JAX_ENABLE_X64': _SWITCH,
  'JAX_NUM_CPU_DEVICES': _COUNT,
  'JAX_PLATFORMS': re.compile(r'(cpu|cuda|gpu|rocm|tpu|,){1,9}'),
  'JAX_THREEFRY_PARTITIONABLE': _SWITCH,
  'NCCL_ALGO': re.compile(r'[\w,^:;]{1,80}'),
  'NCCL_PROTO': re.compile(r'[\w,^:;]{1,80}'),
}


def settings() -> dict[str, str]:
  """Members of `variables` that do not depend on the host and the process."""
  return {
    name: value
    for name, value in variables().items()
    if not name.startswith(_PLACES)
  }


def variables() -> dict[str, str]:
  """Variables that are set, sorted by name."""
  return {
    name: value
    for name, value in sorted(os.environ.items())
    if name in _NAMES or name.startswith(_FAMILIES)
  }


def harmless(variables_of_run: Mapping[str, str]) -> dict[str, str]:
  """Variables of a record that may be set: they load no code and no file."""
  return {
    name: value
    for name, value in variables_of_run.items()
    if (allowed := _HARMLESS.get(name)) and allowed.fullmatch(value)
  }


def with_only(variables_of_run: Mapping[str, str]) -> dict[str, str]:
  """This process's environment, with a run's variables in place of its own.

  Only those of a run that are `harmless`; of others this process's own hold.
  """
  given = harmless(variables_of_run)
  mine = variables()
  kept = {
    name: value
    for name, value in os.environ.items()
    if name not in mine or (name in variables_of_run and name not in given)
  }
  return {**kept, **given}


def left_out(variables_of_run: Mapping[str, str]) -> dict[str, str]:
  """Variables of a record that are not set from it and differ from ours.

  Variables that told a process its place are left out.
  """
  given = harmless(variables_of_run)
  return {
    name: value
    for name, value in variables_of_run.items()
    if name not in given
    and not name.startswith(_PLACES)
    and os.environ.get(name) != value
  }
