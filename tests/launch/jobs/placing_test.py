"""Tests that a job's hosts, chips and topology are those of its system."""

from absl.testing import absltest, parameterized

from launch.aot import systems
from launch.jobs import commands, placing
from tests.launch.jobs.description_test import GOOD, GPUS, SYSTEM, with_changes

_EVERY = [
  *systems.published(),
  *(
    f'{kind}-{16 if kind in ("v5e", "v6e") else 32}x3' for kind in placing.TPUS
  ),
]


class PlacingTest(parameterized.TestCase):
  def test_every_system_gives_a_job_what_the_compiler_has(self):
    for name in _EVERY:
      system, job = systems.get(name), with_changes(SYSTEM, system=name)
      self.assertEqual(job.devices, system.devices, name)
      self.assertEqual(job.hosts, system.hosts, name)
      self.assertEqual(job.chips_per_host * job.hosts, system.chips, name)
      self.assertEqual(job.slices, system.slices, name)
      told = commands.environment(job)
      self.assertEqual(told['PODIUM_DEVICES'], str(system.devices), name)

  def test_hosts_and_chips_alone_lead_to_the_same_job(self):
    for name in _EVERY:
      job = with_changes(SYSTEM, system=name)
      fields = {n: getattr(job, n) for n in placing.FIELDS if n != 'system'}
      if job.backend == 'gpu':
        fields['topology'] = ''
      again = with_changes({**SYSTEM, 'system': '', **fields})
      self.assertEqual(
        (again.devices, again.topology), (job.devices, job.topology)
      )
      if job.backend == 'tpu':
        self.assertEqual(again.system, name)

  @parameterized.parameters(
    ('v3-32', 32), ('v4-32', 16), ('v5p-512', 256), ('tpu7x-32', 32)
  )
  def test_cores_that_are_devices_are_counted(self, system, devices):
    job = with_changes(SYSTEM, system=system)
    self.assertEqual(commands.environment(job)['PODIUM_DEVICES'], str(devices))

  @parameterized.parameters(
    ('v5p-512', {'hosts': 16}, 'hosts is 16, but system v5p-512 has 64'),
    ('v5p-512', {'topology': '8x8x4'}, 'has 4x8x8'),
    ('v5p-512', {'hardware': 'v5e'}, 'hardware is v5e, .* has v5p'),
    ('v5e-256x2', {'slices': 1}, 'slices is 1, .* has 2'),
    ('h100-64', {'slices': 8}, 'slices is 8, .* has 1'),
    ('h100-64', {'topology': '8x8'}, 'has none'),
    ('v5p-512', {'chips_per_host': 8}, 'a host of v5p-512 has 4'),
    ('h100-64', {'chips_per_host': 16}, 'a host of h100-64 has 8'),
    ('h100-64', {'chips_per_host': 3}, 'a host of h100-64 has 8'),
    ('h100-12', {}, 'h100-8, h100-16'),
    ('cpu', {}, 'Unknown system'),
  )
  def test_what_contradicts_the_system_is_refused(self, system, more, says):
    with self.assertRaisesRegex(ValueError, says):
      with_changes(SYSTEM, system=system, **more)

  @parameterized.parameters(
    ('v5p-512', {'hosts': 64, 'hardware': 'v5p', 'topology': '4x8x8'}),
    ('h100-64', {'chips_per_host': 4, 'hosts': 16}),
    ('v5e-8', {'chips_per_host': 4, 'hosts': 2}),
  )
  def test_what_repeats_the_system_or_is_true_of_it_stays(self, system, more):
    job = with_changes(SYSTEM, system=system, **more)
    for name, value in more.items():
      self.assertEqual(getattr(job, name), value)

  @parameterized.parameters(
    ({'hosts': 3, 'slices': 1}, 'no slice of 12 chips of v5e'),
    ({'hosts': 16, 'slices': 8}, None),
    (
      {'hosts': 4, 'slices': 1, 'topology': '2x8'},
      'are 4x4, system v5e-16',
    ),
    ({'hardware': 'v5p', 'topology': '2x2x4'}, None),
    ({'hardware': 'v5p', 'topology': '4x4'}, 'v5p are 2x2x4'),
    ({'hosts': 2, 'slices': 1, 'chips_per_host': 8}, 'host of v5e-16 has 4'),
    ({'hosts': 16, 'slices': 1, 'chips_per_host': 1}, 'host of v5e-16 has 4'),
  )
  def test_hosts_that_make_no_slice_are_refused(self, changes, says):
    base = {**GOOD, 'topology': '', **changes}
    if says is None:
      with_changes(base)
      return
    with self.assertRaisesRegex(ValueError, says):
      with_changes(base)

  def test_gpus_may_be_fewer_in_a_host(self):
    self.assertEqual(with_changes(GPUS, chips_per_host=4).devices, 8)


if __name__ == '__main__':
  absltest.main()
