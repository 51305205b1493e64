r"""Starts several processes of an entrypoint on this machine.

python -m launch.local --processes=4 --devices=2 -- launch.train --output=DIR

Each has so many devices: CPU devices, or its share of the GPUs. What they
print is shown with their ranks. Exit code: 0 if all end with 0, else that of
the first that does not, not counting those ended because of another.
"""

from collections.abc import Mapping, Sequence
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from absl import flags as absl_flags

from launch.cluster import supervisor
from launch.support import cli, signals

FLAGS = absl_flags.FLAGS

# Below the ports that the system hands out by itself.
_PORTS = range(20000, 32000)
# From the first that fails to the end of the others, by request and by force:
# entrypoints that are supervised end each other before.
_PATIENCE_SECONDS = 30.0
_FORCE_SECONDS = 10.0


def define_flags() -> None:
  """The flags of this entrypoint."""
  absl_flags.DEFINE_integer(
    'processes', 2, 'How many processes.', lower_bound=1
  )
  absl_flags.DEFINE_integer('devices', 1, 'Devices of each.', lower_bound=1)


def main(arguments: Sequence[str]) -> int:
  """Runs what stands behind the --."""
  if not arguments:
    raise ValueError('Expected an entrypoint after --, launch.train for one.')
  module, *rest = arguments
  return run(module, rest, processes=FLAGS.processes, devices=FLAGS.devices)


def run(
  module: str,
  arguments: Sequence[str],
  *,
  processes: int,
  devices: int,
  environment: Mapping[str, str] | None = None,
) -> int:
  """Runs `python -m module arguments` in `processes` with `devices` each.

  Their output comes with '[rank] ' before it, unless there is one. SIGINT and
  SIGTERM are passed on to all. OSError, and none is left, if one cannot start.
  """
  children = signals.Children()
  shown = []
  with signals.handled(children.handle, (signal.SIGINT, signal.SIGTERM)):
    try:
      for rank, variables in enumerate(places(processes, devices)):
        child = _start(module, arguments, {**(environment or {}), **variables})
        children.add(child)
        shown.append(
          threading.Thread(target=_show, args=(rank, child, processes > 1))
        )
        shown[-1].start()
    except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
      for child in children:
        child.terminate()
      _wait([*children], patience=0.0)
      raise OSError(f'Rank {rank} cannot start: {error}') from error
    codes = _wait([*children])
  for thread in shown:
    thread.join()
  return _first(codes)


def places(processes: int, devices: int) -> list[dict[str, str]]:
  """The environment of each process of one job on this machine."""
  alone = {'JAX_NUM_CPU_DEVICES': str(devices)}
  if processes == 1:
    return [{**alone, 'PODIUM_PROCESSES': '1'}]
  port = free_ports()
  return [
    {
      **alone,
      'PODIUM_COORDINATOR': f'127.0.0.1:{port}',
      'PODIUM_PROCESSES': str(processes),
      'PODIUM_PROCESS_ID': str(rank),
      'PODIUM_LOCAL_PROCESS_ID': str(rank),
      'PODIUM_LOCAL_DEVICES': str(devices),
      'PODIUM_DEVICES': str(processes * devices),
      'PODIUM_JOB': f'{os.getpid()}-{port}',
    }
    for rank in range(processes)
  ]


def free_ports() -> int:
  """A free port after which the next is free too, for JAX and for us."""
  start = int.from_bytes(os.urandom(2), 'big')
  for i in range(len(_PORTS) // 2):
    port = _PORTS[(start + i) * 2 % len(_PORTS)]
    if _is_free(port) and _is_free(port + 1):
      return port
  raise OSError(f'No two free ports from {_PORTS[0]} to {_PORTS[-1]}.')


def _is_free(port: int) -> bool:
  with socket.socket() as trial:
    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      trial.bind(('127.0.0.1', port))
    except OSError:
      return False
  return True


def _start(module, arguments, variables) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, '-u', '-m', module, *arguments],
    env={**os.environ, **variables},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors='replace',
    start_new_session=True,  # signals reach it through us, once
  )


def _show(rank: int, child: subprocess.Popen, several: bool) -> None:
  head = f'[{rank}] ' if several else ''
  for line in child.stdout:
    print(f'{head}{line}', end='', flush=True)


def _wait(
  children: Sequence[subprocess.Popen], patience: float = _PATIENCE_SECONDS
) -> list[int]:
  """Exit codes of all, once the last has ended.

  Where one fails, the others have `patience` to end by themselves.
  """
  failed: float | None = None
  while any(child.poll() is None for child in children):
    if failed is None and any(child.returncode for child in children):
      failed = time.monotonic()
    waited = 0.0 if failed is None else time.monotonic() - failed
    for child in children:
      if child.poll() is None and waited > patience + _FORCE_SECONDS:
        child.kill()
      elif child.poll() is None and waited > patience:
        child.terminate()
    time.sleep(0.05)
  return [child.returncode for child in children]


def _first(codes: Sequence[int]) -> int:
  """The code that tells most: a signal's or a failure's, not its echo."""
  told = [code if code >= 0 else 128 - code for code in codes if code]
  causes = [code for code in told if code != supervisor.LATE]
  return (causes or told or [0])[0]


if __name__ == '__main__':
  cli.run(main, define=define_flags, rest=True)
