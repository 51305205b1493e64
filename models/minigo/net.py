"""Policy and value net of MiniGo, its loss, and the symmetries of a board.

From mlcommons/training, retired_benchmarks/minigo/tensorflow/minigo:
dual_net.py and ml_perf/flags of rounds v0.6 (9x9) and v0.7 to v2.1 (19x19).
Values are from Black's view throughout, whoever is to play: 1 is a win for
Black.
"""

# N positions, S points on a side, F planes, A moves: S * S points, then a pass.

from collections.abc import Callable
import dataclasses
import functools
import re
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from models.parts import layers

# Data parallel: every device holds all parameters.
PARTITION_RULES = ((r'.*', P()),)

# Parameters without L2: the reference takes all variables without 'bias' or
# 'beta' in their names, so the scales of batch norm are decayed.
NO_DECAY = r'/bias$'

SYMMETRIES = 8

# The default of tf.layers, for convolutions and dense layers.
_KERNEL_INIT = nnx.initializers.glorot_uniform()
# Batch norm: the share of the old moments that is kept, and epsilon.
_MOMENTUM = 0.95
_EPSILON = 1e-5
_POLICY_CHANNELS = 2
_VALUE_CHANNELS = 1


@dataclasses.dataclass(frozen=True)
class Size:
  """Points on a side, planes, the trunk's channels and residual blocks.

  `value_width` is the width between the two dense layers of the value head.
  """

  side: int
  planes: int
  width: int
  blocks: int
  value_width: int = 64

  @property
  def moves(self) -> int:
    """Number of moves: every point, and the pass."""
    return self.side**2 + 1


class Minigo(nnx.Module):
  """A trunk of residual blocks, a policy head and a value head.

  Computes in `dtype` from float32 parameters; batch norm moments and the heads
  after their convolutions are float32. `bn_span` is the number of rows whose
  moments are shared in training, None for the whole batch.
  """

  def __init__(
    self,
    size: Size,
    *,
    bn_span: int | None,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    conv = functools.partial(_conv, dtype=dtype, rngs=rngs)
    norm = functools.partial(_norm, bn_span=bn_span, rngs=rngs)
    plain = functools.partial(_PlainNorm, span=bn_span, rngs=rngs)
    dense = functools.partial(nnx.Linear, kernel_init=_KERNEL_INIT, rngs=rngs)
    points = size.side**2
    self.conv = conv(size.planes, size.width)
    self.bn = norm(size.width)
    self.blocks = nnx.List(
      [
        _Block(size.width, bn_span=bn_span, dtype=dtype, rngs=rngs)
        for _ in range(size.blocks)
      ]
    )
    self.policy_conv = conv(size.width, _POLICY_CHANNELS, kernel=1)
    self.policy_bn = plain(_POLICY_CHANNELS)
    self.policy = dense(_POLICY_CHANNELS * points, size.moves)
    self.value_conv = conv(size.width, _VALUE_CHANNELS, kernel=1)
    self.value_bn = plain(_VALUE_CHANNELS)
    self.value_hidden = dense(_VALUE_CHANNELS * points, size.value_width)
    self.value = dense(size.value_width, 1)

  def __call__(
    self, planes: jax.Array, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Planes [N, S, S, F] -> logits [N, A] and values in [-1, 1], [N]."""
    x = planes.astype(self.conv.dtype)
    x = jax.nn.relu(self.bn(self.conv(x), train=train))
    for block in self.blocks:
      x = block(x, train=train)
    policy = self.policy_bn(self.policy_conv(x), train=train)
    value = self.value_bn(self.value_conv(x), train=train)
    hidden = jax.nn.relu(self.value_hidden(_flat(value)))
    return self.policy(_flat(policy)), jnp.tanh(self.value(hidden))[:, 0]


class _Block(nnx.Module):
  """Residual block of two 3x3 convolutions."""

  def __init__(
    self, width: int, *, bn_span: int | None, dtype: jnp.dtype, rngs: nnx.Rngs
  ):
    self.conv1 = _conv(width, width, dtype=dtype, rngs=rngs)
    self.bn1 = _norm(width, bn_span=bn_span, rngs=rngs)
    self.conv2 = _conv(width, width, dtype=dtype, rngs=rngs)
    self.bn2 = _norm(width, bn_span=bn_span, rngs=rngs)

  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, S, S, width] -> the same."""
    y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
    return jax.nn.relu(x + self.bn2(self.conv2(y), train=train))


class _PlainNorm(layers.GroupedBatchNorm):
  """Batch norm without scale and shift, for the heads."""

  def __init__(self, channels: int, *, span: int | None, rngs: nnx.Rngs):
    super().__init__(
      channels, span=span, momentum=_MOMENTUM, epsilon=_EPSILON, rngs=rngs
    )
    # The constants of the class take their place; they are not parameters.
    del self.scale, self.bias

  scale = np.ones(1, np.float32)
  bias = np.zeros(1, np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Losses:
  """Means over a batch, float32 []; `value` is not yet weighted."""

  policy: jax.Array  # cross entropy with the shares of the visits
  value: jax.Array  # squared error of the outcome


def losses(
  logits: jax.Array, values: jax.Array, pi: jax.Array, outcomes: jax.Array
) -> Losses:
  """Losses of logits and pi [N, A], values and outcomes for Black [N].

  The loss is `policy + value_weight * value + l2(params)`, with weights of 0.5
  from v0.7 on, 0.25 in v0.6 and 1 in v0.5.
  """
  cross_entropy = optax.softmax_cross_entropy(logits.astype(jnp.float32), pi)
  error = jnp.square(values.astype(jnp.float32) - outcomes)
  return Losses(cross_entropy.mean(), error.mean())


def l2(params: Any, strength: float = 1e-4) -> jax.Array:
  """`strength` times half the sum of squares, without biases and shifts: []."""
  decayed = [
    jnp.square(leaf).sum() / 2
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if not re.search(NO_DECAY, _path(path))
  ]
  return strength * sum(decayed)


def tensor_names(size: Size) -> dict[str, str]:
  """Names of all trained tensors in the reference, by their path here.

  With `global_step` they are the tensors whose initialization a Closed log must
  hold: 48 for the net of 19x19.
  """
  trunk = ['conv']
  norms = ['bn']
  for block in range(size.blocks):
    trunk += [f'blocks/{block}/conv1', f'blocks/{block}/conv2']
    norms += [f'blocks/{block}/bn1', f'blocks/{block}/bn2']
  convs = [*trunk, 'policy_conv', 'value_conv']
  names = _numbered('conv2d', convs, {'kernel': 'kernel'})
  names |= _numbered(
    'batch_normalization', norms, {'scale': 'gamma', 'bias': 'beta'}
  )
  names |= _numbered(
    'dense',
    ['policy', 'value_hidden', 'value'],
    {'kernel': 'kernel', 'bias': 'bias'},
  )
  return names


def transform(boards: jax.Array, symmetry: jax.Array) -> jax.Array:
  """Boards [N, S, S, ...] under symmetries int32 [N], 0 to 7.

  Bit 0 reverses the rows, bit 1 the columns, and bit 2 then swaps rows and
  columns.
  """
  flips = ((1, lambda x: x[:, ::-1]), (2, lambda x: x[:, :, ::-1]))
  for bit, turn in (*flips, (4, lambda x: jnp.swapaxes(x, 1, 2))):
    has_bit = jnp.expand_dims((symmetry & bit) > 0, range(1, boards.ndim))
    boards = jnp.where(has_bit, turn(boards), boards)
  return boards


def transform_moves(moves: jax.Array, symmetry: jax.Array) -> jax.Array:
  """Values of moves [N, A] under symmetries int32 [N]; a pass stays."""
  side = round((moves.shape[1] - 1) ** 0.5)
  if side**2 + 1 != moves.shape[1]:
    raise ValueError(
      'Expected every point of a square board and a pass, got '
      f'{moves.shape[1]} moves.'
    )
  points = moves[:, :-1].reshape(-1, side, side)
  points = transform(points, symmetry).reshape(-1, side**2)
  return jnp.concatenate([points, moves[:, -1:]], axis=1)


def inverse(symmetry: jax.Array) -> jax.Array:
  """Inverse symmetries: int32 [...] -> int32 [...]."""
  # Undone in reverse order: after a swap of sides the reversals change places.
  swapped = (symmetry & 4) | ((symmetry & 1) << 1) | ((symmetry & 2) >> 1)
  return jnp.where((symmetry & 4) > 0, swapped, symmetry)


def under_symmetry(
  net: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
  planes: jax.Array,
  symmetry: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Applies the net to planes under symmetries int32 [N].

  The logits [N, A] are transformed back to the moves of the original board.
  """
  logits, values = net(transform(planes, symmetry))
  return transform_moves(logits, inverse(symmetry)), values


def _numbered(stem: str, paths: list[str], kinds: dict[str, str]):
  """Names as TensorFlow numbers layers: `stem`, `stem`_1, `stem`_2, ..."""
  return {
    f'{path}/{ours}': f'{stem}_{number}/{theirs}'.replace('_0/', '/')
    for number, path in enumerate(paths)
    for ours, theirs in kinds.items()
  }


def _conv(
  channels: int,
  out: int,
  *,
  kernel: int = 3,
  dtype: jnp.dtype,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  return nnx.Conv(
    channels,
    out,
    (kernel, kernel),
    padding='SAME',
    use_bias=False,
    kernel_init=_KERNEL_INIT,
    dtype=dtype,
    rngs=rngs,
  )


def _norm(
  channels: int, *, bn_span: int | None, rngs: nnx.Rngs
) -> layers.GroupedBatchNorm:
  return layers.GroupedBatchNorm(
    channels, span=bn_span, momentum=_MOMENTUM, epsilon=_EPSILON, rngs=rngs
  )


def _flat(x: jax.Array) -> jax.Array:
  """[N, S, S, C] -> float32 [N, S * S * C], after a ReLU."""
  return jax.nn.relu(x.astype(jnp.float32)).reshape(x.shape[0], -1)


def _path(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')
