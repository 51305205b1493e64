"""Numbers that the specification of Mask R-CNN fixes, each stated once.

From mlcommons/training, retired_benchmarks/maskrcnn, and the rules of rounds
v0.7 to v3.1: training_rules.adoc of mlcommons/training_policies and
training_*/closed_maskrcnn.yaml of mlcommons/logging.
"""

import dataclasses

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np

from models.maskrcnn import net, proposals, regions
from suite.benchmarks.maskrcnn import task as maskrcnn_task
from tests.suite.benchmarks import spec_table

_COCO = ('coco2017', 117_266, 5000)
TABLE = spec_table.Table(
  name='maskrcnn',
  runs=5,
  dropped=1,
  sizes={
    'reference': (
      '3.1.0',
      {'BBOX': {'at_least': 0.377}, 'SEGM': {'at_least': 0.339}},
      _COCO,
      30,
    )
  },
  fixed={
    'decay_factor': 0.1,
    'momentum': 0.9,
    'weight_decay': 1e-4,
    'bias_rate': 2.0,
    'epochs_between_evals': 1,
    'min_image_size': 800,
    'max_image_size': 1333,
    'flip_probability': 0.5,
    'stage_blocks': (3, 4, 6, 3),
    'width': 64,
    'pyramid_channels': 256,
    'anchor_sizes': (32, 64, 128, 256, 512),
    'anchor_ratios': (0.5, 1.0, 2.0),
    'hidden': 1024,
    'box_side': 7,
    'mask_channels': (256, 256, 256, 256),
    'mask_side': 14,
    'samples': 2,
    'canonical_size': 224.0,
    'canonical_level': 4,
    'classes': 81,
    'anchor_negative': 0.3,
    'anchor_positive': 0.7,
    'anchor_samples': 256,
    'anchor_positive_share': 0.5,
    'train_before_nms': 2000,
    'train_after_nms': 2000,
    'eval_before_nms': 1000,
    'eval_after_nms': 1000,
    'eval_proposals': 1000,
    'proposal_overlap': 0.7,
    'region_positive': 0.5,
    'region_samples': 512,
    'region_positive_share': 0.25,
    'score_threshold': 0.05,
    'nms_threshold': 0.5,
    'image_detections': 100,
  },
  tunable={  # the recipe of the point for a batch of 96
    'global_batch_size': 96,
    'worker_images': 6,
    'base_learning_rate': 0.12,
    'warmup_steps': 625,
    'warmup_factor': 1.92e-4,
    'decay_steps': (12_000, 16_000),
    'num_image_candidates': 6000,
    'max_epochs': 20,
  },
  of_the_system=(
    'gradient_accumulation_steps',
    'compute_dtype',
    'eval_batch_size',
    'most_objects',
    'object_mask_side',
  ),
  allowed=(
    {'global_batch_size': '16', 'worker_images': '2',
     'base_learning_rate': '0.02', 'decay_steps': '60000,80000',
     'num_image_candidates': '2000'},
    {'global_batch_size': '272', 'worker_images': '1',
     'base_learning_rate': '0.24', 'decay_steps': '5294,7058',
     'num_image_candidates': '1000', 'warmup_steps': '1800'},
    {'global_batch_size': '8', 'worker_images': '1',
     'base_learning_rate': '0.01', 'decay_steps': '144000,192000',
     'num_image_candidates': '1000'},
  ),
  refused=(
    {'base_learning_rate': '0.13'},
    {'base_learning_rate': '0.01'},  # with a batch below 16 alone
    {'decay_steps': '12000,17000'},
    {'decay_steps': '12500,16667'},
    {'num_image_candidates': '2000'},
    {'worker_images': '5'},
    {'image_detections': '50'},
    {'momentum': '0.8'},
    {'weight_decay': '0'},
    {'min_image_size': '640'},
  ),
  logged={
    'global_batch_size': 96,
    'opt_base_learning_rate': 0.12,
    'opt_learning_rate_warmup_steps': 625,
    'opt_learning_rate_warmup_factor': 1.92e-4,
    'opt_learning_rate_decay_steps': (12_000, 16_000),
    'opt_learning_rate_decay_factor': 0.1,
    'num_image_candidates': 6000,
    'gradient_accumulation_steps': 1,
    'min_image_size': 800,
    'max_image_size': 1333,
  },
)  # fmt: skip


class MaskRcnnSpecTest(spec_table.SpecTest, absltest.TestCase):
  table = TABLE

  def test_the_model_and_what_it_is_made_of(self):
    hp = self.size().hparams
    self.assertEqual(maskrcnn_task.size_of(hp), net.R50_FPN)
    for image in ((800, 1344), (1344, 800)):
      found = maskrcnn_task.anchors_of(image, hp.anchor_sizes, hp.anchor_ratios)
      cells = [
        -(-image[0] // s) * -(-image[1] // s) for s in (4, 8, 16, 32, 64)
      ]
      self.assertEqual([len(each) for each in found], [3 * n for n in cells])
    # As the reference's anchor_generator.py has the first of them.
    np.testing.assert_array_equal(
      found[0][:3], [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]
    )
    self.assertEqual(proposals.MOST, np.log(1000 / 16))
    self.assertEqual(proposals._CODES, (1.0, 1.0))
    self.assertEqual(proposals._SMOOTH, 1 / 9)
    self.assertEqual(regions._CODES, (10.0, 5.0))

  def test_what_is_frozen(self):
    self.assertEqual(
      self.task().frozen, ('^params/backbone/(conv1|stages/0)/',)
    )

  def test_tensors_have_the_names_of_the_rules(self):
    """As training_2.1.0/closed_maskrcnn.yaml lists them."""
    found = self.task().tensors
    self.assertLen({*found}, 21)
    for name in (
      'FPN_inner_block1', 'FPN_layer_block4', 'RPNHead_bbox',
      'ROI_BOX_FEATURE_EXTRACTOR_fc7', 'ROI_BOX_PREDICTOR_cls',
      'ROI_MASK_FEATURE_EXTRACTOR_fcn4', 'ROI_MASK_PREDICTOR_fcn5',
      'ROI_MASK_PREDICTOR_fcn_logits',
    ):  # fmt: skip
      self.assertIn(name, found)

  def test_photos_are_blue_green_red_less_the_mean_and_padding_is_0(self):
    photo = jnp.zeros((1, 2, 2, 3), jnp.uint8).at[..., 0].set(255)  # red
    found = maskrcnn_task.normalised(photo, jnp.array([[1, 2]]))
    np.testing.assert_allclose(
      found[0, 0, 0], [-102.9801, -115.9465, 255 - 122.7717], rtol=1e-6
    )
    self.assertFalse(found[0, 1].any())

  def test_the_learning_rate(self):
    """Values of the reference's lr_scheduler.py, 'mlperf_linear', by hand."""
    hp = self.size().hparams
    for rate, expected in (
      (1.0, {
        0: 0.12 - 624 * 1.92e-4, 1: 0.12 - 623 * 1.92e-4,
        100: 0.12 - 524 * 1.92e-4, 623: 0.12 - 1.92e-4, 624: 0.12, 625: 0.12,
        11_998: 0.12, 11_999: 0.012, 15_998: 0.012, 15_999: 0.0012,
        20_000: 0.0012,
      }),
      # Biases: the same is taken off twice as much.
      (hp.bias_rate, {
        0: 0.24 - 624 * 1.92e-4, 624: 0.24, 11_999: 0.024, 15_999: 0.0024,
      }),
    ):  # fmt: skip
      schedule = maskrcnn_task.stepped(
        base=rate * hp.base_learning_rate,
        warmup_steps=hp.warmup_steps,
        slope=hp.warmup_factor,
        boundaries=hp.decay_steps,
        factor=hp.decay_factor,
      )
      np.testing.assert_allclose(
        [schedule(step) for step in expected],
        [*expected.values()],
        rtol=1e-5,
        atol=2e-8,
      )

  def test_the_optimizer(self):
    """Three steps of PyTorch's SGD, by hand; biases are not decayed."""
    optimizer = maskrcnn_task.optimizer(
      dataclasses.replace(
        self.size().hparams,
        warmup_steps=0,
        base_learning_rate=0.1,
        weight_decay=0.01,
      )
    )
    names = {'kernel': (1.0, 0.01), 'bias': (2.0, 0.0)}
    params = {'masks': dict.fromkeys((*names, 'up_bias'), jnp.ones(1))}
    state = optimizer.init(params)
    w, buffer = dict.fromkeys(names, 1.0), dict.fromkeys(names, 0.0)
    for gradient in (0.5, -0.2, 0.3):
      grads = {'masks': dict.fromkeys(params['masks'], jnp.full(1, gradient))}
      updates, state = optimizer.update(grads, state, params)
      params = {
        'masks': {
          k: v + updates['masks'][k] for k, v in params['masks'].items()
        }
      }
      for name, (rate, decay) in names.items():
        buffer[name] = 0.9 * buffer[name] + gradient + decay * w[name]
        w[name] -= rate * 0.1 * buffer[name]
        np.testing.assert_allclose(params['masks'][name], w[name], rtol=1e-6)
      np.testing.assert_array_equal(
        params['masks']['up_bias'], params['masks']['bias']
      )

  def test_evals_come_after_every_epoch(self):
    found = self.task().blocks(None)
    self.assertEqual([b.at['epoch_num'] for b in found], [*range(1, 21)])
    self.assertEqual(found[0].steps, -(-117_266 // 96))


if __name__ == '__main__':
  absltest.main()
