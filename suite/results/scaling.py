"""Scaling studies: gains and costs of more devices, or of a larger batch.

A point is a number of devices and a global batch, with its runs. The time of a
run is T = S / (X (1 - o)): the samples S that it trained on until the target,
the X samples that its devices computed in a second of computing, and the share
o of its time in which they did not (evals, waiting for input, checkpoints, all
the rest). Hence, exactly, for a point and the reference point, marked 0:

  T0 n0 / (T n)  =  (X / n) / (X0 / n0)  *  S0 / S  *  (1 - o) / (1 - o0)
  total          =  throughput           *  epochs  *  overhead

Samples stand for epochs: they differ by the rest of the last batch. The times,
samples and shares of a point are those of its mean run: sums over its runs.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from suite import hparams as hparams_lib
from suite import names as names_lib
from suite.hparams import Scales
from suite.results.records import RunRecord
from suite.results.scoring import olympic

COMPUTE = 'compute'
STARTUP = 'startup beyond its allowance'
# How rates follow the batch: with which power of it.
POWERS = {'same': 0.0, 'root': 0.5, 'linear': 1.0}


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a point; seconds are on the clock."""

  number: int
  seconds: float | None  # time to quality; None: it missed the target
  samples: int  # trained on
  reached: float | None  # epochs, as the log counts them, at the last eval
  parts: Mapping[str, float]  # seconds by part; they add up to the whole run

  @property
  def whole(self) -> float:
    return sum(self.parts.values())


@dataclasses.dataclass(frozen=True)
class Point:
  """Runs of one system at one batch."""

  devices: int
  processes: int
  batch: int  # global
  runs: tuple[Run, ...]
  dropped: int = 0  # runs that its mean leaves out on either side

  @property
  def name(self) -> str:
    """'2 devices in 1 process, batch 128'."""
    return (
      f'{names_lib.counted(self.devices, "device")} in '
      f'{names_lib.counted(self.processes, "process")}, batch {self.batch}'
    )

  @property
  def kept(self) -> tuple[Run, ...]:
    """The runs that the mean run is made of; () if there is no score."""
    score = olympic([run.seconds for run in self.runs], dropped=self.dropped)
    if score.seconds is None:
      return ()
    out = {*score.fastest, *score.slowest}
    return tuple(run for i, run in enumerate(self.runs) if i not in out)


@dataclasses.dataclass(frozen=True)
class Measured:
  """Numbers of a point, per mean run; None where it has no score."""

  throughput: float  # samples per second of computing, all devices
  overhead: float  # share of the time that is not computing
  seconds: float | None  # time to quality
  samples: float | None  # until the target
  epochs: float | None  # the same as the log counts
  parts: Mapping[str, float]  # seconds by part


@dataclasses.dataclass(frozen=True)
class Efficiency:
  """A point against the reference point: 1 is as good, per device."""

  throughput: float
  epochs: float | None
  overhead: float
  total: float | None


def run_of(record: RunRecord) -> Run:
  """A run by its record."""
  parts = dict(record.timed.parts)
  if record.startup.excess > 0:
    parts[STARTUP] = record.startup.excess
  return Run(
    number=record.run,
    seconds=record.time_to_quality,
    samples=record.samples,
    reached=record.evals[-1].place if record.evals else None,
    parts=parts,
  )


def measure(point: Point) -> Measured:
  """The mean run of a point; of all runs where there is no score."""
  scored = point.kept
  runs = scored or point.runs
  whole = sum(run.whole for run in runs)
  computing = sum(run.parts.get(COMPUTE, 0.0) for run in runs)
  if not computing > 0:
    raise ValueError(
      f'Expected runs that computed for a while at {point.name}, got none.'
    )
  names = dict.fromkeys(name for run in runs for name in run.parts)
  return Measured(
    throughput=sum(run.samples for run in runs) / computing,
    overhead=1 - computing / whole,
    seconds=whole / len(runs) if scored else None,
    samples=_mean([run.samples for run in scored]),
    epochs=_mean([run.reached for run in scored]),
    parts={
      n: sum(r.parts.get(n, 0.0) for r in runs) / len(runs) for n in names
    },
  )


def efficiency(point: Point, reference: Point) -> Efficiency:
  """Compares a point with the reference; see the module."""
  here, there = measure(point), measure(reference)
  per_device = here.throughput / point.devices
  scored = here.seconds is not None and there.seconds is not None
  more = point.devices / reference.devices
  return Efficiency(
    throughput=per_device / (there.throughput / reference.devices),
    epochs=there.samples / here.samples if scored else None,
    overhead=(1 - here.overhead) / (1 - there.overhead),
    total=there.seconds / (here.seconds * more) if scored else None,
  )


def ordered(points: Sequence[Point]) -> list[Point]:
  """Sorts points by devices, then batch; the first is the reference."""
  found = sorted(points, key=lambda p: (p.devices, p.processes, p.batch))
  keys = [(p.devices, p.processes, p.batch) for p in found]
  twice = next((p for i, p in enumerate(found) if keys[i] in keys[:i]), None)
  if twice:
    raise ValueError(f'Expected each point once, got two of {twice.name}.')
  return found


def recipe(reference: Any, batch: int, power: float) -> dict[str, Any]:
  """Changes that carry hyperparameters over to another global batch.

  Each follows the batch as its declaration says, rates with a power of it.
  What Closed fixes, and all else, stays.
  """
  ours = hparams_lib.batch(reference)
  changes: dict[str, Any] = {ours.name: batch}
  if batch == ours.value:
    return changes
  ratio = batch / ours.value
  follow: dict[Scales | None, Callable[[Any], Any]] = {
    Scales.RATE: lambda rate: float(f'{rate * ratio**power:.6g}'),
    Scales.STEPS: lambda steps: max(1, round(steps / ratio)),
    Scales.DIVISOR: lambda most: hparams_lib.largest_divisor(batch, most),
  }
  for each in hparams_lib.declared(reference):
    if each.tunable and each.scales in follow:
      changes[each.name] = hparams_lib.each(each.value, follow[each.scales])
  return changes


def _mean(values: Sequence[float | None]) -> float | None:
  if not values or None in values:
    return None
  return sum(values) / len(values)
