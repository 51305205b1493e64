r"""Trains one benchmark once, from startup to its target, and logs it.

python -m launch.train --benchmark=resnet --size=tiny --output=results/try

Writes OUTPUT/result_<run>.txt, the log that checkers read, and
OUTPUT/run_<run>.json, all that the report shows. Exit code: 0 target met, 1 not
met or failed, 2 refused before anything was started, 128 + n ended by signal n.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import logging
import math
import os
import signal
import sys
import time
from typing import Any

from absl import flags as absl_flags
import jax

from input_pipelines import dataset
from launch import environment, flags, hosts, progress, system
from suite import files, hparams, loop, program, sharding
from suite.clock import Clock
from suite.feed import Data
from suite.run_log import SUCCESS, RunLog
from suite.task import Task

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The shared flags, and those of one run."""
  flags.define_run_flags()
  absl_flags.adopt_module_key_flags(flags)  # so that --help shows them
  absl_flags.DEFINE_string(
    'output', '', 'Directory for the log and the result.'
  )
  absl_flags.DEFINE_integer(
    'run', 0, 'Number of this run, from 0.', lower_bound=0
  )
  absl_flags.DEFINE_integer(
    'seed',
    None,
    'Seed; by default from the operating system, as the rules want it.',
    lower_bound=0,
    upper_bound=2**32 - 1,
  )
  absl_flags.DEFINE_enum(
    'progress', 'text', ['text', 'json', 'none'], 'How progress is printed.'
  )
  absl_flags.DEFINE_bool('list_hp', False, 'List the hyperparameters and end.')


@dataclasses.dataclass(frozen=True)
class Job:
  """One run, with everything checked that can be checked before it starts."""

  request: flags.Request
  task: Task
  mesh: jax.sharding.Mesh
  directory: str  # of the data set
  log_path: str
  record_path: str
  seed: int


def main() -> int:
  """Trains once; see the module."""
  clock = Clock()
  request = flags.request()
  if FLAGS.list_hp:
    print(progress.hparams_table(request))
    return 0
  with clock.spent_on('build'):
    job = _prepare(request)
  log = RunLog(job.log_path if hosts.is_primary() else None, clock)
  watcher = progress.watcher(
    FLAGS.progress if hosts.is_primary() else 'none', job.task, job.request
  )
  try:
    with _ended_by_signals():
      result = _run(job, log, clock, watcher)
  except loop.Interrupted as end:
    print(f'{end}; the log says so: {job.log_path}', file=sys.stderr)
    return 128 + end.number
  except Exception:  # pylint: disable=broad-exception-caught
    # The log says 'aborted' by now; what is left is to tell the person.
    logging.exception('The run failed; its log is %s', job.log_path)
    return 1
  finally:
    log.close()
  if hosts.is_primary():
    record = _record(job, result, clock)
    files.write_json(job.record_path, record)
    watcher.result(record)
  return 0 if result.status == SUCCESS else 1


def _prepare(request: flags.Request) -> Job:
  """Checks all that can be checked; raises ValueError or OSError in words."""
  if not FLAGS.output:
    raise ValueError('--output=DIR is needed: where the log goes.')
  hosts.initialize()
  hosts.require_platform(FLAGS.platform)
  if FLAGS.compile_cache:
    jax.config.update('jax_compilation_cache_dir', FLAGS.compile_cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  task = request.benchmark.task(request.hparams, request.size.data)
  mesh = sharding.make_mesh(FLAGS.model_axis)
  program.check(task, mesh)
  directory = dataset.find(FLAGS.data_dir, request.size.data.name)
  task.verify_data(directory)
  seed = FLAGS.seed
  if seed is None:
    seed = int.from_bytes(os.urandom(4), 'little')
  log_path = files.log_path(FLAGS.output, FLAGS.run)
  record_path = files.record_path(FLAGS.output, FLAGS.run)
  if hosts.is_primary():
    files.claim_directory(FLAGS.output)
    for path in (log_path, record_path):
      if os.path.exists(path):
        raise ValueError(
          f'{path} is there already, and a log holds one run: give another '
          '--output or --run.'
        )
  return Job(
    request, task, mesh, directory, log_path, record_path, hosts.agreed(seed)
  )


def _run(job: Job, log: RunLog, clock: Clock, watcher) -> loop.Result:
  log.start('init_start', at=clock.created)
  log.event('cache_clear', dataset.evict(job.directory))
  for key, value in settings(job.request, job.seed).items():
    log.event(key, value)
  data = Data(
    clock,
    job.directory,
    job.seed,
    lambda rows: sharding.put_rows(rows, job.mesh),
    host=jax.process_index(),
    hosts=jax.process_count(),
    reading=job.request.reading,
  )
  return loop.run(
    job.task,
    job.request.size.target,
    data,
    mesh=job.mesh,
    seed=job.seed,
    log=log,
    clock=clock,
    watcher=watcher,
  )


def settings(request: flags.Request, seed: int) -> dict[str, Any]:
  """What the log says between init_start and init_stop, by key."""
  versions = system.versions()
  return {
    'submission_benchmark': request.benchmark.name,
    'submission_division': request.division.value,
    'submission_org': FLAGS.submission_org,
    'submission_platform': FLAGS.submission_platform or _platform(),
    'submission_status': FLAGS.submission_status,
    'podium_size': request.size_name,
    'podium_ruleset': request.size.ruleset,
    'podium_version': versions.get('podium-bench', 'unknown'),
    'podium_commit': versions['commit'],
    'seed': seed,
    **hparams.logged(request.hparams),
    **_may_skip(request),
    'train_samples': request.size.data.train_samples,
    'eval_samples': request.size.data.eval_samples,
  }


def _may_skip(request: flags.Request) -> dict[str, int]:
  skips = request.reading.skips
  return {'podium_may_skip_records': skips.limit} if skips else {}


def _platform() -> str:
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
  """SIGINT and SIGTERM end the run in order; a second one ends it at once."""

  def end(number, frame):
    del frame
    for each in (signal.SIGINT, signal.SIGTERM):
      signal.signal(each, lambda number, _: os._exit(128 + number))
    raise loop.Interrupted(signal.Signals(number).name, number)

  for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, end)
  try:
    yield
  finally:
    # What follows is the writing of the result: short, and not to be lost.
    for each in (signal.SIGINT, signal.SIGTERM):
      signal.signal(each, signal.SIG_IGN)


def _record(job: Job, result: loop.Result, clock: Clock) -> dict[str, Any]:
  """All that is known of the run, as the report reads it."""
  request, timed = job.request, result.timed_parts
  samples = len(result.losses) * _batch_size(job.task)
  training = timed.get('compute', 0.0) + timed.get('input', 0.0)
  allowance = request.division.startup_allowance
  met = result.status == SUCCESS
  skips = request.reading.skips
  return {
    'format': 1,
    'benchmark': request.benchmark.name,
    'size': request.size_name,
    'ruleset': request.size.ruleset,
    'division': request.division.value,
    'run': FLAGS.run,
    'seed': job.seed,
    'status': result.status,
    'reason': result.reason,
    'target': request.size.target.as_dict(),
    'time_to_quality': clock.time_to_quality(allowance) if met else None,
    'startup': {
      'seconds': result.startup,
      'allowance': allowance,
      'parts': dict(result.startup_parts),
    },
    'timed': {'seconds': result.timed, 'parts': dict(timed)},
    'evals': [dataclasses.asdict(found) for found in result.evals],
    'losses': [
      [step, loss if math.isfinite(loss) else None]
      for step, loss in enumerate(result.losses, start=1)
    ],
    'steps': len(result.losses),
    'samples': samples,
    'samples_per_second': samples / training if training else None,
    'flops_per_step': result.flops_per_step,
    'hyperparameters': _compared(request),
    'system': system.describe(job.directory),
    'versions': system.versions(),
    'data': {
      'name': request.size.data.name,
      'fingerprint': dataset.fingerprint(job.directory),
      'skipped_records': skips.records if skips else [],
    },
    'command': ['python', '-m', 'launch.train', *sys.argv[1:]],
    'flags': flags.as_arguments(),
    'environment': environment.variables(),
    'started': time.strftime(
      '%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(clock.created)
    ),
  }


def _batch_size(task: Task) -> int:
  return next(iter(task.train_spec.values())).shape[0]


def _compared(request: flags.Request) -> Mapping[str, Mapping[str, Any]]:
  """Every hyperparameter beside the reference's value."""
  return {
    given.name: {
      'value': given.value,
      'reference': reference.value,
      'key': given.key,
      'tunable': given.tunable,
      'help': given.help,
    }
    for given, reference in zip(
      hparams.declared(request.hparams),
      hparams.declared(request.size.hparams),
      strict=True,
    )
  }


if __name__ == '__main__':
  flags.run(main, define=define_flags)
