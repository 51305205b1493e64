"""Every number that a report shows, as tables: lists of mappings by column."""

from collections.abc import Sequence

from suite.results import published
from suite.results.records import Score
from suite.results.report import facts
from suite.results.report.runs import Run, made_before

_SCORE = (
  *('benchmark', 'size', 'division', 'target', 'runs', 'required_runs'),
  *('score_seconds', 'unnormalised_seconds', 'factor', 'mean', 'std'),
  *('coefficient_of_variation', 'confidence', 'reason'),
)
Table = list[dict]


def of_set(runs: Sequence[Run], score: Score) -> dict[str, Table]:
  """The tables of the report of one set of runs, by name."""
  found = {
    'score': [score_row(score)],
    'runs': [_run(run) for run in runs],
    'evals': [row for run in runs for row in _evals(run)],
    'losses': [row for run in runs for row in _losses(run)],
    'time': [row for run in runs for row in _time(run)],
    'hyperparameters': [
      {'name': each.name, 'value': each.value, 'reference': each.reference,
       'changed': each.changed, 'tunable': each.tunable, 'log_key': each.key}
      for each in facts.settings(runs)
    ],
    'facts': [
      {'section': section, 'name': each.name, 'value': each.value}
      for section in ('system', 'versions', 'data')
      for each in facts.entries(runs, section)
    ],
  }  # fmt: skip
  context = published.near(runs[0].result)
  if context and context.entries:
    found['published'] = [
      {'round': each.round, 'submitter': each.submitter, 'system': each.system,
       'accelerators': each.accelerators, 'minutes': each.minutes}
      for each in context.entries
    ]  # fmt: skip
  return {name: rows for name, rows in found.items() if rows}


def score_row(score: Score) -> dict:
  """A score in one row: its number, its intervals, its spread."""
  row = {name: getattr(score, name) for name in _SCORE}
  for name in ('interval', 'bootstrap'):
    low, high = getattr(score, name) or (None, None)
    row |= {f'{name}_low': low, f'{name}_high': high}
  for name in ('system', 'algorithm'):
    part = getattr(score.split, name, None)
    row[f'{name}_mean'] = part and part.mean
    row[f'{name}_cv'] = part and part.relative
  for name in ('unit', 'algorithm_share'):
    row[name] = getattr(score.split, name, None)
  reference = score.convergence and score.convergence.reference
  for name in ('mean', 'std', 'minimum'):
    row[f'reference_{name}'] = getattr(reference, name, None)
  return row


def _run(run: Run) -> dict:
  result = run.result
  last = result.evals[-1] if result.evals else None
  return {
    'run': run.index,
    'seed': result.seed,
    'outcome': run.verdict,
    'resumed': len(result.resumed),
    'standing': run.standing,
    'seconds': run.seconds,
    'left_out': run.place and run.place.dropped,
    **(last.at if last else {}),
    **(last.quality if last else {}),
    'startup_seconds': result.startup.seconds,
    'samples_per_second': result.samples_per_second,
    'log': run.log,
  }


def _evals(run: Run) -> Table:
  return [
    {'run': run.index, **item.at, 'step': item.step,
     'seconds': item.seconds, **item.quality, **made_before(item)}
    for item in run.result.evals
  ]  # fmt: skip


def _losses(run: Run) -> Table:
  return [
    {'run': run.index, 'step': step, 'loss': loss}
    for step, loss in run.result.losses
  ]


def _time(run: Run) -> Table:
  return [
    {'run': run.index, 'phase': phase, 'part': part, 'seconds': seconds}
    for phase in ('timed', 'startup')
    for part, seconds in getattr(run.result, phase).parts.items()
  ]
