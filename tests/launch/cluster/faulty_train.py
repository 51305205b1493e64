"""launch.train, but at one batch of one rank something happens.

PODIUM_FAULT is KIND:RANK:BATCH, the batch counted from 1.
"""

import os
import signal
import threading
import time

from launch import train
from launch.support import cli
from suite.run import sharding


def _happens(kind: str) -> None:
  if kind == 'raises':
    raise RuntimeError('this rank has had enough')
  if kind == 'hangs':
    threading.Event().wait()
  if kind in ('SIGTERM', 'SIGINT'):  # as a launcher sends it
    os.kill(os.getppid(), getattr(signal, kind))
  if kind in ('SIGKILL', 'SIGSTOP'):
    os.kill(os.getpid(), getattr(signal, kind))
    time.sleep(5)  # woken up for its stack, it runs on for a moment


def _break(fault: str) -> None:
  kind, rank, at = fault.split(':')
  if os.environ.get('PODIUM_PROCESS_ID', '0') != rank:
    return
  put_rows, batches = sharding.put_rows, iter(range(1, 10**9))

  def faulty(rows, mesh):
    if next(batches) == int(at):
      _happens(kind)
    return put_rows(rows, mesh)

  sharding.put_rows = faulty


if __name__ == '__main__':
  _break(os.environ['PODIUM_FAULT'])
  cli.run(train.main, define=train.define_flags)
