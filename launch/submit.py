r"""Writes a job for a launcher, and submits it when asked to.

python -m launch.submit --job=job.yaml --target=slurm
python -m launch.submit --job=job.yaml --target=slurm --set=hosts=16 --submit

The task is built for the devices of the job, so that a job that cannot run is
refused with all of its faults. Without --submit nothing runs: the file is
printed, or with --write=PATH written there. With it the file is written (by
default beside the working directory's others, as NAME.sbatch) and handed to its
program: bash, sbatch, kubectl or sky.
Exit code: 0 done, 2 refused, else that of the program.
"""

import os
import shlex
import shutil
import subprocess
import sys

from absl import flags as absl_flags

from launch import jobs, train
from launch.jobs import description, faults
from launch.support import cli, feasible
from suite import files

FLAGS = absl_flags.FLAGS


def define_flags() -> None:
  """The flags of this command."""
  absl_flags.DEFINE_string('job', None, 'The job: a YAML file.', required=True)
  absl_flags.DEFINE_enum(
    'target', None, list(jobs.TARGETS), 'What launches it.', required=True
  )
  absl_flags.DEFINE_multi_string(
    'set', [], 'A field in place of the file\'s, as name=value: hosts=16, '
    'slurm.partition=big. May be given again.',
  )  # fmt: skip
  absl_flags.DEFINE_string('write', '', 'Path that the file is written to.')
  absl_flags.DEFINE_bool('submit', False, 'Hand it to the launcher too.')


def main() -> int:
  """Prints, writes or submits; see the module."""
  draft = description.examined(description.read_fields(FLAGS.job, FLAGS.set))
  try:
    job = feasible.require(draft, FLAGS.target, train.define_flags)
  except faults.Faults as error:
    raise ValueError(f'{FLAGS.job}: {error}') from None
  target = jobs.TARGETS[FLAGS.target]
  text = target.write(job)
  if not FLAGS.submit and not FLAGS.write:
    _print(text)
    return 0
  if FLAGS.submit:
    _require_programs(target)
  path = FLAGS.write or f'{job.name}{target.suffix}'
  files.write_text(path, text)
  print(f'wrote {path}', file=sys.stderr)
  return _submit(target, path) if FLAGS.submit else 0


def _print(text: str) -> None:
  """Prints a file to the letter; ValueError where stdout lacks characters."""
  encoding = sys.stdout.encoding or 'utf-8'
  try:
    text.encode(encoding)
  except UnicodeEncodeError as error:
    raise ValueError(
      f'Expected text that {encoding}, the encoding of stdout, has, got '
      f'{text[error.start]!a}; --write=PATH writes UTF-8.'
    ) from None
  print(text, end='')


def _require_programs(target: jobs.Target) -> None:
  for program in filter(None, (target.submit[0], target.needs)):
    if not shutil.which(program):
      raise ValueError(
        f'--submit to {FLAGS.target} calls {program}, which is not on PATH; '
        'without it, --write=PATH writes the file for another machine.'
      )


def _submit(target: jobs.Target, path: str) -> int:
  command = [*target.submit, path]
  print(shlex.join(command), file=sys.stderr, flush=True)
  code = subprocess.run(command, check=False, env=os.environ).returncode
  return code if code >= 0 else 128 - code


if __name__ == '__main__':
  cli.run(main, define=define_flags)
