"""Measured speeds: their files, the figures of a point, and what has changed.

A file of `launch.speed` holds points: a benchmark on some devices with one
batch, and its programs. A speed is no result, as nothing was trained.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from suite import files

FORMAT = 1
KIND = 'speed'
NO_RESULT = (
  'A speed is no result: nothing was trained until a target, and a fast step '
  'says nothing of how many steps a training needs.'
)
NOISE = 0.03  # a smaller difference of two medians says nothing
TRAIN = 'train_step'

Point = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Summary:
  """Figures of a point's train steps; of several shapes, one of each."""

  samples_per_second: float
  rates: Mapping[str, float]  # units a second, 'samples' among them
  seconds: float  # of a step, on average
  spread: float  # of `processor` on CPUs, else of `seconds`
  processor: float  # seconds of all cores for a step
  flops_rate: float | None
  of_measured_peak: float | None
  of_published_peak: float | None
  memory: int | None  # bytes on a device
  best: float | None  # the least seconds of a step over what it took


@dataclasses.dataclass(frozen=True)
class Change:
  """A program measured twice."""

  name: str  # 'resnet tiny: train_step'
  before: float | None  # seconds of a step
  now: float | None
  noise: float  # share that a difference must exceed
  words: str  # 'slower', 'faster', 'same', or why they don't compare

  @property
  def ratio(self) -> float | None:
    """Time now over time before."""
    return self.now / self.before if self.now and self.before else None

  @property
  def is_worse(self) -> bool:
    """Says that it is slower beyond noise, or is not measured any more."""
    return self.words in ('slower', 'failed')


def write(path: str, points: Sequence[Point], command: Sequence[str]) -> None:
  """Writes points to a file."""
  files.write_json(
    path,
    {
      'format': FORMAT,
      'kind': KIND,
      'note': NO_RESULT,
      'command': list(command),
      'points': list(points),
    },
  )


def read(path: str) -> list[Point]:
  """The points of a file; ValueError for a file of another kind."""
  value = files.read_json(path)
  found = value if isinstance(value, dict) else {}
  if (found.get('kind'), found.get('format')) != (KIND, FORMAT):
    raise ValueError(
      f'Expected a file of launch.speed --json of format {FORMAT}, got {path}.'
    )
  return found['points']


def title(point: Point) -> str:
  """'resnet tiny', 'resnet tiny per_chip_batch=64'."""
  return ' '.join(filter(None, map(point.get, ('benchmark', 'size', 'label'))))


def summary(point: Point) -> Summary | None:
  """The figures of a point; None where it has no train steps."""
  steps = [p for p in point.get('programs', ()) if p['kind'] == TRAIN]
  if not steps:
    return None
  seconds = [step['mean'] for step in steps]
  whole = math.fsum(seconds)

  def rate(of: Sequence[float | None]) -> float | None:
    return None if None in of else math.fsum(of) / whole

  def share(name: str) -> float | None:
    parts = [step.get(name) for step in steps]
    if None in parts:
      return None
    return rate([p * s for p, s in zip(parts, seconds, strict=True)])

  rates = {
    unit: rate([step['contents'][unit] for step in steps])
    for unit in steps[0]['contents']
  }
  best = [step.get('best') for step in steps]
  return Summary(
    samples_per_second=rates['samples'],
    rates=rates,
    seconds=whole / len(steps),
    spread=max(step['spread'] for step in steps),
    processor=math.fsum(step['processor'] for step in steps) / len(steps),
    flops_rate=rate([step.get('flops') for step in steps]),
    of_measured_peak=share('of_measured_peak'),
    of_published_peak=share('of_published_peak'),
    memory=max(step.get('memory') or 0 for step in steps) or None,
    best=None if None in best else rate([each['seconds'] for each in best]),
  )


def efficiencies(points: Sequence[Point]) -> list[float | None]:
  """Samples a second and device, over those of the first point."""
  each = [
    found.samples_per_second / point['devices'] if found else None
    for point, found in zip(points, map(summary, points), strict=True)
  ]
  first = each[0] if each else None
  return [rate / first if rate and first else None for rate in each]


def compare(now: Sequence[Point], before: Sequence[Point]) -> list[Change]:
  """Changes of the programs of `now`, in their order.

  On CPUs by seconds of all cores, which others at work change least, elsewhere
  by the time of a step. A point that had been measured and fails is worse; what
  only one of them has is named and does not compare.
  """
  changes, earlier = [], list(before)
  for point in now:
    old = next((each for each in earlier if _is_same(point, each)), None)
    if old is not None:
      earlier.remove(old)
    if old is None or old.get('failed'):
      changes.append(Change(title(point), None, None, 0.0, 'new'))
    elif point.get('failed'):
      changes.append(Change(title(point), None, None, 0.0, 'failed'))
    elif _settings(point) != _settings(old):
      changes.append(Change(title(point), None, None, 0.0, 'other settings'))
    else:
      changes += _changes(point, old)
  for old in earlier:
    changes.append(Change(title(old), None, None, 0.0, 'not measured'))
  return changes


def _is_same(one: Point, other: Point) -> bool:
  """Says that two points are of one thing; one that failed lacks devices."""
  names = ['benchmark', 'size', 'label', 'input']
  if not (one.get('failed') or other.get('failed')):
    names += ['devices', 'processes']
  return all(one.get(name) == other.get(name) for name in names)


def _settings(point: Point) -> tuple[Any, ...]:
  """Settings that a point was measured with; others do not compare."""
  names = ('batch', 'hyperparameters', 'spread', 'profile', 'compiler_options')
  return tuple(point.get(name) for name in names)


def _changes(point: Point, old: Point) -> list[Change]:
  on_cpu = point['system'].get('platform') == 'cpu'
  time = 'processor' if on_cpu else 'median'
  earlier = {program['name']: program for program in old['programs']}
  changes = []
  for program in point['programs']:
    name = f'{title(point)}: {program["name"]}'
    was = earlier.get(program['name'])
    if was is None:
      changes.append(Change(name, None, program[time], 0.0, 'new'))
      continue
    noise = max(NOISE, program['spread'], was['spread'])
    ratio = program[time] / was[time]
    words = 'same'
    if ratio > 1 + noise:
      words = 'slower'
    elif ratio < 1 / (1 + noise):
      words = 'faster'
    changes.append(Change(name, was[time], program[time], noise, words))
  return changes
