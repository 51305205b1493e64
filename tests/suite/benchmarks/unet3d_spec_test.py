"""Numbers that the specification of 3D U-Net fixes, each stated once.

From mlcommons/training, retired_benchmarks/unet3d/pytorch, and the rules of
rounds v1.0 to v4.0: training_rules.adoc of mlcommons/training_policies and
training_*/closed_unet3d.yaml of mlcommons/logging.
"""

import dataclasses

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines import kits19
from input_pipelines.kits19 import prepare, read, windows
from models import unet3d
from suite.benchmarks.unet3d import task as unet3d_task
from tests.suite.benchmarks import spec_table

SMALL = {'filters': (4,)}  # where no model is needed
TABLE = spec_table.Table(
  name='unet3d',
  runs=40,
  dropped=4,
  sizes={
    'reference': (
      '4.0.0', {'DICE': {'at_least': 0.908}}, ('kits19', 168, 42), 30
    ),
    'v3.0': (
      '3.0.0', {'DICE': {'at_least': 0.908}}, ('kits19', 168, 42), 30
    ),
  },
  fixed={
    'opt_name': 'sgd',
    'volumes': 168,
    'eval_after': 1000,
    'eval_every': 20,
    'places': 'samples',
    'oversampling': 0.4,
    'training_input_shape': 128,
    'validation_input_shape': 128,
    'validation_overlap': 0.5,
    'flip_probability': 1 / 3,
    'brightness_probability': 0.1,
    'brightness_min': 0.7,
    'brightness_max': 1.3,
    'noise_probability': 0.1,
    'noise_deviation': 0.1,
    'filters': (32, 64, 128, 256, 320),
    'classes': 3,
  },
  tunable={  # the recipe of the points for a batch of 56
    'global_batch_size': 56,
    'last_batch': 'dropped',
    'base_learning_rate': 2.0,
    'initial_learning_rate': 1e-4,
    'warmup_epochs': 1000,
    'decay_epochs': (),
    'decay_factor': 1.0,
    'momentum': 0.9,
    'weight_decay': 0.0,
    'max_epochs': 10_000,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'remat',
    'fold_planes',
    'eval_batch_size',
    'eval_slots',
  ),
  changed={'v3.0': {'places': 'epochs'}},
  allowed=(
    {'global_batch_size': '2', 'base_learning_rate': '0.8',
     'warmup_epochs': '200'},
    {'global_batch_size': '80', 'last_batch': 'padded'},
    {'global_batch_size': '336', 'last_batch': 'padded'},
    {'decay_epochs': '1500,2000', 'decay_factor': '0.5'},
    {'warmup_epochs': '0', 'weight_decay': '1e-5', 'momentum': '0.95'},
    {'initial_learning_rate': '0', 'max_epochs': '4000'},
    {'compute_dtype': 'bfloat16', 'remat': 'true', 'fold_planes': 'true'},
  ),
  refused=(
    {'opt_name': 'lamb'},
    {'oversampling': '0.5'},
    {'training_input_shape': '64'},
    {'validation_input_shape': '160'},
    {'validation_overlap': '0.25'},
    {'flip_probability': '0.5'},
    {'eval_after': '500'},
    {'eval_every': '40'},
    {'places': 'epochs'},
    {'volumes': '210'},
    {'filters': '16,32,64,128,160'},
    {'global_batch_size': '336'},  # no batch would be whole
    {'momentum': '1'},
    {'decay_epochs': '2000,1500'},
    {'max_epochs': '999'},
    {'last_batch': 'mixed'},
  ),
  logged={
    'global_batch_size': 56,
    'opt_name': 'sgd',
    'opt_base_learning_rate': 2.0,
    'opt_initial_learning_rate': 1e-4,
    'opt_learning_rate_warmup_epochs': 1000,
    'opt_learning_rate_decay_boundary_epochs': (),
    'opt_learning_rate_decay_factor': 1.0,
    'opt_momentum': 0.9,
    'opt_weight_decay': 0.0,
    'gradient_accumulation_steps': 1,
    'oversampling': 0.4,
    'training_input_shape': 128,
    'validation_input_shape': 128,
    'validation_overlap': 0.5,
  },
)  # fmt: skip


class UNet3DSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_data_set(self):
    self.assertEqual(
      prepare.Preparation(),
      prepare.Preparation(
        spacing=(1.6, 1.2, 1.2),
        least=-79.0,
        most=304.0,
        mean=101.0,
        deviation=76.9,
        side=128,
      ),
    )
    self.assertEqual((kits19.CASES, kits19.CLASSES), (210, 3))
    self.assertLen({*kits19.EVAL_CASES}, 42)
    self.assertEqual(sum(kits19.EVAL_CASES), 4316)
    self.assertEqual(kits19.EVAL_CASES[::8], (0, 44, 76, 112, 169, 206))
    self.assertEqual(prepare.BOXES, 2)

  def test_what_is_drawn(self):
    self.assertEqual(
      unet3d_task._cropping(self.size().hparams),
      read.Cropping(
        side=128,
        oversampling=0.4,
        flip=1 / 3,
        scale=0.1,
        scale_by=(0.7, 1.3),
        noise=0.1,
        noise_deviation=0.1,
      ),
    )
    self.assertEqual(read.PAD, -2.2)

  def test_the_model(self):
    """Kernels, strides and padding, in the order of computation."""
    sides, filters = (128, 64, 32, 16, 8, 4), (32, 64, 128, 256, 320, 320)
    expected = [((1, 32), 1, 128), ((32, 32), 1, 128)]
    for level in range(5):
      channels, out = filters[level : level + 2]
      expected.append(((channels, out), 2, sides[level + 1]))
      expected.append(((out, out), 1, sides[level + 1]))
    for level in range(4, -1, -1):
      out = filters[level]
      expected += [((2 * out, out), 1, sides[level])]
      expected += [((out, out), 1, sides[level])]
    task = self.task()
    params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
    self.assertEqual(sum(p.size for p in jax.tree.leaves(params)), 31_190_243)
    volumes = jax.ShapeDtypeStruct((1, 128, 128, 128), jnp.float32)
    traced = jax.make_jaxpr(task._model.apply)(params, stats, volumes)
    found = []
    for each in spec_table.equations(traced.jaxpr):
      if each.primitive.name == 'conv_general_dilated':
        (stride,) = {*each.params['window_strides']}
        self.assertEqual(each.params['padding'], ((1, 1),) * 3)
        *kernel, channels, out = each.invars[1].aval.shape
        self.assertEqual(kernel, [3, 3, 3])
        side = each.outvars[0].aval.shape[1]
        found.append(((channels, out), stride, side))
    self.assertEqual(found, expected)
    self.assertEqual((unet3d.EPSILON, unet3d.SMOOTH), (1e-5, 1e-6))
    self.assertEqual(task.tensors, unet3d.tensor_names(unet3d.KITS19))

  def rate(self, epoch, **changes):
    """The rate in the last step of an epoch, from 1."""
    hp = dataclasses.replace(self.size().hparams, **SMALL, **changes)
    schedule = unet3d_task.epoch_schedule(
      base=hp.base_learning_rate,
      initial=hp.initial_learning_rate,
      warmup_epochs=hp.warmup_epochs,
      decay_epochs=hp.decay_epochs,
      decay_factor=hp.decay_factor,
      steps_per_epoch=hp.steps_per_epoch,
    )
    first, last = (schedule(epoch * 3 - n) for n in (3, 1))
    self.assertEqual(first, last)  # an epoch has three steps, and one rate
    return float(last)

  def test_the_learning_rate(self):
    """Rates that lr_warmup and MultiStepLR of the reference set."""
    for epoch, expected in (
      (1, 1e-4 + (2 - 1e-4) / 1000),
      (2, 1e-4 + (2 - 1e-4) * 2 / 1000),
      (250, 1e-4 + (2 - 1e-4) / 4),
      (999, 1e-4 + (2 - 1e-4) * 0.999),
      (1000, 2.0),
      (1001, 2.0),
      (9999, 2.0),
    ):
      self.assertAlmostEqual(self.rate(epoch), expected, delta=1e-6 * expected)
    decay = {'decay_epochs': (500, 1000, 1500), 'decay_factor': 0.5}
    for epoch, expected in (
      (501, 1e-4 + (2 - 1e-4) * 0.501),  # lost in the warm-up
      (1000, 2.0),
      (1001, 1.0),
      (1500, 1.0),
      (1501, 0.5),
    ):
      self.assertAlmostEqual(self.rate(epoch, **decay), expected, delta=2e-6)
    self.assertEqual(self.rate(1, warmup_epochs=0), 2.0)

  def test_the_optimizer(self):
    """Three steps of PyTorch's SGD with Nesterov's momentum, by hand."""
    optimizer = self.task(
      **SMALL, warmup_epochs=0, base_learning_rate=0.1, weight_decay=0.01
    ).optimizer
    w, buffer, state = 1.0, 0.0, optimizer.init({'w': jnp.ones(1)})
    params = {'w': jnp.ones(1)}
    for gradient in (0.5, -0.2, 0.3):
      updates, state = optimizer.update(
        {'w': jnp.full(1, gradient)}, state, params
      )
      params = {'w': params['w'] + updates['w']}
      decayed = gradient + 0.01 * w
      buffer = 0.9 * buffer + decayed
      w -= 0.1 * (decayed + 0.9 * buffer)
      np.testing.assert_allclose(params['w'], w, rtol=1e-6)

  def test_evals(self):
    """Epochs of the first evals and of the last, as the rules have them."""
    for batch, last_batch, first, every, last in (
      (32, 'dropped', 1050, 21, 10_500),
      (128, 'dropped', 1313, 27, 13_125),
      (32, 'padded', 875, 18, 8750),
      (128, 'padded', 657, 14, 6563),
      (56, 'dropped', 1000, 20, 10_000),
      (2, 'dropped', 1000, 20, 10_000),
    ):
      hp = {'global_batch_size': batch, 'last_batch': last_batch, **SMALL}
      found = self.task(**hp, places='epochs').blocks(None)
      at = [block.at['epoch_num'] for block in found]
      self.assertEqual(at[:3], [first, first + every, first + 2 * every])
      self.assertBetween(at[-1], last - every + 1, last)
      steps = 168 // batch if last_batch == 'dropped' else -(-168 // batch)
      self.assertEqual(found[0].steps, first * steps)
      trained = 168 if last_batch == 'padded' else steps * batch
      self.assertEqual(found[0].samples, first * trained)
      # From round v3.1 on places are samples, padding included.
      found = self.task(**hp).blocks(None)
      self.assertEqual(
        [block.at['epoch_num'] for block in found],
        [epoch * steps * batch for epoch in at],
      )

  def test_the_weight_of_a_window(self):
    """The cube root of a Gaussian of deviation 16; its largest value is 1."""
    weight = unet3d_task.window_weight(128)
    self.assertEqual(weight.shape, (1, 128, 128, 128, 1))
    self.assertEqual(weight.max(), 1)
    distance = np.arange(128) - 63.5
    along = np.exp(-(distance**2 - 0.25) / (2 * 16**2)) ** (1 / 3)
    np.testing.assert_allclose(
      weight[0, 3, :, 70, 0], along[3] * along[70] * along, rtol=1e-5
    )

  def test_windows(self):
    self.assertEqual(windows.axis_of(192, 128).tiles, 3)  # 64 voxels apart


if __name__ == '__main__':
  absltest.main()
