"""What a person reads of a score: findings, a table of runs, the result."""

from collections.abc import Iterator, Mapping
import json
from typing import Any

from suite.results import scoring
from suite.results.report.format import count, duration, percent, quality
from suite.results.report.variation import units


def lines(score: Mapping[str, Any]) -> Iterator[str]:
  """The lines about one set; the last one is the score, or why it is none."""
  yield from score['findings']
  yield from _table(score)
  draft = ', draft' if score['draft'] else ''
  kind = f'size {score["size"]}, {score["division"]}{draft}'
  yield f'{score["benchmark"]}, {kind}'
  yield f'Target: {score["target"] or "unknown here"}'
  yield from _spread(score)
  if score['division'] == 'open':
    yield from _open(score)
  if score['window']:
    numbers = ', '.join(map(str, score['window']))
    yield (
      f'Of {score["runs"]} runs in a row, the {score["required_runs"]} with '
      f'the median score count: {numbers}'
    )
  if score['convergence']:
    yield score['convergence']['text']
  if score['score_seconds'] is not None:
    yield _result(score)
  if score['reason']:
    yield score['reason']


def brief(score: Mapping[str, Any]) -> str:
  """One set in one line of a long table."""
  draft = ' (draft)' if score['draft'] else ''
  name = f'{score["benchmark"]}{draft}'.ljust(14)
  runs = f'{score["runs"]} runs'
  if score['score_seconds'] is None:
    return f'{name} {runs:>8}  {score["reason"]}'
  spread = score['coefficient_of_variation']
  minutes = score['score_seconds'] / 60
  flaw = f'  {score["reason"]}' if score['reason'] else ''
  return f'{name} {runs:>8} {minutes:12.3f} min  +- {percent(spread)}{flaw}'


def throughput(found: scoring.Throughput) -> Iterator[str]:
  """The lines about models that were trained side by side."""
  for number, why in found.pruned:
    yield f'run {number} does not count: it {why}'
  yield (
    f'{found.models} models of {found.each} accelerators each on {found.total}'
  )
  if found.seconds is not None:
    yield (
      f'Throughput: all in {duration(found.seconds)}, '
      f'{found.per_minute:.4g} models per minute'
    )
    yield 'To be reported beside the time to quality of one model, never alone.'
  if found.reason:
    yield found.reason


def _table(score: Mapping[str, Any]) -> Iterator[str]:
  columns = ('run', 'seed', 'status', 'time', 'epochs', 'left out')
  rows = [_row(value) for value in score['values']]
  widths = [
    max(map(len, column)) for column in zip(columns, *rows, strict=True)
  ]
  for row in (columns, *rows):
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    yield '  '.join(cells).rstrip()


def _row(value: Mapping[str, Any]) -> tuple[str, ...]:
  out = value['dropped']
  return (
    str(value['run']),
    json.dumps(value['seed']),
    str(value['status']),
    duration(value['seconds']),
    count(value['epochs']),
    'not in the median window' if out == 'window' else out or '',
  )


def _spread(score: Mapping[str, Any]) -> Iterator[str]:
  if score['std'] is not None:
    yield (
      f'Spread: standard deviation {duration(score["std"])}, '
      f'{percent(score["coefficient_of_variation"])} of the mean, over all '
      'runs that converged'
    )
  found = score['split']
  if found:
    one, many = units(found['unit'])
    system, algorithm = found['system'], found['algorithm']
    yield (
      f'System: {duration(system["mean"])} per {one}, varying by '
      f'{percent(system["relative"])}; algorithm: {count(algorithm["mean"])} '
      f'{many} to the target, varying by {percent(algorithm["relative"])}'
    )
  confidence = f'{score["confidence"]:.0%}'
  if score['interval']:
    low, high = map(duration, score['interval'])
    yield f'{confidence} interval of the score: {low} to {high}'
  if score['bootstrap']:
    low, high = score['bootstrap']
    end = 'no score' if high is None else duration(high)
    yield (
      f'{confidence} interval by resampling: {duration(low)} to {end}; to be '
      'preferred from twenty runs on, a little too narrow before'
    )


def _open(score: Mapping[str, Any]) -> Iterator[str]:
  """Open may stop anywhere, so a time says nothing without its quality."""
  kept = [v for v in score['values'] if v['dropped'] is None]
  names = dict.fromkeys(name for value in kept for name in value['quality'])
  for name in names:
    found = [v['quality'][name] for v in kept if name in v['quality']]
    low, high = quality(min(found)), quality(max(found))
    yield f'Quality of the runs that count, {name}: {low} to {high}'


def _result(score: Mapping[str, Any]) -> str:
  kept = sum(value['dropped'] is None for value in score['values'])
  seconds, runs = score['score_seconds'], score['runs']
  basis = f'the mean of {kept} of {runs} runs'
  if score['factor'] != 1:
    before = duration(score['unnormalised_seconds'])
    basis += f', {before}, times {score["factor"]:.4f}'
  return f'Score: {duration(seconds)} ({seconds / 60:.3f} minutes), {basis}'
