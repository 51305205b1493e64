"""SSD: finds objects in one pass, on the first three stages of a ResNet.

The variant is that of mlcommons/training, retired_benchmarks/ssd-v1/ssd: a
ResNet-34 without its last stage, whose third stage keeps the size of its input.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import boxes as boxes_lib
from models.parts import layers, matching

# Data parallel: every device holds all parameters.
PARTITION_RULES = ((r'.*', P()),)

# Constants of torchvision's ResNet; the momentum is that of the old moments.
_BN_EPSILON, _BN_MOMENTUM = 1e-5, 0.9
_conv = functools.partial(
  layers.conv,
  kernel_init=nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
)


@dataclasses.dataclass(frozen=True)
class Size:
  """Shape of the net; the first map is that of the backbone.

  Of the backbone's stages: blocks, channels, stride. Of each further map, which
  two convolutions lead to: channels between them, its channels, its stride; one
  of stride 1 is two cells smaller than the one before. Of all maps: boxes of a
  cell.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  strides: tuple[int, ...]
  between: tuple[int, ...]
  channels: tuple[int, ...]
  map_strides: tuple[int, ...]
  shapes: tuple[int, ...]
  classes: int  # with the background, the first


SSD300 = Size(
  blocks=(3, 4, 6),
  widths=(64, 128, 256),
  strides=(1, 2, 1),
  between=(256, 256, 128, 128, 128),
  channels=(512, 512, 256, 256, 256),
  map_strides=(2, 2, 2, 1, 1),
  shapes=(4, 6, 6, 6, 4, 4),
  classes=81,
)


@dataclasses.dataclass(frozen=True)
class Coding:
  """Numbers that boxes are coded, matched and learned with."""

  scale: tuple[float, float]  # of centres and of sizes, see `boxes.encode`
  threshold: float  # a match overlaps more
  negatives: int  # for each match


@dataclasses.dataclass(frozen=True)
class Choice:
  """Numbers that detections are chosen with."""

  scale: tuple[float, float]  # see `Coding`
  score: float  # a detection has more
  overlap: float  # with a better one of its class it has less
  of_class: int  # detections of a class that are looked at
  of_image: int  # detections of an image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detections:
  """The best detections of each image, padded with the score 0."""

  boxes: jax.Array  # [N, D, 4], corners in images
  scores: jax.Array  # [N, D]
  labels: jax.Array  # int32 [N, D]


class BasicBlock(nnx.Module):
  """Two 3x3 convolutions, the first with the stride, and a shortcut."""

  def __init__(self, channels, width, stride, *, bn_span, dtype, rngs):
    conv = functools.partial(_conv, dtype=dtype, rngs=rngs)
    self.conv1 = conv(channels, width, kernel=3, stride=stride)
    self.bn1 = _norm(width, bn_span, rngs)
    self.conv2 = conv(width, width, kernel=3)
    self.bn2 = _norm(width, bn_span, rngs)
    reshapes = stride != 1 or channels != width
    self.project = (
      conv(channels, width, kernel=1, stride=stride) if reshapes else None
    )
    self.project_bn = _norm(width, bn_span, rngs) if reshapes else None

  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[N, H, W, channels] -> [N, H / stride, W / stride, width]."""
    y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
    y = self.bn2(self.conv2(y), train=train)
    if self.project is not None:
      x = self.project_bn(self.project(x), train=train)
    return jax.nn.relu(x + y)


class Backbone(nnx.Module):
  """Stem and stages of basic blocks, as in torchvision's ResNet."""

  def __init__(self, size: Size, *, bn_span, dtype, rngs):
    shared = {'bn_span': bn_span, 'dtype': dtype, 'rngs': rngs}
    channels = size.widths[0]
    self.conv1 = _conv(3, channels, kernel=7, stride=2, dtype=dtype, rngs=rngs)
    self.bn1 = _norm(channels, bn_span, rngs)
    stages = []
    for blocks, width, stride in zip(
      size.blocks, size.widths, size.strides, strict=True
    ):
      first = BasicBlock(channels, width, stride, **shared)
      rest = [BasicBlock(width, width, 1, **shared) for _ in range(blocks - 1)]
      stages.append(nnx.List([first, *rest]))
      channels = width
    self.stages = nnx.List(stages)

  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """[N, S, S, 3] -> [N, M, M, widths[-1]]."""
    x = jax.nn.relu(self.bn1(self.conv1(images), train=train))
    around = ((1, 1), (1, 1))
    x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=around)
    for stage in self.stages:
      for block in stage:
        x = block(x, train=train)
    return x


class Extra(nnx.Module):
  """A 1x1 and a 3x3 convolution that lead to the next, smaller map."""

  def __init__(self, channels, between, out, stride, *, dtype, rngs):
    conv = functools.partial(_head, dtype=dtype, rngs=rngs)
    self.conv1 = conv(channels, between, kernel=1)
    around = 1 if stride > 1 else 0
    self.conv2 = conv(between, out, kernel=3, stride=stride, around=around)

  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, H, W, channels] -> [N, H', W', out]."""
    return jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x))))


class SSD(nnx.Module):
  """Backbone, further maps, and two convolutions on each map.

  Computes in `dtype` from float32 parameters; batch norm moments and what the
  net returns are float32. `bn_span` rows share batch norm moments in training;
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
    self.backbone = Backbone(size, bn_span=bn_span, dtype=dtype, rngs=rngs)
    channels = [size.widths[-1], *size.channels]
    self.extras = nnx.List([
      Extra(*each, dtype=dtype, rngs=rngs)
      for each in zip(
        channels[:-1],
        size.between,
        size.channels,
        size.map_strides,
        strict=True,
      )
    ])  # fmt: skip
    head = functools.partial(_head, kernel=3, dtype=dtype, rngs=rngs)
    self.places, self.classes = (
      nnx.List([
        head(width, count * each)
        for width, count in zip(channels, size.shapes, strict=True)
      ])
      for each in (4, size.classes)
    )  # fmt: skip
    self.parts = 4, size.classes

  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Images [N, S, S, 3] -> codes [N, A, 4] and logits [N, A, classes].

    Anchors are in the order of `anchors.default_boxes`.
    """
    maps = [self.backbone(images, train=train)]
    for extra in self.extras:
      maps.append(extra(maps[-1]))
    heads = (self.places, self.classes)
    codes, logits = (
      jnp.concatenate(
        [by_anchor(h(x), part) for h, x in zip(head, maps, strict=True)],
        axis=1,
      )
      for head, part in zip(heads, self.parts, strict=True)
    )
    return codes.astype(jnp.float32), logits.astype(jnp.float32)


def cells(size: Size, image: int) -> list[int]:
  """Cells of a side of each map; ValueError where the image is too small."""
  side = image
  for stride in (2, 2, *size.strides):  # the stem has two
    side = -(-side // stride)
  found = [side]
  for stride in size.map_strides:
    found.append(-(-found[-1] // stride) if stride > 1 else found[-1] - 2)
  if min(found) < 1:
    raise ValueError(
      f'Expected an image whose maps all have cells, got {image} pixels a side '
      f'for maps of {found} cells a side.'
    )
  return found


def by_anchor(x: jax.Array, part: int) -> jax.Array:
  """A head's map [N, H, W, part * K] -> by anchor, [N, K * H * W, part].

  Channel c K + k is number c of shape k.
  """
  rows, height, width, channels = x.shape
  x = x.reshape(rows, height, width, part, channels // part)
  return jnp.transpose(x, (0, 4, 1, 2, 3)).reshape(rows, -1, part)


def row_losses(
  codes: jax.Array,
  logits: jax.Array,
  boxes: jax.Array,
  labels: jax.Array,
  *,
  anchors: jax.Array,
  how: Coding,
) -> jax.Array:
  """The loss of each image [N], over its matches; 0 without objects.

  Smooth L1 of the codes of matches, and cross entropy of matches and of the
  negatives that are hardest.

  Args:
    codes: [N, A, 4].
    logits: [N, A, classes].
    boxes: of objects, corners in images [N, M, 4].
    labels: of objects, int32 [N, M]; 0 is padding.
    anchors: centre and size in images [A, 4].
    how: numbers.
  """
  edges = boxes_lib.corners(anchors)

  def each(codes, logits, boxes, labels):
    overlaps = boxes_lib.iou(boxes, edges)
    found = matching.forced(overlaps, labels > 0, threshold=how.threshold)
    positive = found.positive
    target = jnp.where(positive, labels[found.index], 0)
    wanted = boxes_lib.encode(
      boxes_lib.centred(boxes)[found.index], anchors, how.scale
    )
    of_places = boxes_lib.smooth_l1(codes - wanted).sum(axis=-1)
    log_shares = jax.nn.log_softmax(logits)
    of_classes = -jnp.take_along_axis(log_shares, target[:, None], axis=1)[:, 0]
    count = positive.sum()
    hardest = hard_negatives(of_classes, positive, how.negatives * count)
    kept = positive.astype(jnp.float32) + hardest.astype(jnp.float32)
    total = jnp.sum(jnp.where(positive, of_places, 0.0) + kept * of_classes)
    return total / jnp.maximum(count, 1)

  return jax.vmap(each)(codes, logits, boxes, labels)


def hard_negatives(
  losses: jax.Array, positive: jax.Array, count: jax.Array
) -> jax.Array:
  """The `count` anchors with the largest losses -> bool [A].

  Matches count as 0, as in the reference: with very many of them they are
  chosen too. Of equal ones the first are chosen.
  """
  losses = jax.lax.stop_gradient(jnp.where(positive, 0.0, losses))
  count = jnp.minimum(count, len(losses))
  least = jnp.sort(losses)[jnp.maximum(len(losses) - count, 0)]
  above = losses > least
  equal = losses == least
  room = count - above.sum()
  return (above | (equal & (jnp.cumsum(equal) <= room))) & (count > 0)


def detect(
  codes: jax.Array, logits: jax.Array, *, anchors: jax.Array, how: Choice
) -> Detections:
  """The best detections of each image, of all classes but the background.

  Args:
    codes: [N, A, 4].
    logits: [N, A, classes].
    anchors: centre and size in images [A, 4].
    how: numbers.
  """
  of_class = min(how.of_class, len(anchors))

  def of_one(scores, boxes):
    """Scores [A] of a class -> the best scores [K], 0 where suppressed."""
    best, places = jax.lax.top_k(scores, of_class)
    boxes = boxes[places]
    kept = boxes_lib.nms(
      boxes, best > how.score, threshold=how.overlap, inclusive=True
    )
    return jnp.where(kept, best, 0.0), boxes

  def each(codes, logits):
    decoded = boxes_lib.decode(codes, anchors, how.scale)
    boxes = boxes_lib.corners(decoded)
    shares = jax.nn.softmax(logits)[:, 1:].T
    scores, boxes = jax.vmap(of_one, (0, None))(shares, boxes)
    most = min(how.of_image, scores.size)
    best, places = jax.lax.top_k(scores.reshape(-1), most)
    labels = (places // of_class + 1).astype(jnp.int32)
    return Detections(boxes.reshape(-1, 4)[places], best, labels)

  return jax.vmap(each)(codes, logits)


def tensor_names(size: Size) -> list[str]:
  """The names that the rules give to the tensors that are initialised."""
  return [f'ssd0_{name}' for name in _names(size)]


def _names(size: Size) -> Iterator[str]:
  net = 'resnetmlperf0_'
  yield f'{net}conv0_weight'
  yield from (f'{net}batchnorm0_{each}' for each in ('gamma', 'beta'))
  channels = size.widths[0]
  for stage, (blocks, width, stride) in enumerate(
    zip(size.blocks, size.widths, size.strides, strict=True), start=1
  ):
    projects = stride != 1 or channels != width
    for number in range(2 * blocks + projects):
      yield f'{net}stage{stage}_conv{number}_weight'
      for each in ('gamma', 'beta'):
        yield f'{net}stage{stage}_batchnorm{number}_{each}'
    channels = width
  for kind in ('weight', 'bias'):
    for number in range(len(size.channels)):
      yield f'expand_trans_conv{number}_{kind}'
      yield f'expand_conv{number}_{kind}'
    for number in range(len(size.shapes)):
      yield f'convpredictor{number}_conv0_{kind}'


def _head(
  channels: int,
  out: int,
  *,
  kernel: int,
  dtype: jnp.dtype,
  rngs: nnx.Rngs,
  **how,
) -> nnx.Conv:
  """A convolution with a bias, which begins as PyTorch's does.

  The kernel begins as `_init_weights` of the reference's ssd300.py has it.
  """
  bound = 1 / math.sqrt(kernel * kernel * channels)

  def bias_init(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return layers.conv(
    channels,
    out,
    kernel=kernel,
    kernel_init=nnx.initializers.xavier_uniform(),
    bias_init=bias_init,
    dtype=dtype,
    rngs=rngs,
    **how,
  )


def _norm(channels: int, bn_span: int | None, rngs: nnx.Rngs):
  return layers.GroupedBatchNorm(
    channels,
    span=bn_span,
    momentum=_BN_MOMENTUM,
    epsilon=_BN_EPSILON,
    rngs=rngs,
  )
