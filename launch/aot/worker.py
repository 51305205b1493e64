"""Compiles a benchmark's programs for one system; a process of its own.

What the compiler reads of its environment is read when JAX is imported, so
`launch.compile` starts this with the right one. It takes a job as JSON on
standard input and answers with JSON lines: what it is doing, then a report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import importlib.util
import json
import math
import os
import re
import sys
import time
from typing import Any, TextIO

import jax
import jax.numpy as jnp

from launch.aot import analysis, cache, systems, targets
from launch.aot import options as options_lib
from suite import benchmark as benchmark_lib
from suite import hparams
from suite import names as names_lib
from suite.run import flops, program, sharding
from suite.run.task import Spec, Task

# Exit code for a job that cannot be done as it was asked for.
REFUSED = 2
# Variables of the environment that change what a program is compiled to.
_READ_BY_COMPILERS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')
_UNKNOWN = re.compile(r"[Nn]o such compile option: '?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Job:
  """Job of the worker: programs, and a system to compile them for."""

  benchmark: str
  size: str
  system: str
  division: str = 'open'
  # Hyperparameters that are changed, as text.
  hp: Mapping[str, str] = dataclasses.field(default_factory=dict)
  model_axis: int = 1
  spread: str = 'none'
  groups_across_hosts: bool = False
  # XLA's, as text.
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  programs: tuple[str, ...] = ()  # of `program.lower`, and 'staged'; (): all
  cache: str = ''  # directory of kept reports; empty: none


def run(job: Job, tell: Callable[..., None]) -> analysis.Report:
  """Compiles and reports; ValueError for a job that cannot be compiled."""
  system = systems.get(job.system)
  targets.require(system)
  tell(stage='describing devices')
  mesh = sharding.make_mesh(job.model_axis, targets.devices(system))
  places = [targets.place(device, system) for device in mesh.devices.flat]
  task = make_task(job, mesh.shape[sharding.DATA])
  build = program.Build(
    options=job.options,
    spread=job.spread,
    groups_across_hosts=job.groups_across_hosts,
  )
  program.check(task, mesh, build)
  _check_options(job.options, mesh, system)
  tell(stage='lowering')
  lowered = program.lower(task, mesh, build)
  lowered |= _by_shape(
    'train_step', lowered.pop('train_step'), task.train_specs
  )
  lowered |= _by_shape('predict', lowered.pop('predict'), task.eval_specs)
  lowered = dict(_chosen(lowered, job.programs))
  kept = cache.Cache(job.cache)
  reports = {}
  for name, low in lowered.items():
    known = _known(kept, name, low, job, system, tell)
    reports[name] = _report(known, low, system, mesh, places)
  return {
    'system': {
      **dataclasses.asdict(system),
      'hosts': system.hosts,
      'devices': system.devices,
      'shape': system.shape(),
    },
    'mesh': dict(mesh.shape),
    'versions': targets.versions(system),
    'batch': program.rows_of(_largest(task.train_specs)),
    'eval_batch': program.rows_of(_largest(task.eval_specs)),
    'programs': reports,
  }


def make_task(job: Job, devices: int = 1) -> Task:
  """The task of a job; ValueError for what the benchmark does not allow."""
  benchmark = benchmark_lib.get(job.benchmark)
  size = benchmark.size(job.size)
  changed = hparams.override(
    size.hparams, job.hp, hparams.Division(job.division)
  )
  return benchmark.task(changed, size.data, devices=devices)


def _chosen(lowered: Mapping[str, Any], names: tuple[str, ...]) -> Iterator:
  """The programs by name, those that a task stages by theirs."""
  flat = {k: v for k, v in lowered.items() if k not in ('staged', 'exchange')}
  flat |= {f'staged {k}': v for k, v in lowered['staged'].items()}
  for name in names:
    if name != 'staged':
      names_lib.require('program', name, flat)
  for name, low in flat.items():
    if not names or name in names or name.split()[0] in names:
      yield name, low


def _known(kept, name, low, job, system, tell) -> Mapping[str, Any]:
  """The compiler's facts about a program, cached or new."""
  key = cache.key(
    low.as_text(),
    [system.compiler_name, system.chip_config, system.topology, system.slices],
    system.target,
    dict(job.options),
    {k: v for k, v in os.environ.items() if k in _READ_BY_COMPILERS},
    targets.versions(system),
  )
  known = kept.find(key)
  if known:
    tell(program=name, cached=True, seconds=known['seconds'])
    return dict(known) | {'cached': True}
  tell(stage=f'compiling {name}')
  known = _compile(low, job.options)
  kept.keep(key, known)
  tell(program=name, cached=False, seconds=known['seconds'])
  return known | {'cached': False}


def _compile(low: Any, options: Mapping[str, str]) -> dict[str, Any]:
  began = time.monotonic()
  try:
    compiled = low.compile(compiler_options=dict(options) or None)
  except jax.errors.JaxRuntimeError as error:
    known = {'error': str(error), 'text': ''}
  else:
    known = analysis.facts(compiled)
  return known | {'seconds': time.monotonic() - began}


def _report(known, low, system, mesh, places) -> analysis.Report:
  asked, certain = flops.count(low)
  return analysis.describe(known, system, places, dict(mesh.shape)) | {
    'model_operations': dict(asked),  # of all devices
    'model_operations_certain': certain,
    'seconds': known['seconds'],
    'cached': known['cached'],
  }


def _check_options(options: Mapping[str, str], mesh, system) -> None:
  """Compiles next to nothing, so that a misspelt option is refused at once."""
  if not options:
    return
  same = sharding.replicated(mesh)
  low = jax.jit(jnp.negative, out_shardings=same).lower(
    jax.ShapeDtypeStruct((8,), jnp.float32, sharding=same)
  )
  try:
    low.compile(compiler_options=dict(options))
  except (jax.errors.JaxRuntimeError, TypeError, ValueError) as error:
    text = str(error).splitlines()[0]
    unknown = _UNKNOWN.search(text)
    if not unknown:
      raise ValueError(f'The compiler refuses the options: {text}') from None
    near = options_lib.nearest(unknown[1], _library(system))
    raise ValueError(
      f'The compiler has no option {unknown[1]!r}{near}.'
    ) from None


def _library(system: systems.System) -> str:
  """The file of the system's compiler."""
  module, name = 'libtpu', 'libtpu.so'
  if system.platform == 'gpu':
    version = targets.cuda_plugin().split('-')[1]  # of jax-cuda13-plugin
    module, name = f'jax_plugins.xla_{version}', 'xla_cuda_plugin.so'
  (folder,) = importlib.util.find_spec(module).submodule_search_locations
  return os.path.join(folder, name)


def _by_shape(
  name: str, lowered: Sequence[Any], specs: Sequence[Spec]
) -> dict[str, Any]:
  """Programs by name; all but that of the largest batch name their shape."""
  largest = _largest(specs)
  return {
    name if spec is largest else f'{name} {program.label(spec)}': low
    for spec, low in zip(specs, lowered, strict=True)
  }


def _largest(specs: Sequence[Spec]) -> Spec:
  """The batch with the longest rows; of those alike, with the most."""

  def size(spec):
    shapes = [leaf.shape for leaf in spec.values()]
    return max(math.prod(s[1:]) for s in shapes), program.rows_of(spec)

  return max(specs, key=size)


def main(source: TextIO, out: TextIO) -> int:
  """Reads a job, answers; the exit code says whether it could be done."""

  def tell(**event):
    print(json.dumps(event), file=out, flush=True)

  job = Job(**json.load(source))
  try:
    tell(report=run(job, tell))
  except ValueError as error:
    tell(refused=str(error))
    return REFUSED
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.stdin, sys.stdout))
