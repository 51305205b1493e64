r"""The table behind a target: who reaches it, and when.

python studies/curve_table.py suite/benchmarks/resnet/curves.csv 0.98

Reads what studies/curves.py wrote and prints, for each variant, how many
seeds reached the target, after how many epochs, and the best quality seen. The
quality is the last column, whatever its name.
"""

import collections
from collections.abc import Sequence
import csv
import dataclasses
import statistics
import sys


@dataclasses.dataclass(frozen=True)
class Row:
  """What one variant did, over its seeds."""

  variant: str
  seeds: int
  epochs: Sequence[float]  # to the target, sorted, of the seeds that reached it
  best: Sequence[float]  # highest quality of each seed, sorted

  @property
  def median_epochs(self) -> float | None:
    """None where more than half of the seeds never reached the target."""
    missed = self.seeds - len(self.epochs)
    if missed * 2 > self.seeds:
      return None
    return statistics.median([*self.epochs, *[float('inf')] * missed])


def rows(path: str, target: float) -> list[Row]:
  """One row per variant, in the order of the file."""
  curves = collections.defaultdict(lambda: collections.defaultdict(list))
  with open(path, encoding='utf-8', newline='') as file:
    reader = csv.DictReader(file)
    metric = reader.fieldnames[-1]
    for line in reader:
      point = (float(line['epoch']), float(line[metric] or 'nan'))
      curves[line['variant']][line['seed']].append(point)
  return [
    Row(
      variant,
      len(seeds),
      sorted(
        min(epoch for epoch, quality in curve if quality >= target)
        for curve in seeds.values()
        if any(quality >= target for _, quality in curve)
      ),
      sorted(
        max((q for _, q in curve if q == q), default=0.0)
        for curve in seeds.values()
      ),
    )
    for variant, seeds in curves.items()
  ]


def table(found: Sequence[Row]) -> str:
  """The rows as a Markdown table."""
  lines = [
    '| variant | reached | epochs: first, median, last | best quality: '
    'lowest, median, highest |',
    '|---|---|---|---|',
  ]
  for row in found:
    epochs = 'never'
    if row.epochs:
      middle = row.median_epochs
      middle = 'never' if middle is None else f'{middle:g}'
      epochs = f'{row.epochs[0]:g}, {middle}, {row.epochs[-1]:g}'
    best = (row.best[0], statistics.median(row.best), row.best[-1])
    lines.append(
      f'| {row.variant} | {len(row.epochs)} of {row.seeds} | {epochs} | '
      + ', '.join(f'{quality:.3f}' for quality in best)
      + ' |'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  if len(sys.argv) != 3:
    sys.exit(__doc__)
  print(table(rows(sys.argv[1], float(sys.argv[2]))))
