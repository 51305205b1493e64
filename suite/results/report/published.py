"""Published results of official rounds, for a sense of size and no more.

`published.csv` holds facts read from the public result logs of the rounds v0.5
to v5.0: minutes from run_start to run_stop, averaged without the fastest and
the slowest run, not normalised. Official tables may differ by a few percent.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import functools
import math
import pathlib

from suite.results.records import RunRecord

SOURCE = (
  'Computed from the result logs that MLCommons published for MLPerf Training '
  'v0.5 to v5.0, in the repositories mlcommons/training_results_<round>. '
  'Not normalised; official tables may differ a little.'
)
_PATH = pathlib.Path(__file__).parent / 'published.csv'
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Entry:
  """One published result."""

  round: str
  submitter: str
  system: str
  accelerators: int | None  # where the name of the system tells
  minutes: float


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
  found = _all().get(result.benchmark, ())
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


@functools.cache
def _all() -> Mapping[str, Sequence[Entry]]:
  found: dict[str, list[Entry]] = {}
  with _PATH.open(encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file):
      found.setdefault(row['benchmark'], []).append(
        Entry(
          round=row['round'],
          submitter=row['submitter'],
          system=row['system'],
          accelerators=int(row['accelerators'])
          if row['accelerators']
          else None,
          minutes=float(row['minutes']),
        )
      )
  return found
