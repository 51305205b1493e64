"""DLRM on Criteo's terabyte of clicks: recommendation."""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  NOT_NEGATIVE,
  Rule,
  Scales,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  fixed,
  numbers,
  tunable,
  warmup_steps,
)
from suite.target import Target

_SAME_RATE = Rule(
  'base_learning_rate', lambda value, hp: value == hp.base_learning_rate
)
_AFTER_WARMUP = Rule(
  'warmup_steps or more', lambda value, hp: value >= hp.warmup_steps
)


# After the hash of each category modulo 40,000,000; those that occur.
_TABLES = (
  39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546,
  403346, 10, 2208, 11938, 155, 4, 976, 14, 39979771, 25641295, 39664984,
  585935, 12972, 108, 36,
)  # fmt: skip
# Of the made-up clicks.
_TINY_TABLES = (
  103728, 301, 201, 121, 201, 3, 121, 41, 21, 29660, 1501, 401, 11, 61, 151, 51,
  5, 61, 15, 47132, 4001, 19960, 601, 131, 61, 37,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ClicksHparams:
  """Hyperparameters that both models of clicks have; each adds its own."""

  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Format of products; tables and parameters stay float32.'
  )
  whole_table_rows: int = tunable(
    2500, 'Tables of so many rows or fewer are whole on every device.'
  )
  epochs_between_evals: float = fixed(
    0.05,
    'Part of the epoch from one eval to the next.',
    valid=numbers('above 0 and up to 1', lambda value: 0 < value <= 1),
  )
  eval_batch_size: int = tunable(65536, 'Samples per eval step.')
  counts: int = fixed(13, 'Counts of a sample.')
  bottom_layers: tuple[int, ...] = fixed(
    (512, 256, 128), 'Layers of the perceptron of the counts.'
  )
  top_layers: tuple[int, ...] = fixed(
    (1024, 1024, 512, 256, 1), 'Layers of the perceptron that scores.'
  )


def rows_of_tables(default: tuple[int, ...]):
  """The field of the rows of each table."""
  return fixed(default, 'Rows of each table.')


@dataclasses.dataclass(frozen=True)
class Hparams(ClicksHparams):
  """The defaults are the recipe of the reference point for a batch of 55,296.

  Rules of rounds v0.7 to v2.1; reference: facebookresearch/dlrm.
  """

  global_batch_size: int = tunable(
    55296, 'Samples per step.', key='global_batch_size'
  )
  base_learning_rate: float = base_learning_rate(
    24.0, 'Learning rate that the warm-up leads to.'
  )
  sgd_base_learning_rate: float = tunable(
    24.0,
    'Learning rate that the decay starts from; the log names both.',
    key='sgd_opt_base_learning_rate',
    valid=_SAME_RATE,
    scales=Scales.RATE,
  )
  warmup_steps: int = warmup_steps(
    2750, 'Steps of linear warm-up.', valid=NOT_NEGATIVE
  )
  decay_start_steps: int = tunable(
    49315,
    'The step that the decay starts with.',
    key='lr_decay_start_steps',
    valid=_AFTER_WARMUP,
    scales=Scales.STEPS,
  )
  decay_steps: int = tunable(
    27772,
    'Steps that the decay lasts; 0: none.',
    key='sgd_opt_learning_rate_decay_steps',
    valid=NOT_NEGATIVE,
    scales=Scales.STEPS,
  )
  decay_power: int = fixed(
    2,
    'Power of the polynomial decay.',
    key='sgd_opt_learning_rate_decay_poly_power',
  )
  tables: tuple[int, ...] = rows_of_tables(_TABLES)


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=256,
  base_learning_rate=2.5,
  sgd_base_learning_rate=2.5,
  warmup_steps=100,
  decay_start_steps=2600,
  decay_steps=1300,
  whole_table_rows=1000,
  eval_batch_size=4096,
  tables=_TINY_TABLES,
  bottom_layers=(64, 32, 16),
  top_layers=(128, 64, 1),
)

BENCHMARK = Benchmark(
  name='dlrm',
  runs=5,
  dropped=1,
  # From round v1.1 on a run counts its only epoch from 1 to 2.
  starts_after=lambda hparams: 1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={'AUC': 0.8025}),
      ruleset='2.1.0',
      data=DataSet(
        'criteo_1tb', train_samples=4195197692, eval_samples=89137319
      ),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={'AUC': 0.83}),
      ruleset='podium-tiny-1',
      data=DataSet('clicks', train_samples=1000000, eval_samples=60000),
    ),
  },
)
