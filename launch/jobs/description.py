"""Job description, from which every launcher's file is made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import re
import types
import typing
from typing import Any

import yaml

from launch import profiles
from launch.aot import systems
from launch.jobs import faults, placing
from launch.jobs.placing import GPUS, TPUS
from suite import benchmark as benchmark_lib
from suite import files, names
from suite import hparams as hparams_lib
from suite.hparams import Division
from suite.log_keys import STATUSES

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
  """A set of runs, where it runs and with what.

  Made by `job`, it has the fields that follow from others.
  """

  benchmark: str
  data: str  # directory of the data sets, on every host; or a bucket
  output: str  # directory of the result; of all hosts where they share disks
  system: str = ''  # as launch.compile takes it: v5p-512, v5e-256x2, h100-64
  hardware: str = ''  # kind of chip, one of HARDWARE; follows from system
  chips_per_host: int | None = None  # follows from system
  hosts: int | None = None  # in all; follows from system, else 1
  slices: int | None = None  # of TPUs; the hosts are shared out evenly
  topology: str = ''  # of a slice: 16x16; follows from its chips
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
  def devices_per_chip(self) -> int:
    """Devices that JAX has on each chip."""
    return systems.devices_per_chip(self.hardware)

  @property
  def devices(self) -> int:
    """Devices that JAX has on all hosts."""
    return self.hosts * self.chips_per_host * self.devices_per_chip

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
  """The job of a YAML file with changes; ValueError if it is wrong."""
  try:
    return job(read_fields(path, changes))
  except faults.Faults as error:
    raise ValueError(f'{path}: {error}') from None


def read_fields(path: str, changes: Sequence[str] = ()) -> dict[str, Any]:
  """The fields of a YAML file, not checked; ValueError where it has none.

  Changes are given as name=value; a name inside a section has a dot:
  slurm.partition.
  """
  text = files.read_text(path, _MAX_BYTES)
  try:
    values = _parse(text)
  except ValueError as error:
    raise ValueError(f'{path} is no YAML: {error}') from None
  if not isinstance(values, dict):
    raise ValueError(f'{path}: expected a job, fields with values.')
  for change in changes:
    _change(values, change)
  return values


def job(values: Mapping[str, Any]) -> Job:
  """The job of a description, checked; Faults, which are all that it has."""
  draft = examined(values)
  faults.require_none(draft.faults)
  return draft.job


@dataclasses.dataclass
class Draft:
  """A job, its faults, and the fields that have any; these are not to be read.

  A field without a value, as it is missing or of another type, has its default
  or is empty.
  """

  job: Job
  faults: list[str] = dataclasses.field(default_factory=list)
  wrong: set[str] = dataclasses.field(default_factory=set)

  def check(
    self, fields: Sequence[str], check: Callable[..., Any], *arguments: Any
  ) -> Any:
    """Result of a check; None where it fails, or a field it reads is wrong."""
    if self.wrong.intersection(fields):
      return None
    made: list[Any] = []
    found = faults.of(lambda: made.append(check(*arguments)))
    self.faults += found
    if found:
      self.wrong.update(fields)
    return made[0] if made else None


def examined(values: Mapping[str, Any]) -> Draft:
  """The job of a description with its faults."""
  draft = _typed_fields(values)
  given = draft.job
  found = draft.check(
    placing.FIELDS,
    placing.resolved,
    placing.Placing(**{n: getattr(given, n) for n in placing.FIELDS}),
  )
  if found:
    draft.job = dataclasses.replace(given, **vars(found))
  for fields, check in _checks(draft.job):
    draft.check(fields, check)
  if not draft.wrong.intersection(('benchmark', 'size')):
    name = f'{given.benchmark}-{given.size}'.replace('_', '-')
    draft.job = dataclasses.replace(
      draft.job,
      name=given.name or name,
      runs=given.runs or benchmark_lib.get(given.benchmark).runs,
    )
  return draft


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


def _typed_fields(values: Mapping[str, Any]) -> Draft:
  """The fields, each of its type, with the faults of those that are not."""
  fields = {field.name: field for field in dataclasses.fields(Job)}
  hints = typing.get_type_hints(Job)
  # These stand for what is missing, which is a fault and so is never read.
  draft = Draft(Job(benchmark='', data='', output=''))
  for name, value in values.items():
    names_of = list(fields)
    draft.check((), names.require, 'field', str(name), names_of)
    if name in fields:
      made = draft.check((name,), _typed, name, value, hints[name])
      if name not in draft.wrong:
        draft.job = dataclasses.replace(draft.job, **{name: made})
  for name, field in fields.items():
    no_default = field.default is field.default_factory is dataclasses.MISSING
    if no_default and name not in values:
      draft.faults.append(f'{name} is needed.')
      draft.wrong.add(name)
  return draft


def _section(kind: type, values: Mapping[str, Any], place: str) -> Any:
  """A section of the values, each of its field's type; Faults, all it has."""
  hints = typing.get_type_hints(kind)
  made, found = {}, []
  for name, value in values.items():
    what = f'field of {place}'
    if wrong := faults.of(names.require, what, str(name), hints):
      found += wrong
      continue
    try:
      made[name] = _typed(f'{place}.{name}', value, hints[name])
    except ValueError as error:
      found.append(str(error))
  faults.require_none(found)
  return kind(**made)


def _typed(name: str, value: Any, hint: Any) -> Any:
  if dataclasses.is_dataclass(hint):
    _require(isinstance(value, dict), name, 'fields with values', value)
    return _section(hint, value, name)
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
    raise ValueError(
      f'time_limit is [days-]hours:minutes:seconds, not {value}, which has no '
      f"unit: '{value // 60}:{value % 60:02}:00' for {value} minutes, "
      f"'{value // 3600}:{value // 60 % 60:02}:{value % 60:02}' for {value} "
      'seconds.'
    )
  return _line(name, 'a text', value)


def _require(holds: bool, name: str, expected: str, value: Any) -> None:
  if not holds:
    raise ValueError(f'{name} is {expected}, not {value!r}.')


def _line(name: str, expected: str, value: Any) -> str:
  _require(isinstance(value, str), name, expected, value)
  # YAML and shells know line breaks beyond ASCII's; none is printable.
  _require(value.isprintable(), name, 'one line of text', value)
  return value


def _checks(made: Job) -> Iterator[tuple[Sequence[str], Callable[[], Any]]]:
  """Checks of what types do not express, each with the fields that it reads."""
  divisions = [each.value for each in Division]
  yield (
    ('division',),
    lambda: names.require('division', made.division, divisions),
  )
  yield ('status',), lambda: names.require('status', made.status, STATUSES)
  yield ('time_limit',), lambda: _check_time(made)
  yield ('processes_per_host', *placing.FIELDS), lambda: _check_shares(made)
  for name in ('data', 'output', 'code', 'python'):
    path = getattr(made, name)
    yield (name,), functools.partial(_check_path, name, path)
  yield ('gcloud',), lambda: _check_tpu_name(made)
  yield ('name',), lambda: _check_name(made.name)
  yield (
    ('profile', 'compiler_options'),
    lambda: profiles.with_options(
      profiles.load(made.profile),
      [
        f'{name}={hparams_lib.as_text(v)}'
        for name, v in made.compiler_options.items()
      ],
    ),
  )
  yield ('environment',), lambda: _check_variables(made.environment)
  yield ('benchmark',), lambda: benchmark_lib.get(made.benchmark)
  yield ('benchmark', 'size'), lambda: _size(made)
  trained = ('benchmark', 'size', 'division', 'batch', 'hparams')
  yield trained, lambda: _check_hparams(made)
  yield ('flags',), lambda: _check_flags(made.flags)


def _size(made: Job) -> benchmark_lib.Size:
  return benchmark_lib.get(made.benchmark).size(made.size)


def _check_hparams(made: Job) -> None:
  if made.batch is not None and (name := _batch_name(made)) in made.hparams:
    raise ValueError(f'batch and hparams.{name} are the same: one.')
  hparams_lib.override(
    _size(made).hparams, hyperparameters(made), Division(made.division)
  )


def _check_time(made: Job) -> None:
  if not _TIME.fullmatch(made.time_limit) or not made.seconds:
    raise ValueError(
      f'time_limit is [days-]hours:minutes:seconds, not {made.time_limit!r}.'
    )


def _check_shares(made: Job) -> None:
  found = []
  if made.hardware in TPUS and made.processes_per_host != 1:
    found.append('A host of TPUs has one process: processes_per_host is 1.')
  if made.chips_per_host % made.processes_per_host:
    found.append(
      f'{made.chips_per_host} chips per host are not to be shared evenly by '
      f'{made.processes_per_host} processes per host.'
    )
  faults.require_none(found)


def _check_path(name: str, path: str) -> None:
  if path.startswith(('~', '-')) or not path:
    raise ValueError(f'{name} begins with / or a name, not as {path!r}.')
  if name != 'data' and '://' in path:
    raise ValueError(
      f'{name} is a path on a disk, not {path!r}: only data may be in a bucket.'
    )


def _check_tpu_name(made: Job) -> None:
  if made.gcloud.tpu and not _NAME.fullmatch(made.gcloud.tpu):
    raise ValueError(f'gcloud.tpu is a name, not {made.gcloud.tpu!r}.')


def _check_name(name: str) -> None:
  if name and not _NAME.fullmatch(name):
    raise ValueError(
      'name is of small letters, digits and dashes, 40 at most and a letter '
      f'first, not {name!r}.'
    )


def _check_variables(given: Mapping[str, Any]) -> None:
  faults.require_none(
    [
      f'environment has no variable {name!r}.'
      for name in given
      if not _VARIABLE.fullmatch(name)
    ]
  )


def _check_flags(texts: Sequence[str]) -> None:
  found = []
  for text in texts:
    match = re.fullmatch('--([a-z_]+)(=.*)?', text, re.DOTALL)
    if not match:
      found.append(f'flags are like --watchdog_seconds=300, not {text!r}.')
    elif match[1] in _OWN_FLAGS:
      found.append(f'flags must not hold --{match[1]}: it follows.')
  faults.require_none(found)


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


class _Loader(yaml.SafeLoader):
  """Reads 4:00:00 as a text; YAML 1.1 has it as a number to the base of 60."""

  def construct_number(self, node: yaml.Node) -> int | float | str:
    """A number, or the text of one with colons."""
    if ':' in node.value:
      return node.value
    return yaml.SafeLoader.yaml_constructors[node.tag](self, node)


for _kind in ('int', 'float'):
  _Loader.add_constructor(
    f'tag:yaml.org,2002:{_kind}', _Loader.construct_number
  )


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
    return yaml.load(text, _Loader)
  except yaml.YAMLError as error:
    raise ValueError(' '.join(str(error).split())) from None
