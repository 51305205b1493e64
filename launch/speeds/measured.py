"""Measures the programs of a run, one after another, without training."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import math
import statistics
import time
from typing import Any

import jax

from launch.speeds import pace, rates
from launch.speeds.pace import Pace
from launch.speeds.sources import Source
from suite.run import program as program_lib
from suite.run.program import ByShape, Program, host_rows
from suite.run.task import Task

TRAIN, EVAL, STAGED = PROGRAMS = ('train_step', 'predict', 'staged')


@dataclasses.dataclass(frozen=True)
class Measured:
  """One program, by the batches that it was run on."""

  kind: str  # of PROGRAMS
  name: str  # 'train_step', 'predict 64x31', 'staged play'
  contents: Mapping[str, float]  # of a batch: {'samples': 64.0}
  pace: Pace
  # Of the program; {} where batches of several shapes took turns.
  figures: rates.Figures
  is_finite: bool = True  # whether the loss was

  @property
  def plain(self) -> dict[str, Any]:
    """The same as JSON holds it."""
    seconds = self.pace.mean
    return {
      'kind': self.kind,
      'name': self.name,
      'contents': dict(self.contents),
      'rates': {unit: n / seconds for unit, n in self.contents.items()},
      **dataclasses.asdict(self.pace),
      'precise': self.pace.is_precise,
      'finite': self.is_finite,
      **self.figures,
    }


@dataclasses.dataclass(frozen=True)
class Meter:
  """Measures programs of a task on a machine."""

  task: Task
  program: Program
  machine: rates.Machine
  source: Source
  mixed: bool  # whether the source gives batches of all shapes as they come

  def measure(self, kinds: Sequence[str], seconds: float) -> list[Measured]:
    """Measures the programs of those kinds, which share the seconds evenly."""
    plan: list[Callable[[float], list[Measured]]] = []
    for kind, one, specs in (
      (TRAIN, self._train, self.task.train_specs),
      (EVAL, self._evaluate, self.task.eval_specs),
    ):
      numbers = range(1 if self.mixed else len(specs)) if kind in kinds else ()
      plan += [functools.partial(one, number) for number in numbers]
    if STAGED in kinds and self.task.staged():
      plan.append(self._staged)
    return [found for each in plan for found in each(seconds / len(plan))]

  def _train(self, number: int, seconds: float) -> list[Measured]:
    state, last, taken = self.program.fresh_state(0), math.nan, Counter()
    stream = self.source.train(number, lambda: state)

    def dispatch():
      nonlocal state
      batch = next(stream.batches)
      which = self.program.train_step.which(batch)
      taken[which] += 1
      state, metrics = self.program.train_step.programs[which](state, batch)
      return metrics['loss']

    def wait(loss):
      nonlocal last
      last = float(jax.device_get(loss))

    found = self._paced(dispatch, wait, seconds)
    flops = [self.program.flops[which] for which in taken.elements()]
    return [
      self._found(
        TRAIN, number, self.program.train_step, stream.contents, found,
        flops=None if None in flops else statistics.fmean(flops),
        is_finite=math.isfinite(last),
      )
    ]  # fmt: skip

  def _evaluate(self, number: int, seconds: float) -> list[Measured]:
    state, carry = self.program.fresh_state(0), self.program.carry()
    stream = self.source.evaluate(number)

    def dispatch():
      nonlocal carry
      batch = next(stream.batches)
      carry, output = self.program.predict(state, batch, carry)
      return output

    found = self._paced(dispatch, host_rows, seconds)
    return [
      self._found(EVAL, number, self.program.predict, stream.contents, found)
    ]

  def _staged(self, seconds: float) -> list[Measured]:
    """Times each call that the task rehearses, after a rehearsal."""
    state, maker = self.program.fresh_state(0), _Timed(self.program)
    self.task.rehearse(state, maker)
    maker.steps.clear()
    began, more = time.perf_counter(), 1
    while more:
      self.task.rehearse(state, maker)
      more = int(time.perf_counter() - began < seconds)
      more = self.program.most(more) if self._agree else more
    return [
      Measured(
        STAGED,
        f'{STAGED} {name}',
        {'calls': 1.0},
        found := pace.summary(steps, self._telling),
        self._figures(self.program.staged[name], found),
      )
      for name, steps in maker.steps.items()
    ]

  @property
  def _agree(self) -> Callable[[int], int] | None:
    return self.program.most if jax.process_count() > 1 else None

  def _paced(self, dispatch, wait, seconds: float) -> Pace:
    return pace.measure(
      dispatch, wait, seconds=seconds, telling=self._telling, agree=self._agree
    )

  def _telling(self, step: pace.Step) -> float:
    """Seconds of all cores on CPUs, which others at work change least."""
    return step.processor if self.machine.is_cpu else step.seconds

  def _found(
    self, kind: str, number: int, programs: ByShape,
    contents: Mapping[str, float], found: Pace, *,
    flops: float | None = None, is_finite: bool = True,
  ) -> Measured:  # fmt: skip
    several, figures = len(programs.specs) > 1, {}
    if not (self.mixed and several):
      figures = self._figures(programs.programs[number], found, flops)
    shape = program_lib.label(programs.specs[number])
    name = f'{kind} {shape}' if several and not self.mixed else kind
    return Measured(kind, name, contents, found, figures, is_finite)

  def _figures(
    self, compiled: Any, found: Pace, flops: float | None = None
  ) -> rates.Figures:
    return rates.figures(
      compiled, self.machine, flops=flops, seconds=found.mean
    )


class _Timed:
  """A `suite.run.feed.Maker` that times each call."""

  def __init__(self, program: Program):
    self._program = program
    self.most, self.total = program.most, program.total
    self.steps: dict[str, list[pace.Step]] = defaultdict(list)

  def call(self, name: str, state: Any, argument: Any) -> Any:
    """See Maker; waits for the result."""
    began, worked = time.perf_counter(), time.process_time()
    result = self._program.call(name, state, argument)
    host = time.perf_counter() - began
    jax.block_until_ready(result)
    self.steps[name].append(
      pace.Step(time.perf_counter() - began, host, time.process_time() - worked)
    )
    return result
