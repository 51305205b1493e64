"""MiniGo: reinforcement learning of Go, by playing against itself."""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size
from suite.benchmarks.minigo.hparams import Hparams
from suite.target import Target

METRIC = 'win_rate'

# 9x9, from a random net; flags in ml_perf/flags/9 and, for what was different
# then, the reference as it was in that round.
V06 = dataclasses.replace(
  Hparams(),
  lr_boundaries=(25_000, 37_500),
  lr_rates=(0.16, 0.016, 0.0016),
  min_selfplay_games_per_generation=4096,
  start_generation=0,
  bootstraps=True,
  value_cost_weight=0.25,
  board_size=9,
  planes='agz',
  conv_width=32,
  trunk_layers=9,
  num_readouts=240,
  fastplay_readouts=240,
  fastplay_frequency=0.0,
  tree_capacity=481,
  virtual_losses=2,
  dirichlet_noise_alpha=0.135,
  softpick_plies=6,
  resign_from=(-1.0, -0.8),
  disable_resign_pct=1.0,
  holdout_pct=0.025,
  eval_batch_size=112,
  eval_games=100,
  eval_readouts=240,
  opponent_readouts=240,
)

# 4x4 is the largest board on which both colours win half of the games that a
# net of two cores plays against itself: on 5x5 Black soon takes all of it. The
# rate is high, so that positions in the order of play spoil the net: at two
# thirds of it they teach nearly as well as shuffled ones. One seed of ten or so
# begins to learn late, for which there are twenty generations.
TINY = dataclasses.replace(
  Hparams(),
  train_batch_size=64,
  lr_boundaries=(),
  lr_rates=(0.06,),
  concurrent_games=64,
  max_generations=20,
  eval_batch_size=128,
  min_selfplay_games_per_generation=192,
  start_generation=0,
  window_generations=6,
  example_share=1.0,
  value_cost_weight=1.0,
  board_size=4,
  komi=1.5,
  conv_width=16,
  trunk_layers=2,
  fc_width=32,
  num_readouts=32,
  fastplay_readouts=8,
  fastplay_frequency=0.25,
  tree_capacity=96,
  virtual_losses=2,
  dirichlet_noise_alpha=0.3,
  softpick_plies=10,
  disable_resign_pct=1.0,
  opponent='playouts',
  eval_games=128,
  eval_readouts=16,
  opponent_readouts=64,
)

BENCHMARK = Benchmark(
  name='minigo',
  runs=10,
  dropped=1,
  starts_after=lambda hparams: hparams.start_generation,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.5}),
      ruleset='2.1.0',
      data=DataSet('minigo_start/19x19', train_samples=0, eval_samples=256),
    ),
    'v0.6': Size(
      hparams=V06,
      target=Target(at_least={METRIC: 0.5}),
      ruleset='podium-minigo-v0.6',
      round='v0.6',
      data=DataSet('minigo_start/9x9', train_samples=0, eval_samples=100),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.85}),
      ruleset='podium-tiny-1',
      data=DataSet('', train_samples=0, eval_samples=128),
    ),
  },
)
