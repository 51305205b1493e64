"""Places at which audited runs met the target, and their verdict by points."""

import collections
from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from suite.files import is_number
from suite.hparams import batch_key
from suite.results.audit.one import LogAudit
from suite.results.audit.record import Record
from suite.results.convergence.points import Points, Verdict
from suite.results.convergence.store import BY_SAMPLES
from suite.target import Target

# Metrics that are logged one by one; the first place that meets both counts.
_APART = {
  'stable_diffusion': Target(at_least={'CLIP': 0.15}, at_most={'FID': 90.0})
}
# Some log samples in train_samples, their data being less than an epoch: the
# checker's --rcp-bert-train-samples.
_TRAIN_SAMPLES = ('bert',)
_DECIMALS = 3  # of epochs, as the checker rounds them


@dataclasses.dataclass(frozen=True)
class Reached:
  """Place at which each run of a set met the target."""

  benchmark: str
  batch_size: int
  # By run; epochs or samples, as the benchmark counts. None: it never did.
  values: Mapping[int, float | None]
  unit: str  # 'epoch_num', 'samples_count' or 'step_num'


def of(runs: Mapping[int, LogAudit]) -> Reached:
  """Reads from logs where their runs met the target, as the checker does.

  The place is that of the last eval of a log that ended with success. Raises
  ValueError for runs of several benchmarks, batch sizes or units, and for logs
  that do not say theirs.
  """
  benchmark = _one(runs, 'submission_benchmark', str)
  logged = {key for audit in runs.values() for key in audit.log.settings}
  batch_size = _one(runs, batch_key(logged), int)
  places = {number: _place(run, benchmark) for number, run in runs.items()}
  units = {unit for unit, _ in filter(None, places.values())}
  if len(units) > 1:
    raise ValueError(f'Expected evals in one unit, got {sorted(units)}.')
  return Reached(
    benchmark,
    batch_size,
    {number: place and place[1] for number, place in places.items()},
    units.pop() if units else 'epoch_num',
  )


def judge(runs: Mapping[int, LogAudit], points: Points) -> Verdict:
  """Holds the audited runs of a folder to convergence points.

  Raises ValueError for points of another benchmark, and where `of` does.
  """
  found = of(runs)
  if found.benchmark != points.benchmark:
    raise ValueError(
      f'Expected points of {found.benchmark}, got those of {points.benchmark}.'
    )
  return points.judge(found.batch_size, list(found.values.values()))


def _one(runs: Mapping[int, LogAudit], key: str, kind: type) -> Any:
  found = {repr(audit.log.value(key)) for audit in runs.values()}
  if len(found) != 1:
    raise ValueError(
      f'Expected runs of one {key}, got {", ".join(sorted(found)) or "none"}.'
    )
  value = next(iter(runs.values())).log.value(key)
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(f'Expected {key} as {kind.__name__}, got {value!r:.80}.')
  if kind is int and not 1 <= value < 2**53:
    raise ValueError(f'Expected {key} of 1 or more, got {value!r:.80}.')
  return value


def _place(audit: LogAudit, benchmark: str) -> tuple[str, float] | None:
  if not audit.converged:
    return None
  evals = audit.log.of('eval_accuracy')
  if benchmark in _APART:
    return min(_met_apart(evals, _APART[benchmark]), default=None)
  if place := _counted(evals[-1], by_samples=benchmark in BY_SAMPLES):
    samples = audit.log.value('train_samples')
    counted = benchmark in _TRAIN_SAMPLES and place[1] <= 1
    if counted and is_number(samples):
      return place[0], samples
    return place
  raise ValueError(
    f'Expected {"samples_count" if benchmark in BY_SAMPLES else "epoch_num"} '
    f'at the last eval of {audit.log.name}, got none.'
  )


def _counted(record: Record, *, by_samples: bool) -> tuple[str, float] | None:
  """Unit and number of an eval's place; official epochs may hold samples."""
  epochs = record.metadata.get('epoch_num')
  if is_number(epochs) and not by_samples:
    return 'epoch_num', round(epochs, _DECIMALS)
  samples = record.metadata.get('samples_count')
  return ('samples_count', samples) if is_number(samples) else None


def _met_apart(
  evals: list[Record], target: Target
) -> Iterator[tuple[str, float]]:
  found: dict[tuple[str, float], dict[str, Any]]
  found = collections.defaultdict(dict)
  for record in evals:
    # Ruleset 3.1.0 counts steps.
    steps = record.metadata.get('step_num')
    place = _counted(record, by_samples=True) or ('step_num', steps)
    if is_number(place[1]) and is_number(record.value):
      found[place][str(record.metadata.get('metric'))] = record.value
  for place, quality in found.items():
    if quality.keys() >= target.as_dict().keys() and target.met_by(quality):
      yield place
