"""Hyperparameters of MiniGo."""

import dataclasses

from suite.hparams import (
  BELOW_ONE,
  NOT_NEGATIVE,
  RISING,
  SHARE,
  Rule,
  Scales,
  accumulation_steps,
  compute_dtype,
  divisor_of,
  fixed,
  numbers,
  one_of,
  tunable,
)

_RATES = Rule(
  'positive, one more than lr_boundaries',
  lambda value, hp: (
    min(value, default=0) > 0 and len(value) == len(hp.lr_boundaries) + 1
  ),
)
_RESIGN = Rule(
  'two numbers from -1 to 1, the lower first',
  lambda value, _: len(value) == 2 and -1 <= value[0] <= value[1] <= 1,
)
_SOME = numbers('above 0 and up to 1', lambda value: 0 < value <= 1)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """Defaults are the reference's recipe of rounds v0.7 to v2.1, on 19x19.

  Reference: mlcommons/training, retired_benchmarks/minigo/tensorflow/minigo,
  flags in ml_perf/flags/19. Submitters choose the batch size, the learning
  rates, and what affects speed alone.
  """

  train_batch_size: int = tunable(
    4096, 'Positions per step.', key='train_batch_size'
  )
  lr_boundaries: tuple[int, ...] = tunable(
    (128, 10_000, 20_000),
    'Last steps of all learning rates but the last.',
    key='lr_boundaries',
    valid=RISING,
    scales=Scales.STEPS,
  )
  lr_rates: tuple[float, ...] = tunable(
    (0.016, 0.16, 0.016, 0.0016),
    'Learning rates.',
    key='lr_rates',
    valid=_RATES,
    scales=Scales.RATE,
  )
  gradient_accumulation_steps: int = accumulation_steps(
    divisor_of('train_batch_size')
  )
  compute_dtype: str = compute_dtype(
    'Format of convolutions; parameters stay float32.'
  )
  concurrent_games: int = tunable(2048, 'Games in progress on all devices.')
  max_generations: int = tunable(
    80,
    'Generations after which a run ends if the target is not met.',
  )
  eval_batch_size: int = tunable(
    256, 'Games of a match played at once: an even number on each device.'
  )
  min_selfplay_games_per_generation: int = fixed(
    8192,
    'Minimum of games between two generations.',
    key='min_selfplay_games_per_generation',
  )
  start_generation: int = fixed(
    17,
    'Generation that a run starts from; 0: a random net, and no games.',
    valid=NOT_NEGATIVE,
  )
  window_generations: int = fixed(5, 'Generations of games to train on.')
  example_share: float = fixed(
    0.3, 'Share of positions to train on.', valid=_SOME
  )
  momentum: float = fixed(0.9, 'Momentum.', valid=BELOW_ONE)
  l2_strength: float = fixed(1e-4, 'Weight of L2.', valid=NOT_NEGATIVE)
  value_cost_weight: float = fixed(
    0.5, 'Weight of the loss of values.', valid=NOT_NEGATIVE
  )
  board_size: int = fixed(19, 'Rows of the board.')
  komi: float = fixed(7.5, 'Points that White gets.', valid=NOT_NEGATIVE)
  max_plies: int = fixed(
    2**15 - 1,
    'Plies after which a game is scored as it stands.',
    valid=numbers('from 1 to 32767', lambda value: 1 <= value < 2**15),
  )
  planes: str = fixed(
    'mlperf07',
    'Feature planes that the net sees of a position.',
    valid=one_of('agz', 'mlperf07'),
  )
  conv_width: int = fixed(64, 'Channels of the trunk.')
  trunk_layers: int = fixed(6, 'Residual blocks of the trunk.')
  fc_width: int = fixed(64, 'Hidden width of the value head.')
  num_readouts: int = fixed(800, 'Visits of a full search.')
  fastplay_readouts: int = fixed(80, 'Visits of a fast search.')
  fastplay_frequency: float = fixed(
    0.75, 'Share of searches that are fast, and not trained on.', valid=SHARE
  )
  tree_capacity: int = fixed(1603, 'Nodes of a tree.')
  virtual_losses: int = fixed(4, 'Leaves of a tree in a call of the net.')
  value_init_penalty: float = fixed(
    0.2,
    'Value that an unread move starts below its parent.',
    valid=NOT_NEGATIVE,
  )
  dirichlet_noise_alpha: float = fixed(
    0.03, 'Concentration of the noise at roots.'
  )
  dirichlet_noise_weight: float = fixed(
    0.3, 'Share of the noise at roots.', valid=SHARE
  )
  softpick_plies: int = fixed(
    30,
    'Plies in which moves are drawn in proportion to visits.',
    valid=NOT_NEGATIVE,
  )
  resign_from: tuple[float, ...] = fixed(
    (-1.0, -0.9),
    'Range of the value below which a player resigns.',
    valid=_RESIGN,
  )
  disable_resign_pct: float = fixed(
    0.0, 'Share of games in which nobody resigns.', valid=SHARE
  )
  holdout_pct: float = fixed(
    0.0, 'Share of games not to train on.', valid=BELOW_ONE
  )
  bootstraps: bool = fixed(
    False,
    'Generation 0 is played as the reference bootstraps: 80 visits, no fast '
    'search, no pass before the end.',
  )
  target_pruning: bool = fixed(True, 'Prunes visits from targets.')
  opponent: str = fixed(
    'target',
    'Opponent in a match: the target net, or random playouts.',
    valid=one_of('target', 'playouts'),
  )
  eval_games: int = fixed(256, 'Games of a match, half of them as Black.')
  eval_readouts: int = fixed(100, 'Visits of a search in a match.')
  opponent_readouts: int = fixed(100, 'Visits of a search of the opponent.')
