"""DLRM and DLRM-DCNv2: the chance that somebody clicks on an advertisement.

Both turn counts into a vector by a bottom perceptron, look up a vector for each
category (`models.parts.tables`), let all of these meet, and score the result by
a top perceptron. In DLRM (Naumov et al., 2019) each pair of vectors meets in a
dot product; in DLRM-DCNv2 all of them do in a low-rank cross network (Wang et
al., 2020). The variants are those of facebookresearch/dlrm, dlrm_s_pytorch.py,
and of mlcommons/training, recommendation_v2/torchrec_dlrm.

Parameters are {'store': the large tables, 'whole': the small ones and the
layers}: the former are updated in the rows that a batch names.
"""

from collections.abc import Sequence
import dataclasses
import itertools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts.exchange import AXIS
from models.parts.tables import Tables

# The store and its optimizer buffers are split by rows, the rest is replicated.
PARTITION_RULES = ((r'^(params/store|opt/store/sums)$', P(AXIS)), (r'.*', P()))


@dataclasses.dataclass(frozen=True)
class Size:
  """Tables and layers.

  Attributes:
    tables: the categories and the width of their vectors.
    counts: inputs of the bottom perceptron.
    bottom: widths of its layers; the last is that of the tables.
    top: widths of the layers of the top perceptron, which ends in 1.
    cross_layers: layers of the cross network; 0: dot products.
    cross_rank: of their matrices.
  """

  tables: Tables
  counts: int
  bottom: tuple[int, ...]
  top: tuple[int, ...]
  cross_layers: int = 0
  cross_rank: int = 1

  def __post_init__(self):
    if self.bottom[-1:] != (self.tables.width,):
      raise ValueError(
        'Expected a bottom perceptron that ends in the width of the tables, '
        f'{self.tables.width}, got {self.bottom}.'
      )
    if self.top[-1:] != (1,):
      raise ValueError(
        f'Expected a top perceptron that ends in 1, got {self.top}.'
      )

  @property
  def vectors(self) -> int:
    """Vectors that meet: one of the counts, one of each table."""
    return 1 + len(self.tables.sizes)


class Interaction(nnx.Module):
  """The layers of either model; the small tables are among its parameters.

  Computes in `dtype` from float32 parameters; the last layer in float32.
  """

  def __init__(
    self,
    size: Size,
    *,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self._tables = size.tables
    self._dtype = dtype
    # Drawn with the store, by `init`.
    self.small = nnx.Param(jnp.zeros((size.tables.small, size.tables.width)))
    width = size.tables.width
    if size.cross_layers:
      linear, met = _uniform_linear, size.vectors * width
      self.cross = Cross(
        met, size.cross_layers, size.cross_rank, dtype=dtype, rngs=rngs
      )
    else:
      linear, met = _normal_linear, width + _pairs(size.vectors)
      self.cross = None
    self.bottom = _perceptron((size.counts, *size.bottom), linear, dtype, rngs)
    self.top = _perceptron((met, *size.top[:-1]), linear, dtype, rngs)
    # Scores of 8 bits would be equal too often for the area under their curve.
    last = (met, *size.top)[-2:]
    self.top.append(linear(*last, jnp.float32, rngs))

  def __call__(
    self, counts: jax.Array, ids: jax.Array, large: jax.Array
  ) -> jax.Array:
    """Logits [B] of counts [B, counts], ids [B, lookups] and vectors.

    `large` [B, large tables, width] is what `Tables.lookup` gave for the ids.
    """
    bottom = counts.astype(self._dtype)
    for layer in self.bottom:
      bottom = jax.nn.relu(layer(bottom))
    small = self._tables.lookup_small(self.small[...], ids)
    vectors = self._tables.merged(large, small).astype(self._dtype)
    vectors = jnp.concatenate([bottom[:, None], vectors], axis=1)
    if self.cross is None:
      hidden = jnp.concatenate([bottom, dots(vectors)], axis=1)
    else:
      hidden = self.cross(vectors.reshape(len(vectors), -1))
    *layers, last = self.top
    for layer in layers:
      hidden = jax.nn.relu(layer(hidden))
    return last(hidden)[:, 0]


class Cross(nnx.Module):
  """A cross network: x <- x0 (W (V x) + b) + x, in each of its layers."""

  def __init__(
    self,
    width: int,
    layers: int,
    rank: int,
    *,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    def linear(into, out, use_bias):
      return nnx.Linear(
        into,
        out,
        use_bias=use_bias,
        kernel_init=_xavier(into, out),
        dtype=dtype,
        rngs=rngs,
      )

    self.down = nnx.List([linear(width, rank, False) for _ in range(layers)])
    self.up = nnx.List([linear(rank, width, True) for _ in range(layers)])

  def __call__(self, first: jax.Array) -> jax.Array:
    """[B, width] -> [B, width]."""
    x = first
    for down, up in zip(self.down, self.up, strict=True):
      x = first * up(down(x)) + x
    return x


def dots(vectors: jax.Array) -> jax.Array:
  """Dot products of all pairs of vectors [B, N, D] -> [B, N (N - 1) / 2].

  In order of the second, each with those before it.
  """
  products = jnp.einsum('bid,bjd->bij', vectors, vectors)
  return jnp.concatenate(
    [products[:, i, :i] for i in range(1, vectors.shape[1])], axis=1
  )


def _pairs(count: int) -> int:
  return count * (count - 1) // 2


def _perceptron(widths: Sequence[int], linear, dtype, rngs) -> nnx.List:
  return nnx.List(
    [linear(into, out, dtype, rngs) for into, out in itertools.pairwise(widths)]
  )


def _normal_linear(into: int, out: int, dtype, rngs) -> nnx.Linear:
  """A layer of DLRM: kernel N(0, 2 / (in + out)), bias N(0, 1 / out)."""
  return nnx.Linear(
    into,
    out,
    kernel_init=_xavier(into, out),
    bias_init=nnx.initializers.normal(out**-0.5),
    dtype=dtype,
    rngs=rngs,
  )


def _xavier(into: int, out: int) -> nnx.Initializer:
  """N(0, 2 / (in + out)); `glorot_normal` would end at two deviations."""
  return nnx.initializers.normal((2 / (into + out)) ** 0.5)


def _uniform_linear(into: int, out: int, dtype, rngs) -> nnx.Linear:
  """A layer of PyTorch: kernel and bias uniform up to in^-0.5."""

  def init(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -(into**-0.5), into**-0.5)

  return nnx.Linear(
    into, out, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs
  )
