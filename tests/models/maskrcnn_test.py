"""Tests of Mask R-CNN, with the reference's own PyTorch code as the witness."""

import functools
import zlib

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from models.maskrcnn import net, proposals, regions
from models.parts import anchors
from models.parts.functional import Functional
from suite.run.sharding import path_of
from tests import quick

SIZE = net.Size(
  blocks=(2, 1, 1, 1),
  width=4,
  pyramid=8,
  shapes=3,
  hidden=16,
  box_side=3,
  mask_channels=(6, 5),
  mask_side=4,
  samples=2,
  canonical_size=32,
  canonical_level=4,
  classes=4,
)
IMAGE, ANCHORS = (64, 96), (8, 16, 32, 64, 128)
# Everything is drawn, so that nothing is random.
DRAWN = proposals.Draw(low=0.3, high=0.7, count=4096, positive=0.5)
REGIONS = proposals.Draw(low=0.3, high=0.3, count=4096, positive=0.25)
# Two images share the proposals.
TRAIN = proposals.Choice(before=300, of_map=300, of_all=90, overlap=0.7)
TEST = proposals.Choice(before=150, of_map=150, of_all=60, overlap=0.7)
CHOICE = regions.Choice(score=0.05, overlap=0.5, of_image=30)

# Of the reference (mlcommons/training, retired_benchmarks/maskrcnn, its PyTorch
# modules on a CPU), given the weights, images and objects below: sums, and sums
# of squares. Of proposals and detections how many there are, and sums of boxes,
# scores and labels. Its operators in CUDA were replaced: suppression by a loop,
# RoIAlign by the Python of torchvision 0.29.1, with places outside as 0, and
# polygons by masks on a grid.
OF_REFERENCE = {
  'maps': [
    (1067.1733888238668, 21556.104316747635),
    (-175.97902930807322, 1894.9225828315252),
    (-17.55950081325136, 30.13323153375232),
    (-4.069572199136019, 2.912449294134854),
    (-1.1251896042376757, 0.8551497383979486),
  ],
  'logits': [
    (995.5753168910742, 2129.6723893030235),
    (142.55565566197038, 87.76407991687763),
    (45.0177360586822, 23.56734522322488),
    (2.7404809845611453, 1.0306956669002032),
    (0.8395353704690933, 0.33405540719364063),
  ],
  'codes': [
    (1967.2050003468175, 9858.837047941015),
    (22.81506533443462, 144.618892319753),
    (-19.92420883476734, 33.21520036704003),
    (-5.0327054869849235, 2.334299175876792),
    (-1.5063372161239386, 0.6867367788246609),
  ],
  'proposals': [
    (
      60,
      [
        2207.169939994812,
        2400.3987498283386,
        2804.0848100185394,
        2749.5505752563477,
      ],
      52.52505111694336,
    ),
    (
      60,
      [
        1910.8045725822449,
        2680.9418172836304,
        2519.1472811698914,
        3026.4954509735107,
      ],
      54.57966661453247,
    ),
  ],
  'classes': (16.858625343069434, 88.72200218774464),
  'better': (164.38021994754672, 918.4845074043784),
  'detected': [
    (
      30,
      [
        1068.5657815933228,
        1310.6389436721802,
        1366.3658022880554,
        1461.1969108581543,
      ],
      15.186219215393066,
      30,
      1030.9984540045261,
      558.1881104870719,
    ),
    (
      30,
      [
        952.3027124404907,
        1171.8084754943848,
        1276.7625331878662,
        1375.5578536987305,
      ],
      15.356757283210754,
      30,
      1044.5668317079544,
      573.9690324990969,
    ),
  ],
  'train_proposals': [
    (
      29,
      [
        958.3410234451294,
        1086.2115755081177,
        1306.7707142829895,
        1299.59614944458,
      ],
    ),
    (
      68,
      [
        2204.15416765213,
        2946.8057990074158,
        2921.7377820014954,
        3344.5226259231567,
      ],
    ),
  ],
  'losses': [
    0.9970114231109619,
    0.004747000988572836,
    1.267412543296814,
    0.3359324634075165,
    0.6955681443214417,
  ],
  'positive': [3, 7],
  'gradients': {
    'backbone/stages/1/0/conv1/kernel': (1.3785941444971286, 0.250308639914478),
    'backbone/stages/3/0/project/kernel': (
      -1.1914137230816948,
      0.6415132606917071,
    ),
    'pyramid/lateral/0/kernel': (-6.3964292268672125, 7.785414051002967),
    'pyramid/output/2/bias': (-0.002263484784634784, 5.013508090964787e-05),
    'proposals/conv/kernel': (2.4901811026065843, 27.068503315259747),
    'proposals/objects/bias': (0.5870638936758041, 0.12124244608184598),
    'proposals/codes/kernel': (0.005454435315186856, 1.7122601013479557e-05),
    'boxes/fc6/kernel': (-0.906213009284329, 4.855206663958736),
    'boxes/classes/bias': (-1.4901161193847656e-08, 0.49959147628652567),
    'boxes/codes/kernel': (0.6672442929138924, 0.05986510428042012),
    'masks/convs/0/kernel': (-0.014932840081769427, 0.0021505667193211795),
    'masks/up': (0.02846587509066012, 0.0013998111253209079),
    'masks/up_bias': (0.0009122383780777454, 0.0005972167793067654),
    'masks/masks/kernel': (-0.0525713519891724, 0.00042224930752672476),
  },
}


@functools.cache
def model(size=SIZE):
  """The net, taken apart."""
  return Functional.of(lambda rngs: net.MaskRCNN(size, rngs=rngs))


@functools.cache
def of_maps(image=IMAGE, sizes=ANCHORS):
  """The anchors of each map."""
  found = []
  for level, size in enumerate(sizes, start=net.FINEST):
    cells = tuple(-(-side // 2**level) for side in image)
    found.append(
      anchors.pixel_anchors(
        cells, stride=2**level, size=size, ratios=(0.5, 1, 2)
      )
    )
  return found


def weights(size=SIZE):
  """Parameters and what is frozen, each drawn by its path alone."""

  def leaf(path, spec):
    name = path_of(path)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = rng.standard_normal(spec.shape)
    if name.endswith(('kernel', 'up')):
      drawn *= np.sqrt(1 / np.prod(spec.shape[:-1]))
    elif name.endswith('scale'):
      drawn = 0.6 + np.square(0.5 * drawn)
    else:
      drawn *= 0.1
    return drawn.astype(np.float32)

  key = jax.random.key(0, impl='rbg')
  shapes = jax.eval_shape(model(size).init, key)
  return jax.tree_util.tree_map_with_path(leaf, shapes)


def batch():
  """Images [2, H, W, 3], their sizes [2, 2], and objects.

  An object lies at the edge of an image.
  """
  rng = np.random.default_rng(3)
  sizes = np.array([[60, 90], [64, 81]], np.int32)
  images = rng.standard_normal((2, *IMAGE, 3)).astype(np.float32)
  for image, (height, width) in zip(images, sizes, strict=True):
    image[height:] = image[:, width:] = 0
  low = rng.uniform(0, 40, (2, 4, 2)).round(1)
  found = np.concatenate([low, low + rng.uniform(6, 30, (2, 4, 2))], axis=-1)
  found[0, 0] = [70, 40, 89, 59]
  most = np.tile(sizes[:, None, ::-1], 2) - 1
  boxes = np.minimum(found, most).astype(np.float32)
  labels = np.array([[1, 3, 2, 0], [2, 2, 1, 3]], np.int32)
  boxes[labels == 0] = 0
  masks = rng.random((2, 4, 5, 5)) < 0.6
  objects = regions.Objects(
    boxes, labels, masks.astype(np.uint8), boxes + np.float32([0, 0, 1, 1])
  )
  return images, sizes, objects


@functools.cache
def _evaluated():
  """Outputs of each stage of an eval."""
  images, sizes, _ = batch()
  places = [jnp.asarray(each) for each in of_maps()]

  def run(params, stats):
    whole = model().merged(params, stats)
    maps = whole(images)
    logits, codes = whole.propose(maps)
    found = proposals.select(logits, codes, places, sizes, how=TEST)
    classes, better = whole.box_outputs(maps, found.boxes)
    detected = regions.detect(2 * classes, better, found, sizes, CHOICE)
    masks = whole.mask_outputs(maps, detected.boxes, detected.labels)
    return {
      'maps': maps,
      'logits': logits,
      'codes': codes,
      'proposals': found,
      'classes': classes,
      'better': better,
      'detected': detected,
      'masks': jax.nn.sigmoid(masks),
    }

  return jax.device_get(quick.jit(run)(*weights()))


@functools.cache
def _trained():
  """Proposals and losses of a training step, and gradients."""
  images, sizes, objects = batch()
  places = [jnp.asarray(each) for each in of_maps()]
  keys = jax.random.split(jax.random.key(0), 2)

  def losses(params, stats):
    whole = model().merged(params, stats)
    maps = whole(images)
    logits, codes = whole.propose(maps)
    found = proposals.select(logits, codes, places, sizes, how=TRAIN, span=2)
    drawn = regions.drawn(found, objects, keys, REGIONS)
    classes, better = whole.box_outputs(maps, drawn.boxes)
    some = regions.first(drawn, 64)
    masks = whole.mask_outputs(maps, some.boxes, some.labels)
    sums = (
      *proposals.losses(
        logits,
        codes,
        places,
        sizes=sizes,
        boxes=objects.boxes,
        labels=objects.labels,
        keys=keys,
        how=DRAWN,
      ),
      *regions.box_losses(classes, better, drawn, objects),
      regions.mask_loss(masks, some, objects),
    )
    means = jnp.stack([each.mean(2) for each in sums])
    return means.sum(), (means, found, drawn)

  (_, found), grads = quick.jit(jax.value_and_grad(losses, has_aux=True))(
    *weights()
  )
  return jax.device_get((found, grads))


class ModelTest(parameterized.TestCase):
  def test_it_has_the_parameters_of_the_reference(self):
    params, _ = jax.eval_shape(model(net.R50_FPN).init, jax.random.key(0))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    self.assertEqual(count(params), 44_347_573)
    backbone = params['backbone']
    frozen = count([backbone['conv1'], backbone['stages'][0]])
    self.assertEqual(count(params) - frozen, 44_125_173)

  def test_features_and_proposals_are_those_of_the_reference(self):
    found = _evaluated()
    for name in ('maps', 'logits', 'codes'):
      for each, expected in zip(found[name], OF_REFERENCE[name], strict=True):
        self.check(each, expected, name)
    for row, (count, total, score) in enumerate(OF_REFERENCE['proposals']):
      scores = found['proposals'].scores[row]
      self.assertEqual((scores >= 0).sum(), count)
      np.testing.assert_allclose(scores.sum(), score, rtol=1e-5)
      np.testing.assert_allclose(
        found['proposals'].boxes[row].sum(axis=0), total, rtol=1e-5
      )

  def test_detections_and_masks_are_those_of_the_reference(self):
    found = _evaluated()
    for name in ('classes', 'better'):
      self.check(found[name], OF_REFERENCE[name], name)
    best = found['detected']
    for row, (count, total, score, label, *mask) in enumerate(
      OF_REFERENCE['detected']
    ):
      self.assertEqual((best.scores[row] > 0).sum(), count)
      self.assertEqual(best.labels[row].sum(), label)
      np.testing.assert_allclose(best.scores[row].sum(), score, rtol=1e-5)
      np.testing.assert_allclose(best.boxes[row].sum(axis=0), total, rtol=1e-5)
      self.check(found['masks'][row], mask, 'masks')

  def test_losses_and_gradients_are_those_of_the_reference(self):
    (means, found, drawn), grads = _trained()
    np.testing.assert_allclose(means, OF_REFERENCE['losses'], rtol=2e-5)
    objects = batch()[2]
    for row, (count, total) in enumerate(OF_REFERENCE['train_proposals']):
      real = found.scores[row] >= 0
      truth = objects.boxes[row][objects.labels[row] > 0]
      self.assertEqual(real.sum() + len(truth), count)
      np.testing.assert_allclose(
        found.boxes[row][real].sum(axis=0) + truth.sum(axis=0), total, rtol=1e-5
      )
    self.assertEqual(
      (drawn.labels > 0).sum(axis=1).tolist(), OF_REFERENCE['positive']
    )
    by_path = {
      path_of(path): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    }
    for name, expected in OF_REFERENCE['gradients'].items():
      self.check(by_path[name], expected, name)

  def check(self, array, expected, name):
    """Compares a sum and a sum of squares with those of the reference."""
    total, square = expected
    found = np.asarray(array, np.float64)
    scale = np.sqrt(square * found.size)
    np.testing.assert_allclose(
      np.square(found).sum(), square, rtol=1e-4, err_msg=name
    )
    np.testing.assert_allclose(
      found.sum(), total, atol=1e-4 * scale, err_msg=name
    )


class DrawTest(absltest.TestCase):
  def draw(self, positive, negative, *, count=8, seed=0):
    how = proposals.Draw(0.3, 0.7, count, 0.5)
    found = quick.jit(functools.partial(proposals.draw, how=how))(
      jax.random.key(seed), jnp.asarray(positive), jnp.asarray(negative)
    )
    return map(np.asarray, found)

  def test_half_of_those_drawn_have_an_object_and_others_fill_up(self):
    positive = np.arange(40) < 10
    negative = np.arange(40) >= 20
    seen = set()
    for seed in range(9):
      places, is_object, counts = self.draw(positive, negative, seed=seed)
      self.assertTrue(counts.all())
      self.assertLen({*places}, 8)
      np.testing.assert_array_equal(is_object, np.arange(8) < 4)
      self.assertTrue(positive[places[:4]].all())
      self.assertTrue(negative[places[4:]].all())
      seen |= {*places.tolist()}
    self.assertGreater(len(seen), 20)

  def test_what_there_is_too_little_of_is_padded(self):
    negative = np.arange(40) < 5
    places, is_object, counts = self.draw(np.arange(40) == 39, negative)
    self.assertEqual(places[0], 39)
    self.assertEqual(is_object.tolist(), [True] + 7 * [False])
    self.assertEqual(counts.tolist(), 6 * [True] + 2 * [False])


class TargetTest(absltest.TestCase):
  def test_an_object_whose_best_anchor_sticks_out_has_none(self):
    places = jnp.array(
      [[-2.0, 0, 10, 12], [0, 0, 30, 30], [2, 2, 11, 11], [20, 20, 31, 31]]
    )
    boxes = jnp.array([[0.0, 0, 10, 11], [0, 0, 0, 0]])
    found = quick.jit(functools.partial(proposals.targets, how=DRAWN))(
      places, jnp.array([32, 31]), boxes, jnp.array([1, 0])
    )
    for got, expected in zip(
      found[1:], ([0, 0, 0, 0], [0, 1, 0, 0]), strict=True
    ):  # fmt: skip
      np.testing.assert_array_equal(got, np.array(expected, bool))

  def test_a_mask_is_seen_from_the_region_and_not_from_the_object(self):
    mask = np.zeros((1, 1, 8, 8), np.uint8)
    mask[..., :4] = 1  # the left half
    objects = regions.Objects(
      jnp.array([[[10.0, 10, 17, 17]]]),
      jnp.array([[1]]),
      jnp.asarray(mask),
      jnp.array([[[10.0, 10, 18, 18]]]),
    )
    drawn = regions.Regions(
      jnp.array([[[10.0, 10, 18, 18], [14, 10, 22, 18], [6, 6, 14, 14]]]),
      jnp.zeros((1, 3), jnp.int32),
      jnp.ones((1, 3), jnp.int32),
      jnp.ones((1, 3), bool),
    )
    targets = quick.jit(functools.partial(regions.mask_targets, side=4))
    found = np.asarray(targets(drawn, objects))[0]
    np.testing.assert_array_equal(found[0], np.tile([1, 1, 0, 0], (4, 1)))
    self.assertFalse(found[1].any())
    np.testing.assert_array_equal(
      found[2], np.outer([0, 0, 1, 1], [0, 0, 1, 1])
    )

  def test_without_objects_only_classes_have_a_gradient(self):
    objects = regions.Objects(
      jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), jnp.int32),
      jnp.zeros((1, 2, 4, 4)), jnp.zeros((1, 2, 4)),
    )  # fmt: skip
    found = proposals.Proposals(
      jnp.ones((1, 3, 4)), jnp.array([[0.9, 0.1, -1]])
    )
    keys = jax.random.split(jax.random.key(0), 1)

    def loss(logits, codes, masks):
      drawn = regions.drawn(found, objects, keys, REGIONS)
      sums = (
        *regions.box_losses(logits, codes, drawn, objects),
        regions.mask_loss(masks, drawn, objects),
      )
      return sum(each.mean(1) for each in sums), drawn.counts

    (value, counts), grads = quick.jit(
      jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    )(jnp.zeros((1, 5, 4)), jnp.ones((1, 5, 4, 4)), jnp.ones((1, 5, 4, 4)))
    self.assertEqual(counts.sum(), 2)
    self.assertAlmostEqual(float(value), np.log(4), delta=1e-6)
    self.assertTrue(all(np.isfinite(each).all() for each in grads))
    self.assertFalse(grads[1].any() or grads[2].any())


if __name__ == '__main__':
  absltest.main()
