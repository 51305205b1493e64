"""A rank that trains nothing: a supervisor whose worker only beats.

pretender FOLDER KIND RANK: at tick 20 of RANK what KIND says happens. The
others then wait at tick 22, as ranks of one job do. Where RANK is lost, rank 0
has given the log an end by itself, as it does when it sees what that brings.
"""

import functools
import json
import os
import signal
import threading
import time

from launch.cluster import arrival, beats, hosts, supervisor, worker
from launch.cluster.roll import Bounds
from launch.support import cli
from suite.run import run_log

_BOUNDS = Bounds(join=200, startup=200, watchdog=2, settle=0.5)
_LOSSES = ('SIGKILL', 'exits', 'supervisor')


def _work(
  kind: str, mine: bool, me: worker.Worker, told: beats.Beats, log: str
) -> int:
  told.stage('compiling')
  if kind == 'refuses' and mine:
    raise ValueError('this rank lacks its data')
  if kind in _LOSSES and not mine and log:
    _give_end(log)
  for tick in range(20 if mine else 22):
    told.at('compute', tick)
    time.sleep(0.01)
  if kind == 'finishes':
    return me.finished(0)
  if kind == 'raises' and mine:
    me.failed(RuntimeError('this rank has had enough'))
    _wait(told)  # as JAX does, for the others to come to an end
  if mine:
    told.at('input', 20)
    _happens(kind)
  _wait(told)
  return me.finished(128 + told.signal)


def _settings(kind: str, mine: bool) -> dict[str, str]:
  if kind == 'cannot' and mine:
    raise ValueError('this rank has other flags')
  return {'kind': 'other' if kind == 'differs' and mine else 'same'}


def _give_end(log: str) -> None:
  end = {'status': run_log.ABORTED, 'reason': 'connection closed by peer'}
  line = json.dumps({'key': 'run_stop', 'metadata': end})
  with open(log, 'r+', encoding='utf-8') as file:
    file.truncate(file.read().rfind('\n') + 1)
  with open(log, 'a', encoding='utf-8') as file:
    file.write(f':::MLLOG {line}\n')


def _wait(told: beats.Beats) -> None:
  while not told.signal:
    time.sleep(0.01)


def _happens(kind: str) -> None:
  if kind == 'hangs':
    threading.Event().wait()
  if kind == 'exits':
    os._exit(3)
  if kind == 'supervisor':
    os.kill(os.getppid(), signal.SIGKILL)
  elif kind == 'twice':
    for _ in range(2):
      os.kill(os.getppid(), signal.SIGINT)
      time.sleep(0.2)
  elif kind in ('SIGTERM', 'SIGINT'):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as JAX's service does
    os.kill(os.getppid(), getattr(signal, kind))
  elif kind.startswith('SIG'):
    os.kill(os.getpid(), getattr(signal, kind))


def main(arguments: list[str]) -> int:
  """See the file."""
  folder, kind, rank = arguments
  place = hosts.place() or supervisor.alone()
  mine = place.process == int(rank)
  log_path = os.path.join(folder, 'result_0.txt')
  if not supervisor.is_worker():
    settings = functools.partial(_settings, kind, mine)
    return supervisor.supervise(
      supervisor.Job(place, _BOUNDS, settings, folder, log_path)
    )
  parent_folder = os.environ[worker.VARIABLE].rpartition(':')[0]
  told = beats.Beats(os.path.join(parent_folder, worker.BEATS))
  with worker.entered() as me:
    log = '' if place.process else log_path
    return _work(kind, mine, me, told, log)


if __name__ == '__main__':
  cli.run(main, first=arrival.announce, rest=True)
