"""ResNet-50 v1.5 for image classification, and its smaller siblings.

The variant is that of mlcommons/training, retired_benchmarks/resnet-tf2 and
resnet-tf1: the stride of a bottleneck sits in its 3x3 convolution, every batch
norm scale starts at one, and a shortcut that changes shape is a projection.
"""

import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import layers

# Data parallel: every device holds all parameters.
PARTITION_RULES = ((r'.*', P()),)

# Two masks on parameter paths, as in the reference. Its LARS skips batch norm
# and every bias (resnet-tf2 common.py: skip_list); its L2 term for SGD skips
# batch norm only, so the bias of the classifier is decayed (resnet_runnable.py:
# l2_loss).
NO_DECAY = r'(bn\d?/scale|/bias)$'
BATCH_NORM = r'bn\d?/(scale|bias)$'

# From resnet-tf2 resnet_model.py: 'he_normal', truncated at two deviations and
# of variance 2 / fan_in after that; RandomNormal(stddev=0.01).
_conv = functools.partial(layers.conv, kernel_init=nnx.initializers.he_normal())
_DENSE_INIT = nnx.initializers.normal(0.01)


@dataclasses.dataclass(frozen=True)
class Size:
  """Bottlenecks of each stage, channels of the stem, classes.

  Stage `s`, from 0, has `width * 2**s` channels inside its bottlenecks and four
  times as many at its output.
  """

  blocks: tuple[int, ...]
  width: int
  classes: int


RESNET50 = Size((3, 4, 6, 3), 64, 1000)


class Bottleneck(nnx.Module):
  """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut."""

  def __init__(
    self,
    channels: int,
    width: int,
    stride: int,
    *,
    project: bool,
    bn_span: int | None,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    conv = functools.partial(_conv, dtype=dtype, rngs=rngs)
    norm = functools.partial(_norm, bn_span=bn_span, rngs=rngs)
    out = 4 * width
    self.conv1 = conv(channels, width, kernel=1)
    self.bn1 = norm(width)
    self.conv2 = conv(width, width, kernel=3, stride=stride)
    self.bn2 = norm(width)
    self.conv3 = conv(width, out, kernel=1)
    self.bn3 = norm(out)
    self.project = (
      conv(channels, out, kernel=1, stride=stride) if project else None
    )
    self.project_bn = norm(out) if project else None

  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, channels] -> [N, H / stride, W / stride, 4 * width]."""
    y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
    y = jax.nn.relu(self.bn2(self.conv2(y), train=train))
    y = self.bn3(self.conv3(y), train=train)
    if self.project is not None:
      x = self.project_bn(self.project(x), train=train)
    return jax.nn.relu(x + y)


class ResNet(nnx.Module):
  """Stem, stages of bottlenecks, mean over positions, classifier.

  Computes in `dtype` from float32 parameters; batch norm moments and the
  classifier stay float32. `bn_span` rows share batch norm moments in training;
  None: the whole batch does.
  """

  def __init__(
    self,
    size: Size,
    *,
    bn_span: int | None,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.conv1 = _conv(
      3, size.width, kernel=7, stride=2, dtype=dtype, rngs=rngs
    )
    self.bn1 = _norm(size.width, bn_span=bn_span, rngs=rngs)
    self.stages = nnx.List(
      _stages(size, bn_span=bn_span, dtype=dtype, rngs=rngs)
    )
    self.dense = nnx.Linear(
      size.width * 2 ** (len(size.blocks) + 1),
      size.classes,
      kernel_init=_DENSE_INIT,
      rngs=rngs,
    )

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Images [N, H, W, 3] -> logits [N, classes], float32."""
    x = jax.nn.relu(self.bn1(self.conv1(images), train=train))
    x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    for stage in self.stages:
      for block in stage:
        x = block(x, train=train)
    return self.dense(x.astype(jnp.float32).mean(axis=(1, 2)))


def _stages(size: Size, **shared) -> list[nnx.List]:
  """Stages of bottlenecks; all but the first halve the image at their start."""
  stages, channels = [], size.width
  for index, blocks in enumerate(size.blocks):
    width = size.width * 2**index
    stride = 1 if index == 0 else 2
    first = Bottleneck(channels, width, stride, project=True, **shared)
    channels = 4 * width
    rest = [
      Bottleneck(channels, width, 1, project=False, **shared)
      for _ in range(blocks - 1)
    ]
    stages.append(nnx.List([first, *rest]))
  return stages


def _norm(
  channels: int, *, bn_span: int | None, rngs: nnx.Rngs
) -> layers.GroupedBatchNorm:
  # BATCH_NORM_DECAY and BATCH_NORM_EPSILON of resnet-tf2 resnet_model.py; the
  # decay is the weight of the old moments.
  return layers.GroupedBatchNorm(
    channels, span=bn_span, momentum=0.9, epsilon=1e-5, rngs=rngs
  )
