"""Tests of several processes that make one run."""

import json
import os
import signal
import socket
from unittest import mock

from absl.testing import absltest

from launch import hosts
from suite import run_log
from tests.launch import digits_data, processes


def _free_port() -> int:
  with socket.socket() as listening:
    listening.bind(('127.0.0.1', 0))
    return listening.getsockname()[1]


class HostsTest(absltest.TestCase):
  def test_two_processes_train_as_one_with_two_devices_does(self):
    folder = self.create_tempdir().full_path
    arguments = (
      *processes.QUICK,
      '--seed=3',
      f'--output={folder}',
      f'--data_dir={digits_data.data_dir()}',
      f'--compile_cache={os.path.join(folder, "cache")}',
    )
    together = {
      'PODIUM_COORDINATOR': f'127.0.0.1:{_free_port()}',
      'PODIUM_PROCESSES': '2',
    }
    ranks = [
      processes.start(
        'launch.train',
        *arguments,
        environment={**together, 'PODIUM_PROCESS_ID': str(rank)},
      )
      for rank in range(2)
    ]
    for rank in ranks:
      self.addCleanup(rank.send_signal, signal.SIGKILL)
    errors = [rank.communicate(timeout=200)[1] for rank in ranks]
    # The target is out of reach, and both agree on that.
    self.assertEqual([rank.returncode for rank in ranks], [1, 1], errors)

    alone = processes.start(
      'launch.train',
      *arguments,
      '--run=1',
      environment={'JAX_NUM_CPU_DEVICES': '2'},
    )
    alone.communicate(timeout=200)
    records = []
    for run in range(2):
      path = os.path.join(folder, f'run_{run}.json')
      with open(path, encoding='utf-8') as file:
        records.append(json.load(file))
    self.assertEqual(
      [(r['system']['processes'], r['system']['devices']) for r in records],
      [(2, 2), (1, 2)],
    )
    self.assertLen(records[0]['losses'], 16)
    # Two terms have one order of summing, so nothing is left to rounding.
    self.assertEqual(records[0]['losses'], records[1]['losses'])
    log = os.path.join(folder, 'result_0.txt')
    self.assertEqual(run_log.ending(log)['status'], 'aborted')

  def test_half_an_address_is_refused(self):
    with (
      mock.patch.dict(os.environ, {'PODIUM_PROCESSES': '2'}),
      self.assertRaisesRegex(ValueError, 'PODIUM_COORDINATOR, PODIUM_PROC'),
    ):
      hosts.initialize()

  def test_a_rank_that_is_no_number_is_refused(self):
    values = {
      'PODIUM_COORDINATOR': 'localhost:1',
      'PODIUM_PROCESSES': '2',
      'PODIUM_PROCESS_ID': 'first',
    }
    with (
      mock.patch.dict(os.environ, values),
      self.assertRaisesRegex(ValueError, "'2' and 'first'"),
    ):
      hosts.initialize()

  def test_a_platform_that_jax_has_not_is_refused(self):
    done = processes.run(
      'launch.train', '--output=unused', environment={'JAX_PLATFORMS': 'cuda'}
    )
    self.assertEqual(done.returncode, 2)
    self.assertEqual(
      done.stderr, 'error: JAX finds no device (JAX_PLATFORMS: cuda).\n'
    )


if __name__ == '__main__':
  absltest.main()
