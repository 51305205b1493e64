"""Attention of several heads, with dropout, and of beams to what they wrote."""

# B rows, L length of what attends, M length of what is attended to, W width,
# H heads, D depth of a head, K beams of a sentence, T places of an output.

import dataclasses
import functools
import operator

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

GLOROT = nnx.initializers.glorot_uniform()
_MASKED = -1e9  # in place of what a mask hides, as good as minus infinity


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings that change how the model is computed, not its parameters.

  Computes in `dtype` from parameters in float32; softmax, normalisation and
  logits are float32. `remat` computes a layer again in the backward pass
  instead of keeping what is inside it. `unroll` is the layers in one turn of
  the scan. `attention` is the implementation that `jax.nn` is asked for, where
  no weights of attention are dropped: 'xla', 'cudnn', or None for its choice.
  """

  dtype: jnp.dtype = jnp.float32
  dropout: float = 0.1
  remat: bool = False
  unroll: int = 1
  attention: str | None = None

  def __post_init__(self):
    if not 0 <= self.dropout < 1:
      raise ValueError(f'Expected a dropout in [0, 1), got {self.dropout}.')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """Keys and values of the tokens decoded so far, of every layer.

  They are written once and never moved: `paths` says which of the K entries of
  a position is a beam's own, and -1 where none is yet. So a beam changes its
  past by changing a row of `paths`, and K beams read their sentence's entries
  in one product.
  """

  # The K entries of a place lie together. They are not a dimension of their
  # own: XLA would copy all in every step to take them as one. Keys have their
  # entries last, as the product with a query wants them.
  keys: tuple[jax.Array, ...]  # [B, H, D, T * K]
  values: tuple[jax.Array, ...]  # [B, H, T * K, D]
  paths: jax.Array  # int32 [B, K, T]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packing:
  """The sample that a token belongs to in its row, and its place there."""

  segments: jax.Array  # int32 [B, L], from 1; 0 on padding
  positions: jax.Array  # int32 [B, L], from 0


def same_segment(segments: jax.Array, others: jax.Array) -> jax.Array:
  """Mask bool [B, 1, L, M] for tokens of segments [B, L] and others [B, M].

  Padding is a segment too, so that no row of the mask is empty.
  """
  return (segments[:, :, None] == others[:, None, :])[:, None]


class Attention(nnx.Module):
  """Several heads of scaled dot products, by default without biases."""

  def __init__(
    self,
    width: int,
    heads: int,
    *,
    compute: Compute,
    kernel_init: nnx.Initializer = GLOROT,
    use_bias: bool = False,
    rngs: nnx.Rngs,
  ):
    split = (heads, width // heads)
    dense = functools.partial(
      nnx.LinearGeneral,
      use_bias=use_bias,
      kernel_init=kernel_init,
      dtype=compute.dtype,
      rngs=rngs,
    )
    self.query = dense(width, split)
    self.key = dense(width, split)
    self.value = dense(width, split)
    self.output = dense(split, width, axis=(-2, -1))
    self._compute = compute

  def __call__(self, x, memory, mask, *, causal=False, drop_key=None):
    """x [B, L, W], memory [B, M, W], mask bool [B, 1, L or 1, M] -> x's."""
    heads = _attend(
      self.query(x), self.key(memory), self.value(memory), mask,
      causal=causal, compute=self._compute, drop_key=drop_key,
    )  # fmt: skip
    return self.output(heads)

  def remember(self, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
    """memory [B, M, W] -> keys [B, H, D, M] and values [B, H, M, D] of it."""
    keys, values = self.key(memory), self.value(memory)
    return jnp.moveaxis(keys, 1, 3), values.swapaxes(1, 2)

  def recall(self, x: jax.Array, keys, values, mask) -> jax.Array:
    """Beams x [B, K, W] attend to what `remember` made of M entries -> x's.

    The layout is such that both products are taken as they lie in memory, which
    `jax.nn.dot_product_attention`, with heads after positions, has to transpose
    in every step. The mask is bool [B, 1, K or 1, M].
    """
    query = self.query(x).swapaxes(1, 2)
    logits = jnp.einsum(
      'BHKD,BHDM->BHKM', query, keys, preferred_element_type=jnp.float32
    )
    weights = _softmax(logits * keys.shape[2] ** -0.5, mask)
    heads = jnp.einsum('BHKM,BHMD->BHKD', weights.astype(x.dtype), values)
    # Else what follows chooses a layout that the product is slow in on CPUs.
    heads = jax.lax.optimization_barrier(heads)
    return self.output(heads.swapaxes(1, 2))


def extended(paths: jax.Array, position: jax.Array) -> jax.Array:
  """At `position` every beam has an entry of its own: [B, K, T]."""
  rows, beams, _ = paths.shape
  own = jnp.arange(beams, dtype=paths.dtype)[None, :, None]
  own = jnp.broadcast_to(own, (rows, beams, 1))
  return jax.lax.dynamic_update_slice_in_dim(paths, own, position, axis=2)


def on_path(paths: jax.Array) -> jax.Array:
  """[B, K, T] -> which of the T * K entries are a beam's own: [B, 1, K, T * K].

  Entries that are not written yet are on no path.
  """
  rows, beams, length = paths.shape
  entries = jnp.arange(beams, dtype=paths.dtype)[None, None, None]
  own = paths[..., None] == entries
  return own.reshape(rows, 1, beams, length * beams)


def reorder(cache: Cache, parents: jax.Array) -> Cache:
  """Beam k continues from beam `parents[b, k]`; no key or value is moved."""
  paths = jnp.take_along_axis(cache.paths, parents[..., None], axis=1)
  return dataclasses.replace(cache, paths=paths)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowKey:
  """A key for arrays whose rows are split over an axis of a mesh.

  Every device draws for its own rows. Of the generator that is quickest on
  accelerators, XLA would have each of them draw for the rows of all.
  """

  key: jax.Array
  mesh: jax.sharding.Mesh = dataclasses.field(metadata={'static': True})
  axis: str = dataclasses.field(metadata={'static': True})

  def bernoulli(self, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """True with probability `rate`: bool of a shape whose rows are split."""
    ways = self.mesh.shape[self.axis]
    if ways == 1:
      return jax.random.bernoulli(self.key, rate, shape)

    def own(key):
      key = jax.random.fold_in(key, jax.lax.axis_index(self.axis))
      return jax.random.bernoulli(key, rate, (shape[0] // ways, *shape[1:]))

    return jax.shard_map(
      own,
      mesh=self.mesh,
      in_specs=P(),
      out_specs=P(self.axis),
      axis_names={self.axis},
      check_vma=False,
    )(self.key)


Key = jax.Array | RowKey | None  # of what drops numbers; None: nothing does


def drop(x: jax.Array, rate: float, key: Key) -> jax.Array:
  """Zeros a share of `rate` of [B, ...], and scales the rest up."""
  if key is None:
    return x
  if isinstance(key, RowKey):
    keep = key.bernoulli(1 - rate, x.shape)
  else:
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0)


def split(key: Key, count: int) -> Key:
  """Keys [count], to scan over; without a key, none."""
  return jax.tree.map(lambda key: jax.random.split(key, count), key)


def fork(key: Key, count: int) -> list[Key]:
  """As many keys as there are places that drop; without a key, none."""
  keys = split(key, count)
  return [jax.tree.map(operator.itemgetter(i), keys) for i in range(count)]


def _attend(query, key, value, mask, *, causal, compute, drop_key) -> jax.Array:
  """[B, L, H, D] to [B, M, H, D] -> [B, L, H, D].

  `jax.nn.dot_product_attention` cannot drop weights (jax 0.10), which the
  reference does in training; without dropout it is what computes.
  """
  if drop_key is None:
    return jax.nn.dot_product_attention(
      query, key, value, mask=mask,
      is_causal=causal, implementation=compute.attention,
    )  # fmt: skip
  logits = jnp.einsum(
    'BLHD,BMHD->BHLM', query, key, preferred_element_type=jnp.float32
  )
  if causal:
    shape = logits.shape[-2:]
    earlier = jnp.tril(jnp.ones(shape, bool))[None, None]
    mask = earlier if mask is None else mask & earlier
  weights = _softmax(logits * query.shape[-1] ** -0.5, mask)
  weights = drop(weights.astype(query.dtype), compute.dropout, drop_key)
  return jnp.einsum('BHLM,BMHD->BLHD', weights, value)


def _softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
  return jax.nn.softmax(jnp.where(mask, logits, _MASKED), axis=-1)
