"""Tests of signals to what starts others, and in a command's first moments."""

import signal
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from launch.support import signals
from tests.launch import processes


class ChildrenTest(absltest.TestCase):
  def child(self):
    return mock.create_autospec(subprocess.Popen, instance=True)

  def test_a_signal_reaches_each_once_those_too_that_are_being_started(self):
    children = signals.Children()
    early, late = self.child(), self.child()
    children.add(early)
    children.handle(signal.SIGTERM, None)
    children.add(late)
    for each in (early, late):
      each.send_signal.assert_called_once_with(signal.SIGTERM)
    self.assertEqual(children.signal, signal.SIGTERM)

  def test_the_second_kills_where_that_is_asked(self):
    for kills in (False, True):
      children = signals.Children(second_kills=kills)
      child = self.child()
      children.add(child)
      children.handle(signal.SIGINT, None)
      child.kill.assert_not_called()
      children.handle(signal.SIGINT, None)
      self.assertEqual(child.kill.called, kills)


class InterruptedTest(parameterized.TestCase):
  """Ctrl-C in the first moments of a command."""

  @parameterized.parameters('train', 'benchmark')
  def test_it_ends_a_measurement_without_a_word(self, name):
    process = processes.start(f'launch.{name}', '--output=unused')
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    # Python has set its own handler, and the package has taken it away.
    for caught in (True, False):
      while processes.catches(process.pid, signal.SIGINT) is not caught:
        self.assertIsNone(process.poll())
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=processes.LONGEST)
    self.assertEqual((process.returncode, said), (-signal.SIGINT, ('', '')))

  @parameterized.named_parameters(
    ('while_it_waits', 'wait()'),
    (
      'in_a_callback_that_lets_no_exception_out',
      'gc.callbacks.append(lambda *_: wait()); gc.collect(); wait()',
    ),
  )
  def test_a_command_that_cleans_up_does_so_and_ends_without_a_word(self, code):
    program = f"""
import gc
import threading
from launch.support import cli
gc.disable()
def wait():
  gc.callbacks.clear()
  print('waits', flush=True)
  threading.Event().wait(60)
def main():
  try:
    {code}
  finally:
    print('cleaned up')
cli.run(main)
"""
    process = subprocess.Popen(
      [sys.executable, '-c', program],
      cwd=processes.ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.assertEqual(process.stdout.readline(), 'waits\n')
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=processes.LONGEST)
    self.assertTrue(said.endswith('cleaned up\n'), said)
    self.assertEqual(errors, '')
    self.assertEqual(process.returncode, -signal.SIGINT)


if __name__ == '__main__':
  absltest.main()
