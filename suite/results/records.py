"""Records of runs and of their score: typed, and read and written here alone.

A run leaves run_<i>.json, a `RunRecord`; a folder of runs score.json, a
`Score`. A file holds the fields of its class by name. Fields with a default may
be missing from a file; a value of another type is refused.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import re
import types
import typing
from typing import Any, Literal

from suite import files
from suite.files import is_number
from suite.target import Eval, Target

FORMAT = 1  # of run_<i>.json
SCORE = 'score.json'
_RUN = re.compile(r'run_(0|[1-9]\d{0,5})\.json')


@dataclasses.dataclass(frozen=True)
class Phase:
  """Seconds of a phase of a run, and its parts, which add up to them."""

  seconds: float
  parts: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Startup(Phase):
  """Startup; what exceeds its allowance counts."""

  allowance: float

  @property
  def excess(self) -> float:
    """Seconds that are added to the time of the run."""
    return max(0.0, self.seconds - self.allowance)


@dataclasses.dataclass(frozen=True)
class Setting:
  """A hyperparameter of a run beside the reference's."""

  value: Any
  reference: Any
  key: str | None  # of the log
  tunable: bool
  help: str


@dataclasses.dataclass(frozen=True)
class DataUsed:
  """The data set of a run."""

  name: str
  fingerprint: str
  skipped_records: Sequence[Any] = ()
  start_weights: str | None = None  # that it started from, by data set
  start_sha256: str | None = None  # their digest


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """A finished run, as the report shows it and as it can be repeated."""

  benchmark: str
  size: str
  ruleset: str
  division: str
  run: int
  seed: int | None  # None: a log of others that does not say
  status: str  # 'success' or 'aborted'
  reason: str
  target: Target
  time_to_quality: float | None  # seconds; None: it missed the target
  startup: Startup
  timed: Phase
  evals: Sequence[Eval]
  losses: Sequence[tuple[int, float | None]]  # by step; None: not finite
  steps: int
  samples: int
  samples_per_second: float | None
  hyperparameters: Mapping[str, Setting]
  # Facts by name, which differ from one kind of system to another.
  system: Mapping[str, Any]
  versions: Mapping[str, str]
  data: DataUsed
  command: Sequence[str]
  started: str  # ISO time
  draft: bool = False  # see Benchmark
  flops_per_step: float | None = None
  resumed: Sequence[Mapping[str, Any]] = ()  # metadata of each `podium_resumed`
  preflight: Mapping[str, Any] | None = None
  profile: str = ''
  compiler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  spread: str = 'none'
  groups_across_hosts: bool = False
  flags: Sequence[str] = ()
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def kind(self) -> Mapping[str, Any]:
    """Facts that runs must share to be compared."""
    names = ('benchmark', 'size', 'division', 'target')
    return {name: getattr(self, name) for name in names}

  @property
  def devices(self) -> int:
    """Devices of all processes."""
    count = self.system.get('devices')
    return count if isinstance(count, int) and count > 0 else 1


@dataclasses.dataclass(frozen=True)
class Value:
  """One run in a score."""

  run: int
  seed: int | None
  status: str | None  # 'invalid': the audit contradicts the log's success
  seconds: float | None  # time to quality
  reached: float | None  # place of the last eval ...
  unit: str | None  # ... in epoch_num, samples_count or step_num
  quality: Mapping[str, float]
  batch_size: int | None
  dropped: Literal['fastest', 'slowest', 'window'] | None  # None: it counts


@dataclasses.dataclass(frozen=True)
class Part:
  """One quantity over several runs; `std` is that of a sample."""

  mean: float
  std: float | None  # None: a single run has no spread
  least: float
  most: float

  @property
  def relative(self) -> float | None:
    """The coefficient of variation."""
    return None if self.std is None else self.std / self.mean


@dataclasses.dataclass(frozen=True)
class Split:
  """The time of a run as its epochs times the seconds that each takes.

  Seconds per epoch say how fast a system is and hardly vary; epochs to the
  target are a matter of the algorithm and of chance. A change of a system shows
  in the former with far fewer runs.
  """

  unit: str  # in which training is counted: epoch_num, samples_count, ...
  system: Part  # seconds per unit
  algorithm: Part  # units to the target
  # Share of the variance of the logarithm of times that vanishes where all runs
  # take the same number of units; None where times do not vary.
  algorithm_share: float | None


@dataclasses.dataclass(frozen=True)
class Reference:
  """Convergence of the reference at a batch size."""

  batch_size: int
  mean: float
  std: float
  minimum: float  # the least mean that passes
  interpolated: bool


@dataclasses.dataclass(frozen=True)
class Convergence:
  """Verdict of the convergence points on the runs that count."""

  status: str
  text: str
  batch_size: int
  mean: float | None
  reference: Reference | None


@dataclasses.dataclass(frozen=True)
class Score:
  """The score of a folder of logs, and what it rests on.

  Times are in seconds. The score and its intervals are multiplied by `factor`;
  None as the upper end of `bootstrap` stands for infinity.
  """

  benchmark: str | None
  size: str
  division: str | None
  target: str | None  # in words
  runs: int
  required_runs: int | None
  score_seconds: float | None
  values: Sequence[Value]
  mean: float | None
  std: float | None
  coefficient_of_variation: float | None
  interval: tuple[float, float] | None
  confidence: float
  findings: Sequence[str]
  reason: str | None  # why this is no result; None: it is one
  command: Sequence[str]
  draft: bool = False  # see Benchmark
  unnormalised_seconds: float | None = None
  factor: float = 1.0
  window: Sequence[int] | None = None  # runs that count, where there were more
  bootstrap: tuple[float, float | None] | None = None
  split: Split | None = None
  convergence: Convergence | None = None

  @property
  def met(self) -> int:
    """Number of runs that met the target."""
    return sum(value.seconds is not None for value in self.values)


def write_run(path: str, record: RunRecord) -> None:
  """Writes a run's record, whole or not at all."""
  files.write_json(path, {'format': FORMAT, **plain(record)})


def read_run(path: str | os.PathLike) -> RunRecord:
  """Reads a run's record; ValueError naming the file and what is wrong."""
  content = _object(path)
  if content.get('format') != FORMAT:
    raise ValueError(
      f'Expected format {FORMAT} in {path}, got {content.get("format")!r}.'
    )
  return typed(RunRecord, content, os.fspath(path))


def read_runs(directory: str | os.PathLike) -> list[RunRecord]:
  """Reads the records in a folder, in the order of the runs.

  ValueError where there are none, or where they are of several kinds.
  """
  if not os.path.isdir(directory):
    raise ValueError(f'Expected a folder of runs, got {directory}.')
  found = {
    int(match[1]): os.path.join(directory, name)
    for name in os.listdir(directory)
    if (match := _RUN.fullmatch(name))
  }
  if not found:
    raise ValueError(
      f'Expected run_<i>.json in {directory}, got none; launch.benchmark makes '
      'them.'
    )
  records = [read_run(found[run]) for run in sorted(found)]
  require_one_kind(records, os.fspath(directory))
  return records


def require_one_kind(records: Sequence[RunRecord], where: str) -> None:
  """ValueError unless the runs may be compared with each other."""
  for name in records[0].kind:
    seen = sorted({str(record.kind[name]) for record in records})
    if len(seen) > 1:
      raise ValueError(
        f'Expected runs of one {name} in {where}, got {", ".join(seen)}.'
      )


def write_score(directory: str, score: Score) -> None:
  """Writes the score of a folder of logs into it."""
  files.write_json(os.path.join(directory, SCORE), plain(score))


def read_score(directory: str | os.PathLike) -> Score:
  """Reads the score of a folder of logs."""
  path = os.path.join(directory, SCORE)
  if not os.path.exists(path):
    raise ValueError(
      f'Expected {SCORE} in {directory}, got none; launch.score makes it.'
    )
  return typed(Score, _object(path), path)


def plain(value: Any) -> Any:
  """The value as JSON holds it; `typed` reads it back."""
  if isinstance(value, Target):
    return value.as_dict()
  if dataclasses.is_dataclass(value):
    return {
      each.name: plain(getattr(value, each.name))
      for each in dataclasses.fields(value)
    }
  if isinstance(value, Mapping):
    return {name: plain(each) for name, each in value.items()}
  if isinstance(value, list | tuple):
    return [plain(each) for each in value]
  return value


def typed(kind: Any, value: Any, name: str) -> Any:
  """A JSON value as a declared type; ValueError says where it is another."""
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if kind is Any:
    return value
  if origin in (types.UnionType, typing.Union):  # X | None
    return None if value is None else typed(inner[0], value, name)
  if kind is Target:
    bounds = typed(Mapping[str, Mapping[str, float]], value, name)
    if not any(
      {'at_least', 'at_most'} & each.keys() for each in bounds.values()
    ):
      raise ValueError(f'Expected at least one bound in {name}, got none.')
    return Target.of(bounds)
  if dataclasses.is_dataclass(kind):
    return _record(kind, value, name)
  if origin is typing.Literal:
    if value in inner:
      return value
    known = ', '.join(inner)
    raise ValueError(f'Expected {known} in {name}, got {_short(value)}.')
  if origin is Mapping and isinstance(value, dict):
    return {n: typed(inner[1], v, f'{name}: {n}') for n, v in value.items()}
  if origin is Sequence and isinstance(value, list):
    return tuple(typed(inner[0], each, name) for each in value)
  if origin is tuple and isinstance(value, list) and len(value) == len(inner):
    pairs = zip(inner, value, strict=True)
    return tuple(typed(each, v, name) for each, v in pairs)
  if is_number(value) if kind is float else type(value) is kind:
    return value
  raise ValueError(
    f'Expected {getattr(kind, "__name__", kind)} in {name}, '
    f'got {_short(value)}.'
  )


def _record(kind: type, value: Any, name: str) -> Any:
  if not isinstance(value, dict):
    raise ValueError(f'Expected an object in {name}, got {_short(value)}.')
  fields = dataclasses.fields(kind)
  missing = [
    each.name
    for each in fields
    if each.name not in value
    and each.default is each.default_factory is dataclasses.MISSING
  ]
  if missing:
    raise ValueError(f'{name} lacks {", ".join(missing)}.')
  hints = typing.get_type_hints(kind)
  given = [each.name for each in fields if each.name in value]
  return kind(**{
    n: typed(hints[n], value[n], f'{name}: {n}') for n in given
  })  # fmt: skip


def _object(path: str | os.PathLike) -> dict[str, Any]:
  content = files.read_json(os.fspath(path))
  if not isinstance(content, dict):
    raise ValueError(
      f'Expected an object in {path}, got a {type(content).__name__}.'
    )
  return content


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'
