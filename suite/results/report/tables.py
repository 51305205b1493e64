"""Every number that a report shows, as tables: lists of mappings by column."""

from collections.abc import Mapping, Sequence

from suite.results.report import facts, made, published
from suite.results.report.runs import Run

_SCORE = (
  *('benchmark', 'size', 'division', 'target', 'runs', 'required_runs'),
  *('score_seconds', 'unnormalised_seconds', 'factor', 'mean', 'std'),
  *('coefficient_of_variation', 'confidence', 'reason'),
)
Table = list[dict]


def of_set(runs: Sequence[Run], score: Mapping) -> dict[str, Table]:
  """The tables of the report of one set of runs, by name."""
  found = {
    'score': [score_row(score)],
    'runs': [_run(run, score) for run in runs],
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


def score_row(score: Mapping) -> dict:
  """A score in one row: what it is, how sure, and by what it varies."""
  row = {name: score.get(name) for name in _SCORE}
  for name in ('interval', 'bootstrap'):
    low, high = score.get(name) or (None, None)
    row |= {f'{name}_low': low, f'{name}_high': high}
  split = score.get('split') or {}
  for name in ('system', 'algorithm'):
    part = split.get(name) or {}
    row |= {
      f'{name}_mean': part.get('mean'),
      f'{name}_cv': part.get('relative'),
    }
  row |= {
    'unit': split.get('unit'),
    'algorithm_share': split.get('algorithm_share'),
  }
  reference = (score.get('convergence') or {}).get('reference') or {}
  for name in ('mean', 'std', 'minimum'):
    row[f'reference_{name}'] = reference.get(name)
  return row


def _run(run: Run, score: Mapping) -> dict:
  result = run.result
  value = next((v for v in score['values'] if v['run'] == run.index), {})
  last = result['evals'][-1] if result['evals'] else {'at': {}, 'quality': {}}
  return {
    'run': run.index,
    'seed': result['seed'],
    'outcome': run.verdict,
    'resumed': len(result.get('resumed') or ()),
    'standing': run.standing,
    'seconds': run.seconds,
    'left_out': value.get('dropped'),
    **last['at'],
    **last['quality'],
    'startup_seconds': result['startup']['seconds'],
    'samples_per_second': result['samples_per_second'],
    'log': run.log,
  }


def _evals(run: Run) -> Table:
  return [
    {'run': run.index, **item['at'], 'step': item['step'],
     'seconds': item['seconds'], **item['quality'], **made.of_eval(item)}
    for item in run.result['evals']
  ]  # fmt: skip


def _losses(run: Run) -> Table:
  return [
    {'run': run.index, 'step': step, 'loss': loss}
    for step, loss in run.result.get('losses') or []
  ]


def _time(run: Run) -> Table:
  return [
    {'run': run.index, 'phase': phase, 'part': part, 'seconds': seconds}
    for phase in ('timed', 'startup')
    for part, seconds in run.result[phase]['parts'].items()
  ]
