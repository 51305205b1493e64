"""Job description, from which every launcher's file is made."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
import types
import typing
from typing import Any

import yaml

from launch import profiles
from launch.aot import systems
from suite import benchmark as benchmark_lib
from suite import files, names
from suite import hparams as hparams_lib
from suite.hparams import Division
from suite.log_keys import STATUSES

GPUS, TPUS = tuple(systems.kinds('gpu')), tuple(systems.kinds('tpu'))
HARDWARE = ('cpu', *GPUS, *TPUS)

_MAX_BYTES = 256 << 10  # of a file
_NAME = re.compile(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?')
_TIME = re.compile(r'(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)')
_VARIABLE = re.compile(r'[A-Za-z_]\w*')
# Flags of launch.train that a description has a field for.
_OWN_FLAGS = (
  'benchmark', 'size', 'division', 'data_dir', 'output', 'profile', 'run',
  'submission_org', 'submission_platform', 'submission_status', 'platform',
  'resume', 'compiler_option', 'hp', 'flagfile',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slurm:
  """Settings for Slurm only."""

  partition: str = ''
  account: str = ''
  options: Sequence[str] = ()  # further lines of sbatch: --qos=high


@dataclasses.dataclass(frozen=True)
class Mpirun:
  """Settings for Open MPI only."""

  hostfile: str = ''  # a host a line; empty: this machine
  options: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Gcloud:
  """Settings of a TPU VM: its name, and how to create it."""

  tpu: str = ''  # its name
  project: str = ''
  zone: str = ''
  accelerator_type: str = ''  # v5litepod-256
  version: str = ''  # of the VM's software: v2-alpha-tpuv5-lite
  options: Sequence[str] = ()  # of every gcloud call: --internal-ip


@dataclasses.dataclass(frozen=True)
class Kubernetes:
  """Settings for a JobSet only."""

  namespace: str = ''
  queue: str = ''  # of Kueue
  accelerator: str = ''  # GKE's label, where it is not the usual one
  claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # volume claim -> where it is mounted; data and output lie there
  memory: str = ''  # of a pod: 900Gi


@dataclasses.dataclass(frozen=True)
class Sky:
  """Settings for SkyPilot only."""

  cloud: str = ''
  region: str = ''
  accelerators: str = ''  # where it is not hardware:chips_per_host
  mounts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Job:
  """A set of runs, where it runs and with what."""

  benchmark: str
  hardware: str  # kind of chip, one of HARDWARE
  data: str  # directory of the data sets, on every host
  output: str  # directory of the result; of all hosts where they share disks
  chips_per_host: int
  hosts: int = 1  # in all
  slices: int = 1  # of TPUs; the hosts are shared out evenly
  topology: str = ''  # of a slice: 16x16
  processes_per_host: int = 1
  name: str = ''  # by default benchmark and size
  size: str = 'reference'
  division: str = 'closed'
  batch: int | None = None  # of all chips together
  hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  runs: int | None = None  # by default what the rules want
  retries: int = 2  # how often an interrupted run is resumed
  time_limit: str = '4:00:00'  # of the whole job: [days-]hours:minutes:seconds
  profile: str = ''
  compiler_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  flags: Sequence[str] = ()  # further flags of launch.train
  code: str = '.'  # directory of this project on every host
  python: str = 'python3'  # that has it installed
  container: str = ''  # image that holds both
  mounts: Sequence[str] = ()  # into the container: /data:/data
  org: str = 'unofficial'
  platform: str = ''  # name of the system in the result
  status: str = 'research'
  slurm: Slurm = Slurm()
  mpirun: Mpirun = Mpirun()
  gcloud: Gcloud = Gcloud()
  kubernetes: Kubernetes = dataclasses.field(default_factory=Kubernetes)
  sky: Sky = dataclasses.field(default_factory=Sky)

  @property
  def processes(self) -> int:
    """Number of processes on all hosts."""
    return self.hosts * self.processes_per_host

  @property
  def chips_per_process(self) -> int:
    """Chips of each process."""
    return self.chips_per_host // self.processes_per_host

  @property
  def backend(self) -> str:
    """JAX's name of the platform."""
    if self.hardware in TPUS:
      return 'tpu'
    return 'gpu' if self.hardware in GPUS else 'cpu'

  @property
  def seconds(self) -> int:
    """The time limit."""
    days, hours, minutes, seconds = _TIME.fullmatch(self.time_limit).groups()
    hours = int(days or 0) * 24 + int(hours)
    return (hours * 60 + int(minutes)) * 60 + int(seconds)


def read(path: str, changes: Sequence[str] = ()) -> Job:
  """The job of a YAML file, with changes as name=value; ValueError if wrong.

  A name inside a section has a dot: slurm.partition.
  """
  values = read_fields(path)
  for change in changes:
    _change(values, change)
  try:
    return job(values)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def read_fields(path: str) -> dict[str, Any]:
  """The fields of a YAML file, not checked; ValueError where it has none."""
  text = files.read_text(path, _MAX_BYTES)
  try:
    values = _parse(text)
  except ValueError as error:
    raise ValueError(f'{path} is no YAML: {error}') from None
  if not isinstance(values, dict):
    raise ValueError(f'{path}: expected a job, fields with values.')
  return values


def job(values: Mapping[str, Any]) -> Job:
  """The job of a description, checked; ValueError for the first fault."""
  made = _make(Job, values, '')
  _check(made)
  benchmark = benchmark_lib.get(made.benchmark)
  hparams_lib.override(
    benchmark.size(made.size).hparams,
    hyperparameters(made),
    Division(made.division),
  )
  name = made.name or f'{made.benchmark}-{made.size}'.replace('_', '-')
  if not _NAME.fullmatch(name):
    raise ValueError(
      'name is of small letters, digits and dashes, 40 at most and a letter '
      f'first, not {name!r}.'
    )
  return dataclasses.replace(made, runs=made.runs or benchmark.runs, name=name)


def hyperparameters(made: Job) -> dict[str, str]:
  """As --hp takes them."""
  given = {n: hparams_lib.as_text(v) for n, v in made.hparams.items()}
  if made.batch is None:
    return given
  return {_batch_name(made): str(made.batch), **given}


def _batch_name(made: Job) -> str:
  """The benchmark's name for the global batch size."""
  size = benchmark_lib.get(made.benchmark).size(made.size)
  return hparams_lib.batch(size.hparams).name


def _make(kind: type, values: Mapping[str, Any], place: str) -> Any:
  """A dataclass of the values, each of its field's type."""
  fields = {field.name: field for field in dataclasses.fields(kind)}
  hints = typing.get_type_hints(kind)
  made = {}
  for name, value in values.items():
    what = f'field of {place.rstrip(".")}' if place else 'field'
    names.require(what, str(name), fields)
    made[name] = _typed(f'{place}{name}', value, hints[name])
  for name, field in fields.items():
    no_default = field.default is field.default_factory is dataclasses.MISSING
    if no_default and name not in made:
      raise ValueError(f'{place}{name} is needed.')
  return kind(**made)


def _typed(name: str, value: Any, hint: Any) -> Any:
  if dataclasses.is_dataclass(hint):
    _require(isinstance(value, dict), name, 'fields with values', value)
    return _make(hint, value, f'{name}.')
  if isinstance(hint, types.UnionType):
    hint = next(t for t in typing.get_args(hint) if t is not type(None))
  origin = typing.get_origin(hint)
  if origin is Mapping:
    _require(isinstance(value, dict), name, 'names with values', value)
    for each in value.values():
      _require(isinstance(each, str | int | float), name, 'plain values', each)
    for each in (*value, *value.values()):
      _line(name, 'texts', str(each))
    return {str(key): each for key, each in value.items()}
  if origin is Sequence:
    _require(isinstance(value, list), name, 'a list of texts', value)
    return tuple(_line(name, 'a list of texts', each) for each in value)
  if hint is int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    least = 0 if name == 'retries' else 1
    expected = f'a whole number from {least} on'
    _require(whole and value >= least, name, expected, value)
    return value
  if name == 'time_limit' and isinstance(value, int):
    # YAML reads 4:00:00 as a number to the base of 60.
    minutes, seconds = divmod(value, 60)
    value = f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'
  return _line(name, 'a text', value)


def _require(holds: bool, name: str, expected: str, value: Any) -> None:
  if not holds:
    raise ValueError(f'{name} is {expected}, not {value!r}.')


def _line(name: str, expected: str, value: Any) -> str:
  _require(isinstance(value, str), name, expected, value)
  # YAML and shells know line breaks beyond ASCII's; none is printable.
  _require(value.isprintable(), name, 'one line of text', value)
  return value


def _check(made: Job) -> None:
  """Checks the constraints that types do not express."""
  names.require('hardware', made.hardware, HARDWARE)
  names.require('division', made.division, [each.value for each in Division])
  names.require('status', made.status, STATUSES)
  if not _TIME.fullmatch(made.time_limit) or not made.seconds:
    raise ValueError(
      f'time_limit is [days-]hours:minutes:seconds, not {made.time_limit!r}.'
    )
  if made.topology and not re.fullmatch(r'\d+(x\d+){1,2}', made.topology):
    raise ValueError(f'topology is like 16x16, not {made.topology!r}.')
  _shares(made)
  for path in (made.data, made.output, made.code, made.python):
    if path.startswith(('~', '-')) or not path:
      raise ValueError(f'A path begins with / or a name, not as {path!r}.')
  if made.gcloud.tpu and not _NAME.fullmatch(made.gcloud.tpu):
    raise ValueError(f'gcloud.tpu is a name, not {made.gcloud.tpu!r}.')
  if made.batch is not None and (name := _batch_name(made)) in made.hparams:
    raise ValueError(f'batch and hparams.{name} are the same: one.')
  profiles.with_options(
    profiles.load(made.profile),
    [
      f'{name}={hparams_lib.as_text(v)}'
      for name, v in made.compiler_options.items()
    ],
  )
  for name in made.environment:
    if not _VARIABLE.fullmatch(name):
      raise ValueError(f'environment has no variable {name!r}.')
  for text in made.flags:
    found = re.fullmatch('--([a-z_]+)(=.*)?', text, re.DOTALL)
    if not found:
      raise ValueError(f'flags are like --watchdog_seconds=300, not {text!r}.')
    if found[1] in _OWN_FLAGS:
      raise ValueError(f'flags must not hold --{found[1]}: it follows.')


def _shares(made: Job) -> None:
  if made.chips_per_host % made.processes_per_host:
    raise ValueError(
      f'{made.chips_per_host} chips per host are not to be shared evenly by '
      f'{made.processes_per_host} processes per host.'
    )
  if made.hosts % made.slices:
    raise ValueError(
      f'hosts are those of all slices: {made.hosts} are not to be shared '
      f'evenly by {made.slices}.'
    )
  if made.hardware not in TPUS and (made.slices > 1 or made.topology):
    raise ValueError(f'{made.hardware} has no slices and no topology.')
  if made.hardware in TPUS and made.processes_per_host != 1:
    raise ValueError('A host of TPUs has one process: processes_per_host is 1.')
  if made.topology:
    chips = math.prod(int(side) for side in made.topology.split('x'))
    have = made.hosts // made.slices * made.chips_per_host
    if chips != have:
      raise ValueError(
        f'A slice of topology {made.topology} has {chips} chips, but '
        f'{made.hosts // made.slices} hosts of {made.chips_per_host} chips '
        f'have {have}.'
      )


def _change(values: dict[str, Any], text: str) -> None:
  name, value = names.assignment('set', text)
  *sections, field = name.split('.')
  for section in sections:
    values = values.setdefault(section, {})
    if not isinstance(values, dict):
      raise ValueError(f'--set={text}: {section} holds no fields.')
  try:
    values[field] = _parse(value) if value else ''
  except ValueError as error:
    raise ValueError(f'--set={text}: {error}') from None


def _parse(text: str) -> Any:
  """Value of YAML; aliases, which expand without bound, are refused."""
  try:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):  # does not recurse
      depth += isinstance(event, yaml.CollectionStartEvent)
      depth -= isinstance(event, yaml.CollectionEndEvent)
      if isinstance(event, yaml.AliasEvent):
        raise ValueError(
          f'expected values written out, got the alias *{event.anchor} in '
          f'line {event.start_mark.line + 1}'
        )
      if depth > files.MAX_DEPTH:
        raise ValueError(
          f'expected values at most {files.MAX_DEPTH} deep, got deeper ones'
        )
    return yaml.safe_load(text)
  except yaml.YAMLError as error:
    raise ValueError(' '.join(str(error).split())) from None
