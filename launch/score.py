"""Scores a folder of logs: time to quality of every run, and their mean.

python -m launch.score results/first

Audits the logs, prints a table of the runs and the score, and writes
DIR/score.json. What counts is what the logs say, nothing else. Exit code: 0 a
result, 1 no score, or one that is no result, 2 no such folder or flag.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
from typing import Any

from launch import check, flags
from suite import audit, files, scoring
from suite import benchmark as benchmark_lib
from suite.audit.claim import Lookup
from suite.hparams import Division
from suite.report.format import count, duration, percent

_UNKNOWN_DROPPED = 1  # what most benchmarks leave out on either side


def run(
  directory: str,
  *,
  command: Sequence[str] | None = None,
  get: Lookup = benchmark_lib.get,
) -> int:
  """Prints and writes the score of a folder; returns the exit code.

  `command` is how the result was asked for, by default through this module.
  Raises ValueError if `directory` is no folder with logs in it.
  """
  score = score_directory(directory, command=command, get=get)
  for line in lines(score):
    print(line)
  files.write_json(os.path.join(directory, 'score.json'), score)
  return 0 if score['reason'] is None else 1


def score_directory(
  directory: str,
  *,
  command: Sequence[str] | None = None,
  get: Lookup = benchmark_lib.get,
) -> dict[str, Any]:
  """The score of a folder's logs, as score.json holds it.

  `reason` is None if the score is a result: enough runs, and no error in the
  audit. Raises ValueError if there are no logs to score.
  """
  if not os.path.isdir(directory):
    raise ValueError(f'Expected a folder of logs, not {directory!r}.')
  checked = audit.examine_set(directory, get=get)
  if not checked.runs:
    raise ValueError(
      f'Expected result_<number>.txt in {directory!r}, got none.'
    )
  benchmark = checked.benchmark
  summaries = {run: each.summary for run, each in checked.runs.items()}
  score = scoring.olympic(
    [_seconds(summary) for summary in summaries.values()],
    dropped=benchmark.dropped if benchmark else _UNKNOWN_DROPPED,
    required=benchmark.runs if benchmark else None,
  )
  first = next(iter(checked.runs.values()))
  return {
    'benchmark': first.summary.benchmark,
    'size': first.summary.size,
    'division': first.summary.division,
    'target': str(first.claim.size.target) if first.claim.size else None,
    'runs': len(summaries),
    'required_runs': benchmark.runs if benchmark else None,
    'score_seconds': score.seconds,
    'values': [
      _value(run, summary, _standing(score, index), score.values[index])
      for index, (run, summary) in enumerate(summaries.items())
    ],
    'mean': score.mean,
    'std': score.std,
    'coefficient_of_variation': score.coefficient_of_variation,
    'interval': list(score.interval) if score.interval else None,
    'confidence': scoring.CONFIDENCE,
    'findings': [str(finding) for finding in checked.findings],
    'reason': _reason(score, checked.findings),
    'command': list(command or ('python', '-m', 'launch.score', directory)),
  }


def lines(score: Mapping[str, Any]) -> Iterator[str]:
  """What a person reads of a score: findings, a table of runs, the result."""
  yield from score['findings']
  columns = ('run', 'seed', 'status', 'time', 'epochs', 'left out')
  rows = [_row(value) for value in score['values']]
  widths = [
    max(map(len, column)) for column in zip(columns, *rows, strict=True)
  ]
  for row in (columns, *rows):
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    yield '  '.join(cells).rstrip()
  yield f'{score["benchmark"]}, size {score["size"]}, {score["division"]}'
  yield f'Target: {score["target"] or "unknown here"}'
  if score['std'] is not None:
    yield (
      f'Spread: standard deviation {duration(score["std"])}, '
      f'{percent(score["coefficient_of_variation"])} of the mean, over all '
      'runs that converged'
    )
  if score['interval']:
    low, high = map(duration, score['interval'])
    yield f'{score["confidence"]:.0%} interval of the score: {low} to {high}'
  if score['score_seconds'] is not None:
    kept = sum(value['dropped'] is None for value in score['values'])
    seconds = score['score_seconds']
    yield (
      f'Score: {duration(seconds)} ({seconds / 60:.3f} minutes), '
      f'the mean of {kept} of {score["runs"]} runs'
    )
  if score['reason']:
    yield score['reason']


def _seconds(summary: audit.LogSummary) -> float | None:
  division = Division(summary.division or Division.CLOSED.value)
  return scoring.time_to_quality(summary, division.startup_allowance)


def _standing(score: scoring.Score, index: int) -> str | None:
  if index in score.fastest:
    return 'fastest'
  return 'slowest' if index in score.slowest else None


def _value(
  run: int,
  summary: audit.LogSummary,
  dropped: str | None,
  seconds: float | None,
) -> dict[str, Any]:
  status = summary.status
  if seconds is None and status != 'aborted':
    status = 'invalid'  # the log claims success, the audit says otherwise
  last = summary.evals[-1] if summary.evals else None
  return {
    'run': run,
    'seed': summary.seed,
    'status': status,
    'seconds': seconds,
    'epochs': last.at if last and last.unit == 'epoch_num' else None,
    'dropped': dropped,
  }


def _reason(
  score: scoring.Score, findings: Sequence[audit.Finding]
) -> str | None:
  errors = len(audit.errors(list(findings)))
  if score.reason or not errors:
    return score.reason
  return f'Not a result: the audit found {check.counted(errors, "error")}.'


def _row(value: Mapping[str, Any]) -> tuple[str, ...]:
  return (
    str(value['run']),
    json.dumps(value['seed']),
    str(value['status']),
    duration(value['seconds']),
    count(value['epochs']),
    value['dropped'] or '',
  )


if __name__ == '__main__':
  flags.run(run, path_to='a folder of logs')
