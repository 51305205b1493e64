r"""Learning curves of many seeds, and of models broken on purpose.

python studies/curves.py --benchmark=resnet --seeds=40 --csv=FILE

A target is only worth something if nearly every seed of the reference reaches
it and a broken model does not, or needs visibly longer. This trains both
through the real loop and writes one row per eval: variant, seed, epoch or
samples, step, seconds on the clock, and each metric of the target. Rows that
the file has are not made again. The broken models of a benchmark stand in
suite/benchmarks/<name>/broken.py.
"""

import csv
import importlib
import os
import sys

from absl import app, flags, logging

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax

from input_pipelines.reading import dataset
from launch.support import start
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.clock import Clock
from suite.results.convergence import curves
from suite.run import loop, sharding
from suite.run.feed import Data
from suite.run.run_log import RunLog
from suite.run.task import Facts, Task
from suite.target import Target

_BENCHMARK = flags.DEFINE_string('benchmark', 'resnet', 'Whose tiny size.')
_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where its data lies.')
_SEEDS = flags.DEFINE_integer('seeds', 40, 'How many seeds of each variant.')
_FIRST_SEED = flags.DEFINE_integer(
  'first_seed',
  None,
  'The first of consecutive seeds; by default they come from the operating '
  'system: seeds that a recipe was tuned on flatter it.',
)
_VARIANTS = flags.DEFINE_list('variants', None, 'Which; by default all.')
_CSV = flags.DEFINE_string('csv', None, 'Output.', required=True)
_HP = flags.DEFINE_multi_string('hp', [], 'Changes to the tiny reference.')
_STOP = flags.DEFINE_bool(
  'stop_at_target', False, 'End a run at its target; default: its whole budget.'
)


def train(
  task: Task, facts: Facts, target: Target, seed: int, directory: str, weights
) -> loop.Result:
  """One run through the real loop, without a log file."""
  clock, mesh = Clock(), sharding.make_mesh()
  data = Data(
    clock,
    directory,
    seed,
    lambda rows: sharding.put_rows(rows, mesh),
    start=weights,
  )
  log = RunLog(None, clock)
  log.start('init_start')
  return loop.run(
    task,
    facts,
    target,
    data,
    mesh=mesh,
    seed=seed,
    log=log,
    clock=clock,
  )


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  jax.config.update(
    'jax_compilation_cache_dir', os.path.expanduser('~/.cache/podium/compiled')
  )
  benchmark = benchmark_lib.get(_BENCHMARK.value)
  size = benchmark.size('tiny')
  reference = hparams.override(
    size.hparams,
    dict(text.split('=', 1) for text in _HP.value),
    hparams.Division.OPEN,
  )
  directory = dataset.find(_DATA_DIR.value, size.data.name)
  target = size.target if _STOP.value else size.target.out_of_reach()
  done = _done(_CSV.value)
  found = importlib.import_module(f'suite.benchmarks.{benchmark.name}.broken')
  for variant in _VARIANTS.value or found.VARIANTS:
    change, context = found.VARIANTS[variant]
    for seed in _seeds({seed for name, seed in done if name == variant}):
      with context():
        task = benchmark.task(change(reference), size.data)
        facts = task.inspect(directory)
        # A variant may start from random weights.
        weights = None
        if task.given:
          weights = start.weights(size, task, _DATA_DIR.value)
        result = train(task, facts, target, seed, directory, weights)
      place = curves.column([task.blocks(facts)[0].at])
      _append(_CSV.value, (variant, seed), place, result, target)
      curve = ', '.join(
        f'{name} ' + ' '.join(f'{e.quality[name]:.3f}' for e in result.evals)
        for name in target.metrics
      )
      print(
        f'{variant}, seed {seed}: {result.timed:.1f} s, {curve}', flush=True
      )


def _seeds(done: set[int]) -> list[int]:
  """Seeds that a variant lacks."""
  first, wanted = _FIRST_SEED.value, _SEEDS.value
  if first is not None:
    return [seed for seed in range(first, first + wanted) if seed not in done]
  lacking = max(0, wanted - len(done))
  return [int.from_bytes(os.urandom(4), 'little') for _ in range(lacking)]


def _done(path: str) -> set[tuple[str, int]]:
  if not os.path.exists(path):
    return set()
  with open(path, encoding='utf-8', newline='') as file:
    rows = csv.DictReader(file)
    return {(row['variant'], int(row['seed'])) for row in rows}


def _append(
  path: str,
  run: tuple[str, int],  # variant and seed
  place: str,
  result: loop.Result,
  target: Target,
) -> None:
  fresh = not os.path.exists(path)
  with open(path, 'a', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    if fresh:
      columns = ('variant', 'seed', place, 'step', 'seconds')
      writer.writerow((*columns, *target.metrics))
    for found in result.evals:
      at = found.at[curves.PLACES[place]]
      quality = [f'{found.quality[name]:.4f}' for name in target.metrics]
      seconds = f'{found.seconds:.2f}'
      writer.writerow((*run, at, found.step, seconds, *quality))
    if not result.evals:  # a loss that was not finite before the first eval
      nothing = [''] * (1 + len(target.metrics))
      writer.writerow((*run, 0, len(result.losses), *nothing))


if __name__ == '__main__':
  app.run(main)
