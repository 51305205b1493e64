"""Mask R-CNN on COCO 2017: boxes and outlines of objects of 80 classes."""

import dataclasses

from input_pipelines import coco
from suite.benchmark import Benchmark, DataSet, Size, Start
from suite.hparams import (
  BELOW_ONE,
  NOT_NEGATIVE,
  RISING,
  SHARE,
  Rule,
  Scales,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  divisor_of,
  epochs_between_evals,
  fixed,
  tunable,
  warmup_steps,
)
from suite.target import Target

BOXES, MASKS = 'BBOX', 'SEGM'
# The unit of learning rates that Closed allows.
_RATE = 0.02

_PARTS = Rule(
  'a divisor of global_batch_size over worker_images',
  lambda value, hp: (
    value > 0 and hp.global_batch_size % (value * hp.worker_images) == 0
  ),
)
_CANDIDATES = Rule(
  '1000, or 1000 * worker_images',
  lambda value, hp: value in (1000, 1000 * hp.worker_images),
)


def _whole(number: float) -> bool:
  return number > 0.5 and abs(number - round(number)) < 1e-6


def _rates(value, hp) -> bool:
  """0.02 times a whole number; with less than 16 images also over one."""
  small = hp.global_batch_size < 16 and value > 0 and _whole(_RATE / value)
  return small or _whole(value / _RATE)


def _decays(value, hp) -> bool:
  """(60000, 80000) * (1 + k / 10) * 16 / batch, rounded."""
  if len(value) != 2 or not 0 < value[0] < value[1]:
    return False
  tenths = [
    round(step * hp.global_batch_size / 16 / each)
    for step, each in zip(value, (6000, 8000), strict=True)
  ]
  near = (
    abs(step - tenths[0] * each * 16 / hp.global_batch_size) <= 1
    for step, each in zip(value, (6000, 8000), strict=True)
  )
  return tenths[0] == tenths[1] > 0 and all(near)


_RATES = Rule('a multiple of 0.02', _rates)
_DECAYS = Rule(
  '60000,80000 times 1 + k / 10, for a global_batch_size of 16', _decays
)
_MAPS = Rule(
  'positive, rising, and one more than there are stages',
  lambda value, hp: (
    len(value) == len(hp.stage_blocks) + 1 and RISING.allows(value, hp)
  ),
)
_LONGER = Rule(
  'min_image_size or more', lambda value, hp: value >= hp.min_image_size > 0
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the recipe of the convergence point at a batch of 96.

  Rules of rounds v0.7 to v3.1; reference: mlcommons/training,
  retired_benchmarks/maskrcnn.
  """

  global_batch_size: int = tunable(
    96, 'Images per step.', key='global_batch_size'
  )
  worker_images: int = tunable(
    6,
    'Images of a worker of the reference: they share num_image_candidates, and '
    'the means of their losses.',
    valid=divisor_of('global_batch_size'),
    scales=Scales.DIVISOR,
  )
  base_learning_rate: float = base_learning_rate(
    0.12, 'Learning rate before the first decay.', rule=_RATES
  )
  warmup_steps: int = warmup_steps(
    625, 'Steps of linear warm-up; 0 is none.', valid=NOT_NEGATIVE
  )
  warmup_factor: float = tunable(
    1.92e-4,
    'Less the rate of a step of the warm-up than that of the next.',
    key='opt_learning_rate_warmup_factor',
  )
  decay_steps: tuple[int, ...] = tunable(
    (12_000, 16_000),
    'Steps after which the rate is multiplied by decay_factor.',
    key='opt_learning_rate_decay_steps',
    valid=RISING,
    rule=_DECAYS,
    scales=Scales.STEPS,
  )
  decay_factor: float = fixed(
    0.1, 'Factor of each decay.', key='opt_learning_rate_decay_factor'
  )
  momentum: float = fixed(0.9, 'Momentum.', valid=BELOW_ONE)
  weight_decay: float = fixed(
    1e-4, 'Weight decay, of all parameters but biases.', valid=NOT_NEGATIVE
  )
  bias_rate: float = fixed(2.0, 'The rate of biases, in learning rates.')
  num_image_candidates: int = tunable(
    6000,
    'Proposals of worker_images images that are trained on.',
    key='num_image_candidates',
    rule=_CANDIDATES,
  )
  gradient_accumulation_steps: int = accumulation_steps(_PARTS)
  compute_dtype: str = compute_dtype(
    'Format of activations and products; outputs stay float32.'
  )
  epochs_between_evals: int = epochs_between_evals(1)
  max_epochs: int = tunable(20, 'The run ends here if the target is not met.')
  eval_batch_size: int = tunable(96, 'Images per eval step.')
  most_objects: int = tunable(
    100, 'Objects of an image, to which rows are padded.'
  )
  object_mask_side: int = tunable(
    112, 'Cells of a side of the mask of an object.'
  )
  min_image_size: int = fixed(
    800, 'Pixels of the shorter side.', key='min_image_size'
  )
  max_image_size: int = fixed(
    1333, 'Pixels of the longer side, at most.', key='max_image_size',
    valid=_LONGER,
  )  # fmt: skip
  flip_probability: float = fixed(
    0.5, 'Chance that an image is mirrored.', valid=SHARE
  )
  stage_blocks: tuple[int, ...] = fixed((3, 4, 6, 3), 'Blocks per stage.')
  width: int = fixed(64, 'Channels of the stem.')
  pyramid_channels: int = fixed(256, 'Channels of the maps of the pyramid.')
  anchor_sizes: tuple[int, ...] = fixed(
    (32, 64, 128, 256, 512), 'Side of the anchors of a map.', valid=_MAPS
  )
  anchor_ratios: tuple[float, ...] = fixed(
    (0.5, 1.0, 2.0), 'Heights of anchors, in widths.'
  )
  hidden: int = fixed(1024, 'Channels of both layers of the box head.')
  box_side: int = fixed(7, 'Cells of a side that the box head sees.')
  mask_channels: tuple[int, ...] = fixed(
    (256, 256, 256, 256), 'Channels of the convolutions of the mask head.'
  )
  mask_side: int = fixed(
    14, 'Cells of a side that the mask head sees; a mask has twice as many.'
  )
  samples: int = fixed(2, 'Places of a side of a cell at which a map is read.')
  canonical_size: float = fixed(
    224.0, 'Side of a box that is read from the map of canonical_level.'
  )
  canonical_level: int = fixed(
    4, 'Its map: the stride is 2 to the power of this.'
  )
  classes: int = fixed(
    coco.CLASSES + 1, 'Classes of a box; the first is the background.'
  )
  anchor_negative: float = fixed(
    0.3, 'An anchor without an object overlaps all by less.', valid=SHARE
  )
  anchor_positive: float = fixed(
    0.7, 'An anchor with an object overlaps it by this or more.', valid=SHARE
  )
  anchor_samples: int = fixed(256, 'Anchors of an image that are learned.')
  anchor_positive_share: float = fixed(
    0.5, 'Share of them that may have an object.', valid=SHARE
  )
  train_before_nms: int = fixed(
    2000, 'Proposals of a map in training before others exclude some.'
  )
  train_after_nms: int = fixed(2000, 'Proposals of a map in training.')
  eval_before_nms: int = fixed(
    1000, 'Proposals of a map in evals before others exclude some.'
  )
  eval_after_nms: int = fixed(1000, 'Proposals of a map in evals.')
  eval_proposals: int = fixed(1000, 'Proposals of an image in evals.')
  proposal_overlap: float = fixed(
    0.7, 'A proposal overlaps better ones by no more.', valid=SHARE
  )
  region_positive: float = fixed(
    0.5, 'A region with an object overlaps it by this or more.', valid=SHARE
  )
  region_samples: int = fixed(512, 'Regions of an image that are learned.')
  region_positive_share: float = fixed(
    0.25, 'Share of them that may have an object.', valid=SHARE
  )
  score_threshold: float = fixed(
    0.05, 'A detection has a larger score.', valid=SHARE
  )
  nms_threshold: float = fixed(
    0.5, 'A detection overlaps better ones of its class by no more.',
    valid=SHARE,
  )  # fmt: skip
  image_detections: int = fixed(100, 'Detections of an image.')


@dataclasses.dataclass(frozen=True)
class TinyHparams(Hparams):
  """Fewer steps and candidates than the rules know, and any rate."""

  base_learning_rate: float = base_learning_rate(
    0.02, 'Learning rate before the first decay.'
  )
  decay_steps: tuple[int, ...] = tunable(
    (600, 750),
    'Steps after which the rate is multiplied by decay_factor.',
    key='opt_learning_rate_decay_steps',
    valid=RISING,
    scales=Scales.STEPS,
  )
  num_image_candidates: int = tunable(
    64,
    'Proposals of worker_images images that are trained on.',
    key='num_image_candidates',
  )


TINY = TinyHparams(
  global_batch_size=8,
  worker_images=1,
  warmup_steps=100,
  warmup_factor=2e-4,
  max_epochs=5,
  eval_batch_size=16,
  most_objects=12,
  object_mask_side=32,
  min_image_size=96,
  max_image_size=128,
  stage_blocks=(1, 1, 1),
  width=16,
  pyramid_channels=32,
  anchor_sizes=(12, 24, 48, 96),
  hidden=128,
  mask_channels=(32, 32),
  mask_side=8,
  canonical_size=48.0,
  classes=6,
  anchor_samples=64,
  train_before_nms=96,
  train_after_nms=96,
  eval_before_nms=96,
  eval_after_nms=96,
  eval_proposals=64,
  region_samples=32,
  image_detections=16,
)

_COCO = DataSet(
  coco.NAME,
  train_samples=coco.WITH_OBJECTS['train'],
  eval_samples=coco.IMAGES['validation'],
)
_REFERENCE = Size(
  hparams=Hparams(),
  target=Target(at_least={BOXES: 0.377, MASKS: 0.339}),
  ruleset='3.1.0',
  data=_COCO,
  start=Start('r50_start'),
)

BENCHMARK = Benchmark(
  name='maskrcnn',
  runs=5,
  dropped=1,
  draft=True,
  sizes={
    'reference': _REFERENCE,
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={BOXES: 0.25, MASKS: 0.2}),
      ruleset='podium-tiny-1',
      data=DataSet('scenes', train_samples=1559, eval_samples=100),
      start=Start('shapes_start'),
    ),
  },
)
