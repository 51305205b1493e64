"""Layers that several models share."""

from flax import nnx
import jax
import jax.numpy as jnp


def conv(
  channels: int,
  out: int,
  *,
  kernel: int,
  stride: int = 1,
  around: int | None = None,
  kernel_init: nnx.Initializer,
  bias_init: nnx.Initializer | None = None,
  dtype: jnp.dtype,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """A square convolution with `around` zeros on every side of an image.

  By default that is half the kernel's width. There is no bias without a
  `bias_init`. References differ for an even image and a stride of 2: resnet-tf1
  (fixed_padding) and torchvision pad as here; resnet-tf2 pads its 3x3 after the
  image only. Most published weights fit the former.
  """
  around = kernel // 2 if around is None else around
  bias = {} if bias_init is None else {'bias_init': bias_init}
  return nnx.Conv(
    channels,
    out,
    (kernel, kernel),
    stride,
    padding=((around, around),) * 2,
    use_bias=bool(bias),
    kernel_init=kernel_init,
    dtype=dtype,
    rngs=rngs,
    **bias,
  )


class GroupedBatchNorm(nnx.Module):
  """Batch norm whose training moments span a group of rows, not the batch.

  A group is `span` consecutive rows; `span=None` is one group of all rows.
  Groups stand in for the devices of a per-device batch norm, so a result does
  not depend on how many devices computed it. If the batch is sharded and every
  group lies on one device, normalising needs no communication; only the
  running moments, which nothing in the step waits for, are averaged across
  devices.

  Moments are float32 whatever the dtype of the input, and the output has the
  dtype of the input. No row may be padding in training.
  """

  def __init__(
    self,
    channels: int,
    *,
    span: int | None,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    scale_init: nnx.Initializer = nnx.initializers.ones,
    rngs: nnx.Rngs,
  ):
    if span is not None and span < 1:
      raise ValueError(f'Expected a span of at least one row or None: {span}.')
    self.span = span
    self.epsilon = epsilon
    self.momentum = momentum
    self.scale = nnx.Param(scale_init(rngs.params(), (channels,), jnp.float32))
    self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
    self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
    self.var = nnx.BatchStat(jnp.ones(channels, jnp.float32))

  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Normalises [N, H, W, C]; in training, also moves the running moments."""
    if not train:
      return self._normalise(x, self.mean[...], self.var[...])
    grouped = self._group(x)
    mean, var = _moments(grouped, near=self.mean[...])
    self._track(mean, var, count=grouped[0, ..., 0].size)
    return self._normalise(grouped, mean, var).reshape(x.shape)

  def _group(self, x: jax.Array) -> jax.Array:
    """[N, H, W, C] -> [G, N / G, H, W, C]; groups are sharded as rows were."""
    rows = x.shape[0]
    span = rows if self.span is None else self.span
    if rows % span:
      raise ValueError(
        f'Expected a batch of whole groups: {rows} rows do not divide into '
        f'batch norm groups of {span}.'
      )
    return x.reshape(rows // span, span, *x.shape[1:])

  def _normalise(self, x: jax.Array, mean: jax.Array, var: jax.Array):
    """Applies moments [..., C] to [..., N, H, W, C], in float32."""
    mean, var = (jnp.expand_dims(m, (-4, -3, -2)) for m in (mean, var))
    scale, bias = (
      jnp.expand_dims(p[...], range(x.ndim - 1))
      for p in (self.scale, self.bias)
    )
    factor = jax.lax.rsqrt(var + self.epsilon) * scale
    return ((x.astype(jnp.float32) - mean) * factor + bias).astype(x.dtype)

  def _track(self, mean: jax.Array, var: jax.Array, *, count: int):
    """Moves the running moments towards those of the groups, [G, C] each.

    The variance that is tracked is the unbiased one, as TensorFlow does
    (tensorflow/core/kernels/fused_batch_norm_op.cc: rest_size_adjust) and
    PyTorch (torch/nn/modules/batchnorm.py, BatchNorm2d); the one that
    normalises is not. `count` values of a channel make a group.
    """
    unbiased = var * (count / max(count - 1, 1))
    # One array, so that sharded groups are averaged in one all-reduce.
    new = jax.lax.stop_gradient(jnp.stack([mean, unbiased])).mean(axis=1)
    keep = self.momentum
    self.mean[...] = keep * self.mean[...] + (1 - keep) * new[0]
    self.var[...] = keep * self.var[...] + (1 - keep) * new[1]


def _moments(grouped: jax.Array, *, near: jax.Array):
  """Mean and biased variance [G, C] of each group of [G, N, H, W, C].

  Both come of one pass over the input, and of one all-reduce where a group
  crosses devices. Measuring from `near` [C], a guess of the mean, keeps the
  difference of squares from cancelling; else the result does not depend on it.
  """
  near = jax.lax.stop_gradient(near)[None]
  offset = grouped.astype(jnp.float32) - near[:, None, None, None]
  mean = offset.mean(axis=(1, 2, 3))
  square = jnp.square(offset).mean(axis=(1, 2, 3))
  return mean + near, jnp.maximum(square - jnp.square(mean), 0.0)
