r"""Learning curves of many seeds, and of models broken on purpose.

python benchmarks/curves.py --data_dir=data --seeds=20 --csv=FILE

A target is only worth something if nearly every seed of the reference reaches
it and a broken model does not, or needs visibly longer. This trains both
through the real loop and writes one row per eval: variant, seed, epoch, step,
seconds on the clock, accuracy. Rows that the file has are not made again.
"""

import contextlib
import csv
import dataclasses
import os
import sys
from unittest import mock

from absl import app, flags, logging

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax

from input_pipelines import (
  dataset,
  imagenet,
)
from models import layers
from suite import benchmark as benchmark_lib
from suite import hparams, loop, sharding
from suite.clock import Clock
from suite.feed import Data
from suite.run_log import RunLog
from suite.target import Target

_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where digits lies.')
_SEEDS = flags.DEFINE_integer('seeds', 20, 'Seeds 0 to N-1 of each variant.')
_VARIANTS = flags.DEFINE_list('variants', None, 'Which; by default all.')
_CSV = flags.DEFINE_string('csv', None, 'Output.', required=True)
_HP = flags.DEFINE_multi_string('hp', [], 'Changes to the tiny reference.')
_TARGET = flags.DEFINE_float(
  'stop_at', 2.0, 'Accuracy that ends a run; more than 1: the whole budget.'
)
_COLUMNS = ('variant', 'seed', 'epoch', 'step', 'seconds', 'accuracy')


def _scaled_rate(factor: float):
  def change(hp):
    rate = hp.base_learning_rate * factor
    return dataclasses.replace(hp, base_learning_rate=rate)

  return change, contextlib.nullcontext


def _unshuffled():
  batches = imagenet.train_batches
  return mock.patch.object(
    imagenet, 'train_batches', lambda *a, **k: batches(*a, **k, shuffle=False)
  )


def _frozen_moments():
  """Running moments that stay as they began: evals normalise by 0 and 1."""
  call = layers.GroupedBatchNorm.__call__

  def broken(self, x, *, train):
    mean, var = self.mean[...], self.var[...]
    y = call(self, x, train=train)
    self.mean[...], self.var[...] = mean, var
    return y

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


def _no_normalisation():
  """Scale and bias only, as if the moments were 0 and 1 in training too."""

  def broken(self, x, *, train):
    del train
    return (x * self.scale[...] + self.bias[...]).astype(x.dtype)

  return mock.patch.object(layers.GroupedBatchNorm, '__call__', broken)


_SAME = lambda hp: hp  # noqa: E731
VARIANTS = {
  'reference': (_SAME, contextlib.nullcontext),
  'learning rate x10': _scaled_rate(10.0),
  'learning rate /10': _scaled_rate(0.1),
  'not shuffled': (_SAME, _unshuffled),
  'batch norm: moments frozen': (_SAME, _frozen_moments),
  'batch norm: no normalisation': (_SAME, _no_normalisation),
}


def train(size, hp, seed: int, directory: str, stop_at: float) -> loop.Result:
  """One run through the real loop, without a log file."""
  clock, mesh = Clock(), sharding.make_mesh()
  data = Data(
    clock, directory, seed, lambda rows: sharding.put_rows(rows, mesh)
  )
  log = RunLog(None, clock)
  log.start('init_start')
  return loop.run(
    benchmark_lib.get('resnet').task(hp, size.data),
    Target(at_least={'accuracy': stop_at}),
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
  size = benchmark_lib.get('resnet').size('tiny')
  reference = hparams.override(
    size.hparams,
    dict(text.split('=', 1) for text in _HP.value),
    hparams.Division.OPEN,
  )
  directory = dataset.find(_DATA_DIR.value, size.data.name)
  done = _done(_CSV.value)
  for name in _VARIANTS.value or VARIANTS:
    change, context = VARIANTS[name]
    for seed in range(_SEEDS.value):
      if (name, str(seed)) in done:
        continue
      with context():
        result = train(size, change(reference), seed, directory, _TARGET.value)
      _append(_CSV.value, name, seed, result)
      curve = ' '.join(f'{e.quality["accuracy"]:.3f}' for e in result.evals)
      print(f'{name}, seed {seed}: {result.timed:.1f} s, {curve}', flush=True)


def _done(path: str) -> set[tuple[str, str]]:
  if not os.path.exists(path):
    return set()
  with open(path, encoding='utf-8', newline='') as file:
    return {(row['variant'], row['seed']) for row in csv.DictReader(file)}


def _append(path: str, variant: str, seed: int, result: loop.Result) -> None:
  fresh = not os.path.exists(path)
  with open(path, 'a', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    if fresh:
      writer.writerow(_COLUMNS)
    for found in result.evals:
      writer.writerow(
        (
          variant,
          seed,
          found.at['epoch_num'],
          found.step,
          f'{found.seconds:.2f}',
          f'{found.quality["accuracy"]:.4f}',
        )
      )
    if not result.evals:  # a loss that was not finite before the first eval
      writer.writerow((variant, seed, 0, len(result.losses), '', ''))


if __name__ == '__main__':
  app.run(main)
