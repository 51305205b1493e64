"""Hosts of a run: which one this is, and where the first of them is."""

from collections.abc import Sequence
import errno
import glob
import importlib.util
import ipaddress
import os
import platform
import socket
import time

from launch.cluster import place as clusters
from launch.cluster.place import Place

_METADATA = ('agent-worker-number', 'worker-network-endpoints', 'tpu-env')


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
  # Debian gives a host's own name 127.0.1.1: it works for all ranks there.
  here = _short(place.host) == _short(name())
  several = place.hosts is not None and place.hosts > 1
  if loopback and several and place.process and not here:
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


def _short(host: str) -> str:
  return host.partition('.')[0].lower()


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
  # Here, as all other ranks do not need it and announce themselves sooner.
  import urllib.error
  import urllib.request

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
