"""Runs that are killed and resume, in processes of their own."""

import json
import os
import random
import re
import shutil
import signal
import time
import types
from unittest import mock

from absl.testing import absltest, parameterized
import pytest

from launch import train
from launch.cluster import resuming
from suite import clock, files
from tests.launch import digits_data, processes


class ResumeTestCase(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def arguments(self, name, *more):
    return (
      *processes.QUICK, f'--output={os.path.join(self.folder, name)}',
      f'--data_dir={digits_data.data_dir()}', '--seed=7',
      '--checkpoint_steps=1', *more,
    )  # fmt: skip

  def train(self, name, *more, environment=None):
    return processes.run(
      'launch.train',
      *self.arguments(name, *more),
      environment=environment,
    )

  def killed_at(self, name, step, *more):
    """Starts a run, and kills it as it begins to write after a step."""
    process = processes.start('launch.train', *self.arguments(name, *more))
    self.addCleanup(process.communicate)
    self.addCleanup(process.kill)
    place = os.path.join(self.folder, name, 'checkpoints_0')
    until = time.monotonic() + processes.LONGEST
    while _newest_begun(place) < step:
      self.assertIsNone(process.poll(), 'it ended before it could be killed')
      self.assertLess(time.monotonic(), until)
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(processes.LONGEST)

  def path(self, name, file):
    return os.path.join(self.folder, name, file)

  def refused(self, name, *more):
    """Words with which a run does not resume, in this process."""
    done = processes.here(train, *self.arguments(name, '--resume', *more))
    self.assertEqual(done.returncode, 2, done.stderr)
    return done.stderr

  def record(self, name):
    return files.read_json(self.path(name, 'run_0.json'))

  def log(self, name):
    path = self.path(name, 'result_0.txt')
    with open(path, encoding='utf-8') as file:
      return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]

  def assert_undisturbed(self, name):
    """Asserts that a run has found what one does that nothing disturbs."""
    whole = processes.quick_run().folder
    came = self.record(name)
    expected = files.read_json(files.record_path(whole, 0))
    self.assertEqual(expected['resumed'], [])
    self.assertEqual(came['losses'], expected['losses'])
    self.assertEqual(
      [(e['at'], e['step'], e['quality']) for e in came['evals']],
      [(e['at'], e['step'], e['quality']) for e in expected['evals']],
    )
    self.assertEqual(came['seed'], expected['seed'])

  def killed_often(self, steps):
    for number, step in enumerate(steps):
      resume = ['--resume'] if number else []
      self.killed_at('killed', step, *resume)
    done = self.train('killed', '--resume')
    self.assertEqual(done.returncode, 1, done.stderr)  # the target is far away
    self.assert_undisturbed('killed')
    self.assertLen(self.record('killed')['resumed'], len(steps))
    self.assertRegex(done.stdout, rf'resumed {len(steps)} times?, .* lost')


def _newest_begun(place):
  """The last step after which a checkpoint was begun, whole or not; 0: none."""
  names = os.listdir(place) if os.path.isdir(place) else []
  return max((int(re.match(r'\d+|', n)[0] or 0) for n in names), default=0)


class SameRunTest(parameterized.TestCase):
  _SAVED = types.MappingProxyType({
    'benchmark': 'resnet', 'size': 'tiny', 'division': 'closed',
    'hyperparameters': {'momentum': 0.9, 'layers': [1, 2]}, 'seed': 7,
    'data': 'f00d', 'code': 'c0de',
  })  # fmt: skip

  def test_the_run_that_was_saved_goes_on(self):
    resuming.require_same(self._SAVED, {**self._SAVED})

  @parameterized.parameters(
    ({'benchmark': 'ncf'}, "benchmark was 'resnet', is 'ncf'"),
    ({'size': 'reference'}, "size was 'tiny'"),
    ({'division': 'open'}, "division was 'closed'"),
    ({'seed': 8}, 'seed was 7, is 8'),
    ({'data': 'beef'}, "data was 'f00d'"),
    ({'code': 'beef'}, "code was 'c0de'"),
    (
      {'hyperparameters': {'momentum': 0.9, 'layers': [1, 3]}},
      r'layers was \[1, 2\], is \[1, 3\]',
    ),
  )
  def test_another_run_does_not(self, change, text):
    with self.assertRaisesRegex(ValueError, text):
      resuming.require_same(self._SAVED, {**self._SAVED, **change})

  def test_open_may_go_on_with_other_code(self):
    saved = {**self._SAVED, 'division': 'open'}
    resuming.require_same(saved, {**saved, 'code': 'beef'})


class KilledTest(ResumeTestCase):
  def test_resnet_goes_on_bit_for_bit_after_kill_9(self):
    self.killed_often([random.Random(11).randrange(9, 15)])  # of 2 x 8 steps

  @pytest.mark.slow
  def test_many_kills_in_a_row_leave_no_trace_in_the_losses(self):
    for seed in range(3):
      # Killed at 1 there may be no whole checkpoint, and a run begins anew.
      steps = sorted(random.Random(seed).sample(range(2, 16), 5))
      self.killed_often(steps)
      shutil.rmtree(self.folder)


class ResumeTest(ResumeTestCase):
  def test_sigterm_leaves_a_run_that_goes_on_on_other_devices(self):
    self.cut_off('run')
    process = processes.start(
      'launch.train', *self.arguments('run', '--progress=json', '--resume')
    )
    for line in process.stdout:
      if json.loads(line)['event'] == 'quality':
        break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=processes.LONGEST)
    self.assertEqual(process.returncode, 128 + signal.SIGTERM, errors)
    self.assert_begun_anew('run', errors)
    self.assertRegex(errors, r'saved after step \d+: --resume continues')
    end = self.log('run')[-1]['metadata']
    self.assertEqual(end['status'], 'aborted')
    self.assertEqual(end['reason'], 'interrupted by SIGTERM')

    self.assertIn(
      'momentum was 0.9, is 0.8', self.refused('run', '--hp=momentum=0.8')
    )
    back = clock.wall_time()
    with mock.patch.object(clock, 'wall_time', lambda: lambda: back() - 7200.0):
      self.assertRegex(
        self.refused('run'),
        r'^error: --resume: .* before it: set the clock.*\n$',
      )
    done = self.train(
      'run', '--resume', '--keep_checkpoints', '--spread=none',
      environment={'JAX_NUM_CPU_DEVICES': '2'},
    )  # fmt: skip
    self.assertEqual(done.returncode, 1, done.stderr)
    record = self.record('run')
    self.assertLen(record['losses'], 16)
    (resumed,) = record['resumed']
    self.assertEqual(resumed['devices'], 2)
    self.assertEqual(resumed['saved_by_devices'], 1)
    self.assertTrue(os.path.isdir(self.path('run', 'checkpoints_0')))
    stops = [r for r in self.log('run') if r['key'] == 'run_stop']
    self.assertLen(stops, 1)
    self.assertRegex(self.refused('run'), 'run 0 in .* is finished')

  def cut_off(self, name):
    """Leaves what a run does that ended before its first checkpoint."""
    os.makedirs(self.path(name, ''))
    with open(self.path(name, 'result_0.txt'), 'w', encoding='utf-8') as log:
      log.write(':::MLLOG {"key": "init_start", "metadata": {}}\n:::MLL')

  def assert_begun_anew(self, name, errors):
    self.assertIn('starts again', errors)
    self.assertEqual(
      os.listdir(self.path(name, 'interrupted/run_0_0')), ['result_0.txt']
    )

  @pytest.mark.slow
  def test_with_nothing_to_go_on_from_a_run_begins_anew_and_says_so(self):
    self.cut_off('run')
    done = self.train('run', '--resume')
    self.assertEqual(done.returncode, 1, done.stderr)
    self.assert_begun_anew('run', done.stderr)
    self.assertLen(self.record('run')['losses'], 16)
    self.assertEqual(self.record('run')['resumed'], [])
    self.assertFalse(os.path.exists(self.path('run', 'checkpoints_0')))


if __name__ == '__main__':
  absltest.main()
