"""GNMT on WMT16, English to German: translation by LSTMs with attention."""

import dataclasses

from input_pipelines import translation
from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  ADAM,
  BELOW_ONE,
  NOT_NEGATIVE,
  RISING,
  Rule,
  Scales,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  epochs_between_evals,
  fixed,
  one_of,
  tunable,
  warmup_steps,
)
from suite.target import Target

METRIC = 'BLEU'

_LENGTHS = Rule(
  'one length or more, positive and rising',
  lambda value, hp: bool(value) and RISING.allows(value, hp),
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's, as for one GPU.

  Rules of rounds v0.6 and v0.7, which leave batch size, learning rate and its
  schedule, and the longest pair free; reference: mlcommons/training,
  retired_benchmarks/gnmt/pytorch. It states the schedule by parts of 8 epochs:
  0.666 of them before the first decay, and a quarter of the rest from one to
  the next.
  """

  global_batch_size: int = tunable(
    128, 'Sentence pairs per step.', key='global_batch_size'
  )
  base_learning_rate: float = base_learning_rate(
    1e-3, 'Learning rate after the warmup and before the first decay.'
  )
  alt_warmup: bool = tunable(
    True,
    'Warm up, from a hundredth of the rate by equal factors.',
    key='opt_learning_rate_alt_warmup_func',
  )
  warmup_steps: int = warmup_steps(
    200, 'Steps of the warmup.', valid=NOT_NEGATIVE
  )
  alt_decay: bool = tunable(
    True,
    'Decay the rate from remain_steps on; else it stays.',
    key='opt_learning_rate_alt_decay_func',
  )
  remain_steps: int = tunable(
    145_598,
    'Steps before the first decay.',
    key='opt_learning_rate_remain_steps',
    scales=Scales.STEPS,
  )
  decay_interval: int = tunable(
    18_254,
    'Steps from one decay to the next.',
    key='opt_learning_rate_decay_interval',
    scales=Scales.STEPS,
  )
  decay_factor: float = fixed(
    0.5, 'Factor of each decay.', key='opt_learning_rate_decay_factor'
  )
  decay_steps: int = fixed(
    4, 'Decays, at most.', key='opt_learning_rate_decay_steps'
  )
  beta_1: float = ADAM.beta(1, 0.9, fixed)
  beta_2: float = ADAM.beta(2, 0.999, fixed)
  epsilon: float = ADAM.epsilon(1e-8, fixed)
  clip_norm: float = fixed(
    5.0,
    'Norm of all gradients together, at most.',
    key='opt_gradient_clip_norm',
  )
  max_sequence_length: int = tunable(
    50,
    'Tokens per side of a training pair, at most; others are left out.',
    key='max_sequence_length',
    beside={'method': lambda hp: 'discard'},
  )
  buckets: int = fixed(5, 'Ranges of lengths, equally wide; a batch is of one.')
  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Format of products; parameters, gates, softmax and logits stay float32.'
  )
  remat: bool = tunable(
    False, 'Recompute gates of LSTMs for gradients, to save memory.'
  )
  unroll: int = tunable(1, 'Tokens per iteration of the loop over them.')
  lstm_kernel: str = tunable(
    'scan',
    'scan, or cudnn: the kernel of NVIDIA, for one GPU and float32.',
    valid=one_of('scan', 'cudnn'),
  )
  epochs_between_evals: int = epochs_between_evals(1)
  max_epochs: int = tunable(8, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(128, 'Sentences that are translated together.')
  eval_lengths: tuple[int, ...] = tunable(
    (32, 64, 96, 150),
    'Lengths, in tokens, that eval batches are padded to; the last holds all.',
    valid=_LENGTHS,
  )
  beams: int = fixed(5, 'Width of the beam search.')
  length_exponent: float = fixed(
    0.6,
    'Exponent of the length penalty in the beam search.',
    valid=NOT_NEGATIVE,
  )
  coverage_factor: float = fixed(
    0.1,
    'Weight of the coverage penalty in the beam search.',
    valid=NOT_NEGATIVE,
  )
  longest_translation: int = fixed(
    149, 'Tokens of a translation, its end included, at most.'
  )
  dropout: float = fixed(
    0.2, 'Share of inputs to LSTMs dropped in training.', valid=BELOW_ONE
  )
  label_smoothing: float = fixed(
    0.1,
    'Share of a label that is spread over all subwords.',
    valid=BELOW_ONE,
  )
  subwords: int = fixed(
    32_320, 'Size of the vocabulary, with made-up words up to a multiple of 8.'
  )
  layers: int = fixed(4, 'Layers of the encoder, and as many of the decoder.')
  width: int = fixed(1024, 'Width of an LSTM.')
  start_range: float = fixed(
    0.1, 'Largest parameter at the start; all are as likely up to it.'
  )


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=64,
  base_learning_rate=4e-3,
  warmup_steps=50,
  remain_steps=450,
  decay_interval=60,
  max_sequence_length=30,
  buckets=2,
  max_epochs=9,
  eval_batch_size=200,
  eval_lengths=(30,),
  longest_translation=40,
  subwords=552,
  layers=3,
  width=64,
  start_range=0.4,
)

# Pairs of up to 50 tokens a side, and what is translated.
_WMT16 = DataSet(
  translation.NAME_16,
  train_samples=translation.PAIRS_16['train'],
  eval_samples=translation.PAIRS_16['test'],
)

BENCHMARK = Benchmark(
  name='gnmt',
  runs=10,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.24}),
      ruleset='0.7.0',
      data=_WMT16,
    ),
    # Official logs of these rounds have formats of their own: these are ours.
    'v0.6': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.24}),
      ruleset='podium-gnmt-v0.6',
      round='v0.6',
      data=_WMT16,
    ),
    'v0.5': Size(
      hparams=dataclasses.replace(
        Hparams(), base_learning_rate=5e-4, alt_warmup=False, alt_decay=False
      ),
      target=Target(at_least={METRIC: 0.218}),
      ruleset='podium-gnmt-v0.5',
      round='v0.5',
      data=_WMT16,
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.6}),
      ruleset='podium-tiny-1',
      data=DataSet('phrases_bpe', train_samples=5000, eval_samples=600),
    ),
  },
)
