"""A run that was cut off resumes as if nothing had been, but for the time."""

import errno
import json
import os
from unittest import mock

from absl.testing import absltest, parameterized
import orbax.checkpoint as ocp
import pytest

from suite.clock import Clock
from suite.run import checkpoint, loop, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.run_log import RunLog, resumes
from suite.run.task import Facts
from suite.target import Target
from tests.suite.run import fake_task

TARGET = Target(at_least={'accuracy': 0.9})
QUALITIES = (0.5, 0.6, 0.95)  # after 3, 6 and 9 steps; an eval has 2 batches

_WHOLE = []  # the result of the run that nothing disturbs


class _Ends(loop.Watcher):
  """Ends the run at a tick, as a signal that all hosts know of."""

  def __init__(self, tick=-1):
    self.tick = tick
    self.places = []
    self.told = []

  def at(self, place, tick):
    self.places.append((place, tick))

  def interrupted(self, tick):
    return loop.Interrupted('SIGTERM', 15) if tick == self.tick else None

  def resumed(self, step, lost, notes):
    self.told.append((step, list(notes)))


class _Killed(BaseException):
  """Nothing handles it, as nothing handles kill -9."""


# Orbax leaves what it was doing to the garbage collector when a file is broken.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
class LoopResumeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.path = os.path.join(self.folder, 'log.txt')
    self.saved = os.path.join(self.folder, 'saved')
    self.mesh = sharding.make_mesh()
    self.now = fake_task.FakeClock()

  def run_loop(self, *, resume=False, watcher=None, **cadence):
    """One process of a run; it may resume the one before."""
    if resume:
      self.clock = Clock(self.now)
      log = RunLog(self.path, self.clock, suspended=True)
    else:
      self.clock, log = fake_task.ready(self.path, now=self.now)
    # The fake task gives its qualities in order, whatever was learned.
    checkpoints = Checkpoints(self.saved, **{'minutes': 0, **cadence})
    position = checkpoints.newest() if resume else None
    task = fake_task.FakeTask(QUALITIES)
    task._qualities = iter(QUALITIES[position.block if position else 0 :])
    self.task = task
    try:
      return loop.run(
        task,
        Facts(),
        TARGET,
        fake_task.data_for(self.clock, self.mesh, 5),
        mesh=self.mesh,
        seed=5,
        log=log,
        clock=self.clock,
        watcher=watcher,
        checkpoints=checkpoints if cadence or resume else None,
      )
    finally:
      checkpoints.close()
      log.close()

  def records(self):
    with open(self.path, encoding='utf-8') as file:
      return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]

  def keys(self):
    return [record['key'] for record in self.records()]

  def undisturbed(self):
    if not _WHOLE:
      _WHOLE.append(self.run_loop())
      os.remove(self.path)
    return _WHOLE[0]

  def assert_alike(self, result, whole):
    self.assertEqual(result.losses, whole.losses)
    self.assertEqual(
      [(e.at, e.step, e.quality) for e in result.evals],
      [(e.at, e.step, e.quality) for e in whole.evals],
    )
    self.assertEqual(result.status, 'success')

  def test_a_run_that_saves_is_the_same_run(self):
    whole = self.undisturbed()
    saving = self.run_loop(steps=2, keep=True)
    self.assert_alike(saving, whole)
    self.assertIn('checkpoint', saving.timed_parts)
    self.assertCountEqual(os.listdir(self.saved), ['6', '8'])

  # Ticks 0-2 are steps, 3-4 an eval, 5-7 steps, 8-9 an eval, 10-12 steps.
  @parameterized.parameters(0, 3, 6, 8)
  def test_a_signal_leaves_a_checkpoint_to_go_on_from(self, tick):
    whole = self.undisturbed()
    with self.assertRaises(loop.Interrupted) as caught:
      self.run_loop(watcher=_Ends(tick), minutes=10)
    steps = {0: 1, 3: 3, 6: 5, 8: 6}[tick]
    self.assertEqual(caught.exception.saved, steps)
    self.assertEqual(self.records()[-1]['metadata']['status'], 'aborted')
    watcher = _Ends()
    result = self.run_loop(resume=True, watcher=watcher, minutes=10)
    self.assert_alike(result, whole)
    self.assertEqual(watcher.told, [(steps, [])])
    self.assertEqual(self.task.trained_rows[0], steps)
    self.assertFalse(os.path.exists(self.saved))
    self.assertEqual(self.keys().count('run_stop'), 1)
    self.assertEqual(self.keys()[-1], 'run_stop')
    self.assertEqual(self.keys().count('run_start'), 1)
    self.assertIn('podium_interrupted', self.keys())

  def test_the_time_lost_counts_and_is_said(self):
    with self.assertRaises(loop.Interrupted):
      self.run_loop(watcher=_Ends(6), minutes=10)
    started = self.records()[1]['time_ms'] / 1000
    self.now.time += 5000.0
    result = self.run_loop(resume=True, minutes=10)
    self.assertGreater(result.timed, 5000)
    self.assertAlmostEqual(sum(result.timed_parts.values()), result.timed)
    self.assertBetween(result.timed_parts['restart'], 5000, 5010)
    self.assertLess(result.startup, 10)  # that of the first process
    (resumed,) = resumes(self.path)
    self.assertAlmostEqual(
      resumed['lost_seconds'], result.timed_parts['restart'], places=3
    )
    self.assertEqual((resumed['step'], resumed['processes']), (5, 1))
    self.assertEqual(resumed['first_epoch_num'], 2)
    at = {record['key']: record['time_ms'] for record in self.records()}
    timed = (at['run_stop'] - at['run_start']) / 1000
    self.assertAlmostEqual(timed, result.timed, delta=0.0011)
    self.assertLess(abs(at['run_start'] / 1000 - started), 10)

  def test_a_process_that_dies_loses_what_came_after_its_checkpoint(self):
    whole = self.undisturbed()

    class Dies(loop.Watcher):
      def step(self, step, loss):
        if step == 8:
          raise _Killed

    with self.assertRaises(_Killed):
      self.run_loop(watcher=Dies(), steps=5)
    result = self.run_loop(resume=True, steps=5)
    self.assert_alike(result, whole)
    self.assertEqual(self.task.trained_rows[0], 5)

  def test_a_second_restart_finds_what_the_first_process_saved(self):
    whole = self.undisturbed()
    for tick in (1, 5, 10):
      with self.assertRaises(loop.Interrupted):
        self.run_loop(resume=tick > 1, watcher=_Ends(tick), minutes=10)
    self.assert_alike(self.run_loop(resume=True, minutes=10), whole)
    self.assertLen(resumes(self.path), 3)

  def test_blocks_are_followed_by_one_when_the_minutes_are_over(self):
    watcher = _Ends()
    self.run_loop(watcher=watcher, minutes=1e-9, keep=True)
    saves = [tick for place, tick in watcher.places if place == 'checkpoint']
    self.assertEqual(saves, [5, 10])  # the run is over after the third
    self.assertCountEqual(os.listdir(self.saved), ['3', '6'])

  def test_a_watcher_is_told_of_every_tick_in_order(self):
    watcher = _Ends()
    self.run_loop(watcher=watcher)
    self.assertEqual([t for _, t in watcher.places], sorted(
      t for _, t in watcher.places
    ))  # fmt: skip
    self.assertEqual(
      [t for place, t in watcher.places if place == 'compute'],
      [0, 1, 2, 5, 6, 7, 10, 11, 12],
    )
    self.assertEqual({p for p, _ in watcher.places}, {
      'input', 'compute', 'eval',
    })  # fmt: skip

  def unwritable(self, times):
    """Lets the disk be full when a checkpoint is begun, so many times."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save, left = ocp.CheckpointManager.save, iter([full] * times)

    def fails(*args, **kwargs):
      if error := next(left, None):
        raise error
      return save(*args, **kwargs)

    return mock.patch.object(ocp.CheckpointManager, 'save', fails)

  def test_a_checkpoint_that_cannot_be_written_ends_a_strict_run(self):
    with (
      self.unwritable(1),
      self.assertRaisesRegex(checkpoint.Failed, f'{self.saved}, got No space'),
    ):
      self.run_loop(steps=2, strict=True)
    last = self.records()[-1]
    self.assertEqual(last['metadata']['status'], 'aborted')
    self.assertIn('Failed: Expected to write', last['metadata']['reason'])

  @parameterized.parameters((1, ['6', '8']), (3, ['8']), (99, []))
  def test_others_go_on_as_if_none_had_been_due_and_warn(self, times, kept):
    whole = self.undisturbed()
    warned = []
    watcher = loop.Watcher()
    watcher.warned = warned.append
    with self.unwritable(times):
      result = self.run_loop(steps=2, keep=True, watcher=watcher)
    self.assert_alike(result, whole)
    self.assertLen(warned, min(times, 4))  # of steps 2, 4, 6, 8
    self.assertRegex(warned[0], 'No space left.*Training goes on')
    self.assertCountEqual(os.listdir(self.saved), kept)

  def test_a_start_that_fails_leaves_the_log_as_it_was(self):
    with self.assertRaises(loop.Interrupted):
      self.run_loop(watcher=_Ends(6), minutes=10)
    with open(self.path, 'rb') as file:
      before = file.read()
    os.remove(os.path.join(self.saved, '5', 'state', 'manifest.ocdbt'))
    with self.assertRaisesRegex(checkpoint.Failed, 'step 5: its state'):
      self.run_loop(resume=True, minutes=10)
    with open(self.path, 'rb') as file:
      self.assertEqual(file.read(), before)

  def test_nothing_compiles_on_the_clock_but_before_it(self):
    with fake_task.recorded_compiles(lambda: self.clock.running) as compiles:
      self.run_loop(steps=2)
    self.assertNotEmpty(compiles)
    self.assertEqual([event for running, event in compiles if running], [])


if __name__ == '__main__':
  absltest.main()
