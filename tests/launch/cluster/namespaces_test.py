"""Tests across two network namespaces: the same losses, and a cut cable.

Needs Linux, root and iproute2; says so and is skipped without them.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from absl.testing import absltest
import pytest

from launch import local
from tests.launch import digits_data, processes

_HOSTS = ('podium-a', 'podium-b')
_ADDRESSES = ('10.213.7.1', '10.213.7.2')


def _sh(command: str, check: bool = True) -> None:
  subprocess.run(command, shell=True, check=check, capture_output=True)


def _cable() -> None:
  """Two namespaces with a cable between, who know each other by name."""
  first, second = _HOSTS
  for host in _HOSTS:
    _sh(f'ip netns add {host} && ip -n {host} link set lo up')
    os.makedirs(f'/etc/netns/{host}', exist_ok=True)
    with open(f'/etc/netns/{host}/hosts', 'w', encoding='utf-8') as file:
      file.write('127.0.0.1 localhost\n')
      for name, address in zip(_HOSTS, _ADDRESSES, strict=True):
        file.write(f'{address} {name}\n')
  _sh(f'ip -n {first} link add eth0 type veth peer name eth0 netns {second}')
  for host, address in zip(_HOSTS, _ADDRESSES, strict=True):
    _sh(f'ip -n {host} addr add {address}/24 dev eth0')
    _sh(f'ip -n {host} link set eth0 up')


def _take_away() -> None:
  for host in _HOSTS:
    _sh(f'ip netns delete {host}', check=False)
    shutil.rmtree(f'/etc/netns/{host}', ignore_errors=True)


def _for(words, epochs):
  return [w.replace('max_epochs=2', f'max_epochs={epochs}') for w in words]


@pytest.mark.cluster
class NamespacesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.addCleanup(_take_away)
    try:
      _cable()
    except (OSError, subprocess.CalledProcessError) as error:
      self.skipTest(f'No network namespaces here: {error}')
    self.folder = tempfile.mkdtemp()
    self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

  def start(self, *arguments, epochs=2):
    port = local.free_ports()
    started = []
    for rank, host in enumerate(_HOSTS):
      train = [
        sys.executable, '-m', 'launch.train', *processes.QUICK,
        '--preflight=false', '--seed=3',
        f'--data_dir={digits_data.data_dir()}',
        f'--output={self.folder}/{host}',
        f'--compile_cache={self.folder}/cache', *arguments,
      ]  # fmt: skip
      enter = ['ip', 'netns', 'exec', host, 'unshare', '--uts', 'sh', '-c']
      environment = {
        'JAX_NUM_CPU_DEVICES': '1',
        'PODIUM_COORDINATOR': f'{_HOSTS[0]}:{port}',
        'PODIUM_PROCESSES': '2',
        'PODIUM_PROCESS_ID': str(rank),
      }
      child = subprocess.Popen(
        [*enter, f'hostname {host}; exec "$@"', 'sh', *_for(train, epochs)],
        cwd=processes.ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      self.addCleanup(child.wait)
      self.addCleanup(child.kill)
      started.append(child)
    return started

  def test_two_hosts_train_as_one_with_two_devices_does(self):
    ranks = self.start()
    said = [rank.communicate(timeout=300) for rank in ranks]
    self.assertEqual([rank.returncode for rank in ranks], [1, 1], said)
    self.assertRegex(said[0][0], 'rank 0  podium-a .*\nrank 1  podium-b ')
    losses = []
    processes.run(
      'launch.train', *processes.QUICK, '--seed=3',
      '--preflight=false', f'--data_dir={digits_data.data_dir()}',
      f'--output={self.folder}/alone', f'--compile_cache={self.folder}/cache',
      environment={'JAX_NUM_CPU_DEVICES': '2'},
    )  # fmt: skip
    for name in (_HOSTS[0], 'alone'):
      with open(os.path.join(self.folder, name, 'run_0.json')) as file:
        losses.append(json.load(file)['losses'])
    self.assertEqual(*losses)

  def test_a_cut_cable_ends_both_sides_within_the_bound(self):
    ranks = self.start('--watchdog_seconds=6', epochs=100000)
    for line in ranks[0].stdout:
      if 'epoch 1' in line:
        break
    _sh(f'ip -n {_HOSTS[1]} link set eth0 down')
    cut = time.monotonic()
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    self.assertEqual([rank.returncode for rank in ranks], [75, 75], said)
    self.assertLess(time.monotonic() - cut, 60)
    self.assertRegex(said[0], r'rank 1 \(podium-b\): (nothing heard|no progre)')
    self.assertRegex(said[1], r'rank 0: nothing heard of it for \d+ s')


if __name__ == '__main__':
  absltest.main()
