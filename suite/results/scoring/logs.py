"""Scores a folder of logs: what counts is what the logs say, nothing else."""

from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib

from suite import benchmark as benchmark_lib
from suite import files
from suite import names as names_lib
from suite.results import audit, old_logs
from suite.results.audit import compared
from suite.results.audit.claim import Lookup
from suite.results.audit.compared import Compared
from suite.results.audit.findings import show
from suite.results.audit.quality import CONVERGED
from suite.results.audit.runs import COUNT, unread
from suite.results.records import Convergence, Reference, Score, Split, Value
from suite.results.scoring.olympic import CONFIDENCE, Olympic, olympic
from suite.results.scoring.rounds import Convention, convention
from suite.results.scoring.runs import Run, from_audit, from_old
from suite.results.scoring.spread import split
from suite.results.scoring.weak import Throughput, throughput
from suite.results.scoring.windows import median_window

# Rules of the audit that hold for all runs, where scoring picks some.
_COUNTED_HERE = (COUNT, CONVERGED, compared.RULE)


@dataclasses.dataclass(frozen=True)
class _Set:
  """The runs of a folder, and how they are scored."""

  runs: Sequence[Run]
  convention: Convention
  old: str | None = None  # the round, if it is one before v0.7
  audited: audit.SetAudit | None = None


def score(
  directory: str,
  *,
  command: Sequence[str] = (),
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> Score:
  """Scores the logs in a folder.

  `reason` is None if the score is a result: enough runs, and no error in the
  audit. Of more runs than a result takes, the window of runs with the median
  score counts. In Closed, times are multiplied by what the convergence points
  ask for; no factor is ever read from a file of the folder. `command` is how
  the score was asked for. Raises ValueError if there are no logs to score.
  """
  made = _read(directory, get, ruleset)
  window, found = _scored(made.runs, made.convention)
  counted = [made.runs[i] for i in window] if window else list(made.runs)
  points = _compared(made, counted)
  if points.factor != 1:
    found = _olympic(counted, made.convention, points.factor)
  first, spread = counted[0], found.spread
  claim = made.audited.runs[first.value.run].claim if made.audited else None
  return Score(
    benchmark=first.benchmark,
    size=claim.size_name if claim else 'reference',
    draft=bool(claim and claim.draft),
    division=first.division,
    target=str(claim.size.target) if claim and claim.size else None,
    runs=len(made.runs),
    required_runs=made.convention.runs,
    score_seconds=found.seconds,
    unnormalised_seconds=found.seconds and found.seconds / points.factor,
    factor=points.factor,
    values=_values(made.runs, counted, found),
    window=[run.value.run for run in counted] if window else None,
    mean=spread and spread.mean,
    std=spread and spread.std,
    coefficient_of_variation=spread and spread.relative,
    interval=found.interval,
    bootstrap=_bounds(found.bootstrap),
    confidence=CONFIDENCE,
    split=_split(counted),
    convergence=_convergence(points),
    findings=[str(f) for f in made.audited.findings] if made.audited else [],
    reason=_reason(made, found, points, windowed=bool(window)),
    command=list(command or ('python', '-m', 'launch.score', directory)),
  )


def side_by_side(
  directory: str, total: int, each: int, *, get: Lookup = benchmark_lib.get
) -> Throughput:
  """Scores a folder of models that were trained at once; see `throughput`."""
  made = _read(directory, get)
  required = made.convention.runs or 1
  return throughput(made.runs, total=total, each=each, required=required)


def folders(root: str) -> list[str]:
  """The folders of runs in `root`, or itself; links are not followed."""
  found = []
  for folder, inside, names in os.walk(root):
    if any(map(files.is_log, names)):
      found.append(folder)
      inside.clear()  # attempts that were interrupted make no set
  return sorted(found)


def logs_in(directory: str) -> dict[int, pathlib.Path]:
  """The logs in a folder by their numbers."""
  if not os.path.isdir(directory):
    raise ValueError(f'Expected a folder of logs, got {directory!r}.')
  return files.logs(directory)[0]


def _read(directory: str, get: Lookup, ruleset: str = '') -> _Set:
  found = logs_in(directory)
  if not found:
    others = ', '.join(map(show, unread(pathlib.Path(directory))[:5]))
    beside = f'; named otherwise: {others}' if others else ''
    raise ValueError(
      f'Expected result_<number>.txt in {directory!r}, got none{beside}.'
    )
  old = old_logs.round_of(next(iter(found.values())))
  if old:
    logs = {number: old_logs.read(path) for number, path in found.items()}
    read = [from_old(number, log) for number, log in logs.items()]
    return _chosen(_Set(read, convention(read[0].benchmark), old))
  checked = audit.examine_set(directory, get, ruleset=ruleset or None)
  read = [_run(number, each) for number, each in checked.runs.items()]
  known = checked.benchmark
  asked = Convention(**known.scored) if known else None
  asked = asked or convention(read[0].benchmark)
  return _chosen(_Set(read, asked, audited=checked))


def _chosen(made: _Set) -> _Set:
  """The set without the runs that its convention never counts."""
  if not made.convention.only_converged:
    return made
  ordered = sorted(made.runs, key=_launch)
  kept = [run for run in ordered if run.value.seconds is not None]
  kept = kept[: made.convention.runs] or ordered
  return dataclasses.replace(made, runs=kept)


def _run(number: int, each: audit.LogAudit) -> Run:
  # Official rounds refuse a startup beyond the allowance (the audit says so)
  # and publish run_stop - run_start; ours are charged for it.
  allowance = math.inf
  if each.claim.ours:
    allowance = each.claim.startup_allowance
  return from_audit(number, each, allowance)


def _launch(run: Run) -> float:
  return math.inf if run.start_ms is None else run.start_ms


def _scored(
  runs: Sequence[Run], asked: Convention
) -> tuple[list[int] | None, Olympic]:
  """Indices of the runs that count, None for all, and their score."""
  if asked.runs is None or len(runs) <= asked.runs:
    return None, _olympic(runs, asked, 1.0)
  order = sorted(range(len(runs)), key=lambda i: _launch(runs[i]))
  window = median_window(
    [runs[i].value.seconds for i in order],
    runs=asked.runs,
    dropped=asked.dropped,
  )
  return [order[i] for i in window.runs], window.score


def _olympic(runs: Sequence[Run], asked: Convention, factor: float) -> Olympic:
  return olympic(
    [run.value.seconds for run in runs],
    dropped=asked.dropped,
    required=asked.runs,
    factor=factor,
  )


def _compared(made: _Set, counted: Sequence[Run]) -> Compared:
  """The runs that count beside the reference.

  Logs of others do not say which ruleset they follow, and times are not
  multiplied by a guess.
  """
  checked = made.audited
  if checked is None:
    return Compared()
  chosen = {run.value.run: checked.runs[run.value.run] for run in counted}
  if not compared.certain(chosen):
    return Compared()
  if len(chosen) == len(checked.runs):
    return checked.compared
  known = checked.name, checked.benchmark, checked.ruleset
  return compared.compare(chosen, *known)


def _convergence(found: Compared) -> Convergence | None:
  if found.verdict is None:
    return None
  expected = found.verdict.expected
  reference = expected and Reference(
    batch_size=expected.batch_size,
    mean=expected.mean,
    std=expected.std,
    minimum=expected.minimum,
    interpolated=len(expected.sources) > 1,
  )
  names = ('status', 'text', 'batch_size', 'mean')
  told = {name: getattr(found.verdict, name) for name in names}
  return Convergence(**told, reference=reference)


def _values(
  runs: Sequence[Run], counted: Sequence[Run], found: Olympic
) -> list[Value]:
  standing: dict[int, str | None]
  standing = dict.fromkeys((run.value.run for run in runs), 'window')
  standing |= dict.fromkeys(run.value.run for run in counted)
  for name in ('fastest', 'slowest'):
    for index in getattr(found, name):
      standing[counted[index].value.run] = name
  values = []
  for value in (run.value for run in runs):
    status = value.status
    if value.seconds is None and status != 'aborted':
      status = 'invalid'  # the log claims success, the audit says otherwise
    dropped = standing[value.run]
    values.append(dataclasses.replace(value, status=status, dropped=dropped))
  return values


def _split(counted: Sequence[Run]) -> Split | None:
  """System against algorithm, of all runs that met the target."""
  values = [run.value for run in counted]
  met = [v for v in values if v.seconds is not None and v.reached]
  units = {value.unit for value in met}
  if len(units) != 1 or None in units:
    return None
  seconds, reached = zip(*((v.seconds, v.reached) for v in met), strict=True)
  return split(seconds, reached, units.pop())


def _bounds(
  interval: tuple[float, float] | None,
) -> tuple[float, float | None] | None:
  """The bounds with None for infinity, which JSON lacks."""
  if interval is None or not math.isfinite(interval[0]):
    return None
  return interval[0], interval[1] if math.isfinite(interval[1]) else None


def _reason(
  made: _Set, found: Olympic, points: Compared, *, windowed: bool
) -> str | None:
  """Why a score is no result; None if it is one."""
  if found.reason:
    return found.reason
  if made.old:
    return (
      f'Not audited: logs of {made.old} have other rules; of these only the '
      'times were read.'
    )
  beside = _COUNTED_HERE if windowed else ()
  errors = audit.errors(made.audited.findings, beside=beside)
  if errors:
    found = names_lib.counted(len(errors), 'error')
    return f'Not a result: the audit found {found}.'
  if windowed and points.rejected:
    return f'Not a result: {points.verdict}'
  return None
