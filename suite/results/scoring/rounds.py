"""Conventions of official rounds, for benchmarks that are not here."""

import dataclasses

from suite.results.convergence import store

# Rounds v0.5 and v0.6 launched a hundred runs of this one, of which many never
# converge, and kept the first fifty that did.
_FIRST_CONVERGED = {'ncf': 50}


@dataclasses.dataclass(frozen=True)
class Convention:
  """Number of runs that make a result, and those that count."""

  runs: int | None  # None: nobody says
  dropped: int  # fastest runs, and as many slowest
  # Whether only runs that converged are counted, in the order of launch.
  only_converged: bool = False


def convention(benchmark: str | None) -> Convention:
  """The convention for a benchmark by the name that logs have for it."""
  if benchmark in _FIRST_CONVERGED:
    return Convention(_FIRST_CONVERGED[benchmark], 1, only_converged=True)
  name = benchmark or ''
  return Convention(store.official_runs(name), store.official_dropped(name))
