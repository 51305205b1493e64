"""Runs of every benchmark at the size of tests.

A benchmark has that size in tests/suite/benchmarks/<name>_small.py:

  SIZE: trains for about a second, in two blocks of four steps or more, with
    each shape of its batches; on eight devices an eval batch is padded.
  write(data_dir): writes its data sets; left out where SIZE has the data set of
    the benchmark's tiny size, or none.
  STILL: hyperparameters with which nothing in a step is random, where something
    is.
  PARTS_DIFFER: why a step in parts is not the whole step, where it is not.

python -m tests.benchmark_runs NAME FILE   is one process of a run, which writes
its losses and evals as JSON into FILE.PROCESS.
"""

from collections.abc import Mapping
import dataclasses
import functools
import importlib
import sys
from typing import Any

import jax

from input_pipelines.reading import places
from launch.cluster import ranks
from launch.support import start
from suite import benchmark as benchmark_lib
from suite import files
from suite.benchmark import Benchmark, Size
from suite.clock import Clock
from suite.run import loop, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.feed import Data
from suite.run.program import Build
from suite.run.run_log import RunLog
from suite.run.task import Task
from tests import quick, session, tiny_data
from tests.suite.run import fake_task

SEED = 7


@dataclasses.dataclass(frozen=True)
class Small:
  """A benchmark at the size of tests, and where its data sets lie."""

  benchmark: Benchmark  # declares this size alone, as tiny
  data_dir: str
  still: Mapping[str, Any]
  parts_differ: str

  @property
  def size(self) -> Size:
    """The only one."""
    return self.benchmark.sizes['tiny']

  @property
  def directory(self) -> str:
    """The data set's; '' where there is none."""
    return places.find(self.data_dir, self.size.data.name)

  def task(self, *, devices: int = 8, **changes: Any) -> Task:
    """The task, some of its hyperparameters changed."""
    hp = dataclasses.replace(self.size.hparams, **changes)
    return self.benchmark.task(hp, self.size.data, devices=devices)

  def data(self, task: Task, clock: Clock, **how: Any) -> Data:
    """Arguments of `task.open`; host rows stay as they are unless put."""
    how.setdefault('put', lambda rows: rows)
    weights = start.weights(self.size, task, self.data_dir)
    return Data(clock, self.directory, seed=SEED, start=weights, **how)

  def run(
    self,
    task: Task,
    mesh: jax.sharding.Mesh,
    clock: Clock,
    *,
    log_path: str | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    watcher: loop.Watcher | None = None,
  ) -> loop.Result:
    """Trains to the end of the budget, or from a checkpoint to there."""
    if resume:
      log = RunLog(log_path, clock, suspended=True)
    else:
      log = fake_task.begun_log(log_path, clock, self.benchmark, self.size)
    host, count = sharding.host_share(mesh)
    data = self.data(
      task,
      clock,
      put=lambda rows: sharding.put_rows(rows, mesh),
      host=host,
      hosts=count,
      kept=checkpoints and checkpoints.beside,
    )
    try:
      return loop.run(
        task,
        task.inspect(self.directory),
        self.size.target,
        data,
        mesh=mesh,
        seed=SEED,
        log=log,
        clock=clock,
        checkpoints=checkpoints,
        watcher=watcher,
        build=Build(quick.OPTIONS),
      )
    finally:
      log.close()
      if checkpoints:
        checkpoints.close()


@functools.cache
def small(name: str) -> Small:
  """A benchmark at the size of tests, its data sets written once a session."""
  place = f'tests.suite.benchmarks.{name}_small'
  try:
    module = importlib.import_module(place)
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f'Expected the size of {name} for tests, as tests/benchmark_runs.py '
      f'describes it, in {place.replace(".", "/")}.py, got {error}.'
    ) from error
  size = dataclasses.replace(
    module.SIZE, target=module.SIZE.target.out_of_reach()
  )
  declared = dataclasses.replace(benchmark_lib.get(name), sizes={'tiny': size})
  data_dir = ''
  if hasattr(module, 'write'):
    data_dir = session.once(f'{name}_small', module.write)
  elif size.data.name:
    data_dir = tiny_data.data_dir(size.data.name)
  return Small(
    declared,
    data_dir,
    still=getattr(module, 'STILL', {}),
    parts_differ=getattr(module, 'PARTS_DIFFER', ''),
  )


def outcome(result: loop.Result) -> dict[str, Any]:
  """Losses and evals without their times, as JSON has them."""
  evals = [[dict(e.at), e.step, dict(e.quality)] for e in result.evals]
  return {'losses': list(result.losses), 'evals': evals}


def main(name: str, path: str) -> None:
  """Makes a run with the processes that the environment names."""
  ranks.initialize()
  mesh, each = sharding.make_mesh(), small(name)
  task = each.task(devices=mesh.shape[sharding.DATA])
  found = outcome(each.run(task, mesh, Clock()))
  files.write_json(f'{path}.{jax.process_index()}', found)


if __name__ == '__main__':
  main(*sys.argv[1:])
