"""Tests of 3D U-Net, with the reference's numbers and PyTorch as witnesses.

Golden numbers are those of mlcommons/training, retired_benchmarks/unet3d/
pytorch: its blocks (model/layers.py) and its loss (model/losses.py), in float64
on a CPU, with the weights and volumes that are drawn here.
"""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import unet3d
from models.parts import functional
from tests import quick

SMALL = unet3d.Size((4, 6), 3)
# Of a batch of two volumes of 8 voxels a side.
LOSS, NORM = 0.9489728358042056, 0.27573600684314564


def _model(size=SMALL, **how):
  compute = unet3d.Compute(**how)
  return functional.Functional.of(
    lambda rngs: unet3d.UNet3D(size, compute, rngs=rngs)
  )


def _by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@functools.cache
def _weights():
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

  shapes, _ = jax.eval_shape(_model().init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.cache
def _volumes():
  """Images float32 and labels uint8, both [2, 8, 8, 8]."""
  rng = np.random.default_rng(6)
  images = rng.standard_normal((2, 8, 8, 8)).astype(np.float32)
  labels = rng.integers(0, 3, images.shape).astype(np.uint8)
  labels[0][labels[0] == 2] = 0  # one volume has no tumour
  return images, labels


@functools.cache
def _found():
  """Logits, loss and gradients by path."""
  images, labels = _volumes()

  def loss(params):
    logits, _ = _model(fold=True).apply(params, {}, images)
    return unet3d.row_losses(logits, labels).mean(), logits

  (value, logits), grads = quick.jit(jax.value_and_grad(loss, has_aux=True))(
    _weights()
  )
  return np.asarray(logits), float(value), _by_path(grads)


class ModelTest(parameterized.TestCase):
  def test_there_are_as_many_parameters_as_in_the_reference(self):
    params, stats = jax.eval_shape(
      _model(unet3d.KITS19).init, jax.random.key(0)
    )
    leaves = jax.tree.leaves(params)
    self.assertEqual(sum(leaf.size for leaf in leaves), 31_190_243)
    self.assertLen(leaves, 78)
    self.assertEmpty(jax.tree.leaves(stats))

  def test_loss_and_gradient_are_those_of_the_reference(self):
    _, loss, grads = _found()
    np.testing.assert_allclose(loss, LOSS, rtol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    np.testing.assert_allclose(norm, NORM, rtol=1e-5)

  def test_logits_and_each_gradient_are_those_of_pytorch(self):
    torch = pytest.importorskip('torch')
    from tests.models import unet3d_peer

    peer = unet3d_peer.Peer(SMALL.filters, 3, _by_path(_weights()))
    images, labels = _volumes()
    logits = peer.double()(torch.tensor(images, dtype=torch.float64)[:, None])
    unet3d_peer.loss(logits, torch.tensor(labels.astype(int))).backward()
    expected = np.moveaxis(logits.detach().numpy(), 1, -1)
    found, _, grads = _found()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    grads = dict(grads)
    self.assertLen(grads, 3 * 10 + 2 * 2 + 2)
    for path, tensor, axes in peer.named():
      ours = np.transpose(grads.pop(path), axes).reshape(tensor.shape)
      theirs = tensor.grad.numpy()
      apart = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
      self.assertLess(apart, 1e-4, path)
    self.assertEmpty(grads)

  def test_kernels_and_biases_start_as_those_of_pytorch(self):
    torch = pytest.importorskip('torch')
    from tests.models import unet3d_peer

    size = unet3d.Size((16, 24), 3)
    params, _ = quick.jit(_model(size).init)(jax.random.key(0, impl='rbg'))
    params = _by_path(params)
    torch.manual_seed(0)
    for path, tensor, _ in unet3d_peer.Peer(size.filters, 3).named():
      ours, theirs = params[path], tensor.detach().numpy()
      if path.startswith('up'):
        fan = 8 * params[f'{path.rpartition("/")[0]}/bias'].size
      elif path.endswith('kernel'):
        fan = ours[..., 0].size
      elif path == 'bias':
        fan = size.filters[0]
      else:  # of a norm
        np.testing.assert_array_equal(ours, theirs, path)
        continue
      for drawn in (ours, theirs):  # uniform, up to a bound
        self.assertLess(abs(drawn).max(), fan**-0.5, path)
        if drawn.size > 500:
          self.assertGreater(abs(drawn).max(), 0.99 * fan**-0.5, path)
          np.testing.assert_allclose(drawn.std() * (3 * fan) ** 0.5, 1, 0.06)

  def test_a_sample_does_not_depend_on_the_others_of_its_batch(self):
    images, _ = _volumes()
    apply = quick.jit(lambda x: _model(fold=True).apply(_weights(), {}, x)[0])
    np.testing.assert_allclose(apply(images)[:1], apply(images[:1]), atol=2e-5)

  @parameterized.parameters(
    ({}, 1e-6), ({'remat': True}, 1e-6), ({'dtype': jnp.bfloat16}, 5e-3)
  )
  def test_how_it_is_computed_changes_rounding_alone(self, how, rtol):
    images, labels = _volumes()
    logits, _ = quick.jit(_model(**how).apply)(_weights(), {}, images)
    loss = unet3d.row_losses(logits, labels).mean()
    np.testing.assert_allclose(loss, LOSS, rtol=rtol)


class PartsTest(parameterized.TestCase):
  @parameterized.product(stride=(1, 2), sides=((4, 6, 8), (2, 2, 2)))
  def test_folded_planes_are_convolved_as_volumes_are(self, stride, sides):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *sides, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 3, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(
      unet3d.convolve_folded(x, kernel, stride),
      unet3d.convolve(x, kernel, stride),
      atol=1e-4,
    )

  def test_instance_norm_has_moments_of_each_sample_and_channel(self):
    rng = np.random.default_rng(1)
    x = 3 + 2 * rng.standard_normal((2, 4, 4, 4, 3))
    y = unet3d.instance_norm(
      x.astype(np.float32), jnp.array([1.0, 2.0, 3.0]), jnp.arange(3.0)
    )
    mean, var = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    expected = (x - mean) / np.sqrt(var + 1e-5)
    expected = expected * np.arange(1, 4) + np.arange(3)
    np.testing.assert_allclose(y, expected, atol=1e-5)

  def test_a_constant_sample_is_its_bias(self):
    x = jnp.full((1, 2, 2, 2, 1), -2.34)
    y = unet3d.instance_norm(x, jnp.ones(1), jnp.full(1, 0.5))
    np.testing.assert_allclose(y, np.full(x.shape, 0.5), atol=1e-3)

  def test_dice_leaves_out_the_background_and_a_missing_class_has_1(self):
    # Certain and right of background and kidney; there is no tumour.
    labels = np.zeros((1, 2, 2, 2), np.uint8)
    labels[0, 0] = 1
    logits = 50.0 * jax.nn.one_hot(labels, 3)
    np.testing.assert_allclose(unet3d.row_losses(logits, labels), 0, atol=1e-6)
    # All background where half is kidney: a Dice of 0 and of 1, and an entropy
    # of 50 in half of the voxels.
    wrong = 50.0 * jax.nn.one_hot(np.zeros_like(labels), 3)
    np.testing.assert_allclose(
      unet3d.row_losses(wrong, labels), (0.5 + 25) / 2, rtol=1e-5
    )

  def test_the_names_of_tensors_are_those_of_the_rules(self):
    names = unet3d.tensor_names(unet3d.KITS19)
    self.assertLen({*names}, 50)
    for name in (
      'input_block_0_conv', 'down4_block_1_instancenorm', 'up0_deconv',
      'up4_block_0_conv', 'output_conv',
    ):  # fmt: skip
      self.assertIn(name, names)

  def test_a_smaller_size_is_the_same_net(self):
    size = dataclasses.replace(unet3d.KITS19, filters=(2, 4))
    shapes, _ = jax.eval_shape(_model(size).init, jax.random.key(0))
    self.assertEqual(_shapes(shapes)['joined/1/0/kernel'], (3, 3, 3, 4, 2))


def _shapes(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


if __name__ == '__main__':
  absltest.main()
