"""ResNet-50 v1.5 on ImageNet-1k: image classification."""

import dataclasses
import math

from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  BELOW_ONE,
  NOT_NEGATIVE,
  SHARE,
  Rule,
  Scales,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  divisor_of,
  fixed,
  one_of,
  tunable,
)
from suite.target import Target


def _per_optimizer(name: str):
  """The log key of a value that both optimizers have, under the chosen one."""
  return lambda hp: f'{hp.opt_name}_{name}'


def _multiple(step: float, hp_optimizer: str) -> Rule:
  text = f'a multiple of {step:g} with {hp_optimizer}'

  def allows(value, hp):
    ratio = value / step
    return hp.opt_name != hp_optimizer or (
      math.isclose(ratio, round(ratio), abs_tol=1e-6)
    )

  return Rule(text, allows)


def _power_of_two_times(unit: float) -> Rule:
  def allows(value, _):
    return value > 0 and math.log2(value / unit).is_integer()

  return Rule(f'{unit:g} times a power of two', allows)


_MOMENTUM = Rule(
  '0.9 (any with lars from batch 32768 on)',
  lambda value, hp: (
    value == 0.9 or (hp.opt_name == 'lars' and hp.global_batch_size >= 32768)
  ),
)
_PARTS = Rule(
  'a divisor of global_batch_size over model_bn_span',
  lambda value, hp: (
    value > 0 and hp.global_batch_size % (value * hp.model_bn_span) == 0
  ),
)
_FIRST = Rule(
  '0 or more and below epochs_between_evals and max_epochs',
  lambda value, hp: 0 <= value < min(hp.epochs_between_evals, hp.max_epochs),
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's recipe for a batch of 4096, with LARS.

  Rules of rounds v0.7 to v4.0; reference: mlcommons/training,
  retired_benchmarks/resnet-tf2.
  """

  global_batch_size: int = tunable(
    4096, 'Images per step.', key='global_batch_size'
  )
  opt_name: str = tunable(
    'lars',
    'Optimizer: lars or sgd.',
    key='opt_name',
    valid=one_of('lars', 'sgd'),
  )
  base_learning_rate: float = base_learning_rate(
    10.0,
    'Learning rate at the end of the warm-up.',
    key=_per_optimizer('opt_base_learning_rate'),
    valid=NOT_NEGATIVE,
    rule=_multiple(0.001, 'sgd'),
  )
  end_learning_rate: float = fixed(
    1e-4,
    'Learning rate at the end of the decay.',
    key=_per_optimizer('opt_end_learning_rate'),
    valid=NOT_NEGATIVE,
  )
  decay_power: int = fixed(
    2,
    'Power of the polynomial decay.',
    key=_per_optimizer('opt_learning_rate_decay_poly_power'),
  )
  # 42 epochs of 312 steps, less 5 of warm-up, and one: the reference's figure.
  decay_steps: int = tunable(
    11545,
    'Steps from the end of the warm-up to the end of the decay.',
    key=_per_optimizer('opt_learning_rate_decay_steps'),
    valid=NOT_NEGATIVE,
    scales=Scales.STEPS,
  )
  warmup_epochs: int = tunable(
    5,
    'Epochs, of whole steps, of linear warm-up from 0.',
    key=lambda hp: (
      ('lars_' if hp.opt_name == 'lars' else '')
      + 'opt_learning_rate_warmup_epochs'
    ),
    valid=NOT_NEGATIVE,
  )
  momentum: float = tunable(
    0.9,
    'Momentum.',
    key=_per_optimizer('opt_momentum'),
    valid=BELOW_ONE,
    rule=_MOMENTUM,
  )
  weight_decay: float = tunable(
    2e-4,
    'Weight decay.',
    key=_per_optimizer('opt_weight_decay'),
    valid=NOT_NEGATIVE,
    rule=_power_of_two_times(1e-4),
  )
  lars_epsilon: float = fixed(
    0.0,
    'As the rules log it; 0 means 1e-7, as in the reference.',
    key=lambda hp: 'lars_epsilon' if hp.opt_name == 'lars' else None,
    valid=NOT_NEGATIVE,
  )
  label_smoothing: float = tunable(
    0.1,
    'Share of the label spread over all classes.',
    valid=BELOW_ONE,
    rule=one_of(0.0, 0.1),
  )
  model_bn_span: int = tunable(
    64,
    'Images whose statistics batch norm shares.',
    # The official rules want the key with sgd only.
    key=lambda hp: (
      'model_bn_span' if hp.opt_name == 'sgd' else 'podium_model_bn_span'
    ),
    valid=divisor_of('global_batch_size'),
    scales=Scales.DIVISOR,
  )
  gradient_accumulation_steps: int = accumulation_steps(_PARTS)
  compute_dtype: str = compute_dtype(
    'Format of activations and products; parameters stay float32.'
  )
  epochs_between_evals: int = fixed(4, 'Epochs from one eval to the next.')
  eval_offset: int = tunable(
    2, 'The first eval comes after this many epochs and one.', valid=_FIRST
  )
  max_epochs: int = tunable(50, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(1024, 'Images per eval step.')
  stage_blocks: tuple[int, ...] = fixed((3, 4, 6, 3), 'Bottlenecks per stage.')
  stage_width: int = fixed(64, 'Width of the first stage; it doubles.')
  classes: int = fixed(1000, 'Classes, the number of logits.')
  image_size: int = fixed(224, 'Height and width that the model sees.')
  resize_size: int = fixed(
    256,
    'Shorter side before the eval crop.',
    valid=Rule('image_size or more', lambda value, hp: value >= hp.image_size),
  )
  crop_area_min: float = fixed(
    0.05,
    'Smallest share of an image in a crop.',
    valid=Rule(
      'positive and up to crop_area_max',
      lambda value, hp: 0 < value <= hp.crop_area_max,
    ),
  )
  crop_area_max: float = fixed(
    1.0, 'Largest share of an image in a crop.', valid=SHARE
  )
  crop_aspect_min: float = fixed(
    0.75,
    'Narrowest crop, width over height.',
    valid=Rule(
      'positive and up to crop_aspect_max',
      lambda value, hp: 0 < value <= hp.crop_aspect_max,
    ),
  )
  crop_aspect_max: float = fixed(1.33, 'Widest crop, width over height.')
  flip_probability: float = fixed(
    0.5, 'Chance that a crop is mirrored.', valid=SHARE
  )


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=128,
  base_learning_rate=5.0,
  decay_steps=620,
  warmup_epochs=2,
  model_bn_span=32,
  epochs_between_evals=1,
  eval_offset=0,
  max_epochs=26,
  eval_batch_size=256,
  stage_blocks=(1, 1, 1, 1),
  stage_width=16,
  classes=10,
  image_size=28,
  resize_size=32,
  crop_area_min=0.5,
  flip_probability=0.0,
)

BENCHMARK = Benchmark(
  name='resnet',
  runs=5,
  dropped=1,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={'accuracy': 0.759}),
      ruleset='4.0.0',
      data=DataSet('imagenet2012', train_samples=1281167, eval_samples=50000),
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={'accuracy': 0.982}),
      ruleset='podium-tiny-1',
      data=DataSet('digits', train_samples=4000, eval_samples=1000),
    ),
  },
)
