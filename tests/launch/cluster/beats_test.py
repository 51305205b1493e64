"""Tests of the file that a worker shares with its supervisor."""

import os
import signal
import subprocess
import sys

from absl.testing import absltest

from launch.cluster import beats


class BeatsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    path = os.path.join(self.create_tempdir().full_path, 'beats')
    self.supervisor = beats.Beats(path, create=True)
    self.worker = beats.Beats(path)

  def test_a_new_file_says_that_the_worker_starts(self):
    self.assertEqual(self.supervisor.read(), beats.Beat(1, False, 'starting'))
    self.assertIsNone(self.supervisor.ended())
    self.assertEqual(self.worker.signal, 0)

  def test_every_stage_and_place_is_seen(self):
    seen = set()
    for text in ('compiling', 'compiling', 'warming up'):
      self.worker.stage(text)
      seen.add(self.supervisor.read())
    for place, tick in (('input', 0), ('compute', 0), ('input', 1)):
      self.worker.at(place, tick)
      seen.add(self.supervisor.read())
      self.assertEqual(self.supervisor.read(), beats.Beat(tick, True, place))
    self.assertLen(seen, 6)

  def test_a_signal_reaches_the_worker(self):
    self.supervisor.signal = signal.SIGINT
    self.assertEqual(self.worker.signal, 2)

  def test_only_the_first_end_counts_and_long_words_are_cut(self):
    self.worker.end(beats.FAILED, 1, 'ä' * 5000)
    self.worker.end(beats.FINISHED, 0)
    end = self.supervisor.ended()
    self.assertEqual((end.kind, end.code), (beats.FAILED, 1))
    self.assertStartsWith(end.text, 'ää')
    self.assertLess(len(end.text), 5000)

  def test_a_stopped_process_is_told_from_one_that_runs(self):
    sleeper = subprocess.Popen(
      [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE
    )
    self.addCleanup(sleeper.communicate)
    self.addCleanup(sleeper.kill)
    self.assertFalse(beats.stopped(sleeper.pid))
    sleeper.send_signal(signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    self.assertTrue(beats.stopped(sleeper.pid))
    self.assertFalse(beats.stopped(2**22 + 1))


if __name__ == '__main__':
  absltest.main()
