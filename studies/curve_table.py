r"""The table behind a target: which variants reach it, and when.

python studies/curve_table.py resnet

Reads suite/benchmarks/<name>/curves.csv, which studies/curves.py wrote, and
prints for each variant how many seeds reached the target of the tiny size,
where, and the best quality of each metric.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from suite import benchmark
from suite.results.convergence import curves
from suite.target import Target

_FOLDER = 'suite/benchmarks'


@dataclasses.dataclass(frozen=True)
class Row:
  """Outcome of one variant over its seeds."""

  variant: str
  seeds: int
  reached: Sequence[float]  # places, sorted, of the seeds that met the target
  best: Mapping[str, Sequence[float]]  # by metric, of each seed, worst first

  @property
  def median(self) -> float | None:
    """None where more than half of the seeds never met the target."""
    missed = self.seeds - len(self.reached)
    if missed * 2 > self.seeds:
      return None
    return statistics.median([*self.reached, *[math.inf] * missed])


def rows(path: str, target: Target) -> list[Row]:
  """Reads one row per variant, in the order of the file."""
  variants: dict[str, list[curves.Curve]] = {}
  for curve in curves.read(path, target.metrics):
    variants.setdefault(curve.variant, []).append(curve)
  return [
    Row(
      variant,
      len(found),
      sorted(at for c in found if (at := c.reached(target)) is not None),
      {name: _best(found, name, target) for name in target.metrics},
    )
    for variant, found in variants.items()
  ]


def table(found: Sequence[Row]) -> str:
  """The rows as a Markdown table."""
  metrics = list(found[0].best)
  head = ['variant', 'reached', 'where: first, median, last']
  head += [f'best {name}: worst, median, best seed' for name in metrics]
  lines = [head, ['---'] * len(head)]
  for row in found:
    where = 'never'
    if row.reached:
      middle = 'never' if row.median is None else f'{row.median:g}'
      where = f'{row.reached[0]:g}, {middle}, {row.reached[-1]:g}'
    lines.append(
      [row.variant, f'{len(row.reached)} of {row.seeds}', where]
      + [_three(row.best[name]) for name in metrics]
    )
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _best(
  found: Sequence[curves.Curve], name: str, target: Target
) -> list[float]:
  """Best value of each seed, worst seed first; nan where it has none."""
  up = name in target.at_least
  values = []
  for curve in found:
    seen = [q[name] for _, q in curve.evals if not math.isnan(q[name])]
    values.append(
      (max if up else min)(seen, default=-math.inf if up else math.inf)
    )
  return sorted(values, reverse=not up)


def _three(values: Sequence[float]) -> str:
  three = values[0], statistics.median(values), values[-1]
  return ', '.join(f'{v:.3f}' if math.isfinite(v) else 'none' for v in three)


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  name = sys.argv[1]
  tiny = benchmark.get(name).size('tiny').target
  print(table(rows(f'{_FOLDER}/{name}/curves.csv', tiny)))
