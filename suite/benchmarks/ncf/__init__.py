"""NeuMF on MovieLens: recommendation."""

import dataclasses

from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  ADAM,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  epochs_between_evals,
  fixed,
  one_of,
  tunable,
)
from suite.target import Target


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's recipe of round v0.5, batch 2048.

  Rules of rounds v0.5 and v0.6, which leave batch size, learning rate and betas
  free; reference: mlcommons/training, recommendation/pytorch.
  """

  global_batch_size: int = tunable(
    2048, 'Samples per step.', key='global_batch_size'
  )
  opt_name: str = tunable(
    'adam',
    'Optimizer: adam, or lazy_adam, which updates rows in the batch only.',
    key='opt_name',
    valid=one_of('adam', 'lazy_adam'),
  )
  base_learning_rate: float = base_learning_rate(5e-4, 'Learning rate.')
  beta_1: float = ADAM.beta(1, 0.9)
  beta_2: float = ADAM.beta(2, 0.999)
  # The rules do not list epsilon as free, though one published result has
  # another (1.45e-7).
  epsilon: float = ADAM.epsilon(1e-8, fixed)
  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Format of products in the tower; tables and parameters stay float32.'
  )
  table_row_multiple: int = tunable(
    1, 'Tables are padded to a multiple of this, for a model axis to divide.'
  )
  epochs_between_evals: int = epochs_between_evals(1)
  max_epochs: int = tunable(20, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(1024, 'Users per eval step.')
  negatives: int = fixed(4, 'Negatives drawn for each positive, every epoch.')
  reject_positives: bool = fixed(
    True, 'Redraw a negative that is a positive of its user.'
  )
  eval_negatives: int = fixed(999, 'Candidates beside the held-out item.')
  hit_rank: int = fixed(10, 'The held-out item is a hit up to this rank.')
  users: int = fixed(138493, 'Users, the rows of their table.')
  items: int = fixed(26744, 'Items, the rows of their table.')
  mf_width: int = fixed(64, 'Width of the vectors that are multiplied.')
  mlp_layers: tuple[int, ...] = fixed(
    (256, 256, 128, 64), 'Width of the input of the perceptron, and its layers.'
  )


# A later version of the reference, for data expanded 16 times in users and 32
# times in items; no round used it. Counts are from its README.
EXPANDED = dataclasses.replace(
  Hparams(),
  global_batch_size=65536,
  base_learning_rate=2e-4,
  reject_positives=False,
  users=2197225,
  items=855776,
)

TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=4096,
  opt_name='lazy_adam',
  base_learning_rate=2.5e-3,
  max_epochs=12,
  eval_batch_size=64,
  users=2000,
  items=1000,
  mf_width=16,
  mlp_layers=(64, 64, 32, 16),
)

BENCHMARK = Benchmark(
  name='ncf',
  runs=10,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={'HR@10': 0.635}),
      ruleset='podium-ncf-1',
      round='v0.5',
      data=DataSet(
        'movielens_20m', train_samples=19861770, eval_samples=138493
      ),
    ),
    'expanded': Size(
      hparams=EXPANDED,
      target=Target(at_least={'HR@10': 0.51}),
      ruleset='podium-ncf-1',
      round='v0.5',
      data=DataSet(
        'movielens_20m_16x32', train_samples=1223962043, eval_samples=2197225
      ),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={'HR@10': 0.59}),
      ruleset='podium-tiny-1',
      data=DataSet('interactions', train_samples=98689, eval_samples=2000),
    ),
  },
)
