"""The score of a set of runs: what it is, and how far to trust it.

Of a benchmark's runs the fastest and the slowest are left out and the rest is
averaged. A run that did not converge counts as the slowest; more such runs
than are left out there leave no score.

`olympic` is that mean, `windows` picks the runs where there are more than
enough, `spread` tells system from chance, `weak` counts models trained side by
side, `rounds` knows what official rounds ask for, `runs` takes the numbers from
logs of ours and of any round, `logs` scores a folder of them.
"""

from suite.results.scoring.logs import folders, logs_in, score, side_by_side
from suite.results.scoring.olympic import CONFIDENCE, Olympic, olympic
from suite.results.scoring.rounds import Convention, convention
from suite.results.scoring.runs import (
  Run,
  from_audit,
  from_old,
  time_to_quality,
)
from suite.results.scoring.spread import split
from suite.results.scoring.weak import Throughput, throughput
from suite.results.scoring.windows import Window, median_window

__all__ = [
  'CONFIDENCE', 'Convention', 'Olympic', 'Run', 'Throughput', 'Window',
  'convention', 'folders', 'from_audit', 'from_old', 'logs_in',
  'median_window', 'olympic', 'score', 'side_by_side', 'split', 'throughput',
  'time_to_quality',
]  # fmt: skip
