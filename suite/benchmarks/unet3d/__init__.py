"""3D U-Net on KiTS19: kidneys and their tumours in CT volumes."""

import dataclasses

from input_pipelines import kits19
from suite.benchmark import Benchmark, DataSet, Size
from suite.hparams import (
  BELOW_ONE,
  NOT_NEGATIVE,
  RISING,
  SHARE,
  Rule,
  accumulation_steps,
  base_learning_rate,
  compute_dtype,
  fixed,
  one_of,
  tunable,
)
from suite.target import Target

METRIC = 'DICE'

_SIDE = Rule(
  'a multiple of 2 to the power of the number of filters',
  lambda value, hp: value > 0 and value % 2 ** len(hp.filters) == 0,
)
_LAST = Rule('eval_after or more', lambda value, hp: value >= hp.eval_after > 0)
_WHOLE = Rule(
  'padded, or dropped where a global_batch_size is volumes or less',
  lambda value, hp: (
    value == 'padded' or (value == 'dropped' and hp.steps_per_epoch > 0)
  ),
)
_BRIGHTER = Rule(
  'brightness_min or more', lambda value, hp: value >= hp.brightness_min
)


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the recipe of the convergence points for a batch of 56.

  Rules of rounds v1.0 to v4.0; reference: mlcommons/training,
  retired_benchmarks/unet3d/pytorch.
  """

  global_batch_size: int = tunable(
    56, 'Crops per step, one of each volume in an epoch.',
    key='global_batch_size',
  )  # fmt: skip
  last_batch: str = tunable(
    'dropped',
    'The batch that an epoch does not fill is dropped, as in the reference, or '
    'padded, as the rules have it.',
    valid=_WHOLE,
  )
  opt_name: str = fixed(
    'sgd',
    'Optimizer: SGD with the momentum of Nesterov.',
    key='opt_name',
    valid=one_of('sgd'),
  )
  base_learning_rate: float = base_learning_rate(
    2.0, 'Learning rate at the end of the warm-up.'
  )
  initial_learning_rate: float = tunable(
    1e-4,
    'Learning rate that the warm-up starts from.',
    key='opt_initial_learning_rate',
    valid=NOT_NEGATIVE,
  )
  warmup_epochs: int = tunable(
    1000,
    'Epochs of linear warm-up; the rate is that of an epoch.',
    key='opt_learning_rate_warmup_epochs',
    valid=NOT_NEGATIVE,
  )
  decay_epochs: tuple[int, ...] = tunable(
    (),
    'Epochs after which the rate is multiplied by decay_factor.',
    key='opt_learning_rate_decay_boundary_epochs',
    valid=RISING,
  )
  decay_factor: float = tunable(
    1.0,
    'Factor of the rate after each of decay_epochs.',
    key='opt_learning_rate_decay_factor',
  )
  momentum: float = tunable(
    0.9, 'Momentum.', key='opt_momentum', valid=BELOW_ONE
  )
  weight_decay: float = tunable(
    0.0, 'Weight decay.', key='opt_weight_decay', valid=NOT_NEGATIVE
  )
  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Format of activations and products; moments and logits stay float32.'
  )
  remat: bool = tunable(
    False, 'Recompute levels for gradients, to save memory.'
  )
  fold_planes: bool = tunable(
    False,
    'Convolve planes that lie beside their neighbours, in two dimensions: the '
    'same sums, several times as fast on a CPU.',
  )
  volumes: int = fixed(168, 'Volumes to train on.')
  eval_after: int = fixed(
    1000, 'The first eval, in epochs that neither drop nor pad.'
  )
  eval_every: int = fixed(
    20, 'From one eval to the next, in epochs that neither drop nor pad.'
  )
  max_epochs: int = tunable(
    10_000,
    'The run ends here if the target is not met, in epochs that neither drop '
    'nor pad.',
    valid=_LAST,
  )
  places: str = fixed(
    'samples',
    'Unit of places in the log: samples from round v3.1 on, epochs before.',
    valid=one_of('samples', 'epochs'),
  )
  eval_batch_size: int = tunable(56, 'Windows per eval step.')
  eval_slots: int = tunable(
    96, 'Tiles, an eighth of a window, that a device keeps while it sums them.'
  )
  oversampling: float = fixed(
    0.4, 'Chance that a crop has foreground.', key='oversampling', valid=SHARE
  )
  training_input_shape: int = fixed(
    128, 'Side of a crop, in voxels.', key='training_input_shape', valid=_SIDE
  )
  validation_input_shape: int = fixed(
    128,
    'Side of a window of evals, in voxels.',
    key='validation_input_shape',
    valid=_SIDE,
  )
  validation_overlap: float = fixed(
    0.5,
    'Share by which neighbouring windows overlap.',
    key='validation_overlap',
    valid=one_of(0.5),
  )
  flip_probability: float = fixed(
    1 / 3, 'Chance that an axis is mirrored.', valid=SHARE
  )
  brightness_probability: float = fixed(
    0.1, 'Chance that an image is scaled.', valid=SHARE
  )
  # The reference scales by 1 more than what it draws.
  brightness_min: float = fixed(
    0.7, 'It is scaled by 1 and this, at least.', valid=NOT_NEGATIVE
  )
  brightness_max: float = fixed(
    1.3, 'It is scaled by 1 and this, at most.', valid=_BRIGHTER
  )
  noise_probability: float = fixed(
    0.1, 'Chance that noise is added.', valid=SHARE
  )
  noise_deviation: float = fixed(
    0.1, 'Standard deviation of the noise, at most.', valid=NOT_NEGATIVE
  )
  filters: tuple[int, ...] = fixed(
    (32, 64, 128, 256, 320), 'Channels of each level, from the top down.'
  )
  classes: int = fixed(
    kits19.CLASSES, 'Classes of a voxel; the first is the background.'
  )

  @property
  def steps_per_epoch(self) -> int:
    """Steps of an epoch; 0 where no batch is whole."""
    if self.last_batch == 'dropped':
      return self.volumes // self.global_batch_size
    return -(-self.volumes // self.global_batch_size)

  @property
  def samples_per_epoch(self) -> int:
    """Samples of an epoch; padding counts."""
    return self.steps_per_epoch * self.global_batch_size

  def in_epochs(self, epochs: int) -> int:
    """Epochs with this batch that have the samples of whole ones, or more."""
    return -(-epochs * self.volumes // self.samples_per_epoch)

  # What the audit compares the places of evals with.

  @property
  def first_eval(self) -> int:
    """Place of the first eval."""
    return self._place(self.eval_after)

  @property
  def epochs_between_evals(self) -> int | None:
    """From one place to the next where they are epochs."""
    return self._place(self.eval_every) if self.places == 'epochs' else None

  # The rules want places in samples under the key of epochs.
  place_key = 'epoch_num'

  @property
  def samples_between_evals(self) -> int | None:
    """From one place to the next where they are samples."""
    return self._place(self.eval_every) if self.places == 'samples' else None

  def _place(self, epochs: int) -> int:
    each = self.samples_per_epoch if self.places == 'samples' else 1
    return self.in_epochs(epochs) * each


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=8,
  base_learning_rate=1.0,
  warmup_epochs=6,
  volumes=32,
  fold_planes=True,
  eval_after=60,
  eval_every=10,
  max_epochs=160,
  eval_batch_size=16,
  eval_slots=32,
  training_input_shape=16,
  validation_input_shape=16,
  filters=(8, 16, 32),
)

_KITS19 = DataSet(
  kits19.NAME,
  train_samples=kits19.VOLUMES['train'],
  eval_samples=kits19.VOLUMES['validation'],
)
_TARGET = Target(at_least={METRIC: 0.908})

BENCHMARK = Benchmark(
  name='unet3d',
  runs=40,
  dropped=4,
  draft=True,
  sizes={
    'reference': Size(
      hparams=Hparams(), target=_TARGET, ruleset='4.0.0', data=_KITS19
    ),
    # As in all rounds from v1.0 on, whose logs count in epochs.
    'v3.0': Size(
      hparams=dataclasses.replace(Hparams(), places='epochs'),
      target=_TARGET,
      ruleset='3.0.0',
      data=_KITS19,
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.7}),
      ruleset='podium-tiny-1',
      data=DataSet('organs', train_samples=32, eval_samples=6),
    ),
  },
)
