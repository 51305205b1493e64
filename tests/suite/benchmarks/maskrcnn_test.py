"""Tests of Mask R-CNN as a task: evals, start weights, broken variants."""

import dataclasses
import functools
import os
import pickle

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipelines.coco import outlined, outlines, read
from input_pipelines.reading import arrays
from input_pipelines.writing import recipe
from models.maskrcnn import proposals, regions
from models.parts import boxes, roi_align
from suite.benchmark import DataSet
from suite.benchmarks import maskrcnn
from suite.benchmarks.maskrcnn import bootstrap, broken, start
from suite.benchmarks.maskrcnn import task as maskrcnn_task
from suite.run.sharding import path_of
from tests.input_pipelines.coco import fake_coco
from tests.suite.benchmarks import maskrcnn_small

_HP = maskrcnn_small.SIZE.hparams


@functools.cache
def _task():
  return maskrcnn_task.MaskRCNNTask(_HP, maskrcnn_small.SIZE.data)


@functools.cache
def _paths():
  params, stats = jax.eval_shape(_task().init_model, jax.random.key(0))
  leaves = jax.tree_util.tree_leaves_with_path(
    {'params': params, 'stats': stats}
  )
  return {path_of(path): leaf.shape for path, leaf in leaves}


class EvalTest(absltest.TestCase):
  def test_detections_are_in_the_pixels_of_each_photo(self):
    found = maskrcnn_task.in_original(
      jnp.array([[[8.0, 16, 40, 80]]]),
      jnp.array([[100, 200]]),
      jnp.array([[50, 50]]),
    )
    np.testing.assert_allclose(found, [[[2, 8, 10, 40]]])

  def test_a_perfect_box_with_a_poor_mask_counts_for_boxes_alone(self):
    square = np.array([10.0, 10, 30, 10, 30, 30, 10, 30])
    truth = outlined.Truth(
      read.Objects(
        np.array([7]), np.array([1]), np.array([[10.0, 10, 20, 20]]),
        np.array([400.0]), np.array([False]),
      ),
      [outlines.Outline((square,), np.zeros(0), (50, 60))],
    )  # fmt: skip
    for share, masks in ((0.9, 1.0), (0.1, 0.0)):
      rows = [{
        'id': np.array([7, 0]), 'weight': np.array([1.0, 0.0]),
        'original': np.array([[50, 60], [0, 0]]),
        'corners': np.tile([[[10.0, 10, 29, 29]]], (2, 1, 1)),
        'scores': np.array([[0.9], [0.8]]), 'labels': np.array([[1], [1]]),
        'masks': np.full((2, 1, 28, 28), share, np.float32),
      }]  # fmt: skip
      found = maskrcnn_task.scored(rows, truth, images=1)
      self.assertEqual(found[0], 1.0)
      self.assertEqual(found[1] > 0.5, masks > 0.5)


class StartTest(absltest.TestCase):
  def published(self, folder):
    rng = np.random.default_rng(0)
    blobs = {
      name: rng.normal(
        size=_paths()[path][::-1] if path.endswith('kernel') else _paths()[path]
      ).astype(np.float32)
      for path, name in start.by_path(_HP).items()
    }
    os.makedirs(folder)
    path = os.path.join(folder, start.FILE)
    with open(path, 'wb') as file:
      pickle.dump({'blobs': {**blobs, 'lr': 0.1}}, file, protocol=2)
    return path, blobs

  def test_names_are_those_of_the_backbone(self):
    names = start.by_path(maskrcnn.Hparams())
    self.assertLen({*names.values()}, 3 * 53)
    self.assertEqual(
      names['params/backbone/stages/0/0/project/kernel'], 'res2_0_branch1_w'
    )
    self.assertEqual(
      names['stats/backbone/stages/3/2/bn3/scale'], 'res5_2_branch2c_bn_s'
    )
    ours = {path for path in _paths() if '/backbone/' in path}
    self.assertEqual({*start.by_path(_HP)}, ours)

  def test_a_pickle_of_caffe2_is_converted_and_others_are_refused(self):
    folder = self.create_tempdir().full_path
    order = recipe.Order(f'{folder}/data', f'{folder}/down')
    path, blobs = self.published(f'{folder}/down/loads')
    made = arrays.of_data_set(start.build(order, hp=_HP))
    names = start.by_path(_HP)
    self.assertEqual({*made}, {*names})
    for ours, name in names.items():
      theirs = blobs[name]
      if theirs.ndim == 4:
        theirs = np.moveaxis(theirs, (0, 1), (3, 2))
      np.testing.assert_array_equal(made[ours], theirs)
    with self.assertRaisesRegex(ValueError, r'res2_1_\S+ and \d+ other'):
      start.converted(blobs, maskrcnn.Hparams())
    with open(path, 'wb') as file:
      pickle.dump({'blobs': {'conv1_w': os.getcwd}}, file)
    with self.assertRaisesRegex(ValueError, 'getcwd, which is not read'):
      start.build(order, hp=_HP)
    with self.assertRaisesRegex(FileNotFoundError, 'R-50.pkl'):
      start.build(dataclasses.replace(order, downloads=f'{folder}/data'))

  @pytest.mark.slow
  def test_the_backbone_that_is_trained_is_the_detectors(self):
    found = bootstrap.train(_HP, steps=2)
    ours = {path: s for path, s in _paths().items() if '/backbone/' in path}
    self.assertEqual({path: v.shape for path, v in found.items()}, ours)

  def test_moments_are_folded_into_scale_and_bias(self):
    rng = np.random.default_rng(1)
    scale, bias, mean, var = rng.uniform(0.5, 2, (4, 3))
    found = bootstrap.folded(
      {'bn1': {'norm': {'scale': scale, 'bias': bias}}},
      {'bn1': {'norm': {'mean': mean, 'var': var}}},
    )
    x = rng.normal(size=3)
    np.testing.assert_allclose(
      x * found['stats/backbone/bn1/scale'] + found['stats/backbone/bn1/bias'],
      (x - mean) / np.sqrt(var + 1e-5) * scale + bias,
    )


class BrokenTest(parameterized.TestCase):
  """Each variant changes what its name says, and nothing once it is over."""

  def parts(self):
    """Parts that the variants change, of small arrays."""
    at = jnp.array([[4.0, 5, 6, 7], [5, 5, 6, 7]])
    drawn = regions.Regions(
      jnp.array([[[2.0, 2, 10, 10]]]), jnp.zeros((1, 1), jnp.int32),
      jnp.ones((1, 1), jnp.int32), jnp.ones((1, 1), bool),
    )  # fmt: skip
    objects = regions.Objects(
      jnp.array([[[4.0, 4, 11, 11]]]), jnp.ones((1, 1), jnp.int32),
      jnp.ones((1, 1, 4, 4)), jnp.array([[[4.0, 4, 12, 12]]]),
    )  # fmt: skip
    how = proposals.Draw(0.3, 0.7, 4, 0.5)
    half = jnp.arange(6) < 3
    return {
      'codes': boxes.encode(at, at[::-1] + 1, (1.0, 1.0)),
      'kept': boxes.nms(
        boxes.corners(at), jnp.ones(2, bool), threshold=0.3, plus=1
      ),
      'places': roi_align._places(jnp.zeros(1), jnp.ones(1), 2),
      'masks': regions.mask_targets(drawn, objects, side=4),
      'mirror': outlined.mirrored(np.array([1.0, 2, 5, 6]), 20),
      'drawn': proposals.draw(jax.random.key(0), half, ~half, how)[2],
    }

  @parameterized.parameters(
    ('x for y in coding', 'codes'),
    ('no suppression', 'kept'),
    ('maps read two cells away', 'places'),
    ('masks of objects, not of regions', 'masks'),
    ('images flipped alone', 'mirror'),
    ('no negatives', 'drawn'),
  )
  def test_a_variant_is_broken_where_it_says(self, name, expected):
    change, context = broken.VARIANTS[name]
    self.assertEqual(change(_HP), _HP)
    before = _sound()
    with context():
      inside = self.parts()
    found = {k for k in before if not np.allclose(before[k], inside[k])}
    self.assertEqual(found, {expected})
    for key, value in self.parts().items():
      np.testing.assert_array_equal(value, before[key], key)


@functools.cache
def _sound():
  return BrokenTest('test_a_variant_is_broken_where_it_says0').parts()


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'anchor_sizes': (8, 16)}, 'anchor_sizes to be .*one more than'),
    ({'max_image_size': 20}, 'max_image_size to be min_image_size'),
    ({'worker_images': 3}, 'worker_images to be a divisor'),
    ({'worker_images': 4, 'gradient_accumulation_steps': 4}, 'worker_images'),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(_HP, **changes)
    with self.assertRaisesRegex(ValueError, message):
      maskrcnn.BENCHMARK.task(hp, maskrcnn_small.SIZE.data)

  def test_another_data_set_is_refused(self):
    folder = self.create_tempdir().full_path
    directory = fake_coco.write(folder, train=9, validation=5)
    for data, message in (
      (DataSet('photos', 8, 5), "8 images with objects in .train'"),
      (DataSet('photos', 7, 4), "4 images in 'validation'"),
    ):
      task = maskrcnn_task.MaskRCNNTask(_HP, data)
      with self.assertRaisesRegex(ValueError, message):
        task.inspect(directory)


if __name__ == '__main__':
  absltest.main()
