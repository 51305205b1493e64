"""Devices of JAX's ahead-of-time topologies.

The compilers read their `environment` when they are loaded, so it must be set
before the process starts.
"""

from collections.abc import Sequence
import importlib.metadata
import importlib.util
import os
from typing import Any

from jax.experimental import topologies

from launch.aot.roofline import Place
from launch.aot.systems import System


class Unavailable(ValueError):
  """The compiler for a system is not installed here."""


def environment(system: System) -> dict[str, str]:
  """Variables to set for the compiling process before it imports JAX."""
  values = {'JAX_PLATFORMS': 'cpu', 'TF_CPP_MIN_LOG_LEVEL': '3'}
  if system.platform == 'tpu':
    return values | {
      # There is no metadata server to ask what this machine is, no lock to
      # take on a chip, and nobody to read logs.
      'TPU_SKIP_MDS_QUERY': '1',
      'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
      'TPU_WORKER_HOSTNAMES': 'localhost',
      'TPU_WORKER_ID': '0',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
      'TPU_LOG_DIR': 'disabled',
      'TPU_STDERR_LOG_LEVEL': '3',
      'TPU_MIN_LOG_LEVEL': '3',
    }
  given = os.environ.get('XLA_FLAGS', '')
  # No GPU is here to time kernels on.
  return values | {'XLA_FLAGS': f'{given} --xla_gpu_autotune_level=0'.strip()}


def require(system: System) -> None:
  """Raises Unavailable, naming what to install, if there is no compiler."""
  if system.platform == 'tpu':
    if importlib.util.find_spec('libtpu') is None:
      raise Unavailable(
        f"{system.name} needs TPU's compiler, libtpu, which is not installed: "
        "pip install --constraint constraints.txt -e '.[tpu]'."
      )
  elif not cuda_plugin():
    raise Unavailable(
      f'{system.name} needs the CUDA plugin of JAX, which is not installed: '
      "pip install --constraint constraints.txt -e '.[gpu]'."
    )


def versions(system: System) -> dict[str, str]:
  """Versions that decide what a program is compiled to."""
  names = ['jax', 'jaxlib']
  names += ['libtpu'] if system.platform == 'tpu' else [cuda_plugin()]
  return {name: importlib.metadata.version(name) for name in names if name}


def devices(system: System) -> Sequence[Any]:
  """The system's devices, as JAX sees them; `require` them first."""
  if system.platform == 'gpu':
    hosts, each = system.topology
    return topologies.get_topology_desc(
      '',
      platform='cuda',
      # As JAX has it on a cluster: what NVLink joins is a slice, of one host.
      topology=f'{hosts}x1x{each}',
      target_config=system.target,
    ).devices
  options: dict[str, Any] = {}
  if system.chip_config:
    options['chip_config_name'] = system.chip_config
  if system.slices > 1:
    options['num_slices'] = system.slices
  if len(system.topology) == 2 and system.hosts == system.slices:
    # The whole slice is one machine.
    options['chips_per_host_bounds'] = (*system.topology, 1)
  shape = 'x'.join(str(axis) for axis in system.topology)
  return topologies.get_topology_desc(
    f'{system.compiler_name}:{shape}', platform='tpu', **options
  ).devices


def place(device: Any, system: System) -> Place:
  """Place of a device in its system."""
  coords = tuple(device.coords)
  if system.platform == 'gpu':
    return Place(0, coords[0], (coords[0], coords[2]))
  chip = coords[: len(system.topology)]
  return Place(
    getattr(device, 'slice_index', 0) or 0, device.process_index, chip
  )


def cuda_plugin() -> str:
  """Package of JAX's CUDA plugin; '' if none is installed."""
  for name in ('jax-cuda13-plugin', 'jax-cuda12-plugin'):
    try:
      importlib.metadata.version(name)
      return name
    except importlib.metadata.PackageNotFoundError:
      continue
  return ''
