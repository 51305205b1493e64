"""Tests of several processes on this machine."""

import errno
import signal
import subprocess
from unittest import mock

from absl.testing import absltest, parameterized

from launch import local
from launch.cluster import place
from tests.launch import processes


class LocalTest(parameterized.TestCase):
  def test_each_process_gets_a_place_of_its_own(self):
    places = [place.find(each, gpus=8) for each in local.places(4, 2)]
    self.assertEqual([each.process for each in places], [0, 1, 2, 3])
    self.assertEqual(
      [each.local_devices for each in places], [(0, 1), (2, 3), (4, 5), (6, 7)]
    )
    self.assertLen({each.coordinator for each in places}, 1)

  def test_one_process_is_alone(self):
    (environment,) = local.places(1, 2)
    self.assertIsNone(place.find(environment))
    self.assertEqual(environment['JAX_NUM_CPU_DEVICES'], '2')

  @parameterized.parameters(
    ([0, 0], 0), ([75, 1], 1), ([75, 75], 75), ([0, 75], 75), ([-9, 75], 137)
  )
  def test_the_cause_and_not_its_echo_is_the_exit_code(self, codes, code):
    self.assertEqual(local._first(codes), code)

  def test_what_ranks_print_is_shown_with_their_numbers(self):
    done = processes.run(
      'launch.local', '--processes=2', '--', 'json.tool', '--help'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    for rank in (0, 1):
      self.assertIn(f'[{rank}] usage:', done.stdout)

  def test_none_is_left_where_one_cannot_start(self):
    started = []

    def start(*arguments, **more):
      if len(started) == 2:
        raise BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable')
      started.append(popen(*arguments, **more))
      return started[-1]

    popen = subprocess.Popen
    with (
      mock.patch.object(subprocess, 'Popen', start),
      self.assertRaisesRegex(OSError, 'Rank 2 cannot start: .*unavailable'),
    ):
      # It waits for a request that does not come.
      local.run(
        'http.server', ('0', '--bind=127.0.0.1'), processes=3, devices=1
      )
    self.assertEqual([each.poll() for each in started], [-signal.SIGTERM] * 2)

  def test_an_entrypoint_is_needed(self):
    done = processes.run('launch.local', '--processes=2')
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, 'error: Expected an entrypoint after --')

  def test_a_rank_that_fails_gives_the_exit_code(self):
    done = processes.run('launch.local', '--', 'json.tool', 'no such file')
    self.assertNotEqual(done.returncode, 0)
    self.assertIn('[1]', done.stdout)


if __name__ == '__main__':
  absltest.main()
