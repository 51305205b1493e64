"""Tests of signals to a run that does not come back to Python.

In place of a compilation stands a call that takes an hour.
"""

import os
import signal
import subprocess
import sys
import time

from absl.testing import absltest

from suite.run import run_log
from tests.launch import digits_data, processes

_HOUR = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
_PROGRAM = """
import hashlib
import time
import weakref
from launch.support import run_signals

class Thing:
  pass

def swallow(_):
  print('busy', flush=True)
  time.sleep(3600)

with run_signals.ended_by_signals() as ending:
  ending.cut_off = lambda end: print('cut off:', end, flush=True)
  ending.at_stage()
"""
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


class SignalsTest(absltest.TestCase):
  def started(self, program, *arguments):
    """A process of the program, once it is busy."""
    process = subprocess.Popen(
      [sys.executable, '-u', '-c', program, *arguments],
      cwd=processes.ROOT,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    while (line := process.stdout.readline()) != 'busy\n':
      self.assertNotEqual(line, '', process.poll())
    return process

  def ended(self, process):
    out, errors = process.communicate(timeout=processes.LONGEST)
    self.assertEqual(process.returncode, 128 + signal.SIGINT, errors)
    return out, errors

  def test_one_that_a_callback_swallows_ends_a_run_in_startup(self):
    process = self.started(
      f'{_PROGRAM}  reference = weakref.ref(Thing(), swallow)\n  {_HOUR}'
    )
    process.send_signal(signal.SIGINT)
    said = self.ended(process)
    self.assertEqual(said, ('cut off: interrupted by SIGINT\n', ''))

  def test_after_startup_the_second_does_at_once(self):
    process = self.started(
      f"{_PROGRAM}  ending.at_tick(0)\n  print('busy')\n  {_HOUR}"
    )
    process.send_signal(signal.SIGINT)
    with self.assertRaises(subprocess.TimeoutExpired):
      process.wait(2)
    process.send_signal(signal.SIGINT)
    self.assertEqual(self.ended(process), ('', ''))

  def test_the_log_of_a_run_that_is_cut_off_says_why_and_is_moved_away(self):
    folder = self.create_tempdir().full_path
    process = self.started(
      _TRAIN,
      *processes.QUICK,
      f'--output={folder}',
      f'--data_dir={digits_data.data_dir()}',
    )
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = self.ended(process)
    self.assertLess(time.monotonic() - began, 30)
    self.assertIn('interrupted by SIGINT; the log says so', errors)
    self.assertNotIn('Traceback', errors)
    self.assertFalse(os.path.exists(os.path.join(folder, 'result_0.txt')))
    log = os.path.join(folder, 'interrupted', 'run_0_0', 'result_0.txt')
    self.assertEqual(run_log.ending(log)['reason'], 'interrupted by SIGINT')


if __name__ == '__main__':
  absltest.main()
