"""Lists benchmarks, whether their data is prepared, and hyperparameters."""

from input_pipelines.reading import places
from launch.support import run_flags
from suite import benchmark as benchmark_lib
from suite import hparams
from suite.results.report.format import columns


def benchmarks(data_dir: str) -> str:
  """A line for every size: benchmark, size, target, data set, its state."""
  rows = [('benchmark', 'size', 'target', 'data')]
  for name in benchmark_lib.names():
    benchmark = benchmark_lib.get(name)
    for size_name, size in benchmark.sizes.items():
      data = _data(data_dir, size.data.name)
      rows.append((benchmark.label, size_name, str(size.target), data))
  return '\n'.join(columns(rows))


def hyperparameters(request: run_flags.Request) -> str:
  """The hyperparameters, one line each, with what Closed allows."""
  lines = []
  for each in hparams.declared(request.hparams):
    lines.append(
      f'  {each.name}={each.value}\n'
      f'      {each.help} Allowed: {each.allowed}. '
      f'Log key: {each.key or "none"}.'
    )
  return (
    f'Hyperparameters of {request.benchmark.name}, size {request.size_name}:\n'
    + '\n'.join(lines)
  )


def _data(data_dir: str, name: str) -> str:
  if not name:
    return 'makes its own'
  try:
    return f'{name}: in {places.find(data_dir, name)}'
  except (FileNotFoundError, ValueError):
    return f'{name}: not prepared (launch.prepare_data --dataset={name})'
