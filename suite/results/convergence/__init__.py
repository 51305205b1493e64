"""Reference convergence points: finds runs that converge suspiciously early.

A reference convergence point (RCP) lists after how many epochs or samples each
of many runs of the reference met the target, at one batch size. A submission
whose mean is below what chance explains is rejected; one that is faster within
chance has its time multiplied by the reference's mean over its own, so that
luck buys nothing.

`points` judges, `store` reads and writes the official JSON, `curves` reads
tables of whole curves, `recipe` suggests hyperparameters. All of them take
plain numbers: `suite.results.audit.reached` takes these from logs.
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
from suite.results.convergence.store import find, load, save

__all__ = [
  'ALPHA', 'MISSING', 'NOT_CONVERGED', 'PASSES', 'TOO_FAST', 'TOO_FEW',
  'Expected', 'Point', 'Points', 'Recipe', 'Verdict', 'find', 'load',
  'save', 'suggest',
]  # fmt: skip
