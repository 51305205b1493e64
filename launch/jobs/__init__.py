"""One job description, written for every way of launching it.

`description` says what a job is and checks it; `scripts` and `manifests` write
it as a shell script or as YAML. Every file starts `launch.train` once for each
run, with `--resume`: started again, it resumes where it ended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses

from launch.jobs import faults as faults_lib
from launch.jobs import manifests, scripts
from launch.jobs.description import Job


@dataclasses.dataclass(frozen=True)
class Target:
  """A way of launching: what writes its file, and what takes it."""

  render: Callable[[Job], str]  # of a job without faults
  faults: Callable[[Job], Iterator[str]]  # why it cannot launch a job
  suffix: str
  submit: Sequence[str]  # the command, before the file's path
  needs: str = ''  # a program that the file calls, beside that of `submit`

  def require(self, job: Job) -> None:
    """Faults for a job that it cannot launch."""
    faults_lib.require_none(list(self.faults(job)))

  def write(self, job: Job) -> str:
    """The file of a job; Faults for one that it cannot launch."""
    self.require(job)
    return self.render(job)


_KUBECTL = ('kubectl', 'create', '-f')
TARGETS: Mapping[str, Target] = {
  'local': Target(scripts.local, scripts.local_faults, '.sh', ('bash',)),
  'slurm': Target(scripts.slurm, scripts.slurm_faults, '.sbatch', ('sbatch',)),
  'mpirun': Target(
    scripts.mpirun, scripts.mpirun_faults, '.sh', ('bash',), 'mpirun'
  ),
  'tpu_vm': Target(
    scripts.tpu_vm, scripts.tpu_vm_faults, '.sh', ('bash',), 'gcloud'
  ),
  'jobset_tpu': Target(
    manifests.jobset_tpu, manifests.jobset_tpu_faults, '.yaml', _KUBECTL
  ),
  'jobset_gpu': Target(
    manifests.jobset_gpu, manifests.jobset_gpu_faults, '.yaml', _KUBECTL
  ),
  'sky': Target(
    manifests.sky, manifests.sky_faults, '.yaml', ('sky', 'launch')
  ),
}
