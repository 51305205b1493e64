"""YAML that launches a job: JobSets for Kubernetes, and SkyPilot's tasks."""

from collections.abc import Iterator, Mapping

from launch.aot import systems
from launch.jobs.description import Job
from launch.jobs.scripts import fill, tpu_faults


def jobset_tpu(job: Job) -> str:
  """A JobSet with a Job for each slice and a pod for each host, on GKE."""
  return _jobset(job, {
    'cloud.google.com/gke-tpu-accelerator': _label(job),
    'cloud.google.com/gke-tpu-topology': job.topology,
  })  # fmt: skip


def jobset_tpu_faults(job: Job) -> Iterator[str]:
  """Reasons why `jobset_tpu` cannot launch the job."""
  if job.backend != 'tpu':
    yield f'Target jobset_tpu is for TPUs, not {job.hardware}.'
  yield from _pod_faults(job)


def jobset_gpu(job: Job) -> str:
  """A JobSet with a pod for each host of GPUs."""
  return _jobset(job, {'cloud.google.com/gke-accelerator': _label(job)})


def jobset_gpu_faults(job: Job) -> Iterator[str]:
  """Reasons why `jobset_gpu` cannot launch the job."""
  if job.backend != 'gpu':
    yield f'Target jobset_gpu is for GPUs, not {job.hardware}.'
  yield from _pod_faults(job)


def sky(job: Job) -> str:
  """A task of SkyPilot, of GPUs or CPUs."""
  return fill('sky.yaml.j2', job)


def sky_faults(job: Job) -> Iterator[str]:
  """Reasons why `sky` cannot launch the job."""
  yield from tpu_faults(job, 'sky')
  _, colon, number = job.sky.accelerators.partition(':')
  if job.sky.accelerators and (number if colon else '1') != str(
    job.chips_per_host
  ):
    yield (
      f'sky.accelerators is {job.sky.accelerators!r}, but a host has '
      f'{job.chips_per_host} chips.'
    )


def _label(job: Job) -> str:
  """GKE's name of the accelerator."""
  usual = systems.kinds(job.backend)[job.hardware]['gke_label']
  return job.kubernetes.accelerator or usual


def _pod_faults(job: Job) -> Iterator[str]:
  if not job.container:
    yield 'A JobSet needs container: the image with this project.'
  if job.mounts:
    yield 'Pods mount kubernetes.claims; leave mounts away.'


def _jobset(job: Job, selector: Mapping[str, str]) -> str:
  return fill('jobset.yaml.j2', job, selector=selector)
