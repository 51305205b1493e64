"""Spread of the runs of a set, by the system and by chance."""

import dataclasses

from suite.results.records import Part, Score
from suite.results.report import format as fmt


@dataclasses.dataclass(frozen=True)
class Row:
  """One quantity over the runs that met the target, in words."""

  name: str
  what: str  # whose it is
  mean: str
  spread: str  # coefficient of variation
  least: str
  most: str


def rows(score: Score) -> list[Row]:
  """Time, time per epoch and epochs, as far as the score knows them."""
  values = _counted(score)
  if not values:
    return []
  found = [
    Row(
      'Time to quality',
      'both together',
      fmt.duration(sum(values) / len(values)),
      fmt.percent(score.coefficient_of_variation),
      fmt.duration(min(values)),
      fmt.duration(max(values)),
    )
  ]
  split = score.split
  if split:
    one, many = fmt.units(split.unit)
    found.append(
      _row(f'Time per {one}', 'the system', split.system, fmt.duration)
    )
    found.append(
      _row(
        f'{many.capitalize()} to target',
        'the method',
        split.algorithm,
        fmt.count,
      )
    )
  return found


def share(score: Score) -> str:
  """Share of the method in the spread, in words; empty if unknown."""
  if not score.split or score.split.algorithm_share is None:
    return ''
  many = fmt.units(score.split.unit)[1]
  return (
    f'{score.split.algorithm_share * 100:.0f} % of the spread in time comes '
    f'from runs that need more or fewer {many}, which is a matter of chance; '
    'the rest is the system.'
  )


def bootstrap(score: Score) -> str:
  """The resampled interval in words; empty if there is none."""
  bounds = score.bootstrap
  if not bounds:
    return ''
  high = 'no score' if bounds[1] is None else fmt.duration(bounds[1])
  return f'{fmt.duration(bounds[0])} to {high}'


def _counted(score: Score) -> list[float]:
  return [
    value.seconds
    for value in score.values
    if value.seconds is not None and value.dropped != 'window'
  ]


def _row(name: str, what: str, part: Part, words) -> Row:
  return Row(
    name,
    what,
    words(part.mean),
    fmt.percent(part.relative),
    words(part.least),
    words(part.most),
  )
