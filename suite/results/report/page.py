"""The report as one HTML page that needs nothing but a browser."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib

import jinja2
from markupsafe import Markup

from suite.results import published
from suite.results.records import RunRecord, Score
from suite.results.report import facts, pictures, tables
from suite.results.report import format as fmt
from suite.results.report import runs as runs_lib
from suite.results.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Report:
  """A page, and its figures and tables as files of their own."""

  html: str
  figures: Mapping[str, Markup]  # by name
  tables: Mapping[str, Sequence[Mapping]]  # by name; a mapping a row


def build(results: Sequence[RunRecord], score: Score) -> Report:
  """The page for runs and their score, with every figure and number."""
  if not results:
    raise ValueError('A report needs at least one result; there is none.')
  runs = runs_lib.read(results, score)
  content = {**_headline(runs, score), **_sections(runs, score)}
  return Report(
    html=environment().get_template('template.html').render(**content),
    figures=_figures(content),
    tables=tables.of_set(runs, score),
  )


def environment() -> jinja2.Environment:
  """Environment of the templates of this folder."""
  made = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  made.globals.update(fmt=fmt, system_line=facts.system_line)
  return made


def _figures(content: Mapping) -> dict[str, Markup]:
  drawn = {
    'times': content['times'],
    'loss': content['loss'],
    'timed': content['timed'].picture,
    'startup': content['startup'].picture,
  }
  for curve in content['curves']:
    drawn[f'clock-{fmt.slug(curve.metric)}'] = curve.clock
    drawn[f'progress-{fmt.slug(curve.metric)}'] = curve.progress
  return {name: each for name, each in drawn.items() if each}


def _headline(runs: Sequence[Run], score: Score) -> dict:
  first = runs[0].result
  goals = pictures.goals(first)
  return {
    'score': score,
    'first': first,
    'runs': runs,
    'big': fmt.duration_parts(score.score_seconds),
    'basis': _basis(score),
    'target': fmt.enumeration([f'{g.metric} {g.words}' for g in goals]),
    'goal': pictures.until(first),
    'total': len(score.values),
    'reached': score.met,
    'left_out': sorted(
      [v for v in score.values if v.dropped in ('fastest', 'slowest')],
      key=lambda value: value.dropped,
    ),
    'absent': [
      f'run {value.run}'
      for value in score.values
      if value.run not in {run.index for run in runs}
    ],
    'system_line': facts.system_line(first.system),
    'times': pictures.times(runs, score),
  }


def _sections(runs: Sequence[Run], score: Score) -> dict:
  first = runs[0].result
  return {
    'made': list(dict.fromkeys(name for run in runs for name in run.made)),
    'published': published.near(first),
    'band': pictures.reference_band(score),
    'curves': pictures.learning_curves(runs, score),
    'loss': pictures.loss_curves(runs),
    'blind': [run for run in runs if not run.result.evals],
    'broken': [run for run in runs if run.loss_curve().failed],
    'timed': pictures.breakdown(pictures.spending(runs, 'timed'), 'timed'),
    'startup': pictures.breakdown(
      pictures.spending(runs, 'startup'), 'startup'
    ),
    'progress': runs_lib.progress_name(runs),
    'work': _work(first),
    'metrics': [goal.metric for goal in pictures.goals(first)],
    'system': facts.entries(runs, 'system'),
    'versions': facts.entries(runs, 'versions'),
    'data': facts.entries(runs, 'data'),
    'preflight': _preflight(runs),
    'settings': facts.settings(runs),
    'command': facts.command(score.command or first.command),
    'commands': [
      (run.label, facts.command(run.result.command)) for run in runs
    ],
  }


def _preflight(runs: Sequence[Run]) -> list[facts.Entry]:
  """Findings of the first run with a preflight, and stragglers of all."""
  found = [(run, p) for run in runs if (p := run.result.preflight)]
  rows = facts.preflight(found[0][1]) if found else []
  entries = [facts.Entry(name, text, False) for name, text in rows]
  return entries + [
    facts.Entry(f'straggler in {run.label}', text, False)
    for run, each in found[1:]
    for text in each['stragglers']
  ]


def _basis(score: Score) -> str:
  """The line under the score: what it is the mean of, or why there is none."""
  total, required = len(score.values), score.required_runs
  if score.score_seconds is not None:
    kept = sum(value.dropped is None for value in score.values)
    if kept == total:
      return f'mean of {kept} runs' if kept > 1 else 'one run'
    return f'mean of {kept} of {total} runs'
  if required and total < required:
    return f'A score needs {required} runs; so far there is {total}.'
  reached = score.met
  if reached == total:
    return 'All runs reached the target; see the audit.'
  few = f'Only {reached}' if reached else 'None'
  return f'{few} of {total} runs reached the target, too few for a score.'


def _work(result: RunRecord) -> str:
  """One step in samples and in arithmetic."""
  words = []
  if result.steps:
    words.append(f'{fmt.count(result.samples / result.steps)} samples')
  if result.flops_per_step is not None:
    words.append(fmt.rate(result.flops_per_step, 'FLOP'))
  return fmt.enumeration(words) if words else ''
