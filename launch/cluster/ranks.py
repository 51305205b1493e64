"""Ranks of a run, as JAX knows them: joining, devices, who writes results."""

import os

import jax
from jax.experimental import multihost_utils
import numpy as np

from launch.cluster import hosts
from launch.cluster.place import Place
from launch.cluster.roll import Bounds, listed

_NO_PROXY = 'no_grpc_proxy'
_KEPT_FROM = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_TABLE_LINES = 32
# A rank that JAX gives up first would be blamed for another's silence.
_BEHIND_THE_WATCHDOG = 60


def initialize(
  bounds: Bounds | None = None, expect_devices: int | None = None
) -> None:
  """Joins the processes that the environment names; alone without any.

  JAX detects nothing by itself: it is told all. Rank 0 prints a table of ranks,
  hosts and devices. ValueError if there are other devices than expected.
  """
  found = hosts.place()
  bounds = bounds or Bounds()
  if found is not None:
    _join(found, bounds)
  expected = expect_devices or int(os.environ.get('PODIUM_DEVICES') or 0)
  if expected:
    _require_devices(expected)
  if found is not None and is_primary():
    print('\n'.join(table()), flush=True)


def table() -> list[str]:
  """Ranks, hosts and devices, a line each; the middle of many is left out."""
  hosts = os.environ.get('PODIUM_HOSTS', '').split(',')
  lines = []
  for rank, devices in enumerate(_devices_of_ranks()):
    host = hosts[rank] if rank < len(hosts) else ''
    kind = devices[0].device_kind if devices else 'device'
    ids = ', '.join(str(device.id) for device in devices[:8])
    more = ', ...' if len(devices) > 8 else ''
    lines.append(
      f'rank {rank}  {host}  {len(devices)} x {kind} ({ids}{more})'.replace(
        '    ', '  '
      )
    )
  if len(lines) > _TABLE_LINES:
    half = _TABLE_LINES // 2
    lines = [*lines[:half], '...', *lines[-half:]]
  return lines


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


def keep_compiled(directory: str) -> None:
  """Keeps compiled programs for later runs; '': keeps none."""
  if directory:
    jax.config.update('jax_compilation_cache_dir', directory)
    if _KEPT_FROM not in os.environ:
      jax.config.update(_KEPT_FROM.lower(), 0.5)


def is_primary() -> bool:
  """Returns whether this process writes the log and the results."""
  return jax.process_index() == 0


def agreed(number: int) -> int:
  """Process 0's number (below 2**32), on every process."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.uint32(number)))


def _join(found: Place, bounds: Bounds) -> None:
  _pass_by_proxies(found.host)
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  bind = hosts.bind_address(found)
  jax.distributed.initialize(
    found.coordinator,
    found.processes,
    found.process,
    found.local_devices,
    cluster_detection_method='deactivate',
    initialization_timeout=int(bounds.join) + 1,
    heartbeat_timeout_seconds=int(max(bounds.startup, bounds.watchdog))
    + _BEHIND_THE_WATCHDOG,
    coordinator_bind_address=bind and f'{bind}:{found.port}',
  )


def _pass_by_proxies(host: str) -> None:
  """gRPC would ask an HTTP proxy for the coordinator, and wait for ever."""
  if any(name.lower().endswith('_proxy') for name in os.environ):
    before = os.environ.get(_NO_PROXY) or os.environ.get('no_proxy', '')
    os.environ[_NO_PROXY] = ','.join(filter(None, (before, host)))
    jax.config.update('jax_check_proxy_envs', False)  # its warning


def _require_devices(expected: int) -> None:
  require_platform('')
  if jax.device_count() == expected:
    return
  counts: dict[int, list[int]] = {}
  for rank, devices in enumerate(_devices_of_ranks()):
    counts.setdefault(len(devices), []).append(rank)
  each = '; '.join(f'{n} on {listed(ranks)}' for n, ranks in counts.items())
  raise ValueError(
    f'{expected} devices are expected, but JAX has {jax.device_count()}: '
    f'{each}.'
  )


def _devices_of_ranks() -> list[list[jax.Device]]:
  ranks: list[list[jax.Device]] = [[] for _ in range(jax.process_count())]
  for device in jax.devices():
    ranks[device.process_index].append(device)
  return ranks
