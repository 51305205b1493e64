"""Statistics of the data that a benchmark makes itself, block by block."""

from collections.abc import Mapping, Sequence
import dataclasses

from suite.log_keys import MADE
from suite.results.records import Eval
from suite.results.report import format as fmt
from suite.results.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Row:
  """One statistic of one run's blocks, in words."""

  name: str
  run: str
  first: str
  mean: str
  last: str


def rows(runs: Sequence[Run]) -> list[Row]:
  """One row a run for every statistic that a log names; often none."""
  keys = dict.fromkeys(
    key for run in runs for found in run.result.evals for key in of_eval(found)
  )
  made = [_row(key, run) for key in keys for run in runs]
  return [row for row in made if row]


def of_eval(found: Eval) -> Mapping[str, float]:
  """The statistics of the block before an eval, by their names in tables."""
  return {
    key.removeprefix(MADE): value for key, value in found.statistics.items()
  }


def _row(key: str, run: Run) -> Row | None:
  values = [
    value
    for found in run.result.evals
    if (value := of_eval(found).get(key)) is not None
  ]
  if not values:
    return None
  return Row(
    name=key.replace('_', ' '),
    run=run.label,
    first=_text(values[0]),
    mean=_text(sum(values) / len(values)),
    last=_text(values[-1]),
  )


def _text(value: float) -> str:
  return fmt.count(round(value)) if abs(value) >= 100 else f'{value:.3g}'
