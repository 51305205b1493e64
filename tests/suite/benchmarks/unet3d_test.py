"""Tests of 3D U-Net as a task: evals, samples split in space, refusals."""

import dataclasses
import functools
import re

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.kits19 import read
from models import unet3d as net
from suite.benchmark import DataSet
from suite.benchmarks import unet3d
from suite.benchmarks.unet3d import broken
from suite.benchmarks.unet3d import task as unet3d_task
from suite.run import sharding
from suite.run.task import State
from tests.suite.benchmarks import unet3d_small

# What the reference (runtime/inference.py: sliding_window_inference, model/
# losses.py: DiceScore) says of the volumes and the weights below: Dice of both
# classes of each volume.
_OF_REFERENCE = (
  (0.04444444924592972, 0.3605150282382965),
  (0.015810279175639153, 0.3283582031726837),
  (0.021321963518857956, 2.2421524636939694e-09),
)
_SHAPES = ((9, 17, 11), (8, 12, 15), (18, 10, 8))


@functools.cache
def _task(lanes=1, **changes):
  hp = dataclasses.replace(
    unet3d_small.SIZE.hparams,
    **{'filters': (4, 6), 'eval_batch_size': 4 * lanes, **changes},
  )
  return unet3d_task.UNet3DTask(
    hp, dataclasses.replace(unet3d_small.SIZE.data, eval_samples=3)
  ).shared_by(lanes)


def weights(task):
  """Weights that matter, drawn leaf by leaf."""
  rng = np.random.default_rng(5)

  def leaf(path, spec):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    drawn = rng.standard_normal(spec.shape)
    if name.endswith('scale'):
      drawn = 1 + 0.3 * drawn
    elif name.endswith('bias'):
      drawn = 0.3 * drawn
    else:
      drawn /= np.sqrt(np.prod(spec.shape[:-1]))
    return drawn.astype(np.float32)

  shapes, _ = jax.eval_shape(task.init_model, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(leaf, shapes)


def volumes():
  """Noise; one volume has no tumour."""
  rng = np.random.default_rng(9)
  found = []
  for number, shape in enumerate(_SHAPES):
    image = rng.standard_normal(shape).astype(np.float32)
    label = rng.integers(0, 3, shape).astype(np.uint8)
    if number == 2:
      label[label == 2] = 0
    found.append(read.Volume(str(number), image, label, ()))
  return found


def _laid_out(task, lanes, model):
  """The task over devices, which need not be all, and their mesh."""
  mesh = sharding.make_mesh(model, jax.devices()[: lanes * model])
  return task.laid_out(sharding.Layout(mesh)), mesh


@functools.cache
def _counts(lanes, model=1):
  """Counts of an eval by row of each batch."""
  task, mesh = _laid_out(_task(lanes), lanes, model)
  state = State(0, 0, weights(task), {}, {})
  step = jax.jit(
    lambda carry, batch: task.combine(carry, task.predict(state, batch))
  )
  carry, found = {'tiles': np.zeros(task.carry.spec['tiles'].shape)}, []
  carry = sharding.put_rows(jax.tree.map(np.float32, carry), mesh)
  for batch in read.eval_batches(volumes(), task._lanes_of(_SHAPES), threads=0):
    carry, output = step(carry, sharding.put_rows(batch, mesh))
    found.append(jax.device_get(output))
  return found


class EvalTest(parameterized.TestCase):
  @parameterized.parameters((1, 1), (2, 1), (2, 2))
  def test_dice_is_that_of_the_reference_over_any_devices(self, lanes, model):
    voxels = _task()._voxels(unet3d_task.VolumeFacts(_SHAPES))
    found = _counts(lanes, model)
    self.assertAlmostEqual(
      unet3d_task.mean_dice(found, voxels), np.mean(_OF_REFERENCE), delta=1e-6
    )

  def test_voxels_that_are_not_seen_end_an_eval(self):
    voxels = _task()._voxels(unet3d_task.VolumeFacts(_SHAPES))
    found = _counts(1)
    with self.assertRaisesRegex(RuntimeError, 'each voxel of 3 volumes, .* of'):
      unet3d_task.mean_dice(found[:-1], voxels)
    with self.assertRaisesRegex(RuntimeError, r'1440 of volume 2, got 2\d+'):
      unet3d_task.mean_dice([*found, found[0]], voxels)

  def test_dice_by_hand(self):
    def counts(volume, both, either, seen):
      rows = (np.array([each]) for each in (volume, both, either, seen))
      return dict(zip(('volume', 'both', 'either', 'seen'), rows, strict=True))

    found = [
      counts(0, [3, 0], [8, 4], 20),
      counts(1, [0, 0], [0, 0], 30),  # neither class is there, nor found
      counts(0, [1, 0], [2, 0], 5),
    ]
    expected = np.mean([8 / 10, 0, 1, 1])
    self.assertAlmostEqual(
      unet3d_task.mean_dice(found, [25, 30]), expected, places=6
    )

  def test_more_open_tiles_than_slots_are_refused_before_the_clock(self):
    folder = self.create_tempdir().full_path
    unet3d_small.write(folder)
    task = unet3d_task.UNet3DTask(
      dataclasses.replace(unet3d_small.SIZE.hparams, eval_slots=7),
      unet3d_small.SIZE.data,
    )
    with self.assertRaisesRegex(ValueError, r'eval_slots of \d+ or more'):
      task.inspect(f'{folder}/{unet3d_small.SIZE.data.name}/1.0.0')


class SpaceTest(parameterized.TestCase):
  """Samples that are split along their depth over a model axis."""

  def gradient(self, model):
    """Compiled: a batch, put on the devices -> loss and gradients."""
    task = _task(fold_planes=False, filters=(4,))
    task, mesh = _laid_out(task, 2, model)
    rng = np.random.default_rng(2)
    image = rng.standard_normal((4, 8, 8, 8)).astype(np.float32)
    batch = {
      'image': image,
      'label': (image > 1).astype(np.uint8),
      'weight': np.array([1, 1, 0, 1], np.float32),
    }
    put = sharding.put_rows(batch, mesh)
    loss = lambda params: task.loss(params, {}, put, None)[0]  # noqa: E731
    return jax.jit(jax.value_and_grad(loss)).lower(weights(task)).compile()

  def test_split_samples_have_the_loss_and_gradient_of_whole_ones(self):
    params = weights(_task(fold_planes=False, filters=(4,)))
    whole, split = self.gradient(1), self.gradient(4)
    expected, found = whole(params), split(params)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for ours, theirs in zip(
      *map(jax.tree.leaves, (found, expected)), strict=True
    ):
      np.testing.assert_allclose(
        ours, theirs, atol=1e-3 * max(1e-3, abs(theirs).max())
      )
    # Neighbours exchange planes, and no one gets all of what is split.
    text = split.as_text()
    self.assertIn('collective-permute', text)
    self.assertNotIn('collective-permute', whole.as_text())
    gathered = re.findall(r'= (f32\[[\d,]+\])\S* all-gather\(', text)
    volumes = [each for each in gathered if each.count(',') == 4]
    self.assertEqual(volumes, [])


class BrokenTest(parameterized.TestCase):
  """Each variant changes what its name says, and nothing once it is over."""

  def parts(self):
    """Changes that the variants make, of small arrays."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 4, 4, 4, 3)).astype(np.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 3, 3, 2)), jnp.float32)
    labels = rng.integers(0, 3, (2, 4, 4, 4))
    whole = read.Volume(
      '', rng.random((8, 9, 10), np.float32),
      rng.integers(0, 3, (8, 9, 10)).astype(np.uint8), (),
    )  # fmt: skip
    crop = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)
    cropping = read.Cropping(4, 0.4, 0.3, 0.0, (0.7, 1.3), 0.0, 0.1)
    cropping.fill(whole, np.random.default_rng(9), *crop)
    return {
      'join': net.join(x, x),
      'convolution': net.convolve_folded(x, kernel, 1),
      'loss': net.row_losses(x, labels),
      'norm': net.instance_norm(x, np.ones(3), np.zeros(3)),
      'weight': unet3d_task.window_weight(4),
      'image': crop[0],
      'label': crop[1],
    }

  @parameterized.parameters(
    ('no skip connections', {'join'}),
    ('planes alone', {'convolution'}),
    ('labels mirrored apart', {'label'}),
    ('labels interpolated', {'label'}),
    ('no Dice in the loss', {'loss'}),
    ('background in Dice', {'loss'}),
    ('windows off centre', {'weight'}),
    ('norm over the batch', {'norm'}),
    ('no oversampling', set()),
  )
  def test_a_variant_is_broken_where_it_says(self, name, expected):
    change, context = broken.VARIANTS[name]
    hp = unet3d_small.SIZE.hparams
    self.assertEqual(change(hp) == hp, bool(expected))
    before = self.parts()
    with context():
      inside = self.parts()
    found = {k for k in before if not np.allclose(before[k], inside[k])}
    self.assertEqual(found, expected)
    for key, value in self.parts().items():
      np.testing.assert_array_equal(value, before[key], key)


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'volumes': 25}, 'volumes of 24'),
    ({'training_input_shape': 9}, 'multiple of 2 to the power'),
    ({'last_batch': 'dropped', 'global_batch_size': 32}, 'padded, or dropped'),
    ({'brightness_max': 0.1}, 'brightness_min or more'),
    ({'eval_after': 9}, 'eval_after or more'),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(unet3d_small.SIZE.hparams, **changes)
    with self.assertRaisesRegex(ValueError, message):
      unet3d.BENCHMARK.task(hp, unet3d_small.SIZE.data)

  def test_an_eval_batch_that_devices_do_not_divide_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'eval_batch_size that 3 devices'):
      unet3d.BENCHMARK.task(
        unet3d_small.SIZE.hparams, unet3d_small.SIZE.data, devices=3
      )

  def test_another_data_set_is_refused(self):
    size = unet3d_small.SIZE
    folder = self.create_tempdir().full_path
    unet3d_small.write(folder)
    task = unet3d_task.UNet3DTask(size.hparams, DataSet(size.data.name, 24, 11))
    with self.assertRaisesRegex(ValueError, "11 examples in .*'validation'"):
      task.inspect(f'{folder}/{size.data.name}/1.0.0')


if __name__ == '__main__':
  absltest.main()
