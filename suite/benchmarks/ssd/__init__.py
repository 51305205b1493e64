"""SSD300 on COCO 2017: boxes around objects of 80 classes."""

import dataclasses

from input_pipelines import coco
from suite.benchmark import Benchmark, DataSet, Size, Start
from suite.hparams import (
  BELOW_ONE,
  NOT_NEGATIVE,
  POSITIVE,
  RISING,
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
  warmup_steps,
)
from suite.target import Target

METRIC = 'mAP'
EPOCHS, ITERATIONS = 'epochs', 'iterations'
# An iteration of rounds up to v0.6 is this many images.
ITERATION = 32

_PARTS = Rule(
  'a divisor of global_batch_size over model_bn_span',
  lambda value, hp: (
    value > 0 and hp.global_batch_size % (value * hp.model_bn_span) == 0
  ),
)


def _decays(value, hp) -> bool:
  """(40, 50) or (160000, 200000), both larger by the same tenths."""
  unit = 4 if hp.places == EPOCHS else 16_000
  return (
    len(value) == 2
    and value[0] > 0
    and value[0] % unit == 0
    and 5 * value[0] == 4 * value[1]
  )


_DECAYS = Rule("the reference's, all times 1 + k / 10", _decays)
_MAPS = Rule(
  'positive, and one for each map',
  lambda value, hp: len(value) == len(hp.box_steps) and min(value) > 0,
)
_MAPS_AND_ONE = Rule(
  'positive, rising, and one more than there are maps',
  lambda value, hp: (
    len(value) == len(hp.box_steps) + 1 and RISING.allows(value, hp)
  ),
)
_NEXT_MAPS = Rule(
  'positive, and one for each map but the first',
  lambda value, hp: len(value) == len(hp.box_steps) - 1 and min(value) > 0,
)
_STAGES = Rule(
  'positive, and one for each stage',
  lambda value, hp: len(value) == len(hp.stage_blocks) and min(value) > 0,
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the recipe of the convergence point at a batch of 1024.

  Rules of rounds v0.6 to v1.1; reference: mlcommons/training,
  retired_benchmarks/ssd-v1.
  """

  global_batch_size: int = tunable(
    1024, 'Images per step.', key='global_batch_size'
  )
  # The reference's --lr is that of 32 images: this is 2.5e-3 * 1024 / 32.
  base_learning_rate: float = base_learning_rate(
    0.08, 'Learning rate before the first decay.'
  )
  warmup_steps: int = warmup_steps(
    300,
    'Steps of linear warm-up; 0 is none.',
    valid=NOT_NEGATIVE,
    rule=POSITIVE,
  )
  warmup_factor: int = tunable(
    0,
    'The warm-up begins at 1 less 2 to the power of minus this, of the rate.',
    key='opt_learning_rate_warmup_factor',
    valid=NOT_NEGATIVE,
  )
  decay_places: tuple[int, ...] = tunable(
    (40, 50),
    'Places after which the rate is multiplied by decay_factor.',
    key=lambda hp: (
      'opt_learning_rate_decay_boundary_epochs'
      if hp.places == EPOCHS
      else 'podium_decay_places'
    ),
    valid=RISING,
    rule=_DECAYS,
  )
  decay_factor: float = fixed(0.1, 'Factor of each decay.')
  momentum: float = fixed(0.9, 'Momentum.', valid=BELOW_ONE)
  weight_decay: float = tunable(
    5e-4, 'Weight decay, of all parameters.', key='opt_weight_decay',
    valid=NOT_NEGATIVE,
  )  # fmt: skip
  max_samples: int = tunable(
    50,
    'Crops that are tried before another rule for them is drawn.',
    key='max_samples',
    rule=Rule(
      '1 or 50 (any until round v0.6)',
      lambda value, hp: value in (1, 50) or hp.places == ITERATIONS,
    ),
  )
  model_bn_span: int = tunable(
    128,
    'Images whose statistics batch norm shares.',
    key='model_bn_span',
    valid=divisor_of('global_batch_size'),
    scales=Scales.DIVISOR,
  )
  gradient_accumulation_steps: int = accumulation_steps(_PARTS)
  compute_dtype: str = compute_dtype(
    'Format of activations and products; moments and outputs stay float32.'
  )
  places: str = fixed(
    EPOCHS,
    'Unit of decays and evals: epochs, or iterations of 32 images until round '
    'v0.6.',
    valid=one_of(EPOCHS, ITERATIONS),
  )
  eval_every: int = fixed(5, 'Epochs from one eval to the next.')
  eval_places: tuple[int, ...] = fixed(
    (), 'Places of all evals, where they are not evenly spaced.', valid=RISING
  )
  max_epochs: int = tunable(
    120, 'The run ends here if the target is not met and no place is further.'
  )
  eval_batch_size: int = tunable(1024, 'Images per eval step.')
  most_boxes: int = tunable(
    100, 'Objects of an image, to which rows are padded.'
  )
  image_size: int = fixed(300, 'Height and width that the model sees.')
  flip_probability: float = fixed(
    0.5, 'Chance that an image is mirrored.', valid=SHARE
  )
  brightness: float = fixed(
    0.125, 'Largest change of the brightness.', valid=SHARE
  )
  contrast: float = fixed(0.5, 'Largest change of the contrast.', valid=SHARE)
  saturation: float = fixed(
    0.5, 'Largest change of the saturation.', valid=SHARE
  )
  hue: float = fixed(0.05, 'Largest shift of the hue, in turns.', valid=SHARE)
  stage_blocks: tuple[int, ...] = fixed((3, 4, 6), 'Blocks per stage.')
  stage_widths: tuple[int, ...] = fixed(
    (64, 128, 256), 'Channels of each stage.', valid=_STAGES
  )
  stage_strides: tuple[int, ...] = fixed(
    (1, 2, 1), 'Strides of each stage.', valid=_STAGES
  )
  map_between: tuple[int, ...] = fixed(
    (256, 256, 128, 128, 128), 'Channels on the way to each further map.',
    valid=_NEXT_MAPS,
  )  # fmt: skip
  map_channels: tuple[int, ...] = fixed(
    (512, 512, 256, 256, 256), 'Channels of each further map.', valid=_NEXT_MAPS
  )
  map_strides: tuple[int, ...] = fixed(
    (2, 2, 2, 1, 1),
    'Stride to each further map; with 1 it is two cells smaller.',
    valid=_NEXT_MAPS,
  )
  box_steps: tuple[int, ...] = fixed(
    (8, 16, 32, 64, 100, 300), 'Pixels from one cell of a map to the next.'
  )
  box_scales: tuple[int, ...] = fixed(
    (21, 45, 99, 153, 207, 261, 315),
    'Sides of the default boxes of a map, in pixels, and one more.',
    valid=_MAPS_AND_ONE,
  )
  box_ratios: tuple[int, ...] = fixed(
    (1, 2, 2, 2, 1, 1),
    'Ratios of default boxes on a map: 2, or 2 and 3.',
    valid=Rule(
      '1 or 2, and one for each map',
      lambda value, hp: _MAPS.allows(value, hp) and max(value) <= 2,
    ),
  )
  classes: int = fixed(
    coco.CLASSES + 1, 'Classes of a box; the first is the background.'
  )
  centre_variance: float = fixed(
    0.1, 'Offset of a centre that is coded as 1, in sizes of the default box.'
  )
  size_variance: float = fixed(
    0.2, 'Logarithm of a ratio of sizes that is coded as 1.'
  )
  match_threshold: float = fixed(
    0.5, 'A match overlaps its object by more.', valid=SHARE
  )
  negatives: int = fixed(3, 'Negatives that count for each match.')
  score_threshold: float = fixed(
    0.05, 'A detection has a larger score.', valid=SHARE
  )
  nms_threshold: float = fixed(
    0.5, 'A detection overlaps better ones by less.', valid=SHARE
  )
  class_detections: int = fixed(
    200, 'Detections of an image and class before others exclude some.'
  )
  image_detections: int = fixed(200, 'Detections of an image.')

  @property
  def epochs_between_evals(self) -> int | None:
    """From one eval to the next, for the audit; None where that differs."""
    return None if self.eval_places else self.eval_every


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=16,
  base_learning_rate=0.01,
  warmup_steps=60,
  decay_places=(8, 10),
  max_samples=50,
  model_bn_span=16,
  eval_every=1,
  max_epochs=12,
  eval_batch_size=32,
  most_boxes=12,
  image_size=96,
  stage_blocks=(1, 1, 1),
  stage_widths=(16, 32, 64),
  map_between=(32, 32),
  map_channels=(64, 64),
  map_strides=(2, 2),
  box_steps=(8, 16, 32),
  box_scales=(9, 20, 40, 64),
  box_ratios=(1, 1, 1),
  classes=6,
)

_COCO = DataSet(
  coco.NAME,
  train_samples=coco.WITH_OBJECTS['train'],
  eval_samples=coco.WITH_OBJECTS['validation'],
)
_REFERENCE = Size(
  hparams=Hparams(),
  target=Target(at_least={METRIC: 0.23}),
  ruleset='1.1.0',
  data=_COCO,
  start=Start('resnet34_start'),
)
# Rounds v0.7 and v1.0 evaluate after these epochs, by their rules.
_EARLIER = dataclasses.replace(
  Hparams(), eval_places=(40, 50, 55, 60, 65, 70, 75, 80)
)

BENCHMARK = Benchmark(
  name='ssd',
  runs=5,
  dropped=1,
  draft=True,
  sizes={
    'reference': _REFERENCE,
    'v1.0': dataclasses.replace(_REFERENCE, hparams=_EARLIER, ruleset='1.0.0'),
    # Official logs of this round have a format of their own: these are ours.
    'v0.6': dataclasses.replace(
      _REFERENCE,
      hparams=dataclasses.replace(
        Hparams(),
        places=ITERATIONS,
        decay_places=(160_000, 200_000),
        eval_places=(120_000, 160_000, 180_000, 200_000, 220_000, 240_000),
      ),
      ruleset='podium-ssd-v0.6',
      round='v0.6',
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.3}),
      ruleset='podium-tiny-1',
      data=DataSet('scenes', train_samples=1559, eval_samples=96),
      start=Start('scenes_start'),
    ),
  },
)
