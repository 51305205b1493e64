"""The processes of a run: how they find each other, and who does what."""

import os

import jax
from jax.experimental import multihost_utils
import numpy as np

_VARIABLES = ('PODIUM_COORDINATOR', 'PODIUM_PROCESSES', 'PODIUM_PROCESS_ID')


def initialize() -> None:
  """Joins the processes that the environment names; alone without any.

  PODIUM_COORDINATOR is host:port of process 0, PODIUM_PROCESSES their number,
  PODIUM_PROCESS_ID this one's, from 0. ValueError if only some are set.
  """
  values = [os.environ.get(name) for name in _VARIABLES]
  if not any(values):
    return
  if not all(values):
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    needed = ', '.join(missing)
    raise ValueError(f'Of several processes each needs {needed} too.')
  coordinator, processes, process = values
  if not processes.isdigit() or not process.isdigit():
    raise ValueError(
      'PODIUM_PROCESSES and PODIUM_PROCESS_ID must be numbers, not '
      f'{processes!r} and {process!r}.'
    )
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(coordinator, int(processes), int(process))


def require_platform(platform: str) -> None:
  """ValueError unless JAX runs, and on `platform` where that is not empty."""
  try:
    found = jax.default_backend()
  except (RuntimeError, AssertionError) as error:
    # AssertionError: a platform that JAX_PLATFORMS names has no plugin.
    wanted = os.environ.get('JAX_PLATFORMS', 'any')
    raise ValueError(
      f'JAX finds no device (JAX_PLATFORMS: {wanted}). {error}'.strip()
    ) from None
  if platform and found != platform:
    install = f'install podium-bench[{platform}], or '
    raise ValueError(
      f'--platform={platform} asked for, but JAX runs on {found}: '
      f'{install if platform != "cpu" else ""}see what JAX_PLATFORMS is set to.'
    )


def is_primary() -> bool:
  """Whether this process writes the log and the results."""
  return jax.process_index() == 0


def agreed(number: int) -> int:
  """Process 0's number (below 2**32), on every process."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.uint32(number)))
