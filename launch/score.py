"""Scores a folder of logs: time to quality of every run, and their mean.

python -m launch.score results/first

Audits the logs, prints a table of the runs and the score, and writes
DIR/score.json. What counts is what the logs say, nothing else. Of a folder of
such folders, a published round say, it prints a table with a line each and
writes nothing but the file that --table names. Exit code: 0 a result, 1 no
score, or one that is no result, 2 no such folder or flag.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import io
import math
import os
import pathlib
import re
from typing import Any

from absl import flags as absl_flags

from launch import check
from launch.support import cli, score_text
from suite import benchmark as benchmark_lib
from suite import files
from suite.results import audit, convergence, scoring
from suite.results.audit import reached
from suite.results.audit.claim import Lookup

FLAGS = absl_flags.FLAGS

_LOG = re.compile(r'result_(0|[1-9]\d{0,5})\.txt')
# Rules of the audit that hold for all runs, where scoring picks some.
_COUNTED_HERE = ('number of runs', 'converged', 'convergence points')
_TABLE = ('folder', 'benchmark', 'runs', 'converged', 'minutes',
          'cv_percent', 'reason')  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Set:
  """The runs of a folder, and what is known of them."""

  runs: Sequence[scoring.Run]
  convention: scoring.Convention
  old: str | None = None  # the round, if it is one before v0.7
  audited: audit.SetAudit | None = None


def define_flags() -> None:
  """Flags of this program alone."""
  absl_flags.DEFINE_string(
    'ruleset',
    '',
    'The rules that logs of others are held to, and whose convergence points '
    'normalise them: 4.0.0, say. Logs of Podium name theirs.',
  )
  absl_flags.DEFINE_string(
    'table', '', 'CSV to write, where PATH holds several folders of logs.'
  )
  absl_flags.DEFINE_integer(
    'weak_total',
    None,
    'Weak scaling: accelerators of the whole system, on which the runs trained '
    'a model each, side by side. Writes DIR/throughput.json.',
    lower_bound=1,
  )
  absl_flags.DEFINE_integer(
    'weak_each', None, 'Weak scaling: accelerators of each model.',
    lower_bound=1,
  )  # fmt: skip


def main(path: str) -> int:
  """Scores what lies at `path`; see the module."""
  weak = (FLAGS.weak_total, FLAGS.weak_each)
  if (weak[0] is None) != (weak[1] is None):
    raise ValueError('--weak_total and --weak_each are needed together.')
  below = [] if _logs(path) else folders(path)
  if FLAGS.table and not below:
    raise ValueError('--table is for a folder that holds folders of logs.')
  if weak[0] is not None:
    return run_weak(path, *weak)
  if below:
    return run_all(path, below, FLAGS.table, ruleset=FLAGS.ruleset)
  return run(path, ruleset=FLAGS.ruleset)


def run(
  directory: str,
  *,
  command: Sequence[str] | None = None,
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> int:
  """Prints and writes the score of a folder; returns the exit code.

  `command` is how the result was asked for, by default through this module.
  Raises ValueError if `directory` is no folder with logs in it.
  """
  score = score_directory(directory, command=command, get=get, ruleset=ruleset)
  for line in lines(score):
    print(line)
  files.write_json(os.path.join(directory, 'score.json'), score)
  return 0 if score['reason'] is None else 1


lines = score_text.lines


def run_all(
  root: str,
  folders: Sequence[str],
  table: str = '',
  *,
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> int:
  """Prints a line for each folder, and writes them as a CSV if asked."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(_TABLE)
  code, width = 0, max(len(os.path.relpath(f, root)) for f in folders)
  for folder in folders:
    score = score_directory(folder, get=get, ruleset=ruleset)
    name = os.path.relpath(folder, root)
    print(f'{name.ljust(width)}  {score_text.brief(score)}', flush=True)
    writer.writerow(_row(name, score))
    code = 1 if score['reason'] else code
  if table:
    files.write_text(table, text.getvalue())
  return code


def run_weak(
  directory: str, total: int, each: int, *, get: Lookup = benchmark_lib.get
) -> int:
  """Prints and writes the throughput of a folder of models trained at once."""
  made = _read(directory, get)
  found = scoring.throughput(
    made.runs, total=total, each=each, required=made.convention.runs or 1
  )
  for line in score_text.throughput(found):
    print(line)
  content = dataclasses.asdict(found) | {'per_minute': found.per_minute}
  files.write_json(os.path.join(directory, 'throughput.json'), content)
  return 0 if found.reason is None else 1


def folders(root: str) -> list[str]:
  """The folders below `root` that hold logs; links are not followed."""
  return sorted(
    folder
    for folder, _, names in os.walk(root)
    if any(_LOG.fullmatch(name) for name in names)
  )


def score_directory(
  directory: str,
  *,
  command: Sequence[str] | None = None,
  get: Lookup = benchmark_lib.get,
  ruleset: str = '',
) -> dict[str, Any]:
  """The score of a folder's logs, as score.json holds it.

  `reason` is None if the score is a result: enough runs, and no error in the
  audit. Of more runs than a result takes, the window of runs with the median
  score counts. In Closed, times are multiplied by what the convergence points
  ask for; no factor is ever read from a file of the folder. Raises ValueError
  if there are no logs to score.
  """
  made = _read(directory, get, ruleset)
  window, score = _scored(made.runs, made.convention)
  counted = [made.runs[i] for i in window] if window else list(made.runs)
  verdict = _verdict(made, counted, ruleset)
  factor = _factor(made, verdict)
  if factor != 1:
    score = _olympic(counted, made.convention, factor)
  first = counted[0]
  claim = made.audited.runs[first.number].claim if made.audited else None
  findings = made.audited.findings if made.audited else []
  return {
    'benchmark': first.benchmark,
    'size': claim.size_name if claim else 'reference',
    'draft': bool(claim and claim.draft),
    'division': first.division,
    'target': str(claim.size.target) if claim and claim.size else None,
    'runs': len(made.runs),
    'required_runs': made.convention.runs,
    'score_seconds': score.seconds,
    'unnormalised_seconds': (
      None if score.seconds is None else score.seconds / factor
    ),
    'factor': factor,
    'values': _values(made.runs, counted, score),
    'window': [run.number for run in counted] if window else None,
    'mean': score.mean,
    'std': score.std,
    'coefficient_of_variation': score.coefficient_of_variation,
    'interval': _bounds(score.interval),
    'bootstrap': _bounds(score.bootstrap),
    'confidence': scoring.CONFIDENCE,
    'split': _split(counted, score),
    'convergence': _convergence(verdict),
    'findings': [str(finding) for finding in findings],
    'reason': _reason(made, score, verdict, windowed=bool(window)),
    'command': list(command or ('python', '-m', 'launch.score', directory)),
  }


def _logs(directory: str) -> dict[int, pathlib.Path]:
  """The logs in a folder by their numbers."""
  if not os.path.isdir(directory):
    raise ValueError(f'Expected a folder of logs, not {directory!r}.')
  found = {}
  for path in pathlib.Path(directory).iterdir():
    if match := _LOG.fullmatch(path.name):
      found[int(match[1])] = path
  return dict(sorted(found.items()))


def _read(directory: str, get: Lookup, ruleset: str = '') -> _Set:
  logs = _logs(directory)
  if not logs:
    raise ValueError(
      f'Expected result_<number>.txt in {directory!r}, got none.'
    )
  old = scoring.old_round(next(iter(logs.values())))
  if old:
    runs = [scoring.read_old(path, number) for number, path in logs.items()]
    return _chosen(_Set(runs, scoring.convention(runs[0].benchmark), old))
  told = {'ruleset': ruleset} if ruleset else {}
  checked = audit.examine_set(directory, get=get, **told)
  runs = [_run(number, each) for number, each in checked.runs.items()]
  benchmark = checked.benchmark
  convention = (
    scoring.Convention(benchmark.runs, benchmark.dropped)
    if benchmark
    else scoring.convention(runs[0].benchmark)
  )
  return _chosen(_Set(runs, convention, audited=checked))


def _chosen(made: _Set) -> _Set:
  """The set without the runs that its convention never counts."""
  if not made.convention.only_converged:
    return made
  ordered = sorted(made.runs, key=_launch)
  kept = [run for run in ordered if run.seconds is not None]
  kept = kept[: made.convention.runs] or ordered
  return dataclasses.replace(made, runs=kept)


def _run(number: int, each: audit.LogAudit) -> scoring.Run:
  # Official rounds refuse a startup beyond the allowance (the audit says so)
  # and publish run_stop - run_start; ours are charged for it.
  allowance = math.inf
  if each.claim.ours:
    allowance = each.claim.startup_allowance
  return scoring.from_summary(number, each.summary, allowance)


def _launch(run: scoring.Run) -> float:
  return math.inf if run.start_ms is None else run.start_ms


def _scored(
  runs: Sequence[scoring.Run], convention: scoring.Convention
) -> tuple[list[int] | None, scoring.Score]:
  """The indices of the runs that count, None for all, and their score."""
  required = convention.runs
  if required is None or len(runs) <= required:
    return None, _olympic(runs, convention, 1.0)
  order = sorted(range(len(runs)), key=lambda i: _launch(runs[i]))
  window = scoring.median_window(
    [runs[i].seconds for i in order], runs=required, dropped=convention.dropped
  )
  return [order[i] for i in window.runs], window.score


def _olympic(runs, convention: scoring.Convention, factor: float):
  return scoring.olympic(
    [run.seconds for run in runs],
    dropped=convention.dropped,
    required=convention.runs,
    factor=factor,
  )


def _verdict(
  made: _Set, counted: Sequence[scoring.Run], told: str
) -> convergence.Verdict | None:
  """What the convergence points say of the runs that count; None: nothing.

  Logs of others do not say which ruleset they follow, and times are not
  multiplied by a guess.
  """
  checked = made.audited
  if checked is None or checked.verdict is None:
    return None
  chosen = {run.number: checked.runs[run.number] for run in counted}
  if not told and not all(each.claim.ours for each in chosen.values()):
    return None
  if len(chosen) == len(checked.runs):
    return checked.verdict
  points = convergence.find(
    checked.name,
    checked.ruleset,
    runs=made.convention.runs,
    dropped=made.convention.dropped,
  )
  return reached.judge(chosen, points)


def _factor(made: _Set, verdict: convergence.Verdict | None) -> float:
  """What times count, also where a set is too fast and no more than lucky."""
  if verdict and verdict.status == convergence.TOO_FAST and made.audited:
    text = str(verdict)
    faults = audit.errors(made.audited.findings)
    if not any(text in fault.text for fault in faults):
      return verdict.factor
  return convergence.factor(verdict)


def _convergence(verdict: convergence.Verdict | None) -> dict | None:
  if verdict is None:
    return None
  expected = verdict.expected
  return {
    'status': verdict.status,
    'text': verdict.text,
    'batch_size': verdict.batch_size,
    'mean': verdict.mean,
    'reference': None
    if expected is None
    else {
      'batch_size': expected.batch_size,
      'mean': expected.mean,
      'std': expected.std,
      'minimum': expected.minimum,
      'interpolated': len(expected.sources) > 1,
    },
  }


def _values(
  runs: Sequence[scoring.Run],
  counted: Sequence[scoring.Run],
  score: scoring.Score,
) -> list[dict[str, Any]]:
  standing = dict.fromkeys((run.number for run in runs), 'window')
  for index, run in enumerate(counted):
    standing[run.number] = _standing(score, index)
  return [_value(run, standing[run.number]) for run in runs]


def _standing(score: scoring.Score, index: int) -> str | None:
  if index in score.fastest:
    return 'fastest'
  return 'slowest' if index in score.slowest else None


def _value(run: scoring.Run, dropped: str | None) -> dict[str, Any]:
  status = run.status
  if run.seconds is None and status != 'aborted':
    status = 'invalid'  # the log claims success, the audit says otherwise
  return {
    'run': run.number,
    'seed': run.seed,
    'status': status,
    'seconds': run.seconds,
    'epochs': run.reached if run.unit == 'epoch_num' else None,
    'reached': run.reached,
    'unit': run.unit,
    'quality': dict(run.quality),
    'batch_size': run.batch_size,
    'dropped': dropped,
  }


def _split(
  counted: Sequence[scoring.Run], score: scoring.Score
) -> dict[str, Any] | None:
  """System against algorithm, of all runs that met the target."""
  met = [run for run in counted if run.seconds is not None and run.reached]
  units = {run.unit for run in met}
  if not met or len(units) > 1 or None in units:
    return None
  found = scoring.split(
    [run.seconds for run in met], [run.reached for run in met], units.pop()
  )
  if found is None:
    return None
  parts = {
    name: dataclasses.asdict(part) | {'relative': part.relative}
    for name, part in (('system', found.system), ('algorithm', found.algorithm))
  }
  return {
    'unit': found.unit,
    **parts,
    'algorithm_share': found.algorithm_share,
    'time_relative': score.coefficient_of_variation,
  }


def _bounds(interval: tuple[float, float] | None) -> list | None:
  """JSON has no infinity: null stands for it."""
  if interval is None or not math.isfinite(interval[0]):
    return None
  return [each if math.isfinite(each) else None for each in interval]


def _reason(
  made: _Set,
  score: scoring.Score,
  verdict: convergence.Verdict | None,
  *,
  windowed: bool,
) -> str | None:
  if score.reason:
    return score.reason
  if made.old:
    return (
      f'Not audited: logs of {made.old} have other rules; of these only the '
      'times were read.'
    )
  errors = [
    finding
    for finding in audit.errors(made.audited.findings)
    if not (windowed and finding.rule.startswith(_COUNTED_HERE))
  ]
  if errors:
    counted = check.counted(len(errors), 'error')
    return f'Not a result: the audit found {counted}.'
  if windowed and verdict and verdict.status == convergence.TOO_FAST:
    return f'Not a result: {verdict}'
  return None


def _row(name: str, score: Mapping[str, Any]) -> tuple:
  seconds, spread = score['score_seconds'], score['coefficient_of_variation']
  met = sum(value['seconds'] is not None for value in score['values'])
  return (
    name,
    score['benchmark'],
    score['runs'],
    met,
    '' if seconds is None else f'{seconds / 60:.3f}',
    '' if spread is None else f'{100 * spread:.2f}',
    score['reason'] or '',
  )


if __name__ == '__main__':
  cli.run(main, define=define_flags, path_to='a folder of logs')
