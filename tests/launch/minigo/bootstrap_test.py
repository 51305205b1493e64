"""Tests of making a start of MiniGo, and of a run that starts from it."""

import contextlib
import dataclasses
import functools
import glob
import io
import os
import shutil
import signal
import tempfile
from unittest import mock

from absl import flags as absl_flags
from absl.testing import absltest, parameterized
import jax
import numpy as np
import pytest

from input_pipelines.reading import arrays
from input_pipelines.self_play import start as minigo_start
from launch import profiles
from launch.minigo import bootstrap
from launch.support import run_flags
from suite import benchmark
from suite.benchmarks.minigo import METRIC
from suite.benchmarks.minigo.task import MinigoTask
from suite.clock import Clock
from suite.hparams import Division
from suite.run import loop, program, sharding, start
from suite.run.feed import Data
from suite.run.run_log import RunLog
from suite.target import Target
from tests import quick
from tests.launch import entrypoint_flags

MINIGO = benchmark.get('minigo')
SIZE = MINIGO.size('tiny')
HP = dataclasses.replace(
  SIZE.hparams,
  train_batch_size=16,
  concurrent_games=8,
  eval_batch_size=16,
  eval_games=16,
  min_selfplay_games_per_generation=8,
  window_generations=2,
  example_share=1.0,
  board_size=3,
  conv_width=2,
  trunk_layers=1,
  fc_width=2,
  num_readouts=4,
  fastplay_readouts=2,
  tree_capacity=84,
  virtual_losses=1,
)
START, TARGET, SEED = 2, 3, 7
_STAGED = ('begin', 'play')  # but for the games of a random net


def plan(data_dir, **changes):
  profile = dataclasses.replace(profiles.NONE, compiler_options=quick.OPTIONS)
  request = run_flags.Request(
    MINIGO, 'tiny', SIZE, Division.OPEN, HP, profile=profile
  )
  made = bootstrap.Plan(
    request, START, TARGET, SEED, data_dir, os.path.join(data_dir, 'work')
  )
  return dataclasses.replace(made, **changes)


@dataclasses.dataclass(frozen=True)
class Made:
  """A start, whose making was stopped once and resumed."""

  plan: bootstrap.Plan
  directory: str
  kept_when_stopped: list[int]
  left_when_stopped: list[str]
  said: str


@functools.cache
def made(*, random_net_apart=False):
  """Makes a start; without a program for games of a random net, unless asked.

  The settings of those games differ, and compiling them takes a third of all.
  """
  some = plan(tempfile.mkdtemp())
  # The second time it trains on: what is compiled serves both.
  build, staged, built = program.Program.build, MinigoTask.staged, []

  def once(*how):
    if not built:
      built.append(build(*how))
      built[0].staged.setdefault('bootstrap', built[0].staged['play'])
    return built[0]

  def staged_at_most(task):
    found = staged(task)
    return found if random_net_apart else {k: found[k] for k in _STAGED}

  write = minigo_start.write

  def stop(data_dir, config, *given, **kwargs):
    if config != 'generation_2':
      return write(data_dir, config, *given, **kwargs)
    os.makedirs(f'{some.kept(2)}.incomplete/data')
    raise KeyboardInterrupt

  said = io.StringIO()
  with (
    mock.patch.object(program.Program, 'build', once),
    mock.patch.object(MinigoTask, 'staged', staged_at_most),
    contextlib.redirect_stdout(said),
  ):
    with (
      mock.patch.object(minigo_start, 'write', stop),
      contextlib.suppress(KeyboardInterrupt),
    ):
      bootstrap.make(some)
    kept = bootstrap._generations(some)
    left = glob.glob(f'{some.finished}*')
    directory = bootstrap.make(some)
  return Made(some, directory, kept, left, said.getvalue())


def weights():
  return arrays.of_data_set(made().directory)


def tearDownModule():
  shutil.rmtree(made().plan.data_dir)


class FromStart(MinigoTask):
  """Starts where the made one does; nobody is played, nor by whom."""

  def __init__(self, **changes):
    hp = dataclasses.replace(
      HP,
      start_generation=START,
      max_generations=1,
      opponent='target',
      **changes,
    )
    super().__init__(hp, SIZE.data)
    self.seen = []

  def staged(self):
    return {}

  def rehearse(self, state, maker):
    pass

  def open(self, data, facts):
    feed = super().open(data, facts)
    feed.score = self.score
    train = feed.train_block

    def train_block(block, state, maker):
      self.seen.append(
        (block, jax.device_get(dataclasses.replace(state, key=None)))
      )
      return train(block, state, maker)

    feed.train_block = train_block
    return feed

  def predict(self, state, batch):
    return {'params': state.params, 'stats': state.stats}

  def score(self, predictions, maker):
    del maker
    (self.after,) = predictions
    return {METRIC: 1.0}


@functools.cache
def run():
  """A run from the made start: its task, its result and its statistics."""
  task, clock = FromStart(), Clock()
  log = RunLog(None, clock)
  log.start('init_start')
  mesh = sharding.make_mesh()
  data = Data(
    clock,
    made().directory,
    SEED,
    lambda rows: sharding.put_rows(rows, mesh),
    start=weights(),
  )
  result = loop.run(
    task,
    task.inspect(made().directory),
    Target(at_least={METRIC: 0.5}),
    data,
    mesh=mesh,
    seed=123,
    log=log,
    clock=clock,
    build=program.Build(quick.OPTIONS),
  )
  return task, result


def assert_trees(assertion, came, wanted):
  jax.tree.map(assertion, came, wanted)


class BootstrapTest(parameterized.TestCase):
  def test_it_goes_on_after_the_last_generation_that_was_kept(self):
    self.assertEqual(made().kept_when_stopped, [1])
    self.assertEmpty(made().left_when_stopped)
    self.assertIn('resuming after generation 1', made().said)
    lines = [line for line in made().said.splitlines() if 'steps in' in line]
    self.assertEqual(
      [line.partition(':')[0] for line in lines],
      [f'Generation {n} of 3' for n in (1, 2, 2, 3)],
    )

  def test_it_says_what_it_is_and_that_nothing_compares(self):
    found = minigo_start.about(made().directory)
    self.assertEqual(found['start_generation'], START)
    self.assertEqual(found['target_generation'], TARGET)
    self.assertEqual(found['hyperparameters']['board_size'], 3)
    self.assertFalse(minigo_start.logged(made().directory)['podium_comparable'])

  def test_it_holds_the_games_of_the_window_and_no_others(self):
    found = minigo_start.about(made().directory)
    self.assertEqual(found['generations'], {1: 8, 2: 8})

  @pytest.mark.slow
  def test_a_random_net_plays_as_the_reference_bootstraps(self):
    found = made(random_net_apart=True)
    self.addCleanup(shutil.rmtree, found.plan.data_dir)
    kept = minigo_start.games(found.plan.kept(1))
    visits = {0: [], 1: []}
    for generation, game in kept:
      visits[generation].append(game.rows['visits'][0])
    for first in visits[0]:
      self.assertGreaterEqual(first.sum(), 79)  # one is the root's own
      self.assertEqual(first[-1], 0)  # the pass
    later = minigo_start.games(found.directory, generations=[2])
    # Some of these were begun by the random net.
    fewest = min(game.rows['visits'][0].sum() for _, game in later)
    self.assertLess(fewest, 79)

  def test_the_target_is_a_later_net_than_the_start(self):
    found = weights()
    for name, values in found.items():
      if name.startswith('params/') and name.endswith('kernel'):
        target = found[f'stats/target/{name}']
        self.assertFalse((values == target).all(), name)

  def test_a_task_takes_it_and_others_say_what_they_lack(self):
    FromStart().inspect(made().directory)
    task = FromStart(conv_width=4)
    with self.assertRaisesRegex(ValueError, r"'params/.*got float32 \(2,\)"):
      start.check(weights(), program.abstract_state(task), task.given)
    with self.assertRaisesRegex(ValueError, r'generations \[0, 1, 2\]'):
      FromStart(window_generations=3).inspect(made().directory)
    with self.assertRaisesRegex(ValueError, 'this size has none'):
      FromStart().inspect('')

  def test_from_a_random_net_on_the_target_alone_is_given(self):
    task = MINIGO.task(dataclasses.replace(HP, opponent='target'), SIZE.data)
    task.inspect(made().directory)
    state = program.abstract_state(task)
    with self.assertRaisesRegex(ValueError, 'that the task reads, got opt/'):
      start.check(weights(), state, task.given)
    path = os.path.join(self.create_tempdir().full_path, arrays.WEIGHTS)
    target = {n: v for n, v in weights().items() if '/target/' in n}
    arrays.write(path, target)
    start.check(arrays.Arrays(path), state, task.given)
    fresh = start.made(state, task.given)
    self.assertEmpty(jax.tree.leaves(fresh.frozen))
    self.assertNotEmpty(jax.tree.leaves(state.frozen))
    for name in ('step', 'params', 'stats', 'opt'):
      self.assertEqual(getattr(fresh, name), getattr(state, name))

  def test_where_nothing_is_needed_nothing_is_given(self):
    task = MINIGO.task(HP, SIZE.data)
    task.inspect('')
    self.assertEmpty(task.given)

  @parameterized.parameters((-1, 0.0), (0, 0.0), (1, 0.5))
  def test_the_learning_rate_goes_on_from_the_step_of_the_start(
    self, more, rate
  ):
    found = weights()
    step = int(found['step'])
    task = FromStart(lr_boundaries=(step - 1 + more,), lr_rates=(0.5, 0.0))
    state = jax.tree_util.tree_map_with_path(
      lambda path, leaf: found.get(sharding.path_of(path)),
      program.abstract_state(task),
    )
    self.assertEqual(state.step, step)
    zeros = jax.tree.map(np.zeros_like, state.params)
    updates, _ = task.optimizer.update(zeros, state.opt, state.params)
    trace = state.opt[0].trace['conv']['kernel']
    np.testing.assert_allclose(
      updates['conv']['kernel'], -rate * HP.momentum * trace, rtol=1e-6
    )
    self.assertTrue(trace.any())


class RunFromStartTest(absltest.TestCase):
  def test_it_begins_with_the_generation_after_the_start(self):
    task, result = run()
    ((block, _),) = task.seen
    self.assertEqual(block.at, {'epoch_num': START + 1})
    self.assertEqual(result.evals[0].at, {'epoch_num': START + 1})

  def test_its_first_block_plays_nothing(self):
    # Nothing is staged to play with.
    _, result = run()
    self.assertEmpty(result.evals[0].statistics)
    self.assertNotEmpty(result.losses)

  def test_it_begins_with_every_weight_of_the_start(self):
    task, _ = run()
    ((_, state),) = task.seen
    found = weights()
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    self.assertLen(leaves, len(found))
    for path, leaf in leaves:
      wanted = found[sharding.path_of(path).removeprefix('frozen/')]
      np.testing.assert_array_equal(leaf, wanted, strict=True)

  def test_the_target_stays_as_it_is(self):
    task, _ = run()
    ((_, state),) = task.seen
    assert_trees(
      np.testing.assert_array_equal,
      task.after['stats']['target'],
      state.frozen['stats']['target'],
    )

  def test_with_its_seed_it_learns_what_the_target_has_learnt(self):
    # Games, their order, momentum and learning rate are as they were then.
    task, _ = run()
    came = {'params': task.after['params'], 'stats': task.after['stats']['net']}
    assert_trees(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      came,
      task.after['stats']['target'],
    )


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    names = entrypoint_flags.define(bootstrap)
    self.addCleanup(entrypoint_flags.remove, names)
    self.data_dir = self.create_tempdir().full_path

  def command(self, *arguments):
    handler = signal.getsignal(signal.SIGTERM)
    self.addCleanup(signal.signal, signal.SIGTERM, handler)
    absl_flags.FLAGS(
      ['bootstrap', '--benchmark=minigo', f'--data_dir={self.data_dir}',
       *arguments]
    )  # fmt: skip
    return bootstrap.main()

  def test_it_says_where_the_start_is_and_that_nothing_compares(self):
    said = io.StringIO()
    with (
      mock.patch.object(
        bootstrap, 'make', return_value=made().directory
      ) as make,
      contextlib.redirect_stdout(said),
    ):
      self.assertEqual(self.command('--generations=5'), 0)
    self.assertIn(f'made: {made().directory}', said.getvalue())
    self.assertIn('compare with nothing', said.getvalue())
    (asked,) = make.call_args.args
    self.assertEqual((asked.generations, asked.target), (5, 41))
    self.assertEqual(asked.board, '4x4')
    self.assertEqual(asked.work_dir, f'{self.data_dir}/bootstrap')

  def test_ctrl_c_tells_how_to_go_on(self):
    said = io.StringIO()
    with (
      mock.patch.object(bootstrap, 'make', side_effect=KeyboardInterrupt),
      contextlib.redirect_stderr(said),
    ):
      self.assertEqual(self.command(), 130)
    self.assertIn(
      'resume with:\n  python -m launch.minigo.bootstrap', said.getvalue()
    )

  def test_a_benchmark_without_games_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'resnet starts from no games'):
      self.command('--benchmark=resnet')

  def test_a_target_before_the_start_is_refused(self):
    with self.assertRaisesRegex(
      ValueError, 'later than the start, got .* 4 and'
    ):
      self.command('--generations=4', '--target_generations=4')

  def test_what_is_there_already_is_not_overwritten(self):
    path = ('minigo_start', '4x4', minigo_start.VERSION)
    os.makedirs(os.path.join(self.data_dir, *path))
    with self.assertRaisesRegex(ValueError, 'Expected nothing at .*4x4'):
      self.command()

  def test_what_was_begun_otherwise_does_not_go_on(self):
    changed = dataclasses.replace(made().plan, seed=SEED + 1)
    with self.assertRaisesRegex(ValueError, 'the seed differ: 7 then, 8 now'):
      bootstrap.make(changed)

  def test_a_start_that_is_not_kept_any_more_is_missed(self):
    changed = dataclasses.replace(made().plan, target=9, generations=1)
    shutil.move(changed.kept(1), f'{changed.kept(1)}.away')
    self.addCleanup(shutil.move, f'{changed.kept(1)}.away', changed.kept(1))
    with self.assertRaisesRegex(ValueError, r'generation 1 to be kept.*\[2\]'):
      bootstrap.make(changed)


if __name__ == '__main__':
  absltest.main()
