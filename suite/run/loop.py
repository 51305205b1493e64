"""The one train loop, from compiled programs to a result."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
from typing import Any

import jax

from suite.clock import Clock
from suite.run.checkpoint import Checkpoints, Position, Restored
from suite.run.feed import Block, Data, Feed
from suite.run.program import Build, Program, host_rows, rows_of
from suite.run.run_log import ABORTED, SUCCESS, RunLog
from suite.run.task import Facts, State, Task
from suite.target import Target

# Steps and predictions that may be under way when the next is dispatched. Two
# hide the host; without a bound, several CPU devices deadlock.
IN_FLIGHT = 2

# What hosts vote at the end of a block; the largest number counts for all.
_GO_ON, _SAVE, _FAILED, _MET = range(4)


class Aborted(Exception):
  """Ends a run that will not reach its target; the message says why."""


class Interrupted(BaseException):
  """A signal ended the run from outside."""

  def __init__(self, name: str, number: int):
    super().__init__(f'interrupted by {name}')
    self.number = number
    self.saved: int | None = None  # steps of the checkpoint that it left


@dataclasses.dataclass(frozen=True)
class Eval:
  """The quality at one point of a run."""

  at: Mapping[str, float]  # as the log names the place: {'epoch_num': 4}
  step: int  # training steps done
  seconds: float  # on the clock, when the quality was known
  quality: Mapping[str, float]
  # What the feed said of the data of the block before, by key of the log.
  statistics: Mapping[str, float] = dataclasses.field(default_factory=dict)


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
  samples: int  # that the steps trained on
  flops_per_step: float | None  # of the steps made here, on average


class _Ending(Exception):
  """All hosts have agreed to end here; no step is under way."""

  def __init__(self, by: Interrupted):
    super().__init__(str(by))
    self.by = by


class Watcher:
  """What a run tells while it works; this one is silent."""

  def stage(self, text: str) -> None:
    """Startup has come to `text`."""

  def resumed(self, step: int, lost: float, notes: Sequence[str]) -> None:
    """The run goes on after `step` of a dead process, `lost` seconds later.

    `notes` say which newer checkpoints were not restored, and why.
    """

  def at(self, place: str, tick: int) -> None:
    """The run is now in `place`: 'input', 'compute', 'eval' or 'checkpoint'.

    A tick is a training step, a batch of an eval, or a call of what a feed
    makes data with, counted from 0 through the whole run; all hosts count
    alike.
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
  and the run goes on from the newest of the `checkpoints`. Whatever ends the
  run, the log says so; an error other than a bad loss is raised again.
  """
  programs = _Programs(task, mesh, build, checkpoints)
  blocks = task.blocks(facts)
  progress = _Progress(
    task, blocks, clock, log, watcher or Watcher(), checkpoints
  )
  with contextlib.ExitStack() as opened:  # closed when the clock has stopped
    result = _run(facts, target, data, seed, programs, progress, opened)
  if checkpoints:
    checkpoints.remove()  # they are not the result
  return result


@dataclasses.dataclass(frozen=True)
class _Programs:
  """What is compiled for a run."""

  task: Task
  mesh: jax.sharding.Mesh
  build: Build | None
  checkpoints: Checkpoints | None

  def ready(self, clock: Clock, watcher: Watcher) -> Program:
    """Compiles all, and tries it out."""
    watcher.stage('compiling')
    program = Program.build(self.task, self.mesh, clock, self.build)
    if self.checkpoints:
      with clock.spent_on('compile'):
        self.checkpoints.prepare(program.state_spec(self.task))
    watcher.stage('warming up')
    with clock.spent_on('warm-up'):
      program.warm_up(self.task)
    return program


def _run(facts, target, data, seed, programs, progress, opened) -> Result:
  clock, log = progress.clock, progress.log
  try:
    progress.program = program = programs.ready(clock, progress.watcher)
    if log.suspended:
      restored = progress.restore()
      program.any_host(False)  # all hosts meet here before the clock goes on
      progress.resume(restored)
      data = dataclasses.replace(data, position=restored.position.feed)
    else:
      progress.begin(seed, data.location)
      log.end('init_stop')
      program.any_host(False)  # all hosts meet here before the clock starts
      log.start('run_start', at=clock.start())
    reason = _train(facts, target, data, progress, opened)
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
    samples=progress.samples,
    flops_per_step=progress.flops_per_step,
  )


def _train(facts, target, data, progress, opened) -> str:
  # Opening the data is the first thing on the clock.
  with progress.clock.spent_on('input'):
    feed = progress.task.open(data, facts)
  opened.callback(feed.close)
  blocks = progress.blocks
  with jax.transfer_guard('disallow'):
    try:
      while progress.block < len(blocks):
        block = blocks[progress.block]
        progress.train(feed, block)
        quality = progress.evaluate(feed, block)
        if progress.block_ends(feed, target.met_by(quality), len(blocks)):
          return 'target met'
    except _Ending as ending:
      progress.leave(feed, ending.by)
      raise ending.by from None
  last = ', '.join(f'{k} {v:g}' for k, v in block.at.items())
  raise Aborted(f'target {target} not met by the last eval, {last}')


def _stop(clock: Clock, log: RunLog, status: str, reason: str) -> None:
  at = clock.stop() if clock.running else None
  # A run that has not gone on may still do so: its log is left as it is.
  if not log.stopped and not log.suspended:
    log.end('run_stop', {'status': status, 'reason': reason}, at=at)


class _Progress:
  """Where a run stands: its state, losses and evals, kept, logged, watched."""

  program: Program
  state: State

  def __init__(
    self,
    task: Task,
    blocks: Sequence[Block],
    clock: Clock,
    log: RunLog,
    watcher: Watcher,
    checkpoints: Checkpoints | None,
  ):
    self.task = task
    self.blocks = blocks
    self.clock = clock
    self.log = log
    self.watcher = watcher
    self.checkpoints = checkpoints
    self.losses: list[float] = []
    self.evals: list[Eval] = []
    self.block = 0  # the one that is trained in
    self._done = 0  # its steps that are done
    self._statistics: Mapping[str, float] = {}  # of its data
    self._made = collections.Counter()  # steps made here, by number of program
    self._ticks = 0
    self._pending: collections.deque[Any] = collections.deque()

  def begin(self, seed: int, location: str) -> None:
    """Makes the state that a run starts with, with the data at `location`."""
    self.watcher.stage('initialising')
    with self.clock.spent_on('init'):
      given = self.task.given(location)
      state = self.program.fresh_state(seed, given)
      self.state = jax.block_until_ready(state)
    for tensor in self.task.tensors:
      self.log.event('weights_initialization', None, {'tensor': tensor})
    if self.checkpoints:
      self.checkpoints.started(self.clock.now())

  def restore(self) -> Restored:
    """Takes over what the newest good checkpoint holds."""
    self.watcher.stage('restoring')
    with self.clock.spent_on('restore'):
      restored = self.checkpoints.restore(self.program.most)
    self.state, position = restored.state, restored.position
    self.block, self._done = position.block, position.done
    self._ticks = position.ticks
    self.losses = list(position.losses)
    self.evals = [Eval(**found) for found in position.evals]
    return restored

  def resume(self, restored: Restored) -> None:
    """Goes on with the clock and the log of the dead process."""
    position = restored.position
    lost = self.clock.resume(position.clock)
    now = position.clock.at + lost
    self.checkpoints.started(now)
    place = {
      'step': position.steps,
      'lost_seconds': round(lost, 3),
      **_processes(),
      **{f'saved_by_{name}': n for name, n in position.saved_by.items()},
    }
    block = self.blocks[position.block]
    self.log.resume({**block.start, **place}, at=now)
    self.watcher.resumed(position.steps, lost, restored.passed_over)

  def train(self, feed: Feed, block: Block) -> None:
    """Runs what remains of a block; Aborted at a loss that is not finite."""
    self.log.start('block_start', block.start)
    rest = block
    if block.steps is not None:
      rest = dataclasses.replace(block, steps=block.steps - self._done)
    batches = feed.train_block(rest, self.state, _Maker(self))
    steps = self.program.train_step
    while (batch := self._next(batches)) is not None:
      self.watcher.at('compute', self._ticks)
      with self.clock.spent_on('compute'):
        number = steps.which(batch)
        self.state, metrics = steps.programs[number](self.state, batch)
        self._made[number] += 1
        self._pending.append(metrics['loss'])
        if len(self._pending) > IN_FLIGHT:
          self._book(self._pending.popleft())
      self._done += 1
      self._tick()
      if self.checkpoints and self.checkpoints.due_at(self._steps):
        self._save(feed)
    self._drain()
    self._statistics = dict(feed.statistics())
    for key, value in self._statistics.items():
      self.log.statistic(key, value, block.at)
    self.log.end('block_stop', block.stop)

  def evaluate(self, feed: Feed, block: Block) -> Mapping[str, float]:
    """Scores the state; the whole of it is on the clock."""
    with self.clock.spent_on('eval'):
      self.log.start('eval_start', block.at)
      outputs = _fetched(self._outputs(feed))
      quality = feed.score(outputs, _Maker(self))
      if next(outputs, None) is not None:
        raise RuntimeError('Expected score to consume all predictions.')
      if not all(math.isfinite(v) for v in quality.values()):
        raise Aborted(f'quality is not finite after step {len(self.losses)}')
      found = Eval(
        block.at,
        len(self.losses),
        self.clock.timed,
        quality,
        self._statistics,
      )
      value = quality if len(quality) > 1 else next(iter(quality.values()))
      self.log.event('eval_accuracy', value, block.at)
      self.log.end('eval_stop', block.at)
    self.evals.append(found)
    self.watcher.quality(found)
    return quality

  def block_ends(self, feed: Feed, met: bool, blocks: int) -> bool:
    """Agrees with all hosts on what follows: whether the target is met."""
    self.block, self._done = self.block + 1, 0
    verdict = self.program.most(_MET if met else self._wish(blocks))
    if verdict == _FAILED:
      raise self.checkpoints.error()
    if verdict == _SAVE:
      self._save(feed)
    return verdict == _MET

  def leave(self, feed: Feed, end: Interrupted) -> None:
    """Leaves a checkpoint, complete when this returns, if any are saved."""
    self._drain()
    if not self.checkpoints or not self.checkpoints.saves or not self._steps:
      return
    self._save(feed)
    with self.clock.spent_on('checkpoint'):
      if self._agree_that_all(self.checkpoints.finish()):
        end.saved = self._steps

  @property
  def samples(self) -> int:
    """The samples of all steps; in the midst of a block, about."""
    blocks = self.blocks
    if blocks[0].samples is None:
      (spec,) = self.program.train_step.specs
      return self._steps * rows_of(spec)
    whole = sum(block.samples for block in blocks[: self.block])
    if not self._done:
      return whole
    block = blocks[self.block]
    return whole + block.samples * self._done // block.steps

  @property
  def flops_per_step(self) -> float | None:
    """Operations of a step made here, on all devices, on average."""
    flops = [(self.program.flops[n], times) for n, times in self._made.items()]
    if not flops or any(each is None for each, _ in flops):
      return None
    return sum(each * times for each, times in flops) / self._made.total()

  @property
  def _steps(self) -> int:
    return len(self.losses) + len(self._pending)

  def _wish(self, blocks: int) -> int:
    if not self.checkpoints or self.block == blocks:
      return _GO_ON
    if self.checkpoints.failed():
      return _FAILED
    return _SAVE if self.checkpoints.due(self.clock.now()) else _GO_ON

  def _save(self, feed: Feed) -> None:
    """Starts to write a checkpoint, when the one before is done."""
    self._drain()
    self.watcher.at('checkpoint', self._ticks)
    with self.clock.spent_on('checkpoint'):
      if not self._agree_that_all(self.checkpoints.finish()):
        raise self.checkpoints.error()
      self.checkpoints.save(self.state, self._position(feed))

  def _agree_that_all(self, well: bool) -> bool:
    return not self.program.any_host(not well)

  def _position(self, feed: Feed) -> Position:
    return Position(
      steps=self._steps,
      ticks=self._ticks,
      block=self.block,
      done=self._done,
      evals=[dataclasses.asdict(found) for found in self.evals],
      losses=self.losses,
      clock=self.clock.moment(),
      feed=feed.position(),
      saved_by=_processes(),
      origin=self.checkpoints.origin,
    )

  def call(self, name: str, state: State, argument: Any) -> Any:
    """A call of what is staged, which is a tick."""
    self.watcher.at('input', self._ticks)
    result = self.program.call(name, state, argument)
    self._tick()
    return result

  def _next(self, batches: Iterator[Any]) -> Any | None:
    self.watcher.at('input', self._ticks)
    with self.clock.spent_on('input'):
      return next(batches, None)

  def _outputs(self, feed: Feed) -> Iterator[Any]:
    self.watcher.at('eval', self._ticks)
    carry = self.program.carry()
    for batch in feed.eval_batches():
      carry, output = self.program.predict(self.state, batch, carry)
      yield output
      self._tick()
      self.watcher.at('eval', self._ticks)

  def _tick(self) -> None:
    end = self.watcher.interrupted(self._ticks)
    self._ticks += 1
    if end:
      raise _Ending(end)

  def _drain(self) -> None:
    with self.clock.spent_on('compute'):
      while self._pending:
        self._book(self._pending.popleft())

  def _book(self, loss: jax.Array) -> None:
    # Waits for a step that lies IN_FLIGHT steps back, so the device is busy.
    value = float(jax.device_get(loss))
    self.losses.append(value)
    if not math.isfinite(value):
      raise Aborted(f'non-finite loss ({value}) at step {len(self.losses)}')
    self.watcher.step(len(self.losses), value)


class _Maker:
  """See Maker; a run can be ended between calls."""

  def __init__(self, progress: _Progress):
    self._progress = progress
    self.most = progress.program.most
    self.total = progress.program.total

  def call(self, name: str, state: State, argument: Any) -> Any:
    return self._progress.call(name, state, argument)


def _processes() -> dict[str, int]:
  return {'processes': jax.process_count(), 'devices': jax.device_count()}


def _fetched(outputs: Iterator[Any]) -> Iterator[Any]:
  """Device outputs -> host arrays, IN_FLIGHT of them under way."""
  pending: collections.deque[Any] = collections.deque()
  for output in outputs:
    pending.append(output)
    if len(pending) > IN_FLIGHT:
      yield host_rows(pending.popleft())
  while pending:
    yield host_rows(pending.popleft())
