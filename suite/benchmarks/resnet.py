"""ResNet-50 v1.5 on ImageNet-1k: image classification."""

from collections.abc import Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines import batching, dataset, imagenet
from models import resnet
from models.functional import Functional
from suite import optimizers
from suite.benchmark import Benchmark, DataSet, Size
from suite.feed import Block, Data, Feed, SupervisedFeed
from suite.hparams import (
  POSITIVE,
  Rule,
  accumulation_steps,
  compute_dtype,
  fixed,
  one_of,
  require_positive,
  tunable,
)
from suite.metrics import share
from suite.target import Target
from suite.task import Batch, PyTree, State, Task


def _per_optimizer(name: str):
  """The log key of a value that both optimizers have, under the chosen one."""
  return lambda hp: f'{hp.opt_name}_{name}'


def _multiple(step: float, hp_optimizer: str) -> Rule:
  text = f'a multiple of {step:g} with {hp_optimizer}'

  def allows(value, hp):
    ratio = value / step
    return hp.opt_name != hp_optimizer or (
      value >= 0 and math.isclose(ratio, round(ratio), abs_tol=1e-6)
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
_NOT_NEGATIVE = Rule('zero or more', lambda value, _: value >= 0)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's recipe for a batch of 4096, with LARS.

  Rules of rounds v0.7 to v4.0; reference: mlcommons/training,
  retired_benchmarks/resnet-tf2.
  """

  global_batch_size: int = tunable(
    4096, 'Images per step.', key='global_batch_size', rule=POSITIVE
  )
  opt_name: str = tunable(
    'lars',
    'Optimizer: lars or sgd.',
    key='opt_name',
    rule=one_of('lars', 'sgd'),
  )
  base_learning_rate: float = tunable(
    10.0,
    'Learning rate at the end of the warm-up.',
    key=_per_optimizer('opt_base_learning_rate'),
    rule=_multiple(0.001, 'sgd'),
  )
  end_learning_rate: float = fixed(
    1e-4,
    'Learning rate at the end of the decay.',
    key=_per_optimizer('opt_end_learning_rate'),
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
    rule=_NOT_NEGATIVE,
  )
  warmup_epochs: int = tunable(
    5,
    'Epochs, of whole steps, of linear warm-up from 0.',
    key=lambda hp: (
      ('lars_' if hp.opt_name == 'lars' else '')
      + 'opt_learning_rate_warmup_epochs'
    ),
    rule=_NOT_NEGATIVE,
  )
  momentum: float = tunable(
    0.9, 'Momentum.', key=_per_optimizer('opt_momentum'), rule=_MOMENTUM
  )
  weight_decay: float = tunable(
    2e-4,
    'Weight decay.',
    key=_per_optimizer('opt_weight_decay'),
    rule=_power_of_two_times(1e-4),
  )
  lars_epsilon: float = fixed(
    0.0,
    'As the rules log it; 0 means 1e-7, as in the reference.',
    key=lambda hp: 'lars_epsilon' if hp.opt_name == 'lars' else None,
  )
  label_smoothing: float = tunable(
    0.1, 'Share of the label spread over all classes.', rule=one_of(0.0, 0.1)
  )
  model_bn_span: int = tunable(
    64,
    'Images whose statistics batch norm shares.',
    # The official rules want the key with sgd only.
    key=lambda hp: (
      'model_bn_span' if hp.opt_name == 'sgd' else 'podium_model_bn_span'
    ),
    rule=POSITIVE,
  )
  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Of activations and products; parameters stay float32.'
  )
  epochs_between_evals: int = fixed(4, 'Epochs from one eval to the next.')
  eval_offset: int = tunable(
    2, 'The first eval comes after this many epochs and one.',
    rule=Rule(
      'less than epochs_between_evals',
      lambda value, hp: 0 <= value < hp.epochs_between_evals,
    ),
  )  # fmt: skip
  max_epochs: int = tunable(50, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(1024, 'Images per eval step.', rule=POSITIVE)
  stage_blocks: tuple[int, ...] = fixed((3, 4, 6, 3), 'Bottlenecks per stage.')
  stage_width: int = fixed(64, 'Width of the first stage; it doubles.')
  classes: int = fixed(1000, 'Classes, the number of logits.')
  image_size: int = fixed(224, 'Height and width that the model sees.')
  resize_size: int = fixed(256, 'Shorter side before the eval crop.')
  crop_area_min: float = fixed(0.05, 'Smallest share of an image in a crop.')
  crop_area_max: float = fixed(1.0, 'Largest share of an image in a crop.')
  crop_aspect_min: float = fixed(0.75, 'Narrowest crop, width over height.')
  crop_aspect_max: float = fixed(1.33, 'Widest crop, width over height.')
  flip_probability: float = fixed(0.5, 'Chance that a crop is mirrored.')


class ResNetTask(Task):
  """Label-smoothed classification; accuracy over every held-out image."""

  def __init__(self, hp: Hparams, data: DataSet):
    """Raises ValueError where the hyperparameters do not fit each other."""
    _require_sound(hp)
    self._hp = hp
    self._data = data
    self._steps_per_epoch = max(1, data.train_samples // hp.global_batch_size)
    size = resnet.Size(hp.stage_blocks, hp.stage_width, hp.classes)
    self._model = Functional.of(
      lambda rngs: resnet.ResNet(
        size,
        bn_span=hp.model_bn_span,
        dtype=jnp.dtype(hp.compute_dtype),
        rngs=rngs,
      )
    )
    self.optimizer = self._optimizer()
    self.partition_rules = resnet.PARTITION_RULES
    self.parts = hp.gradient_accumulation_steps
    self.row_group = hp.model_bn_span
    self.train_specs = [_batch_spec(hp.global_batch_size, hp.image_size)]
    self.eval_specs = [_batch_spec(hp.eval_batch_size, hp.image_size)]

  def init_model(self, key):
    """See Task."""
    return self._model.init(key)

  def loss(self, params, stats, batch, key):
    """Mean cross entropy against smoothed labels, in float32; see Task."""
    del key  # nothing random inside the model
    logits, stats = self._model.apply(params, stats, _pixels(batch), train=True)
    labels = jax.nn.one_hot(batch['label'], self._hp.classes)
    smoothed = optax.smooth_labels(labels, self._hp.label_smoothing)
    loss = optax.softmax_cross_entropy(logits, smoothed).mean()
    return loss, (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> {'correct': [], 'seen': []}, weighted counts of the batch."""
    logits, _ = self._model.apply(
      state.params, state.stats, _pixels(batch), train=False
    )
    hits = jnp.argmax(logits, axis=-1) == batch['label']
    return {
      'correct': jnp.sum(hits * batch['weight']),
      'seen': jnp.sum(batch['weight']),
    }

  def score(self, predictions: Sequence[PyTree]) -> dict[str, float]:
    """Top-1 accuracy, a fraction; RuntimeError unless every image was seen."""
    accuracy = share.of_all(
      predictions,
      'correct',
      'seen',
      examples=self._data.eval_samples,
      what='images',
    )
    return {'accuracy': accuracy}

  def blocks(self) -> list[Block]:
    """Blocks that end at evals, an epoch ending with the step that ends it."""
    hp, blocks, done = self._hp, [], 0
    for last in range(
      hp.eval_offset + 1, hp.max_epochs + 1, hp.epochs_between_evals
    ):
      first = done + 1
      steps = self._steps_until(last) - self._steps_until(done)
      blocks.append(
        Block(
          steps=steps,
          samples=steps * hp.global_batch_size,
          start={'first_epoch_num': first, 'epoch_count': last - done},
          stop={'first_epoch_num': first},
          at={'epoch_num': last},
        )
      )
      done = last
    return blocks

  def verify_data(self, directory: str) -> None:
    """See Task."""
    imagenet.verify(
      directory,
      splits={
        'train': self._data.train_samples,
        'validation': self._data.eval_samples,
      },
      classes=self._hp.classes,
    )

  def open(self, data: Data) -> Feed:
    """See Task."""
    hp, directory = self._hp, data.directory
    reading = data.reading or batching.DEFAULT_READING
    validation = dataset.Split(directory, 'validation')
    how = {
      'preprocessing': _preprocessing(hp),
      'host': data.host,
      'hosts': data.hosts,
    }
    train = imagenet.train_batches(
      dataset.Split(directory, 'train'),
      batch_size=hp.global_batch_size,
      seed=data.seed,
      first_step=data.first_step,
      reading=reading,
      **how,
    )
    # An eval comes and goes too fast for worker processes of its own.
    threads = batching.Reading(reading.threads)
    return SupervisedFeed(
      train,
      lambda: imagenet.eval_batches(
        validation, batch_size=hp.eval_batch_size, reading=threads, **how
      ),
      data.put,
      first_step=data.first_step,
    )

  def _steps_until(self, epoch: int) -> int:
    # Batches may mix the end of one epoch with the start of the next; the
    # rules then want the eval after the mixed batch.
    return math.ceil(
      epoch * self._data.train_samples / self._hp.global_batch_size
    )

  def _optimizer(self) -> optax.GradientTransformation:
    hp = self._hp
    schedule = optimizers.polynomial_warmup(
      base=hp.base_learning_rate,
      end=hp.end_learning_rate,
      power=hp.decay_power,
      warmup_steps=hp.warmup_epochs * self._steps_per_epoch,
      decay_steps=hp.decay_steps,
    )
    if hp.opt_name == 'lars':
      return optimizers.lars(
        schedule,
        weight_decay=hp.weight_decay,
        momentum=hp.momentum,
        epsilon=hp.lars_epsilon or 1e-7,
        skip=resnet.NO_DECAY,
      )
    return optimizers.momentum_sgd(
      schedule,
      momentum=hp.momentum,
      weight_decay=hp.weight_decay,
      skip=resnet.BATCH_NORM,
    )


def _preprocessing(hp: Hparams) -> imagenet.Preprocessing:
  return imagenet.Preprocessing(
    image_size=hp.image_size,
    resize_size=hp.resize_size,
    crop_area=(hp.crop_area_min, hp.crop_area_max),
    crop_aspect=(hp.crop_aspect_min, hp.crop_aspect_max),
    flip_probability=hp.flip_probability,
  )


def _pixels(batch: Batch) -> jax.Array:
  """uint8 [N, H, W, 3] -> float32 less the mean, still on the 0-255 scale."""
  mean = jnp.asarray(imagenet.MEAN_RGB, jnp.float32)
  return batch['image'].astype(jnp.float32) - mean.reshape(1, 1, 1, 3)


def _batch_spec(rows: int, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
  return {
    'image': jax.ShapeDtypeStruct((rows, image_size, image_size, 3), np.uint8),
    'label': jax.ShapeDtypeStruct((rows,), np.int32),
    'weight': jax.ShapeDtypeStruct((rows,), np.float32),
  }


def _require_sound(hp: Hparams) -> None:
  require_positive(
    hp,
    'global_batch_size',
    'model_bn_span',
    'eval_batch_size',
    'gradient_accumulation_steps',
  )
  if hp.global_batch_size % hp.model_bn_span:
    raise ValueError(
      f'model_bn_span {hp.model_bn_span} does not divide '
      f'global_batch_size {hp.global_batch_size}.'
    )
  parts = hp.gradient_accumulation_steps
  if hp.global_batch_size % (parts * hp.model_bn_span):
    raise ValueError(
      f'gradient_accumulation_steps {parts} does not divide global_batch_size '
      f'{hp.global_batch_size} into batch norm groups of model_bn_span '
      f'{hp.model_bn_span}.'
    )
  if hp.opt_name not in ('lars', 'sgd'):
    raise ValueError(f'opt_name must be lars or sgd, not {hp.opt_name!r}.')
  if hp.compute_dtype not in ('float32', 'bfloat16'):
    raise ValueError(
      f'compute_dtype must be float32 or bfloat16, not {hp.compute_dtype!r}.'
    )
  if not 0 <= hp.eval_offset < min(hp.epochs_between_evals, hp.max_epochs):
    raise ValueError(
      f'eval_offset {hp.eval_offset} must be at least 0 and below both '
      f'epochs_between_evals {hp.epochs_between_evals} and '
      f'max_epochs {hp.max_epochs}.'
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
  task=ResNetTask,
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
