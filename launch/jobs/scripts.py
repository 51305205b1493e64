"""Shell scripts that launch a job: here, Slurm, Open MPI and TPU VMs."""

from collections.abc import Iterator, Sequence
import functools
import pathlib
import posixpath
import shlex
from typing import Any

import jinja2
import yaml

from launch.aot import systems
from launch.jobs import commands
from launch.jobs.description import Job

_FOLDER = pathlib.Path(__file__).parent / 'templates'
# Slurm tells the processes so many seconds before its time is over; they save.
_SAVING_SECONDS = 150


def local(job: Job) -> str:
  """For the processes of this machine."""
  start = (
    job.python, '-m', 'launch.local', f'--processes={job.processes}',
    f'--devices={job.chips_per_process}', '--',
  )  # fmt: skip
  return fill(
    'local.sh.j2', job, benchmark=commands.benchmark(job), local=start
  )


def local_faults(job: Job) -> Iterator[str]:
  """Reasons why `local` cannot launch the job."""
  yield from _container_faults(job, 'local')
  if job.hosts > 1:
    yield f'Target local is one host; the job has {job.hosts}.'


def slurm(job: Job) -> str:
  """For sbatch: plain, or with pyxis where there is a container."""
  days, rest = divmod(job.seconds, 24 * 3600)
  hours, minutes = divmod(-(-rest // 60), 60)
  return fill(
    'slurm.sh.j2',
    job,
    slurm_time=f'{days}-{hours:02}:{minutes:02}:00',
    slurm_options=_slurm_options(job),
    last_start=job.seconds - min(_SAVING_SECONDS, job.seconds // 4),
  )


def slurm_faults(job: Job) -> Iterator[str]:
  """Reasons why `slurm` cannot launch the job."""
  yield from tpu_faults(job, 'slurm')
  for option in _slurm_options(job):
    if not option.startswith('--') or any(c in option for c in ' "\'\\'):
      yield f'An option of sbatch is one word like --qos=high, not {option!r}.'


def _slurm_options(job: Job) -> Sequence[str]:
  named = {'partition': job.slurm.partition, 'account': job.slurm.account}
  options = [f'--{name}={value}' for name, value in named.items() if value]
  return (*options, *job.slurm.options)


def mpirun(job: Job) -> str:
  """For Open MPI's mpirun."""
  return fill('mpirun.sh.j2', job)


def mpirun_faults(job: Job) -> Iterator[str]:
  """Reasons why `mpirun` cannot launch the job."""
  yield from _container_faults(job, 'mpirun')
  yield from tpu_faults(job, 'mpirun')
  if job.hosts > 1 and not job.mpirun.hostfile:
    yield 'Several hosts need mpirun.hostfile: a host a line.'


def tpu_vm(job: Job) -> str:
  """For a TPU VM with one or more hosts, by gcloud from another machine."""
  named = {'project': job.gcloud.project, 'zone': job.gcloud.zone}
  return fill(
    'tpu_vm.sh.j2',
    job,
    accelerator_type=_accelerator_type(job),
    place=[f'--{name}={value}' for name, value in named.items() if value],
    output=posixpath.normpath(posixpath.join(job.code, job.output)),
    results=posixpath.join(job.output, 'run_'),
  )


def tpu_vm_faults(job: Job) -> Iterator[str]:
  """Reasons why `tpu_vm` cannot launch the job."""
  yield from _container_faults(job, 'tpu_vm')
  if job.backend != 'tpu' or job.slices > 1:
    yield (
      'Target tpu_vm is for one slice of TPUs; several slices go with '
      'jobset_tpu.'
    )
  if not job.gcloud.tpu or not job.gcloud.zone:
    yield 'Target tpu_vm needs gcloud.tpu, its name, and its zone.'
  given = job.gcloud.accelerator_type
  if job.backend == 'tpu' and given not in ('', _accelerator_type(job)):
    yield (
      f'gcloud.accelerator_type is {given}, but system {job.system} is '
      f'{_accelerator_type(job)}.'
    )


def _accelerator_type(job: Job) -> str:
  """Cloud TPU's name of a slice: 'v5litepod-256' of v5e-256."""
  kind, _, size = job.system.partition('-')
  return f'{systems.kinds("tpu")[kind].get("vm_name", kind)}-{size}'


def fill(name: str, job: Job, **values: Any) -> str:
  """A template with the job, its variables, its commands, and `values`.

  `q` quotes a word, `join_words` several; `wrap` gives each flag a line; `yaml`
  writes a value on one line of YAML.
  """
  return (
    _templates()
    .get_template(name)
    .render(
      job=job,
      environment=commands.environment(job),
      train=commands.train(job),
      conclusion=commands.conclusion(job),
      **values,
    )
  )


def tpu_faults(job: Job, target: str) -> Iterator[str]:
  """A fault of a job of TPUs."""
  if job.backend == 'tpu':
    yield (
      f'Target {target} is for CPUs and GPUs; for {job.hardware} there are '
      'tpu_vm and jobset_tpu.'
    )


@functools.cache
def _templates() -> jinja2.Environment:
  made = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  made.filters |= {
    'q': shlex.quote,
    'join_words': shlex.join,
    'wrap': _wrapped,
    'yaml': _yaml,
  }
  return made


def _wrapped(words: commands.Words, indent: int) -> str:
  """Program and arguments, then each flag in a line of its own."""
  count = next((i for i, w in enumerate(words) if w.startswith('--')), None)
  between = ' \\\n' + ' ' * indent
  head = [shlex.join(words[:count])] if count else []
  flags = [] if count is None else words[count:]
  return between.join([*head, *map(shlex.quote, flags)])


def _yaml(value: Any) -> str:
  text = yaml.safe_dump(value, default_flow_style=True, width=float('inf'))
  return text.removesuffix('...\n').strip()  # the mark after a single text


def _container_faults(job: Job, target: str) -> Iterator[str]:
  if job.container or job.mounts:
    yield (
      f'Target {target} starts no container: leave container and mounts away.'
    )
