"""Text of a score for people: findings, a table of runs, the result."""

from collections.abc import Iterator
import json

from suite.results import scoring
from suite.results.records import Score, Value
from suite.results.report.format import (
  columns,
  count,
  duration,
  percent,
  quality,
  units,
)


def lines(score: Score) -> Iterator[str]:
  """The lines about one set; the last is the score, or why there is none."""
  yield from score.findings
  yield from _table(score)
  draft = ', draft' if score.draft else ''
  yield f'{score.benchmark}, size {score.size}, {score.division}{draft}'
  yield f'Target: {score.target or "unknown here"}'
  yield from _spread(score)
  if score.division == 'open':
    yield from _open(score)
  if score.window:
    numbers = ', '.join(map(str, score.window))
    yield (
      f'Of {score.runs} runs in a row, the {score.required_runs} with '
      f'the median score count: {numbers}'
    )
  if score.convergence:
    yield score.convergence.text
  if score.score_seconds is not None:
    yield _result(score)
  if score.reason:
    yield score.reason


def brief(score: Score) -> str:
  """One set in one line of a long table."""
  draft = ' (draft)' if score.draft else ''
  name, runs = f'{score.benchmark}{draft}'.ljust(14), f'{score.runs} runs'
  if score.score_seconds is None:
    return f'{name} {runs:>8}  {score.reason}'
  minutes, spread = score.score_seconds / 60, score.coefficient_of_variation
  flaw = f'  {score.reason}' if score.reason else ''
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
    yield 'Report it beside the time to quality of one model, never alone.'
  if found.reason:
    yield found.reason


def _table(score: Score) -> Iterator[str]:
  named = {value.unit for value in score.values if value.unit}
  # Where runs count in different units, each row names its own.
  unit = named.pop() if len(named) == 1 else None
  names = ('run', 'seed', 'status', 'time',
             units(unit)[1] if unit else 'reached', 'left out')  # fmt: skip
  rows = [_row(value, unit) for value in score.values]
  yield from columns([names, *rows])


def _row(value: Value, unit: str | None) -> tuple[str, ...]:
  out = value.dropped
  reached = count(value.reached)
  if unit is None and value.unit:
    reached += f' {units(value.unit)[1]}'
  return (
    str(value.run),
    json.dumps(value.seed),
    str(value.status),
    duration(value.seconds),
    reached,
    'not in the median window' if out == 'window' else out or '',
  )


def _spread(score: Score) -> Iterator[str]:
  if score.std is not None:
    yield (
      f'Spread: standard deviation {duration(score.std)}, '
      f'{percent(score.coefficient_of_variation)} of the mean, over all '
      'runs that converged'
    )
  if score.split:
    one, many = units(score.split.unit)
    system, algorithm = score.split.system, score.split.algorithm
    yield (
      f'System: {duration(system.mean)} per {one}, varying by '
      f'{percent(system.relative)}; algorithm: {count(algorithm.mean)} '
      f'{many} to the target, varying by {percent(algorithm.relative)}'
    )
  confidence = f'{score.confidence:.0%}'
  if score.interval:
    low, high = map(duration, score.interval)
    yield f'{confidence} interval of the score: {low} to {high}'
  if score.bootstrap:
    low, high = score.bootstrap
    end = 'no score' if high is None else duration(high)
    yield (
      f'{confidence} interval by resampling: {duration(low)} to {end}; prefer '
      'it from twenty runs on, with fewer it is a little too narrow'
    )


def _open(score: Score) -> Iterator[str]:
  """Qualities: Open may stop anywhere, so a time needs its quality."""
  kept = [value for value in score.values if value.dropped is None]
  names = dict.fromkeys(name for value in kept for name in value.quality)
  for name in names:
    found = [v.quality[name] for v in kept if name in v.quality]
    low, high = quality(min(found)), quality(max(found))
    yield f'Quality of the runs that count, {name}: {low} to {high}'


def _result(score: Score) -> str:
  kept = sum(value.dropped is None for value in score.values)
  seconds = score.score_seconds
  basis = f'the mean of {kept} of {score.runs} runs'
  if score.factor != 1:
    before = duration(score.unnormalised_seconds)
    basis += f', {before}, multiplied by {score.factor:.4f}'
  return f'Score: {duration(seconds)} ({seconds / 60:.3f} minutes), {basis}'
