"""Numbers that the specification of MiniGo fixes, each stated once.

From mlcommons/training, retired_benchmarks/minigo/tensorflow/minigo: flags of
ml_perf/flags/19, dual_net.py, train.py, features.py and cc/*; the rules of
rounds v0.7 to v2.1; and published logs of those rounds. `9x9` has the flags of
ml_perf/flags/9.
"""

import dataclasses
import math
from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.self_play import replay
from models.minigo import go, self_play
from models.minigo import net as minigo
from models.minigo.tree_search import formulas, moves, trees
from suite.benchmarks.minigo import feed
from suite.benchmarks.minigo import settings as settings_lib
from suite.benchmarks.minigo import task as task_lib
from suite.clock import Clock
from suite.run import sharding
from suite.run.feed import Data
from suite.run.program import abstract_state
from suite.run.task import Facts
from tests.suite.benchmarks import spec_table

TABLE = spec_table.Table(
  name='minigo',
  runs=10,
  dropped=1,
  sizes={
    'reference': (
      '2.1.0',
      {'win_rate': {'at_least': 0.5}},
      ('minigo_start/19x19', 0, 256),
      30,
    ),
    '9x9': (
      'podium-minigo-9x9',
      {'win_rate': {'at_least': 0.5}},
      ('minigo_start/9x9', 0, 256),
      30,
    ),
  },
  fixed={
    # Generations: the first that a run trains is 18.
    'min_selfplay_games_per_generation': 8192,
    'start_generation': 17,
    'window_generations': 5,
    'example_share': 0.3,
    'holdout_pct': 0.0,
    'bootstraps': False,
    # The loss and the optimizer.
    'momentum': 0.9,
    'l2_strength': 1e-4,
    'value_cost_weight': 0.5,
    # The game, and the net.
    'board_size': 19,
    'komi': 7.5,
    'max_plies': 32_767,  # no limit
    'planes': 'mlperf07',
    'conv_width': 64,
    'trunk_layers': 6,
    'fc_width': 64,
    # Self-play.
    'num_readouts': 800,
    'fastplay_readouts': 80,
    'fastplay_frequency': 0.75,
    'tree_capacity': 2 * 800 + 4 - 1,
    'virtual_losses': 4,
    'value_init_penalty': 0.2,
    'dirichlet_noise_alpha': 0.03,
    'dirichlet_noise_weight': 0.3,
    'softpick_plies': 30,
    'resign_from': (-1.0, -0.9),
    'disable_resign_pct': 0.0,
    'target_pruning': True,
    # The match.
    'opponent': 'target',
    'eval_games': 256,
    'eval_readouts': 100,
    'opponent_readouts': 100,
  },
  tunable={
    'train_batch_size': 4096,
    'lr_boundaries': (128, 10_000, 20_000),
    'lr_rates': (0.016, 0.16, 0.016, 0.0016),
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'concurrent_games',
    'max_generations',
    'eval_batch_size',
  ),
  changed={
    '9x9': {
      'lr_boundaries': (25_000, 37_500),
      'lr_rates': (0.16, 0.016, 0.0016),
      'min_selfplay_games_per_generation': 4096,
      'start_generation': 0,
      'bootstraps': True,
      'board_size': 9,
      'trunk_layers': 9,
      'num_readouts': 240,
      'fastplay_readouts': 240,
      'fastplay_frequency': 0.0,
      'tree_capacity': 2 * 240 + 2 - 1,
      'virtual_losses': 2,
      'dirichlet_noise_alpha': 0.135,
      'softpick_plies': 6,
      'resign_from': (-1.0, -0.8),
      'disable_resign_pct': 1.0,
      'holdout_pct': 0.025,
    }
  },
  allowed=(
    {'train_batch_size': '512'},
    {'lr_boundaries': '50', 'lr_rates': '0.3,0.03'},
    {'concurrent_games': '8192', 'max_generations': '120'},
  ),
  refused=(
    {'train_batch_size': '0'},
    {'lr_rates': '0.3,0.03'},
    {'min_selfplay_games_per_generation': '4096'},
    {'example_share': '1.0'},
    {'num_readouts': '400'},
    {'virtual_losses': '8'},
    {'eval_games': '100'},
  ),
  logged={
    'train_batch_size': 4096,
    'lr_boundaries': (128, 10_000, 20_000),
    'lr_rates': (0.016, 0.16, 0.016, 0.0016),
    'min_selfplay_games_per_generation': 8192,
    'gradient_accumulation_steps': 1,
  },
)
# What our own small size has instead.
TINY = {
  'train_batch_size': 64,
  'lr_boundaries': (),
  'lr_rates': (0.06,),
  'concurrent_games': 64,
  'max_generations': 20,
  'eval_batch_size': 128,
  'min_selfplay_games_per_generation': 192,
  'start_generation': 0,
  'window_generations': 6,
  'example_share': 1.0,
  'value_cost_weight': 1.0,
  'board_size': 4,
  'komi': 1.5,
  'max_plies': 32,
  'conv_width': 16,
  'trunk_layers': 2,
  'fc_width': 32,
  'num_readouts': 32,
  'fastplay_readouts': 8,
  'fastplay_frequency': 0.25,
  'tree_capacity': 96,
  'virtual_losses': 2,
  'dirichlet_noise_alpha': 0.3,
  'softpick_plies': 10,
  'disable_resign_pct': 1.0,
  'opponent': 'playouts',
  'eval_games': 128,
  'eval_readouts': 16,
  'opponent_readouts': 64,
}


class MinigoSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def settings(self, name='reference'):
    return settings_lib.settings(self.size(name).hparams)

  def test_tiny(self):
    size = self.size('tiny')
    others = {'gradient_accumulation_steps': 1, 'compute_dtype': 'float32'}
    self.assertEqual(
      dataclasses.asdict(size.hparams),
      TABLE.fixed | TABLE.tunable | others | TINY,
    )
    self.assertEqual(size.target.as_dict(), {'win_rate': {'at_least': 0.85}})
    self.assertEqual(size.ruleset, 'podium-tiny-1')
    self.assertEqual(dataclasses.astuple(size.data), ('', 0, 128))

  def test_generations_and_evals(self):
    blocks = self.task().blocks(Facts())
    self.assertEqual([b.at['epoch_num'] for b in blocks[:3]], [18, 19, 20])
    wanted = feed.given_generations(self.size().hparams)
    self.assertEqual(list(wanted), [13, 14, 15, 16, 17])

  def test_what_is_drawn_of_the_window(self):
    hp = self.size('9x9').hparams
    with mock.patch.object(replay, 'Window', wraps=replay.Window) as window:
      feed.SelfPlayFeed(hp, self.settings('9x9'), Data(Clock(), '', 0, dict))
    (sampling,), _ = window.call_args
    self.assertEqual(dataclasses.astuple(sampling), (5, 4096, 0.3, 8, 0.025))

  def test_the_game(self):
    for name, side, early, settled in (
      ('reference', 19, 30, 133),
      ('9x9', 9, 6, 27),
    ):
      settings = self.settings(name)
      rules = settings.rules
      self.assertEqual((rules.size, rules.komi), (side, 7.5))
      self.assertEqual(rules.settled_from, settled)
      self.assertEqual(rules.passes_to_forbid, 4)
      self.assertEqual(settings.early_plies, early)

  def test_self_play(self):
    found = self.settings()
    tree = trees.Settings(
      capacity=1603, leaves=4, value_init_penalty=0.2, noise_mix=0.3
    )
    self.assertEqual(found.tree, tree)
    self.assertTrue(tree.may_pass)
    self.assertEqual((found.full_readouts, found.fast_readouts), (800, 80))
    self.assertEqual((found.fast_share, found.noise_alpha), (0.75, 0.03))
    self.assertEqual(found.resign_from, (-1.0, -0.9))
    self.assertEqual(found.no_resign_share, 0)
    self.assertTrue(found.prunes)
    # What the settings are by default is the same recipe.
    self.assertEqual(found, self_play.Settings(found.rules, tree))

  def test_games_of_a_random_net(self):
    found = self_play.bootstrap(self.settings())
    self.assertEqual((found.full_readouts, found.fast_share), (80, 0))
    self.assertEqual(found.resign_from, (-1.0, -0.99))
    self.assertFalse(found.tree.may_pass)
    self.assertFalse(found.prunes)

  def test_the_match(self):
    found = settings_lib.match_settings(self.size().hparams)
    self.assertEqual((found.readouts, found.other_readouts), (100, 100))
    self.assertEqual(found.tree.leaves, 4)
    self.assertEqual(found.tree.value_init_penalty, 0.2)
    self.assertGreaterEqual(found.tree.most_reads, 200)

  def test_the_formulas_of_the_search(self):
    for visits in (0, 1, 80, 1600):
      expected = 2 * (math.log((1 + visits + 19_652) / 19_652) + 1.25)
      found = float(formulas.u_scale(jnp.int32(visits)))
      self.assertAlmostEqual(found, expected, places=5)
    scores = formulas.action_scores(
      visits=jnp.array([[3, 0, 1]]),
      totals=jnp.array([[2.0, -0.5, 0.0]]),
      priors=jnp.array([[0.6, 0.4, -1.0]]),
      sign=jnp.array([-1.0]),
      weight=jnp.array([2.0]),
    )
    expected = [[-2 / 4 + 2 * 0.6 / 4, 0.5 + 2 * 0.4, -1000]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)

  def test_targets_of_early_moves(self):
    visits = jnp.array([[8, 1, 0], [8, 1, 0]])
    early = 8**0.98 / (8**0.98 + 1)
    np.testing.assert_allclose(
      moves.policy_target(visits, jnp.array([True, False])),
      [[early, 1 - early, 0], [8 / 9, 1 / 9, 0]],
      rtol=1e-6,
    )

  def test_pruned_targets(self):
    root = moves.Root(
      sign=jnp.ones(1),
      count=jnp.array([100]),
      value=jnp.zeros(1),
      visits=jnp.array([[60, 38, 1, 0]]),
      totals=jnp.array([[30.0, -10.0, 0.0, 0.0]]),
      priors=jnp.array([[0.5, 0.3, 0.1, 0.1]]),
    )
    scale = 2 * (math.log(19_753 / 19_652) + 1.25)
    best = 30 / 61 + scale * math.sqrt(101) * 0.5 / 61
    kept = math.floor(scale * 0.3 * math.sqrt(100) / (best + 10 / 39))
    self.assertBetween(kept, 2, 37)
    self.assertEqual(moves.pruned(root).tolist(), [[60, kept, 1, 0]])

  def test_the_net(self):
    hp = self.size().hparams
    size = settings_lib.net_size(hp)
    self.assertEqual(dataclasses.astuple(size), (19, 13, 64, 6, 64))
    self.assertEqual(go.PLANES['mlperf07'], 13)
    self.assertEqual(minigo.SYMMETRIES, 8)
    state = abstract_state(self.task())
    count = dict.fromkeys(('policy', 'value', 'trunk'), 0)
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
      name = sharding.path_of(path)
      shapes[name] = leaf.shape
      part = name.split('_')[0].split('/')[0]
      count[part if part in count else 'trunk'] += leaf.size
    self.assertEqual(
      count, {'policy': 261_854, 'value': 23_297, 'trunk': 451_520}
    )
    self.assertLen(self.task().tensors, 48)
    self.assertEqual(shapes['conv/kernel'], (3, 3, 13, 64))
    self.assertEqual(shapes['policy_conv/kernel'], (1, 1, 64, 2))
    self.assertEqual(shapes['value_conv/kernel'], (1, 1, 64, 1))
    self.assertEqual(shapes['policy/kernel'], (722, 362))
    self.assertEqual(shapes['value_hidden/kernel'], (361, 64))

  def test_batch_norm(self):
    self.assertEqual(minigo._MOMENTUM, 0.95)
    self.assertEqual(minigo._EPSILON, 1e-5)

  def test_the_loss(self):
    state = abstract_state(self.task())
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), state.params)
    # Of all kernels and scales; biases and shifts are left out.
    biases = 13 * 64 + 362 + 64 + 1
    expected = 1e-4 * (736_671 - biases) / 2
    np.testing.assert_allclose(minigo.l2(params, 1e-4), expected, rtol=1e-5)
    logits, pi = jnp.zeros((1, 4)), jnp.full((1, 4), 0.25)
    found = minigo.losses(logits, jnp.array([0.5]), pi, jnp.array([-1.0]))
    self.assertAlmostEqual(float(found.policy), math.log(4), places=6)
    self.assertAlmostEqual(float(found.value), 2.25, places=6)

  def test_the_rate_of_a_step(self):
    schedule = task_lib._schedule(self.size().hparams)
    for step, rate in (
      (0, 0.016), (128, 0.016), (129, 0.16), (10_000, 0.16), (10_001, 0.016),
      (20_000, 0.016), (20_001, 0.0016),
    ):  # fmt: skip
      self.assertAlmostEqual(float(schedule(step)), rate, places=6)


if __name__ == '__main__':
  absltest.main()
