"""Tests of several processes that make one run."""

import http.server
import json
import os
import threading
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np
import pytest

from launch import local
from launch.cluster import hosts, locks, ranks
from launch.cluster import place as clusters
from suite.run import run_log
from tests.launch import digits_data, processes

# Batch norm's groups lie within a host. The last eval batch is not full.
_ARGUMENTS = (
  *processes.quick(max_epochs=1),
  *processes.QUICKLY_COMPILED,
  '--preflight=false',
  '--seed=3',
)


class _Ranks(parameterized.TestCase):
  """Starts the ranks of a job here."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.arguments = (
      *_ARGUMENTS,
      f'--output={self.folder}',
      f'--data_dir={digits_data.data_dir()}',
    )

  def ranks(self, places, *arguments, module='launch.train', fault=''):
    """Exit codes and what was printed to stderr, of all ranks."""
    started = [
      processes.start(
        module,
        *self.arguments,
        *arguments,
        environment={**each, 'PODIUM_FAULT': fault},
      )
      for each in places
    ]
    for each in started:
      self.addCleanup(each.wait)
      self.addCleanup(each.kill)
    printed = [each.communicate(timeout=processes.LONGEST) for each in started]
    self.printed = [out for out, _ in printed]
    return [each.returncode for each in started], [said for _, said in printed]

  def record(self, run):
    path = os.path.join(self.folder, f'run_{run}.json')
    with open(path, encoding='utf-8') as file:
      return json.load(file)

  def end(self):
    return run_log.ending(os.path.join(self.folder, 'result_0.txt'))


class TrainTest(_Ranks):
  def trained(self, count, steps):
    """Records of `count` processes and of one with as many devices."""
    codes, said = self.ranks(local.places(count, 1))
    # The target is out of reach, and all agree on that.
    self.assertEqual(codes, [1] * count, said)
    self.assertRegex(self.printed[0], r'rank 1  \S+  1 x cpu')
    self.assertNotIn('rank 1', self.printed[1])
    self.assertEqual(self.end()['status'], 'aborted')
    self.ranks(local.places(1, count), '--run=1')
    records = self.record(0), self.record(1)
    self.assertEqual(
      [(r['system']['processes'], r['system']['devices']) for r in records],
      [(count, count), (1, count)],
    )
    self.assertLen(records[0]['losses'], steps)
    return records

  def test_two_processes_train_as_one_with_two_devices_does(self):
    self.assert_equal(*self.trained(2, steps=8))

  @pytest.mark.slow
  def test_so_do_two_that_are_compiled_as_by_default(self):
    self.arguments = self.by_default()
    self.assert_equal(*self.trained(2, steps=16))

  def assert_equal(self, several, alone):
    # Two terms have one order of summing, so nothing is left to rounding.
    self.assertEqual(several['losses'], alone['losses'])
    qualities = [[e['quality'] for e in r['evals']] for r in (several, alone)]
    self.assertEqual(*qualities)

  @pytest.mark.slow
  def test_four_processes_train_as_one_with_four_devices_does(self):
    self.arguments = self.by_default()
    several, alone = self.trained(4, steps=16)
    # Four terms are summed in another order; that is all that differs.
    losses = [np.array(r['losses'])[:, 1] for r in (several, alone)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    np.testing.assert_allclose(losses[0][:2], losses[1][:2], rtol=1e-5)

  def by_default(self):
    return (
      *processes.QUICK, '--preflight=false', '--seed=3',
      f'--output={self.folder}', f'--data_dir={digits_data.data_dir()}',
    )  # fmt: skip


class FaultTest(_Ranks):
  """Behaviour of JAX when a rank fails, and ours."""

  def fails(self, fault):
    self.arguments = [
      each.replace('max_epochs=1', 'max_epochs=100000')
      for each in self.arguments
    ]
    return self.ranks(
      local.places(2, 1),
      '--watchdog_seconds=6',
      module='tests.launch.cluster.faulty_train',
      fault=fault,
    )

  def test_a_killed_coordinator_ends_all_and_the_log(self):
    codes, said = self.fails('SIGKILL:0:12')
    self.assertEqual(codes, [75, 75], said)
    self.assertRegex(said[1], r'rank 0 \(\S+\): its process was .* SIGKILL')
    self.assertRegex(self.end()['reason'], 'rank 0 .* SIGKILL')

  @pytest.mark.slow
  def test_sigterm_to_one_rank_ends_all_in_order(self):
    codes, said = self.fails('SIGTERM:1:12')
    self.assertEqual(codes, [143, 143], said)
    self.assertEqual(self.end()['reason'], 'interrupted by SIGTERM')

  @pytest.mark.slow
  def test_an_exception_on_one_rank_ends_all_and_is_told(self):
    codes, said = self.fails('raises:1:12')
    self.assertEqual(codes, [75, 1], said)
    for text in said:
      self.assertRegex(text, r'rank 1 \(\S+\): RuntimeError: .* enough')
    self.assertEqual(self.end()['status'], 'aborted')

  @pytest.mark.slow
  def test_sigint_to_one_rank_ends_all_in_order(self):
    codes, said = self.fails('SIGINT:0:12')
    self.assertEqual(codes, [130, 130], said)
    self.assertEqual(self.end()['reason'], 'interrupted by SIGINT')

  @pytest.mark.slow
  def test_a_killed_peer_ends_all(self):
    codes, said = self.fails('SIGKILL:1:12')
    self.assertEqual(codes, [75, 75], said)
    for text in (said[0], self.end()['reason']):
      self.assertRegex(text, r'rank 1 \(\S+\): its process was .* SIGKILL')
    self.assertEqual(self.end()['status'], 'aborted')

  @parameterized.parameters('SIGSTOP:0:12', 'hangs:1:12')
  @pytest.mark.slow
  def test_a_rank_that_hangs_in_reading_is_named_and_its_stack_kept(
    self, fault
  ):
    rank = int(fault.split(':')[1])
    codes, said = self.fails(fault)
    self.assertEqual(codes, [75, 75], said)
    for text in (*said, self.end()['reason']):
      self.assertRegex(text, rf'rank {rank} \(\S+\): no progress .* in input')
    stacks = os.path.join(self.folder, f'stacks_rank{rank}.txt')
    with open(stacks, encoding='utf-8') as file:
      self.assertRegex(file.read(), r'faulty_train.py", line \d+ in _happens')


class RefusalTest(_Ranks):
  def test_a_rank_that_does_not_come_is_named(self):
    codes, said = self.ranks(local.places(2, 1)[:1], '--join_seconds=2')
    self.assertEqual(codes, [75])
    waiting, ended = said[0].splitlines()[:2]
    self.assertStartsWith(
      waiting,
      'waiting for rank 1 of 2 (PODIUM_* variables: PODIUM_PROCESSES=2), at '
      'most 2 s; PODIUM_PROCESSES=1 runs',
    )
    self.assertStartsWith(ended, 'rank 1 of 2 has not come after 2 s. Rank 0')
    self.assertEmpty(os.listdir(self.folder))

  def test_a_run_that_is_being_made_is_refused_by_all_ranks(self):
    with locks.of_run(self.folder, 0):
      codes, said = self.ranks(local.places(2, 1))
    self.assertEqual(codes, [2, 2], said)
    self.assertStartsWith(said[0], 'error: Expected a run that nobody makes')
    self.assertRegex(said[1], r'error: rank 0 \(\S+\): Expected a run that')
    self.assertEmpty(os.listdir(self.folder))

  def test_rank_0_that_does_not_come_is_named(self):
    codes, said = self.ranks(local.places(2, 1)[1:], '--join_seconds=2')
    self.assertEqual(codes, [75])
    self.assertRegex(
      said[0],
      r'^waiting for rank 0 at 127.0.0.1:\d+ .*, at most 2 s; .*\n'
      r'Rank 0 was not to be reached at 127.0.0.1:\d+ after 2 s',
    )

  def test_a_coordinator_without_an_address_is_named(self):
    place = {**local.places(2, 1)[1], 'PODIUM_COORDINATOR': 'no.host.invalid:7'}
    codes, said = self.ranks([place], '--join_seconds=1')
    self.assertEqual(codes, [2])
    self.assertRegex(
      said[0],
      r"error: The coordinator's name 'no.host.invalid' .* is not known",
    )

  def test_too_few_devices_are_refused(self):
    with (
      mock.patch.dict(os.environ, {'PODIUM_DEVICES': '16'}),
      self.assertRaisesRegex(ValueError, '16 .* but JAX has 8: 8 on rank 0'),
    ):
      ranks.initialize()

  def test_half_an_address_is_refused(self):
    with (
      mock.patch.dict(os.environ, {'PODIUM_PROCESSES': '2'}),
      self.assertRaisesRegex(ValueError, 'PODIUM_COORDINATOR, PODIUM_PROC'),
    ):
      ranks.initialize()

  def test_a_platform_that_jax_has_not_is_refused(self):
    done = processes.run(
      'launch.train', '--output=unused', environment={'JAX_PLATFORMS': 'cuda'}
    )
    self.assertEqual(done.returncode, 2)
    self.assertEqual(
      done.stderr, 'error: JAX finds no device (JAX_PLATFORMS: cuda).\n'
    )


class AddressTest(parameterized.TestCase):
  def place(self, host, process, count=2):
    return clusters.Place('test', f'{host}:7', 4, process, hosts=count)

  def test_this_host_may_be_its_own_coordinator(self):
    hosts.check_coordinator(self.place('127.0.0.1', 0), 1)
    hosts.check_coordinator(self.place('localhost', 1, count=1), 1)

  def test_a_loopback_address_is_refused_with_several_hosts(self):
    with self.assertRaisesRegex(ValueError, 'every host itself, .* 2 hosts'):
      hosts.check_coordinator(self.place('127.0.0.1', 1), 1)

  def test_a_host_whose_own_name_is_a_loopback_address_is_that_for_its_ranks(
    self,
  ):
    """As Debian has it: 127.0.1.1 is the name of the host in /etc/hosts."""
    found = [(None, None, None, '', ('127.0.1.1', 0))]
    with mock.patch.object(hosts.socket, 'getaddrinfo', return_value=found):
      beside = f'{hosts.name().partition(".")[0]}.cluster.local'
      hosts.check_coordinator(self.place(beside, 1), 1)
      with self.assertRaisesRegex(ValueError, 'every host itself'):
        hosts.check_coordinator(self.place('other', 1), 1)

  def test_rank_0_must_be_where_the_coordinator_is(self):
    elsewhere = self.place('192.0.2.1', 0)  # an address for documentation
    with self.assertRaisesRegex(ValueError, 'not the coordinator 192.0.2.1'):
      hosts.check_coordinator(elsewhere, 1)
    with mock.patch.dict(os.environ, {'KUBERNETES_SERVICE_HOST': '10.0.0.1'}):
      hosts.check_coordinator(elsewhere, 1)  # a service may stand before it

  def test_grpc_passes_by_a_proxy_for_the_coordinator(self):
    values = {'http_proxy': 'proxy:1', 'no_proxy': 'a,b'}
    with mock.patch.dict(os.environ, values):
      ranks._pass_by_proxies('c')
      self.assertEqual(os.environ[ranks._NO_PROXY], 'a,b,c')

  def test_the_metadata_server_of_a_tpu_vm_is_read(self):
    known = {'agent-worker-number': '1', 'worker-network-endpoints': 'a,b'}

    class Server(http.server.BaseHTTPRequestHandler):
      def do_GET(self):
        name = self.path.rpartition('/')[2]
        asked = self.headers['Metadata-Flavor'] == 'Google' and name in known
        self.send_response(200 if asked else 404)
        self.end_headers()
        self.wfile.write(known.get(name, '').encode())

      def log_message(self, *_):
        pass

    server = http.server.HTTPServer(('127.0.0.1', 0), Server)
    self.addCleanup(server.server_close)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(server.shutdown)
    address = f'127.0.0.1:{server.server_port}'
    with mock.patch.dict(os.environ, {'GCE_METADATA_IP': address}):
      self.assertEqual(hosts._metadata(), known)


if __name__ == '__main__':
  absltest.main()
