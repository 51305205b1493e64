"""Tests of SSD as a task: evals, start weights, broken variants, refusals."""

import collections
import dataclasses
import functools
import os
import zlib

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipelines.coco import sampled_crop
from input_pipelines.reading import arrays
from input_pipelines.writing import recipe
from models import ssd as net
from models.parts import boxes, matching
from suite.benchmark import DataSet
from suite.benchmarks import ssd
from suite.benchmarks.ssd import bootstrap, broken, start
from suite.benchmarks.ssd import task as ssd_task
from suite.run.sharding import path_of
from tests.input_pipelines.coco import fake_coco
from tests.suite.benchmarks import ssd_small

_HP = ssd_small.SIZE.hparams


@functools.cache
def _task():
  return ssd_task.SSDTask(_HP, ssd_small.SIZE.data)


class EvalTest(absltest.TestCase):
  def test_detections_are_in_the_pixels_of_each_photo(self):
    found = ssd_task.in_pixels(
      jnp.array([[[0.1, 0.2, 0.6, 1.2]], [[-0.1, 0, 0.1, 1]]]),
      jnp.array([[100, 200], [10, 20]]),  # height, width
    )
    np.testing.assert_allclose(
      found, [[[20, 20, 100, 100]], [[-2, 0, 4, 10]]], rtol=1e-6
    )

  def test_the_first_host_scores_and_the_others_hear_of_it(self):
    truth = ssd_task.metric.Objects(
      image=np.array([3]), label=np.array([1]),
      box=np.array([[1.0, 1.0, 4.0, 4.0]]), area=np.array([16.0]),
      crowd=np.array([False]),
    )  # fmt: skip
    rows = [{
      'id': np.array([3]), 'weight': np.ones(1, np.float32),
      'scores': np.array([[0.9]]), 'labels': np.array([[1]]),
      'boxes': np.array([[[1.0, 1.0, 4.0, 4.0]]]),
    }]  # fmt: skip
    told = []

    class Maker:
      def total(self, numbers):
        told.append(numbers[0])
        return np.array([sum(told)])

    for known in (truth, None):
      feed = ssd_task._Feed(
        iter(()), lambda: (), lambda rows: rows, images=1, truth=known
      )
      self.assertEqual(feed.score(iter(rows), Maker()), {'mAP': 1.0})
    self.assertEqual(told, [1.0, 0.0])


class StartTest(absltest.TestCase):
  def test_names_are_those_of_torchvision(self):
    """All of `resnet34().state_dict()` that the backbone has, in 0.29.1."""
    names = start.by_path(ssd.Hparams())
    self.assertLen(names, 145)
    found = ' '.join(sorted(names.values()))
    self.assertEqual(zlib.crc32(found.encode()), 3652112815)
    params, stats = jax.eval_shape(_task().init_model, jax.random.key(0))
    paths = {
      path_of(path)
      for path, _ in jax.tree_util.tree_leaves_with_path(
        {'params': params, 'stats': stats}
      )
    }
    ours = {path for path in paths if '/backbone/' in path}
    self.assertEqual({*start.by_path(_HP)}, ours)

  def published(self, folder):
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    found = collections.OrderedDict()
    for path, name in start.by_path(_HP).items():
      shape = (2, 3, 5, 4) if path.endswith('kernel') else (6,)
      found[name] = torch.tensor(rng.normal(size=shape).astype(np.float32))
    found['bn1.num_batches_tracked'] = torch.tensor(7)
    found['fc.weight'] = torch.ones(3, 4)
    os.makedirs(folder)
    torch.save(found, os.path.join(folder, start.FILE))
    return found

  def test_a_file_of_pytorch_is_converted_and_others_are_refused(self):
    folder = self.create_tempdir().full_path
    found = self.published(f'{folder}/down/loads')
    order = recipe.Order(f'{folder}/data', f'{folder}/down')
    with self.assertRaisesRegex(ValueError, 'begins with 333f7ec4 of .*, as'):
      start.build(order)
    order = dataclasses.replace(order, check_downloads=False)
    directory = start.build(order, hp=_HP)
    start.RECIPES[0].verify(directory)
    made = arrays.of_data_set(directory)
    names = start.by_path(_HP)
    self.assertEqual({*made}, {*names})
    for path, name in names.items():
      theirs = found[name].numpy()
      if theirs.ndim == 4:
        theirs = np.moveaxis(theirs, (0, 1), (3, 2))
      np.testing.assert_array_equal(made[path], theirs)
    with self.assertRaisesRegex(ValueError, r'layer1.1.\S+ and \d+ other'):
      start.converted(found, ssd.Hparams())
    with self.assertRaisesRegex(FileNotFoundError, 'resnet34-333f7ec4.pth'):
      start.build(dataclasses.replace(order, downloads=f'{folder}/data'))

  def test_a_backbone_for_tiny_learns_from_single_shapes(self):
    images, labels = bootstrap.examples(np.random.default_rng(1))
    self.assertEqual(images.shape, (48, 48, 48, 3))
    self.assertEqual({*labels.tolist()}, {0, 1, 2, 3, 4})

  @pytest.mark.slow
  def test_the_backbone_that_is_trained_is_the_detectors(self):
    found = bootstrap.train(_HP, steps=2)
    given, _ = jax.eval_shape(_task().init_model, jax.random.key(0))
    kernel = found['params/backbone/stages/1/0/conv2/kernel']
    self.assertEqual(
      kernel.shape,
      given['backbone']['stages'][1][0]['conv2']['kernel'].shape,
    )
    self.assertEqual({*found}, {*start.by_path(_HP)})


class BrokenTest(parameterized.TestCase):
  """Each variant changes what its name says, and nothing once it is over."""

  def parts(self):
    """What the variants change, of small arrays."""
    at = jnp.array([[0.3, 0.4, 0.2, 0.3], [0.4, 0.4, 0.2, 0.3]])
    near = jnp.array([[0.35, 0.3, 0.3, 0.2], [0.6, 0.6, 0.1, 0.1]])
    codes = jnp.array([[1.0, -1.0, 2.0, 0.5], [0.0, 0.5, -1.0, 1.0]])
    overlaps = jnp.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.0]])
    losses = jnp.array([3.0, 1.0, 2.0])
    positive = jnp.array([True, False, False])
    matched = matching.forced(overlaps, jnp.ones(2, bool), threshold=0.5)
    kept = np.float32([[0.1, 0.2, 0.6, 0.5]])
    box, cropped, _ = sampled_crop.crop(
      kept, np.ones(1), np.random.default_rng(1), max_samples=50
    )
    self.assertIsNotNone(box)
    return {
      'codes': boxes.encode(near, at, (10.0, 5.0)),
      'boxes': boxes.decode(codes, at, (10.0, 5.0)),
      'kept': boxes.nms(
        boxes.corners(at), jnp.ones(2, bool), threshold=0.3, inclusive=True
      ),
      'matches': matched.positive,
      'negatives': net.hard_negatives(losses, positive, jnp.asarray(1)),
      'head': net.by_anchor(jnp.arange(64.0).reshape(1, 2, 2, 16), 4),
      'crop': cropped,
      'mirror': sampled_crop.mirrored(kept),
    }

  @parameterized.parameters(
    ('variances exchanged in decoding', {'boxes'}),
    ('x for y in coding', {'codes'}),
    ('heads read by cell', {'head'}),
    ('no forced matches', {'matches'}),
    ('all negatives', {'negatives'}),
    ('one negative a match', set()),
    ('boxes of crops not renormalised', {'crop'}),
    ('images flipped alone', {'mirror'}),
    ('no suppression', {'kept'}),
    ('decoded without anchors', {'boxes'}),
  )
  def test_a_variant_is_broken_where_it_says(self, name, expected):
    change, context = broken.VARIANTS[name]
    self.assertEqual(change(_HP) == _HP, bool(expected))
    before = _sound()
    with context():
      inside = self.parts()
    found = {k for k in before if not np.allclose(before[k], inside[k])}
    self.assertEqual(found, expected)

  def test_nothing_is_left_broken(self):
    for _, context in broken.VARIANTS.values():
      with context():
        pass
    for key, value in self.parts().items():
      np.testing.assert_array_equal(value, _sound()[key], key)


@functools.cache
def _sound():
  return BrokenTest('test_nothing_is_left_broken').parts()


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'image_size': 8, 'map_strides': (1,)}, 'maps of'),
    ({'box_scales': (10, 20)}, 'box_scales to be .*one more than'),
    ({'box_ratios': (1, 3)}, 'box_ratios to be 1 or 2'),
    ({'map_channels': (6, 6)}, 'map_channels to be .*each map but'),
    ({'stage_widths': (4,)}, 'stage_widths to be .*each stage'),
    ({'gradient_accumulation_steps': 3}, 'model_bn_span'),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(_HP, **changes)
    with self.assertRaisesRegex(ValueError, message):
      ssd.BENCHMARK.task(hp, ssd_small.SIZE.data)

  def test_another_data_set_and_fuller_photos_are_refused(self):
    folder = self.create_tempdir().full_path
    directory = fake_coco.write(folder, train=9, validation=5)
    task = ssd_task.SSDTask(_HP, DataSet('photos', 8, 4))
    with self.assertRaisesRegex(ValueError, '8 images with objects in .train'):
      task.inspect(directory)
    hp = dataclasses.replace(_HP, most_boxes=3)
    task = ssd_task.SSDTask(hp, DataSet('photos', 7, 4))
    with self.assertRaisesRegex(ValueError, 'most_boxes of 4 or more'):
      task.inspect(directory)


if __name__ == '__main__':
  absltest.main()
