"""Layers of Mask R-CNN: backbone, pyramid, and the heads of its two steps."""

from collections.abc import Sequence
import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import layers, roi_align

# Data parallel: every device holds all parameters.
PARTITION_RULES = ((r'.*', P()),)
# The stem and the first stage stay as they were before.
FROZEN = ('^params/backbone/(conv1|stages/0)/',)
FINEST = 2  # the first stage's output has a stride of 2 to the power of this

# PyTorch's kaiming_uniform_ with a=1, kaiming_normal_ with fan_out.
_UNIFORM = nnx.initializers.variance_scaling(1.0, 'fan_in', 'uniform')
_NORMAL = nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_zeros = nnx.initializers.zeros
_conv = functools.partial(layers.conv, kernel_init=_UNIFORM)


@dataclasses.dataclass(frozen=True)
class Size:
  """Shape of the net.

  Stage `s`, from 0, has `width * 2**s` channels inside its bottlenecks and four
  times as many at its output.
  """

  blocks: tuple[int, ...]  # of each stage
  width: int
  pyramid: int  # channels of each of its maps
  shapes: int  # anchors of a cell
  hidden: int  # channels of both layers of the box head
  box_side: int  # cells of a side that the box head sees
  mask_channels: tuple[int, ...]  # of each 3x3 convolution of the mask head
  mask_side: int  # cells of a side that it sees; it returns twice as many
  samples: int  # of a side of a cell of both, see `roi_align.pool`
  canonical_size: float  # pixels of a box that has the map of
  canonical_level: int  # see `roi_align.levels`
  classes: int  # with the background, the first


R50_FPN = Size(
  blocks=(3, 4, 6, 3),
  width=64,
  pyramid=256,
  shapes=3,
  hidden=1024,
  box_side=7,
  mask_channels=(256, 256, 256, 256),
  mask_side=14,
  samples=2,
  canonical_size=224,
  canonical_level=4,
  classes=81,
)


class FrozenNorm(nnx.Module):
  """Scale and bias of a batch norm whose moments are folded into them."""

  def __init__(self, channels: int):
    self.scale = nnx.BatchStat(jnp.ones(channels, jnp.float32))
    self.bias = nnx.BatchStat(jnp.zeros(channels, jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., C] -> [..., C]."""
    shape = (1,) * (x.ndim - 1) + (-1,)
    scale, bias = (
      each[...].astype(x.dtype).reshape(shape)
      for each in (self.scale, self.bias)
    )
    return x * scale + bias


class Bottleneck(nnx.Module):
  """1x1 with the stride, 3x3, 1x1 to four times the width, and a shortcut."""

  def __init__(self, channels, width, stride, *, norm, dtype, rngs):
    conv = functools.partial(_conv, dtype=dtype, rngs=rngs)
    out = 4 * width
    # The published weights have the stride here, not in the 3x3.
    self.conv1 = conv(channels, width, kernel=1, stride=stride)
    self.bn1 = norm(width)
    self.conv2 = conv(width, width, kernel=3)
    self.bn2 = norm(width)
    self.conv3 = conv(width, out, kernel=1)
    self.bn3 = norm(out)
    reshapes = channels != out
    self.project = (
      conv(channels, out, kernel=1, stride=stride) if reshapes else None
    )
    self.project_bn = norm(out) if reshapes else None

  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, H, W, channels] -> [N, H / stride, W / stride, 4 * width]."""
    y = jax.nn.relu(self.bn1(self.conv1(x)))
    y = jax.nn.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    if self.project is not None:
      x = self.project_bn(self.project(x))
    return jax.nn.relu(x + y)


class Backbone(nnx.Module):
  """Stem and stages of bottlenecks; all but the first halve their input.

  `norm(channels)` makes what follows a convolution.
  """

  def __init__(self, size: Size, *, norm=FrozenNorm, dtype, rngs):
    self.conv1 = _conv(
      3, size.width, kernel=7, stride=2, dtype=dtype, rngs=rngs
    )
    self.bn1 = norm(size.width)
    how = {'norm': norm, 'dtype': dtype, 'rngs': rngs}
    stages, channels = [], size.width
    for index, blocks in enumerate(size.blocks):
      width = size.width * 2**index
      first = Bottleneck(channels, width, 1 if index == 0 else 2, **how)
      channels = 4 * width
      rest = [Bottleneck(channels, width, 1, **how) for _ in range(blocks - 1)]
      stages.append(nnx.List([first, *rest]))
    self.stages = nnx.List(stages)

  def __call__(self, images: jax.Array) -> list[jax.Array]:
    """[N, H, W, 3] -> the output of each stage, the finest first."""
    x = jax.nn.relu(self.bn1(self.conv1(images)))
    x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    found = []
    for stage in self.stages:
      for block in stage:
        x = block(x)
      found.append(x)
    return found


class Pyramid(nnx.Module):
  """Maps of equally many channels, each knowing of the coarser ones."""

  def __init__(self, channels: Sequence[int], out: int, *, dtype, rngs):
    conv = functools.partial(_conv, bias_init=_zeros, dtype=dtype, rngs=rngs)
    self.lateral = nnx.List([conv(each, out, kernel=1) for each in channels])
    self.output = nnx.List([conv(out, out, kernel=3) for _ in channels])

  def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
    """A map for each of those given, and one of every other cell of the last.

    [N, H, W, channels] each -> [N, H, W, out] each.
    """
    above, found = None, []
    for x, lateral, output in zip(
      reversed(maps), reversed(self.lateral), reversed(self.output), strict=True
    ):
      x = lateral(x)
      if above is not None:
        x = x + jnp.repeat(jnp.repeat(above, 2, axis=1), 2, axis=2)
      above = x
      found.append(output(x))
    return [*reversed(found), found[0][:, ::2, ::2]]


class ProposalHead(nnx.Module):
  """Tells which anchors have an object, and where; of all maps alike."""

  def __init__(self, channels: int, shapes: int, *, dtype, rngs):
    conv = functools.partial(
      layers.conv,
      kernel_init=nnx.initializers.normal(0.01),
      bias_init=_zeros,
      dtype=dtype,
      rngs=rngs,
    )
    self.conv = conv(channels, channels, kernel=3)
    self.objects = conv(channels, shapes, kernel=1)
    self.codes = conv(channels, 4 * shapes, kernel=1)

  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[N, H, W, channels] -> logits [N, A] and codes [N, A, 4].

    Anchors are in the order of `anchors.pixel_anchors`.
    """
    x = jax.nn.relu(self.conv(x))
    logits, codes = (
      each(x).astype(jnp.float32) for each in (self.objects, self.codes)
    )
    return logits.reshape(len(x), -1), codes.reshape(len(x), -1, 4)


class BoxHead(nnx.Module):
  """The class of a box, and a better box for each class."""

  def __init__(self, size: Size, *, dtype, rngs):
    dense = functools.partial(nnx.Linear, dtype=dtype, rngs=rngs)
    normal = nnx.initializers.normal
    inputs = size.box_side**2 * size.pyramid
    self.fc6 = dense(inputs, size.hidden, kernel_init=_UNIFORM)
    self.fc7 = dense(size.hidden, size.hidden, kernel_init=_UNIFORM)
    self.classes = dense(size.hidden, size.classes, kernel_init=normal(0.01))
    self.codes = dense(size.hidden, 4 * size.classes, kernel_init=normal(0.001))

  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., side, side, C] -> logits [..., K] and codes [..., K, 4]."""
    x = x.reshape(*x.shape[:-3], -1)
    x = jax.nn.relu(self.fc7(jax.nn.relu(self.fc6(x))))
    logits, codes = (
      each(x).astype(jnp.float32) for each in (self.classes, self.codes)
    )
    return logits, codes.reshape(*logits.shape, 4)


class MaskHead(nnx.Module):
  """The outline of the object in a box, for each class."""

  def __init__(self, size: Size, *, dtype, rngs):
    conv = functools.partial(
      layers.conv,
      kernel_init=_NORMAL,
      bias_init=_zeros,
      dtype=dtype,
      rngs=rngs,
    )
    channels = (size.pyramid, *size.mask_channels)
    last = channels[-1]
    self.convs = nnx.List([
      conv(before, out, kernel=3)
      for before, out in zip(channels, size.mask_channels, strict=False)
    ])  # fmt: skip
    self.up = nnx.Param(_NORMAL(rngs.params(), (2, 2, last, last), jnp.float32))
    self.up_bias = nnx.Param(jnp.zeros(last, jnp.float32))
    self.masks = conv(last, size.classes, kernel=1)

  def __call__(self, x: jax.Array) -> jax.Array:
    """[R, side, side, C] -> logits [R, 2 side, 2 side, K]."""
    for each in self.convs:
      x = jax.nn.relu(each(x))
    # A transposed convolution whose kernels do not meet.
    x = jnp.einsum('rhwc,ijcd->rhiwjd', x, self.up[...].astype(x.dtype))
    bias = self.up_bias[...].astype(x.dtype).reshape(1, 1, 1, -1)
    rows, height, _, width, _, channels = x.shape
    x = x.reshape(rows, 2 * height, 2 * width, channels)
    return self.masks(jax.nn.relu(x + bias)).astype(jnp.float32)


class MaskRCNN(nnx.Module):
  """The layers, and how boxes get their features.

  Computes in `dtype` from float32 parameters; what heads return is float32.
  """

  def __init__(
    self, size: Size, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs
  ):
    how = {'dtype': dtype, 'rngs': rngs}
    self.size = size
    self.backbone = Backbone(size, **how)
    channels = [4 * size.width * 2**s for s in range(len(size.blocks))]
    self.pyramid = Pyramid(channels, size.pyramid, **how)
    self.proposals = ProposalHead(size.pyramid, size.shapes, **how)
    self.boxes = BoxHead(size, **how)
    self.masks = MaskHead(size, **how)

  def __call__(self, images: jax.Array) -> list[jax.Array]:
    """Images [N, H, W, 3] -> maps of the pyramid, the finest first."""
    return self.pyramid(self.backbone(images))

  def propose(
    self, maps: Sequence[jax.Array]
  ) -> tuple[list[jax.Array], list[jax.Array]]:
    """Logits [N, A] and codes [N, A, 4] of the anchors of each map."""
    logits, codes = zip(*map(self.proposals, maps), strict=True)
    return list(logits), list(codes)

  def box_outputs(
    self, maps: Sequence[jax.Array], boxes: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Boxes [N, R, 4] -> logits [N, R, K] and codes [N, R, K, 4]."""
    return self.boxes(self._pooled(maps, boxes, self.size.box_side))

  def mask_outputs(
    self, maps: Sequence[jax.Array], boxes: jax.Array, labels: jax.Array
  ) -> jax.Array:
    """The logits of the masks of boxes [N, R, 4] -> [N, R, S, S].

    Of each box those of its label, int32 [N, R].
    """
    pooled = self._pooled(maps, boxes, self.size.mask_side)
    rows, count = labels.shape
    found = self.masks(pooled.reshape(rows * count, *pooled.shape[2:]))
    index = labels.reshape(-1, 1, 1, 1)
    chosen = jnp.take_along_axis(found, index, axis=-1)
    return chosen.reshape(rows, count, *found.shape[1:3])

  def _pooled(self, maps, boxes, side):
    # The last map has anchors, and no boxes.
    maps = maps[:-1]
    level = roi_align.levels(
      boxes,
      count=len(maps),
      finest=FINEST,
      size=self.size.canonical_size,
      level=self.size.canonical_level,
    )
    return roi_align.pool(
      maps, boxes, level, finest=FINEST, side=side, samples=self.size.samples
    )


def tensor_names(size: Size) -> list[str]:
  """The names that the rules give to the tensors that are initialised."""
  stages = range(1, len(size.blocks) + 1)
  convs = range(1, len(size.mask_channels) + 1)
  last = len(size.mask_channels) + 1
  return [
    *(f'FPN_inner_block{n}' for n in stages),
    *(f'FPN_layer_block{n}' for n in stages),
    *(f'RPNHead_{name}' for name in ('conv', 'cls', 'bbox')),
    *(f'ROI_BOX_FEATURE_EXTRACTOR_{name}' for name in ('fc6', 'fc7')),
    *(f'ROI_BOX_PREDICTOR_{name}' for name in ('cls', 'bbox')),
    *(f'ROI_MASK_FEATURE_EXTRACTOR_fcn{n}' for n in convs),
    f'ROI_MASK_PREDICTOR_fcn{last}',
    'ROI_MASK_PREDICTOR_fcn_logits',
  ]
