"""The hyperparameters of MiniGo."""

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
  """The defaults are the reference's recipe of rounds v0.7 to v2.1, 19x19.

  Reference: mlcommons/training, retired_benchmarks/minigo/tensorflow/minigo,
  its flags in ml_perf/flags/19. The rules leave the batch size and the learning
  rates free, and whatever changes speed alone.
  """

  train_batch_size: int = tunable(
    4096, 'Positions per step.', key='train_batch_size'
  )
  lr_boundaries: tuple[int, ...] = tunable(
    (128, 10_000, 20_000),
    'Last steps of all learning rates but the last one.',
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
  concurrent_games: int = tunable(2048, 'Games that all devices play at once.')
  max_generations: int = tunable(
    80,
    'The run ends here, counted from its start, if the target is not met.',
  )
  eval_batch_size: int = tunable(
    256, 'Games of a match at once: an even number on each device.'
  )
  min_selfplay_games_per_generation: int = fixed(
    8192,
    'Games that are played between two generations, at least.',
    key='min_selfplay_games_per_generation',
  )
  start_generation: int = fixed(
    17,
    'Generation that a run starts from; 0: a random net, and no games.',
    valid=NOT_NEGATIVE,
  )
  window_generations: int = fixed(5, 'Generations whose games are learnt from.')
  example_share: float = fixed(
    0.3, 'Share of positions that are drawn.', valid=_SOME
  )
  momentum: float = fixed(0.9, 'Momentum.', valid=BELOW_ONE)
  l2_strength: float = fixed(
    1e-4, 'Weight of the squares of parameters.', valid=NOT_NEGATIVE
  )
  value_cost_weight: float = fixed(
    0.5, 'Weight of the error of values.', valid=NOT_NEGATIVE
  )
  board_size: int = fixed(19, 'Points in a row.')
  komi: float = fixed(7.5, 'Points that White is given.', valid=NOT_NEGATIVE)
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
  fc_width: int = fixed(64, 'Width between the dense layers of values.')
  num_readouts: int = fixed(800, 'Visits of a full search.')
  fastplay_readouts: int = fixed(80, 'Visits of a fast search.')
  fastplay_frequency: float = fixed(
    0.75, 'How often a search is fast, which is not learnt from.', valid=SHARE
  )
  tree_capacity: int = fixed(1603, 'Positions that a tree has room for.')
  virtual_losses: int = fixed(4, 'Leaves of a tree that the net sees at once.')
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
    'Moves of a game that are drawn in proportion to their visits.',
    valid=NOT_NEGATIVE,
  )
  resign_from: tuple[float, ...] = fixed(
    (-1.0, -0.9),
    'Ends of where the value is drawn below which one resigns.',
    valid=_RESIGN,
  )
  disable_resign_pct: float = fixed(
    0.0, 'Share of games without resigning.', valid=SHARE
  )
  holdout_pct: float = fixed(
    0.0, 'Share of games that are not learnt from.', valid=BELOW_ONE
  )
  bootstraps: bool = fixed(
    False,
    'Whether a random net plays as the reference has it: 80 visits, no '
    'fast search, no pass before the end.',
  )
  target_pruning: bool = fixed(True, 'Whether targets lose unwanted visits.')
  opponent: str = fixed(
    'target',
    'Opponent in a match: the target net, or random playouts.',
    valid=one_of('target', 'playouts'),
  )
  eval_games: int = fixed(256, 'Games of a match, half of them as Black.')
  eval_readouts: int = fixed(100, 'Visits of a search in a match.')
  opponent_readouts: int = fixed(100, 'Visits of a search of the opponent.')
