r"""Makes a start for runs of MiniGo, as the official one is not available.

python -m launch.minigo.bootstrap --benchmark=minigo --size=reference \
  --data_dir=data --work_dir=data/bootstrap

Plays and trains from a random net, without a clock and without evals. Runs will
start from its net, optimizer and games after `--generations`; the net after
`--target_generations` is the target that they have to beat. Both are written to
the data set of the size. Every start of our own is different: results from one
compare only with each other.

After each generation progress is kept in `--work_dir`; the same command
resumes.

Exit code: 0 made, 2 refused, 130 stopped by Ctrl-C.
"""

import collections
import dataclasses
import json
import math
import os
import shutil
import sys
import time
from typing import Any

from absl import flags as absl_flags
import jax
import numpy as np

from input_pipelines.reading import arrays, dataset
from input_pipelines.self_play import start as minigo_start
from input_pipelines.writing import recipe
from launch import profiles
from launch.cluster import hosts, ranks
from launch.support import cli, run_flags, stages, versions
from launch.support.live_line import LiveLine
from suite import hparams as hparams_lib
from suite.benchmarks.minigo.hparams import Hparams
from suite.clock import Clock
from suite.results.report.format import duration
from suite.run import loop, program, sharding, start
from suite.run.feed import Data
from suite.run.task import State, Task

FLAGS = absl_flags.FLAGS

# The shared flags that it reads.
_READ = (
  'benchmark', 'size', 'division', 'hp', 'data_dir', 'platform', 'profile',
  'compiler_option', 'compile_cache',
)  # fmt: skip
_KEPT = 2  # generations to resume from


def define_flags() -> None:
  """The shared flags, and those of this command."""
  run_flags.define(only=_READ)
  absl_flags.DEFINE_integer(
    'generations',
    None,
    'Generation that runs start from; by default that of the size. 0: a random '
    'net, so that only the target is written.',
    lower_bound=0,
  )
  absl_flags.DEFINE_integer(
    'target_generations',
    41,
    'Generation whose net is the target.',
    lower_bound=1,
  )
  absl_flags.DEFINE_string(
    'work_dir',
    '',
    'Folder of progress to resume from; by default <data_dir>/bootstrap.',
  )
  absl_flags.DEFINE_integer(
    'seed',
    0,
    'Seed of the random net and of all random draws.',
    lower_bound=0,
    upper_bound=2**32 - 1,
  )


@dataclasses.dataclass(frozen=True)
class Plan:
  """Start to be made, and how."""

  request: run_flags.Request
  generations: int  # runs start from this one
  target: int  # the one that is the target
  seed: int
  data_dir: str
  work_dir: str

  @property
  def hparams(self) -> Hparams:
    """Hyperparameters of the benchmark, but starting from a random net.

    There are no evals, so the state holds no target.
    """
    return dataclasses.replace(
      self.request.hparams,
      start_generation=0,
      bootstraps=True,
      opponent='playouts',
    )

  @property
  def board(self) -> str:
    """Configuration of the data set."""
    return f'{self.hparams.board_size}x{self.hparams.board_size}'

  @property
  def finished(self) -> str:
    """Directory of the data set that is made."""
    name = f'{minigo_start.NAME}/{self.board}'
    return recipe.place(self.data_dir, name, minigo_start.VERSION)

  def kept(self, generation: int) -> str:
    """Directory of a generation's progress."""
    name = f'{minigo_start.NAME}/{_config(generation)}'
    return recipe.place(self.work_dir, name, minigo_start.VERSION)

  def about(self) -> dict[str, Any]:
    """Metadata of the start; progress of others that differ is not resumed."""
    return {
      minigo_start.ORIGIN: minigo_start.OURS,
      'benchmark': self.request.benchmark.name,
      'size': self.request.size_name,
      'hyperparameters': {
        each.name: each.value for each in hparams_lib.declared(self.hparams)
      },
      'seed': self.seed,
    }


def main() -> int:
  """Makes the start, or resumes; see the module."""
  plan = _plan(run_flags.request())

  def work() -> int:
    directory = make(plan)
    print(f'made: {directory}')
    print(f'fingerprint {dataset.fingerprint(directory)}')
    print(
      'Results from a start of our own compare with nothing but each other.'
    )
    return 0

  return stages.until_stopped(
    work,
    module='launch.minigo.bootstrap',
    kept=f'Progress is kept in {plan.work_dir}',
  )


def _plan(request: run_flags.Request) -> Plan:
  """Plan of the flags; ValueError if they are invalid."""
  if not isinstance(request.hparams, Hparams):
    raise ValueError(
      f'{request.benchmark.name} starts from no games: --benchmark=minigo does.'
    )
  for kept in profiles.apply(request.profile):
    print(kept, file=sys.stderr)
  ranks.require_platform(FLAGS.platform)
  if hosts.place():
    raise ValueError('Expected to be alone: one process makes the data set.')
  ranks.keep_compiled(FLAGS.compile_cache)
  generations = FLAGS.generations
  if generations is None:
    generations = request.hparams.start_generation
  if FLAGS.target_generations <= generations:
    raise ValueError(
      'Expected a target later than the start, got generation '
      f'{FLAGS.target_generations} and generation {generations}.'
    )
  data_dir = os.path.expanduser(FLAGS.data_dir)
  plan = Plan(
    request,
    generations,
    FLAGS.target_generations,
    FLAGS.seed,
    data_dir,
    os.path.expanduser(FLAGS.work_dir or os.path.join(data_dir, 'bootstrap')),
  )
  if os.path.exists(plan.finished):
    raise ValueError(
      f'Expected nothing at {plan.finished}, where the data set goes; remove '
      'it, or take another --data_dir.'
    )
  return plan


def make(plan: Plan) -> str:
  """Makes the data set, from the progress so far; returns its directory."""
  run = _Run(plan, _newest(plan))
  for generation in range(run.generation + 1, plan.target + 1):
    run.train(generation)
  weights, games = {}, ()
  if plan.generations:
    kept = plan.kept(plan.generations)
    weights, games = arrays.of_data_set(kept), minigo_start.games(kept)
  about = {
    **plan.about(),
    'start_generation': plan.generations,
    'target_generation': plan.target,
    'commit': versions.found()['commit'],
  }
  _forget(plan.finished)
  return minigo_start.write(
    plan.data_dir,
    plan.board,
    {**weights, **_target(run.state)},
    games,
    about,
    progress=stages.Stage('Writing the data set', 'records'),
  )


class _Run:
  """Training, one generation at a time; the Maker of its feed."""

  def __init__(self, plan: Plan, generation: int):
    """Starts from the progress of a generation; 0: from a random net."""
    self.generation = generation
    self._plan = plan
    self._line = LiveLine(sys.stdout)
    location = plan.kept(generation) if generation else ''
    task = _task(plan, generation)
    task.eval_specs = []  # nothing is evaluated, so nothing compiled for it
    facts = task.inspect(location)
    self._line.show('compiling ...')
    clock = Clock()
    mesh = sharding.make_mesh(1)
    build = program.Build(plan.request.profile.compiler_options)
    self._program = program.Program.build(task, mesh, clock, build)
    # Of a saved net only the key comes from the seed, so that games differ.
    weights = arrays.of_data_set(location) if generation else None
    start.check(weights, self._program.state, task.given)
    self.state = self._program.fresh_state(
      _seed(plan.seed, generation), weights
    )
    blocks = task.blocks(facts)
    self._blocks = {block.at['epoch_num']: block for block in blocks}
    clock.start()
    data = Data(
      clock, location, plan.seed, lambda rows: sharding.put_rows(rows, mesh)
    )
    self._feed = task.open(data, facts)
    self._playing: stages.Stage | None = None
    self.most, self.total = self._program.most, self._program.total

  def train(self, generation: int) -> None:
    """Plays the games of the previous generation, saves it, and trains."""
    self._playing = stages.Stage(f'Generation {generation - 1}', 'games')
    batches = self._feed.train_block(self._blocks[generation], self.state, self)
    batch = next(batches)  # plays the games
    self._keep(generation - 1)
    began, losses = time.monotonic(), collections.deque()
    steps = 0
    while batch is not None:
      self.state, metrics = self._program.train_step(self.state, batch)
      losses.append(metrics['loss'])
      steps += 1
      if len(losses) > loop.IN_FLIGHT:
        self._seen(generation, steps, losses.popleft())
      batch = next(batches, None)
    loss = [self._seen(generation, steps, each) for each in losses][-1]
    self.generation = generation
    self._line.keep(
      f'Generation {generation} of {self._plan.target}: {steps} steps in '
      f'{duration(time.monotonic() - began)}, loss {loss:.3f}'
    )

  def call(self, name: str, state: State, argument: Any) -> Any:
    """See Maker."""
    result = self._program.call(name, state, argument)
    # The games of this call are counted by the next one.
    whole = self._plan.hparams.min_selfplay_games_per_generation
    self._playing(whole - self._feed.missing, whole)
    return result

  def _seen(self, generation: int, step: int, loss: jax.Array) -> float:
    found = float(jax.device_get(loss))
    if not math.isfinite(found):
      raise ValueError(
        f'Expected a finite loss, got {found} in generation {generation}.'
      )
    self._line.show(f'Generation {generation}: step {step}, loss {found:.3f}')
    return found

  def _keep(self, generation: int) -> None:
    """Saves a net and its games; removes generations that are too old."""
    plan = self._plan
    if not generation or os.path.exists(plan.kept(generation)):
      return
    self._line.show(f'Generation {generation}: keeping it ...')
    _forget(plan.kept(generation))
    minigo_start.write(
      plan.work_dir,
      _config(generation),
      _by_path(dataclasses.replace(self.state, key=None)),
      self._feed.games(),
      plan.about(),
    )
    for other in _generations(plan):
      if other <= generation - _KEPT and other != plan.generations:
        shutil.rmtree(os.path.dirname(plan.kept(other)))


def _newest(plan: Plan) -> int:
  """Newest generation that is kept, 0 if none; ValueError if plans differ."""
  kept = [each for each in _generations(plan) if each < plan.target]
  if not kept:
    return 0
  newest = max(kept)
  if newest > plan.generations > 0 and plan.generations not in kept:
    raise ValueError(
      f'Expected generation {plan.generations} to be kept in {plan.work_dir}, '
      f'to start from, got {sorted(kept)}: take another --work_dir.'
    )
  found = minigo_start.about(plan.kept(newest))
  for name, value in json.loads(json.dumps(plan.about())).items():
    if found.get(name) != value:
      raise ValueError(
        f'Expected to resume from {plan.work_dir}, but the '
        f'{name} differ: {found.get(name)} then, {value} now. Take another '
        '--work_dir, or remove that one.'
      )
  print(f'resuming after generation {newest}, from {plan.work_dir}')
  return newest


def _generations(plan: Plan) -> list[int]:
  """Generations that are kept."""
  folder = os.path.join(plan.work_dir, minigo_start.NAME)
  names = os.listdir(folder) if os.path.isdir(folder) else []
  numbers = [name.removeprefix(_config('')) for name in names]
  return [
    int(number)
    for number in numbers
    if number.isdigit() and os.path.exists(plan.kept(int(number)))
  ]


def _config(generation: int | str) -> str:
  """Configuration that a generation is kept as."""
  return f'generation_{generation}'


def _task(plan: Plan, generation: int) -> Task:
  hp = dataclasses.replace(
    plan.hparams,
    start_generation=generation,
    max_generations=plan.target - generation,
  )
  task = plan.request.benchmark.task(hp, plan.request.size.data)
  task.eval_specs = []  # there are no evals, so none is compiled
  return task


def _seed(seed: int, generation: int) -> int:
  return int(np.random.SeedSequence([seed, generation]).generate_state(1)[0])


def _target(state: State) -> dict[str, np.ndarray]:
  """Net and moments, by the paths that they have as those of the target."""
  net = {'params': state.params, 'stats': state.stats['net']}
  return _by_path({'stats': {'target': net}})


def _by_path(tree: Any) -> dict[str, np.ndarray]:
  """Arrays of a tree by path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
  return {sharding.path_of(path): leaf for path, leaf in leaves}


def _forget(directory: str) -> None:
  """Removes an unfinished data set; its games differ from the current ones."""
  shutil.rmtree(f'{directory}.incomplete', ignore_errors=True)


if __name__ == '__main__':
  cli.run(main, define=define_flags)
