"""Arrival of a rank: its connection to rank 0, from its first moments on.

A process that ends before the ranks have met, in whatever way, closes it by
that, and no rank waits for one that is gone. So it is made before anything is
imported or read that takes time or may fail. Rank 0 listens as early; its
supervisor hears those who came once it runs.
"""

from collections.abc import Sequence
import contextlib
import hashlib
import json
import os
import socket
import threading

from launch.cluster import hosts, worker
from launch.cluster.place import Place
from launch.cluster.roll import listed

_ATTEMPT_SECONDS = 5.0
_BETWEEN_ATTEMPTS = 0.2
_LOOPBACK = '127.0.0.1'
_WAITING = 4096  # ranks that rank 0 has not heard yet

_announced: 'Arrival | None' = None


def announce() -> None:
  """Announces this process to rank 0, if it is one of several that meet."""
  global _announced
  if worker.VARIABLE in os.environ:
    return
  with contextlib.suppress(ValueError):  # the supervisor says what is wrong
    place = hosts.place()
    if place and place.processes > 1:
      _announced = Arrival(place)


def of(place: Place) -> 'Arrival':
  """The arrival of this process; a new one where none was announced."""
  if _announced and _announced.place == place:
    return _announced
  return Arrival(place)


class Arrival:
  """The socket that rank 0 listens on, and each rank's connection to it."""

  def __init__(self, place: Place):
    """Connects in the background; ValueError if PODIUM_CONTROL is none."""
    self.place = place
    self.address = _control_address(place)
    self.connection: socket.socket | None = None  # once it is made
    self._listening: socket.socket | None = None
    self._given_up = threading.Event()
    if place.process == 0:
      with contextlib.suppress(OSError):  # who needs it asks again
        self.listen()
    else:
      threading.Thread(target=self._connect, daemon=True).start()

  def listen(self) -> socket.socket:
    """Socket on which rank 0 listens; OSError if its port is taken."""
    if self._listening is None:
      self._listening = _open(self.place, self.address[1])
      port = self._listening.getsockname()[1]
      self.connection = socket.create_connection((_LOOPBACK, port))
      self.connection.sendall(self._hello())
    return self._listening

  def give_up(self) -> None:
    """Ends attempts to connect."""
    self._given_up.set()

  def _connect(self) -> None:
    while not self._given_up.is_set():
      try:
        made = socket.create_connection(self.address, _ATTEMPT_SECONDS)
        made.sendall(self._hello())
      except OSError:
        self._given_up.wait(_BETWEEN_ATTEMPTS)
      else:
        self.connection = made
        return

  def _hello(self) -> bytes:
    place = self.place
    hello = {
      'token': token(place),
      'rank': place.process,
      'processes': place.processes,
      'host': hosts.name(),
    }
    return json.dumps(hello).encode() + b'\n'


def token(place: Place) -> str:
  """Token that tells this job's ranks from strangers."""
  secret = os.environ.get('PODIUM_TOKEN', '')
  text = f'{secret}\n{place.job}\n{place.coordinator}'
  return hashlib.sha256(text.encode()).hexdigest()


def _open(place: Place, port: int) -> socket.socket:
  alone = place.processes == 1
  host = _LOOPBACK if alone else hosts.bind_address(place)
  if host is None and socket.has_dualstack_ipv6():
    return socket.create_server(
      ('', port),
      family=socket.AF_INET6,
      backlog=_WAITING,
      dualstack_ipv6=True,
    )
  return socket.create_server((host or '', port), backlog=_WAITING)


def _control_address(place: Place) -> tuple[str, int]:
  """Host and port of rank 0: PODIUM_CONTROL, or the port after JAX's."""
  if place.processes == 1:
    return _LOOPBACK, 0
  given = os.environ.get('PODIUM_CONTROL', '')
  if not given:
    return place.host, place.port + 1
  host, _, port = given.rpartition(':')
  if not host or not port.isdigit():
    raise ValueError(f'PODIUM_CONTROL is HOST:PORT, not {given!r}.')
  return host.strip('[]'), int(port)


def waiting(place: Place, missing: Sequence[int], seconds: float) -> str:
  """Says for whom a rank waits: the `missing` ones, or else the first."""
  late = f'rank 0 at {place.coordinator}'
  if missing:
    late = f'{listed(missing)} of {place.processes}'
  counted = f' ({place.kind}: {place.counted})' if place.counted else ''
  return (
    f'waiting for {late}{counted}, at most {seconds:g} s; PODIUM_PROCESSES=1 '
    'runs a process alone'
  )
