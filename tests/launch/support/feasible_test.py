"""Tests that jobs which cannot run are refused, and others are not."""

import re

from absl.testing import absltest, parameterized

from launch import jobs, train
from launch.jobs import description, faults
from launch.support import feasible
from suite import files
from tests.launch.jobs.description_test import GPUS, SYSTEM

_CLAIMS = {'container': 'image', 'kubernetes': {'claims': {'d': '/results'}}}
_NCF = {**GPUS, 'hosts': 8, 'processes_per_host': 8, 'batch': 2**20}
_RESNET = {
  **SYSTEM, 'size': 'tiny', 'system': 'h100-64', 'processes_per_host': 8,
  'batch': 16384, 'division': 'open', 'hparams': {'eval_batch_size': 1024},
}  # fmt: skip
_TPUS = {
  **SYSTEM, 'benchmark': 'ncf', 'batch': 2**20, 'processes_per_host': 1,
}  # fmt: skip
_GOOD = {
  'local': {**GPUS, 'hosts': 1},
  'slurm': _NCF,
  'mpirun': {**_RESNET, 'mpirun': {'hostfile': 'hosts'}},
  'tpu_vm': {
    **_TPUS, 'system': 'v5p-64', 'profile': 'tpu_v5e',
    'gcloud': {'tpu': 'pod', 'zone': 'here'},
  },
  'jobset_tpu': {**_TPUS, **_CLAIMS},
  'jobset_gpu': {**_NCF, **_CLAIMS},
  'sky': {**GPUS, 'profile': 'h100,gpu_deterministic'},
}  # fmt: skip


def told(values, target='slurm', **changes):
  """Faults of a job of a description."""
  draft = description.examined({**values, **changes})
  return faults.of(feasible.require, draft, target, train.define_flags)


class FeasibleTest(parameterized.TestCase):
  @parameterized.parameters(*_GOOD)
  def test_a_job_that_can_run_has_no_faults(self, target):
    self.assertEqual(told(_GOOD[target], target), [])

  def test_each_target_is_tried(self):
    self.assertEqual(set(_GOOD), set(jobs.TARGETS))

  @parameterized.named_parameters(
    ('batch', {'batch': 16400}, 'train batch.* is 16400, which 64 devices'),
    ('eval', {'division': 'open', 'hparams': {'eval_batch_size': 100}},
     'eval batch is 100, which 64 devices'),
    ('profile', {'profile': 'tpu_v5e'}, 'tpu_v5e is for TPUs, not for GPUs'),
    ('second', {'profile': 'h100,tpu_slices'}, 'tpu_slices is for TPUs'),
    ('flag', {'flags': ['--watchdog=3']}, "flags: .*'watchdog'"),
    ('value', {'flags': ['--spread=all']}, 'flags: .*spread'),
    ('axis', {'flags': ['--model_axis=3']}, 'axis of 3 does not divide 64'),
    ('reads', {'flags': ['--skip_corrupt_records=3']}, 'division=open'),
    ('org', {'org': '../a'}, 'flags: .*submission_org'),
    ('mount', {'container': 'a', 'mounts': ['/results:/out']},
     'no mount of one path'),
  )  # fmt: skip
  def test_a_job_that_cannot_run_is_refused(self, changes, says):
    (found,) = told(_NCF, **changes)
    self.assertRegex(found, says)

  def test_what_devices_of_a_host_share_is_told_by_hosts(self):
    hparams = {**_RESNET['hparams'], 'model_bn_span': 4096}
    (found,) = told(_RESNET, hparams=hparams)
    self.assertRegex(found, 'groups of 4096 rows that would cross hosts')

  def test_a_device_count_of_the_table_is_what_the_batch_must_fit(self):
    # 16 chips of v3 are 32 devices.
    values = {**_TPUS, 'system': 'v3-32', **_CLAIMS}
    self.assertEqual(told(values, 'jobset_tpu', batch=3200), [])
    (found,) = told(values, 'jobset_tpu', batch=3216)
    self.assertRegex(found, 'which 32 devices')

  @parameterized.parameters(
    ({'claims': {'d': '/data'}}, '/results/one'),
    ({}, '/results/one'),
    ({'claims': {'d': '/results/on'}}, '/results/one'),
    ({'claims': {'d': '/results'}}, 'one'),
  )
  def test_a_result_that_goes_with_its_pod_is_refused(self, pods, output):
    (found,) = told(
      _GOOD['jobset_gpu'], 'jobset_gpu', kubernetes=pods, output=output
    )
    self.assertRegex(found, 'no volume of kubernetes.claims')

  def test_a_mount_of_one_path_holds_a_result(self):
    found = told(_NCF, container='a', mounts=['/results:/results:rw'])
    self.assertEqual(found, [])

  def test_all_faults_are_told_at_once(self):
    found = told(
      _NCF, 'mpirun', batch=16400, profile='tpu', division='open',
      hparams={'eval_batch_size': 100}, time_limit=60, container='a',
    )  # fmt: skip
    self.assertLen(found, 6)

  def test_the_job_of_the_page_can_run(self):
    page = (files.ROOT / 'docs/launching.md').read_text(encoding='utf-8')
    (text,) = re.findall('```yaml\n(.*?)```', page, re.S)
    path = self.create_tempfile('job.yaml', text).full_path
    draft = description.examined(description.read_fields(path))
    job = feasible.require(draft, 'slurm', train.define_flags)
    self.assertEqual(job.devices, 64)

  def test_flags_of_the_command_are_as_before(self):
    before = set(feasible.FLAGS)
    told(_NCF)
    told(_NCF, flags=['--no_such'])
    self.assertEqual(set(feasible.FLAGS), before)


if __name__ == '__main__':
  absltest.main()
