"""The points that flags of `launch.speed` ask for, where they are several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
import os
import sys
from typing import Any

from absl import flags as absl_flags

from launch.cluster import hosts
from launch.speeds import points
from launch.speeds.points import Spot
from launch.support import run_flags, scaling_plan
from launch.support.live_line import LiveLine
from suite import benchmark as benchmark_lib
from suite import hparams, names
from suite.results import speed
from suite.results.report import format as fmt
from suite.results.report import speed as report
from suite.results.speed import Point

FLAGS = absl_flags.FLAGS
PER_CHIP = 'per_chip_batch'
_PASSED_ON = ('programs', 'input', 'seconds')
_HALVED = 6  # times that a batch is, until it fits into memory


def spots() -> list[Spot] | None:
  """The points in order; None where the flags ask for a single one.

  ValueError for flags that contradict each other, before anything is measured.
  """
  if not (FLAGS.all or FLAGS.sweep or FLAGS.devices):
    return None
  if hosts.place():
    raise ValueError(
      'Expected one process for several points, which have processes of their '
      'own, got one of a job of several.'
    )
  return [
    _spot(*each)
    for each in itertools.product(_benchmarks(), _swept(), _devices())
  ]


def measured(
  asked: Sequence[Spot], keep: Callable[[Sequence[Point]], None]
) -> list[Point]:
  """Measures points, tells each as it comes, and keeps those so far."""
  line, found = LiveLine(sys.stdout), []
  waiting = [f'{speed.title(spot.about)} ...' for spot in asked]
  line.show(waiting[0])
  for point, following in zip(
    points.measured(asked, FLAGS.limit), [*waiting[1:], ''], strict=True
  ):
    found.append(point)
    keep(found)
    line.keep(report.short(point))
    line.show(following)
  return found


def _benchmarks() -> Sequence[str]:
  if not FLAGS.all:
    return [FLAGS.benchmark]
  if FLAGS['benchmark'].present:
    raise ValueError('Expected --all or --benchmark, got both.')
  found = [
    name
    for name in benchmark_lib.names()
    if FLAGS.size in benchmark_lib.get(name).sizes
  ]
  if not found:
    raise ValueError(f'Expected a size that a benchmark has, got {FLAGS.size}.')
  return found


def _swept() -> Sequence[Sequence[str]]:
  """Arguments of each value that --sweep names; of none, no arguments."""
  if not FLAGS.sweep:
    return [()]
  name, text = names.assignment('sweep', FLAGS.sweep)
  # A list is a value of some hyperparameters.
  values = text.split(';' if ';' in text else ',')
  if len(set(values)) < len(values) or not all(values):
    raise ValueError(f'Expected values that differ in --sweep, got {text!r}.')
  if name == PER_CHIP:
    scaling_plan.numbers('sweep', values)
    if FLAGS.per_chip_batch:
      raise ValueError(
        f'Expected --sweep={PER_CHIP} or --{PER_CHIP}, got both.'
      )
    return [(f'--{PER_CHIP}={value}',) for value in values]
  for value in values if not FLAGS.all else ():
    run_flags.request(hp=[*FLAGS.hp, f'{name}={value}'])
  return [(f'--hp={name}={value}',) for value in values]


def _devices() -> Sequence[int | None]:
  return scaling_plan.numbers('devices', FLAGS.devices) or [None]


def _spot(benchmark: str, swept: Sequence[str], devices: int | None) -> Spot:
  size = benchmark_lib.get(benchmark).size(FLAGS.size)
  batch = hparams.batch(size.hparams)
  given = names.assignments('hp', FLAGS.hp)
  names_batch = f'--{PER_CHIP}=', f'--hp={batch.name}='
  has_batch = batch.name in given or any(
    each.startswith(names_batch) for each in swept
  )
  arguments = [*_shared(), f'--benchmark={benchmark}', *swept]
  environment: Mapping[str, str] = {}
  per_chip = FLAGS.per_chip_batch
  if devices:
    environment = scaling_plan.of_devices(
      devices, scaling_plan.platform(FLAGS.platform)
    )
    if batch.name in given:
      raise ValueError(
        f'--devices keeps the batch of a chip: give --{PER_CHIP}, not '
        f'--hp={batch.name}.'
      )
    fewest = min(map(int, FLAGS.devices))
    if not has_batch:
      per_chip = per_chip or max(1, batch.value // fewest)
  if per_chip:
    arguments.append(f'--{PER_CHIP}={per_chip}')
  label = ' '.join(
    each.removeprefix('--').removeprefix('hp=') for each in swept
  )
  if FLAGS.trace:
    place = fmt.slug(f'{benchmark} {label} {devices or ""}')
    arguments.append(f'--trace={os.path.join(FLAGS.trace, place)}')
  smaller = []
  if not (has_batch or per_chip):
    smaller = [
      [f'--hp={batch.name}={batch.value >> n}'] for n in range(1, _HALVED + 1)
    ]
  about: dict[str, Any] = {
    'benchmark': benchmark,
    'draft': benchmark_lib.get(benchmark).draft,
    'size': FLAGS.size,
    'label': label,
    'devices': devices,
    'input': FLAGS.input,
  }
  return Spot(about, [*arguments, f'--label={label}'], environment, smaller)


def _shared() -> Iterator[str]:
  """Arguments that all points have."""
  yield from run_flags.as_arguments()
  yield from (
    FLAGS[name].serialize() for name in _PASSED_ON if FLAGS[name].present
  )
