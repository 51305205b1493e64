"""The official rules of every round, as data, and a log held to them.

The files come with mlperf-logging. The engine that evaluates them is ours: it
evaluates only rules that a short list of constructs allows (see `expressions`),
tells faults in words, and never raises on a value of a log.
"""

from suite.results.audit.official.choice import (
  DATED,
  KEYS,
  NAMED,
  TOGETHER,
  Choice,
  Evidence,
  choose,
  choose_together,
  contradicts,
)
from suite.results.audit.official.engine import (
  ACCURACY,
  Fault,
  Verdict,
  check,
  tensors,
)
from suite.results.audit.official.rules import (
  FORMER,
  benchmarks,
  keys,
  order,
  rulesets,
)

__all__ = [
  'ACCURACY', 'DATED', 'FORMER', 'KEYS', 'NAMED', 'TOGETHER', 'Choice',
  'Evidence', 'Fault', 'Verdict', 'benchmarks', 'check', 'choose',
  'choose_together', 'contradicts', 'keys', 'order', 'rulesets', 'tensors',
]  # fmt: skip
