r"""Cost of the loop in Python around a compiled step, in milliseconds.

JAX_PLATFORMS=cpu python studies/loop_overhead.py

The state is ResNet-50's, all its leaves, and the compiled step only counts, so
nothing but Python, dispatch and donation is left. Three ways take turns over
batches that are ready: the bare call, waiting for the metric two steps back;
the loop around it, with its clock, losses and finiteness checks; and the loop
around a step that returns at once, which is the loop's own cost alone.
"""

import dataclasses
import os
import statistics
import sys
import time

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp

from models import resnet as resnet_model
from studies import one_block
from suite import benchmark
from suite.benchmarks.resnet.task import ResNetTask
from suite.clock import Clock
from suite.run import loop, sharding
from suite.run.program import ByShape, Program
from suite.run.task import State

_STEPS = flags.DEFINE_integer('steps', 500, 'Steps per turn.')
_TURNS = flags.DEFINE_integer('turns', 7, 'Turns of each way.')


class CountingTask(ResNetTask):
  """ResNet-50's state, and steps and evals that do nothing with it."""

  def train_step(self, state, batch):
    after = State(
      state.step + 1, state.key, state.params, state.stats, state.opt
    )
    return after, {'loss': jnp.float32(batch['weight'][0])}

  def predict(self, state, batch):
    return {'seen': batch['weight'].sum()}


class ReadyFeed:
  """The same batch over and over, on the device already."""

  def __init__(self, batch):
    self._batch = batch

  def train_block(self, block, state, call):
    del state, call
    for _ in range(block.steps):
      yield self._batch


def bare(program, state, batch, steps):
  """Seconds of `steps` calls with two under way; and the state after."""
  pending = []
  before = time.perf_counter()
  for _ in range(steps):
    state, metrics = program.train_step(state, batch)
    pending.append(metrics['loss'])
    if len(pending) > loop.IN_FLIGHT:
      jax.device_get(pending.pop(0))
  jax.block_until_ready(pending)
  return time.perf_counter() - before, state


def looped(program, state, batch, steps):
  """The same through the loop, which has a state of its own."""
  return one_block.run(program, ReadyFeed(batch), steps).seconds, state


def alone(program, state, batch, steps):
  """The loop without a compiled step in it."""
  metrics = {'loss': jnp.float32(0.0)}
  instant = ByShape(
    [lambda state, batch: (state, metrics)], program.train_step.specs
  )
  program = dataclasses.replace(program, train_step=instant)
  return looped(program, state, batch, steps)


def main(argv):
  del argv
  size = benchmark.get('resnet').size('reference')
  task = CountingTask(size.hparams, size.data)
  task.train_specs = task.eval_specs = [
    {'weight': jax.ShapeDtypeStruct((8,), jnp.float32)}
  ]
  assert task._hp.stage_blocks == resnet_model.RESNET50.blocks
  program = Program.build(task, sharding.make_mesh(), Clock())
  state = program.fresh_state(0)
  batch = program._zeros(task.train_specs[0])
  seconds = {bare: [], looped: [], alone: []}
  for turn in range(_TURNS.value + 1):
    for way, found in seconds.items():
      spent, state = way(program, state, batch, _STEPS.value)
      if turn:  # the first is a warm-up
        found.append(spent / _STEPS.value * 1e3)
  call, whole, own = (statistics.median(found) for found in seconds.values())
  leaves = len(jax.tree.leaves(state))
  print(f'{leaves} leaves of state, {_STEPS.value} steps, {_TURNS.value} turns')
  print(f'compiled call alone   {call:.3f} ms a step')
  print(f'through the loop      {whole:.3f} ms a step')
  print(f"the loop's own cost   {own:.3f} ms a step")


if __name__ == '__main__':
  app.run(main)
