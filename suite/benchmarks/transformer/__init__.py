"""Transformer big on WMT17, English to German: translation."""

import dataclasses

from input_pipelines import translation
from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  ADAM,
  BELOW_ONE,
  NOT_NEGATIVE,
  POSITIVE,
  RISING,
  Rule,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  divisor_of,
  epochs_between_evals,
  fixed,
  one_of,
  tunable,
  warmup_steps,
)
from suite.target import Target

METRIC = 'BLEU'

_METHOD = {'method': lambda hp: hp.length_method}
_ROW = Rule(
  'positive and, with packing, max_sequence_length or more',
  lambda value, hp: (
    value > 0 and (hp.batching != 'packing' or value >= hp.max_sequence_length)
  ),
)
_LENGTHS = Rule(
  'one length or more, positive and rising',
  lambda value, hp: bool(value) and RISING.allows(value, hp),
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's: 4096 tokens a step, as for one GPU.

  Rules of rounds v0.6 and v0.7, which leave batch size, learning rate, warmup,
  betas and the treatment of long sentences free; reference: mlcommons/training,
  retired_benchmarks/transformer/tensorflow.
  """

  global_batch_size: int = tunable(
    4096,
    'Tokens per side and step, at most, padding included.',
    key='global_batch_size',
  )
  opt_name: str = tunable(
    'adam',
    'Optimizer: adam or lazy_adam; with one matrix for all, they are the same.',
    key='opt_name',
    valid=one_of('adam', 'lazy_adam'),
  )
  base_learning_rate: float = base_learning_rate(
    2.0, 'Learning rate, before the roots of width and step divide it.'
  )
  warmup_steps: int = warmup_steps(
    16000, 'Steps until the learning rate is highest.'
  )
  beta_1: float = ADAM.beta(1, 0.9)
  beta_2: float = ADAM.beta(2, 0.997)
  epsilon: float = ADAM.epsilon(1e-9, fixed)
  max_sequence_length: int = tunable(
    256,
    'Tokens per side of a training pair, at most.',
    key='max_sequence_length',
    beside=_METHOD,
  )
  length_method: str = tunable(
    'discard',
    'Treatment of longer pairs in training: discard or truncate.',
    valid=one_of('discard', 'truncate'),
  )
  batching: str = tunable(
    'buckets',
    'buckets: pairs of similar length form a batch. packing: pairs share rows.',
    valid=one_of('buckets', 'packing'),
  )
  bucket_first: int = tunable(
    8, 'The first bucket holds pairs shorter than this.'
  )
  bucket_scale: float = tunable(
    1.1,
    'Ratio of the lengths at which a bucket and the one before it end.',
    valid=Rule('1 or more', lambda value, _: value >= 1),
  )
  packed_row_length: int = tunable(
    256, 'Tokens per side of a row that pairs share.', valid=_ROW
  )
  row_multiple: int = tunable(
    1,
    'Trained rows per step are rounded down to a multiple of this.',
  )
  gradient_accumulation_steps: int = accumulation_steps(POSITIVE)
  compute_dtype: str = compute_dtype(
    'Format of products; parameters, softmax and logits stay float32.'
  )
  remat: bool = tunable(
    False,
    'Recompute layers for gradients, to save memory.',
  )
  unroll: int = tunable(1, 'Layers per iteration of the loop over them.')
  subword_multiple: int = tunable(
    1,
    'Rows of the matrix are padded to a multiple of this, for a model axis.',
  )
  epochs_between_evals: int = epochs_between_evals(1)
  max_epochs: int = tunable(10, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(32, 'Sentences that are translated together.')
  eval_lengths: tuple[int, ...] = tunable(
    (32, 64, 128, 256),
    'Lengths, in tokens, that eval batches are padded to; the last holds all.',
    valid=_LENGTHS,
  )
  beams: int = fixed(4, 'Width of the beam search.')
  length_exponent: float = fixed(
    0.6,
    'Exponent of the length penalty in the beam search.',
    valid=NOT_NEGATIVE,
  )
  extra_length: int = fixed(
    50,
    'Tokens by which a translation may exceed the longest source.',
    valid=NOT_NEGATIVE,
  )
  dropout: float = fixed(0.1, 'Dropout rate in training.', valid=BELOW_ONE)
  label_smoothing: float = fixed(
    0.1,
    'Share of a label that is spread over the other subwords.',
    valid=BELOW_ONE,
  )
  subwords: int = fixed(
    33708, 'Size of the vocabulary, with padding and the end.'
  )
  layers: int = fixed(6, 'Layers of the encoder, and as many of the decoder.')
  width: int = fixed(1024, 'Width of a token inside the model.')
  heads: int = fixed(16, 'Heads of attention.', valid=divisor_of('width'))
  ffn: int = fixed(4096, 'Hidden units of the feed-forward layers.')


@dataclasses.dataclass(frozen=True)
class HparamsV06(Hparams):
  """Hyperparameters by the rules of round v0.6, with a choice of betas."""

  beta_1: float = ADAM.beta(1, 0.9, rule=one_of(0.86, 0.9))
  beta_2: float = ADAM.beta(2, 0.997, rule=one_of(0.92, 0.98, 0.997))


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=1024,
  base_learning_rate=0.8,
  warmup_steps=200,
  beta_2=0.98,
  max_sequence_length=31,
  bucket_first=20,
  bucket_scale=1.6,
  row_multiple=8,
  max_epochs=8,
  eval_batch_size=200,
  eval_lengths=(32,),
  extra_length=10,
  subwords=602,
  layers=2,
  width=96,
  heads=4,
  ffn=256,
)

# All pairs, and what is translated, which is the same in both rounds.
_WMT17 = DataSet(
  translation.NAME,
  train_samples=translation.PAIRS['train'],
  eval_samples=translation.PAIRS['test'],
)

BENCHMARK = Benchmark(
  name='transformer',
  runs=10,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.25}),
      ruleset='0.7.0',
      data=_WMT17,
    ),
    # Official logs of that round have a format of their own, so this is ours.
    'v0.6': Size(
      hparams=HparamsV06(),
      target=Target(at_least={METRIC: 0.25}),
      ruleset='podium-transformer-v0.6',
      round='v0.6',
      data=_WMT17,
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.875}),
      ruleset='podium-tiny-1',
      data=DataSet('phrases', train_samples=5000, eval_samples=600),
    ),
  },
)
