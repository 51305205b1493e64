"""Tests of SSD, with the reference's own PyTorch code as the witness."""

import functools
import zlib

from absl.testing import absltest, parameterized
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ssd
from models.parts import anchors, boxes
from models.parts.functional import Functional
from suite.run.sharding import path_of
from tests import quick
from tests.models.parts import anchors_test

# 64 pixels; maps of 8, 4 and 2 cells.
SIZE = ssd.Size(
  blocks=(2, 1, 1),
  widths=(4, 6, 8),
  strides=(1, 2, 1),
  between=(4, 5),
  channels=(6, 7),
  map_strides=(2, 1),
  shapes=(4, 6, 4),
  classes=4,
)
IMAGE, ROWS = 64, 3
CODING = ssd.Coding(scale=(10.0, 5.0), threshold=0.5, negatives=3)
CHOICE = ssd.Choice(
  scale=(10.0, 5.0), score=0.05, overlap=0.5, of_class=200, of_image=200
)
# Of the reference (mlcommons/training, retired_benchmarks/ssd-v1: ssd300.py,
# base_model.py and utils.py, with the blocks of torchvision 0.29.1), given the
# weights and images below: sums, and sums of squares. Of detections how many
# there are, and sums of boxes, scores and labels.
OF_REFERENCE = {
  'train=False': {
    'codes': (-633.4966942867031, 20557.986424804636),
    'logits': (-2957.054839016928, 28527.850729338934),
  },
  'found': [
    (
      200,
      [
        72.97439976781607,
        85.72002040594816,
        119.81415101140738,
        123.10633677244186,
      ],
      196.45108222961426,
      412,
    ),
    (
      200,
      [
        78.23516320437193,
        81.24276480451226,
        122.04534090310335,
        118.7776425331831,
      ],
      194.7026401758194,
      411,
    ),
    (
      200,
      [
        74.201140999794,
        82.55833243206143,
        120.24194345623255,
        119.54039236158133,
      ],
      196.0613831281662,
      408,
    ),
  ],
  'train=True': {
    'codes': (-318.78599410941024, 2729.0186253545917),
    'logits': (-182.81196348774574, 3413.5903021224453),
  },
  'moments': {'all': (52.447797114844434, 54.87949147993952)},
  'losses': [19.87459945678711, 18.126943588256836, 0.0],
  'gradients': {
    'backbone/conv1/kernel': (-12.464011292671785, 261.0736676885341),
    'backbone/bn1/scale': (0.07844612002372742, 0.858074041253901),
    'backbone/stages/1/0/project/kernel': (
      -0.23584975488483906,
      0.44498564568908805,
    ),
    'backbone/stages/2/0/bn2/bias': (5.167027294635773, 3.9329859244004712),
    'extras/0/conv2/kernel': (8.162588972816593, 1.309664283776243),
    'extras/1/conv1/bias': (0.09794486965984106, 0.004719464270236792),
    'places/0/kernel': (-0.08619371784152463, 1.7716333967593951),
    'places/2/bias': (0.20249128411523998, 0.013339541168679133),
    'classes/1/kernel': (-3.7005520425736904e-08, 0.17989541556553826),
    'classes/0/bias': (-1.1548399925231934e-07, 2.3254173363847768),
  },
  'ssd300': {
    'codes': (-179383.77784755675, 299681235.7530875),
    'logits': (-5870428.2239467455, 10422068556.560581),
  },
}


@functools.cache
def model(size=SIZE):
  """The net, taken apart."""
  return Functional.of(lambda rngs: ssd.SSD(size, bn_span=None, rngs=rngs))


def default_boxes():
  """Those of the small net: maps of 8, 4 and 2 cells, 384 in all."""
  return anchors.default_boxes(
    (8, 4, 2),
    image=IMAGE,
    steps=(8, 16, 32),
    scales=(8, 16, 32, 48),
    ratios=((2,), (2, 3), (2,)),
  )


def weights(size=SIZE):
  """Parameters and moments, each drawn by its path alone."""

  def leaf(path, spec):
    name = path_of(path)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = rng.standard_normal(spec.shape)
    if name.endswith('kernel'):
      drawn *= np.sqrt(1.5 / np.prod(spec.shape[:-1]))
    elif name.endswith(('scale', 'var')):
      drawn = 0.6 + np.square(0.5 * drawn)
    else:
      drawn *= 0.1
    return drawn.astype(np.float32)

  key = jax.random.key(0, impl='rbg')
  shapes = jax.eval_shape(model(size).init, key)
  return jax.tree_util.tree_map_with_path(leaf, shapes)


def batch(rows=ROWS, image=IMAGE, classes=SIZE.classes):
  """Images [N, S, S, 3], boxes [N, 5, 4] and labels [N, 5], 0 as padding.

  The last image has no object; another has one without width and two of one
  place.
  """
  rng = np.random.default_rng(2)
  images = rng.standard_normal((rows, image, image, 3)).astype(np.float32)
  low = rng.uniform(0, 0.6, (rows, 5, 2))
  size = rng.uniform(0.05, 0.4, (rows, 5, 2))
  found = np.concatenate([low, low + size], axis=-1).astype(np.float32)
  labels = rng.integers(1, classes, (rows, 5)).astype(np.int32)
  labels[0, 3:] = 0
  found[1, 2] = found[1, 1]
  labels[rows - 1] = 0
  found[labels == 0] = 0
  return images, found, labels


@functools.cache
def _evaluated():
  """Codes, logits and detections of the small net; logits three times."""
  images, *_ = batch()
  places, net = jnp.asarray(default_boxes()), model()

  def run(params, stats):
    (codes, logits), _ = net.apply(params, stats, images, train=False)
    found = ssd.detect(codes, 3 * logits, anchors=places, how=CHOICE)
    return codes, logits, found

  return jax.device_get(quick.jit(run)(*weights()))


@functools.cache
def _trained():
  """Codes, logits, moments and losses of a training step, and gradients."""
  images, found, labels = batch()
  places, net = jnp.asarray(default_boxes()), model()

  def loss(params, stats):
    (codes, logits), stats = net.apply(params, stats, images, train=True)
    rows = ssd.row_losses(
      codes, logits, found, labels, anchors=places, how=CODING
    )
    return rows.mean(), (codes, logits, stats, rows)

  (_, outputs), grads = quick.jit(jax.value_and_grad(loss, has_aux=True))(
    *weights()
  )
  return jax.device_get((outputs, grads))


@functools.cache
def _slopes():
  """Compiled: objects and labels of an image -> loss and its gradients."""
  places = jnp.asarray(default_boxes())

  def loss(codes, logits, found, labels):
    return ssd.row_losses(
      codes, logits, found, labels, anchors=places, how=CODING
    ).sum()

  return quick.jit(jax.value_and_grad(loss, (0, 1)))


class ModelTest(parameterized.TestCase):
  def test_it_has_the_parameters_and_anchors_of_the_reference(self):
    net = model(ssd.SSD300)
    params, stats = jax.eval_shape(net.init, jax.random.key(0))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    self.assertEqual(count(params), 19_972_534)
    self.assertEqual(count(params['backbone']), 8_170_304)
    self.assertEqual(count(params['extras']), 3_574_400)
    heads = count(params['places']) + count(params['classes'])
    self.assertEqual(heads, 8_227_830)
    images = jax.ShapeDtypeStruct((2, 300, 300, 3), jnp.float32)
    (codes, logits), _ = jax.eval_shape(
      functools.partial(net.apply, train=False), params, stats, images
    )
    self.assertEqual(codes.shape, (2, *anchors_test.of_ssd300().shape))
    self.assertEqual(logits.shape, (2, 8732, 81))

  def test_heads_begin_as_in_the_reference(self):
    head = ssd._head(
      16, 84, kernel=3, dtype=jnp.dtype('float32'),
      rngs=nnx.Rngs(jax.random.key(1, impl='rbg')),
    )  # fmt: skip
    kernel, bias = np.asarray(head.kernel[...]), np.asarray(head.bias[...])
    bound = np.sqrt(6 / (9 * 16 + 9 * 84))  # Xavier's
    self.assertBetween(np.abs(kernel).max(), 0.98 * bound, bound)
    self.assertAlmostEqual(kernel.std(), bound / np.sqrt(3), delta=0.02 * bound)
    self.assertBetween(np.abs(bias).max(), 0.9 / 12, 1 / 12)

  def test_outputs_are_those_of_the_reference(self):
    codes, logits, _ = _evaluated()
    self.check('train=False', {'codes': codes, 'logits': logits})
    (codes, logits, stats, _), _ = _trained()
    self.check('train=True', {'codes': codes, 'logits': logits})
    moments = np.concatenate([x.ravel() for x in jax.tree.leaves(stats)])
    self.check('moments', {'all': moments})

  def test_loss_and_gradients_are_those_of_the_reference(self):
    (*_, rows), grads = _trained()
    np.testing.assert_allclose(rows, OF_REFERENCE['losses'], rtol=2e-5)
    found = {
      path_of(path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    }
    wanted = OF_REFERENCE['gradients']
    self.check('gradients', {name: found[name] for name in wanted})

  def test_detections_are_those_of_the_reference(self):
    """`Encoder.decode_batch` with 0.5, 200 and 0.05, as train.py calls it."""
    *_, found = _evaluated()
    for row, (count, total, score, label) in enumerate(OF_REFERENCE['found']):
      real = found.scores[row] > 0
      self.assertEqual(real.sum(), count)
      self.assertEqual(found.labels[row][real].sum(), label)
      np.testing.assert_allclose(found.scores[row].sum(), score, rtol=1e-5)
      np.testing.assert_allclose(
        found.boxes[row][real].sum(axis=0), total, rtol=1e-4, atol=1e-3
      )

  def check(self, name, arrays):
    """Compares sums and sums of squares with those of the reference."""
    expected = OF_REFERENCE[name]
    self.assertEqual({*arrays}, {*expected})
    for key, (total, square) in expected.items():
      found = np.asarray(arrays[key], np.float64)
      scale = np.sqrt(square * found.size)
      np.testing.assert_allclose(
        np.square(found).sum(), square, rtol=1e-4, err_msg=key
      )
      np.testing.assert_allclose(
        found.sum(), total, atol=1e-4 * scale, err_msg=key
      )


class LossTest(parameterized.TestCase):
  def slopes(self, found, labels):
    zeros = jnp.zeros((1, len(default_boxes()), 4))
    return _slopes()(zeros + 0.5, zeros, found, labels)

  def test_an_object_without_width_pulls_like_any_and_breaks_nothing(self):
    value, grads = self.slopes(
      jnp.array([[[0.5, 0.2, 0.5, 0.6], [0, 0, 0, 0]]]), jnp.array([[1, 0]])
    )
    self.assertTrue(np.isfinite(value))
    for each in grads:
      self.assertTrue(np.isfinite(each).all())
    # Nothing overlaps it: the first anchor finds it.
    self.assertEqual(float(grads[0][0, 0, 2]), 1.0)
    self.assertEqual(np.count_nonzero(grads[0][0].any(axis=-1)), 1)

  def test_images_without_objects_have_no_loss_and_no_gradient(self):
    value, grads = self.slopes(
      jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), jnp.int32)
    )
    self.assertEqual(float(value), 0.0)
    for each in grads:
      self.assertFalse(each.any())

  def test_the_hardest_negatives_are_chosen_and_of_equal_ones_the_first(self):
    losses = jnp.array([0.5, 3, 1, 3, 0.5, 2, 9, 0.5, 0.5])
    positive = jnp.arange(9) == 6
    order = [1, 3, 5, 2, 0, 4, 7, 8, 6]  # what is positive is worth nothing
    chosen = quick.jit(ssd.hard_negatives)
    for count in (0, 1, 2, 3, 5, 9, 50):
      found = chosen(losses, positive, jnp.asarray(count))
      self.assertCountEqual(np.flatnonzero(found), order[:count])


class DetectTest(absltest.TestCase):
  def test_a_box_goes_where_it_overlaps_a_better_one_of_its_class_by_half(self):
    at = jnp.array(
      [
        [0.25, 0.25, 0.5, 0.5],
        [0.25, 0.25, 0.5, 0.25],  # half of the first
        [0.25, 0.25, 0.5, 0.24],  # less than half of it
        [0.75, 0.75, 0.5, 0.5],
      ]
    )
    share = jnp.array([
      [0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.94, 0.02, 0.04]
    ])  # fmt: skip
    found = quick.jit(functools.partial(ssd.detect, anchors=at, how=CHOICE))(
      jnp.zeros((1, 4, 4)), jnp.log(share)[None]
    )
    np.testing.assert_allclose(found.scores[0][:4], [0.9, 0.7, 0, 0], atol=1e-6)
    np.testing.assert_allclose(
      found.boxes[0][:2], boxes.corners(at)[jnp.array([0, 2])], atol=1e-6
    )
    np.testing.assert_array_equal(found.labels[0][:2], [1, 1])


@pytest.mark.slow
class WholeTest(absltest.TestCase):
  def test_outputs_of_ssd300_are_those_of_the_reference(self):
    images = batch(2, 300)[0][:1]
    (codes, logits), _ = jax.jit(
      functools.partial(model(ssd.SSD300).apply, train=False)
    )(*weights(ssd.SSD300), images)
    ModelTest.check(self, 'ssd300', {'codes': codes, 'logits': logits})


if __name__ == '__main__':
  absltest.main()
