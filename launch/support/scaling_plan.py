"""The points of a scaling study: devices, batch, hyperparameters, variables."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import glob
import os
import re
from typing import Any

from launch.support import run_flags
from suite import hparams
from suite.benchmark import Size
from suite.results import convergence, scaling
from suite.results.convergence import store

MODES = ('strong', 'weak', 'batch')
RULES = (*scaling.POWERS, 'points')


@dataclasses.dataclass(frozen=True)
class Place:
  """One point before it is run."""

  devices: int
  processes: int
  batch: int  # global
  request: run_flags.Request
  changes: Mapping[str, str]  # hyperparameters, as --hp takes them

  @property
  def name(self) -> str:
    """Its folder: 'd2_p1_b128'."""
    return f'd{self.devices}_p{self.processes}_b{self.batch}'

  @property
  def arguments(self) -> list[str]:
    """The shared flags of its runs, this point's hyperparameters included."""
    kept = [a for a in run_flags.as_arguments() if not a.startswith('--hp=')]
    return kept + [f'--hp={name}={text}' for name, text in self.changes.items()]

  @property
  def start(self) -> tuple[str, ...]:
    """Command that starts one of its runs: a module and its arguments."""
    if self.processes == 1:
      return ('launch.train',)
    each = self.devices // self.processes
    return (
      'launch.local', f'--processes={self.processes}', f'--devices={each}',
      '--', 'launch.train',
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Asked:
  """Study that the flags ask for."""

  mode: str
  devices: Sequence[int]
  processes: Sequence[int]  # one, or one for each of `devices`
  batch: int | None  # strong: global; weak: of one device
  batches: Sequence[int]  # mode batch
  rule: str
  changes: Mapping[str, str]  # --hp, for all points
  at: Mapping[int, Mapping[str, str]]  # --hp_at, by batch


def places(request: run_flags.Request, asked: Asked) -> list[Place]:
  """Points in order; ValueError for impossible ones, before any is run."""
  batch_name = hparams.batch(request.size.hparams).name
  if batch_name in asked.changes:
    raise ValueError(
      f'Expected the batch from --batch or --batches, got --hp={batch_name}.'
    )
  found = []
  for devices, processes, batch in _spots(asked, request.size):
    if devices < 1 or processes < 1 or devices % processes:
      raise ValueError(
        'Expected processes that divide the devices, got '
        f'{processes} for {devices}.'
      )
    if batch < 1 or batch % devices:
      raise ValueError(
        f'Expected a batch that the devices divide, got {batch} for {devices}.'
      )
    changes = _changes(request, asked, batch)
    hp = hparams.override(request.size.hparams, changes, request.division)
    here = dataclasses.replace(request, hparams=hp)
    # Do they fit each other, and the devices?
    request.benchmark.task(hp, request.size.data, devices=devices)
    found.append(Place(devices, processes, batch, here, changes))
  unused = set(asked.at) - {place.batch for place in found}
  if unused:
    raise ValueError(
      f'Expected --hp_at of batches of the study, got {sorted(unused)}; there '
      f'are {sorted({place.batch for place in found})}.'
    )
  return sorted(found, key=lambda p: (p.devices, p.processes, p.batch))


def at_batches(texts: Sequence[str]) -> dict[int, dict[str, str]]:
  """--hp_at=256:base_learning_rate=2 by batch; ValueError for another form."""
  found: dict[int, dict[str, str]] = {}
  for text in texts:
    match = re.fullmatch(r'(\d+):(\w+)=(.*)', text)
    if not match:
      raise ValueError(f'Expected --hp_at=batch:name=value, got {text!r}.')
    found.setdefault(int(match[1]), {})[match[2]] = match[3]
  return found


def numbers(flag: str, texts: Sequence[str]) -> list[int]:
  """The numbers of a list, each once and above 0."""
  if not all(text.isdigit() and int(text) for text in texts):
    raise ValueError(
      f'Expected numbers with commas between as --{flag}, got '
      f'{",".join(texts)!r}.'
    )
  return [int(text) for text in texts]


def platform(asked: str) -> str:
  """Platform of the runs: as asked, or as this machine has it."""
  named = asked or os.environ.get('JAX_PLATFORMS', '').partition(',')[0]
  if named:
    return {'cuda': 'gpu', 'rocm': 'gpu'}.get(named, named)
  if glob.glob('/dev/nvidia[0-9]*'):
    return 'gpu'
  return 'tpu' if glob.glob('/dev/accel[0-9]*') else 'cpu'


def variables(place: Place, kind: str) -> dict[str, str]:
  """Environment variables that give one process the devices of a point."""
  if place.processes > 1:
    return {}  # launch.local shares them out
  try:
    return of_devices(place.devices, kind)
  except NotFromHere as error:
    raise ValueError(
      f'{error}: write a job for each point with --jobs=FILE, and read them '
      'with --collect=DIR.'
    ) from None


class NotFromHere(ValueError):
  """A process cannot take some of the devices of its host."""


def of_devices(devices: int, kind: str) -> dict[str, str]:
  """Environment variables that give one process so many devices."""
  if kind == 'cpu':
    return {'JAX_NUM_CPU_DEVICES': str(devices)}
  if kind != 'gpu':
    raise NotFromHere(
      f'A process cannot take some of the devices of a {kind} host from here'
    )
  mine = os.environ.get('CUDA_VISIBLE_DEVICES')
  ours = mine.split(',') if mine else [str(i) for i in range(devices)]
  if len(ours) < devices:
    raise ValueError(
      f'Expected {devices} GPUs, CUDA_VISIBLE_DEVICES has {len(ours)}.'
    )
  return {'CUDA_VISIBLE_DEVICES': ','.join(ours[:devices])}


def _spots(asked: Asked, size: Size) -> Iterator[tuple[int, int, int]]:
  usual = hparams.batch(size.hparams).value
  processes = list(asked.processes)
  if len(processes) == 1:
    processes *= len(asked.devices)
  if len(processes) != len(asked.devices):
    raise ValueError(
      f'Expected one number of processes, or one for each of '
      f'{len(asked.devices)} --devices, got {len(processes)}.'
    )
  if (asked.mode == 'batch') != bool(asked.batches):
    raise ValueError('Expected --mode=batch and --batches together, got one.')
  if asked.mode == 'batch':
    if len(asked.devices) > 1 or asked.batch:
      raise ValueError(
        'Expected one number of --devices and no --batch with --mode=batch.'
      )
    yield from (
      (asked.devices[0], processes[0], batch) for batch in asked.batches
    )
    return
  each = asked.batch or max(1, usual // min(asked.devices))
  for devices, number in zip(asked.devices, processes, strict=True):
    whole = asked.batch or usual
    yield devices, number, whole if asked.mode == 'strong' else each * devices


def _changes(
  request: run_flags.Request, asked: Asked, batch: int
) -> dict[str, str]:
  """Changes by name: --hp_at takes precedence over --hp, that over the rule."""
  carried: Mapping[str, Any]
  if asked.rule == 'points':
    known, ruleset = request.benchmark, request.size.ruleset
    points = store.find(known.name, ruleset, **known.scored)
    recipe = convergence.suggest(points, batch, request.size.hparams)
    texts = dict(f.removeprefix('--hp=').split('=', 1) for f in recipe.flags)
  else:
    carried = scaling.recipe(request.hparams, batch, scaling.POWERS[asked.rule])
    texts = {name: hparams.as_text(value) for name, value in carried.items()}
  return {**texts, **asked.changes, **asked.at.get(batch, {})}
