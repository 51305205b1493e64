"""Tests of checkpoints: what comes back is what was saved, or nothing does."""

import errno
import glob
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from suite.clock import Clock, Moment
from suite.run import checkpoint, sharding
from suite.run import saver as saver_lib
from suite.run.checkpoint import Checkpoints, Position, Write
from suite.run.fingerprint import fingerprint
from suite.run.task import State
from tests.suite.run import fake_task

_ROOT = pathlib.Path(__file__).parents[3]


def _position(steps, **changes) -> Position:
  values = {
    'steps': steps,
    'ticks': steps + 4,
    'block': 1,
    'done': 2,
    'evals': [{'at': {'epoch_num': 1}, 'quality': {'accuracy': 0.1}}],
    'losses': [1 / (3 + n) for n in range(steps)],
    'clock': Moment(1.5, 2.5, 10.25, {'build': 0.5}, {'compute': 1 / 3}),
    'feed': {'step': steps},
    'saved_by': {'processes': 1, 'devices': 8},
    'origin': {'seed': 7},
  }
  return Position(**{**values, **changes})


def _specs(mesh, spec) -> State:
  """A state of all kinds of leaves; its matrix is split by `spec`."""
  same = NamedSharding(mesh, P())
  of = {'w': NamedSharding(mesh, spec), 'half': same, 'one': same}
  return State(
    step=same, key=same, params=of, stats={'flag': same}, opt=(same, {})
  )


def _state(shardings, steps=3) -> State:
  state = State(
    step=np.int32(steps),
    key=jax.random.key(steps, impl='rbg'),
    params={
      'w': np.random.default_rng(steps).normal(size=(64, 96)).astype('f4'),
      'half': jnp.arange(5, dtype=jnp.bfloat16),
      'one': np.zeros(1, np.float32),
    },
    stats={'flag': np.array([True, False])},
    opt=(np.zeros((), np.uint8), {}),
  )
  return jax.tree.map(jax.device_put, state, shardings)


def _bits(state):
  return [
    np.asarray(jax.random.key_data(x) if 'key' in str(x.dtype) else x)
    for x in jax.tree.leaves(state)
  ]


def _spec_of(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


class FingerprintTest(parameterized.TestCase):
  def mark(self, array):
    return np.asarray(jax.jit(fingerprint)([array]))[0]

  @parameterized.parameters('f4', 'i4', 'u1', 'i2', 'bool', 'bfloat16')
  def test_any_one_changed_element_changes_it(self, kind):
    values = np.random.default_rng(0).integers(0, 2, (7, 9))
    array = jnp.asarray(values).astype(kind)
    marks = {int(self.mark(array))}
    for row, column in np.ndindex(7, 9):
      other = jnp.asarray(1 - values[row, column]).astype(kind)
      changed = array.at[row, column].set(other)
      marks.add(int(self.mark(changed)))
    self.assertLen(marks, 64)

  def test_any_one_bit_changes_it(self):
    array = np.random.default_rng(1).normal(size=3).astype(np.float32)
    marks = {int(self.mark(array))}
    for bit in range(96):
      bits = array.view(np.uint32).copy()
      bits[bit // 32] ^= np.uint32(1 << bit % 32)
      marks.add(int(self.mark(bits.view(np.float32))))
    self.assertLen(marks, 97)

  def test_elements_that_change_places_change_it(self):
    # Signs alone: what is linear in the bits does not see this swap.
    array = np.array([1, -1, 1, 1], np.float32)
    self.assertNotEqual(self.mark(array), self.mark(array[[1, 0, 2, 3]]))
    self.assertNotEqual(self.mark(array), self.mark(-array[[1, 0, 2, 3]]))

  def test_it_does_not_depend_on_how_a_leaf_is_spread(self):
    mesh = sharding.make_mesh(2)
    array = np.random.default_rng(2).normal(size=(16, 24)).astype(np.float32)
    marks = {
      int(self.mark(jax.device_put(array, NamedSharding(mesh, spec))))
      for spec in (P(), P('data'), P(None, 'data'), P('data', 'model'))
    }
    self.assertLen(marks, 1)

  def test_two_keys_differ(self):
    marks = {int(self.mark(jax.random.key(n, impl='rbg'))) for n in range(5)}
    self.assertLen(marks, 5)


# Orbax leaves what it was doing to the garbage collector when a file is broken.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
class CheckpointsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = os.path.join(self.create_tempdir().full_path, 'saved')
    self.mesh = sharding.make_mesh()
    self.shardings = _specs(self.mesh, P('data'))

  def opened(self, shardings=None, **changes) -> Checkpoints:
    checkpoints = Checkpoints(self.directory, **changes)
    self.addCleanup(checkpoints.close)
    spec = _spec_of(_state(shardings or self.shardings))
    checkpoints.prepare(spec)
    return checkpoints

  def saved(self, *steps):
    """Folder of a process that saved after these steps."""
    checkpoints = self.opened()
    for step in steps:
      checkpoints.save(_state(self.shardings, step), _position(step))
    checkpoints.close()

  def file(self, step, pattern):
    """The largest file of that name in a checkpoint."""
    found = glob.glob(f'{self.directory}/{step}/{pattern}')
    return max(found, key=os.path.getsize)

  def restore(self, **changes):
    return self.opened(**changes).restore(lambda number: number)

  def assert_same(self, restored, step):
    for came, saved in zip(
      _bits(restored.state), _bits(_state(self.shardings, step)), strict=True
    ):
      np.testing.assert_array_equal(came, saved)
    self.assertEqual(restored.position, _position(step))

  def test_what_comes_back_is_what_was_saved_bit_for_bit(self):
    self.saved(3)
    restored = self.restore()
    self.assert_same(restored, 3)
    self.assertEqual(restored.passed_over, [])
    self.assertEqual(jax.random.key_impl(restored.state.key), 'rbg')
    self.assertEqual(restored.state.params['w'].sharding.spec, P('data'))

  def test_the_newest_comes_back_and_the_last_two_are_kept(self):
    self.saved(1, 2, 5)
    self.assertCountEqual(os.listdir(self.directory), ['2', '5'])
    self.assert_same(self.restore(), 5)

  @parameterized.parameters((1, P()), (2, P('data', 'model')), (8, P('model')))
  def test_it_comes_back_spread_in_another_way(self, model, spec):
    self.saved(4)
    for devices in (jax.devices(), jax.devices()[:1]):
      model = min(model, len(devices))
      mesh = sharding.make_mesh(model, devices)
      restored = self.restore(shardings=_specs(mesh, spec))
      self.assert_same(restored, 4)
      self.assertEqual(restored.state.params['w'].sharding.mesh, mesh)

  def test_the_state_may_change_as_soon_as_save_returns(self):
    step = jax.jit(
      lambda state: jax.tree.map(
        lambda x: x if 'key' in str(x.dtype) else x * 0, state
      ),
      donate_argnums=0,
    )
    checkpoints = self.opened()
    state = _state(self.shardings, 6)
    checkpoints.save(state, _position(6))
    jax.block_until_ready(step(state))
    checkpoints.close()
    self.assert_same(self.restore(), 6)

  def test_saving_compiles_nothing_of_arrays_that_every_device_holds(self):
    shardings = _specs(self.mesh, P())
    checkpoints = self.opened(shardings)
    state = _state(shardings, 6)
    of_matrices = jax.jit(lambda matrix: matrix + 1)
    jax.clear_caches()
    with fake_task.recorded_compiles(lambda: 'saving') as compiles:
      checkpoints.save(state, _position(6))
      checkpoints.close()
    self.assertEmpty(compiles)
    with fake_task.recorded_compiles(lambda: 'computing') as compiles:
      of_matrices(state.params['w'])
    self.assertNotEmpty(compiles)

  def test_a_changed_byte_of_the_state_is_noticed_and_named(self):
    self.saved(3, 4)
    path = self.file(4, 'state/ocdbt.process_0/d/*')
    with open(path, 'rb') as file:
      whole = file.read()
    noticed = 0  # of some bytes nothing depends
    for place in random.Random(0).sample(range(len(whole)), 8):
      broken = bytearray(whole)
      broken[place] ^= 0x10
      with open(path, 'wb') as file:
        file.write(broken)
      shutil.copytree(self.directory, f'{self.directory}.all')
      restored = self.restore()
      if restored.passed_over:
        self.assertStartsWith(restored.passed_over[0], 'step 4: its state')
        noticed += 1
      self.assert_same(restored, 3 if restored.passed_over else 4)
      shutil.rmtree(self.directory)
      os.rename(f'{self.directory}.all', self.directory)
    self.assertGreater(noticed, 3)

  def test_a_state_that_reads_well_and_is_another_is_not_restored(self):
    self.saved(3, 4)
    shutil.rmtree(f'{self.directory}/4/state')
    shutil.copytree(
      f'{self.directory}/3/state', f'{self.directory}/4/state'
    )  # of the same shapes, so nothing but the fingerprint can tell
    restored = self.restore()
    self.assert_same(restored, 3)
    self.assertRegex(restored.passed_over[0], 'step 4.*not the one.*saved: 3')

  @parameterized.parameters('"steps": 4', '"done": 2', '"seed": 7')
  def test_a_changed_position_is_not_restored(self, text):
    self.saved(3, 4)
    path = pathlib.Path(self.file(4, 'position/metadata'))
    content = path.read_text()
    self.assertIn(text, content)
    path.write_text(content.replace(text, text[:-1] + '9'))
    restored = self.restore()
    self.assert_same(restored, 3)
    self.assertStartsWith(restored.passed_over[0], 'step 4: its position')

  @parameterized.parameters('state/manifest.ocdbt', 'position/metadata')
  def test_a_missing_or_truncated_file_is_noticed(self, name):
    self.saved(3, 4)
    path = self.file(4, name)
    os.truncate(path, os.path.getsize(path) // 2)
    self.assert_same(self.restore(), 3)
    self.saved(4)
    os.remove(self.file(4, name))
    self.assert_same(self.restore(), 3)

  def test_one_that_was_never_finished_is_not_seen(self):
    self.saved(3)
    partial = f'{self.directory}/4.orbax-checkpoint-tmp'
    shutil.copytree(f'{self.directory}/3', partial)
    checkpoints = self.opened()
    self.assert_same(checkpoints.restore(lambda number: number), 3)
    checkpoints.save(_state(self.shardings, 4), _position(4))
    checkpoints.close()
    self.assertCountEqual(os.listdir(self.directory), ['3', '4'])
    self.assert_same(self.restore(), 4)

  def test_what_is_broken_is_replaced_when_its_step_comes_again(self):
    self.saved(3, 4)
    os.remove(self.file(4, 'state/manifest.ocdbt'))
    checkpoints = self.opened()
    checkpoints.restore(lambda number: number)
    checkpoints.save(_state(self.shardings, 4), _position(4))
    checkpoints.close()
    self.assert_same(self.restore(), 4)

  def test_if_none_can_be_restored_all_are_named(self):
    self.saved(3, 4)
    for step in (3, 4):
      os.remove(self.file(step, 'state/manifest.ocdbt'))
    with self.assertRaisesRegex(checkpoint.Failed, 'step 4: .*step 3: '):
      self.restore()
    self.assertEqual(self.opened().newest(), _position(4))  # that is readable

  def test_one_that_another_process_cannot_read_is_passed_over_here_too(self):
    self.saved(3, 4)
    votes = iter([1, 0])  # of any process, on each of them
    checkpoints = self.opened()
    self.assert_same(checkpoints.restore(lambda number: next(votes)), 3)

  def test_without_any_there_is_nothing_to_restore_and_no_folder(self):
    checkpoints = Checkpoints(self.directory)
    self.assertIsNone(checkpoints.newest())
    self.assertEqual(checkpoints.count(), 0)
    self.assertFalse(os.path.exists(self.directory))
    with self.assertRaisesRegex(checkpoint.Failed, 'got none'):
      checkpoints.restore(lambda number: number)

  def test_they_are_removed_at_the_end_unless_they_are_to_be_kept(self):
    for step, keep in ((3, True), (4, False)):
      checkpoints = self.opened(keep=keep)
      checkpoints.save(_state(self.shardings, step), _position(step))
      checkpoints.remove()
      self.assertEqual(os.path.exists(self.directory), keep)

  @parameterized.parameters(
    ('_checkpointer', 'wait_until_finished'),
    ('_non_blocking_metadata_store', 'wait_until_finished'),
    ('_checkpoint_deleter', 'delete_steps'),
  )
  def test_a_failed_write_is_known_while_orbax_waits_for_other_hosts(
    self, part, method
  ):
    checkpoints = self.opened()
    manager = checkpoints._opened
    others_came = threading.Event()
    self.addCleanup(others_came.set)

    def fails(*_):
      if threading.current_thread() is not threading.main_thread():
        raise OSError(errno.ENOSPC, 'full')

    with (
      mock.patch.object(getattr(manager, part), method, fails),
      mock.patch.object(
        manager._save_progress_tracker._flag,
        'set',
        lambda on: on or others_came.wait(),
      ),
    ):
      checkpoints.save(_state(self.shardings), _position(3))
      self.assertFalse(checkpoints.finish())
      self.assertTrue(checkpoints.failed())
      self.assertRegex(str(checkpoints.error()), 'got OSError: .*full')
      checkpoints.close()  # waits for nobody
      others_came.set()
      with self.assertRaises(OSError):
        manager.wait_until_finished()

  @parameterized.parameters(
    ([Write.DONE], True),
    ([Write.ACTIVE, Write.ACTIVE, Write.DONE], True),
    ([Write.ACTIVE, Write.FAILED], False),
  )
  def test_hosts_wait_for_the_writes_of_others_in_votes(self, others, well):
    checkpoints = self.opened(strict=True)
    votes = iter([*others, 0])  # the last one on whether the disk takes more
    saver = saver_lib.Saver(
      checkpoints, lambda mine: max(mine, next(votes)), Clock()
    )
    if well:
      saver.save(_state(self.shardings), _position(3))
    else:
      with self.assertRaisesRegex(
        checkpoint.FailedElsewhere, 'an error elsewhere'
      ):
        saver.save(_state(self.shardings), _position(3))
      self.assertEqual(next(votes), 0)
    self.assertIsNone(next(votes, None))

  def saver(self, checkpoints, most=lambda mine: mine):
    """A saver, and the warnings that it gives."""
    warnings = []
    return saver_lib.Saver(
      checkpoints, most, Clock(), warnings.append
    ), warnings

  @parameterized.parameters('begins', 'ends', 'elsewhere')
  def test_one_that_cannot_be_written_is_tried_again_later(self, fails):
    checkpoints = self.opened(origin={'seed': 7})
    votes = []  # of another host, which has failed
    saver, warnings = self.saver(
      checkpoints, lambda mine: max(mine, votes.pop() if votes else 0)
    )
    self.assertIsNone(saver.save(_state(self.shardings, 1), _position(1)))
    checkpoints.finish()
    if fails == 'begins':  # a folder that takes no file
      with mock.patch.object(
        checkpoint.tempfile, 'TemporaryFile',
        side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
      ):  # fmt: skip
        saver.save(_state(self.shardings, 2), _position(2))
    elif fails == 'ends':

      def full():
        if threading.current_thread() is not threading.main_thread():
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

      with mock.patch.object(
        checkpoints._opened._checkpointer, 'wait_until_finished', full
      ):
        saver.save(_state(self.shardings, 2), _position(2))
        self.assertFalse(checkpoints.finish())
        verdict = saver.agree(met=False, last=False)
      self.assertEqual(verdict, saver_lib.Verdict.CONTINUE)
    else:
      votes.append(Write.FAILED)
      self.assertIsNone(saver.save(_state(self.shardings, 2), _position(2)))
      checkpoints.finish()
    (warning,) = warnings
    told = 'an error elsewhere' if fails == 'elsewhere' else 'No space left'
    self.assertRegex(warning, f'{told}.*Training goes on')
    self.assertIsNone(saver.save(_state(self.shardings, 3), _position(3)))
    self.assertTrue(checkpoints.finish())
    checkpoints.close()
    self.assert_same(self.restore(), 3)

  def test_a_run_that_is_left_says_that_it_left_nothing(self):
    checkpoints = self.opened()
    saver, _ = self.saver(checkpoints)
    with (
      mock.patch.object(
        checkpoint.tempfile, 'TemporaryFile', side_effect=OSError(28, 'full')
      ),
      self.assertRaisesRegex(checkpoint.Failed, 'full'),
    ):
      saver.leave(_state(self.shardings, 2), _position(2))

  @parameterized.parameters((0, 0), (1, 1))
  def test_room_is_looked_for_before_any_is_written(self, lacking, warned):
    checkpoints = self.opened()
    saver, warnings = self.saver(checkpoints)
    needed = 3 * (64 * 96 * 4 + 10 + 4 + 2 + 1 + 4 + 16)
    with mock.patch.object(checkpoint, '_free', return_value=needed - lacking):
      saver.prepare(_spec_of(_state(self.shardings)))
    self.assertLen(warnings, warned)
    for warning in warnings:
      self.assertRegex(warning, r'Checkpoints of 24\.6 kB.*where 73\.8 kB are')

  def test_they_are_due_by_minutes_and_by_steps(self):
    checkpoints = Checkpoints(self.directory, minutes=10, steps=4)
    checkpoints.started(1000.0)
    self.assertFalse(checkpoints.due(1599.0))
    self.assertTrue(checkpoints.due(1600.0))
    self.assertEqual([checkpoints.due_at(n) for n in (3, 4, 8)], [0, 1, 1])
    never = Checkpoints(self.directory, minutes=0)
    self.assertFalse(never.due(1e12) or never.due_at(4) or never.saves)

  def test_a_position_survives_json_to_the_last_bit(self):
    losses = [0.1, 1e-300, float(np.float32(1) / 3)] * 1000
    position = _position(3, losses=losses)
    text = json.dumps(position.as_json())
    self.assertEqual(Position.of_json(json.loads(text)), position)


# Saves into a folder that can hold the first checkpoint and not the second.
_FILLING = """
import sys
from tests.suite.run import checkpoint_test as t
from suite.run import checkpoint
import resource, signal, numpy as np, jax
from jax.sharding import PartitionSpec as P
from suite.run import sharding
shardings = t._specs(sharding.make_mesh(), P())
def state(step, rows):
  made = t._state(shardings, step)
  big = np.random.default_rng(step).normal(size=(rows, 1024)).astype('f4')
  made.params['w'] = jax.device_put(big, shardings.params['w'])
  return made
checkpoints = checkpoint.Checkpoints(sys.argv[1])
rows = int(sys.argv[2])
checkpoints.prepare(t._spec_of(state(1, rows)))
restored = None
if sys.argv[3] == 'fill':
  try:
    for step in (1, 2, 3):
      checkpoints.save(state(step, rows), t._position(step))
      if not checkpoints.finish():
        raise checkpoints.error()
  except checkpoint.Failed as error:
    print('FAILED', step, error)
  checkpoints.close()
again = checkpoint.Checkpoints(sys.argv[1])
again.prepare(t._spec_of(state(1, rows)))
found = again.restore(lambda number: number)
step = found.position.steps
same = np.array_equal(found.state.params['w'], state(step, rows).params['w'])
print('RESTORED', step, same)
again.close()
"""


class FullDiskTest(absltest.TestCase):
  def fill(self, *command):
    return subprocess.run(
      [*command],
      cwd=_ROOT,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
    )

  def test_a_full_disk_is_named_and_the_last_good_one_stays(self):
    folder = self.create_tempdir().full_path
    mount = f'mount -t tmpfs -o size=9m none {folder} && exec "$@"'
    python = [sys.executable, '-c', _FILLING, f'{folder}/saved', '1024', 'fill']
    done = self.fill('unshare', '-m', 'sh', '-c', mount, 'sh', *python)
    if 'unshare' in done.stderr or 'mount:' in done.stderr:
      self.skipTest(f'no mount namespace here: {done.stderr.strip()[-100:]}')
    self.assertRegex(done.stdout, rf'FAILED \d .*into {folder}/saved, got')
    self.assertRegex(done.stdout, 'got No space left on device')
    self.assertRegex(done.stdout, r'the last good one is of step (\d)')
    self.assertRegex(done.stdout, r'RESTORED \d True')


if __name__ == '__main__':
  absltest.main()
