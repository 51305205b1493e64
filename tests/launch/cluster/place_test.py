"""Tests of what the variables of launchers say."""

from absl.testing import absltest, parameterized

from launch.cluster import place as clusters

_OWN = {
  'PODIUM_COORDINATOR': 'a:1000',
  'PODIUM_PROCESSES': '4',
  'PODIUM_PROCESS_ID': '3',
}
_SLURM = {
  'SLURM_JOB_ID': '4711',
  'SLURM_STEP_ID': '0',
  'SLURM_STEP_NODELIST': 'n[1-2]',
  'SLURM_STEP_NUM_TASKS': '4',
  'SLURM_STEP_TASKS_PER_NODE': '2(x2)',
  'SLURM_NTASKS': '8',
  'SLURM_PROCID': '3',
  'SLURM_LOCALID': '1',
  'SLURM_NODEID': '1',
}
_MPI = {
  'OMPI_COMM_WORLD_SIZE': '4',
  'OMPI_COMM_WORLD_RANK': '2',
  'OMPI_COMM_WORLD_LOCAL_RANK': '0',
  'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
}
_URI = {'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.0.0.1:34911'}
_TPU = {'TPU_WORKER_ID': '1', 'TPU_WORKER_HOSTNAMES': 't0,t1'}


def _numbers(place):
  return place.coordinator, place.processes, place.process


class ClustersTest(parameterized.TestCase):
  @parameterized.parameters(
    ('n1', ['n1']),
    ('n[1-3,7],m3', ['n1', 'n2', 'n3', 'n7', 'm3']),
    ('gpu[008-010]-ib,login', ['gpu008-ib', 'gpu009-ib', 'gpu010-ib', 'login']),
    ('r[1-2]n[1,3]', ['r1n1', 'r1n3', 'r2n1', 'r2n3']),
  )
  def test_a_node_list_names_its_nodes_in_order(self, nodes, names):
    self.assertEqual(clusters.expand(nodes), names)

  @parameterized.parameters(
    ({},),
    ({'PODIUM_PROCESSES': '1'},),
    ({**_SLURM, 'PODIUM_PROCESSES': '1'},),
    # A batch script, which is no step of its job.
    ({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '8', 'SLURM_PROCID': '0'},),
    ({**_SLURM, 'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'},),
  )
  def test_a_process_without_peers_is_alone(self, environment):
    self.assertIsNone(clusters.find(environment))

  @parameterized.named_parameters(
    ('own', _OWN, ('a:1000', 4, 3), None),
    ('own_before_slurm', {**_SLURM, **_OWN}, ('a:1000', 4, 3), None),
    ('slurm', _SLURM, ('n1:62670', 4, 3), 2),
    (
      'slurm_corrected',
      {**_SLURM, 'PODIUM_COORDINATOR': 'n1-ib:7'},
      ('n1-ib:7', 4, 3),
      2,
    ),
    ('open_mpi', {**_MPI, **_URI}, ('10.96.0.1:63124', 4, 2), None),
    (
      'open_mpi_inside_slurm',
      {**_SLURM, **_MPI, **_URI},
      ('10.96.0.1:63124', 4, 2),
      None,
    ),
    (
      'skypilot',
      {'SKYPILOT_NODE_IPS': '10.0.0.4\n10.0.0.9', 'SKYPILOT_NODE_RANK': '1'},
      None,
      2,
    ),
    ('tpu', _TPU, ('t0:8482', 2, 1), 2),
    (
      'tpu_slices',
      {
        **_TPU,
        'MEGASCALE_NUM_SLICES': '3',
        'MEGASCALE_SLICE_ID': '2',
        'MEGASCALE_COORDINATOR_ADDRESS': 'first:8080',
      },
      ('first:8482', 6, 5),
      6,
    ),
    (
      'jobset',
      {
        'JOB_COMPLETION_INDEX': '3',
        'PODIUM_PROCESSES': '8',
        'JOBSET_NAME': 'run',
        'REPLICATED_JOB_NAME': 'ranks',
      },
      ('run-ranks-0-0.run:55526', 8, 3),
      8,
    ),
  )
  def test_each_launcher_tells_the_place(self, environment, numbers, hosts):
    place = clusters.find(environment)
    if numbers:
      self.assertEqual(_numbers(place), numbers)
    self.assertEqual(place.hosts, hosts)

  def test_the_metadata_of_a_tpu_vm_tell_the_place(self):
    metadata = {
      'agent-worker-number': '1',
      'worker-network-endpoints': 'x:0:10.1.0.2,y:1:10.1.0.3',
      'tpu-env': "ZONE: 'z'\nMEGASCALE_NUM_SLICES: '2'\n"
      "MEGASCALE_SLICE_ID: '1'\n",
    }
    place = clusters.find({}, metadata=metadata)
    self.assertEqual(_numbers(place), ('10.1.0.2:8482', 4, 3))
    self.assertIsNone(clusters.find({}, metadata={}))

  def test_open_mpi_on_one_host_needs_no_address(self):
    one = {**_MPI, 'OMPI_COMM_WORLD_LOCAL_SIZE': '4', 'PMIX_NAMESPACE': 'x'}
    place = clusters.find(one)
    self.assertEqual((place.host, place.hosts), ('127.0.0.1', 1))

  def test_jobs_get_pairs_of_ports_that_do_not_overlap(self):
    ports = {
      clusters.find({**_SLURM, 'SLURM_JOB_ID': str(job)}).port
      for job in range(100, 200)
    }
    self.assertLen(ports, 100)
    self.assertEmpty({port + 1 for port in ports} & ports)
    self.assertBetween(min(ports), 61000, 65533)

  def test_steps_and_array_jobs_of_one_node_get_ports_of_their_own(self):
    ports = [
      clusters.find({**_SLURM, 'SLURM_JOB_ID': str(job),
                     'SLURM_STEP_ID': str(step),
                     'SLURM_ARRAY_JOB_ID': '5000',
                     'SLURM_ARRAY_TASK_ID': str(job - 5000)}).port
      for job in range(5000, 5064) for step in range(8)
    ]  # fmt: skip
    self.assertLen(set(ports), len(ports))

  def test_jobs_of_an_array_are_told_apart(self):
    jobs = {
      clusters.find({**_SLURM, 'SLURM_JOB_ID': str(n)}).job for n in (1, 2)
    }
    self.assertLen(jobs, 2)

  @parameterized.parameters(
    # Two nodes of one task, then one of four, which has the GPUs.
    ('n[1-2],m1', '1(x2),4', [(0, 0, 0, 1), (1, 1, 0, 1), (5, 2, 3, 4)]),
    ('m1,n[1-2]', '4,1(x2)', [(3, 0, 3, 4), (4, 1, 0, 1), (5, 2, 0, 1)]),
    ('a,b', '3(x2)', [(0, 0, 0, 3), (5, 1, 2, 3)]),
    # Of which Slurm does not say how they are dealt out.
    ('a,b', '', [(0, 0, 0, 3), (5, 1, 2, 3)]),
  )
  def test_components_of_a_heterogeneous_step_are_one_job(
    self, nodes, tasks, places
  ):
    names = clusters.expand(nodes)
    for rank, node, local, peers in places:
      # Of a step over components Slurm counts nodes and tasks of all of them.
      place = clusters.find({
        'SLURM_HET_SIZE': '2', 'SLURM_JOB_ID': '4711', 'SLURM_STEP_ID': '0',
        'SLURM_STEP_NODELIST': nodes, 'SLURM_STEP_NUM_TASKS': '6',
        'SLURM_STEP_TASKS_PER_NODE': tasks, 'SLURM_NODEID': str(node),
        'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(local),
        'SLURM_NTASKS': '1', 'PODIUM_LOCAL_DEVICES': 'all',
      })  # fmt: skip
      self.assertEqual(_numbers(place), (f'{names[0]}:62670', 6, rank))
      self.assertEqual(
        (place.hosts, place.local_process, place.local_processes),
        (len(names), local, peers),
      )

  def test_a_component_alone_is_a_job_of_its_own(self):
    part = {
      **_SLURM, 'SLURM_HET_SIZE': '2', 'SLURM_STEP_NODELIST': 'm1',
      'SLURM_STEP_NUM_TASKS': '2', 'SLURM_STEP_TASKS_PER_NODE': '2',
      'SLURM_NODEID': '0', 'SLURM_PROCID': '1',
      'SLURM_JOB_NODELIST_HET_GROUP_0': 'n[1-2]',
    }  # fmt: skip
    place = clusters.find(part)
    self.assertEqual((place.host, place.processes, place.hosts), ('m1', 2, 1))

  @parameterized.parameters(
    ({'PODIUM_PROCESSES': '2'}, 'PODIUM_COORDINATOR, PODIUM_PROCESS_ID'),
    ({**_OWN, 'PODIUM_PROCESS_ID': 'first'}, "numbers, not '4' and 'first'"),
    ({**_OWN, 'PODIUM_PROCESS_ID': '4'}, 'process 4 of 4 cannot be'),
    ({**_OWN, 'PODIUM_PROCESSES': '0'}, 'process 3 of 0'),
    ({**_OWN, 'PODIUM_COORDINATOR': 'a'}, "HOST:PORT, not 'a'"),
    ({**_OWN, 'PODIUM_COORDINATOR': 'a:65535'}, 'HOST:PORT'),
    (_MPI, 'Open MPI 5 .* PODIUM_COORDINATOR'),
    ({'OMPI_COMM_WORLD_SIZE': '4'}, 'not OMPI_COMM_WORLD_RANK'),
    (
      {'SLURM_STEP_NODELIST': 'n1', 'SLURM_PROCID': '0', 'SLURM_LOCALID': '0'},
      'SLURM_PROCID and SLURM_LOCALID set, but not SLURM_NTASKS',
    ),
    ({'JOB_COMPLETION_INDEX': '0'}, 'PODIUM_PROCESSES'),
    (
      {'JOB_COMPLETION_INDEX': '0', 'PODIUM_PROCESSES': '2'},
      'JOBSET_NAME and REPLICATED_JOB_NAME',
    ),
  )
  def test_half_a_place_and_nonsense_are_refused(self, environment, says):
    with self.assertRaisesRegex(ValueError, says):
      clusters.find(environment)

  @parameterized.parameters(
    ({}, 0, None),  # no GPU
    ({}, 2, (1,)),
    ({}, 8, (4, 5, 6, 7)),
    ({'CUDA_VISIBLE_DEVICES': '5'}, 8, None),  # chosen by the launcher
    ({'CUDA_VISIBLE_DEVICES': '4,5,6,7'}, 8, (2, 3)),
    # Slurm binds each task, with cgroups or by number.
    ({'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_GPUS_PER_TASK': '2'}, 8, None),
    ({'CUDA_VISIBLE_DEVICES': '2,3', 'SLURM_GPUS_PER_TASK': 'h100:2'}, 8, None),
    (
      {
        'CUDA_VISIBLE_DEVICES': '2,3',
        'SLURM_TRES_PER_TASK': 'cpu=8,gres/gpu:h100=2',
      },
      8,
      None,
    ),
    ({'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_STEP_GPUS': '4,5,6,7'}, 8, None),
    (
      {'CUDA_VISIBLE_DEVICES': 'GPU-4e,GPU-5f', 'SLURM_STEP_GPUS': '0,1,2,3'},
      8,
      None,
    ),
    # It was asked not to: all tasks see all of the step's.
    (
      {'CUDA_VISIBLE_DEVICES': '0,1,2,3', 'SLURM_GPUS_PER_TASK': '2'},
      8,
      (2, 3),
    ),
    ({'CUDA_VISIBLE_DEVICES': '0,1', 'SLURM_GPUS_PER_TASK': '1'}, 8, (1,)),
    (
      {'CUDA_VISIBLE_DEVICES': '4,5,6,7', 'SLURM_STEP_GPUS': '4,5,6,7'},
      8,
      (2, 3),
    ),
    ({'CUDA_VISIBLE_DEVICES': 'GPU-4e,GPU-5f'}, 8, (1,)),
    ({'ROCR_VISIBLE_DEVICES': '0,1,2,3'}, 0, (2, 3)),
    ({'CUDA_VISIBLE_DEVICES': 'MIG-4e'}, 8, None),
    # These hide all, and what follows a device that is none.
    ({'CUDA_VISIBLE_DEVICES': ''}, 8, None),
    ({'CUDA_VISIBLE_DEVICES': '-1'}, 8, None),
    ({'CUDA_VISIBLE_DEVICES': 'NoDevFiles'}, 8, None),
    ({'CUDA_VISIBLE_DEVICES': '0,1,-1,2'}, 8, (1,)),
    ({'PODIUM_LOCAL_DEVICES': 'all'}, 8, None),
    ({'PODIUM_LOCAL_DEVICES': '3'}, 8, (3, 4, 5)),
    ({'PODIUM_LOCAL_DEVICES': '0,6'}, 8, (0, 6)),
    ({'PODIUM_LOCAL_DEVICES': '6,'}, 8, (6,)),
    ({'SLURM_STEP_TASKS_PER_NODE': '3,1'}, 8, None),  # alone on its host
  )
  def test_devices_are_shared_by_one_rule(self, more, gpus, devices):
    # The second of the two processes of its host.
    place = clusters.find({**_SLURM, **more}, gpus)
    self.assertEqual(place.local_devices, devices)

  @parameterized.parameters(
    ({}, 3, '3 GPUs and has 2 processes'),
    ({}, 1, '1 GPUs and has 2'),
    ({'CUDA_VISIBLE_DEVICES': '0,1,2'}, 8, '3 GPUs and has 2 processes'),
    ({'CUDA_VISIBLE_DEVICES': 'MIG-4e,MIG-5f'}, 8, 'the first MIG device'),
    ({'PODIUM_LOCAL_DEVICES': 'two'}, 8, "not 'two'"),
    ({'PODIUM_LOCAL_DEVICES': '0'}, 8, "not '0'"),
  )
  def test_devices_that_cannot_be_shared_are_refused(self, more, gpus, says):
    with self.assertRaisesRegex(ValueError, says):
      clusters.find({**_SLURM, **more}, gpus)

  def test_a_number_of_devices_needs_the_place_on_the_host(self):
    with self.assertRaisesRegex(ValueError, 'PODIUM_LOCAL_PROCESS_ID'):
      clusters.find({**_OWN, 'PODIUM_LOCAL_DEVICES': '2'})
    place = clusters.find(
      {**_OWN, 'PODIUM_LOCAL_DEVICES': '2', 'PODIUM_LOCAL_PROCESS_ID': '1'}
    )
    self.assertEqual(place.local_devices, (2, 3))


if __name__ == '__main__':
  absltest.main()
