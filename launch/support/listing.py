"""Lists the benchmarks, their sizes, and whether their data is prepared."""

from input_pipelines.reading import places
from suite import benchmark as benchmark_lib


def text(data_dir: str) -> str:
  """A line for every size: benchmark, size, target, data set, its state."""
  rows = [('benchmark', 'size', 'target', 'data')]
  for name in benchmark_lib.names():
    benchmark = benchmark_lib.get(name)
    for size_name, size in benchmark.sizes.items():
      data = _data(data_dir, size.data.name)
      rows.append((name, size_name, str(size.target), data))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(f'{c:{w}}' for c, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )


def _data(data_dir: str, name: str) -> str:
  if not name:
    return 'makes its own'
  try:
    return f'{name}: in {places.find(data_dir, name)}'
  except (FileNotFoundError, ValueError):
    return f'{name}: not prepared (launch.prepare_data --dataset={name})'
