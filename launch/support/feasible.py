"""Faults of a job that cannot run: its task is built for its devices."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import posixpath

from absl import flags as absl_flags

from launch import jobs, profiles
from launch.jobs import commands, faults, placing
from launch.jobs.description import Draft, Job
from launch.support import run_flags

FLAGS = absl_flags.FLAGS
_SECTIONS = ('slurm', 'mpirun', 'gcloud', 'kubernetes', 'sky')


@dataclasses.dataclass(frozen=True)
class Device:
  """Attributes that a mesh reads of a device that is not here."""

  id: int
  process_index: int
  slice_index: int
  platform: str = 'none'
  device_kind: str = 'none'


def require(draft: Draft, target: str, define: Callable[[], None]) -> Job:
  """The job, which the target can launch; Faults, which are all there are.

  `define` defines the flags of launch.train, which are gone afterwards.
  """
  wrong = frozenset(draft.wrong)
  for fields, check in _checks(target, define):
    # Each finds faults of its own, so that none keeps another from being made.
    draft.wrong = set(wrong)
    draft.check(fields, check, draft.job)
  faults.require_none(draft.faults)
  return draft.job


def _checks(
  target: str, define: Callable[[], None]
) -> Iterator[tuple[Sequence[str], Callable[[Job], None]]]:
  """Checks, each with the fields of a job that it reads."""
  placed = (*placing.FIELDS, 'processes_per_host')
  stored = ('output', 'code', 'container', 'mounts', 'kubernetes')
  yield (
    (*placed, *_SECTIONS, 'container', 'mounts'),
    jobs.TARGETS[target].require,
  )
  yield ('profile', *placing.FIELDS), _require_platform
  yield stored, lambda job: faults.require_none(list(_lost(job, target)))
  trained = ('benchmark', 'size', 'division', 'batch', 'hparams', 'flags')
  told = ('profile', 'compiler_options', 'org', 'platform', 'status')
  yield (*placed, *trained, *told), lambda job: _build(job, define)


def _require_platform(job: Job) -> None:
  profiles.require_platform(job.profile, job.backend)


def _lost(job: Job, target: str) -> Iterator[str]:
  """A fault of an output that lies in a container and goes with it."""
  output = posixpath.normpath(posixpath.join(job.code, job.output))
  if target.startswith('jobset'):
    if not _inside(output, job.kubernetes.claims.values()):
      yield (
        f'output {output} lies in no volume of kubernetes.claims, so that it '
        'would be lost with its pod.'
      )
  elif target == 'slurm' and job.container:
    same = [each.partition(':')[::2] for each in job.mounts]
    shared = [host for host, inside in same if inside.split(':')[0] == host]
    if not _inside(output, shared):
      yield (
        f'output {output} lies in no mount of one path on host and in the '
        'container, as /results:/results; the script looks for it on the host.'
      )


def _inside(path: str, folders: Iterable[str]) -> bool:
  return any(
    posixpath.commonpath([path, folder]) == posixpath.normpath(folder)
    for folder in folders
    if posixpath.isabs(folder) == posixpath.isabs(path)
  )


def _build(job: Job, define: Callable[[], None]) -> None:
  """Builds the task as each process of the job would; Faults if it can't."""
  defined = set(FLAGS)
  define()
  try:
    try:
      FLAGS(['launch.train', *commands.train(job)[3:]])
    except absl_flags.Error as error:
      raise ValueError(f'flags: {error}') from None
    _split(job, run_flags.request())
  finally:
    FLAGS.remove_flag_values(set(FLAGS) - defined)


def _split(job: Job, request: run_flags.Request) -> None:
  """Faults unless the task of the request can be split over the devices."""
  # Here, so that what needs no JAX is refused without waiting for it.
  from suite.run import program, sharding

  each = job.devices // job.processes
  per_slice = job.devices // job.slices
  mesh = sharding.make_mesh(
    FLAGS.model_axis,
    [Device(i, i // each, i // per_slice) for i in range(job.devices)],
  )
  task = request.benchmark.task(
    request.hparams, request.size.data, devices=mesh.shape[sharding.DATA]
  )
  build = program.Build(
    spread=FLAGS.spread, groups_across_hosts=FLAGS.groups_across_hosts
  )
  found = faults.of(run_flags.require_reads, request, task.reads)
  found += program.faults(task, mesh, build)
  found += faults.of(sharding.host_share, mesh, 0)
  faults.require_none(found)
