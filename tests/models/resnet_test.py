"""Tests of ResNet-50 v1.5, with another implementation as the witness."""

import dataclasses
import functools
import re
from typing import Any

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import resnet
from models.parts import functional
from tests import quick

TINY = resnet.Size((1, 1, 1, 1), 16, 10)
SMALL = resnet.Size((1, 2), 8, 10)
UNEVEN = resnet.Size((2, 1, 3), 8, 7)


def _model(size, bn_span=None, dtype=jnp.float32):
  return functional.Functional.of(
    lambda rngs: resnet.ResNet(size, bn_span=bn_span, dtype=dtype, rngs=rngs)
  )


@functools.cache
def _init(size):
  # The compiler is several times faster with rbg than with the default keys.
  return quick.jit(_model(size).init)(jax.random.key(0, impl='rbg'))


def _images(rows, pixels):
  """Noise with the spread of 8-bit pixels less their mean."""
  noise = np.random.default_rng(7).standard_normal((rows, pixels, pixels, 3))
  return (60 * noise).astype(np.float32)


def _paths(tree) -> dict[str, Any]:
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _cross_entropy(logits, labels):
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@functools.cache
def _trained(size, dtype):
  """(params, stats, images) -> logits and new stats, in training."""
  apply = _model(size, dtype=dtype).apply
  return quick.jit(functools.partial(apply, train=True))


@functools.cache
def _small_step(bn_span):
  """(params, stats, images, labels) -> loss, grads, stats."""
  model = _model(SMALL, bn_span)

  @quick.jit
  def step(params, stats, images, labels):
    def loss(params):
      logits, new = model.apply(params, stats, images, train=True)
      return _cross_entropy(logits, labels), new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return value, grads, new

  return step


class ParametersTest(parameterized.TestCase):
  @parameterized.parameters((1000, 25_557_032), (1001, 25_559_081))
  def test_resnet50_has_as_many_parameters_as_the_reference(
    self, classes, total
  ):
    size = dataclasses.replace(resnet.RESNET50, classes=classes)
    params, stats = jax.eval_shape(_model(size).init, jax.random.key(0))
    self.assertEqual(sum(leaf.size for leaf in jax.tree.leaves(params)), total)
    # 53 convolutions, a scale and a bias of each of 53 norms, the classifier.
    self.assertLen(jax.tree.leaves(params), 161)
    self.assertLen(jax.tree.leaves(stats), 2 * 53)

  def test_masks_split_the_parameters_as_the_reference_does(self):
    params, _ = jax.eval_shape(_model(resnet.RESNET50).init, jax.random.key(0))
    skipped_by_lars, norms = (
      {path for path in _paths(params) if re.search(mask, path)}
      for mask in (resnet.NO_DECAY, resnet.BATCH_NORM)
    )
    self.assertLen(norms, 106)
    self.assertEqual(skipped_by_lars - norms, {'dense/bias'})
    self.assertEqual(
      {re.sub(r'\d+', '0', path) for path in _paths(params)}
      - {re.sub(r'\d+', '0', path) for path in skipped_by_lars},
      {
        'conv0/kernel',
        'stages/0/0/conv0/kernel',
        'stages/0/0/project/kernel',
        'dense/kernel',
      },
    )

  def test_convolutions_start_as_truncated_normals_of_two_over_fan_in(self):
    params, _ = _init(TINY)
    kernels = {k: v for k, v in _paths(params).items() if v.ndim == 4}
    self.assertLen(kernels, 1 + 4 * 4)
    for path, kernel in kernels.items():
      height, width, channels, _ = kernel.shape
      std = np.sqrt(2 / (height * width * channels))
      # A normal cut off at two deviations keeps 0.87962566 of its deviation.
      bound = 2 * std / 0.87962566
      with self.subTest(path):
        largest, smallest = float(kernel.max()), float(kernel.min())
        five_sigma = 5 / np.sqrt(2 * kernel.size)
        self.assertLessEqual(abs(kernel.std() / std - 1), five_sigma)
        self.assertLessEqual(abs(kernel.mean() / std), 2 * five_sigma)
        self.assertLessEqual(max(largest, -smallest), bound * (1 + 1e-5))
        # 2000 draws or more come near the cut; an untruncated normal passes it.
        if kernel.size >= 2000:
          self.assertGreater(min(largest, -smallest), 0.9 * bound)

  def test_classifier_starts_as_a_normal_of_a_hundredth(self):
    dense = _init(TINY)[0]['dense']
    kernel = np.asarray(dense['kernel'])
    self.assertEqual(kernel.shape, (512, 10))
    self.assertAlmostEqual(kernel.std(), 0.01, delta=0.01 * 0.05)
    self.assertGreater(abs(kernel).max(), 0.03)  # Not truncated.
    np.testing.assert_array_equal(dense['bias'], np.zeros(10))

  def test_every_norm_starts_as_the_identity_with_unit_moments(self):
    params, stats = _init(TINY)
    for path, leaf in _paths(params).items():
      if re.search(resnet.BATCH_NORM, path):
        expected = 1 if path.endswith('scale') else 0
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, expected), path)
    for path, leaf in _paths(stats).items():
      expected = 1 if path.endswith('var') else 0
      np.testing.assert_array_equal(leaf, np.full(leaf.shape, expected), path)


def _peer(size):
  """transformers' ResNet in float64, every tensor random and non-trivial."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(3)
  config = transformers.ResNetConfig(
    embedding_size=size.width,
    hidden_sizes=[4 * size.width * 2**s for s in range(len(size.blocks))],
    depths=list(size.blocks),
    layer_type='bottleneck',
    downsample_in_bottleneck=False,
    num_labels=size.classes,
  )
  model = transformers.ResNetForImageClassification(config).double()
  # TensorFlow's SAME: an even image is padded below and to the right only.
  # After a ReLU zeros are as good as minus infinity.
  model.resnet.embedder.pooler = torch.nn.Sequential(
    torch.nn.ConstantPad2d((0, 1, 0, 1), 0.0), torch.nn.MaxPool2d(3, 2)
  )
  for name, tensor in model.state_dict().items():
    if name.endswith(('normalization.weight', 'running_var')):
      tensor.copy_(torch.rand_like(tensor) + 0.5)
    elif name.endswith(('normalization.bias', 'running_mean', '1.bias')):
      tensor.copy_(0.3 * torch.randn_like(tensor))
  return model


def _peer_name(path: str) -> str:
  """'stages/0/1/bn2/mean' -> the name that transformers has for the tensor."""
  *where, part, kind = path.split('/')
  if part == 'dense':
    return {'kernel': 'classifier.1.weight', 'bias': 'classifier.1.bias'}[kind]
  if where:
    _, stage, block = where
    prefix = f'resnet.encoder.stages.{stage}.layers.{block}.'
    inner = (
      'shortcut'
      if part.startswith('project')
      else (f'layer.{int(part[-1]) - 1}')
    )
  else:
    prefix, inner = 'resnet.embedder.', 'embedder'
  tensor = {
    'kernel': 'convolution.weight',
    'scale': 'normalization.weight',
    'bias': 'normalization.bias',
    'mean': 'normalization.running_mean',
    'var': 'normalization.running_var',
  }[kind]
  return f'{prefix}{inner}.{tensor}'


def _to_ours(tensor) -> np.ndarray:
  """A copy: OIHW -> HWIO, and out-in -> in-out."""
  array = np.array(tensor.detach().numpy())
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


@dataclasses.dataclass(frozen=True)
class Twins:
  """Our model and its peer with the same weights and moments, and a batch."""

  size: resnet.Size
  model: functional.Functional
  params: Any
  stats: Any
  peer: Any
  images: np.ndarray
  labels: np.ndarray

  def pixels(self):
    """The batch as the peer wants it: NCHW, float64."""
    torch = pytest.importorskip('torch')
    return torch.from_numpy(self.images).double().permute(0, 3, 1, 2)

  def loss(self, params):
    """Mean cross entropy in training, and what else follows."""
    logits, new = self.model.apply(params, self.stats, self.images, train=True)
    return _cross_entropy(logits, self.labels), (logits, new)


def _twins(size, rows, pixels) -> Twins:
  peer, model = _peer(size), _model(size)
  tensors = peer.state_dict()

  def load(path, leaf):
    # The first key of the path tells parameters from stats.
    name = jax.tree_util.keystr(path[1:], simple=True, separator='/')
    array = _to_ours(tensors.pop(_peer_name(name)))
    assert array.shape == leaf.shape, (name, array.shape, leaf.shape)
    return jnp.asarray(array, jnp.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  params, stats = jax.tree_util.tree_map_with_path(load, shapes)
  unused = [name for name in tensors if 'num_batches_tracked' not in name]
  assert not unused, unused
  labels = np.random.default_rng(8).integers(size.classes, size=rows)
  images = _images(rows, pixels)
  return Twins(size, model, params, stats, peer, images, labels)


class AgreementTest(parameterized.TestCase):
  """float32 here, float64 there, so what is left is our rounding."""

  def _assert_close(self, ours, theirs, tolerance):
    """Every difference is at most this share of the largest value."""
    difference = np.abs(np.asarray(ours) - theirs).max()
    self.assertLessEqual(difference, tolerance * np.abs(theirs).max())

  @pytest.mark.slow
  def test_logits_and_moments_of_resnet50_agree(self):
    self._assert_logits_and_moments_agree(_twins(resnet.RESNET50, 4, 64))

  # Its stages see 7, 4, 2 rows and one.
  def test_logits_and_moments_agree(self):
    self._assert_logits_and_moments_agree(_twins(TINY, 4, 28))

  def _assert_logits_and_moments_agree(self, twins):
    evaluate = quick.jit(functools.partial(twins.model.apply, train=False))
    ours, unchanged = evaluate(twins.params, twins.stats, twins.images)
    theirs = twins.peer.eval()(twins.pixels()).logits.detach().numpy()
    with self.subTest('evaluation'):
      self.assertEqual(ours.dtype, jnp.float32)
      self._assert_close(ours, theirs, 1e-5)
      jax.tree.map(np.testing.assert_array_equal, unchanged, twins.stats)

    ours, new = _trained(twins.size, jnp.float32)(
      twins.params, twins.stats, twins.images
    )
    theirs = twins.peer.train()(twins.pixels()).logits.detach().numpy()
    with self.subTest('training'):
      # PyTorch in float32 is 4e-5 from itself in float64 here.
      self._assert_close(ours, theirs, 3e-4)
    tensors = twins.peer.state_dict()
    for path, moment in _paths(new).items():
      with self.subTest(path):
        self._assert_close(moment, _to_ours(tensors[_peer_name(path)]), 3e-4)

  # Not at full depth: there float32 gradients are off by tens of percent from
  # float64 ones, in PyTorch as here, with random scales and 16 values a norm.
  def test_gradients_agree(self):
    torch = pytest.importorskip('torch')
    twins = _twins(UNEVEN, rows=6, pixels=48)
    logits = twins.peer.train()(twins.pixels()).logits
    labels = torch.from_numpy(twins.labels)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    theirs = dict(twins.peer.named_parameters())
    ours, _ = quick.jit(jax.grad(twins.loss, has_aux=True))(twins.params)
    for path, grad in _paths(ours).items():
      with self.subTest(path):
        expected = _to_ours(theirs[_peer_name(path)].grad)
        self._assert_close(grad, expected, 1e-4)


class ComputeTest(parameterized.TestCase):
  """Tests of a step, on a small model that is initialised once."""

  def test_bfloat16_touches_neither_parameters_nor_moments_nor_logits(self):
    params, stats = _init(TINY)
    images = _images(4, 28)
    low, high = (
      _trained(TINY, dtype)(params, stats, images)
      for dtype in (jnp.bfloat16, jnp.float32)
    )
    init = jax.eval_shape(
      _model(TINY, dtype=jnp.bfloat16).init, jax.random.key(0)
    )
    for leaf in jax.tree.leaves((init, low)):
      self.assertEqual(leaf.dtype, jnp.float32)
    difference = np.abs(low[0] - high[0]).max() / np.abs(high[0]).max()
    self.assertLess(difference, 0.1)
    self.assertGreater(difference, 1e-4)  # It did compute in bfloat16.

  def test_groups_in_one_batch_equal_each_group_by_itself(self):
    params, stats = _init(SMALL)
    images = _images(8, 28)
    labels = np.arange(8) % SMALL.classes
    whole = _small_step(4)(params, stats, images, labels)
    halves = [
      _small_step(None)(params, stats, images[rows], labels[rows])
      for rows in (slice(0, 4), slice(4, 8))
    ]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    for path, leaf in _paths(mean).items():
      scale = np.abs(leaf).max() + 1e-6
      np.testing.assert_allclose(
        _paths(whole)[path] / scale, leaf / scale, atol=1e-4, err_msg=path
      )

  def test_a_small_model_learns_its_batch_by_heart(self):
    params, stats = _init(SMALL)
    images, labels = _images(8, 28), np.arange(8) % SMALL.classes
    descend = quick.jit(
      lambda *trees: jax.tree.map(lambda w, g: w - 0.3 * g, *trees)
    )
    losses = []
    for _ in range(20):
      loss, grads, stats = _small_step(4)(params, stats, images, labels)
      params = descend(params, grads)
      losses.append(float(loss))
    self.assertBetween(losses[0], 2.1, 2.5)  # About log(10).
    self.assertLess(losses[-1], 0.2)

  @parameterized.parameters(28, 29, 32, 37)
  def test_any_image_size_will_do(self, pixels):
    model = _model(TINY)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, pixels, pixels, 3), jnp.float32)
    logits, _ = jax.eval_shape(
      functools.partial(model.apply, train=True), params, stats, images
    )
    self.assertEqual(logits.shape, (2, 10))

  def test_broken_groups_are_refused_before_anything_is_computed(self):
    model = _model(TINY, bn_span=3)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((4, 28, 28, 3), jnp.float32)
    with self.assertRaisesRegex(ValueError, '4 rows .* groups of 3'):
      jax.eval_shape(
        functools.partial(model.apply, train=True), params, stats, images
      )


if __name__ == '__main__':
  absltest.main()
