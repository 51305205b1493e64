"""Mask R-CNN as a task: its losses and schedule, and AP of boxes and masks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.coco import outlined
from input_pipelines.coco import read as coco
from input_pipelines.reading import batching, dataset
from models.maskrcnn import net, proposals, regions
from models.parts import anchors
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.maskrcnn import BOXES, MASKS, Hparams
from suite.metrics import coco as metric
from suite.metrics import coco_masks
from suite.run import blocks
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.sharding import path_of
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, State, batch_spec

# Of blue, green and red, which the published backbone was trained with.
MEAN_BGR = (102.9801, 115.9465, 122.7717)


class MaskRCNNTask(SupervisedTask):
  """Detection of objects and outlines; AP of both over all held-out photos."""

  def __init__(self, hp: Hparams, data: DataSet):
    size = size_of(hp)
    super().__init__(
      hp,
      data,
      Functional.of(
        lambda rngs: net.MaskRCNN(
          size, dtype=jnp.dtype(hp.compute_dtype), rngs=rngs
        )
      ),
    )
    self.optimizer = optimizer(hp)
    self.partition_rules = net.PARTITION_RULES
    self.frozen = net.FROZEN
    self.given = ('^(params|stats)/backbone/',)
    self.parts = hp.gradient_accumulation_steps
    self.row_group = hp.worker_images
    self.reads = ('threads', 'processes', 'skips')
    self.tensors = net.tensor_names(size)
    self._anchor_draw = proposals.Draw(
      low=hp.anchor_negative,
      high=hp.anchor_positive,
      count=hp.anchor_samples,
      positive=hp.anchor_positive_share,
    )
    self._region_draw = proposals.Draw(
      low=hp.region_positive,
      high=hp.region_positive,
      count=hp.region_samples,
      positive=hp.region_positive_share,
    )
    self._to_train = proposals.Choice(
      hp.train_before_nms,
      hp.train_after_nms,
      hp.num_image_candidates,
      hp.proposal_overlap,
    )
    self._to_eval = proposals.Choice(
      hp.eval_before_nms,
      hp.eval_after_nms,
      hp.eval_proposals,
      hp.proposal_overlap,
    )
    self._choice = regions.Choice(
      hp.score_threshold, hp.nms_threshold, hp.image_detections
    )
    how = self._preprocessing = outlined.Preprocessing(
      hp.min_image_size,
      hp.max_image_size,
      hp.most_objects,
      hp.object_mask_side,
      hp.flip_probability,
    )
    self.train_specs, self.eval_specs = (
      [batch_spec(rows, **fields(wide)) for wide in (True, False)]
      for rows, fields in (
        (hp.global_batch_size, how.train_fields),
        (hp.eval_batch_size, how.eval_fields),
      )
    )

  def loss(self, params, stats, batch, key):
    """The sum of five losses, each a mean over a worker's images; see Task."""
    span = self._hp.worker_images
    model, sizes = self._model.merged(params, stats), batch['size']
    places = self._anchors(batch['image'].shape)
    objects = regions.Objects(
      batch['boxes'], batch['labels'], batch['masks'], batch['frames']
    )
    # By row, so that no image's draws depend on the devices.
    keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(key, row)))(
      jnp.arange(len(sizes))
    )
    maps = model(normalised(batch['image'], sizes))
    logits, codes = model.propose(maps)
    found = proposals.select(
      *jax.lax.stop_gradient((logits, codes)),
      places,
      sizes,
      how=self._to_train,
      span=span,
    )
    drawn = regions.drawn(found, objects, keys[:, 0], self._region_draw)
    some = regions.first(drawn, proposals.most_positive(self._region_draw))
    classes, better = model.box_outputs(maps, drawn.boxes)
    masks = model.mask_outputs(maps, some.boxes, some.labels)
    sums = (
      *proposals.losses(
        logits,
        codes,
        places,
        sizes=sizes,
        boxes=objects.boxes,
        labels=objects.labels,
        keys=keys[:, 1],
        how=self._anchor_draw,
      ),
      *regions.box_losses(classes, better, drawn, objects),
      regions.mask_loss(masks, some, objects),
    )
    return sum(each.mean(span) for each in sums), (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> detections of each image in its own pixels, and their masks."""
    model = self._model.merged(state.params, state.stats)
    sizes = batch['size']
    maps = model(normalised(batch['image'], sizes))
    logits, codes = model.propose(maps)
    found = proposals.select(
      logits,
      codes,
      self._anchors(batch['image'].shape),
      sizes,
      how=self._to_eval,
    )
    classes, better = model.box_outputs(maps, found.boxes)
    best = regions.detect(classes, better, found, sizes, self._choice)
    masks = model.mask_outputs(maps, best.boxes, best.labels)
    return {
      'id': batch['id'],
      'weight': batch['weight'],
      'original': batch['original'],
      'corners': in_original(best.boxes, sizes, batch['original']),
      'scores': best.scores,
      'labels': best.labels,
      'masks': jax.nn.sigmoid(masks),
    }

  def blocks(self, facts) -> list[blocks.Block]:
    """Blocks that end at evals; see Task."""
    del facts
    hp = self._hp
    every = hp.epochs_between_evals
    return blocks.after_epochs(
      range(every, hp.max_epochs + 1, every),
      samples=self._data.train_samples,
      rows=hp.global_batch_size,
    )

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    coco.verify(
      directory,
      with_objects={'train': self._data.train_samples},
      classes=self._hp.classes - 1,
      most_boxes=self._hp.most_objects,
    )
    dataset.require_facts(
      directory,
      {'validation': len(dataset.Split(directory, 'validation'))},
      {'validation': self._data.eval_samples},
      'images',
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """Reads what is to be found, where evals are scored; see Task."""
    del facts
    hp, directory = self._hp, data.directory
    reading = data.reading or batching.DEFAULT_READING
    how = {'preprocessing': self._preprocessing, **data.share}
    # An eval comes and goes too fast for worker processes of its own.
    threads = batching.Reading(reading.threads)
    validation = dataset.Split(directory, 'validation')
    return _Feed(
      outlined.train_batches(
        directory,
        batch_size=hp.global_batch_size,
        seed=data.seed,
        first_step=data.first_step,
        reading=reading,
        **how,
      ),
      lambda: outlined.eval_batches(
        directory,
        'validation',
        batch_size=hp.eval_batch_size,
        reading=threads,
        **how,
      ),
      data.put,
      first_step=data.first_step,
      images=self._data.eval_samples,
      truth=outlined.ground_truth(validation) if data.host == 0 else None,
    )

  def _anchors(self, shape: Sequence[int]) -> list[jax.Array]:
    """Those of each map of images [N, H, W, 3]."""
    hp = self._hp
    return [
      jnp.asarray(each)
      for each in anchors_of(shape[1:3], hp.anchor_sizes, hp.anchor_ratios)
    ]


class _Feed(SupervisedFeed):
  """Scores detections on the first host, which alone knows the truth."""

  def __init__(self, *how, images: int, truth: outlined.Truth | None, **more):
    super().__init__(*how, **more)
    self._images, self._truth = images, truth

  def score(self, predictions, maker):
    """See Feed."""
    if self._truth is None:
      for _ in predictions:
        pass
      values = [0.0, 0.0]
    else:
      values = scored(predictions, self._truth, images=self._images)
    boxes, masks = maker.total(values)
    return {BOXES: float(boxes), MASKS: float(masks)}


def scored(predictions, truth: outlined.Truth, *, images: int) -> list[float]:
  """AP of boxes and of masks over so many images."""
  kept, masks, sizes = [], [], {}
  for each in predictions:
    rows = np.asarray(each['weight']) > 0
    sizes |= zip(
      np.asarray(each['id'])[rows].tolist(),
      map(tuple, np.asarray(each['original'])[rows].tolist()),
      strict=True,
    )
    corners = np.asarray(each['corners'])
    # In the order of `metric.gathered`.
    masks += [
      coco_masks.pasted(mask, box, tuple(size))
      for row in np.flatnonzero(rows)
      for mask, box, score, size in zip(
        each['masks'][row],
        corners[row],
        each['scores'][row],
        [each['original'][row]] * len(corners[row]),
        strict=True,
      )
      if score > 0
    ]
    low, high = corners[..., :2], corners[..., 2:]
    boxes = np.concatenate([low, high - low + 1], axis=-1)
    kept.append({
      **{name: each[name] for name in ('id', 'weight', 'scores', 'labels')},
      'boxes': boxes,
    })  # fmt: skip
  found = metric.gathered(kept, images=images)
  objects = metric.Objects(
    image=truth.objects.image,
    label=truth.objects.label,
    box=truth.objects.box,
    area=truth.objects.area,
    crowd=truth.objects.crowd,
  )
  outlines = [each.segmentation() for each in truth.outlines]
  return [
    metric.box_ap(objects, found),
    metric.mask_ap(objects, outlines, sizes, found, masks),
  ]


def size_of(hp: Hparams) -> net.Size:
  """The net that hyperparameters describe."""
  return net.Size(
    blocks=hp.stage_blocks,
    width=hp.width,
    pyramid=hp.pyramid_channels,
    shapes=len(hp.anchor_ratios),
    hidden=hp.hidden,
    box_side=hp.box_side,
    mask_channels=hp.mask_channels,
    mask_side=hp.mask_side,
    samples=hp.samples,
    canonical_size=hp.canonical_size,
    canonical_level=hp.canonical_level,
    classes=hp.classes,
  )


def anchors_of(
  image: Sequence[int], sizes: Sequence[float], ratios: Sequence[float]
) -> list[np.ndarray]:
  """Anchors of each map, of images of this height and width."""
  return [
    anchors.pixel_anchors(
      tuple(-(-side // 2**level) for side in image),
      stride=2**level,
      size=size,
      ratios=ratios,
    )
    for level, size in enumerate(sizes, start=net.FINEST)
  ]


def normalised(images: jax.Array, sizes: jax.Array) -> jax.Array:
  """RGB uint8 [N, H, W, 3] -> BGR less the mean; padding is 0.

  `sizes` [N, 2] are height and width without padding.
  """
  mean = jnp.asarray(MEAN_BGR, jnp.float32).reshape(1, 1, 1, 3)
  found = images[..., ::-1].astype(jnp.float32) - mean
  rows, columns = (
    jnp.arange(images.shape[axis + 1])[None] < sizes[:, axis, None]
    for axis in (0, 1)
  )
  inside = rows[:, :, None] & columns[:, None]
  return jnp.where(inside[..., None], found, 0.0)


def in_original(
  boxes: jax.Array, sizes: jax.Array, original: jax.Array
) -> jax.Array:
  """Corners [N, D, 4] in images that were resized -> before they were.

  Both sizes are heights and widths [N, 2].
  """
  ratio = original.astype(jnp.float32) / jnp.maximum(sizes, 1)
  return boxes * jnp.tile(ratio[:, ::-1], 2)[:, None]


def optimizer(hp: Hparams) -> optax.GradientTransformation:
  """SGD as PyTorch has it; biases have a rate of their own and no decay."""

  def sgd(rate: float, decay: float) -> optax.GradientTransformation:
    schedule = stepped(
      base=rate * hp.base_learning_rate,
      warmup_steps=hp.warmup_steps,
      slope=hp.warmup_factor,
      boundaries=hp.decay_steps,
      factor=hp.decay_factor,
    )
    return optax.chain(
      optax.add_decayed_weights(decay), optax.sgd(schedule, hp.momentum)
    )

  def kinds(params):
    return jax.tree_util.tree_map_with_path(
      lambda path, _: 'bias' if path_of(path).endswith('bias') else 'weight',
      params,
    )

  return optax.multi_transform(
    {'weight': sgd(1.0, hp.weight_decay), 'bias': sgd(hp.bias_rate, 0.0)},
    kinds,
  )


def stepped(
  *,
  base: float,
  warmup_steps: int,
  slope: float,
  boundaries: Sequence[int],
  factor: float,
) -> optax.Schedule:
  """A line up to nearly `base`, then down by a factor at each boundary.

      warm-up  base - (warmup_steps - step) slope

  As 'mlperf_linear' of the reference's lr_scheduler.py, whose steps count from
  1. What it takes off is the same for all bases, so biases, whose base is
  twice as high, begin at about half of theirs.
  """

  def schedule(count):
    step = jnp.asarray(count) + 1
    missing = jnp.maximum(warmup_steps - step, 0) * slope
    past = sum((step >= boundary).astype(jnp.int32) for boundary in boundaries)
    return jnp.asarray((base - missing) * factor**past, jnp.float32)

  return schedule


make_task = MaskRCNNTask
