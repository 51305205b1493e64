"""The one train loop, from compiled programs to a result."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
from typing import Any

import jax

from suite.clock import Clock
from suite.feed import Block, Data, Feed
from suite.program import Program
from suite.run_log import ABORTED, SUCCESS, RunLog
from suite.target import Target
from suite.task import State, Task

# Steps and predictions that may be under way when the next is dispatched. Two
# hide the host; without a bound, several CPU devices deadlock.
IN_FLIGHT = 2


class Aborted(Exception):
  """Ends a run that will not reach its target; the message says why."""


class Interrupted(BaseException):
  """A signal ended the run from outside."""

  def __init__(self, name: str, number: int):
    super().__init__(f'interrupted by {name}')
    self.number = number


@dataclasses.dataclass(frozen=True)
class Eval:
  """The quality at one point of a run."""

  at: Mapping[str, float]  # as the log names the place: {'epoch_num': 4}
  step: int  # training steps done
  seconds: float  # on the clock, when the quality was known
  quality: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run came to."""

  status: str  # 'success' or 'aborted'
  reason: str
  evals: Sequence[Eval]
  losses: Sequence[float]  # of every step, in order
  startup: float  # seconds, and its parts, which add up to it
  startup_parts: Mapping[str, float]
  timed: float  # seconds, and its parts, which add up to it
  timed_parts: Mapping[str, float]
  flops_per_step: float | None


class Watcher:
  """What a run tells while it works; this one is silent."""

  def stage(self, text: str) -> None:
    """Startup has come to `text`."""

  def at(self, place: str, tick: int) -> None:
    """The run is now in `place`: 'input', 'compute', 'eval', ...

    A tick is a training step or a batch of an eval, counted from 0 through the
    whole run; all hosts count alike.
    """

  def interrupted(self, tick: int) -> Interrupted | None:
    """What ends the run from outside at this tick, alike on all hosts.

    Asked once a tick.
    """

  def step(self, step: int, loss: float) -> None:
    """Training step `step`, counted from 1, had this loss."""

  def quality(self, found: Eval) -> None:
    """An eval is done."""


def run(
  task: Task,
  target: Target,
  data: Data,
  *,
  mesh: jax.sharding.Mesh,
  seed: int,
  log: RunLog,
  clock: Clock,
  watcher: Watcher | None = None,
) -> Result:
  """Trains until `target` is met or the task's blocks are spent.

  The log must be past `init_start` and hold its settings. Whatever ends the
  run, the log says so; an error other than a bad loss is raised again.
  """
  progress = _Progress(clock, log, watcher or Watcher())
  with contextlib.ExitStack() as opened:  # closed when the clock has stopped
    return _run(task, target, data, mesh, seed, progress, opened)


def _run(task, target, data, mesh, seed, progress, opened) -> Result:
  clock, log = progress.clock, progress.log
  try:
    program, state = _start_up(task, mesh, seed, clock, progress.watcher)
    log.end('init_stop')
    program.any_host(False)  # all hosts meet here before the clock starts
    log.start('run_start', at=clock.start())
    reason = _train(task, target, data, program, state, progress, opened)
    status = SUCCESS
  except Aborted as end:
    status, reason = ABORTED, str(end)
  except Interrupted as end:
    _stop(clock, log, ABORTED, str(end))
    raise
  except BaseException as error:
    _stop(clock, log, ABORTED, f'{type(error).__name__}: {error}')
    raise
  _stop(clock, log, status, reason)
  return Result(
    status=status,
    reason=reason,
    evals=progress.evals,
    losses=progress.losses,
    startup=clock.startup,
    startup_parts=clock.startup_parts(),
    timed=clock.timed,
    timed_parts=clock.timed_parts(),
    flops_per_step=program.flops_per_step,
  )


def _start_up(task, mesh, seed, clock, watcher) -> tuple[Program, State]:
  watcher.stage('compiling')
  program = Program.build(task, mesh, clock)
  watcher.stage('warming up')
  with clock.spent_on('warm-up'):
    program.warm_up()
  watcher.stage('initialising')
  with clock.spent_on('init'):
    state = jax.block_until_ready(program.fresh_state(seed))
  return program, state


def _train(task, target, data, program, state, progress, opened) -> str:
  # Opening the data is the first thing on the clock.
  with progress.clock.spent_on('input'):
    feed = task.open(data)
  opened.callback(feed.close)
  with jax.transfer_guard('disallow'):
    for block in task.blocks():
      state = progress.train(program, feed, block, state)
      quality = progress.evaluate(task, program, feed, block, state)
      if program.any_host(target.met_by(quality)):
        return 'target met'
  last = ', '.join(f'{k} {v:g}' for k, v in block.at.items())
  raise Aborted(f'target {target} not met by the last eval, {last}')


def _stop(clock: Clock, log: RunLog, status: str, reason: str) -> None:
  at = clock.stop() if clock.running else None
  if not log.stopped:
    log.end('run_stop', {'status': status, 'reason': reason}, at=at)


class _Progress:
  """Where a run stands: its losses and evals, booked, logged and watched."""

  def __init__(self, clock: Clock, log: RunLog, watcher: Watcher):
    self.clock = clock
    self.log = log
    self.watcher = watcher
    self.losses: list[float] = []
    self.evals: list[Eval] = []

  def train(
    self, program: Program, feed: Feed, block: Block, state: State
  ) -> State:
    """Runs one block; Aborted at the first loss that is not finite."""
    self.log.start('block_start', block.start)
    pending: collections.deque[Any] = collections.deque()
    batches = feed.train_block(block, state, program.call)
    while (batch := self._next(batches)) is not None:
      with self.clock.spent_on('compute'):
        state, metrics = program.train_step(state, batch)
        pending.append(metrics['loss'])
        if len(pending) > IN_FLIGHT:
          self._book(pending.popleft())
    with self.clock.spent_on('compute'):
      while pending:
        self._book(pending.popleft())
    self.log.end('block_stop', block.stop)
    return state

  def evaluate(
    self, task: Task, program: Program, feed: Feed, block: Block, state: State
  ) -> Mapping[str, float]:
    """Scores the state; the whole of it is on the clock."""
    with self.clock.spent_on('eval'):
      self.log.start('eval_start', block.at)
      outputs = (program.predict(state, b) for b in feed.eval_batches())
      quality = task.score(list(_fetched(outputs)))
      if not all(math.isfinite(v) for v in quality.values()):
        raise Aborted(f'quality is not finite after step {len(self.losses)}')
      found = Eval(block.at, len(self.losses), self.clock.timed, quality)
      value = quality if len(quality) > 1 else next(iter(quality.values()))
      self.log.event('eval_accuracy', value, block.at)
      self.log.end('eval_stop', block.at)
    self.evals.append(found)
    self.watcher.quality(found)
    return quality

  def _next(self, batches: Iterator[Any]) -> Any | None:
    with self.clock.spent_on('input'):
      return next(batches, None)

  def _book(self, loss: jax.Array) -> None:
    # Waits for a step that lies IN_FLIGHT steps back, so the device is busy.
    value = float(jax.device_get(loss))
    self.losses.append(value)
    if not math.isfinite(value):
      raise Aborted(f'non-finite loss ({value}) at step {len(self.losses)}')
    self.watcher.step(len(self.losses), value)


def _fetched(outputs: Iterator[Any]) -> Iterator[Any]:
  """Device outputs -> host arrays, IN_FLIGHT of them under way."""
  pending: collections.deque[Any] = collections.deque()
  for output in outputs:
    pending.append(output)
    if len(pending) > IN_FLIGHT:
      yield jax.device_get(pending.popleft())
  while pending:
    yield jax.device_get(pending.popleft())
