"""The environment variables that change what a run computes or how fast."""

import os

_NAMES = ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'HIP_VISIBLE_DEVICES')
_FAMILIES = ('JAX_', 'XLA_', 'LIBTPU_', 'TPU_', 'NCCL_', 'PODIUM_', 'TF_XLA_')


def variables() -> dict[str, str]:
  """Those that are set, by name, in order."""
  return {
    name: value
    for name, value in sorted(os.environ.items())
    if name in _NAMES or name.startswith(_FAMILIES)
  }


def with_only(variables_of_run: dict[str, str]) -> dict[str, str]:
  """This process's environment, with a run's variables in place of its own."""
  mine = variables()
  rest = {name: v for name, v in os.environ.items() if name not in mine}
  return {**rest, **variables_of_run}
