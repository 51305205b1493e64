"""Tests of runs that are resumed, or set aside: what becomes of their files."""

import contextlib
import io
import os

from absl.testing import absltest, parameterized
import numpy as np

from launch.cluster import attempts, resuming
from suite import files
from suite.clock import Moment
from suite.run import sharding
from suite.run.checkpoint import Checkpoints, Position


class SetAsideTest(absltest.TestCase):
  def test_a_run_killed_in_its_first_checkpoint_begins_anew_and_saves(self):
    output = self.create_tempdir().full_path
    with open(files.log_path(output, 0), 'w', encoding='utf-8') as log:
      log.write('half a')
    checkpoints = Checkpoints(files.checkpoints_path(output, 0), keep=True)
    unfinished = os.path.join(
      checkpoints.directory, '3.orbax-checkpoint-tmp', 'state'
    )
    for folder in (unfinished, checkpoints.beside):
      os.makedirs(folder)
    self.assertIsNone(resuming.find(output, 0, checkpoints))
    # Nothing is left that the new run would be refused for, or that removes
    # the folder from under it.
    self.assertEqual(os.listdir(output), [attempts.SET_ASIDE])
    state = {'w': sharding.put_same(np.ones(4), sharding.make_mesh())}
    checkpoints.prepare(state)
    clock = Moment(1.0, 2.0, 3.0, {}, {})
    checkpoints.save(state, Position(1, 1, 0, 1, [], [0.5], clock, {}, {}))
    checkpoints.remove()
    self.assertEqual(os.listdir(checkpoints.directory), ['1'])


class TimeTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.1, '100 ms before it'), (3600.0, '1 h 0 min 0 s before it')
  )
  def test_a_clock_that_was_set_back_is_refused_in_one_line(self, back, text):
    with self.assertRaisesRegex(ValueError, f'^.*{text}: set the clock.*$'):
      resuming.require_time(1e9, 1e9 - back)

  def warned(self, pause):
    """Lines printed as a run resumes after so many seconds."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      resuming.require_time(1e9, 1e9 + pause)
    return printed.getvalue()

  @parameterized.parameters(0.0, 60.0, resuming.LONG - 1.0)
  def test_a_pause_is_no_fault_of_the_clock(self, pause):
    self.assertEqual(self.warned(pause), '')

  @parameterized.parameters(8, 400)
  def test_a_clock_far_ahead_is_warned_of_in_one_line(self, days):
    self.assertRegex(
      self.warned(86400.0 * days),
      rf'^warning: .* {days} days old.*set the clock.*\n$',
    )


if __name__ == '__main__':
  absltest.main()
