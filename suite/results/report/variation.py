"""How much the runs of a set differ, and whether by the system or by chance."""

from collections.abc import Mapping
import dataclasses

from suite.results.report import format as fmt

_UNITS = {
  'epoch_num': ('epoch', 'epochs'),
  'samples_count': ('sample', 'samples'),
  'step_num': ('step', 'steps'),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """One quantity over the runs that met the target, in words."""

  name: str
  what: str  # whose it is
  mean: str
  spread: str  # coefficient of variation
  least: str
  most: str


def rows(score: Mapping) -> list[Row]:
  """Time, time per epoch and epochs, as far as the score knows them."""
  values = _counted(score)
  if not values:
    return []
  found = [
    Row(
      'Time to quality',
      'both together',
      fmt.duration(sum(values) / len(values)),
      fmt.percent(score['coefficient_of_variation']),
      fmt.duration(min(values)),
      fmt.duration(max(values)),
    )
  ]
  split = score.get('split')
  if split:
    one, many = units(split['unit'])
    found.append(
      _row(f'Time per {one}', 'the system', split['system'], fmt.duration)
    )
    found.append(
      _row(
        f'{many.capitalize()} to target',
        'the method',
        split['algorithm'],
        fmt.count,
      )
    )
  return found


def units(name: str | None) -> tuple[str, str]:
  """What a log's key counts training in: one and several of them, in words."""
  return _UNITS.get(name, ('unit', 'units'))


def share(score: Mapping) -> str:
  """How much of the spread is the method's, in words; empty if unknown."""
  found = (score.get('split') or {}).get('algorithm_share')
  if not fmt.is_finite(found):
    return ''
  return (
    f'{found * 100:.0f} % of the spread in time comes from runs that need '
    'more or fewer epochs, which is a matter of chance; the rest is the system.'
  )


def bootstrap(score: Mapping) -> str:
  """The resampled interval in words; empty if there is none."""
  bounds = score.get('bootstrap')
  if not bounds or not fmt.is_finite(bounds[0]):
    return ''
  high = 'no score' if bounds[1] is None else fmt.duration(bounds[1])
  return f'{fmt.duration(bounds[0])} to {high}'


def _counted(score: Mapping) -> list[float]:
  return [
    value['seconds']
    for value in score['values']
    if fmt.is_finite(value['seconds']) and value['dropped'] != 'window'
  ]


def _row(name: str, what: str, part: Mapping, words) -> Row:
  return Row(
    name,
    what,
    words(part['mean']),
    fmt.percent(part['relative']),
    words(part['least']),
    words(part['most']),
  )
