"""Reference convergence points: whether runs converged suspiciously early.

A reference convergence point (RCP) holds after how many epochs each of many
runs of the reference met the target, at one batch size. A submission whose mean
is below what chance explains is rejected; one that is faster within chance has
its time multiplied by reference mean over its own, so that luck buys nothing.

`points` judges, `store` reads and writes the official JSON, `runs` takes the
values from audited logs, `recipe` suggests hyperparameters. What scores a set
of runs calls `factor(judge(audited.runs, points))`.
"""

from suite.results.convergence.points import (
  ALPHA,
  MISSING,
  NOT_CONVERGED,
  PASSES,
  TOO_FAST,
  TOO_FEW,
  Expected,
  Point,
  Points,
  Verdict,
)
from suite.results.convergence.recipe import Recipe, suggest
from suite.results.convergence.runs import (
  Convergence,
  convergence,
  factor,
  from_curves,
  judge,
)
from suite.results.convergence.store import find, load, save

__all__ = [
  'ALPHA', 'MISSING', 'NOT_CONVERGED', 'PASSES', 'TOO_FAST', 'TOO_FEW',
  'Convergence', 'Expected', 'Point', 'Points', 'Recipe', 'Verdict',
  'convergence', 'factor', 'find', 'from_curves', 'judge', 'load', 'save',
  'suggest',
]  # fmt: skip
