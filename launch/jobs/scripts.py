"""Shell scripts that launch a job: here, Slurm, Open MPI and TPU VMs."""

import functools
import pathlib
import posixpath
import shlex
from typing import Any

import jinja2
import yaml

from launch.jobs import commands
from launch.jobs.description import Job

_FOLDER = pathlib.Path(__file__).parent / 'templates'
# Slurm tells the processes so many seconds before its time is over; they save.
_SAVING_SECONDS = 150


def local(job: Job) -> str:
  """For the processes of this machine."""
  _require_no_container(job, 'local')
  if job.hosts > 1:
    raise ValueError(f'Target local is one host; the job has {job.hosts}.')
  start = (
    job.python, '-m', 'launch.local', f'--processes={job.processes}',
    f'--devices={job.chips_per_process}', '--',
  )  # fmt: skip
  return fill(
    'local.sh.j2', job, benchmark=commands.benchmark(job), local=start
  )


def slurm(job: Job) -> str:
  """For sbatch: plain, or with pyxis where there is a container."""
  require_no_tpu(job, 'slurm')
  named = {'partition': job.slurm.partition, 'account': job.slurm.account}
  options = [f'--{name}={value}' for name, value in named.items() if value]
  for option in (*options, *job.slurm.options):
    if not option.startswith('--') or any(c in option for c in ' "\'\\'):
      raise ValueError(
        f'An option of sbatch is one word like --qos=high, not {option!r}.'
      )
  days, rest = divmod(job.seconds, 24 * 3600)
  hours, minutes = divmod(-(-rest // 60), 60)
  return fill(
    'slurm.sh.j2',
    job,
    slurm_time=f'{days}-{hours:02}:{minutes:02}:00',
    slurm_options=(*options, *job.slurm.options),
    last_start=job.seconds - min(_SAVING_SECONDS, job.seconds // 4),
  )


def mpirun(job: Job) -> str:
  """For Open MPI's mpirun."""
  _require_no_container(job, 'mpirun')
  require_no_tpu(job, 'mpirun')
  if job.hosts > 1 and not job.mpirun.hostfile:
    raise ValueError('Several hosts need mpirun.hostfile: a host a line.')
  return fill('mpirun.sh.j2', job)


def tpu_vm(job: Job) -> str:
  """For a TPU VM with one or more hosts, by gcloud from another machine."""
  _require_no_container(job, 'tpu_vm')
  if job.backend != 'tpu' or job.slices > 1:
    raise ValueError(
      'Target tpu_vm is for one slice of TPUs; several slices go with '
      'jobset_tpu.'
    )
  if not job.gcloud.tpu or not job.gcloud.zone:
    raise ValueError('Target tpu_vm needs gcloud.tpu, its name, and its zone.')
  named = {'project': job.gcloud.project, 'zone': job.gcloud.zone}
  return fill(
    'tpu_vm.sh.j2',
    job,
    place=[f'--{name}={value}' for name, value in named.items() if value],
    output=posixpath.normpath(posixpath.join(job.code, job.output)),
    results=posixpath.join(job.output, 'run_'),
  )


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


def require_no_tpu(job: Job, target: str) -> None:
  """ValueError for a job of TPUs."""
  if job.backend == 'tpu':
    raise ValueError(
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


def _require_no_container(job: Job, target: str) -> None:
  if job.container or job.mounts:
    raise ValueError(
      f'Target {target} starts no container: leave container and mounts away.'
    )
