"""Tests of runs that are resumed, or set aside: what becomes of their files."""

import os

from absl.testing import absltest
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


if __name__ == '__main__':
  absltest.main()
