"""The environment variables that change what a run computes or how fast."""

import os

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


def with_only(variables_of_run: dict[str, str]) -> dict[str, str]:
  """This process's environment, with a run's variables in place of its own.

  What said which of several processes the run's were is left out.
  """
  mine = variables()
  rest = {name: v for name, v in os.environ.items() if name not in mine}
  theirs = {
    name: v
    for name, v in variables_of_run.items()
    if not name.startswith(_PROCESSES)
  }
  return {**rest, **theirs}
