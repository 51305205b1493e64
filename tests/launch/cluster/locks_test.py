"""Tests of who may make a run, or a set of them, in an output."""

import contextlib
import errno
import fcntl
import io
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from launch.cluster import locks
from tests.launch import processes


class LocksTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.output = os.path.join(self.create_tempdir().full_path, '{set')
    self.me = rf'process {os.getpid()} on \S+ '

  def left(self):
    return sorted(os.listdir(self.output))

  def test_one_process_makes_a_run_and_others_make_other_runs(self):
    with locks.of_run(self.output, 0), locks.of_run(self.output, 1):
      self.assertEqual(self.left(), ['run_0.lock', 'run_1.lock'])
      with (
        self.assertRaisesRegex(
          ValueError, f'got run 1 in .*{{set: {self.me}is at'
        ),
        locks.of_run(self.output, 1),
      ):
        pass
      self.assertEqual(self.left(), ['run_0.lock', 'run_1.lock'])

  def test_no_lock_and_no_empty_folder_is_left(self):
    with locks.of_run(self.output, 0):
      pass
    self.assertFalse(os.path.exists(self.output))
    with locks.of_run(self.output, 0):
      open(os.path.join(self.output, 'result_0.txt'), 'x').close()
    with self.assertRaises(KeyError), locks.of_run(self.output, 0):
      raise KeyError
    self.assertEqual(self.left(), ['result_0.txt'])

  def test_a_lock_of_a_process_that_was_killed_is_taken_over(self):
    program = f"""
import os, signal
from launch.cluster import locks
with locks.of_run({self.output!r}, 0):
  os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, '-c', program], cwd=processes.ROOT)
    self.assertEqual(self.left(), ['run_0.lock'])
    lock = os.path.join(self.output, 'run_0.lock')
    with locks.of_run(self.output, 0), open(lock, encoding='utf-8') as file:
      self.assertEqual(file.read(), locks.holder())
    self.assertEqual(self.left(), [])

  def test_no_run_is_made_beside_a_set_but_those_that_it_starts(self):
    os.mkdir(self.output)
    lock = locks.of_set(self.output)
    with (
      self.assertRaisesRegex(ValueError, f'no set .*: {self.me}makes one'),
      locks.of_run(self.output, 3),
    ):
      pass
    self.assertEqual(self.left(), ['lock'])
    with (
      mock.patch.dict(os.environ, {locks.HOLDER: locks.holder()}),
      locks.of_run(self.output, 3),
    ):
      self.assertNotIn(locks.HOLDER, os.environ)
    os.close(lock)
    with locks.of_run(self.output, 3):  # the set is not made any more
      pass

  def test_no_set_is_made_where_a_run_is(self):
    with (
      locks.of_run(self.output, 3),
      self.assertRaisesRegex(
        ValueError, f'nothing runs.*: {self.me}is at work'
      ),
    ):
      locks.of_set(self.output)
    with locks.of_run(self.output, 3):  # the set was not locked either
      pass

  def test_a_lock_that_its_holder_removes_meanwhile_is_none(self):
    path = os.path.join(self.output, 'run_0.lock')

    def flock(handle, operation):
      real(handle, operation)
      if os.fstat(handle).st_ino == first:
        os.remove(path)  # its holder was quicker

    real = fcntl.flock
    os.mkdir(self.output)
    with open(path, 'x') as file:
      first = os.fstat(file.fileno()).st_ino
      with (
        mock.patch.object(fcntl, 'flock', flock),
        locks.of_run(self.output, 0),
      ):
        self.assertNotEqual(os.stat(path).st_ino, first)

  def test_a_disk_without_locks_is_told_of_and_used(self):
    error = OSError(errno.ENOLCK, 'No locks available')
    with (
      mock.patch.object(fcntl, 'flock', side_effect=error),
      contextlib.redirect_stderr(io.StringIO()) as said,
      locks.of_run(self.output, 0),
    ):
      self.assertIn('run_0.lock cannot be locked (No locks', said.getvalue())


if __name__ == '__main__':
  absltest.main()
