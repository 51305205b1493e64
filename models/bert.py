"""BERT: an encoder, a head for masked tokens, a head for the next sentence.

The model is that of mlcommons/training, retired_benchmarks/bert (modeling.py,
run_pretraining.py): normalisation after each sum, in float32 with an epsilon of
1e-12, GELU by its tanh, biases in all layers, and one matrix for the words and
for the logits.

Rows may be packed: several samples share a row of the batch, told apart by
`Packing`. Each sample is computed as in a row of its own.
"""

# B rows, L places of a row, P predictions of a row, S samples of a row,
# W width, V vocabulary, H heads, D depth of a head.

import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import attention, stack

# Heads and hidden units are split over the model axis. The first dimension of a
# block's parameters is the layers.
PARTITION_RULES = (
  (r'/(query|key|value)/kernel$', P(None, None, 'model', None)),
  (r'/(query|key|value)/bias$', P(None, 'model', None)),
  (r'attention/output/kernel$', P(None, 'model', None, None)),
  (r'/up/kernel$', P(None, None, 'model')),
  (r'/up/bias$', P(None, 'model')),
  (r'/down/kernel$', P(None, 'model', None)),
  (r'.*', P()),
)
# Paths that LAMB neither decays nor adapts: ['LayerNorm', 'layer_norm', 'bias']
# in optimization.py of the reference.
NOT_ADAPTED = r'_norm/|bias$'
# Paths whose first dimension is the layers, each a variable of its own there.
STACKED = r'/blocks/'

_EPSILON = 1e-12
_STDDEV = 0.02
_TYPES = 2  # of segments: the first sentence, and the second
_DEFAULT = attention.Compute()


@dataclasses.dataclass(frozen=True)
class Size:
  """Tokens, places, layers and widths."""

  vocabulary: int
  positions: int  # of a sample, at most
  layers: int
  width: int
  heads: int
  ffn: int
  stddev: float = _STDDEV  # of fresh matrices, whose draws are cut at 2 of it

  def __post_init__(self):
    if min(dataclasses.astuple(self)) <= 0 or self.width % self.heads:
      raise ValueError(
        f'Expected positive sizes and heads that divide the width, got {self}.'
      )

  @property
  def draw(self) -> nnx.Initializer:
    """Initializer of matrices: a normal cut at two of its deviations."""

    # Flax divides by the deviation of what is left; the reference does not.
    def draw(key, shape, dtype=jnp.float32):
      return self.stddev * jax.random.truncated_normal(key, -2, 2, shape, dtype)

    return draw


LARGE = Size(30_522, 512, 24, 1024, 16, 4096)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
  """Rows of samples; each sample begins with [CLS] and has two sentences."""

  tokens: jax.Array  # int32 [B, L]
  types: jax.Array  # int32 [B, L], 1 in a second sentence
  packing: attention.Packing
  predicted: jax.Array  # int32 [B, P], places of the row
  first: jax.Array  # int32 [B, S], where each sample begins


class Block(nnx.Module):
  """Self-attention and the feed-forward layers, each normalised after."""

  def __init__(self, size: Size, *, compute: attention.Compute, rngs: nnx.Rngs):
    dense = functools.partial(
      nnx.Linear, kernel_init=size.draw, dtype=compute.dtype, rngs=rngs
    )
    self.attention = attention.Attention(
      size.width,
      size.heads,
      compute=compute,
      kernel_init=size.draw,
      use_bias=True,
      rngs=rngs,
    )
    self.attention_norm = _norm(size, compute=compute, rngs=rngs)
    self.up = dense(size.width, size.ffn)
    self.down = dense(size.ffn, size.width)
    self.ffn_norm = _norm(size, compute=compute, rngs=rngs)
    self._dropout = compute.dropout

  def __call__(self, x: jax.Array, mask: jax.Array, drop_key) -> jax.Array:
    """x [B, L, W], mask bool [B, 1, L, L] -> x's."""
    keys = attention.fork(drop_key, 3)
    y = self.attention(x, x, mask, drop_key=keys[0])
    x = self.attention_norm(x + attention.drop(y, self._dropout, keys[1]))
    y = self.down(jax.nn.gelu(self.up(x), approximate=True))
    return self.ffn_norm(x + attention.drop(y, self._dropout, keys[2]))


class Encoder(stack.Stack):
  """Words, types and positions, their sum normalised, through every block."""

  def __init__(self, size: Size, *, compute: attention.Compute, rngs: nnx.Rngs):
    def table(rows):
      return nnx.Param(size.draw(rngs.params(), (rows, size.width)))

    self.word = table(size.vocabulary)
    self.position = table(size.positions)
    self.type = table(_TYPES)
    self.embedding_norm = _norm(size, compute=compute, rngs=rngs)
    super().__init__(
      lambda rngs: Block(size, compute=compute, rngs=rngs),
      size.layers,
      compute=compute,
      rngs=rngs,
    )

  def __call__(self, inputs: Inputs, *, drop_key) -> jax.Array:
    """Rows [B, L] -> [B, L, W]."""
    keys = attention.fork(drop_key, 2)
    x = self.word[...][inputs.tokens]
    x = x + self.position[...][inputs.packing.positions]
    x = x + self.type[...][inputs.types]
    x = self.embedding_norm(x)
    x = attention.drop(x, self._compute.dropout, keys[0])
    segments = inputs.packing.segments
    mask = attention.same_segment(segments, segments)
    return super().__call__(x, mask, drop_key=keys[1])


class Bert(nnx.Module):
  """Logits of masked tokens, and of whether the second sentence is random."""

  def __init__(
    self, size: Size, *, compute: attention.Compute = _DEFAULT, rngs: nnx.Rngs
  ):
    dense = functools.partial(
      nnx.Linear, kernel_init=size.draw, dtype=compute.dtype, rngs=rngs
    )
    self.encoder = Encoder(size, compute=compute, rngs=rngs)
    self.pooler = dense(size.width, size.width)
    self.transform = dense(size.width, size.width)
    self.transform_norm = _norm(size, compute=compute, rngs=rngs)
    self.output_bias = nnx.Param(jnp.zeros(size.vocabulary))
    self.next = dense(size.width, 2, dtype=jnp.float32)
    self._compute = compute

  def __call__(
    self, inputs: Inputs, *, drop_key: attention.Key = None
  ) -> tuple[jax.Array, jax.Array]:
    """-> logits of the tokens [B, P, V] and of the samples [B, S, 2], float32.

    Dropout is applied if there is a key.
    """
    drop_key = drop_key if self._compute.dropout else None
    x = self.encoder(inputs, drop_key=drop_key)
    predicted = self.transform(_at(x, inputs.predicted))
    predicted = self.transform_norm(jax.nn.gelu(predicted, approximate=True))
    word = self.encoder.word[...].astype(self._compute.dtype)
    logits = jnp.einsum(
      'BPW,VW->BPV', predicted, word, preferred_element_type=jnp.float32
    )
    pooled = jnp.tanh(self.pooler(_at(x, inputs.first)))
    logits = logits + self.output_bias[None, None]
    return logits, self.next(pooled)


def _at(x: jax.Array, places: jax.Array) -> jax.Array:
  """x [B, L, W] at places int32 [B, N] -> [B, N, W]."""
  return jnp.take_along_axis(x, places[..., None], axis=1)


def _norm(
  size: Size, *, compute: attention.Compute, rngs: nnx.Rngs
) -> nnx.LayerNorm:
  # The difference of two squares would be no variance at such an epsilon.
  return nnx.LayerNorm(
    size.width,
    epsilon=_EPSILON,
    use_fast_variance=False,
    dtype=compute.dtype,
    rngs=rngs,
  )
