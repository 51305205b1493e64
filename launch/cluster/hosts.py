"""Processes of a run: finding each other, devices, who writes results."""

from collections.abc import Sequence
import errno
import glob
import importlib.util
import ipaddress
import os
import platform
import socket
import time
import urllib.error
import urllib.request

import jax
from jax.experimental import multihost_utils
import numpy as np

from launch.cluster import place as clusters
from launch.cluster.place import Place
from launch.cluster.roll import Bounds, listed

_METADATA = ('agent-worker-number', 'worker-network-endpoints', 'tpu-env')
_NO_PROXY = 'no_grpc_proxy'
_KEPT_FROM = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_TABLE_LINES = 32
# A rank that JAX gives up first would be blamed for another's silence.
_BEHIND_THE_WATCHDOG = 60


def place() -> Place | None:
  """This process among those of its job; None: alone. See clusters.find."""
  gpus = len(glob.glob('/dev/nvidia[0-9]*'))
  found = clusters.find(os.environ, gpus)
  if found is None and _on_tpu_vm():
    found = clusters.find(os.environ, gpus, _metadata())
  return found


def name() -> str:
  """This host's name, as told to the other ranks."""
  return platform.node()


def check_coordinator(place: Place, seconds: float) -> None:
  """ValueError if the coordinator's address cannot work from here.

  A name that may still come, as those of pods do, is tried for `seconds`.
  """
  addresses = _resolve(place, time.monotonic() + seconds)
  loopback = all(ipaddress.ip_address(a).is_loopback for a in addresses)
  if loopback and place.hosts and place.hosts > 1 and place.process:
    raise ValueError(
      f'The coordinator {place.host} is {addresses[0]}, which is every host '
      f'itself, and there are {place.hosts} hosts: give PODIUM_COORDINATOR the '
      'name by which they know the host of rank 0.'
    )
  mine = _behind_a_service() or any(_is_mine(each) for each in addresses)
  if place.process == 0 and not mine:
    raise ValueError(
      f'Rank 0 runs here, on {name()}, which is not the coordinator '
      f'{place.host} ({addresses[0]}).'
    )


def bind_address(place: Place) -> str | None:
  """Address on which rank 0 listens; None: all addresses of its host."""
  literal = place.host == 'localhost' or place.host.startswith('127.')
  return '127.0.0.1' if literal else None


def initialize(
  bounds: Bounds | None = None, expect_devices: int | None = None
) -> None:
  """Joins the processes that the environment names; alone without any.

  JAX detects nothing by itself: it is told all. Rank 0 prints a table of ranks,
  hosts and devices. ValueError if there are other devices than expected.
  """
  found = place()
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
  bind = bind_address(found)
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


def _resolve(place: Place, end: float) -> Sequence[str]:
  while True:
    try:
      found = socket.getaddrinfo(place.host, None, type=socket.SOCK_STREAM)
      return [str(entry[4][0]).partition('%')[0] for entry in found]
    except socket.gaierror as error:
      comes = error.errno == socket.EAI_AGAIN or _behind_a_service()
      if not comes or time.monotonic() > end:
        raise ValueError(
          f"The coordinator's name {place.host!r} ({place.kind}) is not known "
          f'on {name()}: {error.strerror}.'
        ) from None
      time.sleep(0.5)


def _behind_a_service() -> bool:
  """Returns whether names resolve late or to another address (Kubernetes)."""
  return 'KUBERNETES_SERVICE_HOST' in os.environ


def _is_mine(address: str) -> bool:
  family = socket.AF_INET6 if ':' in address else socket.AF_INET
  with socket.socket(family, socket.SOCK_STREAM) as trial:
    try:
      trial.bind((address, 0))
    except OSError as error:
      return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
  return True


def _on_tpu_vm() -> bool:
  chips = glob.glob('/dev/accel[0-9]*') + glob.glob('/dev/vfio/[0-9]*')
  asked = not os.environ.get('TPU_SKIP_MDS_QUERY')
  return (
    bool(chips) and asked and importlib.util.find_spec('libtpu') is not None
  )


def _metadata() -> dict[str, str]:
  """Facts from the metadata server of a TPU VM; {} without one."""
  server = os.environ.get('GCE_METADATA_IP', 'metadata.google.internal')
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  found = {}
  for attribute in _METADATA:
    address = (
      f'http://{server}/computeMetadata/v1/instance/attributes/{attribute}'
    )
    asked = urllib.request.Request(
      address, headers={'Metadata-Flavor': 'Google'}
    )
    try:
      with opener.open(asked, timeout=10) as answer:
        found[attribute] = answer.read().decode()
    except urllib.error.HTTPError:
      continue  # a VM without this attribute
    except OSError:
      return {}
  return found
