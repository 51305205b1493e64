"""Published results of official rounds, for a sense of size and shape alone.

`published.csv` holds facts read from the public result logs of the rounds v0.5
to v5.1: olympic means of the minutes from run_start to run_stop, in which runs
that failed count as the slowest; 3D U-Net drops four runs on each side. They
are not normalised to the reference's convergence, so official tables may differ
by a few percent. `runs` counts all runs of a result, failed ones too. Rows of
v0.5 and v0.6 come from an earlier reading, which left failed runs out. v5.0 and
v5.1 have all sets of Closed, by `launch.score`, with the accelerators of the
systems' descriptions.

`published_rates.csv` has what runs of single machines logged as throughput,
which for some counts evals as training; no such logs are of TPUs.

`published_curves.csv` has two kinds. 'efficiency': by accelerators, the share
of ideal speed-up in time to train that the systems of one submitter and round
kept, against the smallest of the row. 'epochs': by global batch, how long the
reference trains until the target.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import functools
import math
import pathlib

from suite.results.records import RunRecord

SOURCE = (
  'Computed from the result logs that MLCommons published for MLPerf Training '
  'v0.5 to v5.1, in the repositories mlcommons/training_results_<round>. '
  'Olympic means from run_start to run_stop, in which failed runs count as the '
  'slowest; not normalised, so official tables may differ by a few percent.'
)
CURVES_SOURCE = (
  'Published, unlike this study, which is unverified. Efficiencies: computed '
  'from the result logs that MLCommons published for MLPerf Training, in '
  'mlcommons/training_results_<round>, from run_start to run_stop, not '
  'normalised. Epochs: the means of the reference convergence points in '
  'mlcommons/logging, some from logs.'
)
RATES_SOURCE = (
  'Published, unlike this measurement, which is unverified: the throughput in '
  'logs of one machine, in mlcommons/training_results_<round>, with the '
  'batch, number formats and data of that result, and for some with the evals.'
)
EFFICIENCY, EPOCHS = 'efficiency', 'epochs'  # kinds of curves
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Entry:
  """One published result."""

  round: str
  submitter: str
  system: str
  accelerators: int | None  # where its name or description tells
  minutes: float


@dataclasses.dataclass(frozen=True)
class Rate:
  """Throughput of one published result."""

  round: str
  system: str
  accelerators: int
  samples_per_second: float  # of all

  @property
  def each(self) -> float:
    """Samples a second and accelerator."""
    return self.samples_per_second / self.accelerators


@dataclasses.dataclass(frozen=True)
class Curve:
  """One published curve; the first point is its smallest."""

  label: str
  points: tuple[tuple[float, float], ...]  # (accelerators or batch, value)

  @property
  def relative(self) -> tuple[tuple[float, float], ...]:
    """The points as multiples of the first, which is (1, 1)."""
    x0, y0 = self.points[0]
    return tuple((x / x0, y / y0) for x, y in self.points)


@dataclasses.dataclass(frozen=True)
class Context:
  """Published results to show beside a result."""

  total: int  # published results of the benchmark
  # Those of systems nearest in size; () beside a result of another size of the
  # benchmark, which compares with none of them.
  entries: Sequence[Entry]
  source: str = SOURCE


def near(result: RunRecord) -> Context | None:
  """Published results beside a result; None where nobody published any."""
  found = _results().get(result.benchmark, ())
  if not found:
    return None
  if result.size != 'reference':
    return Context(len(found), ())
  devices = result.devices
  known = [entry for entry in found if entry.accelerators]
  known.sort(key=lambda e: (abs(math.log(e.accelerators / devices)), e.minutes))
  return Context(
    len(found), sorted(known[:_SHOWN], key=lambda entry: entry.minutes)
  )


def fastest(benchmark: str) -> Entry | None:
  """The fastest published result of a benchmark; None where there is none."""
  found = _results().get(benchmark, ())
  return min(found, key=lambda entry: entry.minutes, default=None)


def rates(benchmark: str) -> Sequence[Rate]:
  """The published rates of a benchmark; () where there are none."""
  return [
    Rate(
      row['round'],
      row['system'],
      int(row['accelerators']),
      float(row['samples_per_second']),
    )
    for row in _rows('published_rates.csv')
    if row['benchmark'] == benchmark
  ]


def curves(benchmark: str, kind: str) -> Sequence[Curve]:
  """The published curves of a benchmark; () where there are none."""
  return [
    Curve(label, tuple(points))
    for label, points in _curves().get((kind, benchmark), {}).items()
  ]


@functools.cache
def _results() -> Mapping[str, Sequence[Entry]]:
  found: dict[str, list[Entry]] = {}
  for row in _rows('published.csv'):
    count = int(row['accelerators']) if row['accelerators'] else None
    names = row['round'], row['submitter'], row['system']
    entry = Entry(*names, count, float(row['minutes']))
    found.setdefault(row['benchmark'], []).append(entry)
  return found


@functools.cache
def _curves() -> Mapping[tuple[str, str], dict[str, list]]:
  found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
  for row in _rows('published_curves.csv'):
    rows = found.setdefault((row['kind'], row['benchmark']), {})
    point = float(row['x']), float(row['y'])
    rows.setdefault(row['label'], []).append(point)
  return found


def _rows(name: str) -> Iterator[dict[str, str]]:
  path = pathlib.Path(__file__).parent / name
  with path.open(encoding='utf-8', newline='') as file:
    yield from csv.DictReader(file)
