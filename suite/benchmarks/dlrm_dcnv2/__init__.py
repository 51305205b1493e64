"""DLRM-DCNv2 on Criteo's clicks with several ids a category: recommendation."""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size
from suite.benchmarks.dlrm import ClicksHparams, rows_of_tables
from suite.hparams import (
  NOT_NEGATIVE,
  base_learning_rate,
  fixed,
  one_of,
  tunable,
)
from suite.target import Target


def _none(text: str, key: str):
  """Settings that the rules want in the log, and have as 0."""
  return fixed(0, text, key=key, valid=one_of(0))


# Of ids in order of appearance, modulo the first number.
_TABLES = (
  40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956,
  405282, 10, 2209, 11938, 155, 4, 976, 14, 40000000, 40000000, 40000000,
  590152, 12973, 108, 36,
)  # fmt: skip
_LOOKUPS = (
  3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3,
  1, 1,
)  # fmt: skip
# Of the made-up clicks.
_TINY_TABLES = (
  20000, 301, 201, 121, 201, 3, 121, 41, 21, 20000, 1501, 401, 11, 61, 151, 51,
  5, 61, 15, 20000, 4001, 19967, 601, 131, 61, 37,
)  # fmt: skip
_TINY_LOOKUPS = (
  2, 1, 1, 1, 2, 1, 1, 1, 1, 3, 1, 2, 1, 1, 2, 1, 1, 1, 1, 3, 6, 4, 2, 1, 1, 1,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Hparams(ClicksHparams):
  """The defaults are the recipe of the reference point for a batch of 65,536.

  Rules of rounds v3.0 to v6.0; reference: mlcommons/training,
  recommendation_v2/torchrec_dlrm.
  """

  global_batch_size: int = tunable(
    65536, 'Samples per step.', key='global_batch_size'
  )
  opt_name: str = fixed(
    'adagrad', 'Optimizer.', key='opt_name', valid=one_of('adagrad')
  )
  base_learning_rate: float = base_learning_rate(
    0.004, 'Learning rate, of layers and of tables.'
  )
  learning_rate_decay: float = _none(
    'Decay of the rate in Adagrad.', 'opt_adagrad_learning_rate_decay'
  )
  weight_decay: float = _none('Weight decay.', 'opt_weight_decay')
  initial_accumulator: float = fixed(
    0.0,
    'Where the sums of squares start.',
    key='opt_adagrad_initial_accumulator_value',
    valid=NOT_NEGATIVE,
  )
  epsilon: float = fixed(
    1e-8,
    'Added to the root of a sum of squares.',
    key='opt_adagrad_epsilon',
    valid=NOT_NEGATIVE,
  )
  warmup_steps: int = _none('No warm-up.', 'opt_learning_rate_warmup_steps')
  decay_start_step: int = _none(
    'No decay.', 'opt_learning_rate_decay_start_step'
  )
  decay_steps: int = _none('No decay.', 'opt_learning_rate_decay_steps')
  tables: tuple[int, ...] = rows_of_tables(_TABLES)
  lookups: tuple[int, ...] = fixed(
    _LOOKUPS,
    'Rows of each table that a sample names; their sum is its vector.',
  )
  table_groups: int = tunable(
    8,
    'Groups of devices, each of which has some of the large tables.',
    valid=one_of(1, 2, 4, 8, 16, 32, 64),
  )
  cross_layers: int = fixed(3, 'Layers of the cross network.')
  cross_rank: int = fixed(512, 'Rank of its matrices.')


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=256,
  base_learning_rate=0.02,
  whole_table_rows=100,
  eval_batch_size=4096,
  tables=_TINY_TABLES,
  lookups=_TINY_LOOKUPS,
  bottom_layers=(64, 32, 16),
  cross_layers=2,
  cross_rank=128,
  top_layers=(128, 64, 1),
)

BENCHMARK = Benchmark(
  name='dlrm_dcnv2',
  runs=10,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={'AUC': 0.80275}),
      ruleset='6.0.0',
      data=DataSet(
        'criteo_1tb_multi_hot', train_samples=4195197692, eval_samples=89137319
      ),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={'AUC': 0.83}),
      ruleset='podium-tiny-1',
      data=DataSet(
        'clicks_multi_hot', train_samples=1000000, eval_samples=60000
      ),
    ),
  },
)
