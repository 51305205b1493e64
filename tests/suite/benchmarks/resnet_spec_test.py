"""Numbers that the specification of ResNet-50 fixes, each stated once.

From mlcommons/training, retired_benchmarks/resnet-tf2/tensorflow2, and the
rules of rounds v0.7 to v4.0: training_rules.adoc of mlcommons/training_policies
and training_4.0.0/closed_resnet*.yaml of mlcommons/logging.
"""

from absl.testing import absltest
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.imagenet import prepare
from input_pipelines.imagenet import read as imagenet
from models import resnet
from models.parts import layers
from suite.benchmarks.resnet import task as resnet_task
from suite.metrics import mean
from suite.run.task import Facts
from tests.suite.benchmarks import spec_table

STEPS = 1_281_167 // 4096  # of an epoch, the remainder dropped
WARMUP, DECAY = 5 * STEPS, 42 * STEPS - 5 * STEPS + 1
SMALL = {'stage_blocks': (1,), 'stage_width': 4}  # where no model is needed


TABLE = spec_table.Table(
  name='resnet',
  runs=5,
  dropped=1,
  sizes={
    'reference': (
      '4.0.0',
      {'accuracy': {'at_least': 0.759}},
      ('imagenet2012', 1_281_167, 50_000),
      30,
    )
  },
  fixed={
    'end_learning_rate': 1e-4,
    'decay_power': 2,
    'lars_epsilon': 0.0,
    'epochs_between_evals': 4,
    'stage_blocks': (3, 4, 6, 3),
    'stage_width': 64,
    'classes': 1000,
    'image_size': 224,
    'resize_size': 256,
    'crop_area_min': 0.05,
    'crop_area_max': 1.0,
    'crop_aspect_min': 0.75,
    'crop_aspect_max': 1.33,
    'flip_probability': 0.5,
  },
  tunable={  # the recipe for a batch of 4096
    'global_batch_size': 4096,
    'opt_name': 'lars',
    'base_learning_rate': 10.0,
    'decay_steps': 11_545,
    'warmup_epochs': 5,
    'momentum': 0.9,
    'weight_decay': 2e-4,
    'label_smoothing': 0.1,
    'model_bn_span': 64,
    'eval_offset': 2,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'max_epochs',
    'eval_batch_size',
  ),
  allowed=(
    {'base_learning_rate': '19.405'},
    {'warmup_epochs': '31', 'decay_steps': '1133'},
    {'weight_decay': '2.5e-5'},
    {'weight_decay': '1e-4'},
    {'momentum': '0.94', 'global_batch_size': '32768'},
    {'label_smoothing': '0'},
    {'eval_offset': '0'},
    {'eval_offset': '3'},
    {'opt_name': 'sgd', 'base_learning_rate': '1.234'},
    {'opt_name': 'sgd', 'warmup_epochs': '0'},
    {'opt_name': 'sgd', 'model_bn_span': '256'},
    {'global_batch_size': '3264', 'model_bn_span': '204'},
    {'compute_dtype': 'bfloat16'},
  ),
  refused=(
    {'weight_decay': '3e-4'},
    {'weight_decay': '0'},
    {'momentum': '0.94', 'global_batch_size': '32704'},
    {'momentum': '0.94', 'global_batch_size': '32768', 'opt_name': 'sgd'},
    {'label_smoothing': '0.05'},
    {'eval_offset': '4'},
    {'opt_name': 'adam'},
    {'opt_name': 'sgd', 'base_learning_rate': '1.2345'},
    {'opt_name': 'sgd', 'warmup_epochs': '-1'},
  ),
  logged={
    'global_batch_size': 4096,
    'opt_name': 'lars',
    'lars_opt_base_learning_rate': 10.0,
    'lars_opt_end_learning_rate': 1e-4,
    'lars_opt_learning_rate_decay_poly_power': 2,
    'lars_opt_learning_rate_decay_steps': 11_545,
    'lars_opt_learning_rate_warmup_epochs': 5,
    'lars_opt_momentum': 0.9,
    'lars_opt_weight_decay': 2e-4,
    'lars_epsilon': 0.0,
    'gradient_accumulation_steps': 1,
  },
)


class ResNetSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_log_with_sgd(self):
    found = {*spec_table.hparams.logged(self.override({'opt_name': 'sgd'}))}
    expected = {
      'sgd_opt_base_learning_rate', 'sgd_opt_end_learning_rate',
      'sgd_opt_learning_rate_decay_poly_power',
      'sgd_opt_learning_rate_decay_steps', 'sgd_opt_weight_decay',
      'sgd_opt_momentum', 'model_bn_span', 'opt_learning_rate_warmup_epochs',
      'global_batch_size', 'opt_name', 'gradient_accumulation_steps',
    }  # fmt: skip
    official = {key for key in found if not key.startswith('podium_')}
    self.assertEqual(official, expected)

  def test_images(self):
    self.assertEqual(imagenet.MEAN_RGB, (123.68, 116.78, 103.94))
    image = np.full((1, 1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(  # neither scaled nor divided by a deviation
      resnet_task._pixels({'image': image})[0, 0, 0],
      [255 - 123.68, 255 - 116.78, 255 - 103.94],
      rtol=1e-6,
    )
    self.assertEqual(
      resnet_task._preprocessing(self.size().hparams),
      imagenet.Preprocessing(
        image_size=224,
        resize_size=256,
        crop_area=(0.05, 1.0),
        crop_aspect=(0.75, 1.33),
        crop_attempts=100,
        min_object_covered=0.1,
        flip_probability=0.5,
      ),
    )

  def test_the_data_set(self):
    archives = prepare.ARCHIVES
    self.assertEqual(archives['train'].images, 1_281_167)
    self.assertEqual(archives['train'].shards, 1024)
    self.assertEqual(archives['validation'].images, 50_000)
    self.assertEqual(prepare._QUALITY, 100)  # of what is no RGB JPEG

  def test_the_model(self):
    """Kernels, strides and padding, in the order of computation."""
    convolutions = [((7, 7, 3, 64), 2, 3)]
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
      width = 64 * 2**stage
      for unit in range(blocks):
        stride = 2 if stage and not unit else 1
        convolutions += [
          ((1, 1, channels, width), 1, 0),
          ((3, 3, width, width), stride, 1),
          ((1, 1, width, 4 * width), 1, 0),
        ]
        if not unit:
          convolutions.append(((1, 1, channels, 4 * width), stride, 0))
        channels = 4 * width
    found, pools = [], []
    for each in self.traced():
      if each.primitive.name == 'conv_general_dilated':
        (stride,) = {*each.params['window_strides']}
        (padding,) = {n for pair in each.params['padding'] for n in pair}
        found.append((each.invars[1].aval.shape, stride, padding))
      elif each.primitive.name == 'reduce_window_max':
        pools.append(each.params)
    self.assertEqual(found, convolutions)
    (pool,) = pools
    self.assertEqual(pool['window_dimensions'], (1, 3, 3, 1))
    self.assertEqual(pool['window_strides'], (1, 2, 2, 1))
    self.assertEqual(pool['padding'], ((0, 0), (0, 1), (0, 1), (0, 0)))

  def traced(self):
    task = self.task()
    params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
    self.assertEqual(sum(p.size for p in jax.tree.leaves(params)), 25_557_032)
    images = jax.ShapeDtypeStruct((64, 224, 224, 3), jnp.float32)
    apply = lambda *args: task._model.apply(*args, train=True)  # noqa: E731
    traced = jax.make_jaxpr(apply)(params, stats, images)
    return list(spec_table.equations(traced.jaxpr))

  def test_batch_norm_and_the_start(self):
    small = resnet.Size((1,), 64, 1000)
    model = resnet.ResNet(small, bn_span=None, rngs=nnx.Rngs(3))
    norms = [
      each
      for _, each in nnx.iter_modules(model)
      if isinstance(each, layers.GroupedBatchNorm)
    ]
    self.assertLen(norms, 5)
    for norm in norms:
      self.assertEqual((norm.epsilon, norm.momentum), (1e-5, 0.9))
      np.testing.assert_array_equal(norm.scale[...], 1)  # of each, the last too
      np.testing.assert_array_equal(norm.bias[...], 0)
    first, *_ = model.stages[0]
    for kernel in (model.conv1.kernel[...], first.conv2.kernel[...]):
      std = np.sqrt(2 / np.prod(kernel.shape[:3]))
      self.assertAlmostEqual(float(kernel.std()) / std, 1, delta=0.03)
      # Cut off at two deviations of the normal, which is wider by 1 / 0.88.
      self.assertLess(float(abs(kernel).max()), 2 * std / 0.8796)
    kernel, bias = model.dense.kernel[...], model.dense.bias[...]
    self.assertAlmostEqual(float(kernel.std()), 0.01, delta=0.0002)
    self.assertGreater(float(abs(kernel).max()), 0.035)  # not cut off
    np.testing.assert_array_equal(bias, 0)

  def update(self, step, velocity=0.0, weight=1e-3, gradient=1e-7, **changes):
    """The change of each of three kinds of tensors, of two equal numbers."""
    optimizer = self.task(**SMALL, **changes).optimizer
    params = {
      'conv1': {'kernel': weight * jnp.ones(2)},
      'bn1': {'scale': weight * jnp.ones(2), 'bias': weight * jnp.ones(2)},
      'dense': {'kernel': weight * jnp.ones(2), 'bias': weight * jnp.ones(2)},
    }
    like = lambda value: jax.tree.map(  # noqa: E731
      lambda leaf: jnp.full_like(leaf, value), params
    )
    state = optimizer.init(params)._replace(
      count=jnp.int32(step), momentum=like(velocity)
    )
    updates, _ = optimizer.update(like(gradient), state, params)
    return {
      f'{module}/{name}': float(leaf[0])
      for module, leaves in updates.items()
      for name, leaf in leaves.items()
    }

  def test_the_learning_rate(self):
    half = WARMUP + DECAY // 2
    for step, expected in (
      (0, 0.0),
      (WARMUP // 2, 5.0),
      (WARMUP, 10.0),
      (half, 1e-4 + (10 - 1e-4) * (1 - (half - WARMUP) / DECAY) ** 2),
      (WARMUP + DECAY, 1e-4),
      (2 * DECAY, 1e-4),
    ):
      for name in ('lars', 'sgd'):
        found = -self.update(step, gradient=1.0, opt_name=name)['bn1/bias']
        self.assertAlmostEqual(found, expected, delta=1e-5 + 1e-4 * expected)

  def test_lars(self):
    w, g, v = 1e-3, 1e-7, 1e-5
    norm = np.sqrt(2)
    # Logged as 0, epsilon is 1e-7: that of the Keras backend in its place.
    trust = 1e-3 * norm * w / (norm * g + 2e-4 * norm * w + 1e-7)
    decayed = 0.9 * v - 10 * trust * (g + 2e-4 * w)
    found = self.update(WARMUP, v, w, g)
    for name, expected in {
      'conv1/kernel': decayed,
      'dense/kernel': decayed,
      'dense/bias': 0.9 * v - 10 * g,
      'bn1/scale': 0.9 * v - 10 * g,
      'bn1/bias': 0.9 * v - 10 * g,
    }.items():
      np.testing.assert_allclose(found[name], expected, rtol=1e-4, err_msg=name)

  def test_sgd(self):
    w, g, v = 1e-3, 1e-7, 1e-5
    decayed = 0.9 * v - 10 * (g + 2 * 2e-4 * w)  # wd sum(w^2), not half of it
    found = self.update(WARMUP, v, w, g, opt_name='sgd')
    for name, expected in {
      'conv1/kernel': decayed,
      'dense/kernel': decayed,
      'dense/bias': decayed,
      'bn1/scale': 0.9 * v - 10 * g,
      'bn1/bias': 0.9 * v - 10 * g,
    }.items():
      np.testing.assert_allclose(found[name], expected, rtol=1e-4, err_msg=name)

  def test_evals(self):
    for offset in range(4):
      blocks = self.task(**SMALL, eval_offset=offset).blocks(Facts())
      at = [block.at['epoch_num'] for block in blocks]
      self.assertEqual(at[:3], [offset + 1, offset + 5, offset + 9])
    # The batch that holds the last image of an epoch is the epoch's last.
    blocks = self.task(**SMALL).blocks(Facts())
    steps = np.cumsum([block.steps for block in blocks])
    self.assertEqual(steps[0], -(-3 * 1_281_167 // 4096))
    self.assertEqual(steps[1], -(-7 * 1_281_167 // 4096))
    seen = [{'correct': 37_950, 'seen': 50_000}]
    how = {'examples': 50_000, 'what': 'images'}
    self.assertEqual(mean.over_examples(seen, 'correct', 'seen', **how), 0.759)


if __name__ == '__main__':
  absltest.main()
