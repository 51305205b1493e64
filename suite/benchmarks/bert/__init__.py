"""BERT-large on Wikipedia, from a checkpoint: masked tokens."""

import dataclasses

from input_pipelines import wikipedia
from suite.benchmark import Benchmark, DataSet, Size, Start
from suite.benchmarks.bert import cadence
from suite.hparams import (
  BELOW_ONE,
  LAMB,
  NOT_NEGATIVE,
  Rule,
  Scales,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  divisor_of,
  fixed,
  one_of,
  tunable,
  warmup_steps,
)
from suite.target import Target

METRIC = 'masked_lm_accuracy'

_ANY = Rule('a whole number', lambda value, _: True)
_SHARING = Rule(
  '1 or more, and at most samples_per_row',
  lambda value, hp: 1 <= value <= hp.samples_per_row,
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are those of the convergence point at a batch of 448.

  Rules of rounds v1.0 to v5.0, which leave batch, learning rate and LAMB's
  constants free; reference: mlcommons/training, retired_benchmarks/bert.
  """

  global_batch_size: int = tunable(
    448, 'Samples per step, however they share rows.', key='global_batch_size'
  )
  base_learning_rate: float = base_learning_rate(
    4.25e-4, 'Learning rate that the decay starts from.'
  )
  training_steps: int = tunable(
    6700,
    'Steps until the learning rate is 0.',
    key='opt_learning_rate_training_steps',
    scales=Scales.STEPS,
  )
  warmup_steps: int = warmup_steps(
    0,
    'Steps until the learning rate is highest.',
    valid=NOT_NEGATIVE,
    also='num_warmup_steps',
  )
  start_warmup_step: int = tunable(
    0,
    'Step at which the warmup starts; it may lie before the first.',
    key='start_warmup_step',
    valid=_ANY,
  )
  beta_1: float = LAMB.beta(1, 0.9)
  beta_2: float = LAMB.beta(2, 0.999)
  # Until round v2.0 without the name of the optimizer.
  epsilon: float = LAMB.epsilon(1e-6, also='opt_epsilon')
  weight_decay: float = LAMB.weight_decay(0.01)
  gradient_accumulation_steps: int = accumulation_steps()
  samples_per_row: int = tunable(
    1, 'Samples that may share a row in training; 1: each has its own.'
  )
  mean_samples_per_row: float = tunable(
    1.0,
    'Samples of a row on average, from which the number of rows follows.',
    valid=_SHARING,
  )
  compute_dtype: str = compute_dtype(
    'Format of products; parameters, softmax and logits stay float32.'
  )
  attention: str = tunable(
    'xla',
    'Attention without dropout: xla, or cudnn on GPUs.',
    valid=one_of('xla', 'cudnn'),
  )
  remat: bool = tunable(False, 'Recompute layers for gradients.')
  unroll: int = tunable(1, 'Layers per iteration of the loop over them.')
  eval_batch_size: int = tunable(1000, 'Samples of an eval batch.')
  max_samples: int = tunable(
    6_000_000, 'The run ends here if the target is not met.'
  )
  evaluated_on: str = fixed(
    'held_out',
    'held_out: articles of their own. first: the first training samples.',
    valid=one_of('held_out', 'first'),
  )
  eval_slope: float = fixed(
    230.23,
    'Samples between evals: eval_share of eval_slope times the batch, and '
    'eval_offset, rounded down to a multiple of eval_multiple.',
    valid=NOT_NEGATIVE,
  )
  eval_offset: int = fixed(3_000_000, 'See eval_slope.')
  eval_share: float = fixed(0.05, 'See eval_slope.')
  eval_multiple: int = fixed(25_000, 'See eval_slope.')
  first_eval: int = fixed(
    0,
    'Samples before the first eval; 0: as between the others.',
    valid=NOT_NEGATIVE,
  )
  decay_power: float = fixed(1.0, 'Power of the decay of the learning rate.')
  clip_norm: float = fixed(1.0, 'Largest norm of all gradients together.')
  dropout: float = fixed(0.1, 'Dropout rate in training.', valid=BELOW_ONE)
  length: int = fixed(512, 'Tokens of a sample, at most.')
  predictions: int = fixed(76, 'Tokens of a sample to predict, at most.')
  vocabulary: int = fixed(30_522, 'Tokens of the vocabulary.')
  layers: int = fixed(24, 'Layers of the encoder.')
  width: int = fixed(1024, 'Width of a token inside the model.')
  heads: int = fixed(16, 'Heads of attention.', valid=divisor_of('width'))
  ffn: int = fixed(4096, 'Hidden units of the feed-forward layers.')

  # The rules want places in samples under the key of epochs.
  place_key = 'epoch_num'

  @property
  def samples_between_evals(self) -> int:
    """Samples from one eval to the next, before they are whole batches."""
    return cadence.samples_between_evals(self)


V07 = dataclasses.replace(
  Hparams(),
  evaluated_on='first',
  # 500,000 samples whatever the batch, after the first 3 million.
  eval_slope=0.0,
  eval_offset=10_000_000,
  eval_multiple=500_000,
  first_eval=3_000_000,
)
TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=32,
  base_learning_rate=8e-3,
  training_steps=1600,
  eval_batch_size=200,
  max_samples=40_000,
  eval_slope=0.0,
  eval_offset=80_000,
  eval_multiple=4000,
  dropout=0.0,
  length=128,
  predictions=20,
  vocabulary=290,
  layers=2,
  width=64,
  heads=4,
  ffn=256,
)

# The rules' train_samples are those that a run plans to train on. How many
# there are is not published: about 155 million.
_PLANNED = 6_000_000
_WIKIPEDIA = DataSet(
  wikipedia.NAME, train_samples=_PLANNED, eval_samples=wikipedia.EVAL
)
_CHECKPOINT = Start('bert_start')

BENCHMARK = Benchmark(
  name='bert',
  runs=10,
  dropped=1,
  draft=True,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.72}),
      ruleset='5.0.0',
      data=_WIKIPEDIA,
      start=_CHECKPOINT,
    ),
    'v0.7': Size(
      hparams=V07,
      target=Target(at_least={METRIC: 0.712}),
      ruleset='0.7.0',
      data=_WIKIPEDIA,
      start=_CHECKPOINT,
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.46}),
      ruleset='podium-tiny-1',
      data=DataSet('articles', train_samples=19_105, eval_samples=1000),
      start=Start('articles_start'),
    ),
  },
)
