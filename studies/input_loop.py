r"""Rate of the loop beside that of its input pipeline, and its wait for input.

JAX_PLATFORMS=cpu python studies/input_loop.py

The JPEGs are those of input_speed.py, read by imagenet.py at the reference's
size. First, the pipeline alone and the loop around it with a step that takes no
time take turns; a rate is in images per second of CPU of this process. Then the
loop has a step that takes longer than a batch takes the pipeline, and sleeps,
as the host of an accelerator does: what is left of waiting is the loop's own.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.imagenet import read as imagenet
from input_pipelines.reading import batching, dataset
from studies import input_speed, one_block
from suite import benchmark
from suite.benchmarks.resnet.task import ResNetTask
from suite.clock import Clock
from suite.run import sharding
from suite.run.feed import SupervisedFeed
from suite.run.program import Program
from suite.run.task import State
from tests.input_pipelines.imagenet import fake_imagenet

_COUNT = flags.DEFINE_integer('jpegs', 256, 'JPEGs of the data set.')
_STEPS = flags.DEFINE_integer('steps', 8, 'Steps of a turn.')
_SLOW_STEPS = flags.DEFINE_integer('slow_steps', 80, 'Steps that sleep.')
_TURNS = flags.DEFINE_integer('turns', 7, 'Turns of each way.')
_BATCH = flags.DEFINE_integer('batch', 128, 'Images of a batch.')


_SLOWER = 2  # how many times a slow step takes as long as the pipeline
_FIRST = 4  # steps until as many batches lie on the device as may


class InstantTask(ResNetTask):
  """A step that looks at its batch and is done, after `sleep` seconds."""

  def __init__(self, hp, data, sleep: float = 0.0):
    super().__init__(hp, data)
    self._sleep = sleep

  def train_step(self, state, batch):
    seen = batch['weight'].sum() + batch['image'][0, 0, 0, 0]
    if self._sleep:
      seen = jax.pure_callback(
        self._rest, jax.ShapeDtypeStruct((), jnp.float32), seen
      )
    after = State(
      state.step + 1, state.key, state.params, state.stats, state.opt
    )
    return after, {'loss': seen}

  def predict(self, state, batch):
    return {'seen': batch['weight'].sum()}

  def _rest(self, seen):
    time.sleep(self._sleep)
    return np.asarray(seen, np.float32)


def stream(split: dataset.Split):
  """Training batches of the reference's size."""
  return imagenet.train_batches(
    split,
    batch_size=_BATCH.value,
    seed=1,
    preprocessing=imagenet.Preprocessing(),
    reading=batching.DEFAULT_READING,
  )


def alone(batches, steps: int) -> None:
  """The pipeline, with nothing behind it."""
  for batch in itertools.islice(batches, steps):
    assert batch['image'].shape[0] == _BATCH.value


def rate(cpu_seconds: float) -> float:
  """Images per second of CPU of a turn."""
  return _STEPS.value * _BATCH.value / cpu_seconds


def compare_rates(task: ResNetTask, split: dataset.Split) -> float:
  """Prints both rates; returns the seconds a batch takes the pipeline."""
  mesh = sharding.make_mesh()
  program = Program.build(task, mesh, Clock())
  batches = stream(split)
  feed = SupervisedFeed(
    stream(split), None, lambda rows: sharding.put_rows(rows, mesh)
  )
  rates = {'alone': [], 'looped': []}
  seconds = []

  for number in range(_TURNS.value + 1):
    before = time.perf_counter()
    cpu = time.process_time()
    alone(batches, _STEPS.value)
    found = rate(time.process_time() - cpu)
    spent = (time.perf_counter() - before) / _STEPS.value
    through = rate(one_block.run(program, feed, _STEPS.value).cpu_seconds)
    if number:  # the first is a warm-up
      rates['alone'].append(found)
      rates['looped'].append(through)
      seconds.append(spent)
  batches.close()
  feed.close()
  ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
  print(f'pipeline alone        {statistics.median(rates["alone"]):6.0f}')
  print(f'through the loop      {statistics.median(rates["looped"]):6.0f}')
  print(
    f'ratio in one turn     {statistics.median(ratios):6.3f}, '
    f'{min(ratios):.3f} to {max(ratios):.3f}'
  )
  return statistics.median(seconds)


def show_waiting(task: ResNetTask, split: dataset.Split) -> None:
  """Prints the share of the clock that a slow step spends waiting."""
  mesh = sharding.make_mesh()
  program = Program.build(task, mesh, Clock())
  feed = SupervisedFeed(
    stream(split), None, lambda rows: sharding.put_rows(rows, mesh)
  )
  clock = one_block.run(program, feed, _FIRST).clock
  start = clock.timed_parts()['input']
  clock = one_block.run(program, feed, _SLOW_STEPS.value).clock
  feed.close()
  waited = clock.timed_parts()['input']
  print(f'waiting for the first {_FIRST} {start:6.2f} s')
  print(
    f'waiting afterwards    {waited / clock.timed:6.2%} of {clock.timed:.1f} s'
  )


def main(argv) -> None:
  del argv
  size = benchmark.get('resnet').size('reference')
  shapes = {
    name: jax.ShapeDtypeStruct((_BATCH.value, *spec.shape[1:]), spec.dtype)
    for name, spec in ResNetTask(size.hparams, size.data).train_specs[0].items()
  }
  with tempfile.TemporaryDirectory() as folder:
    jpegs = input_speed.make_jpegs(_COUNT.value)
    directory = fake_imagenet.write(folder, {'train': jpegs})
    split = dataset.Split(directory, 'train')
    print(f'batches of {_BATCH.value}; images per second of CPU')
    task = InstantTask(size.hparams, size.data)
    task.train_specs = task.eval_specs = [shapes]
    seconds = compare_rates(task, split)
    slow = InstantTask(size.hparams, size.data, sleep=_SLOWER * seconds)
    slow.train_specs = slow.eval_specs = [shapes]
    print(
      f'a step of {_SLOWER * seconds:.3f} s, the pipeline needs {seconds:.3f}:'
    )
    show_waiting(slow, split)


if __name__ == '__main__':
  app.run(main)
