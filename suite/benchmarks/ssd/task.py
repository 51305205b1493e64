"""SSD as a task: its loss and schedule, photos with boxes, AP of COCO."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.coco import read as coco
from input_pipelines.coco import sampled_crop
from input_pipelines.reading import batching, dataset
from models import ssd
from models.parts import anchors
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.ssd import EPOCHS, ITERATION, METRIC, Hparams
from suite.metrics import coco as metric
from suite.run import blocks
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, State, batch_spec

_RATIOS = (2, 3)  # of default boxes: the first of them, or both


class SSDTask(SupervisedTask):
  """Detection of objects; AP over all held-out photos."""

  def __init__(self, hp: Hparams, data: DataSet):
    """Raises ValueError where the maps do not fit the image."""
    size = size_of(hp)
    self._anchors = anchors.default_boxes(
      ssd.cells(size, hp.image_size),
      image=hp.image_size,
      steps=hp.box_steps,
      scales=hp.box_scales,
      ratios=[_RATIOS[:count] for count in hp.box_ratios],
    )
    super().__init__(
      hp,
      data,
      Functional.of(
        lambda rngs: ssd.SSD(
          size,
          bn_span=hp.model_bn_span,
          dtype=jnp.dtype(hp.compute_dtype),
          rngs=rngs,
        )
      ),
    )
    self.optimizer = optimizer(hp, data.train_samples)
    self.partition_rules = ssd.PARTITION_RULES
    self.given = ('^(params|stats)/backbone/',)
    self.parts = hp.gradient_accumulation_steps
    self.row_group = hp.model_bn_span
    self.reads = ('threads', 'processes', 'skips')
    self.tensors = ssd.tensor_names(size)
    scale = 1 / hp.centre_variance, 1 / hp.size_variance
    self._coding = ssd.Coding(scale, hp.match_threshold, hp.negatives)
    self._choice = ssd.Choice(
      scale,
      hp.score_threshold,
      hp.nms_threshold,
      hp.class_detections,
      hp.image_detections,
    )
    how = self._preprocessing = coco.Preprocessing(
      hp.image_size,
      hp.most_boxes,
      sampled_crop.Augmentation(
        max_samples=hp.max_samples,
        flip=hp.flip_probability,
        brightness=hp.brightness,
        contrast=hp.contrast,
        saturation=hp.saturation,
        hue=hp.hue,
      ),
    )
    self.train_specs = [batch_spec(hp.global_batch_size, **how.train_fields)]
    self.eval_specs = [batch_spec(hp.eval_batch_size, **how.eval_fields)]

  def values(self, spec):
    """See Task."""
    return {
      'image': Values(0, 256),
      'boxes': Values(0.0, 1.0),
      'labels': Values(0, self._hp.classes),
      'size': Values(1, 641),
      'id': Values(0, self._data.eval_samples),
    }

  def fitted(self, rows):
    """See Task; the upper left corner of a box is the first one."""
    if 'boxes' not in rows:
      return rows
    corners = rows['boxes'].reshape(*rows['boxes'].shape[:-1], 2, 2)
    boxes = np.sort(corners, axis=-2).reshape(rows['boxes'].shape)
    return {**rows, 'boxes': boxes}

  def loss(self, params, stats, batch, key):
    """Mean over images of the loss over the matches of each; see Task."""
    del key  # nothing random inside the model
    (codes, logits), stats = self._model.apply(
      params, stats, _normalised(batch['image']), train=True
    )
    rows = ssd.row_losses(
      codes,
      logits,
      batch['boxes'],
      batch['labels'],
      anchors=jnp.asarray(self._anchors),
      how=self._coding,
    )
    weight = batch['weight']
    loss = jnp.sum(rows * weight) / jnp.maximum(weight.sum(), 1.0)
    return loss, (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> detections of each image, in its own pixels: x y width height."""
    (codes, logits), _ = self._model.apply(
      state.params, state.stats, _normalised(batch['image']), train=False
    )
    found = ssd.detect(
      codes, logits, anchors=jnp.asarray(self._anchors), how=self._choice
    )
    return {
      'id': batch['id'],
      'weight': batch['weight'],
      'boxes': in_pixels(found.boxes, batch['size']),
      'scores': found.scores,
      'labels': found.labels,
    }

  def blocks(self, facts) -> list[blocks.Block]:
    """Blocks that end at evals; see Task."""
    del facts
    return blocks_of(self._hp, self._data.train_samples)

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    coco.verify(
      directory,
      with_objects={
        'train': self._data.train_samples,
        'validation': self._data.eval_samples,
      },
      classes=self._hp.classes - 1,
      most_boxes=self._hp.most_boxes,
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """Reads what is to be found, where evals are scored; see Task."""
    del facts
    hp, directory = self._hp, data.directory
    reading = data.reading or batching.DEFAULT_READING
    validation = coco.slice_with_objects(directory, 'validation')
    how = {'preprocessing': self._preprocessing, **data.share}
    # An eval comes and goes too fast for worker processes of its own.
    threads = batching.Reading(reading.threads)
    return _Feed(
      coco.train_batches(
        coco.slice_with_objects(directory, 'train'),
        batch_size=hp.global_batch_size,
        seed=data.seed,
        first_step=data.first_step,
        reading=reading,
        **how,
      ),
      lambda: coco.eval_batches(
        validation, batch_size=hp.eval_batch_size, reading=threads, **how
      ),
      data.put,
      first_step=data.first_step,
      images=self._data.eval_samples,
      truth=_truth(directory) if data.host == 0 else None,
    )


class _Feed(SupervisedFeed):
  """Scores detections on the first host, which alone knows the truth."""

  def __init__(self, *how, images: int, truth: metric.Objects | None, **more):
    super().__init__(*how, **more)
    self._images, self._truth = images, truth

  def score(self, predictions, maker):
    """See Feed."""
    found = metric.gathered(predictions, images=self._images)
    value = 0.0 if self._truth is None else metric.box_ap(self._truth, found)
    return {METRIC: float(maker.total([value])[0])}


def size_of(hp: Hparams) -> ssd.Size:
  """The net that hyperparameters describe."""
  return ssd.Size(
    blocks=hp.stage_blocks,
    widths=hp.stage_widths,
    strides=hp.stage_strides,
    between=hp.map_between,
    channels=hp.map_channels,
    map_strides=hp.map_strides,
    shapes=tuple(2 + 2 * count for count in hp.box_ratios),
    classes=hp.classes,
  )


def in_pixels(boxes: jax.Array, size: jax.Array) -> jax.Array:
  """Corners [N, D, 4] in images -> x y width height in pixels.

  `size` [N, 2] is height and width of each image.
  """
  low, high = boxes[..., :2], boxes[..., 2:]
  sides = jnp.tile(size[:, ::-1].astype(jnp.float32), 2)
  return jnp.concatenate([low, high - low], axis=-1) * sides[:, None]


def optimizer(hp: Hparams, samples: int) -> optax.GradientTransformation:
  """SGD as PyTorch has it, for epochs of so many samples."""
  schedule = stepped(
    base=hp.base_learning_rate,
    warmup_steps=hp.warmup_steps,
    warmup_factor=hp.warmup_factor,
    boundaries=[step_of(hp, samples, place) for place in hp.decay_places],
    decay_factor=hp.decay_factor,
  )
  return optax.chain(
    optax.add_decayed_weights(hp.weight_decay),
    optax.sgd(schedule, hp.momentum),
  )


def blocks_of(hp: Hparams, samples: int) -> list[blocks.Block]:
  """Blocks that end at evals, of epochs of so many samples."""
  rows = hp.global_batch_size
  if hp.places == EPOCHS:
    evenly = range(hp.eval_every, hp.max_epochs + 1, hp.eval_every)
    return blocks.after_epochs(
      hp.eval_places or evenly, samples=samples, rows=rows
    )
  ends = (step_of(hp, samples, place) for place in hp.eval_places)
  return blocks.between(
    blocks.End(step * rows / samples, step, step * rows) for step in ends
  )


def step_of(hp: Hparams, samples: int, place: int) -> int:
  """The first step after a place of decays or evals."""
  each = samples if hp.places == EPOCHS else ITERATION
  return -(-place * each // hp.global_batch_size)


def stepped(
  *,
  base: float,
  warmup_steps: int,
  warmup_factor: int,
  boundaries: Sequence[int],
  decay_factor: float,
) -> optax.Schedule:
  """A line up to nearly `base`, then down by a factor at each boundary.

      warm-up  rate (1 - (warmup_steps - step) / (warmup_steps 2^factor))

  Steps count from 0. The rate that the warm-up ends with stays until the next
  boundary: the reference (train.py: lr_warmup) sets none in between, so the
  highest rate is a little below `base`.
  """

  def decayed(step):
    past = sum((step >= boundary).astype(jnp.int32) for boundary in boundaries)
    return base * decay_factor**past

  def schedule(count):
    step = jnp.asarray(count)
    if not warmup_steps:
      return jnp.asarray(decayed(step), jnp.float32)
    warm = jnp.minimum(step, warmup_steps - 1)
    missing = (warmup_steps - warm) / (warmup_steps * 2.0**warmup_factor)
    rate, warming = decayed(step), decayed(warm)
    stays = rate == warming  # no boundary since
    return jnp.asarray(jnp.where(stays, warming * (1 - missing), rate),
                       jnp.float32)  # fmt: skip

  return schedule


def _normalised(images: jax.Array) -> jax.Array:
  """uint8 [N, S, S, 3] -> float32, less the mean, over the deviation."""
  mean, deviation = (
    jnp.asarray(each, jnp.float32).reshape(1, 1, 1, 3)
    for each in (coco.MEAN_RGB, coco.STDDEV_RGB)
  )
  return (images.astype(jnp.float32) / 255 - mean) / deviation


def _truth(directory: str) -> metric.Objects:
  found = coco.ground_truth(dataset.Split(directory, 'validation'))
  return metric.Objects(
    image=found.image,
    label=found.label,
    box=found.box,
    area=found.area,
    crowd=found.crowd,
  )


make_task = SSDTask
