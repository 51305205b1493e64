"""One job description, written for every way of launching it.

`description` says what a job is and checks it; `scripts` and `manifests` write
it as a shell script or as YAML. Every file starts `launch.train` once for each
run, with `--resume`: started again, it resumes where it ended.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

from launch.jobs import manifests, scripts
from launch.jobs.description import Job


@dataclasses.dataclass(frozen=True)
class Target:
  """A way of launching: what writes its file, and what takes it."""

  write: Callable[[Job], str]  # ValueError for a job that it cannot launch
  suffix: str
  submit: Sequence[str]  # the command, before the file's path
  needs: str = ''  # a program that the file calls, beside that of `submit`


TARGETS: Mapping[str, Target] = {
  'local': Target(scripts.local, '.sh', ('bash',)),
  'slurm': Target(scripts.slurm, '.sbatch', ('sbatch',)),
  'mpirun': Target(scripts.mpirun, '.sh', ('bash',), 'mpirun'),
  'tpu_vm': Target(scripts.tpu_vm, '.sh', ('bash',), 'gcloud'),
  'jobset_tpu': Target(
    manifests.jobset_tpu, '.yaml', ('kubectl', 'create', '-f')
  ),
  'jobset_gpu': Target(
    manifests.jobset_gpu, '.yaml', ('kubectl', 'create', '-f')
  ),
  'sky': Target(manifests.sky, '.yaml', ('sky', 'launch')),
}
