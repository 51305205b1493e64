"""Files of points: the official JSON, read and written, and its places."""

from collections.abc import Iterable, Mapping, Sequence
import importlib.resources
import json
import os
import pathlib
import re
from typing import Any

from mlperf_logging import benchmark_meta

from suite import files
from suite.files import is_number
from suite.results.convergence.points import Point, Points

# Where our own points lie: in each benchmark's folder, a file a ruleset.
_OURS = 'suite.benchmarks'
_OFFICIAL = 'mlperf_logging.rcp_checker'
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}')
_RULESET = re.compile(r'(hpc_)?[A-Za-z0-9][A-Za-z0-9-]*(\.[0-9]+)*')
_ORIGIN = ('Creator', 'When', 'Platform', 'Precision')
_EPOCHS, _SAMPLES = 'Epochs to converge', 'samples to converge'
# The checker reads the samples of these under a key that says so, ...
_SAMPLES_KEY = frozenset({'flux1', 'llama2_70b_lora'})
# ... and drops more runs, or takes off something, of these.
_DROPPED = {'unet3d': 4}
_SLACK = {'llama31_405b': 46_080.0}
_ALIASES = {'sd': 'stable_diffusion'}
# Whose logs say after how many samples they met the target; others say epochs,
# though some of those (bert) put samples under that name too.
BY_SAMPLES = frozenset({
  'deepseekv3_671b', 'dlrmv4', 'flux1', 'gpt_oss_20b', 'llama2_70b_lora',
  'llama31_405b', 'llama31_8b', 'qwen35_397b_grpo', 'stable_diffusion',
})  # fmt: skip
_MOST_EPOCHS = 10_000  # no reference trains for more
_UNITS = {'sd': 'steps'}  # of round 3.1
_MAX_BYTES = 16 << 20


def load(
  path: str | os.PathLike,
  *,
  runs: int | None = None,
  dropped: int | None = None,
) -> Points:
  """Reads a file of points, all of one benchmark.

  `runs` and `dropped` (of a result, as in `Benchmark`) may be left out for
  benchmarks of official rounds. Raises ValueError naming the file and what was
  expected; a batch size that comes twice is refused too, where the official
  checker takes the first.
  """
  path = pathlib.Path(path)
  if path.is_file() and path.stat().st_size > _MAX_BYTES:
    raise ValueError(f'Expected points in {path}, got {path.stat().st_size} B.')
  try:
    content = files.read_json(str(path))
  except RecursionError:
    raise ValueError(
      f'Expected points in {path}, got lists in lists.'
    ) from None
  try:
    return _points(content, runs, dropped)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def save(path: str | os.PathLike, points: Points) -> None:
  """Writes points as the official checker reads them."""
  content = {point.name: _record(points, point) for point in points.points}
  text = json.dumps(content, indent=2, allow_nan=False)
  # One line for each list of numbers: people read these files.
  text = re.sub(
    r'\[\n\s+([^][{}]*?)\n\s+\]',
    lambda match: '[' + re.sub(r',\n\s+', ', ', match[1]) + ']',
    text,
  )
  files.write_text(str(path), text + '\n')


def find(
  benchmark: str,
  ruleset: str,
  *,
  runs: int | None = None,
  dropped: int | None = None,
) -> Points:
  """The points of a benchmark in a ruleset: Podium's own, or an official one.

  Official rulesets are named as '4.0.0', those of the HPC suite as
  'hpc_3.0.0'. Raises ValueError where there are none. Both names may come from
  an untrusted log.
  """
  path = where(benchmark, ruleset)
  if path is None or not path.is_file():
    raise ValueError(
      f'There are no convergence points of {benchmark!r} in ruleset '
      f'{ruleset!r}: launch.convergence --make=FILE makes them; a draft '
      'needs none.'
    )
  return load(path, runs=runs, dropped=dropped)


def where(benchmark: str, ruleset: str) -> pathlib.Path | None:
  """Path of the points of a benchmark, if there are any; None: no name."""
  if not (_NAME.fullmatch(benchmark) and _RULESET.fullmatch(ruleset)):
    return None
  for folder in importlib.import_module(_OURS).__path__:
    own = pathlib.Path(folder) / benchmark / 'rcps' / f'{ruleset}.json'
    if own.is_file():
      return own
  usage = '' if ruleset.startswith('hpc_') else 'training_'
  folder = _folder(_OFFICIAL) / f'{usage}{ruleset}'
  return folder / f'rcps_{benchmark}.json'


def _folder(package: str) -> pathlib.Path:
  return pathlib.Path(str(importlib.resources.files(package)))


def official_runs(benchmark: str) -> int | None:
  """Runs that make a result of a benchmark of official rounds."""
  counts = {
    **benchmark_meta.get_result_file_counts('hpc'),
    **benchmark_meta.get_result_file_counts('training'),
  }
  return counts.get(benchmark)


def official_dropped(benchmark: str) -> int:
  """The fastest runs, and as many slowest, that a mean leaves out."""
  return _DROPPED.get(benchmark, 1)


def assemble(
  benchmark: str,
  points: Iterable[Point],
  *,
  runs: int | None = None,
  dropped: int | None = None,
  unit: str = '',
) -> Points:
  """Points of a benchmark in their order, judged as in official rounds.

  `runs` and `dropped` as in `load`, which raises what this raises; `unit` where
  neither the benchmark nor the values tell.
  """
  points = tuple(sorted(points, key=lambda point: point.batch_size))
  runs = official_runs(benchmark) if runs is None else runs
  if runs is None:
    raise ValueError(
      f'How many runs make a result of {benchmark!r} is unknown.'
    )
  return Points(
    benchmark=benchmark,
    points=points,
    runs=runs,
    dropped=official_dropped(benchmark) if dropped is None else dropped,
    unit=unit or _unit(benchmark, points),
    slack=_SLACK.get(benchmark, 0.0),
  )


def _points(content: Any, runs: int | None, dropped: int | None) -> Points:
  if not isinstance(content, dict) or not content:
    raise ValueError('Expected an object of points by name, got none.')
  names = {_field(n, r, 'Benchmark', str) for n, r in content.items()}
  if len(names) > 1:
    raise ValueError(
      f'Expected points of one benchmark, got {", ".join(sorted(names))}.'
    )
  (given,) = names
  name = _ALIASES.get(given, given)
  points = [_point(label, record) for label, record in content.items()]
  named = any(_SAMPLES in record for record in content.values())
  unit = _UNITS.get(given, 'samples' if named else '')
  return assemble(name, points, runs=runs, dropped=dropped, unit=unit)


def _unit(benchmark: str, points: Sequence[Point]) -> str:
  most = max((value for p in points for value in p.values), default=0)
  by_samples = benchmark in BY_SAMPLES or most > _MOST_EPOCHS
  return 'samples' if by_samples else 'epochs'


def _point(name: str, record: Mapping[str, Any]) -> Point:
  key = _SAMPLES if _SAMPLES in record else _EPOCHS
  values = _field(name, record, key, list)
  for value in values:
    if not is_number(value):
      raise ValueError(f'Expected numbers as {key!r} of {name}, got {value!r}.')
  return Point(
    name=name,
    batch_size=_field(name, record, 'BS', int),
    values=tuple(values),
    hparams=_field(name, record, 'Hyperparams', dict),
    origin={k: str(record[k]) for k in _ORIGIN if k in record},
  )


def _field(name: str, record: Any, key: str, kind: type) -> Any:
  value = record.get(key) if isinstance(record, dict) else None
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(
      f'Expected {key!r} of {name} as {kind.__name__}, got {value!r}.'
    )
  return value


def _record(points: Points, point: Point) -> dict[str, Any]:
  samples = points.benchmark in _SAMPLES_KEY
  if official_runs(points.benchmark) is None:  # nobody else reads ours
    samples = points.unit == 'samples'
  return {
    'Benchmark': points.benchmark,
    **point.origin,
    'BS': point.batch_size,
    'Hyperparams': dict(point.hparams),
    _SAMPLES if samples else _EPOCHS: list(point.values),
  }
