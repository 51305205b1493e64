"""YAML that launches a job: JobSets for Kubernetes, and SkyPilot's tasks."""

from collections.abc import Mapping
from typing import Any

import yaml

from launch.jobs import commands
from launch.jobs.description import Job
from launch.jobs.scripts import fill

_JOB, _CONTAINER = 'hosts', 'podium'  # names within a JobSet
_INDEX = "metadata.annotations['jobset.sigs.k8s.io/job-index']"
_EXCLUSIVE = 'alpha.jobset.sigs.k8s.io/exclusive-topology'
_TPU_LABELS = {
  'v3': 'tpu-v3-slice', 'v4': 'tpu-v4-podslice', 'v5e': 'tpu-v5-lite-podslice',
  'v5p': 'tpu-v5p-slice', 'v6e': 'tpu-v6e-slice', 'tpu7x': 'tpu7x',
}  # fmt: skip
_GPU_LABELS = {
  'h100': 'nvidia-h100-80gb', 'h200': 'nvidia-h200-141gb',
  'b200': 'nvidia-b200',
}  # fmt: skip
_REFUSED = 2  # exit code of a run that no restart would help
_SAVING_SECONDS = 120


def jobset_tpu(job: Job) -> str:
  """A JobSet with a Job for each slice and a pod for each host, on GKE."""
  if job.backend != 'tpu':
    raise ValueError(f'Target jobset_tpu is for TPUs, not {job.hardware}.')
  if not job.topology:
    raise ValueError('Target jobset_tpu needs the topology of a slice: 4x4.')
  label = job.kubernetes.accelerator or _TPU_LABELS[job.hardware]
  selector = {
    'cloud.google.com/gke-tpu-accelerator': label,
    'cloud.google.com/gke-tpu-topology': job.topology,
  }
  # Each slice has its node pool for itself. GKE gives the pods of several
  # slices the MEGASCALE_* variables.
  exclusive = {_EXCLUSIVE: 'cloud.google.com/gke-nodepool'}
  return _jobset(job, selector, 'google.com/tpu', exclusive)


def jobset_gpu(job: Job) -> str:
  """A JobSet with a pod for each host of GPUs."""
  if job.backend != 'gpu':
    raise ValueError(f'Target jobset_gpu is for GPUs, not {job.hardware}.')
  label = job.kubernetes.accelerator or _GPU_LABELS[job.hardware]
  selector = {'cloud.google.com/gke-accelerator': label}
  return _jobset(job, selector, 'nvidia.com/gpu', {})


def sky(job: Job) -> str:
  """A task of SkyPilot, of GPUs or CPUs."""
  if job.backend == 'tpu':
    raise ValueError(
      f'Target sky is for CPUs and GPUs; for {job.hardware} there are tpu_vm '
      'and jobset_tpu.'
    )
  default = f'{job.hardware.upper()}:{job.chips_per_host}'
  accelerators = job.sky.accelerators or default
  resources = {
    'infra': '/'.join(filter(None, (job.sky.cloud, job.sky.region))),
    'accelerators': accelerators if job.backend == 'gpu' else '',
    'image_id': f'docker:{job.container}' if job.container else '',
  }
  install = f"{job.python} -m pip install --quiet --editable '.[{_extra(job)}]'"
  task = {
    'name': job.name,
    'num_nodes': job.hosts,
    'resources': {name: v for name, v in resources.items() if v},
    'workdir': '.',
    'file_mounts': dict(job.sky.mounts),
    'setup': install + '\n',
    'run': fill('sky_host.sh.j2', **_script_values(job)),
  }
  return _head(job, 'sky launch') + _dump(
    {name: value for name, value in task.items() if value}
  )


def _extra(job: Job) -> str:
  return 'gpu' if job.backend == 'gpu' else 'tiny'


def _jobset(
  job: Job,
  selector: Mapping[str, str],
  chips: str,
  annotations: Mapping[str, str],
) -> str:
  if not job.container:
    raise ValueError('A JobSet needs container: the image with this project.')
  if job.mounts:
    raise ValueError('Pods mount kubernetes.claims; leave mounts away.')
  queue = job.kubernetes.queue
  metadata = {
    'name': job.name,
    'namespace': job.kubernetes.namespace,
    'labels': {'kueue.x-k8s.io/queue-name': queue} if queue else {},
    'annotations': annotations,
  }
  jobset = {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {name: value for name, value in metadata.items() if value},
    'spec': {
      # One pod that ends takes all along; then all resume from the checkpoint.
      # A run that was refused would be refused again.
      'failurePolicy': {
        'maxRestarts': job.retries,
        'rules': [
          {
            'name': 'refused',
            'action': 'FailJobSet',
            'onJobFailureReasons': ['PodFailurePolicy'],
          }
        ],
      },
      'replicatedJobs': [
        {
          'name': _JOB,
          'replicas': job.slices,
          'template': {'spec': _job(job, selector, chips)},
        }
      ],
    },
  }
  return _head(job, 'kubectl create -f') + _dump(jobset)


def _job(job: Job, selector: Mapping[str, str], chips: str) -> dict[str, Any]:
  pods = job.hosts // job.slices
  refused = {
    'containerName': _CONTAINER,
    'operator': 'In',
    'values': [_REFUSED],
  }
  return {
    'parallelism': pods,
    'completions': pods,
    'completionMode': 'Indexed',
    'backoffLimit': 0,
    'activeDeadlineSeconds': job.seconds,
    'podFailurePolicy': {
      'rules': [{'action': 'FailJob', 'onExitCodes': refused}]
    },
    'template': {'spec': _pod(job, selector, chips)},
  }


def _pod(job: Job, selector: Mapping[str, str], chips: str) -> dict[str, Any]:
  claims = job.kubernetes.claims
  shared_memory = {'name': 'shm', 'emptyDir': {'medium': 'Memory'}}
  volumes = [
    {'name': claim, 'persistentVolumeClaim': {'claimName': claim}}
    for claim in claims
  ]
  return {
    'restartPolicy': 'Never',
    'hostNetwork': True,
    'dnsPolicy': 'ClusterFirstWithHostNet',
    'terminationGracePeriodSeconds': _SAVING_SECONDS,
    'nodeSelector': dict(selector),
    'containers': [_container(job, chips)],
    'volumes': [shared_memory, *volumes],
  }


def _container(job: Job, chips: str) -> dict[str, Any]:
  limits = {chips: job.chips_per_host, 'memory': job.kubernetes.memory}
  coordinator = f'{job.name}-{_JOB}-0-0.{job.name}'
  script = fill(
    'gke_host.sh.j2', coordinator=coordinator, **_script_values(job)
  )
  shared = [{'name': 'shm', 'mountPath': '/dev/shm'}]
  claims = [
    {'name': claim, 'mountPath': path}
    for claim, path in job.kubernetes.claims.items()
  ]
  index = {'fieldRef': {'fieldPath': _INDEX}}
  return {
    'name': _CONTAINER,
    'image': job.container,
    'command': ['bash', '-c', script],
    # JOB_COMPLETION_INDEX, the pod within its Job, is there by itself.
    'env': [{'name': 'JOB_INDEX', 'valueFrom': index}],
    # TPUs, and the fast networks of GPUs, are devices of the host.
    'securityContext': {'privileged': True},
    'resources': {'limits': {name: v for name, v in limits.items() if v}},
    'volumeMounts': [*shared, *claims],
  }


def _script_values(job: Job) -> dict[str, Any]:
  return {
    'job': job,
    'environment': commands.environment(job),
    'train': commands.train(job),
    'conclusion': commands.conclusion(job),
  }


def _head(job: Job, command: str) -> str:
  return (
    f'# Podium: {job.runs} runs of {job.benchmark}, size {job.size}, on '
    f'{job.hosts} hosts of {job.chips_per_host} x {job.hardware}.\n'
    f'# {command} FILE; data and output lie on disks that all hosts share.\n'
  )


class _Dumper(yaml.SafeDumper):
  """Writes texts of several lines as they are read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
  style = '|' if '\n' in text else None
  return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=style)


_Dumper.add_representer(str, _text)


def _dump(value: Any) -> str:
  return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)
