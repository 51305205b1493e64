"""3D U-Net as a task: its loss, crops of volumes, Dice over sliding windows."""

from collections.abc import Iterable, Mapping
import copy
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import optax

from input_pipelines.kits19 import read as kits19
from input_pipelines.kits19 import windows
from models import unet3d
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.unet3d import METRIC, Hparams
from suite.run import blocks
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.sharding import DATA, ROWS
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Carry, Facts, PyTree, State, batch_spec

_MODEL = 'model'  # the mesh axis that a sample is split over, along its depth
_TILES = 8  # of a window


@dataclasses.dataclass(frozen=True)
class VolumeFacts(Facts):
  """Shapes of the volumes of evals."""

  shapes: tuple[tuple[int, ...], ...]


class UNet3DTask(SupervisedTask):
  """Segmentation; the mean Dice of two classes over every held-out volume."""

  def __init__(self, hp: Hparams, data: DataSet):
    """Raises ValueError where the hyperparameters do not fit the data."""
    if hp.volumes != data.train_samples:
      raise ValueError(
        f'Expected volumes of {data.train_samples}, as the data set has, got '
        f'{hp.volumes}.'
      )
    size = unet3d.Size(hp.filters, hp.classes)
    compute = unet3d.Compute(
      jnp.dtype(hp.compute_dtype), hp.fold_planes, hp.remat
    )
    super().__init__(
      hp,
      data,
      Functional.of(lambda rngs: unet3d.UNet3D(size, compute, rngs=rngs)),
    )
    self.optimizer = _OPTIMIZERS[hp.opt_name](hp)
    self.partition_rules = unet3d.PARTITION_RULES
    self.parts = hp.gradient_accumulation_steps
    self.reads = ('threads',)
    self.tensors = unet3d.tensor_names(size)
    crop, window = (
      {'image': (np.float32, *3 * (side,)), 'label': (np.uint8, *3 * (side,))}
      for side in (hp.training_input_shape, hp.validation_input_shape)
    )
    self.train_specs = [batch_spec(hp.global_batch_size, **crop)]
    self.eval_specs = [
      batch_spec(
        hp.eval_batch_size,
        **window,
        volume=np.int32,
        window=np.int32,
        slot=(np.int32, _TILES),
        begins=(np.bool_, _TILES),
      )
    ]
    self._share_by(1)

  def values(self, spec):
    """See Task."""
    return {
      'label': Values(0, self._hp.classes),
      'volume': Values(0, self._data.eval_samples),
      'slot': Values(0, self._hp.eval_slots),
      'begins': Values(0, 2),
    }

  def shared_by(self, devices: int) -> 'UNet3DTask':
    """See Task: each place on the data axis has a lane of windows."""
    task = copy.copy(self)
    task._share_by(devices)
    return task

  def loss(self, params, stats, batch, key):
    """Half of Dice loss and cross entropy, mean over real rows; see Task."""
    del key  # nothing random inside the model
    logits, stats = self._model.apply(
      params, stats, batch['image'], place=self._in_space
    )
    rows, weight = unet3d.row_losses(logits, batch['label']), batch['weight']
    return jnp.sum(rows * weight) / jnp.maximum(weight.sum(), 1.0), (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> weighted logits of the windows, as tiles, and what else they carry."""
    image, place = batch['image'], self._in_space
    if self.layout.mesh and len(image) % self.layout.mesh.size == 0:
      place = functools.partial(self._placed, spec=((DATA, _MODEL),))
    logits, _ = self._model.apply(state.params, state.stats, image, place=place)
    weighted = self._placed(logits * window_weight(image.shape[1]), ROWS)
    kept = ('volume', 'slot', 'begins', 'weight')
    return {name: batch[name] for name in kept} | {
      'logits': _tiles(weighted),
      'label': _tiles(batch['label'][..., None])[..., 0],
    }

  def combine(self, carry, found):
    """Adds tiles to those in the slots -> the slots, and counts of each row."""
    lanes = self._lanes

    def each(tiles, rows):
      split = jax.tree.map(
        lambda x: x.reshape(len(tiles), -1, *x.shape[1:]), rows
      )
      tiles, counts = jax.vmap(functools.partial(jax.lax.scan, _add))(
        tiles, split
      )
      return tiles, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), counts)

    if self.layout.mesh and self.layout.ways == lanes > 1:
      each = jax.shard_map(
        each, mesh=self.layout.mesh, in_specs=ROWS, out_specs=ROWS,
        check_vma=False,
      )  # fmt: skip
    tiles, counts = each(carry['tiles'], found)
    return {'tiles': tiles}, counts | {'volume': found['volume']}

  def blocks(self, facts) -> list[blocks.Block]:
    """A late first eval, then one every few epochs; see Task."""
    del facts
    hp = self._hp
    first, every, last = map(
      hp.in_epochs, (hp.eval_after, hp.eval_every, hp.max_epochs)
    )
    trained = min(hp.volumes, hp.samples_per_epoch)
    place = hp.samples_per_epoch if hp.places == 'samples' else 1
    return blocks.between(
      blocks.End(epoch * place, epoch * hp.steps_per_epoch, epoch * trained)
      for epoch in range(first, last + 1, every)
    )

  def inspect(self, directory: str) -> VolumeFacts:
    """See Task."""
    hp = self._hp
    kits19.verify(
      directory,
      splits={
        'train': self._data.train_samples,
        'validation': self._data.eval_samples,
      },
      side=max(hp.training_input_shape, hp.validation_input_shape),
    )
    shapes = tuple(kits19.shapes(directory, 'validation'))
    lanes = self._lanes_of(shapes)
    if lanes.slots > hp.eval_slots:
      raise ValueError(
        f'Expected eval_slots of {lanes.slots} or more, as many tiles as are '
        f'open at a time in the volumes of {directory}, got {hp.eval_slots}.'
      )
    # What waits while the longest lane ends.
    used = {'podium_eval_rows_used': round(lanes.efficiency, 4)}
    return VolumeFacts(shapes, logged=used)

  def open(self, data: Data, facts: VolumeFacts) -> Feed:
    """See Task."""
    hp = self._hp
    train, held_out = (
      kits19.load(data.directory, split) for split in kits19.SPLITS
    )
    lanes = self._lanes_of(facts.shapes)
    return SupervisedFeed(
      kits19.train_batches(
        train,
        _cropping(hp),
        batch_size=hp.global_batch_size,
        last=hp.last_batch,
        **data.training,
      ),
      lambda: kits19.eval_batches(
        held_out, lanes, threads=data.threads, **data.share
      ),
      data.put,
      score=lambda predictions: {
        METRIC: mean_dice(predictions, self._voxels(facts))
      },
      first_step=data.first_step,
    )

  def _share_by(self, devices: int) -> None:
    hp, self._lanes = self._hp, devices
    if hp.eval_batch_size % devices:
      raise ValueError(
        f'Expected an eval_batch_size that {devices} devices divide, got '
        f'{hp.eval_batch_size}.'
      )
    # Windows are two tiles long: with this overlap, tiles lie a step apart.
    tile = round(hp.validation_input_shape * (1 - hp.validation_overlap))
    tiles = (devices, hp.eval_slots, tile, tile, tile, hp.classes)
    self.carry = Carry(
      {'tiles': jax.ShapeDtypeStruct(tiles, jnp.float32)}, ROWS
    )

  def _lanes_of(self, shapes) -> windows.Lanes:
    return windows.Lanes(
      shapes,
      side=self._hp.validation_input_shape,
      lanes=self._lanes,
      batch_size=self._hp.eval_batch_size,
    )

  def _voxels(self, facts: VolumeFacts) -> list[int]:
    """Voxels of each volume that evals compare."""
    side = self._hp.validation_input_shape
    return [
      math.prod(windows.axis_of(size, side).size for size in shape)
      for shape in facts.shapes
    ]

  def _in_space(self, x: jax.Array) -> jax.Array:
    """Splits samples [N, D, ...] along their depth over the model axis."""
    return self._placed(x, PartitionSpec(DATA, _MODEL))

  def _placed(self, x: jax.Array, spec) -> jax.Array:
    if self.layout.mesh is None:
      return x
    sharding = NamedSharding(self.layout.mesh, PartitionSpec(*spec))
    return jax.lax.with_sharding_constraint(x, sharding)


def epoch_schedule(
  *,
  base: float,
  initial: float,
  warmup_epochs: int,
  decay_epochs: tuple[int, ...],
  decay_factor: float,
  steps_per_epoch: int,
) -> optax.Schedule:
  """Rates that change between epochs: a line up to `base`, then steps down.

  The first epoch is 1 of `warmup_epochs` up already. A decay comes after its
  epoch; those before the end of the warm-up are lost in it. Source: runtime/
  training.py of the reference, with PyTorch's MultiStepLR.
  """

  def schedule(count):
    epoch = jnp.asarray(count) // steps_per_epoch + 1
    share = jnp.minimum(epoch / max(warmup_epochs, 1), 1.0)
    rate = initial + (base - initial) * share if warmup_epochs else base
    for boundary in decay_epochs:
      if boundary >= warmup_epochs:
        rate = jnp.where(epoch > boundary, rate * decay_factor, rate)
    return jnp.asarray(rate, jnp.float32)

  return schedule


def window_weight(side: int) -> np.ndarray:
  """The weight of each voxel of a window, float32 [1, S, S, S, 1].

  The cube root of a Gaussian in three dimensions, as in the reference. The sum
  of the weights divides all classes alike, so it is left out where only the
  largest is asked for.
  """
  places = np.arange(side) - (side - 1) / 2
  along = np.cbrt(np.exp(-0.5 * np.square(places / (0.125 * side))))
  weight = np.einsum('i,j,k->ijk', along, along, along)
  weight = (weight / weight.max()).astype(np.float32)
  return weight[None, ..., None]


def mean_dice(
  predictions: Iterable[Mapping[str, np.ndarray]], voxels: list[int]
) -> float:
  """Mean over volumes and classes, given counts by row of each batch.

  RuntimeError unless all `voxels` of each volume were counted. A class that a
  volume has not, and nowhere is found, has a Dice of 1.
  """
  both, either, seen = 0.0, 0.0, np.zeros(len(voxels))
  for each in predictions:
    of_volume = np.zeros((len(voxels), len(each['volume'])))
    of_volume[each['volume'], np.arange(len(each['volume']))] = 1
    both = both + of_volume @ each['both']
    either = either + of_volume @ each['either']
    seen += of_volume @ each['seen']
  if seen.tolist() != voxels:
    wrong = np.flatnonzero(seen != voxels)[0]
    raise RuntimeError(
      f'Expected an eval over each voxel of {len(voxels)} volumes, '
      f'{voxels[wrong]} of volume {wrong}, got {seen[wrong]:.0f}.'
    )
  smooth = unet3d.SMOOTH
  return float(((2 * both + smooth) / (either + smooth)).mean())


def _add(tiles: jax.Array, row: PyTree) -> tuple[jax.Array, PyTree]:
  """Adds a window's tiles to the slots [S, T, T, T, C] -> counts of voxels.

  Where the label is IGNORED a sum is not complete, and is not counted.
  """
  old, real = tiles[row['slot']], row['weight'] > 0
  new = row['logits'] + jnp.where(_wide(row['begins'], old), 0.0, old)
  tiles = tiles.at[row['slot']].set(jnp.where(real, new, old))
  seen = (row['label'] != windows.IGNORED) & real
  classes = jnp.arange(1, new.shape[-1]).reshape(1, 1, 1, 1, -1)
  found = (jnp.argmax(new, axis=-1)[..., None] == classes) & seen[..., None]
  true = (row['label'][..., None] == classes) & seen[..., None]
  count = functools.partial(jnp.sum, axis=(0, 1, 2, 3), dtype=jnp.int32)
  return tiles, {
    'both': count(found & true),
    'either': count(found) + count(true),
    'seen': jnp.sum(seen, dtype=jnp.int32),
  }


def _wide(flags: jax.Array, like: jax.Array) -> jax.Array:
  return flags.reshape(-1, *[1] * (like.ndim - 1))


def _tiles(windows: jax.Array) -> jax.Array:
  """[N, S, S, S, C] -> the eight tiles [N, 8, S / 2, S / 2, S / 2, C]."""
  n, side, *_, channels = windows.shape
  half = side // 2
  cut = windows.reshape(n, 2, half, 2, half, 2, half, channels)
  cut = jnp.transpose(cut, (0, 1, 3, 5, 2, 4, 6, 7))
  return cut.reshape(n, _TILES, half, half, half, channels)


def _nesterov(hp: Hparams) -> optax.GradientTransformation:
  schedule = epoch_schedule(
    base=hp.base_learning_rate,
    initial=hp.initial_learning_rate,
    warmup_epochs=hp.warmup_epochs,
    decay_epochs=hp.decay_epochs,
    decay_factor=hp.decay_factor,
    steps_per_epoch=hp.steps_per_epoch,
  )
  return optax.chain(
    optax.add_decayed_weights(hp.weight_decay),
    optax.sgd(schedule, hp.momentum, nesterov=True),
  )


_OPTIMIZERS = {'sgd': _nesterov}


def _cropping(hp: Hparams) -> kits19.Cropping:
  return kits19.Cropping(
    side=hp.training_input_shape,
    oversampling=hp.oversampling,
    flip=hp.flip_probability,
    scale=hp.brightness_probability,
    scale_by=(hp.brightness_min, hp.brightness_max),
    noise=hp.noise_probability,
    noise_deviation=hp.noise_deviation,
  )


make_task = UNet3DTask
