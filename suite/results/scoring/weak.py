"""Weak scaling: models that a whole system trains side by side."""

from collections.abc import Sequence
import dataclasses
import itertools

from suite.results.scoring.runs import Run


@dataclasses.dataclass(frozen=True)
class Throughput:
  """Report of M models on one system, by the rules: T, S, M' and TTT_all.

  Never reported alone: it stands beside the time to quality of one model that
  has the whole system. Nothing is extrapolated: `models` were trained.
  """

  total: int  # T, accelerators of the system
  each: int  # S, accelerators that one model has
  models: int  # M', those that count
  seconds: float | None  # TTT_all: from the first start to the last stop
  counted: tuple[int, ...]  # numbers of the runs that count
  pruned: tuple[tuple[int, str], ...]  # those that do not, and why
  reason: str | None  # why this is no result

  @property
  def per_minute(self) -> float | None:
    """Models trained per minute."""
    return 60 * self.models / self.seconds if self.seconds else None


def throughput(
  runs: Sequence[Run], *, total: int, each: int, required: int
) -> Throughput:
  """The throughput of runs that shared a system of `total` accelerators.

  Of runs with one seed only the first launched counts, and none that missed
  the target. At least `required` must remain. Raises ValueError if the sizes
  cannot be, or if more ran at once than there was room for.
  """
  if not 1 <= each <= total:
    raise ValueError(
      f'Expected 1 to {total} accelerators for each model, got {each}.'
    )
  counted, pruned = _prune(sorted(runs, key=lambda run: run.start_ms or 0))
  _require_room(runs, total, each)
  reason = None
  if len(counted) < required:
    reason = (
      f'No throughput: it takes {required} models that met the target, each '
      f'with a seed of its own, and these are {len(counted)}.'
    )
  return Throughput(
    total=total,
    each=each,
    models=len(counted),
    seconds=None if reason else _span(counted),
    counted=tuple(run.value.run for run in counted),
    pruned=tuple(pruned),
    reason=reason,
  )


def _prune(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[int, str]]]:
  counted, pruned, seeds = [], [], {}
  for run in runs:
    number, seed = run.value.run, run.value.seed
    if run.value.seconds is None:
      pruned.append((number, 'did not meet the target'))
    elif seed is not None and seed in seeds:
      pruned.append((number, f'has the seed of run {seeds[seed]}'))
    else:
      seeds[seed] = number
      counted.append(run)
  return counted, pruned


def _require_room(runs: Sequence[Run], total: int, each: int) -> None:
  timed = [r for r in runs if r.start_ms is not None and r.stop_ms is not None]
  # A run that stops in the millisecond that another starts makes room first.
  moments = sorted(
    [(run.start_ms, 1) for run in timed] + [(run.stop_ms, -1) for run in timed]
  )
  most = max(itertools.accumulate(change for _, change in moments), default=0)
  if most * each > total:
    raise ValueError(
      f'Expected at most {total // each} models of {each} accelerators at once '
      f'on {total}, got {most}.'
    )


def _span(runs: Sequence[Run]) -> float:
  first = min(run.start_ms for run in runs)
  return (max(run.stop_ms for run in runs) - first) / 1000.0
