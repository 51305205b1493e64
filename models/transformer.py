"""The Transformer for translation, big or small, and its loss.

The variant is that of mlcommons/training, retired_benchmarks/transformer
(tensorflow/transformer/model): normalisation before each sublayer and once
after each stack, no biases in attention, one matrix for both embeddings and the
softmax.

Rows may be packed: several sentence pairs share a row of the batch, told apart
by `Packing`. Each sentence is computed as in a row of its own.
"""

# B rows, L length of a target, M length of a source, W width, V vocabulary,
# H heads, D depth of a head, K beams of a sentence, T places of an output.

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import attention, beam_search, stack
from models.parts.attention import Packing as Packing

PAD = 0  # also the decoder's first input; its embedding is zero
END = 1

# Heads, hidden units and rows of the shared matrix are split over the model
# axis. The first dimension of a block's parameters is the layers.
PARTITION_RULES = (
  (r'embedding$', P('model', None)),
  (r'/(query|key|value)/kernel$', P(None, None, 'model', None)),
  (r'/output/kernel$', P(None, 'model', None, None)),
  (r'/up/kernel$', P(None, None, 'model')),
  (r'/up/bias$', P(None, 'model')),
  (r'/down/kernel$', P(None, 'model', None)),
  (r'.*', P()),
)

_EPSILON = 1e-6
_DEFAULT = attention.Compute()
_LONGEST_WAVE = 1e4  # of the position signal, over 2 pi


@dataclasses.dataclass(frozen=True)
class Size:
  """Tokens, layers of the encoder and as many of the decoder, and widths."""

  vocabulary: int
  layers: int
  width: int
  heads: int
  ffn: int

  def __post_init__(self):
    sizes = dataclasses.astuple(self)
    if min(sizes) < 1 or self.width % self.heads:
      raise ValueError(
        f'Expected positive sizes and heads that divide the width, got {self}.'
      )
    # Half the channels are sines; their wavelengths need two of them.
    if self.width % 2 or self.width < 4:
      raise ValueError(f'Expected an even width from 4 up, got {self.width}.')


BIG = Size(33_708, 6, 1024, 16, 4096)


class FeedForward(nnx.Module):
  """Two dense layers with a ReLU between, on each position by itself."""

  def __init__(self, size: Size, *, compute: attention.Compute, rngs: nnx.Rngs):
    dense = functools.partial(
      nnx.Linear, kernel_init=attention.GLOROT, dtype=compute.dtype, rngs=rngs
    )
    self.up = dense(size.width, size.ffn)
    self.down = dense(size.ffn, size.width)
    self._dropout = compute.dropout

  def __call__(self, x: jax.Array, *, drop_key=None) -> jax.Array:
    hidden = attention.drop(jax.nn.relu(self.up(x)), self._dropout, drop_key)
    return self.down(hidden)


class EncoderBlock(nnx.Module):
  """Self-attention, then the feed-forward layers."""

  def __init__(self, size: Size, *, compute: attention.Compute, rngs: nnx.Rngs):
    shared = {'compute': compute, 'rngs': rngs}
    self.attention_norm = _norm(size, **shared)
    self.attention = attention.Attention(size.width, size.heads, **shared)
    self.ffn_norm = _norm(size, **shared)
    self.ffn = FeedForward(size, **shared)
    self._dropout = compute.dropout

  def __call__(self, x, mask, is_token, drop_key) -> jax.Array:
    """x [B, M, W]; `is_token` bool [B, M, 1]: padding skips feed-forward."""
    keys = attention.fork(drop_key, 4)
    y = self.attention_norm(x)
    y = self.attention(y, y, mask, drop_key=keys[0])
    x = x + attention.drop(y, self._dropout, keys[1])
    y = self.ffn(self.ffn_norm(x), drop_key=keys[2])
    return x + attention.drop(jnp.where(is_token, y, 0), self._dropout, keys[3])


class DecoderBlock(nnx.Module):
  """Causal self-attention, attention to the source, then feed-forward."""

  def __init__(self, size: Size, *, compute: attention.Compute, rngs: nnx.Rngs):
    shared = {'compute': compute, 'rngs': rngs}
    self.attention_norm = _norm(size, **shared)
    self.attention = attention.Attention(size.width, size.heads, **shared)
    self.memory_norm = _norm(size, **shared)
    self.memory_attention = attention.Attention(
      size.width, size.heads, **shared
    )
    self.ffn_norm = _norm(size, **shared)
    self.ffn = FeedForward(size, **shared)
    self._dropout = compute.dropout

  def __call__(self, x, memory, own_mask, memory_mask, drop_key) -> jax.Array:
    """x [B, L, W], memory [B, M, W], after which it is as x."""
    keys = attention.fork(drop_key, 6)
    y = self.attention_norm(x)
    y = self.attention(y, y, own_mask, causal=True, drop_key=keys[0])
    x = x + attention.drop(y, self._dropout, keys[1])
    y = self.memory_norm(x)
    y = self.memory_attention(y, memory, memory_mask, drop_key=keys[2])
    x = x + attention.drop(y, self._dropout, keys[3])
    y = self.ffn(self.ffn_norm(x), drop_key=keys[4])
    return x + attention.drop(y, self._dropout, keys[5])

  def step(self, x, cached, remembered, own_mask, memory_mask, position):
    """One token of every beam, x [B, K, W] -> x's, and its keys and values.

    `cached` are keys [B, H, D, T * K] and values [B, H, T * K, D] to write to
    and to attend to, `remembered` those of the source, of M entries.
    """
    y = self.attention_norm(x)
    new = self.attention.remember(y)
    first = position * x.shape[1]
    cached = tuple(
      jax.lax.dynamic_update_slice_in_dim(old, one, first, axis=axis)
      for old, one, axis in zip(cached, new, (3, 2), strict=True)
    )
    x = x + self.attention.recall(y, *cached, own_mask)
    y = self.memory_norm(x)
    x = x + self.memory_attention.recall(y, *remembered, memory_mask)
    return x + self.ffn(self.ffn_norm(x)), cached


class Stack(stack.Stack):
  """Equal blocks one after the other, and a normalisation."""

  def __init__(self, block: type, size: Size, *, compute, rngs: nnx.Rngs):
    super().__init__(
      lambda rngs: block(size, compute=compute, rngs=rngs),
      size.layers,
      compute=compute,
      rngs=rngs,
    )
    self.norm = _norm(size, compute=compute, rngs=rngs)

  def __call__(self, x: jax.Array, *shared, drop_key) -> jax.Array:
    """x [B, L, W] through every block, each with `shared` and its own key."""
    return self.norm(super().__call__(x, *shared, drop_key=drop_key))

  def apart(self) -> list[Any]:
    """The blocks one by one, their matrices in the dtype of the computation."""

    def one(leaf, layer):
      # Vectors, of norms and biases, are small.
      is_matrix = leaf.ndim > 2
      return leaf[layer].astype(
        self._compute.dtype if is_matrix else leaf.dtype
      )

    return [
      jax.tree.map(functools.partial(one, layer=layer), self.blocks)
      for layer in range(self._layers)
    ]


class Transformer(nnx.Module):
  """Logits of a target from its source, and translations."""

  def __init__(
    self, size: Size, *, compute: attention.Compute = _DEFAULT, rngs: nnx.Rngs
  ):
    draw = nnx.initializers.normal(size.width**-0.5)
    shape = (size.vocabulary, size.width)
    self.embedding = nnx.Param(draw(rngs.params(), shape, jnp.float32))
    shared = {'compute': compute, 'rngs': rngs}
    self.encoder = Stack(EncoderBlock, size, **shared)
    self.decoder = Stack(DecoderBlock, size, **shared)
    self._size = size
    self._compute = compute

  def __call__(
    self,
    source: jax.Array,
    target: jax.Array,
    *,
    source_packing: Packing | None = None,
    target_packing: Packing | None = None,
    drop_key: attention.Key = None,
  ) -> jax.Array:
    """Tokens int32 [B, M] and [B, L] -> logits of each target, [B, L, V].

    Logits, float32, at a place predict the token there from those before it;
    the target is shifted in here. Both sides are packed, or neither. Dropout is
    applied if there is a key.
    """
    if (source_packing is None) != (target_packing is None):
      raise ValueError('Expected packing of both sides or neither, got one.')
    keys = attention.fork(drop_key if self._compute.dropout else None, 2)
    memory = self.encode(source, source_packing, drop_key=keys[0])
    mask = _memory_mask(source, source_packing, target_packing)
    x = self.decode(memory, mask, target, target_packing, drop_key=keys[1])
    return self._logits(x)

  def encode(
    self, source: jax.Array, packing: Packing | None = None, *, drop_key=None
  ) -> jax.Array:
    """Tokens int32 [B, M] -> memory for the decoder to attend to, [B, M, W]."""
    keys = attention.fork(drop_key, 2)
    is_token = (source != PAD)[..., None]
    mask = _memory_mask(source, packing, packing)
    x = self._embed(source, _positions(source, packing), keys[0])
    return self.encoder(x, mask, is_token, drop_key=keys[1])

  def decode(
    self, memory, memory_mask, target, packing=None, *, drop_key=None
  ) -> jax.Array:
    """memory [B, M, W], target int32 [B, L] -> x [B, L, W], before logits."""
    keys = attention.fork(drop_key, 2)
    positions = _positions(target, packing)
    before = jnp.pad(target, ((0, 0), (1, 0)))[:, :-1]
    before = jnp.where(positions == 0, PAD, before)
    own_mask = _same_segment(packing, packing)
    x = self._embed(before, positions, keys[0])
    return self.decoder(x, memory, own_mask, memory_mask, drop_key=keys[1])

  def translate(
    self,
    source: jax.Array,
    *,
    beams: int = 4,
    alpha: float = 0.6,
    extra_length: int = 50,
    bar: beam_search.Bar = beam_search.worst,
  ) -> beam_search.Found:
    """Tokens int32 [B, M] -> the best K translations of each; see `search`.

    None is more than `extra_length` longer than the batch's longest source, as
    in the reference, which pads a batch to its longest source.
    """
    longest = (source != PAD).sum(axis=1).max()
    length = source.shape[1] + extra_length
    step, cache = self.stepper(source, beams=beams, length=length)
    return beam_search.search(
      step,
      cache,
      jnp.full(source.shape[0], PAD, jnp.int32),
      beams=beams,
      end=END,
      max_length=length,
      alpha=alpha,
      limits=longest + extra_length,
      reorder=attention.reorder,
      bar=bar,
    )

  def stepper(
    self, source: jax.Array, *, beams: int, length: int
  ) -> tuple[Callable, attention.Cache]:
    """A step of the decoder for `beam_search`, and an empty cache.

    The source is attended to once for all beams of a sentence.
    """
    memory = self.encode(source)
    memory_mask = _memory_mask(source, None, None)
    blocks = self.decoder.apart()
    remembered = [block.memory_attention.remember(memory) for block in blocks]
    table = self.embedding[...].astype(self._compute.dtype)

    def step(tokens, cache, position):
      """Tokens int32 [B * K] -> logits [B * K, V] of the next tokens."""
      x = tokens.reshape(-1, beams)
      x = self._embed(x, jnp.broadcast_to(position, x.shape))
      paths = attention.extended(cache.paths, position)
      mask = attention.on_path(paths)
      kept = []
      for layer, block in enumerate(blocks):
        cached = cache.keys[layer], cache.values[layer]
        x, cached = block.step(
          x, cached, remembered[layer], mask, memory_mask, position
        )
        kept.append(cached)
      keys, values = zip(*kept, strict=True)
      logits = self._logits(self.decoder.norm(x), table)
      return logits.reshape(tokens.shape[0], -1), attention.Cache(
        keys, values, paths
      )

    return step, self._empty(source.shape[0], beams, length)

  def _empty(self, rows: int, beams: int, length: int) -> attention.Cache:
    size = self._size
    depth = size.width // size.heads
    entries = length * beams

    def nothing(*shape):
      shape = (rows, size.heads, *shape)
      return (jnp.zeros(shape, self._compute.dtype),) * size.layers

    paths = jnp.full((rows, beams, length), -1, jnp.int32)
    return attention.Cache(
      nothing(depth, entries), nothing(entries, depth), paths
    )

  def _embed(self, tokens, positions, drop_key=None) -> jax.Array:
    """Tokens [B, L] at positions [B or 1, L] -> their sum, [B, L, W]."""
    width = self._size.width
    x = self.embedding[...][tokens] * width**0.5
    x = jnp.where((tokens != PAD)[..., None], x, 0)
    x = x + jnp.broadcast_to(signal(positions, width), x.shape)
    x = x.astype(self._compute.dtype)
    return attention.drop(x, self._compute.dropout, drop_key)

  def _logits(self, x: jax.Array, table: jax.Array | None = None) -> jax.Array:
    if table is None:
      table = self.embedding[...].astype(self._compute.dtype)
    return jnp.einsum(
      '...W,VW->...V', x, table, preferred_element_type=jnp.float32
    )


def token_losses(
  logits: jax.Array, targets: jax.Array, *, smoothing: float
) -> jax.Array:
  """logits [..., V], targets int32 [...] -> float32 [...], 0 on padding.

  Cross entropy with 1 - `smoothing` on the target and the rest spread over the
  other V - 1 tokens, minus its lower bound, which has no gradient. The loss of
  a batch is the sum over all tokens divided by the number that are not padding.
  """
  logits, vocabulary = logits.astype(jnp.float32), logits.shape[-1]
  high, low = 1 - smoothing, smoothing / (vocabulary - 1)
  # A comparison, not a gather: its gradient is no scatter, and it stays local
  # where the vocabulary is split.
  tokens = jnp.arange(vocabulary, dtype=targets.dtype)
  is_target = targets[..., None] == jnp.expand_dims(tokens, range(targets.ndim))
  soft = jnp.where(is_target, high, low)
  losses = jax.nn.logsumexp(logits, axis=-1) - (soft * logits).sum(axis=-1)
  least = high * math.log(high) + smoothing * math.log(low + 1e-20)
  return jnp.where(targets == PAD, 0.0, losses + least)


def signal(positions: jax.Array, width: int) -> jax.Array:
  """Positions [...] -> sines, then cosines, of growing wavelength: [..., W]."""
  half = width // 2
  steps = jnp.arange(half, dtype=jnp.float32) / (half - 1)
  rates = jnp.exp(-math.log(_LONGEST_WAVE) * steps)
  rates = jnp.expand_dims(rates, range(positions.ndim))
  angles = positions.astype(jnp.float32)[..., None] * rates
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _memory_mask(source, source_packing, packing) -> jax.Array:
  """Mask of the source tokens to attend to: bool [B, 1, 1 or L, M]."""
  if packing is None:
    return (source != PAD)[:, None, None, :]
  return _same_segment(packing, source_packing)


def _same_segment(packing: Packing | None, other: Packing | None):
  """Mask bool [B, 1, L, M] for tokens [B, L] and others [B, M], or none."""
  if packing is None:
    return None
  return attention.same_segment(packing.segments, other.segments)


def _positions(tokens: jax.Array, packing: Packing | None) -> jax.Array:
  """Positions int32 [B, L], or [1, L] if all rows have the same."""
  if packing is None:
    return jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
  return packing.positions


def _norm(
  size: Size, *, compute: attention.Compute, rngs: nnx.Rngs
) -> nnx.LayerNorm:
  return nnx.LayerNorm(
    size.width, epsilon=_EPSILON, dtype=compute.dtype, rngs=rngs
  )
