"""Official rounds: their rulesets, and the benchmarks of each."""

from collections.abc import Iterable
import functools

from mlperf_logging import benchmark_meta

from suite.results.audit.official import order, rulesets


@functools.cache
def knowing(benchmark: str) -> tuple[str, ...]:
  """The rulesets that have a benchmark, the oldest first."""
  return tuple(each for each in rulesets() if benchmark in _allowed(each))


def common(benchmarks: Iterable[str]) -> tuple[str, ...]:
  """The rulesets that have all of some benchmarks, the oldest first."""
  wanted = set(benchmarks)
  return tuple(each for each in rulesets() if wanted <= _allowed(each))


def at_least(ruleset: str, other: str) -> bool:
  """Returns whether an official ruleset is `other` or newer."""
  return ruleset in rulesets() and order(ruleset) >= order(other)


@functools.cache
def _allowed(ruleset: str) -> frozenset[str]:
  try:
    names = benchmark_meta.get_allowed_benchmarks('training', ruleset)
  except ValueError:
    return frozenset()
  return frozenset(names)
