"""A run of the benchmark's own loop to a target, for studies beside others."""

import dataclasses
import time

from suite.clock import Clock
from suite.run import loop, sharding
from suite.run.feed import Data
from suite.run.run_log import RunLog
from suite.run.task import Task
from suite.target import Eval, Target


@dataclasses.dataclass(frozen=True)
class Timed:
  """Cost of a run from run_start to run_stop, and its last eval."""

  seconds: float
  core_seconds: float  # of all threads, whoever else is on the cores
  last: Eval


def to_target(task: Task, target: Target, directory: str, seed: int) -> Timed:
  """Trains to the target; RuntimeError where the run does not reach it."""
  clock, mesh = Clock(), sharding.make_mesh()
  log = RunLog(None, clock)
  log.start('init_start')
  worked = [0.0]

  def stage(text):
    del text  # the last stage of startup is the init, and then the clock runs
    worked[0] = time.process_time()

  watcher = loop.Watcher()
  watcher.stage = stage
  result = loop.run(
    task,
    task.inspect(directory),
    target,
    Data(clock, directory, seed, lambda rows: sharding.put_rows(rows, mesh)),
    mesh=mesh,
    seed=seed,
    log=log,
    clock=clock,
    watcher=watcher,
  )
  if result.status != 'success':
    raise RuntimeError(f'This benchmark did not reach {target}.')
  core_seconds = time.process_time() - worked[0]
  return Timed(result.timed, core_seconds, result.evals[-1])
