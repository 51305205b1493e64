"""When audited runs met the target, and so what the points say of them."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
import csv
import dataclasses
import os
from typing import TYPE_CHECKING, Any

from suite.hparams import batch_key
from suite.results.convergence.points import Points, Verdict
from suite.results.convergence.store import BY_SAMPLES, is_number

if TYPE_CHECKING:  # the audit may call this package in its turn
  from suite.results.audit import LogAudit
  from suite.target import Target

# Metrics that are scored apart, of which the first point counts where both
# are met: {benchmark: {metric: (is more better, bound)}}.
_APART = {'stable_diffusion': {'FID': (False, 90.0), 'CLIP': (True, 0.15)}}
_DECIMALS = 3  # of epochs, as the checker rounds them


@dataclasses.dataclass(frozen=True)
class Convergence:
  """When each run of a set met the target."""

  benchmark: str
  batch_size: int
  # By run; epochs or samples, as the benchmark counts. None: it never did.
  values: Mapping[int, float | None]


def convergence(runs: Mapping[int, LogAudit]) -> Convergence:
  """When the runs of a set met the target, as the official checker reads it.

  That is the count at the last eval of a log that ended with success. Raises
  ValueError if the runs are of several benchmarks or batch sizes, or do not say
  what theirs is.
  """
  benchmark = _one(runs, 'submission_benchmark', str)
  logged = {key for audit in runs.values() for key in audit.log.settings}
  batch_size = _one(runs, batch_key(logged), int)
  return Convergence(
    benchmark,
    batch_size,
    {number: _value(audit, benchmark) for number, audit in runs.items()},
  )


def judge(runs: Mapping[int, LogAudit], points: Points) -> Verdict:
  """What the points say of the audited runs of a folder.

  Raises ValueError if the points are those of another benchmark, or where
  `convergence` does.
  """
  found = convergence(runs)
  if found.benchmark != points.benchmark:
    raise ValueError(
      f'Expected points of {found.benchmark}, got those of {points.benchmark}.'
    )
  return points.judge(found.batch_size, list(found.values.values()))


def factor(verdict: Verdict | None) -> float:
  """What times are multiplied by; 1 without points, and where they reject.

  In Closed alone: Open has no reference to be faster than. Nothing is read from
  or written to the folder of the runs.
  """
  return verdict.factor if verdict and verdict.passed else 1.0


def from_curves(
  path: str | os.PathLike, target: Target, *, variant: str = 'reference'
) -> list[float | None]:
  """Epochs to the target of each seed in a table of whole curves.

  The table is a CSV with the columns variant, seed, epoch and the target's one
  metric. Raises ValueError where it lacks them or the variant.
  """
  (metric,) = target.as_dict()
  columns = {'variant', 'seed', 'epoch', metric}
  curves: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
  with open(path, encoding='utf-8', newline='') as file:
    reader = csv.DictReader(file)
    if missing := columns - set(reader.fieldnames or ()):
      raise ValueError(
        f'Expected the columns {", ".join(sorted(columns))} in {path}, got no '
        f'{", ".join(sorted(missing))}.'
      )
    for row in reader:
      if row['variant'] == variant:
        curves[row['seed']].append(_row(path, reader.line_num, row, metric))
  if not curves:
    raise ValueError(f'Expected curves of variant {variant!r} in {path}.')
  return [
    min((e for e, q in curve if target.met_by({metric: q})), default=None)
    for curve in curves.values()
  ]


def _row(path, line: int, row: Mapping[str, str], metric: str):
  try:
    # A run that ended before its first eval has no quality.
    return float(row['epoch']), float(row[metric] or 'nan')
  except (TypeError, ValueError):
    raise ValueError(
      f'Expected numbers as epoch and {metric} in line {line} of {path}, '
      f'got {row["epoch"]!r} and {row[metric]!r}.'
    ) from None


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


def _value(audit: LogAudit, benchmark: str) -> float | None:
  if not audit.summary.converged:
    return None
  if benchmark in _APART:
    return min(_met_apart(audit, _APART[benchmark]), default=None)
  at = _samples if benchmark in BY_SAMPLES else _epochs
  evals = audit.log.of('eval_accuracy')
  value = at(evals[-1].metadata) if evals else None
  if value is None:
    raise ValueError(
      f'Expected {at.__name__[1:]} at the last eval of {audit.log.name}, '
      'got none.'
    )
  return value


def _epochs(metadata: Mapping[str, Any]) -> float | None:
  value = metadata.get('epoch_num')
  return round(value, _DECIMALS) if is_number(value) else None


def _samples(metadata: Mapping[str, Any]) -> float | None:
  value = metadata.get('samples_count')
  return value if is_number(value) else None


def _met_apart(
  audit: LogAudit, bounds: Mapping[str, tuple[bool, float]]
) -> Iterator[float]:
  found: dict[float, dict[str, Any]] = collections.defaultdict(dict)
  for record in audit.log.of('eval_accuracy'):
    at = _samples(record.metadata)
    # Ruleset 3.1.0 counts steps.
    at = record.metadata.get('step_num') if at is None else at
    if is_number(at) and is_number(record.value):
      found[at][str(record.metadata.get('metric'))] = record.value
  for at, quality in found.items():
    if all(
      name in quality
      and (quality[name] >= bound if more else quality[name] <= bound)
      for name, (more, bound) in bounds.items()
    ):
      yield at
