"""MiniGo: reinforcement learning of Go, by playing against itself.

Round v0.6, on 9x9, is not offered. It is another procedure, not other numbers:
a new net plays only if it beats the best one so far in 49 % of 100 games, the
games of a generation are played while its net is trained and judged, positions
are shuffled once for all ten trainings that use them, games are scored without
pass-alive regions and end after 162 plies; and its official start and target
are gone, so that no result could be compared with it.
"""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size, Start
from suite.benchmarks.minigo.hparams import Hparams
from suite.target import Target

METRIC = 'win_rate'
GAMES_KEY = 'actual_selfplay_games_per_generation'  # of the log

# Sized for one accelerator: the reference's flags in ml_perf/flags/9 as they
# were when it was retired. No round used them. Unlike there, a run starts from
# a random net.
BOARD_9 = dataclasses.replace(
  Hparams(),
  lr_boundaries=(25_000, 37_500),
  lr_rates=(0.16, 0.016, 0.0016),
  min_selfplay_games_per_generation=4096,
  start_generation=0,
  bootstraps=True,
  board_size=9,
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
)

# On 4x4 both colours win half of the games that a net trained on two cores
# plays against itself; on 5x5 Black soon wins all of them. The learning rate is
# high, so that unshuffled positions spoil the net: at two thirds of it they
# teach nearly as well as shuffled ones. About one seed in ten starts to learn
# late, so there are twenty generations.
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
  max_plies=32,
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
  statistics=(GAMES_KEY,),
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.5}),
      ruleset='2.1.0',
      data=DataSet('minigo_start/19x19', train_samples=0, eval_samples=256),
      start=Start('minigo_start/19x19'),
    ),
    '9x9': Size(
      hparams=BOARD_9,
      target=Target(at_least={METRIC: 0.5}),
      ruleset='podium-minigo-9x9',
      data=DataSet('minigo_start/9x9', train_samples=0, eval_samples=256),
      start=Start('minigo_start/9x9'),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.85}),
      ruleset='podium-tiny-1',
      data=DataSet('', train_samples=0, eval_samples=128),
    ),
  },
)
