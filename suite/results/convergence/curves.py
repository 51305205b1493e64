"""Tables of learning curves: an eval a row, of many seeds and variants."""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import io
import os

from suite import files
from suite.target import Target

# Column of the place of an eval -> the same in the metadata of a log.
PLACES = {'epoch': 'epoch_num', 'samples': 'samples_count'}

# Share of the reference's seeds that may miss a target of our own.
MOST_MISSED = 0.03


@dataclasses.dataclass(frozen=True)
class Curve:
  """Evals of one seed of a variant: (place, quality)."""

  variant: str
  seed: str
  evals: tuple[tuple[float, Mapping[str, float]], ...]

  def reached(self, target: Target) -> float | None:
    """Place of the first eval that meets the target; None: none does."""
    met = (at for at, quality in self.evals if target.met_by(quality))
    return min(met, default=None)


def column(places: Sequence[Mapping[str, float]]) -> str:
  """Column for places that a log names so: epochs where it names them."""
  named = {name for place in places for name in place}
  return next((c for c, name in PLACES.items() if name in named), 'epoch')


def read(path: str | os.PathLike, metrics: Sequence[str]) -> list[Curve]:
  """Reads the curves of a CSV, in its order.

  Its columns are variant, seed, epoch or samples, and the metrics. Raises
  ValueError where it lacks them.
  """
  curves: dict[tuple[str, str], list] = {}
  reader = csv.DictReader(io.StringIO(files.read_text(path), newline=''))
  try:
    given = set(reader.fieldnames or ())
    place = next((name for name in PLACES if name in given), 'epoch')
    if missing := {'variant', 'seed', place, *metrics} - given:
      raise ValueError(
        f'Expected the columns variant, seed, epoch or samples, '
        f'{", ".join(metrics)} in {path}, got no {", ".join(sorted(missing))}.'
      )
    for row in reader:
      found = _eval(f'line {reader.line_num} of {path}', row, place, metrics)
      curves.setdefault((row['variant'], row['seed']), []).append(found)
  except csv.Error as error:
    raise ValueError(f'Cannot read {path}: {error}') from None
  return [Curve(*key, tuple(evals)) for key, evals in curves.items()]


def reached(
  path: str | os.PathLike, target: Target, *, variant: str = 'reference'
) -> list[float | None]:
  """Place at which each seed of a variant met the target; see `read`."""
  curves = [
    curve for curve in read(path, target.metrics) if curve.variant == variant
  ]
  if not curves:
    raise ValueError(f'Expected curves of variant {variant!r} in {path}.')
  return [curve.reached(target) for curve in curves]


def _eval(where: str, row: Mapping[str, str], place: str, metrics):
  try:
    # A run that ended before its first eval has no quality.
    quality = {name: float(row[name] or 'nan') for name in metrics}
    return float(row[place]), quality
  except (TypeError, ValueError):
    got = {name: row[name] for name in (place, *metrics)}
    raise ValueError(f'Expected numbers in {where}, got {got}.') from None
