"""Runs one block of training through the real loop, for studies of its cost."""

import dataclasses
import time
from typing import Any
from unittest import mock

from suite.clock import Clock
from suite.run import blocks, loop
from suite.run.feed import Data
from suite.run.program import Program
from suite.run.run_log import RunLog
from suite.run.task import Facts
from suite.target import Target


@dataclasses.dataclass
class Spent:
  """Time of a block, from its start to its last step."""

  seconds: float
  cpu_seconds: float  # of this process
  clock: Clock


class _OneBlock:
  """A feed's training block alone: nothing to evaluate, and it stays open."""

  def __init__(self, feed: Any):
    self._feed = feed

  def train_block(self, block, state, maker):
    """See Feed."""
    self._began = time.perf_counter(), time.process_time()
    yield from self._feed.train_block(block, state, maker)

  def statistics(self):
    """See Feed."""
    wall, cpu = self._began
    self.seconds = time.perf_counter() - wall
    self.cpu_seconds = time.process_time() - cpu
    return {}

  def eval_batches(self):
    """See Feed."""
    return iter(())

  def score(self, predictions, maker):
    """See Feed."""
    del maker
    return {'batches': len(list(predictions))}

  def close(self):
    """See Feed; the next turn continues with it."""


def run(program: Program, feed: Any, steps: int) -> Spent:
  """Trains `steps` from a fresh state."""
  clock = Clock()
  log = RunLog(None, clock)
  log.start('init_start')
  once = _OneBlock(feed)
  task = mock.Mock(
    blocks=lambda facts: blocks.each_epoch(1, steps=steps, samples=steps),
    open=lambda data, facts: once,
    given=(),
    tensors=(),
  )
  with mock.patch.object(Program, 'build', return_value=program):
    loop.run(
      task,
      Facts(),
      Target(at_least={'batches': 0}),
      Data(clock, '', 0, lambda rows: rows),
      mesh=program.mesh,
      seed=0,
      log=log,
      clock=clock,
    )
  return Spent(once.seconds, once.cpu_seconds, clock)
