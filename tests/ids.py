"""Parameters of tests whose ids carry names, so that `-k bert` selects."""

from collections.abc import Callable, Iterable

from absl.testing import parameterized

from suite import benchmark


def each(names: Iterable[str]) -> Callable[..., object]:
  """Runs a test with each name, of benchmarks for one."""
  return parameterized.named_parameters(*[(name, name) for name in names])


def each_size() -> Callable[..., object]:
  """Runs a test with each benchmark's name and the name of each size."""
  return parameterized.named_parameters(
    *[
      (f'{name}_{size}', name, size)
      for name in benchmark.names()
      for size in benchmark.get(name).sizes
    ]
  )
