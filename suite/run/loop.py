"""The one train loop, from compiled programs to a result."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
from typing import Any

import jax

from suite.clock import Clock
from suite.run import start
from suite.run.blocks import Block, where
from suite.run.checkpoint import (
  Checkpoints,
  Failed,
  Position,
  Restored,
  processes,
)
from suite.run.feed import Data, Feed, Maker
from suite.run.program import Build, Program, host_rows, rows_of
from suite.run.run_log import ABORTED, SUCCESS, RunLog
from suite.run.saver import Saver, Verdict
from suite.run.task import Facts, State, Task
from suite.target import Eval, Target

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
    self.saved: int | None = None  # steps of the checkpoint that it left

  def unsaved(self, error: Exception) -> None:
    """Adds why it left no checkpoint."""
    self.args = (f'{self}; {error}',)


@dataclasses.dataclass(frozen=True)
class Result:
  """The outcome of a run."""

  status: str  # 'success' or 'aborted'
  reason: str
  evals: Sequence[Eval]
  losses: Sequence[float]  # of every step, in order
  startup: float  # seconds, and its parts, which add up to it
  startup_parts: Mapping[str, float]
  timed: float  # seconds, and its parts, which add up to it
  timed_parts: Mapping[str, float]
  samples: int  # that the steps trained on
  flops_per_step: float | None  # of the steps made here, on average


class _Ending(Exception):
  """All hosts have agreed to end here; no step is in flight."""

  def __init__(self, by: Interrupted):
    super().__init__(str(by))
    self.by = by


class Watcher:
  """Is told how a run proceeds; this one is silent."""

  def stage(self, text: str) -> None:
    """Startup has reached `text`."""

  def resumed(self, step: int, lost: float, notes: Sequence[str]) -> None:
    """The run resumes after `step` of an earlier process, `lost` seconds later.

    `notes` say which newer checkpoints were not restored, and why.
    """

  def warned(self, text: str) -> None:
    """Something is wrong on this host that does not end the run."""

  def at(self, place: str, tick: int) -> None:
    """The run is now in `place`: 'input', 'compute', 'eval' or 'checkpoint'.

    A tick is a training step, a batch of an eval, or a call of what a feed
    makes data with, counted from 0 through the whole run; all hosts count
    alike.
    """

  def interrupted(self, tick: int) -> Interrupted | None:
    """Returns what ends the run from outside at this tick, or None.

    Called once a tick; all hosts return the same.
    """

  def step(self, step: int, loss: float) -> None:
    """Training step `step`, counted from 1, had this loss."""

  def quality(self, found: Eval) -> None:
    """An eval is done."""


def run(
  task: Task,
  facts: Facts,
  target: Target,
  data: Data,
  *,
  mesh: jax.sharding.Mesh,
  seed: int,
  log: RunLog,
  clock: Clock,
  watcher: Watcher | None = None,
  build: Build | None = None,
  checkpoints: Checkpoints | None = None,
) -> Result:
  """Trains until `target` is met or the task's blocks are spent.

  The log must be past `init_start` and hold its settings; or it is suspended,
  and the run resumes from the newest of the `checkpoints`. Whatever ends the
  run, the log says so; an error other than a bad loss is raised again.
  """
  blocks = task.blocks(facts)
  progress = _Progress(clock, watcher or Watcher())
  # The feed is closed when the clock has stopped.
  with contextlib.ExitStack() as closing, _ended(clock, log) as end:
    # Startup: everything is compiled and tried out, no data is touched.
    progress.watcher.stage('compiling')
    program = Program.build(task, mesh, clock, build)
    maker = _Maker(program, progress)
    warn = progress.watcher.warned
    saver = Saver(checkpoints, program.most, clock, warn)
    if checkpoints:
      saver.prepare(program.state)
    progress.watcher.stage('warming up')
    with clock.spent_on('warm-up'):
      program.warm_up(task)
    if log.suspended:
      progress.watcher.stage('restoring')
      restored = saver.restore()
      state = restored.state
      progress.take_over(restored.position)
      data = dataclasses.replace(data, position=restored.position.feed)
      program.any_host(False)  # all hosts meet before the clock resumes
      _resume(restored, blocks, saver, log, progress)
    else:
      progress.watcher.stage('initialising')
      with clock.spent_on('init'):
        start.check(data.start, program.state, task.given)
        state = jax.block_until_ready(program.fresh_state(seed, data.start))
      for tensor in task.tensors:
        log.event('weights_initialization', None, {'tensor': tensor})
      log.end('init_stop')
      program.any_host(False)  # all hosts meet before the clock starts
      saver.started(clock.start())
      log.start('run_start', at=clock.started)

    # On the clock. Opening the data is the first thing.
    with clock.spent_on('input'):
      feed = task.open(data, facts)
    closing.callback(feed.close)
    with jax.transfer_guard('disallow'):
      try:
        while progress.block < len(blocks):
          block = blocks[progress.block]

          # Training. The step is dispatched while those before are computed.
          log.start('block_start', block.start)
          batches = feed.train_block(progress.rest_of(block), state, maker)
          while (batch := progress.next_of(batches)) is not None:
            progress.told('compute')
            with clock.spent_on('compute'):
              number = program.train_step.which(batch)
              train_step = program.train_step.programs[number]
              state, metrics = train_step(state, batch)
              progress.dispatched(number, metrics['loss'])
            progress.tick()
            if saver.due_at(progress.steps):
              saver.save(state, progress.position(feed))
          progress.drain()
          statistics = dict(feed.statistics())
          for key, value in statistics.items():
            log.statistic(key, value, block.at)
          log.end('block_stop', block.stop)

          # The eval, all of it on the clock.
          with clock.spent_on('eval'):
            log.start('eval_start', block.at)
            quality = _quality(program, state, feed, maker, progress)
            step, seconds = progress.steps, clock.timed
            (value, *others) = quality.values()
            log.event('eval_accuracy', quality if others else value, block.at)
            log.end('eval_stop', block.at)
          found = Eval(block.at, step, seconds, quality, statistics)
          progress.evaluated(found)

          # All hosts agree on what follows.
          verdict = saver.agree(
            met=target.met_by(quality), last=progress.block == len(blocks)
          )
          if verdict == Verdict.MET:
            end.status, end.reason = SUCCESS, 'target met'
            break
          if verdict == Verdict.SAVE:
            saver.save(state, progress.position(feed))
        else:
          place = where(blocks[-1].at)
          raise Aborted(f'target {target} not met by the last eval, {place}')
      except _Ending as ending:
        progress.drain()
        if progress.steps and saver.saves:
          try:
            ending.by.saved = saver.leave(state, progress.position(feed))
          except Failed as error:
            ending.by.unsaved(error)
        raise ending.by from None
  saver.remove()  # checkpoints are not the result
  return Result(
    status=end.status,
    reason=end.reason,
    evals=progress.evals,
    losses=progress.losses,
    startup=clock.startup,
    startup_parts=clock.startup_parts(),
    timed=clock.timed,
    timed_parts=clock.timed_parts(),
    samples=progress.samples(blocks, rows_of(program.train_step.specs[0])),
    flops_per_step=progress.mean_of(program.flops),
  )


@dataclasses.dataclass
class _End:
  """End of a run."""

  status: str
  reason: str


@contextlib.contextmanager
def _ended(clock: Clock, log: RunLog) -> Iterator[_End]:
  """Stops the clock and logs the end of the run, whatever it is.

  A run that is `Aborted` has a result; any other exception is raised again.
  """
  end = _End(ABORTED, '')
  try:
    yield end
  except Aborted as error:
    end.reason = str(error)
  except BaseException as error:
    known = isinstance(error, Interrupted)
    end.reason = str(error) if known else f'{type(error).__name__}: {error}'
    raise
  finally:
    at = clock.stop() if clock.running else None
    # A run that has not resumed may still do so: its log is left as it is.
    if not log.stopped and not log.suspended:
      log.end('run_stop', dataclasses.asdict(end), at=at)


def _resume(
  restored: Restored,
  blocks: Sequence[Block],
  saver: Saver,
  log: RunLog,
  progress: '_Progress',
) -> None:
  """Resumes the clock and the log of the previous process."""
  position = restored.position
  lost = progress.clock.resume(position.clock)
  now = position.clock.at + lost
  saver.started(now)
  place = {
    'step': position.steps,
    'lost_seconds': round(lost, 3),
    **processes(),
    **{f'saved_by_{name}': n for name, n in position.saved_by.items()},
  }
  log.resume({**blocks[position.block].start, **place}, at=now)
  progress.watcher.resumed(position.steps, lost, restored.passed_over)


def _quality(
  program: Program,
  state: State,
  feed: Feed,
  maker: Maker,
  progress: '_Progress',
) -> dict[str, float]:
  """Scores the state; Aborted unless the quality is finite."""
  predictions = _predictions(program, state, feed, progress)
  quality = feed.score(predictions, maker)
  if next(predictions, None) is not None:
    raise RuntimeError('Expected score to consume all predictions.')
  if not all(math.isfinite(value) for value in quality.values()):
    raise Aborted(f'quality is not finite after step {progress.steps}')
  return quality


def _predictions(
  program: Program, state: State, feed: Feed, progress: '_Progress'
) -> Iterator[Any]:
  """Yields the outputs of an eval as numpy arrays, IN_FLIGHT in flight."""
  in_flight: collections.deque[Any] = collections.deque()
  carry = program.carry()
  progress.told('eval')
  for batch in feed.eval_batches():
    carry, output = program.predict(state, batch, carry)
    in_flight.append(output)
    if len(in_flight) > IN_FLIGHT:
      yield host_rows(in_flight.popleft())
    progress.tick()
    progress.told('eval')
  while in_flight:
    yield host_rows(in_flight.popleft())


class _Progress:
  """Counts what a run has done, and waits for the steps in flight."""

  def __init__(self, clock: Clock, watcher: Watcher):
    self.clock = clock
    self.watcher = watcher
    self.losses: list[float] = []
    self.evals: list[Eval] = []
    self.block = 0  # the one in training
    self._done = 0  # its steps that are done
    self._ticks = 0
    self._in_flight: collections.deque[jax.Array] = collections.deque()
    self._made = collections.Counter()  # steps made here, by train step program

  @property
  def steps(self) -> int:
    """Training steps that were dispatched."""
    return len(self.losses) + len(self._in_flight)

  def take_over(self, position: Position) -> None:
    """Continues from where a previous process stood."""
    self.block, self._done = position.block, position.done
    self._ticks = position.ticks
    self.losses = list(position.losses)
    self.evals = [Eval(**found) for found in position.evals]

  def position(self, feed: Feed) -> Position:
    """Waits for the steps in flight -> the place to resume from."""
    self.drain()
    self.told('checkpoint')
    return Position(
      steps=self.steps,
      ticks=self._ticks,
      block=self.block,
      done=self._done,
      evals=[dataclasses.asdict(found) for found in self.evals],
      losses=self.losses,
      clock=self.clock.moment(),
      feed=feed.position(),
      saved_by=processes(),
    )

  def rest_of(self, block: Block) -> Block:
    """The part of a block that is still to be trained."""
    if block.steps is None:
      return block
    return dataclasses.replace(block, steps=block.steps - self._done)

  def next_of(self, batches: Iterator[Any]) -> Any | None:
    """Waits for the next batch; None at the end of the block."""
    self.told('input')
    with self.clock.spent_on('input'):
      return next(batches, None)

  def told(self, place: str) -> None:
    """Tells the watcher where the run is."""
    self.watcher.at(place, self._ticks)

  def tick(self) -> None:
    """Counts a tick, at which a run may be ended from outside."""
    end = self.watcher.interrupted(self._ticks)
    self._ticks += 1
    if end:
      raise _Ending(end)

  def dispatched(self, number: int, loss: jax.Array) -> None:
    """Counts a step by a train step program; waits for one IN_FLIGHT back."""
    self._made[number] += 1
    self._in_flight.append(loss)
    if len(self._in_flight) > IN_FLIGHT:
      self._book(self._in_flight.popleft())
    self._done += 1

  def drain(self) -> None:
    """Waits for all steps in flight."""
    with self.clock.spent_on('compute'):
      while self._in_flight:
        self._book(self._in_flight.popleft())

  def evaluated(self, found: Eval) -> None:
    """Ends a block with its eval."""
    self.evals.append(found)
    self.block, self._done = self.block + 1, 0
    self.watcher.quality(found)

  def samples(self, blocks: Sequence[Block], rows: int) -> int:
    """Samples of all steps, of `rows` each where blocks do not count them.

    About, in the middle of a block.
    """
    if blocks[0].samples is None:
      return self.steps * rows
    whole = sum(block.samples for block in blocks[: self.block])
    if not self._done:
      return whole
    block = blocks[self.block]
    return whole + block.samples * self._done // block.steps

  def mean_of(self, flops: Sequence[float | None]) -> float | None:
    """Mean, over the steps made here, of a number for each train step."""
    found = [(flops[number], times) for number, times in self._made.items()]
    if not found or any(each is None for each, _ in found):
      return None
    return sum(each * times for each, times in found) / self._made.total()

  def _book(self, loss: jax.Array) -> None:
    value = float(jax.device_get(loss))
    self.losses.append(value)
    if not math.isfinite(value):
      raise Aborted(f'non-finite loss ({value}) at step {len(self.losses)}')
    self.watcher.step(len(self.losses), value)


class _Maker:
  """See Maker; a run can be ended between calls."""

  def __init__(self, program: Program, progress: _Progress):
    self._program = program
    self._progress = progress
    self.most, self.total = program.most, program.total

  def call(self, name: str, state: State, argument: Any) -> Any:
    """See Maker; a call is a tick."""
    self._progress.told('input')
    result = self._program.call(name, state, argument)
    self._progress.tick()
    return result
