"""Tests of MiniGo's net, loss and symmetries; PyTorch is the witness."""

import dataclasses
import functools
import re
from typing import Any

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.minigo import net as minigo
from models.parts import functional
from suite.run import sharding
from tests import quick

SMALL = minigo.Size(side=5, planes=3, width=6, blocks=2, value_width=7)
# The nets of rounds v0.7 and v0.6.
BOARD_19 = minigo.Size(side=19, planes=13, width=64, blocks=6)
BOARD_9 = minigo.Size(side=9, planes=17, width=32, blocks=9)
V05_WEIGHT, V07_WEIGHT = 1.0, 0.5


def _model(size=SMALL, bn_span=None, dtype=jnp.float32):
  return functional.Functional.of(
    lambda rngs: minigo.Minigo(size, bn_span=bn_span, dtype=dtype, rngs=rngs)
  )


def _paths(tree) -> dict[str, Any]:
  return {
    sharding.path_of(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@functools.cache
def _init(size=SMALL):
  return quick.jit(_model(size).init)(jax.random.key(0, impl='rbg'))


class ParametersTest(parameterized.TestCase):
  @parameterized.parameters((BOARD_19, 736_671, 47), (BOARD_9, 190_775, 65))
  def test_there_are_as_many_parameters_as_in_the_reference(
    self, size, total, tensors
  ):
    params, stats = jax.eval_shape(_model(size).init, jax.random.key(0))
    leaves = jax.tree.leaves(params)
    self.assertEqual(sum(leaf.size for leaf in leaves), total)
    self.assertLen(leaves, tensors)
    # A mean and a variance for every convolution.
    self.assertLen(jax.tree.leaves(stats), 2 * (2 * size.blocks + 3))

  def test_every_tensor_has_the_name_that_the_checker_asks_for(self):
    def layers(stem, count, *kinds):
      numbered = [stem] + [f'{stem}_{number}' for number in range(1, count)]
      return {f'{layer}/{kind}' for layer in numbered for kind in kinds}

    names = minigo.tensor_names(BOARD_19)
    params, _ = jax.eval_shape(_model(BOARD_19).init, jax.random.key(0))
    self.assertEqual(set(names), set(_paths(params)))
    self.assertEqual(
      set(names.values()),
      layers('conv2d', 15, 'kernel')
      | layers('batch_normalization', 13, 'gamma', 'beta')
      | layers('dense', 3, 'kernel', 'bias'),
    )
    self.assertEqual(names['blocks/5/conv2/kernel'], 'conv2d_12/kernel')
    self.assertEqual(names['blocks/0/bn1/scale'], 'batch_normalization_1/gamma')
    self.assertEqual(names['value_hidden/bias'], 'dense_1/bias')

  def test_kernels_start_as_glorot_uniform_and_the_rest_as_constants(self):
    params, stats = _init(minigo.Size(side=9, planes=13, width=32, blocks=1))
    for path, leaf in _paths(params).items():
      with self.subTest(path):
        if path.endswith('kernel'):
          taps = leaf.size // (leaf.shape[-1] * leaf.shape[-2])
          limit = np.sqrt(6 / (taps * (leaf.shape[-1] + leaf.shape[-2])))
          self.assertLessEqual(abs(leaf).max(), limit)
          self.assertGreater(abs(leaf).max(), 0.85 * limit)
          self.assertAlmostEqual(
            float(leaf.std()), limit / np.sqrt(3), delta=0.25 * limit
          )
        else:
          expected = 1.0 if path.endswith('scale') else 0.0
          np.testing.assert_array_equal(leaf, expected)
    for path, leaf in _paths(stats).items():
      np.testing.assert_array_equal(leaf, float(path.endswith('var')), path)

  def test_rules_place_every_parameter(self):
    params, _ = jax.eval_shape(_model().init, jax.random.key(0))
    for path in _paths(params):
      self.assertTrue(
        any(re.search(rule, path) for rule, _ in minigo.PARTITION_RULES)
      )


def _peer(size):
  """The net in PyTorch, float64, every tensor random."""
  torch = pytest.importorskip('torch')
  nn = torch.nn

  def conv(channels, out, kernel=3):
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)

  # PyTorch's momentum is the share of the new moments.
  norm = functools.partial(nn.BatchNorm2d, momentum=0.05, eps=1e-5)

  class Block(nn.Module):
    def __init__(self, width):
      super().__init__()
      self.conv1, self.bn1 = conv(width, width), norm(width)
      self.conv2, self.bn2 = conv(width, width), norm(width)

    def forward(self, x):
      y = self.bn1(self.conv1(x)).relu()
      return (x + self.bn2(self.conv2(y))).relu()

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      self.conv, self.bn = conv(size.planes, size.width), norm(size.width)
      self.blocks = nn.ModuleList(
        [Block(size.width) for _ in range(size.blocks)]
      )
      self.policy_conv = conv(size.width, 2, kernel=1)
      self.policy_bn = norm(2, affine=False)
      self.policy = nn.Linear(2 * size.side**2, size.side**2 + 1)
      self.value_conv = conv(size.width, 1, kernel=1)
      self.value_bn = norm(1, affine=False)
      self.value_hidden = nn.Linear(size.side**2, size.value_width)
      self.value = nn.Linear(size.value_width, 1)

    def forward(self, x):
      x = self.bn(self.conv(x)).relu()
      for block in self.blocks:
        x = block(x)
      # Channels last, as the dense layers' inputs are numbered here.
      policy = self.policy_bn(self.policy_conv(x)).relu()
      policy = policy.permute(0, 2, 3, 1).flatten(1)
      value = self.value_bn(self.value_conv(x)).relu()
      value = value.permute(0, 2, 3, 1).flatten(1)
      value = self.value(self.value_hidden(value).relu())
      return self.policy(policy), value.tanh()[:, 0]

  torch.manual_seed(3)
  net = Net().double()
  for name, tensor in net.state_dict().items():
    if name.endswith('running_var'):
      tensor.copy_(torch.rand_like(tensor) + 0.5)
    elif name.endswith(('running_mean', 'bias')):
      tensor.copy_(0.3 * torch.randn_like(tensor))
    elif name.endswith('weight') and tensor.ndim == 1:
      tensor.copy_(torch.rand_like(tensor) + 0.5)
  return net


def _peer_name(path: str) -> str:
  *where, kind = path.split('/')
  kind = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
  }[kind]
  return '.'.join([*where, kind])


def _to_ours(tensor) -> np.ndarray:
  """A copy: OIHW -> HWIO, and out-in -> in-out."""
  array = np.array(tensor.detach().numpy())
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


@dataclasses.dataclass(frozen=True)
class Twins:
  """Our net and its peer with the same weights and moments, and a batch."""

  model: functional.Functional
  params: Any
  stats: Any
  peer: Any
  planes: np.ndarray
  pi: np.ndarray
  outcomes: np.ndarray

  def theirs(self):
    torch = pytest.importorskip('torch')
    planes = torch.from_numpy(self.planes).double().permute(0, 3, 1, 2)
    return self.peer(planes)

  def loss(self, params, value_weight=V07_WEIGHT):
    (logits, values), new = self.model.apply(
      params, self.stats, self.planes, train=True
    )
    parts = minigo.losses(logits, values, self.pi, self.outcomes)
    total = parts.policy + value_weight * parts.value + minigo.l2(params, 0.01)
    return total, (logits, values, new)


@functools.cache
def _twins(size=SMALL, rows=6) -> Twins:
  peer, model = _peer(size), _model(size)
  tensors = peer.state_dict()

  def load(path, leaf):
    name = sharding.path_of(path[1:])
    array = _to_ours(tensors[_peer_name(name)])
    assert array.shape == leaf.shape, (name, array.shape, leaf.shape)
    return jnp.asarray(array, jnp.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  params, stats = jax.tree_util.tree_map_with_path(load, shapes)
  draws = np.random.default_rng(8)
  shape = (rows, size.side, size.side, size.planes)
  pi = draws.dirichlet([0.2] * size.moves, rows).astype(np.float32)
  outcomes = draws.choice([-1.0, 1.0], rows).astype(np.float32)
  planes = (draws.random(shape) < 0.4).astype(np.float32)
  return Twins(model, params, stats, peer, planes, pi, outcomes)


class AgreementTest(parameterized.TestCase):
  """float32 here, float64 there, so what is left is our rounding."""

  def _assert_close(self, ours, theirs, tolerance):
    """Every difference is at most this share of the largest value."""
    difference = np.abs(np.asarray(ours) - theirs).max()
    self.assertLessEqual(difference, tolerance * np.abs(theirs).max())

  def test_logits_values_and_moments_agree(self):
    twins = _twins()
    evaluate = quick.jit(functools.partial(twins.model.apply, train=False))
    (logits, values), _ = evaluate(twins.params, twins.stats, twins.planes)
    twins.peer.eval()
    for ours, theirs in zip((logits, values), twins.theirs(), strict=True):
      self.assertEqual(ours.dtype, jnp.float32)
      self._assert_close(ours, theirs.detach().numpy(), 1e-5)

    _, (logits, values, new) = quick.jit(twins.loss)(twins.params)
    peer = _peer(SMALL).train()
    twins = dataclasses.replace(twins, peer=peer)
    for ours, theirs in zip((logits, values), twins.theirs(), strict=True):
      self._assert_close(ours, theirs.detach().numpy(), 1e-4)
    tensors = peer.state_dict()
    for path, moment in _paths(new).items():
      with self.subTest(path):
        self._assert_close(moment, _to_ours(tensors[_peer_name(path)]), 1e-4)

  @parameterized.parameters(V05_WEIGHT, V07_WEIGHT)
  def test_loss_and_gradients_agree(self, value_weight):
    torch = pytest.importorskip('torch')
    twins = dataclasses.replace(_twins(), peer=_peer(SMALL).train())
    logits, values = twins.theirs()
    pi, outcomes = map(torch.from_numpy, (twins.pi, twins.outcomes))
    theirs = torch.nn.functional.cross_entropy(logits, pi.double())
    theirs = theirs + value_weight * ((values - outcomes) ** 2).mean()
    for name, weight in twins.peer.named_parameters():
      if not name.endswith('bias'):
        theirs = theirs + 0.01 * (weight**2).sum() / 2
    theirs.backward()
    value_and_grad = jax.value_and_grad(twins.loss, has_aux=True)
    (ours, _), grads = quick.jit(value_and_grad)(twins.params, value_weight)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    named = dict(twins.peer.named_parameters())
    for path, grad in _paths(grads).items():
      with self.subTest(path):
        self._assert_close(grad, _to_ours(named[_peer_name(path)].grad), 2e-4)


class LossTest(parameterized.TestCase):
  def test_losses_by_hand(self):
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    pi = jnp.asarray([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    values, outcomes = jnp.asarray([0.5, -0.5]), jnp.asarray([1.0, 1.0])
    parts = minigo.losses(logits, values, pi, outcomes)
    expected = -(np.log(0.5) + (np.log(0.2) + np.log(0.6)) / 2) / 2
    self.assertAlmostEqual(float(parts.policy), expected, places=6)
    self.assertAlmostEqual(float(parts.value), (0.25 + 2.25) / 2, places=6)

  def test_decay_is_half_the_squares_of_kernels_and_scales_only(self):
    params, _ = jax.eval_shape(_model().init, jax.random.key(0))
    ones = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), params)
    decayed = sum(
      leaf.size
      for path, leaf in _paths(params).items()
      if not path.endswith('bias')
    )
    biases = sum(leaf.size for leaf in jax.tree.leaves(params)) - decayed
    self.assertEqual(biases, 5 * 6 + 26 + 7 + 1)
    np.testing.assert_allclose(minigo.l2(ones), 1e-4 * 2.0 * decayed, rtol=1e-6)

  def test_bfloat16_touches_neither_parameters_nor_moments_nor_answers(self):
    params, stats = _init()
    planes = _twins().planes
    low, high = (
      quick.jit(functools.partial(_model(dtype=dtype).apply, train=True))(
        params, stats, planes
      )
      for dtype in (jnp.bfloat16, jnp.float32)
    )
    for leaf in jax.tree.leaves(low):
      self.assertEqual(leaf.dtype, jnp.float32)
    difference = np.abs(low[0][0] - high[0][0]).max()
    self.assertBetween(difference / np.abs(high[0][0]).max(), 1e-4, 0.1)

  def test_planes_may_be_bits(self):
    params, stats = _init()
    planes = _twins().planes
    evaluate = quick.jit(functools.partial(_model().apply, train=False))
    for dtype in (bool, np.int8):
      ours, _ = evaluate(params, stats, planes.astype(dtype))
      expected, _ = evaluate(params, stats, planes)
      jax.tree.map(np.testing.assert_array_equal, ours, expected)


def _numbered(side):
  """A board whose points are all different, for each symmetry, and the pass."""
  points = np.arange(side**2 + 1, dtype=np.float32)[None]
  return jnp.asarray(np.repeat(points, minigo.SYMMETRIES, axis=0))


ALL = jnp.arange(minigo.SYMMETRIES, dtype=jnp.int32)


class SymmetryTest(parameterized.TestCase):
  def test_they_are_the_turns_and_reflections_of_a_square(self):
    turned = np.asarray(minigo.transform_moves(_numbered(4), ALL))
    board = np.arange(16).reshape(4, 4)
    expected = {
      np.rot90(flipped, turns).tobytes()
      for flipped in (board, board[:, ::-1])
      for turns in range(4)
    }
    self.assertLen(expected, 8)
    self.assertEqual(
      {row[:-1].astype(board.dtype).tobytes() for row in turned}, expected
    )
    np.testing.assert_array_equal(turned[:, -1], 16)
    np.testing.assert_array_equal(turned[0], np.arange(17))

  @parameterized.parameters(3, 4, 9)
  def test_the_inverse_undoes_and_is_undone(self, side):
    moves = _numbered(side)
    for first, second in (
      (ALL, minigo.inverse(ALL)),
      (minigo.inverse(ALL), ALL),
    ):
      there = minigo.transform_moves(moves, first)
      back = minigo.transform_moves(there, second)
      np.testing.assert_array_equal(back, moves)

  def test_two_in_a_row_are_one_of_the_eight(self):
    moves = _numbered(4)
    single = np.asarray(minigo.transform_moves(moves, ALL))
    for number in range(8):
      twice = minigo.transform_moves(
        jnp.asarray(single), jnp.full(8, number, jnp.int32)
      )
      # A group: each symmetry comes once.
      found = {
        int(np.flatnonzero((single == row).all(axis=1))[0])
        for row in np.asarray(twice)
      }
      self.assertEqual(found, set(range(8)))

  def test_planes_and_moves_turn_alike(self):
    draws = np.random.default_rng(2)
    boards = draws.random((8, 5, 5)).astype(np.float32)
    planes = np.stack([boards, 2 * boards], axis=-1)
    moves = np.concatenate([boards.reshape(8, 25), np.ones((8, 1))], axis=1)
    turned = minigo.transform(jnp.asarray(planes), ALL)
    np.testing.assert_array_equal(turned[..., 1], 2 * turned[..., 0])
    np.testing.assert_array_equal(
      turned[..., 0].reshape(8, 25),
      minigo.transform_moves(jnp.asarray(moves, jnp.float32), ALL)[:, :-1],
    )

  def test_a_net_that_sees_a_turned_board_answers_of_the_board_as_it_is(self):
    """One that looks only at its own point, so that turning changes nothing."""
    draws = np.random.default_rng(5)
    planes = jnp.asarray(draws.random((8, 4, 4, 2)), jnp.float32)

    def net(planes):
      points = (planes[..., 0] - planes[..., 1]).reshape(8, -1)
      logits = jnp.concatenate([points, jnp.zeros((8, 1))], axis=1)
      return logits, planes.sum(axis=(1, 2, 3))

    plain = net(planes)
    turned = minigo.under_symmetry(net, planes, ALL)
    for ours, theirs in zip(turned, plain, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5)

  def test_moves_that_are_no_square_and_a_pass_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'square board and a pass, got 25'):
      minigo.transform_moves(jnp.zeros((8, 25)), ALL)


if __name__ == '__main__':
  absltest.main()
