"""Progress of runs: text for a person, or JSON for a parent process."""

from collections.abc import Callable, Mapping, Sequence
import json
import sys
import time
from typing import TextIO

from launch.support import run_flags
from launch.support.live_line import LiveLine
from suite import names
from suite.results.records import RunRecord
from suite.results.report.format import duration
from suite.results.report.runs import restarts
from suite.run import loop
from suite.run.blocks import Block, where
from suite.target import Target

# A terminal's line is redrawn this often; a file or a parent is told as often.
_SECONDS_BETWEEN = 0.5


def watcher(
  kind: str, blocks: Sequence[Block], request: run_flags.Request
) -> 'RunWatcher':
  """Returns the watcher for `--progress=kind`."""
  steps = [block.steps for block in blocks]
  steps = None if None in steps else sum(steps)
  makers = {'text': TextWatcher, 'json': JsonWatcher, 'none': RunWatcher}
  return makers[kind](steps, request.size.target)


class RunWatcher(loop.Watcher):
  """Silent; what the others share."""

  def __init__(
    self, steps: int | None, target: Target, out: TextIO | None = None
  ):
    """`steps` is the budget of the run; None: it is not known before."""
    self._steps = steps
    self._target = target
    self._out = out or sys.stdout
    self._told = 0.0
    self._first = 0  # steps that a previous process did
    # Raises what has ended the run from outside, at a stage of startup.
    self.starting: Callable[[], None] = lambda: None
    # Who knows, at a tick, what ends the run from outside.
    self.ended: Callable[[int], loop.Interrupted | None] = lambda tick: None

  def stage(self, text):
    """See loop.Watcher."""
    del text
    self.starting()

  def warned(self, text):
    """See loop.Watcher."""
    print(f'warning: {text}', file=sys.stderr, flush=True)

  def result(self, record: RunRecord) -> None:
    """The run is over and this is its record."""

  def interrupted(self, tick):
    """See loop.Watcher."""
    return self.ended(tick)

  def _due(self) -> bool:
    now = time.monotonic()
    if now - self._told < _SECONDS_BETWEEN:
      return False
    self._told = now
    return True


class JsonWatcher(RunWatcher):
  """One JSON object per line, for a parent that shows several runs."""

  def resumed(self, step, lost, notes):
    """See loop.Watcher."""
    self._tell(event='resumed', step=step, lost=lost, notes=list(notes))

  def warned(self, text):
    """See loop.Watcher."""
    self._tell(event='warning', text=text)

  def stage(self, text):
    """See loop.Watcher."""
    super().stage(text)
    self._tell(event='stage', text=text, steps=self._steps)

  def step(self, step, loss):
    """See loop.Watcher."""
    if self._due():
      self._tell(event='step', step=step, loss=loss)

  def quality(self, found):
    """See loop.Watcher."""
    self._tell(
      event='quality',
      step=found.step,
      at=dict(found.at),
      quality=dict(found.quality),
      seconds=found.seconds,
    )

  def _tell(self, **event) -> None:
    print(json.dumps(event), file=self._out, flush=True)


class TextWatcher(RunWatcher):
  """A line per eval, and on a terminal a live line between them."""

  def __init__(self, steps: int, target: Target, out: TextIO | None = None):
    super().__init__(steps, target, out)
    self._line = LiveLine(self._out)
    self._began = time.monotonic()

  def resumed(self, step, lost, notes):
    """See loop.Watcher."""
    self._first, self._began = step, time.monotonic()
    for note in notes:
      self._line.keep(f'a checkpoint was passed over: {note}')
    self._line.keep(resumed_text(step, lost))

  def warned(self, text):
    """See loop.Watcher."""
    self._line.clear()
    super().warned(text)

  def stage(self, text):
    """See loop.Watcher."""
    super().stage(text)
    self._line.show(f'{text} ...')

  def step(self, step, loss):
    """See loop.Watcher."""
    if step == 1:
      self._began = time.monotonic()
    if self._due():
      elapsed = time.monotonic() - self._began
      self._line.show(
        step_text(step, self._steps, loss, elapsed, first=self._first)
      )

  def quality(self, found):
    """See loop.Watcher."""
    self._line.keep(
      f'{where(found.at):>10}  {qualities(found.quality)}  '
      f'(target {self._target})  {duration(found.seconds)}'
    )

  def result(self, record):
    """See RunWatcher."""
    self._line.clear()
    print(outcome(record), file=self._out, flush=True)


def step_text(
  step: int,
  steps: int | None,
  loss: float,
  seconds: float,
  *,
  first: int = 0,
) -> str:
  """'step 310 of at most 1250, loss 0.61, 27 steps/s, 11.4 s'.

  The seconds are those since step `first`; None: no bound is known.
  """
  rate = (step - first) / seconds if seconds > 0 else 0.0
  bound = '' if steps is None else f' of at most {steps}'
  return (
    f'step {step}{bound}, loss {loss:.3f}, '
    f'{rate:.1f} steps/s, {duration(seconds)}'
  )


def resumed_text(step: int, lost: float) -> str:
  """'resumed after step 310, 11.4 s after its checkpoint'."""
  return f'resumed after step {step}, {duration(lost)} after its checkpoint'


def qualities(quality: Mapping[str, float]) -> str:
  """{'accuracy': 0.97} -> 'accuracy 0.9700'."""
  return ', '.join(f'{name} {value:.4f}' for name, value in quality.items())


def outcome(record: RunRecord) -> str:
  """A finished run in one line."""
  return f'run {record.run}: {outcome_text(record)}'


def outcome_text(record: RunRecord) -> str:
  """The same without the number of the run."""
  final = record.evals[-1].quality if record.evals else {}
  seconds = record.time_to_quality
  ended = f'time to quality {duration(seconds)}' if seconds else record.reason
  spent = ', '.join(
    f'{name} {duration(s)}' for name, s in record.timed.parts.items()
  )
  skipped = names.counted(len(record.data.skipped_records), 'training record')
  parts = [
    f'{record.status}, {ended}',
    qualities(final) or 'no eval',
    f'startup {duration(record.startup.seconds)}',
    spent,
    f'{skipped} could not be read' if record.data.skipped_records else '',
    restarts(record),
  ]
  return '; '.join(filter(None, parts))
