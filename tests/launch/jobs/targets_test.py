"""Tests of the files that launch a job, by running them or by their schema."""

import copy
import json
import pathlib
import shutil
import subprocess

from absl.testing import absltest, parameterized
import jsonschema
import yaml

from launch import jobs
from launch.jobs import commands, description, scripts
from tests.launch import processes
from tests.launch.jobs.description_test import (
  GOOD,
  GPUS,
  SYSTEM,
  with_changes,
)
from tests.launch.jobs.stand_ins import StandIns

_SCHEMA = pathlib.Path(__file__).parent / 'jobset_v1alpha2.json'
_CPUS = {
  'benchmark': 'resnet',
  'size': 'tiny',
  'hardware': 'cpu',
  'chips_per_host': 2,
  'runs': 3,
  'data': '/my data/"sets"',
  'output': "/some where/it's",
}
_TPU_VM = {
  **GOOD, 'slices': 1, 'hosts': 4, 'topology': '', 'runs': 2,
  'gcloud': {'tpu': 'pod', 'zone': 'here-a', 'options': ['--internal-ip']},
}  # fmt: skip
_CLUSTER = {**GPUS, 'container': 'org/image:1', 'runs': 2}


def shellcheck(test, text, *options):
  """Fails the test with what shellcheck says of a script."""
  done = subprocess.run(
    ['shellcheck', *options, '-'], input=text, capture_output=True, text=True
  )
  test.assertEqual((done.returncode, done.stdout), (0, ''), text)


def embedded(text, target):
  """The script inside a YAML file."""
  read = yaml.safe_load(text)
  if target == 'sky':
    return read['run']
  return pod(read)['containers'][0]['command'][2]


def pod(jobset):
  """The pods' specification."""
  (replicated,) = jobset['spec']['replicatedJobs']
  return replicated['template']['spec']['template']['spec']


@absltest.skipUnless(
  shutil.which('shellcheck'), 'needs shellcheck: make programs'
)
class ShellTest(parameterized.TestCase):
  @parameterized.product(
    several=[False, True],
    target=['local', 'slurm', 'mpirun', 'tpu_vm', 'jobset_gpu', 'jobset_tpu',
            'sky'],
  )  # fmt: skip
  def test_shellcheck_has_nothing_to_say(self, target, several):
    values = {**_CPUS, 'code': "/a b/c'd"}
    if target == 'tpu_vm':
      values = {**values, **_TPU_VM}
    elif target == 'jobset_tpu':
      values = {**values, **GOOD, 'container': 'a b'}
    elif target == 'jobset_gpu':
      values = {**values, **_CLUSTER}
    elif target == 'slurm' and several:
      values |= {'container': 'a b', 'mounts': ['/a b:/c', '/d:/e'],
                 'slurm': {'partition': 'p', 'options': ['--qos=q']},
      }  # fmt: skip
    if target != 'tpu_vm' and not target.startswith('jobset'):
      values['processes_per_host'] = 1 + several
    if several and target == 'mpirun':
      values |= {'hosts': 2, 'mpirun': {'hostfile': 'a b', 'options': ['-q']}}
    job = description.job(values)
    text = jobs.TARGETS[target].write(job)
    if target.startswith('jobset') or target == 'sky':
      text = '#!/bin/bash\n' + embedded(text, target)
    shellcheck(self, text)
    if target == 'tpu_vm':
      shellcheck(self, scripts.fill('tpu_host.sh.j2', job), '--shell=bash')


class LocalTest(parameterized.TestCase):
  """The loop over runs, which Slurm and Open MPI have too."""

  def setUp(self):
    super().setUp()
    self.stand_ins = StandIns(self.create_tempdir().full_path)

  def _call(self, target='local', code=None, **changes):
    job = with_changes(
      _CPUS,
      processes_per_host=2,
      python=str(self.stand_ins.python),
      code=str(self.stand_ins.folder),
      output='out put',
      **changes,
    )
    environment = self.stand_ins.environment(CODES=code or '')
    return subprocess.run(
      ['bash', '-c', jobs.TARGETS[target].write(job)],
      env=environment,
      capture_output=True,
      text=True,
    )

  def _modules(self):
    return [
      next(a for a in reversed(arguments) if a.startswith('launch.'))
      for arguments, _ in self.stand_ins.called()
    ]

  def _runs(self):
    return [
      arguments[-1]
      for arguments, _ in self.stand_ins.called()
      if 'launch.train' in arguments
    ]

  def test_each_run_is_made_once_then_they_are_scored_and_reported(self):
    done = self._call()
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self._runs(), ['--run=0', '--run=1', '--run=2'])
    self.assertEqual(self._modules()[-2:], ['launch.score', 'launch.report'])
    (first, _), *_ = self.stand_ins.called()
    self.assertEqual(
      first[:5], ['-m', 'launch.local', '--processes=2', '--devices=1', '--']
    )
    self.assertIn('--data_dir=/my data/"sets"', first)
    self.assertIn('--output=out put', first)
    self.assertIn('--resume', first)

  def test_a_run_that_did_not_meet_its_target_is_a_run(self):
    done = self._call(code='1 0 1')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self._runs(), ['--run=0', '--run=1', '--run=2'])

  def test_called_again_it_makes_the_runs_that_are_missing(self):
    self.assertEqual(self._call(code='0 2').returncode, 2)
    done = self._call()
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self._runs(), ['--run=0', '--run=1', '--run=1', '--run=2'])

  def test_a_run_that_lost_a_rank_goes_on_as_often_as_is_said(self):
    done = self._call(code='75 137 0', runs=1, retries=2)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(self._runs(), ['--run=0'] * 3)
    self.assertIn('attempt 2 of 2', done.stderr)

  def test_then_no_more(self):
    done = self._call(code='75 75 0', runs=1, retries=1)
    self.assertEqual(done.returncode, 75)
    self.assertEqual(self._runs(), ['--run=0'] * 2)
    self.assertNotIn('launch.score', self._modules())

  @parameterized.parameters((2, 2), (124, 124), (100, 1))
  def test_what_would_come_out_the_same_is_not_tried_again(self, code, ended):
    # 100: the stand-in ends with 0 and leaves no result.
    done = self._call(code=f'{code} 0')
    self.assertEqual(done.returncode, ended)
    self.assertLen(self._runs(), 1)

  def test_one_process_is_left_to_launch_benchmark(self):
    text = jobs.TARGETS['local'].write(description.job(_CPUS))
    self.assertIn('launch.benchmark', text)
    self.assertIn('--runs=3', text)
    self.assertNotIn('launch.local', text)

  def test_mpirun_is_called_once_a_run_and_passes_the_variables_on(self):
    self.stand_ins.launcher('mpirun')
    done = self._call('mpirun', environment={'MY_OWN': 'a b'})
    # The stand-in starts nothing: the run has no result.
    self.assertEqual(done.returncode, 1, done.stderr)
    (call,) = self.stand_ins.launched()
    self.assertEqual(call[1:3], ['-np', '2'])
    self.assertIn('ppr:2:node', call)
    for name in ('PODIUM_PROCESSES', 'PODIUM_DEVICES', 'MY_OWN'):
      self.assertEqual(call[call.index(name) - 1], '-x')
    self.assertEqual(call[-1], '--run=0')
    self.assertIn(str(self.stand_ins.python), call)


class CommandsTest(parameterized.TestCase):
  def test_launch_train_takes_the_flags_of_a_job(self):
    job = with_changes(
      _CPUS, batch=512, hparams={'max_epochs': 2}, division='open',
      profile='cpu', compiler_options={'xla_cpu_enable_fast_math': False},
      flags=['--watchdog_seconds=60'],
    )  # fmt: skip
    done = processes.run(*commands.train(job)[2:], '--list_hp')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertRegex(done.stdout, r'max_epochs=2\b')

  @parameterized.parameters(0, 1)
  def test_scoring_and_reporting_take_a_folder_of_results(self, index):
    folder = self.create_tempdir().full_path
    words = commands.conclusion(with_changes(_CPUS, output=folder))[index]
    done = processes.run(*words[2:])
    # The commands are understood; of nothing they can make nothing.
    self.assertNotIn('Unexpected argument', done.stderr)
    self.assertNotIn('--help', done.stderr)
    self.assertIn(folder, done.stdout + done.stderr)


class SlurmTest(parameterized.TestCase):
  def _options(self, **changes):
    text = jobs.TARGETS['slurm'].write(with_changes(GPUS, **changes))
    lines = [
      line[8:] for line in text.splitlines() if line.startswith('#SBATCH')
    ]
    return dict(line.partition('=')[::2] for line in lines), text

  def test_nodes_tasks_gpus_and_time_are_asked_for(self):
    options, text = self._options(time_limit='1-02:30:01', slurm={
      'account': 'me', 'options': ['--qos=high']})  # fmt: skip
    for name, value in {
      '--nodes': '2', '--ntasks-per-node': '4', '--gpus-per-node': '8',
      '--time': '1-02:31:00', '--account': 'me', '--qos': 'high',
      '--requeue': '', '--signal': 'TERM@120', '--exclusive': '',
    }.items():  # fmt: skip
      self.assertEqual(options[name], value, name)
    self.assertIn('--kill-on-bad-exit=0 --wait=300', text)
    self.assertNotIn('--container', text)

  def test_a_container_is_pyxis(self):
    _, text = self._options(container='org/image:1', mounts=['/a:/b', '/c:/c'])
    self.assertIn('--container-image=org/image:1', text)
    self.assertIn('--container-mounts=/a:/b,/c:/c', text)

  @parameterized.parameters('qos=high', '--qos=a b', "--qos='a'")
  def test_an_option_is_one_word(self, option):
    with self.assertRaisesRegex(ValueError, 'one word like --qos=high'):
      self._options(slurm={'options': [option]})


class TpuVmTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.stand_ins = StandIns(self.create_tempdir().full_path)
    self.stand_ins.launcher('gcloud')
    folder = self.stand_ins.folder / 'my code'
    folder.mkdir()
    self.job = with_changes(
      _TPU_VM,
      python=str(self.stand_ins.python),
      code='my code',
      output='out put',
    )

  def _call(self, *arguments, code=''):
    script = self.create_tempfile(
      'job.sh', jobs.TARGETS['tpu_vm'].write(self.job)
    )
    return subprocess.run(
      ['bash', script.full_path, *arguments],
      env=self.stand_ins.environment(CODES=code),
      cwd=self.stand_ins.folder,
      capture_output=True,
      text=True,
    )

  def test_every_run_is_one_command_to_all_hosts(self):
    done = self._call(code='1 0')
    self.assertEqual(done.returncode, 0, done.stderr)
    trained = [a for a, _ in self.stand_ins.called() if 'launch.train' in a]
    self.assertEqual([a[-1] for a in trained], ['--run=0', '--run=1'])
    self.assertIn('--output=out put', trained[0])
    for call in self.stand_ins.launched():
      self.assertEqual(call[1:6], ['compute', 'tpus', 'tpu-vm', 'ssh', 'pod'])
      self.assertIn('--zone=here-a', call)
      self.assertIn('--internal-ip', call)
    workers = [call[8] for call in self.stand_ins.launched()]
    self.assertEqual(workers.count('--worker=all'), 2)
    self.assertEqual(set(workers), {'--worker=all', '--worker=0'})
    _, told = self.stand_ins.called()[0]
    self.assertEqual(told['PODIUM_PROCESSES'], '4')
    self.assertEqual(told['PODIUM_DEVICES'], '16')
    self.assertTrue((self.stand_ins.folder / 'podium-logs/run_0.log').exists())
    modules = [a[1] for a, _ in self.stand_ins.called()]
    self.assertEqual(modules[-2:], ['launch.score', 'launch.report'])

  def test_an_exit_code_comes_back_from_the_hosts(self):
    done = self._call(code='2')
    self.assertEqual(done.returncode, 2)
    self.assertIn('exit code 2', done.stderr)

  def test_results_and_logs_are_collected(self):
    self.assertEqual(self._call('collect').returncode, 0)
    calls = self.stand_ins.launched()
    self.assertLen(calls, 5)
    self.assertIn('pod:my code/out put', calls[0])

  def test_stop_reaches_all_hosts(self):
    self.assertEqual(self._call('stop').returncode, 0)
    (call,) = self.stand_ins.launched()
    self.assertIn('--worker=all', call)
    self.assertRegex(call[-1], 'kill')

  def test_another_word_is_refused(self):
    done = self._call('halt')
    self.assertEqual(done.returncode, 2)
    self.assertIn('not halt', done.stderr)


class HostScriptTest(parameterized.TestCase):
  """Commands of each host in a pod or under SkyPilot."""

  def setUp(self):
    super().setUp()
    self.stand_ins = StandIns(self.create_tempdir().full_path)

  def _host(self, target, job, code='', **variables):
    script = embedded(jobs.TARGETS[target].write(job), target)
    return subprocess.run(
      ['bash', '-c', script],
      env=self.stand_ins.environment(CODES=code, **variables),
      capture_output=True,
      text=True,
    )

  def _job(self, base, **changes):
    return with_changes(
      base,
      python=str(self.stand_ins.python),
      code=str(self.stand_ins.folder),
      output=str(self.stand_ins.folder / 'out put'),
      **changes,
    )

  def _trained(self):
    return [e for a, e in self.stand_ins.called() if 'launch.train' in a]

  def test_sky_starts_the_processes_of_its_host(self):
    job = self._job(GPUS, runs=1)
    done = self._host(
      'sky', job, SKYPILOT_NODE_RANK='1', SKYPILOT_NUM_NODES='2',
      SKYPILOT_NODE_IPS='10.0.0.1\n10.0.0.2',
    )  # fmt: skip
    self.assertEqual(done.returncode, 0, done.stderr)
    told = sorted(self._trained(), key=lambda e: int(e['PODIUM_PROCESS_ID']))
    self.assertEqual([e['PODIUM_PROCESS_ID'] for e in told], list('4567'))
    self.assertEqual([e['PODIUM_LOCAL_PROCESS_ID'] for e in told], list('0123'))
    for each in told:
      self.assertEqual(each['PODIUM_COORDINATOR'], '10.0.0.1:61440')
      self.assertEqual(each['PODIUM_LOCAL_DEVICES'], '2')
      self.assertEqual(each['PODIUM_PROCESSES'], '8')
      self.assertEqual(each['NCCL_LAUNCH_MODE'], 'GROUP')

  def test_sky_with_another_number_of_hosts_is_refused(self):
    done = self._host(
      'sky', self._job(GPUS), SKYPILOT_NODE_RANK='0', SKYPILOT_NUM_NODES='3',
      SKYPILOT_NODE_IPS='a',
    )  # fmt: skip
    self.assertEqual(done.returncode, 2)
    self.assertIn('expected 2 hosts, got 3', done.stderr)

  def test_pods_are_numbered_slice_by_slice(self):
    job = self._job(GOOD, container='image', runs=1)
    done = self._host(
      'jobset_tpu', job, JOB_INDEX='2', JOB_COMPLETION_INDEX='3'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    (told,) = self._trained()
    self.assertEqual(told['PODIUM_PROCESS_ID'], '11')
    self.assertEqual(
      told['PODIUM_COORDINATOR'],
      'resnet-reference-hosts-0-0.resnet-reference:61440',
    )

  def test_the_first_pod_alone_scores_and_reports(self):
    job = self._job(_CLUSTER, processes_per_host=1)
    done = self._host(
      'jobset_gpu', job, code='0 1', JOB_INDEX='0', JOB_COMPLETION_INDEX='0'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    ports = [e['PODIUM_COORDINATOR'].split(':')[1] for e in self._trained()]
    self.assertEqual(ports, ['61440', '61442'])  # no run meets the one before
    modules = [a[1] for a, _ in self.stand_ins.called()]
    self.assertEqual(modules[-2:], ['launch.score', 'launch.report'])
    self._host('jobset_gpu', job, JOB_INDEX='0', JOB_COMPLETION_INDEX='1')
    self.assertLen(self._trained(), 2)  # all was finished

  @parameterized.parameters((75, 75), (2, 2), (100, 1))
  def test_a_pod_ends_with_the_code_of_its_process(self, code, ended):
    job = self._job(_CLUSTER, processes_per_host=1)
    done = self._host(
      'jobset_gpu', job, code=str(code), JOB_INDEX='0', JOB_COMPLETION_INDEX='0'
    )
    self.assertEqual(done.returncode, ended)
    self.assertLen(self._trained(), 1)


def _strict(schema):
  """The schema, with unknown fields refused where fields are listed."""
  if isinstance(schema, list):
    return [_strict(each) for each in schema]
  if not isinstance(schema, dict):
    return schema
  found = {name: _strict(value) for name, value in schema.items()}
  if isinstance(found.get('properties'), dict):
    found.setdefault('additionalProperties', False)
  return found


class JobSetTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    schema = _strict(json.loads(_SCHEMA.read_text()))
    # It says nothing of what all objects of Kubernetes have.
    schema['properties']['metadata'] = {'type': 'object'}
    cls.validator = jsonschema.Draft202012Validator(schema)

  def _jobset(self, target, base, **changes):
    text = jobs.TARGETS[target].write(with_changes(base, **changes))
    jobset = yaml.safe_load(text)
    self.validator.validate(jobset)
    return jobset

  @parameterized.parameters(
    'v3-32x4', 'v4-32x4', 'v5e-16x4', 'v5p-32x4', 'v6e-16x4', 'tpu7x-32x4'
  )
  def test_a_jobset_of_tpus_fits_the_schema(self, system):
    jobset = self._jobset(
      'jobset_tpu', SYSTEM, system=system, container='image',
      kubernetes={'queue': 'q', 'namespace': 'n', 'memory': '100Gi',
                  'claims': {'data': '/data', 'results': '/results'}},
    )  # fmt: skip
    self.assertEqual(jobset['metadata']['namespace'], 'n')
    (replicated,) = jobset['spec']['replicatedJobs']
    self.assertEqual(replicated['replicas'], 4)
    job = replicated['template']['spec']
    self.assertEqual((job['parallelism'], job['completions']), (4, 4))
    self.assertEqual(job['backoffLimit'], 0)
    self.assertEqual(
      jobset['metadata']['annotations'],
      {'alpha.jobset.sigs.k8s.io/exclusive-topology':
       'cloud.google.com/gke-nodepool'},
    )  # fmt: skip
    container = pod(jobset)['containers'][0]
    self.assertEqual(
      container['resources']['limits'],
      {'google.com/tpu': 4, 'memory': '100Gi'},
    )
    mounts = {m['name']: m['mountPath'] for m in container['volumeMounts']}
    self.assertEqual(mounts['results'], '/results')

  @parameterized.parameters('h100', 'h200', 'b200')
  def test_a_jobset_of_gpus_fits_the_schema(self, hardware):
    jobset = self._jobset('jobset_gpu', _CLUSTER, hardware=hardware, retries=5)
    self.assertEqual(jobset['spec']['failurePolicy']['maxRestarts'], 5)
    spec = pod(jobset)
    self.assertTrue(spec['hostNetwork'])
    self.assertEqual(spec['dnsPolicy'], 'ClusterFirstWithHostNet')
    limits = spec['containers'][0]['resources']['limits']
    self.assertEqual(limits, {'nvidia.com/gpu': 8})

  @parameterized.parameters(
    (('spec',), 'ttlSecondsAfterFinish'),
    (('spec', 'failurePolicy'), 'maxRestart'),
    (('spec', 'replicatedJobs', 0), 'replica'),
    (('spec', 'replicatedJobs', 0, 'template', 'spec'), 'backoff'),
  )
  def test_the_schema_would_find_a_field_that_is_not(self, path, name):
    jobset = copy.deepcopy(self._jobset('jobset_gpu', _CLUSTER))
    place = jobset
    for step in path:
      place = place[step]
    place[name] = 1
    with self.assertRaises(jsonschema.ValidationError):
      self.validator.validate(jobset)

  def test_what_a_run_was_refused_for_is_not_tried_again(self):
    jobset = self._jobset('jobset_gpu', _CLUSTER)
    (rule,) = jobset['spec']['failurePolicy']['rules']
    self.assertEqual(rule['action'], 'FailJobSet')
    (replicated,) = jobset['spec']['replicatedJobs']
    policy = replicated['template']['spec']['podFailurePolicy']
    self.assertEqual(policy['rules'][0]['onExitCodes']['values'], [2])


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    ('slurm', GOOD, {}, 'tpu_vm and jobset_tpu'),
    ('mpirun', GPUS, {}, 'mpirun.hostfile'),
    ('mpirun', GPUS, {'container': 'a'}, 'starts no container'),
    ('local', GPUS, {}, 'one host; the job has 2'),
    ('local', GPUS, {'hosts': 1, 'mounts': ['a:b']}, 'no container'),
    ('tpu_vm', GOOD, {}, 'one slice'),
    ('tpu_vm', GPUS, {}, 'one slice of TPUs'),
    ('tpu_vm', GOOD, {'slices': 1, 'topology': ''}, 'gcloud.tpu'),
    ('jobset_tpu', GPUS, {}, 'for TPUs, not h100'),
    (
      'tpu_vm',
      _TPU_VM,
      {'gcloud': {'tpu': 'a', 'zone': 'b', 'accelerator_type': 'v5litepod-64'}},
      'accelerator_type is v5litepod-64, but system v5e-16 is v5litepod-16',
    ),
    ('sky', GPUS, {'sky': {'accelerators': 'H100:4'}}, 'a host has 8 chips'),
    ('jobset_tpu', GOOD, {}, 'needs container'),
    ('jobset_gpu', GOOD, {}, 'for GPUs, not v5e'),
    ('jobset_gpu', _CLUSTER, {'mounts': ['a:b']}, 'kubernetes.claims'),
    ('sky', GOOD, {}, 'tpu_vm and jobset_tpu'),
  )
  def test_a_job_that_a_target_cannot_launch(self, target, base, more, message):
    with self.assertRaisesRegex(ValueError, message):
      jobs.TARGETS[target].write(with_changes(base, **more))

  def test_all_that_a_target_lacks_is_told_at_once(self):
    with self.assertRaisesRegex(ValueError, '3 faults:'):
      jobs.TARGETS['tpu_vm'].write(with_changes(_CLUSTER))


class SkyTest(absltest.TestCase):
  def test_a_task_asks_for_nodes_and_gpus(self):
    job = with_changes(
      GPUS, container='org/image:1', sky={'cloud': 'aws', 'region': 'east',
                                          'mounts': {'/data': 's3://d'}}
    )  # fmt: skip
    task = yaml.safe_load(jobs.TARGETS['sky'].write(job))
    self.assertEqual(task['num_nodes'], 2)
    self.assertEqual(
      task['resources'],
      {
        'infra': 'aws/east',
        'accelerators': 'H100:8',
        'image_id': 'docker:org/image:1',
      },
    )
    self.assertEqual(task['file_mounts'], {'/data': 's3://d'})


if __name__ == '__main__':
  absltest.main()
