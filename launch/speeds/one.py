"""One point: a benchmark's programs on the devices of this process's run."""

import collections
from collections.abc import Mapping
import copy
import dataclasses
import time
from typing import Any

from absl import flags as absl_flags
import jax

from input_pipelines.reading import batching, dataset
from launch.cluster import joined, ranks, supervising
from launch.speeds import points, rates, sources, traced
from launch.speeds.measured import Meter
from launch.support import (
  chip_batch,
  preflight,
  run_flags,
  start,
  system,
  versions,
)
from suite import hparams, names
from suite.clock import Clock
from suite.results import published
from suite.results.speed import Point
from suite.run import program as program_lib
from suite.run import sharding
from suite.run.program import Build, Program
from suite.run.task import Task

FLAGS = absl_flags.FLAGS
_HIT = '/jax/compilation_cache/cache_hits'
_MISS = '/jax/compilation_cache/cache_misses'


class OutOfMemory(Exception):
  """The devices have too little memory for a benchmark with this batch."""


def measure(request: run_flags.Request) -> Point:
  """Joins the other processes and measures; every process returns the same.

  ValueError or OSError, in words, for what cannot be had; OutOfMemory.
  """
  try:
    return _measure(request)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    first = str(error).partition('\n')[0]
    raise OutOfMemory(f'{points.OUT_OF_MEMORY}: {first}') from None


def _measure(request: run_flags.Request) -> Point:
  began = time.monotonic()
  counted: collections.Counter[str] = collections.Counter()
  jax.monitoring.register_event_listener(
    lambda event, **_: counted.update([event])
  )
  joined.join(request, supervising.bounds())
  mesh = sharding.make_mesh(FLAGS.model_axis)
  request = _fitted(request, mesh)
  task = request.benchmark.task(
    request.hparams, request.size.data, devices=mesh.shape[sharding.DATA]
  )
  build = Build(
    request.profile.compiler_options,
    spread=FLAGS.spread,
    groups_across_hosts=FLAGS.groups_across_hosts,
    compiled_at_once=batching.cores(),
  )
  program_lib.check(task, mesh, build)
  data = _data(request, task)  # refused before anything compiles
  found = None
  if FLAGS.preflight is not False:
    found = preflight.run(mesh, None)
  machine = rates.Machine.here(mesh, found)
  clock, made = Clock(), _initialised(task)
  program = Program.build(made, mesh, clock, build)
  with clock.spent_on('warm-up'):
    program.warm_up(made)
  source = data(program)
  try:
    meter = Meter(
      task, program, machine, source, mixed=FLAGS.input == sources.DATA
    )
    measured = meter.measure(FLAGS.programs, FLAGS.seconds)
    trace = traced.of(meter, FLAGS.trace) if FLAGS.trace else None
  finally:
    source.close()
  return {
    **_asked(request, mesh),
    'programs': [each.plain for each in measured],
    'trace': trace,
    'allocated': rates.allocated(),
    'compile': {
      **clock.startup_parts(),
      'programs': counted[_HIT] + counted[_MISS],
      'kept_from_before': counted[_HIT],
    },
    'preflight': found,
    'published': _published(request),
    'system': system.describe(),
    'versions': versions.found(),
    'wall_seconds': time.monotonic() - began,
    'failed': '',
  }


def _fitted(
  request: run_flags.Request, mesh: jax.sharding.Mesh
) -> run_flags.Request:
  """The request with batches for the devices of the mesh."""
  here = rates.Machine.here(mesh, None).system
  changes = chip_batch.changes(
    names.assignments('hp', FLAGS.hp),
    request.hparams,
    FLAGS.per_chip_batch,
    chips=here.chips if here else mesh.size,
    ways=mesh.shape[sharding.DATA],
  )
  changed = hparams.override(request.size.hparams, changes, request.division)
  return dataclasses.replace(request, hparams=changed)


def _initialised(task: Task) -> Task:
  """The task without start weights: what is given is initialised here too."""
  task = copy.copy(task)
  task.given = ()
  return task


def _data(request: run_flags.Request, task: Task) -> Any:
  """Checks the data that was asked for -> makes the source of a program."""
  if FLAGS.input != sources.DATA:
    sent = FLAGS.input == sources.HOST
    return lambda program: sources.Drawn(task, program.mesh, sent)
  run_flags.require_reads(request, task.reads)
  directory = dataset.find(FLAGS.data_dir, request.size.data.name)
  facts = task.inspect(directory)
  weights = start.weights(request.size, task, FLAGS.data_dir)
  return lambda program: sources.Prepared(
    task, facts, program, directory, reading=request.reading, start=weights
  )


def _asked(
  request: run_flags.Request, mesh: jax.sharding.Mesh
) -> Mapping[str, Any]:
  batch = hparams.batch(request.hparams)
  return {
    'benchmark': request.benchmark.name,
    'draft': request.benchmark.draft,
    'size': request.size_name,
    'label': FLAGS.label,
    'division': request.division.value,
    'input': FLAGS.input,
    'batch': batch.value,
    'batch_name': batch.name,
    'hyperparameters': {
      given.name: given.value
      for given, usual in zip(
        hparams.declared(request.hparams),
        hparams.declared(request.size.hparams),
        strict=True,
      )
      if given.value != usual.value
    },
    'devices': mesh.size,
    'processes': jax.process_count(),
    'mesh': dict(mesh.shape),
    'spread': FLAGS.spread,
    'profile': request.profile.name,
    'compiler_options': dict(request.profile.compiler_options),
  }


def _published(request: run_flags.Request) -> list[dict[str, Any]]:
  """Published rates, which compare with the full benchmark alone."""
  if request.size_name != 'reference':
    return []
  return [
    dataclasses.asdict(each) | {'each': each.each}
    for each in published.rates(request.benchmark.name)
  ]


def is_primary() -> bool:
  """Returns whether this process tells what was found."""
  return ranks.is_primary()
