"""Published scaling curves, for a sense of shape and no more.

`published_curves.csv` has two kinds. 'efficiency': by accelerators, the share
of ideal speed-up in time to train that the systems of one submitter and round
kept, against the smallest of the row. 'epochs': by global batch, how long the
reference trains until the target.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import functools
import pathlib

EFFICIENCY, EPOCHS = 'efficiency', 'epochs'
SOURCE = (
  'Published, unlike this study, which is unverified. Efficiencies: computed '
  'from the result logs that MLCommons published for MLPerf Training, in '
  'mlcommons/training_results_<round>, from run_start to run_stop, not '
  'normalised. Epochs: the means of the reference convergence points in '
  'mlcommons/logging, some from logs.'
)
_PATH = pathlib.Path(__file__).parent / 'published_curves.csv'


@dataclasses.dataclass(frozen=True)
class Curve:
  """One published row; the first point is its smallest."""

  label: str
  points: tuple[tuple[float, float], ...]  # (accelerators or batch, value)

  @property
  def relative(self) -> tuple[tuple[float, float], ...]:
    """The points as multiples of the first, which is (1, 1)."""
    x0, y0 = self.points[0]
    return tuple((x / x0, y / y0) for x, y in self.points)


def of(benchmark: str, kind: str) -> Sequence[Curve]:
  """The published curves of a benchmark; () where there are none."""
  return _all().get((kind, benchmark), ())


@functools.cache
def _all() -> Mapping[tuple[str, str], Sequence[Curve]]:
  found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
  with _PATH.open(encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file):
      rows = found.setdefault((row['kind'], row['benchmark']), {})
      point = float(row['x']), float(row['y'])
      rows.setdefault(row['label'], []).append(point)
  return {
    key: tuple(Curve(label, tuple(points)) for label, points in rows.items())
    for key, rows in found.items()
  }
