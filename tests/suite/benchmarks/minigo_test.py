"""Tests of MiniGo as a benchmark: what it plays, learns from and logs."""

import dataclasses
import functools
import json
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from suite import benchmark
from suite.benchmarks import minigo
from suite.clock import Clock
from suite.run import loop, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.feed import Data
from suite.run.program import Build, Program
from suite.run.run_log import RunLog
from suite.run.task import Facts
from suite.target import Target
from tests import quick
from tests.suite.benchmarks import minigo_small
from tests.suite.run import fake_task

DECLARED = benchmark.get('minigo')
REFERENCE = DECLARED.size('reference')
TINY = DECLARED.size('tiny')
# As small as a run can be that has all its parts.
HP = dataclasses.replace(minigo_small.SIZE.hparams, max_generations=3)


def task_of(hp, size=TINY):
  return DECLARED.task(hp, size.data)


class _Ends(loop.Watcher):
  """Ends a run as soon as a training step is done."""

  def __init__(self, after):
    self.after, self.done = after, 0

  def step(self, step, loss):
    self.done = step

  def interrupted(self, tick):
    ends = self.done >= self.after
    return loop.Interrupted('SIGTERM', 15) if ends else None


@dataclasses.dataclass
class _Run:
  """One run of three generations, in one process or in two."""

  folder: str
  mesh: jax.sharding.Mesh = dataclasses.field(
    default_factory=sharding.make_mesh
  )
  batches: list = dataclasses.field(default_factory=list)

  @property
  def path(self):
    return os.path.join(self.folder, 'result_0.txt')

  def __call__(self, *, resume=False, watcher=None):
    clock = Clock()
    if resume:
      log = RunLog(self.path, clock, suspended=True)
    else:
      size = dataclasses.replace(TINY, hparams=HP)
      log = fake_task.begun_log(self.path, clock, DECLARED, size)
    checkpoints = Checkpoints(os.path.join(self.folder, 'saved'), keep=True)
    with mock.patch.object(Program, 'build', return_value=built()):
      try:
        return loop.run(
          task_of(HP),
          Facts(),
          Target(at_least={minigo.METRIC: 1.5}),
          Data(clock, '', 5, self.put, kept=checkpoints.beside),
          mesh=self.mesh,
          seed=5,
          log=log,
          clock=clock,
          watcher=watcher,
          checkpoints=checkpoints,
        )
      finally:
        checkpoints.close()
        log.close()

  def put(self, rows):
    if 'planes' in rows:
      self.batches.append({name: each.copy() for name, each in rows.items()})
    return sharding.put_rows(rows, self.mesh)

  def lines(self):
    with open(self.path, encoding='utf-8') as file:
      return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]


@functools.cache
def built():
  """The program of all runs."""
  build = Build(quick.OPTIONS)
  return Program.build(task_of(HP), sharding.make_mesh(), Clock(), build)


@functools.cache
def finished():
  """A run to the end of its budget: result, log and batches."""
  run = _Run(tempfile.mkdtemp())
  result = run()
  return result, run.lines(), run.batches


class RunTest(absltest.TestCase):
  def test_it_plays_trains_and_is_measured_in_turns(self):
    result, _, batches = finished()
    self.assertIn('not met by the last eval', result.reason)
    self.assertEqual([e.at['epoch_num'] for e in result.evals], [1, 2, 3])
    self.assertLen(result.losses, len(batches))
    self.assertEqual(result.samples, 32 * len(batches))
    self.assertTrue(np.isfinite(result.losses).all())
    for part in ('self-play', 'compute', 'eval'):
      self.assertGreater(result.timed_parts[part], 0)

  def test_the_log_says_how_many_games_each_generation_had(self):
    result, lines, *_ = finished()
    key = 'actual_selfplay_games_per_generation'
    said = [line for line in lines if line['key'] == key]
    self.assertEqual([e['metadata']['epoch_num'] for e in said], [1, 2, 3])
    for line, found in zip(said, result.evals, strict=True):
      self.assertGreaterEqual(line['value'], 24)
      self.assertEqual(found.statistics[key], line['value'])

  def test_the_log_says_what_the_games_were_like(self):
    result, lines, *_ = finished()
    for found in result.evals:
      made = {
        key.removeprefix('podium_made_'): value
        for key, value in found.statistics.items()
      }
      self.assertGreater(made['moves_per_second'], 0)
      self.assertGreater(made['reads_per_second'], made['moves_per_second'])
      self.assertBetween(made['game_length'], 2, 18)  # 3x3 ends after 18
      self.assertBetween(made['black_wins'], 0, 1)
      self.assertEqual(made['resigned'], 0)  # tiny plays on
    keys = {line['key'] for line in lines}
    self.assertContainsSubset(result.evals[0].statistics.keys(), keys)

  def test_positions_are_those_of_the_window_in_another_order(self):
    result, _, batches = finished()
    first = batches[: result.evals[0].step]
    plies = np.concatenate([batch['ply'] for batch in first])
    self.assertTrue((np.diff(plies) < 0).any())
    symmetries = {int(s) for batch in batches for s in batch['symmetry']}
    self.assertEqual(symmetries, set(range(8)))
    self.assertEqual(
      {int(o) for batch in batches for o in batch['outcome']}, {-1, 1}
    )

  def test_later_generations_learn_from_those_before_too(self):
    result, *_ = finished()
    steps = np.diff([0, *[found.step for found in result.evals]])
    self.assertGreater(steps[1], 1.4 * steps[0])  # two of two
    self.assertLess(steps[2], 1.5 * steps[1])  # still two


class ResumeTest(absltest.TestCase):
  def test_a_run_that_was_cut_off_goes_on_with_the_same_positions(self):
    whole, *_ = finished()
    first, second = (found.step for found in whole.evals[:2])
    run = _Run(self.create_tempdir().full_path)
    cut = first + (second - first) // 2
    with self.assertRaises(loop.Interrupted) as caught:
      run(watcher=_Ends(cut))
    self.assertBetween(caught.exception.saved, cut, second - 1)
    result = run(resume=True)
    # From the third generation on other games are played: those that were in
    # progress are begun anew.
    np.testing.assert_array_equal(result.losses[:second], whole.losses[:second])
    self.assertEqual([e.at['epoch_num'] for e in result.evals], [1, 2, 3])
    self.assertEqual(result.evals[1].quality, whole.evals[1].quality)
    key = 'actual_selfplay_games_per_generation'
    said = [line['value'] for line in run.lines() if line['key'] == key]
    self.assertLen(said, 3)
    self.assertEqual(said[:2], [e.statistics[key] for e in whole.evals[:2]])
    kept = os.listdir(os.path.join(run.folder, 'saved_data'))
    self.assertEqual(
      sorted(kept), [f'generation_{n}_host_0_of_1.npz' for n in (1, 2)]
    )


class StepTest(parameterized.TestCase):
  def batch(self, hp, seed=0):
    """Random records of the shapes of a training batch."""
    draws = np.random.default_rng(seed)
    (spec,) = task_of(hp).train_specs
    rows = hp.train_batch_size
    visits = draws.integers(1, 9, spec['visits'].shape).astype(np.uint16)
    return {
      'planes': draws.integers(0, 256, spec['planes'].shape).astype(np.uint8),
      'visits': visits,
      'ply': draws.integers(0, 20, rows).astype(np.int16),
      'outcome': draws.choice([-1, 1], rows).astype(np.int8),
      'symmetry': draws.integers(0, 8, rows).astype(np.int8),
      'weight': np.ones(rows, np.float32),
    }

  def test_the_loss_is_its_three_terms(self):
    task, batch = task_of(HP), self.batch(HP)
    state = jax.jit(task.init)(jax.random.key(0, impl='rbg'))
    loss, (_, metrics) = jax.jit(task.loss)(
      state.params, state.stats, batch, jax.random.key(1)
    )
    l2 = sum(
      float((np.asarray(leaf) ** 2).sum()) / 2
      for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
      if 'bias' not in sharding.path_of(path)
    )
    value = HP.value_cost_weight * metrics['value']
    expected = metrics['policy'] + value + 1e-4 * l2
    self.assertAlmostEqual(float(loss), float(expected), places=5)
    self.assertEqual(REFERENCE.hparams.value_cost_weight, 0.5)
    # An untrained net has hardly an opinion.
    self.assertAlmostEqual(float(metrics['policy']), np.log(10), delta=0.5)

  def test_momentum_is_that_of_tensorflow_with_the_rate_outside(self):
    hp = dataclasses.replace(HP, lr_boundaries=(1,), lr_rates=(0.5, 0.01))
    task = task_of(hp)
    params = {'w': jnp.float32(1.0)}
    opt = task.optimizer.init(params)
    w, m = 1.0, 0.0
    # Step 1 is the last of the first rate.
    for rate, gradient in ((0.5, 2.0), (0.5, 3.0), (0.01, -1.0)):
      grads = {'w': jnp.float32(gradient)}
      updates, opt = task.optimizer.update(grads, opt, params)
      params = {'w': params['w'] + updates['w']}
      m = 0.9 * m + gradient
      w -= rate * m
      self.assertAlmostEqual(float(params['w']), w, places=5)

  def test_the_target_stays_to_the_last_bit(self):
    hp = dataclasses.replace(
      HP, opponent='target', gradient_accumulation_steps=2
    )
    task = task_of(hp, REFERENCE)
    state = jax.jit(task.init)(jax.random.key(0, impl='rbg'))
    after, _ = jax.jit(task.train_step)(state, self.batch(hp))
    target = state.frozen['stats']['target']
    self.assertIsNotNone(target['params']['conv']['kernel'])
    jax.tree.map(
      np.testing.assert_array_equal, after.frozen['stats']['target'], target
    )
    moved = jax.tree.map(
      lambda a, b: bool((a != b).any()), state.stats['net'], after.stats['net']
    )
    self.assertTrue(all(jax.tree.leaves(moved)))


class DeclarationTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      {'lr_rates': (0.1, 0.2)},
      r'one more than lr_boundaries, got \(0.1, 0.2\)',
    ),
    (
      {'lr_rates': (0.1, 0.2, 0.3), 'lr_boundaries': (5, 4)},
      'lr_boundaries to be positive and rising',
    ),
    (
      {'gradient_accumulation_steps': 3},
      'a divisor of train_batch_size, got 3',
    ),
    ({'train_batch_size': 0}, 'train_batch_size to be positive'),
    ({'opponent': 'gnugo'}, "opponent to be one of .* got 'gnugo'"),
    ({'planes': 'chess'}, "planes to be one of .* got 'chess'"),
  )
  def test_what_does_not_fit_is_refused(self, changes, says):
    with self.assertRaisesRegex(ValueError, says):
      task_of(dataclasses.replace(HP, **changes))

  def test_places_that_the_devices_do_not_divide_are_refused(self):
    task = task_of(dataclasses.replace(HP, concurrent_games=12))
    with self.assertRaisesRegex(ValueError, "'play' takes is 12"):
      Program.build(task, sharding.make_mesh(), fake_task.ready()[0])


if __name__ == '__main__':
  absltest.main()
