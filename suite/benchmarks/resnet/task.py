"""ResNet-50 as a task: its loss, its optimizers, images of ImageNet."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.imagenet import read as imagenet
from input_pipelines.reading import batching, dataset
from models import resnet
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.resnet import Hparams
from suite.metrics import mean
from suite.run import blocks, optimizers
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, State, batch_spec


class ResNetTask(SupervisedTask):
  """Label-smoothed classification; accuracy over every held-out image."""

  def __init__(self, hp: Hparams, data: DataSet):
    self._steps_per_epoch = max(1, data.train_samples // hp.global_batch_size)
    size = resnet.Size(hp.stage_blocks, hp.stage_width, hp.classes)
    model = Functional.of(
      lambda rngs: resnet.ResNet(
        size,
        bn_span=hp.model_bn_span,
        dtype=jnp.dtype(hp.compute_dtype),
        rngs=rngs,
      )
    )
    super().__init__(hp, data, model)
    self.optimizer = self._optimizer()
    self.partition_rules = resnet.PARTITION_RULES
    self.parts = hp.gradient_accumulation_steps
    self.row_group = hp.model_bn_span
    self.reads = ('threads', 'processes', 'skips')
    image = (np.uint8, hp.image_size, hp.image_size, 3)
    self.train_specs, self.eval_specs = (
      [batch_spec(rows, image=image, label=np.int32)]
      for rows in (hp.global_batch_size, hp.eval_batch_size)
    )

  def values(self, spec):
    """See Task."""
    return {'image': Values(0, 256), 'label': Values(0, self._hp.classes)}

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

  def _accuracy(self, predictions: Iterable[PyTree]) -> dict[str, float]:
    """Top-1 accuracy, a fraction; RuntimeError unless every image was seen."""
    accuracy = mean.over_examples(
      predictions,
      'correct',
      'seen',
      examples=self._data.eval_samples,
      what='images',
    )
    return {'accuracy': accuracy}

  def blocks(self, facts) -> list[blocks.Block]:
    """Blocks that end at evals; see Task."""
    del facts
    hp = self._hp
    return blocks.after_epochs(
      range(hp.eval_offset + 1, hp.max_epochs + 1, hp.epochs_between_evals),
      samples=self._data.train_samples,
      rows=hp.global_batch_size,
    )

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    imagenet.verify(
      directory,
      splits={
        'train': self._data.train_samples,
        'validation': self._data.eval_samples,
      },
      classes=self._hp.classes,
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """See Task."""
    del facts
    hp, directory = self._hp, data.directory
    reading = data.reading or batching.DEFAULT_READING
    validation = dataset.Split(directory, 'validation')
    how = {'preprocessing': _preprocessing(hp), **data.share}
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
      score=self._accuracy,
      first_step=data.first_step,
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
  rgb = jnp.asarray(imagenet.MEAN_RGB, jnp.float32)
  return batch['image'].astype(jnp.float32) - rgb.reshape(1, 1, 1, 3)


make_task = ResNetTask
