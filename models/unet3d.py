"""3D U-Net for the segmentation of volumes, and the loss it is trained with.

The variant is that of mlcommons/training, retired_benchmarks/unet3d/pytorch:
instance norm and ReLU after every convolution, strides in place of pooling,
transposed convolutions with a bias, no deep supervision.
"""

from collections.abc import Callable
import dataclasses
import itertools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

# Every device holds all parameters; samples are split, by rows or in space.
PARTITION_RULES = ((r'.*', P()),)

EPSILON = 1e-5  # of instance norm, PyTorch's default
SMOOTH = 1e-6  # added to both sides of a Dice ratio (model/losses.py)

Place = Callable[[jax.Array], jax.Array]
_SPACE = (1, 2, 3)  # depth, height and width of [N, D, H, W, C]


@dataclasses.dataclass(frozen=True)
class Size:
  """Channels of each level, from full resolution down, and classes.

  Below the last level is the bottleneck, with as many channels.
  """

  filters: tuple[int, ...]
  classes: int

  @property
  def halvings(self) -> int:
    """Number of times that the sides of a volume are halved."""
    return len(self.filters)


KITS19 = Size((32, 64, 128, 256, 320), 3)


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings of how the net is computed, not of what it computes."""

  dtype: jnp.dtype = jnp.float32  # of activations; moments stay float32
  # 3x3x3 convolutions as 3x3 ones of three planes laid side by side.
  fold: bool = False
  remat: bool = False  # recompute a level for gradients


class Block(nnx.Module):
  """A 3x3x3 convolution without bias, instance norm, ReLU."""

  def __init__(
    self,
    channels: int,
    out: int,
    *,
    stride: int = 1,
    fold: bool,
    rngs: nnx.Rngs,
  ):
    self.stride = stride
    self.fold = fold
    self.kernel = _uniform((3, 3, 3, channels, out), 27 * channels, rngs)
    self.scale = nnx.Param(jnp.ones(out, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(out, jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, D, H, W, channels] -> [N, D / stride, ..., out]."""
    kernel = self.kernel[...].astype(x.dtype)
    y = (convolve_folded if self.fold else convolve)(x, kernel, self.stride)
    return jax.nn.relu(instance_norm(y, self.scale[...], self.bias[...]))


class Up(nnx.Module):
  """A 2x2x2 transposed convolution of stride 2, with a bias."""

  def __init__(self, channels: int, out: int, *, rngs: nnx.Rngs):
    # PyTorch takes the fan of a transposed kernel from its output side.
    self.kernel = _uniform((2, 2, 2, channels, out), 8 * out, rngs)
    self.bias = _uniform((out,), 8 * out, rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, D, H, W, channels] -> [N, 2D, 2H, 2W, out]."""
    kernel = self.kernel[...].astype(x.dtype)
    y = jnp.einsum('nxyzc,ijkcd->nxiyjzkd', x, kernel)
    n, d, _, h, _, w, _, out = y.shape
    bias = self.bias[...].astype(x.dtype).reshape(1, 1, 1, 1, out)
    return y.reshape(n, 2 * d, 2 * h, 2 * w, out) + bias


class UNet3D(nnx.Module):
  """Volumes -> logits of the classes of every voxel."""

  def __init__(self, size: Size, compute: Compute, *, rngs: nnx.Rngs):
    filters = size.filters
    inside = [*filters, filters[-1]]  # of levels, with the bottleneck
    self.compute = compute

    def pair(channels, out, stride=1):
      how = {'fold': compute.fold, 'rngs': rngs}
      first = Block(channels, out, stride=stride, **how)
      return nnx.List([first, Block(out, out, **how)])

    self.input = pair(1, filters[0])
    self.down = nnx.List(
      pair(*ends, stride=2) for ends in itertools.pairwise(inside)
    )
    # From the bottleneck up: what comes from below has as many channels as the
    # level that it joins.
    levels = list(itertools.pairwise(inside[::-1]))
    self.up = nnx.List(Up(*ends, rngs=rngs) for ends in levels)
    self.joined = nnx.List(pair(2 * out, out) for _, out in levels)
    self.kernel = _uniform((filters[0], size.classes), filters[0], rngs)
    self.bias = _uniform((size.classes,), filters[0], rngs)

  def __call__(
    self, volumes: jax.Array, *, place: Place = lambda x: x
  ) -> jax.Array:
    """[N, D, H, W] -> logits [N, D, H, W, classes], float32.

    The sides must be multiples of two to the power of the halvings. `place`
    says where the activations [N, D, H, W, C] of a block lie.
    """

    def level(blocks, x):
      for block in blocks:
        x = place(block(x))
      return x

    level = jax.checkpoint(level) if self.compute.remat else level
    x = place(volumes[..., None].astype(self.compute.dtype))
    x = level(self.input, x)
    skips = []
    for blocks in self.down:
      skips.append(x)
      x = level(blocks, x)
    for up, blocks in zip(self.up, self.joined, strict=True):
      x = level(blocks, join(place(up(x)), skips.pop()))
    kernel = self.kernel[...].astype(x.dtype)
    logits = jnp.einsum('ndhwc,ck->ndhwk', x, kernel).astype(jnp.float32)
    return logits + self.bias[...].reshape(1, 1, 1, 1, -1)


def join(below: jax.Array, skip: jax.Array) -> jax.Array:
  """What comes up and what was kept of the level -> twice the channels."""
  return jnp.concatenate([below, skip], axis=-1)


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """[N, D, H, W, I] by [3, 3, 3, I, O], with a plane of zeros on every side."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride,) * 3,
    [(1, 1)] * 3,
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
  )


def convolve_folded(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The same as a convolution of planes, each beside its two neighbours.

  XLA has a fast convolution of two dimensions for CPUs and none of three.
  """
  n, d, h, w, channels = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
  shifted = [padded[:, i : i + d : stride] for i in range(3)]
  planes = jnp.concatenate(shifted, axis=-1).reshape(-1, h, w, 3 * channels)
  kernel = jnp.moveaxis(kernel, 0, 2).reshape(3, 3, 3 * channels, -1)
  y = jax.lax.conv_general_dilated(
    planes,
    kernel,
    (stride,) * 2,
    [(1, 1)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return y.reshape(n, -1, *y.shape[1:])


def instance_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
  """Normalises each sample and channel of [N, D, H, W, C], in float32.

  The variance is the biased one. Both moments come of one pass over the voxels
  and, where these are split, of one all-reduce.
  """
  wide = x.astype(jnp.float32)
  mean = wide.mean(_SPACE, keepdims=True)
  square = jnp.square(wide).mean(_SPACE, keepdims=True)
  var = jnp.maximum(square - jnp.square(mean), 0.0)
  scale, bias = (p.reshape(1, 1, 1, 1, -1) for p in (scale, bias))
  factor = jax.lax.rsqrt(var + EPSILON) * scale
  return ((wide - mean) * factor + bias).astype(x.dtype)


def row_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Half of Dice loss and cross entropy: [N, D, H, W, C], [N, D, H, W] -> [N].

  The Dice loss is that of the classes but the first, the background; each is
  the mean over a sample, so that a batch's loss is the mean of its rows.
  """
  logs = jax.nn.log_softmax(logits)
  truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
  entropy = -jnp.sum(logs * truth, axis=-1).mean(_SPACE)
  dice = dice_losses(jnp.exp(logs)[..., 1:], truth[..., 1:])
  return (dice + entropy) / 2


def dice_losses(shares: jax.Array, truth: jax.Array) -> jax.Array:
  """1 less the Dice of each class, [N, D, H, W, C] twice -> their mean [N]."""
  both = jnp.sum(shares * truth, _SPACE)
  either = jnp.sum(shares, _SPACE) + jnp.sum(truth, _SPACE)
  return (1 - (2 * both + SMOOTH) / (either + SMOOTH)).mean(-1)


def tensor_names(size: Size) -> list[str]:
  """Names of the tensors, as the reference logs them."""
  blocks = {'input': 'input_block'}
  blocks |= {f'down{i}': f'down{i}_block' for i in range(size.halvings)}
  blocks |= {f'up{i}': f'up{i}_block' for i in range(size.halvings)}
  names = [
    f'{block}_{i}_{kind}'
    for block in blocks.values()
    for i in range(2)
    for kind in ('conv', 'instancenorm')
  ]
  ups = [f'up{i}_deconv' for i in range(size.halvings)]
  return [*names, *ups, 'output_conv']


def _uniform(shape: tuple[int, ...], fan: int, rngs: nnx.Rngs) -> nnx.Param:
  """PyTorch's start of a convolution: uniform up to the root of 1 / fan."""
  bound = fan**-0.5
  return nnx.Param(
    jax.random.uniform(
      rngs.params(), shape, jnp.float32, minval=-bound, maxval=bound
    )
  )
