"""The commands of a job, and the variables that they need, for any launcher."""

from collections.abc import Sequence

from launch.jobs import description
from launch.jobs.description import Job
from suite import hparams

# Programs and their arguments, of which a launcher's file quotes each word.
Words = Sequence[str]


def train(job: Job) -> Words:
  """One run without its --run; it resumes from a checkpoint if there is one."""
  return (
    job.python, '-m', 'launch.train', *run_flags(job),
    f'--output={job.output}', '--resume',
  )  # fmt: skip


def benchmark(job: Job) -> Words:
  """All runs of one process on one machine, scored and reported."""
  return (
    job.python, '-m', 'launch.benchmark', *run_flags(job),
    f'--output={job.output}', f'--runs={job.runs}', '--resume',
  )  # fmt: skip


def conclusion(job: Job) -> Sequence[Words]:
  """Commands to run when all runs are finished."""
  return (
    (job.python, '-m', 'launch.score', job.output),
    (job.python, '-m', 'launch.report', f'--output={job.output}'),
  )


def run_flags(job: Job) -> Words:
  """The flags that say what is trained, and with what."""
  given = {
    'benchmark': job.benchmark,
    'size': job.size,
    'division': job.division,
    'data_dir': job.data,
    'platform': job.backend,
    'profile': job.profile,
    'submission_org': job.org,
    'submission_platform': job.platform,
    'submission_status': job.status,
  }
  texts = [f'--{name}={value}' for name, value in given.items() if value]
  for flag, values in (
    ('hp', description.hyperparameters(job)),
    ('compiler_option', job.compiler_options),
  ):
    texts += [
      f'--{flag}={name}={hparams.as_text(value)}'
      for name, value in values.items()
    ]
  return (*texts, *job.flags)


def environment(job: Job) -> dict[str, str]:
  """Variables that are alike in all processes."""
  alone = job.processes_per_host == 1
  found = {
    'PODIUM_PROCESSES': str(job.processes),
    'PODIUM_DEVICES': str(job.devices),
    'PODIUM_LOCAL_DEVICES': 'all' if alone else str(job.chips_per_process),
  }
  if job.backend == 'cpu':
    found['JAX_NUM_CPU_DEVICES'] = str(job.chips_per_process)
  if job.backend == 'gpu' and job.chips_per_process > 1:
    # Else NCCL may hang where one process drives several GPUs.
    found['NCCL_LAUNCH_MODE'] = 'GROUP'
  given = {name: hparams.as_text(v) for name, v in job.environment.items()}
  return {**found, **given}
