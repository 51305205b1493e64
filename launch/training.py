"""One run: its checks, its log, its record, how signals end it."""

from collections.abc import Mapping
import dataclasses
import functools
import logging
import math
import os
import shlex
import sys
import tempfile
import time
from typing import Any

from absl import flags as absl_flags
import jax

from input_pipelines.reading import arrays, batching, dataset
from launch.cluster import (
  attempts,
  joined,
  ranks,
  resuming,
  supervising,
  watched,
  worker,
)
from launch.support import (
  environment,
  preflight,
  progress,
  run_flags,
  run_signals,
  start,
  system,
  versions,
)
from launch.support.rehearsal import Rehearsal
from suite import files, hparams
from suite.clock import Clock
from suite.log_keys import DRAFT
from suite.results import records
from suite.results.records import (
  DataUsed,
  Phase,
  RunRecord,
  Setting,
  Startup,
)
from suite.run import checkpoint, loop, program, run_log, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.feed import Data
from suite.run.run_log import SUCCESS, RunLog, resumes
from suite.run.task import Facts, Task

FLAGS = absl_flags.FLAGS


class Unrecorded(Exception):
  """The record of a run that is over could not be written where it belongs."""


@dataclasses.dataclass(frozen=True)
class Job:
  """One run, with everything checked that can be checked before it starts."""

  request: run_flags.Request
  task: Task
  facts: Facts
  mesh: jax.sharding.Mesh
  build: program.Build
  directory: str  # of the data set
  weights: arrays.Arrays | None  # that the run starts from
  log_path: str
  record_path: str
  seed: int
  checkpoints: Checkpoints | None  # None: a rehearsal
  resumed: bool  # whether it resumes from one of them
  preflight: Mapping[str, Any] | None = None  # what it found


def run(request: run_flags.Request) -> int:
  """Makes the run, as a worker or alone; returns the exit code."""
  clock = Clock()
  with worker.entered() as me:
    return _train(request, clock, me)


def _train(request: run_flags.Request, clock: Clock, me: worker.Worker) -> int:
  with clock.spent_on('build'):
    job = _prepare(request, clock)
  if preflight.is_wanted(job.mesh, FLAGS.preflight):
    with clock.spent_on('preflight'):
      job = dataclasses.replace(job, preflight=_preflight(job))
  if FLAGS.rehearse:
    return me.finished(_rehearse(job, clock, me))
  with run_signals.ended_by_signals() as ending:
    log_path = job.log_path if ranks.is_primary() else None
    log = RunLog(log_path, clock, suspended=job.resumed)
    return _logged(job, log, clock, me, ending)


def _logged(
  job: Job,
  log: RunLog,
  clock: Clock,
  me: worker.Worker,
  ending: run_signals.Signals,
) -> int:
  """Makes the run, of which the log is open; returns the exit code."""
  shown = progress.watcher(
    FLAGS.progress if ranks.is_primary() else 'none',
    job.task.blocks(job.facts),
    job.request,
  )
  shown.starting, shown.ended = ending.at_stage, ending.at_tick
  ending.cut_off = functools.partial(_cut_off, job, log, clock, me)
  try:
    if not job.resumed:
      _open_log(job, log, clock)
    result = _run(job, log, clock, watched.watcher(shown, me.beats))
    ending.ignore()
    if ranks.is_primary():
      record = _record(job, result, clock)
      _keep(record, job.record_path)
      shown.result(record)
  except loop.Interrupted as end:
    print(f'{end}; the log says so: {job.log_path}', file=sys.stderr)
    if end.saved is not None and ranks.is_primary():
      print(
        f'saved after step {end.saved}: --resume continues', file=sys.stderr
      )
    return me.finished(128 + end.number)
  except Exception as error:
    # The log has its end by now; what is left is to tell the person.
    fatal = _is_fatal(error)
    if fatal or isinstance(error, checkpoint.Failed):
      print(f'error: {error}', file=sys.stderr)
    else:
      logging.exception('The run failed; its log is %s', job.log_path)
    me.failed(error, fatal=fatal)
    return 1
  finally:
    ending.ignore()
    log.close()
    if not clock.timed and not job.resumed and ranks.is_primary():
      attempts.set_aside(FLAGS.output, FLAGS.run)  # the next may start
  return me.finished(0 if result.status == SUCCESS else 1)


def _cut_off(
  job: Job,
  log: RunLog,
  clock: Clock,
  me: worker.Worker,
  end: loop.Interrupted,
) -> None:
  """Ends a run of one process in startup that does not end by itself.

  It may be anywhere, so that its log is completed as that of a process that is
  gone.
  """
  if not log.suspended:
    run_log.complete(job.log_path, str(end))
  print(f'{end}; the log says so: {job.log_path}', file=sys.stderr)
  if clock.started is None and not job.resumed:
    attempts.set_aside(FLAGS.output, FLAGS.run)
  me.finished(128 + end.number)
  for stream in (sys.stdout, sys.stderr):
    stream.flush()


def _is_fatal(error: Exception) -> bool:
  """True for what would end the same run again: a full disk, broken data."""
  if isinstance(error, checkpoint.FailedElsewhere):
    return False  # where it failed, that is said
  if isinstance(error, OSError) and error.errno in files.DISK_ERRORS:
    return True
  known = checkpoint.Failed | arrays.CorruptArrayError | Unrecorded
  return isinstance(error, known)


def _keep(record: RunRecord, path: str) -> None:
  """Writes the record; Unrecorded, which says where it is, if it cannot be.

  The run is over and its log is whole, so it need not be made again.
  """
  try:
    records.write_run(path, record)
  except OSError as error:
    raise Unrecorded(
      f'The run is over and its log is whole, but its record could not be '
      f'written ({error}). {_kept_elsewhere(record, path)}'
    ) from error


def _kept_elsewhere(record: RunRecord, path: str) -> str:
  try:
    handle, kept = tempfile.mkstemp(prefix=f'run_{record.run}_', suffix='.json')
    os.close(handle)
    records.write_run(kept, record)
  except OSError as error:
    return (
      f'Nor could it be written elsewhere ({error}), so it is lost; the log '
      'can be scored and reported without it.'
    )
  words = shlex.join(['mv', kept, path])
  return f'It is in {kept}; as soon as there is room: {words}'


def _prepare(request: run_flags.Request, clock: Clock) -> Job:
  """Checks all that can be checked; raises ValueError or OSError in words."""
  joined.join(request, supervising.bounds())
  mesh = sharding.make_mesh(FLAGS.model_axis)
  task = request.benchmark.task(
    request.hparams, request.size.data, devices=mesh.shape[sharding.DATA]
  )
  run_flags.require_reads(request, task.reads)
  largest = max(map(program.bytes_of, task.train_specs))
  batching.require_shared_memory(
    request.reading, largest // jax.process_count()
  )
  build = program.Build(
    request.profile.compiler_options,
    spread=FLAGS.spread,
    groups_across_hosts=FLAGS.groups_across_hosts,
    compiled_at_once=batching.cores(),
  )
  program.check(task, mesh, build)
  directory = dataset.find(FLAGS.data_dir, request.size.data.name)
  facts = task.inspect(directory)
  weights = start.weights(request.size, task, FLAGS.data_dir)
  start.require_alike(weights, ranks.agreed)
  log_path = files.log_path(FLAGS.output, FLAGS.run)
  record_path = files.record_path(FLAGS.output, FLAGS.run)
  checkpoints, resumed = _checkpoints(
    request, directory, start.described(request.size, weights), clock
  )
  if ranks.is_primary() and not resumed and not FLAGS.rehearse:
    files.claim_directory(FLAGS.output)
    kept = checkpoints.directory, checkpoints.beside
    _require_free(log_path, record_path, *kept)
  return Job(
    request,
    task,
    facts,
    mesh,
    build,
    directory,
    weights,
    log_path,
    record_path,
    checkpoints.origin['seed'],
    checkpoints,
    resumed,
  )


def _require_free(*paths: str) -> None:
  for path in paths:
    if os.path.exists(path):
      raise ValueError(
        f'{path} is there already, and a log holds one run: give another '
        '--output or --run, or --resume for a run that was cut off.'
      )


def _checkpoints(
  request: run_flags.Request,
  directory: str,
  started: Mapping[str, Any],
  clock: Clock,
) -> tuple[Checkpoints, bool]:
  """Those of this run, and whether it resumes from them."""
  checkpoints = Checkpoints(
    files.checkpoints_path(FLAGS.output, FLAGS.run),
    minutes=FLAGS.checkpoint_minutes,
    steps=FLAGS.checkpoint_steps,
    keep=FLAGS.keep_checkpoints,
    strict=FLAGS.checkpoint_strict,
  )
  seed = FLAGS.seed
  if seed is None:
    seed = int.from_bytes(os.urandom(4), 'little')
  position = None
  if FLAGS.resume:
    if request.reading.skips:
      raise ValueError(
        'A run that may skip records cannot resume: those that it has skipped '
        'are not known.'
      )
    position = resuming.find(FLAGS.output, FLAGS.run, checkpoints)
  if position and FLAGS.seed is None:
    seed = position.origin['seed']
  data = dataset.fingerprint(directory)
  origin = resuming.origin(request, ranks.agreed(seed), data)
  checkpoints.origin = {**origin, **started}
  if position:
    resuming.require_same(position.origin, checkpoints.origin)
    resuming.require_time(position.clock.at, clock.now())
  return checkpoints, position is not None


def _preflight(job: Job) -> Mapping[str, Any]:
  return preflight.before(
    job.mesh,
    FLAGS.data_dir,
    strict=FLAGS.preflight_strict,
    told=FLAGS.progress == 'text',
  )


def _rehearse(job: Job, clock: Clock, me: worker.Worker) -> int:
  """Makes a run of two steps that leaves nothing; prints what it found."""
  log = RunLog(None, clock)
  log.start('init_start')
  job = dataclasses.replace(job, task=Rehearsal(job.task), checkpoints=None)
  result = _run(job, log, clock, watched.watcher(loop.Watcher(), me.beats))
  if ranks.is_primary():
    losses = ', '.join(f'{loss:.4f}' for loss in result.losses)
    found = progress.qualities(result.evals[0].quality) if result.evals else ''
    print(f'rehearsed: losses {losses}; eval {found or result.reason}')
  return 0 if result.evals else 1


def _run(job: Job, log: RunLog, clock: Clock, watcher) -> loop.Result:
  share = sharding.host_share(job.mesh)
  data = Data(
    clock,
    job.directory,
    job.seed,
    lambda rows: sharding.put_rows(rows, job.mesh),
    host=share[0],
    hosts=share[1],
    start=job.weights,
    reading=job.request.reading,
    kept=_kept(job),
  )
  return loop.run(
    job.task,
    job.facts,
    job.request.size.target,
    data,
    mesh=job.mesh,
    build=job.build,
    seed=job.seed,
    log=log,
    clock=clock,
    watcher=watcher,
    checkpoints=job.checkpoints,
  )


def _kept(job: Job) -> str | None:
  """Folder of what the feed needs to resume, if it may have to."""
  if job.checkpoints and (job.checkpoints.saves or job.resumed):
    return job.checkpoints.beside
  return None


def _open_log(job: Job, log: RunLog, clock: Clock) -> None:
  log.start('init_start', at=clock.created)
  log.event('cache_clear', dataset.evict(job.directory))
  beside = hparams.beside(job.request.hparams)
  for key, value in settings(job.request, job.seed).items():
    log.event(key, value, beside.get(key))
  for key, value in job.facts.logged.items():
    log.event(key, value)
  for key, value in start.described(job.request.size, job.weights).items():
    log.event(f'podium_{key}', value)


def settings(request: run_flags.Request, seed: int) -> dict[str, Any]:
  """Settings for the log, between init_start and init_stop, by key."""
  found = versions.found()
  return {
    'submission_benchmark': request.benchmark.name,
    'submission_division': request.division.value,
    'submission_org': FLAGS.submission_org,
    'submission_platform': FLAGS.submission_platform or _platform(),
    'submission_status': FLAGS.submission_status,
    'podium_size': request.size_name,
    'podium_ruleset': request.size.ruleset,
    **({DRAFT: True} if request.benchmark.draft else {}),
    'podium_version': found.get('podium-bench', 'unknown'),
    'podium_commit': found['commit'],
    'seed': seed,
    **hparams.logged(request.hparams),
    **_may_skip(request),
    'podium_profile': request.profile.name,
    'podium_compiler_options': dict(request.profile.compiler_options),
    'podium_environment': environment.settings(),
    'podium_spread': FLAGS.spread,
    'podium_groups_across_hosts': FLAGS.groups_across_hosts,
    'train_samples': request.size.data.trained(request.hparams),
    'eval_samples': request.size.data.eval_samples,
  }


def _may_skip(request: run_flags.Request) -> dict[str, int]:
  skips = request.reading.skips
  return {'podium_may_skip_records': skips.limit} if skips else {}


def _platform() -> str:
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def _record(job: Job, result: loop.Result, clock: Clock) -> RunRecord:
  """The record of the run, as the report reads it."""
  request, timed = job.request, result.timed_parts
  training = timed.get('compute', 0.0) + timed.get('input', 0.0)
  allowance = request.size.startup_allowance(request.division)
  met = result.status == SUCCESS
  skips = request.reading.skips
  return RunRecord(
    benchmark=request.benchmark.name,
    draft=request.benchmark.draft,
    size=request.size_name,
    ruleset=request.size.ruleset,
    division=request.division.value,
    run=FLAGS.run,
    seed=job.seed,
    status=result.status,
    reason=result.reason,
    target=request.size.target,
    time_to_quality=clock.time_to_quality(allowance) if met else None,
    startup=Startup(result.startup, result.startup_parts, allowance),
    timed=Phase(result.timed, timed),
    evals=result.evals,
    resumed=resumes(job.log_path),
    losses=[
      (step, loss if math.isfinite(loss) else None)
      for step, loss in enumerate(result.losses, start=1)
    ],
    steps=len(result.losses),
    samples=result.samples,
    samples_per_second=result.samples / training if training else None,
    flops_per_step=result.flops_per_step,
    profile=request.profile.name,
    compiler_options=request.profile.compiler_options,
    spread=job.build.spread,
    groups_across_hosts=job.build.groups_across_hosts,
    hyperparameters=_compared(request),
    system=system.describe(job.directory),
    preflight=job.preflight,
    versions=versions.found(),
    data=DataUsed(
      request.size.data.name,
      dataset.fingerprint(job.directory),
      skips.records if skips else [],
      **start.described(request.size, job.weights),
    ),
    command=['python', '-m', 'launch.train', *sys.argv[1:]],
    flags=run_flags.as_arguments(),
    environment=environment.variables(),
    started=time.strftime(
      '%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(clock.created)
    ),
  )


def _compared(request: run_flags.Request) -> Mapping[str, Setting]:
  """Every hyperparameter beside the reference's value."""
  return {
    given.name: Setting(
      given.value, reference.value, given.key, given.tunable, given.help
    )
    for given, reference in zip(
      hparams.declared(request.hparams),
      hparams.declared(request.size.hparams),
      strict=True,
    )
  }
