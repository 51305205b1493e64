"""YAML that launches a job: JobSets for Kubernetes, and SkyPilot's tasks."""

from collections.abc import Mapping

from launch.aot import systems
from launch.jobs.description import Job
from launch.jobs.scripts import fill, require_no_tpu


def jobset_tpu(job: Job) -> str:
  """A JobSet with a Job for each slice and a pod for each host, on GKE."""
  if job.backend != 'tpu':
    raise ValueError(f'Target jobset_tpu is for TPUs, not {job.hardware}.')
  if not job.topology:
    raise ValueError('Target jobset_tpu needs the topology of a slice: 4x4.')
  return _jobset(job, {
    'cloud.google.com/gke-tpu-accelerator': _label(job),
    'cloud.google.com/gke-tpu-topology': job.topology,
  })  # fmt: skip


def jobset_gpu(job: Job) -> str:
  """A JobSet with a pod for each host of GPUs."""
  if job.backend != 'gpu':
    raise ValueError(f'Target jobset_gpu is for GPUs, not {job.hardware}.')
  return _jobset(job, {'cloud.google.com/gke-accelerator': _label(job)})


def sky(job: Job) -> str:
  """A task of SkyPilot, of GPUs or CPUs."""
  require_no_tpu(job, 'sky')
  return fill('sky.yaml.j2', job)


def _label(job: Job) -> str:
  """GKE's name of the accelerator."""
  usual = systems.kinds(job.backend)[job.hardware]['gke_label']
  return job.kubernetes.accelerator or usual


def _jobset(job: Job, selector: Mapping[str, str]) -> str:
  if not job.container:
    raise ValueError('A JobSet needs container: the image with this project.')
  if job.mounts:
    raise ValueError('Pods mount kubernetes.claims; leave mounts away.')
  return fill('jobset.yaml.j2', job, selector=selector)
