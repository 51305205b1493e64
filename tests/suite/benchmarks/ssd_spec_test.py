"""Numbers that the specification of SSD fixes, each stated once.

From mlcommons/training, retired_benchmarks/ssd-v1/ssd, and the rules of rounds
v0.6 to v1.1: training_rules.adoc of mlcommons/training_policies and
training_*/closed_ssd.yaml of mlcommons/logging.
"""

import dataclasses

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np

from input_pipelines.coco import read, sampled_crop
from models import ssd
from suite.benchmarks.ssd import task as ssd_task
from tests.models.parts import anchors_test
from tests.suite.benchmarks import spec_table

_COCO = ('coco2017', 117_266, 4952)
_TARGET = {'mAP': {'at_least': 0.23}}
TABLE = spec_table.Table(
  name='ssd',
  runs=5,
  dropped=1,
  sizes={
    'reference': ('1.1.0', _TARGET, _COCO, 30),
    'v1.0': ('1.0.0', _TARGET, _COCO, 30),
    'v0.6': ('podium-ssd-v0.6', _TARGET, _COCO, 0),
  },
  fixed={
    'decay_factor': 0.1,
    'momentum': 0.9,
    'places': 'epochs',
    'eval_every': 5,
    'eval_places': (),
    'image_size': 300,
    'flip_probability': 0.5,
    'brightness': 0.125,
    'contrast': 0.5,
    'saturation': 0.5,
    'hue': 0.05,
    'stage_blocks': (3, 4, 6),
    'stage_widths': (64, 128, 256),
    'stage_strides': (1, 2, 1),
    'map_between': (256, 256, 128, 128, 128),
    'map_channels': (512, 512, 256, 256, 256),
    'map_strides': (2, 2, 2, 1, 1),
    'box_steps': (8, 16, 32, 64, 100, 300),
    'box_scales': (21, 45, 99, 153, 207, 261, 315),
    'box_ratios': (1, 2, 2, 2, 1, 1),
    'classes': 81,
    'centre_variance': 0.1,
    'size_variance': 0.2,
    'match_threshold': 0.5,
    'negatives': 3,
    'score_threshold': 0.05,
    'nms_threshold': 0.5,
    'class_detections': 200,
    'image_detections': 200,
  },
  tunable={  # the recipe of the point for a batch of 1024
    'global_batch_size': 1024,
    'base_learning_rate': 0.08,
    'warmup_steps': 300,
    'warmup_factor': 0,
    'decay_places': (40, 50),
    'weight_decay': 5e-4,
    'max_samples': 50,
    'model_bn_span': 128,
    'max_epochs': 120,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'eval_batch_size',
    'most_boxes',
  ),
  changed={
    'v1.0': {'eval_places': (40, 50, 55, 60, 65, 70, 75, 80)},
    'v0.6': {
      'places': 'iterations',
      'decay_places': (160_000, 200_000),
      'eval_places': (
        120_000, 160_000, 180_000, 200_000, 220_000, 240_000
      ),
    },
  },
  allowed=(
    {'max_samples': '1'},
    {'decay_places': '44,55'},
    {'decay_places': '60,75', 'global_batch_size': '2048',
     'model_bn_span': '16', 'warmup_steps': '1489', 'weight_decay': '4e-5',
     'base_learning_rate': '0.29248'},
    {'decay_places': '36,45', 'warmup_factor': '3'},
    {'weight_decay': '0', 'warmup_steps': '1'},
  ),
  refused=(
    {'max_samples': '2'},
    {'decay_places': '44,50'},
    {'decay_places': '42,52'},
    {'decay_places': '40'},
    {'warmup_steps': '0'},  # logs must say 1 or more
    {'warmup_factor': '-1'},
    {'model_bn_span': '100'},
    {'negatives': '4'},
    {'eval_every': '10'},
    {'momentum': '0.8'},
  ),
  logged={
    'global_batch_size': 1024,
    'opt_base_learning_rate': 0.08,
    'opt_learning_rate_warmup_steps': 300,
    'opt_learning_rate_warmup_factor': 0,
    'opt_learning_rate_decay_boundary_epochs': (40, 50),
    'opt_weight_decay': 5e-4,
    'max_samples': 50,
    'model_bn_span': 128,
    'gradient_accumulation_steps': 1,
  },
)  # fmt: skip


class SsdSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_model_and_what_it_is_made_of(self):
    size = ssd_task.size_of(self.size().hparams)
    self.assertEqual(size, ssd.SSD300)
    self.assertEqual(ssd.cells(size, 300), [38, 19, 10, 5, 3, 1])
    self.assertEqual(size.shapes, (4, 6, 6, 6, 4, 4))
    np.testing.assert_array_equal(
      self.task()._anchors, anchors_test.of_ssd300()
    )
    self.assertEqual((ssd._BN_EPSILON, ssd._BN_MOMENTUM), (1e-5, 0.9))

  def test_tensors_have_the_names_of_the_rules(self):
    """As training_1.1.0/closed_ssd.yaml lists them."""
    found = self.task().tensors
    self.assertLen(found, 119)
    self.assertLen({*found}, 119)
    net = 'ssd0_resnetmlperf0_'
    self.assertIn(f'{net}conv0_weight', found)
    self.assertIn(f'{net}batchnorm0_gamma', found)
    for stage, last in ((1, 5), (2, 8), (3, 12)):
      self.assertIn(f'{net}stage{stage}_conv{last}_weight', found)
      self.assertIn(f'{net}stage{stage}_batchnorm{last}_beta', found)
      self.assertNotIn(f'{net}stage{stage}_conv{last + 1}_weight', found)
    for number in range(5):
      self.assertIn(f'ssd0_expand_trans_conv{number}_weight', found)
      self.assertIn(f'ssd0_expand_conv{number}_bias', found)
    self.assertIn('ssd0_convpredictor5_conv0_bias', found)

  def test_photos_are_normalised_and_cropped_by_the_constants(self):
    self.assertEqual(read.MEAN_RGB, (0.485, 0.456, 0.406))
    self.assertEqual(read.STDDEV_RGB, (0.229, 0.224, 0.225))
    pixels = ssd_task._normalised(jnp.full((1, 1, 1, 3), 255, jnp.uint8))
    np.testing.assert_allclose(
      pixels[0, 0, 0],
      [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225],
      rtol=1e-6,
    )
    self.assertEqual(
      sampled_crop._OVERLAPS, (np.inf, 0.1, 0.3, 0.5, 0.7, 0.9, -np.inf)
    )
    self.assertEqual(sampled_crop._LEAST_SIDE, 0.3)
    how = self.task()._preprocessing.augmentation
    self.assertEqual(dataclasses.astuple(how), (50, 0.5, 0.125, 0.5, 0.5, 0.05))

  def rates(self, steps, size='reference', **changes):
    hp = dataclasses.replace(self.size(size).hparams, **changes)
    # Without gradients, what a step adds is the decay: minus the rate.
    optimizer = ssd_task.optimizer(
      dataclasses.replace(hp, weight_decay=1.0, momentum=0.0), _COCO[1]
    )
    ones = jnp.ones(1)
    decay, (momentum, schedule) = optimizer.init(ones)
    found = []
    for step in steps:
      at = schedule._replace(count=jnp.asarray(step))
      updates, _ = optimizer.update(0 * ones, (decay, (momentum, at)), ones)
      found.append(-float(updates[0]))
    return found

  def test_the_learning_rate(self):
    """Rates that train.py of the reference sets: lr_warmup and its decays."""
    for changes, expected in (
      ({}, {
        0: 0.0, 1: 0.08 / 300, 150: 0.04, 299: 0.08 * 299 / 300,
        300: 0.08 * 299 / 300, 4580: 0.08 * 299 / 300, 4581: 8e-3,
        5725: 8e-3, 5726: 8e-4, 7000: 8e-4,
      }),
      ({'global_batch_size': 2048, 'model_bn_span': 16, 'warmup_steps': 1489,
        'warmup_factor': 1, 'decay_places': (60, 75),
        'base_learning_rate': 0.16}, {
        0: 0.08, 1: 0.0800537273, 700: 0.1176091336, 1488: 0.1599462727,
        1489: 0.1599462727, 3435: 0.1599462727, 3436: 0.016, 4294: 0.016,
        4295: 0.0016,
      }),
      # The warm-up outlasts the first decay.
      ({'warmup_steps': 5000, 'warmup_factor': 2}, {
        0: 0.06, 4580: 0.07832, 4581: 0.0078324, 4999: 0.0079996,
        5000: 0.0079996, 5725: 0.0079996, 5726: 8e-4,
      }),
      ({'warmup_steps': 0}, {0: 0.08, 4580: 0.08, 4581: 8e-3, 5726: 8e-4}),
      # 160,000 iterations of 32 images, and 200,000.
      ({'size': 'v0.6', 'warmup_steps': 0}, {
        4999: 0.08, 5000: 8e-3, 6249: 8e-3, 6250: 8e-4,
      }),
    ):  # fmt: skip
      np.testing.assert_allclose(
        self.rates(expected, **changes), [*expected.values()], rtol=2e-6
      )

  def test_the_optimizer(self):
    """Three steps of PyTorch's SGD, by hand; biases are decayed too."""
    optimizer = ssd_task.optimizer(
      dataclasses.replace(
        self.size().hparams,
        warmup_steps=0,
        base_learning_rate=0.1,
        weight_decay=0.01,
      ),
      _COCO[1],
    )
    w, buffer = 1.0, 0.0
    params = {'backbone': {'bn1': {'bias': jnp.ones(1)}}}
    state = optimizer.init(params)
    for gradient in (0.5, -0.2, 0.3):
      grads = {'backbone': {'bn1': {'bias': jnp.full(1, gradient)}}}
      updates, state = optimizer.update(grads, state, params)
      params['backbone']['bn1']['bias'] += updates['backbone']['bn1']['bias']
      buffer = 0.9 * buffer + gradient + 0.01 * w
      w -= 0.1 * buffer
      np.testing.assert_allclose(
        params['backbone']['bn1']['bias'], w, rtol=1e-6
      )

  def test_evals(self):
    """Epochs and steps of evals: every five epochs, or at eight of them."""
    found = self.task().blocks(None)
    self.assertEqual([b.at['epoch_num'] for b in found], [*range(5, 121, 5)])
    self.assertEqual(found[0].steps, -(-5 * 117_266 // 1024))
    self.assertEqual(found[0].samples, found[0].steps * 1024)
    for name, expected in (
      ('v1.0', [40, 50, 55, 60, 65, 70, 75, 80]),
      # Iterations of 32 images, in epochs.
      ('v0.6', [
        32 * 1000 * k / 117_266 for k in (120, 160, 180, 200, 220, 240)
      ]),
    ):  # fmt: skip
      size = self.size(name)
      blocks = ssd_task.blocks_of(size.hparams, _COCO[1])
      np.testing.assert_allclose(
        [block.at['epoch_num'] for block in blocks], expected, rtol=1e-6
      )
    self.assertEqual(sum(block.steps for block in blocks), 7500)


if __name__ == '__main__':
  absltest.main()
