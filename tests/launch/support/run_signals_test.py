"""Tests of signals to a run that does not come back to Python."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

from absl.testing import absltest

from launch.support import run_signals
from suite.run import run_log
from tests.launch import digits_data, processes

# In place of a compilation.
_HOUR = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
_TRAIN = f"""
import hashlib
from launch import train
from launch.support import cli
from suite.run import program

def build(*_):
  print('busy', flush=True)
  {_HOUR}

program.Program.build = build
cli.run(train.main, define=train.define_flags, measures=True)
"""


class ListenTest(absltest.TestCase):
  """The thread that hears of signals, with what it hears."""

  def setUp(self):
    super().setUp()
    self.signals = run_signals.Signals()
    self.signals.cut_off = mock.Mock()
    self.signals.at_stage()
    self.told, heard = socket.socketpair()
    self.addCleanup(heard.close)
    self.addCleanup(self.told.close)
    self.exit = self.enter_context(
      mock.patch.object(os, '_exit', side_effect=SystemExit)
    )
    self.thread = threading.Thread(target=self.listen, args=(heard,))
    self.thread.start()

  def listen(self, heard):
    with contextlib.suppress(SystemExit):
      self.signals.listen(heard)

  def end(self):
    self.told.close()
    self.thread.join(60)
    self.assertFalse(self.thread.is_alive())

  def hears(self, *numbers):
    self.told.send(bytes(numbers))

  def test_one_in_startup_cuts_a_run_off_and_ends_the_process(self):
    self.hears(signal.SIGCHLD, signal.SIGTERM)
    self.thread.join(60)
    self.exit.assert_called_once_with(128 + signal.SIGTERM)
    ((end,), _) = self.signals.cut_off.call_args
    self.assertEqual(str(end), 'interrupted by SIGTERM')

  def test_a_second_ends_the_process_at_once(self):
    self.hears(signal.SIGINT, signal.SIGTERM)
    self.thread.join(60)
    self.exit.assert_called_once_with(128 + signal.SIGTERM)
    self.signals.cut_off.assert_not_called()

  def test_after_startup_only_a_second_does(self):
    self.assertIsNone(self.signals.at_tick(0))
    self.hears(signal.SIGINT)
    self.thread.join(2 * run_signals._PATIENCE)
    self.assertTrue(self.thread.is_alive())
    self.hears(signal.SIGINT)
    self.thread.join(60)
    self.exit.assert_called_once_with(128 + signal.SIGINT)
    self.signals.cut_off.assert_not_called()

  def test_a_run_that_ends_by_itself_in_time_is_left_alone(self):
    self.hears(signal.SIGINT)
    with mock.patch.object(signal, 'signal'):
      self.signals.ignore()
    self.end()
    self.exit.assert_not_called()
    self.signals.cut_off.assert_not_called()


class CutOffTest(absltest.TestCase):
  def test_the_log_of_a_run_that_is_cut_off_says_why_and_is_moved_away(self):
    folder = self.create_tempdir().full_path
    process = subprocess.Popen(
      [
        sys.executable, '-u', '-c', _TRAIN, *processes.QUICK,
        f'--output={folder}', f'--data_dir={digits_data.data_dir()}',
      ],
      cwd=processes.ROOT,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )  # fmt: skip
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    while (line := process.stdout.readline()) != 'busy\n':
      self.assertNotEqual(line, '', process.poll())
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=processes.LONGEST)
    self.assertEqual(process.returncode, 128 + signal.SIGINT, errors)
    self.assertLess(time.monotonic() - began, 30)
    self.assertIn('interrupted by SIGINT; the log says so', errors)
    self.assertNotIn('Traceback', errors)
    self.assertFalse(os.path.exists(os.path.join(folder, 'result_0.txt')))
    log = os.path.join(folder, 'interrupted', 'run_0_0', 'result_0.txt')
    self.assertEqual(run_log.ending(log)['reason'], 'interrupted by SIGINT')


if __name__ == '__main__':
  absltest.main()
