"""GNMT: translation by LSTMs with attention, and its loss.

The variant is that of mlcommons/training, retired_benchmarks/gnmt (pytorch/
seq2seq/models). The first encoder layer reads both ways. What the first decoder
layer says attends to the source at once, and the context goes into the layers
above it, not into the first one. From the third layer on a layer's input is
added to its output, without the context.
"""

# B rows, L length of a target, M length of a source, W width, V vocabulary,
# K beams of a sentence, F numbers that come in.

import dataclasses
import functools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import attention, beam_search, lstm

PAD, UNKNOWN, START, END = range(4)

# Rows of the embedding and columns of the classifier are the vocabulary.
PARTITION_RULES = (
  (r'embedding$', P('model', None)),
  (r'classifier/kernel$', P(None, 'model')),
  (r'classifier/bias$', P('model')),
  (r'.*', P()),
)

_MASKED = -65504.0  # in place of what a mask hides: float16's least number


@dataclasses.dataclass(frozen=True)
class Size:
  """Tokens, layers of the encoder and as many of the decoder, and width.

  Parameters begin uniform in (-`start`, `start`). Sums of fewer numbers want
  larger ones: the reference's 0.1 is for a width of 1024.
  """

  vocabulary: int
  layers: int
  width: int
  start: float = 0.1

  def __post_init__(self):
    if self.vocabulary < END + 2 or self.layers < 2 or self.width < 1:
      raise ValueError(
        f'Expected {END + 2} tokens or more, two layers or more and a '
        f'positive width, got {self}.'
      )


FULL = Size(32_320, 4, 1024)


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings that change how the model is computed, not its parameters.

  Parameters, gates, softmax and logits are float32; products are of `dtype`.
  `layers` is how the LSTMs are computed; its dtype is this one.
  """

  dtype: jnp.dtype = jnp.float32
  dropout: float = 0.2
  remat: bool = False
  unroll: int = 1
  kernel: str = lstm.SCAN

  def __post_init__(self):
    if not 0 <= self.dropout < 1:
      raise ValueError(f'Expected a dropout in [0, 1), got {self.dropout}.')

  @property
  def layer(self) -> lstm.Compute:
    """Settings of how a layer is computed."""
    return lstm.Compute(self.dtype, self.remat, self.unroll, self.kernel)


class Encoder(nnx.Module):
  """LSTMs over the source; only the first knows where it ends."""

  def __init__(self, size: Size, *, compute: Compute, rngs: nnx.Rngs):
    made = functools.partial(_layer, size, compute=compute, rngs=rngs)
    width = size.width
    self.first = made(lstm.BothWays, width)
    # What follows reads padding too, which nothing attends to.
    self.layers = nnx.List(
      made(lstm.LSTM, width if i else 2 * width) for i in range(size.layers - 1)
    )
    self._dropout = compute.dropout

  def __call__(self, x: jax.Array, lengths: jax.Array, drop_key) -> jax.Array:
    """x [B, M, W], lengths int32 [B] -> [B, M, W]."""
    keys = attention.fork(drop_key, 1 + len(self.layers))
    x = self.first(attention.drop(x, self._dropout, keys[0]), lengths)
    for i, layer in enumerate(self.layers):
      y, _ = layer(attention.drop(x, self._dropout, keys[1 + i]))
      x = y + x if i else y
    return x


class Attention(nnx.Module):
  """Normalised additive attention: a bounded sum of a query and each key."""

  def __init__(self, size: Size, *, compute: Compute, rngs: nnx.Rngs):
    width, init = size.width, _uniform(size)
    dense = functools.partial(
      nnx.Linear, width, width, use_bias=False, kernel_init=init,
      dtype=compute.dtype, rngs=rngs,
    )  # fmt: skip
    self.query = dense()
    self.key = dense()
    self.direction = nnx.Param(init(rngs.params(), (width,)))
    self.scale = nnx.Param(jnp.full(1, width**-0.5, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(width))
    self._dtype = compute.dtype

  def keys(self, memory: jax.Array) -> jax.Array:
    """memory [B, M, W] -> what queries are compared with, [B, M, W]."""
    return self.key(memory) + self.bias[...].astype(self._dtype)[None, None]

  def __call__(self, x, memory, keys, mask) -> tuple[jax.Array, jax.Array]:
    """x [B, L, W], mask bool [B, M] -> context [B, L, W], weights [B, L, M].

    The memory itself is what is averaged. The weights are float32.
    """
    direction = self.direction[...]
    direction = direction / jnp.linalg.norm(direction, keepdims=True)
    scores = _scores(self.query(x), keys, direction * self.scale[...])
    scores = jnp.where(mask[:, None], scores, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1)
    context = jnp.einsum('BLM,BMW->BLW', weights.astype(self._dtype), memory)
    return context, weights


class Decoder(nnx.Module):
  """LSTMs over the target, with attention after the first."""

  def __init__(self, size: Size, *, compute: Compute, rngs: nnx.Rngs):
    made = functools.partial(_layer, size, compute=compute, rngs=rngs)
    width = size.width
    self.first = made(lstm.LSTM, width)
    self.attention = Attention(size, compute=compute, rngs=rngs)
    self.layers = nnx.List(
      made(lstm.LSTM, 2 * width) for _ in range(size.layers - 1)
    )
    self._dropout = compute.dropout

  def __call__(self, x, memory, mask, drop_key) -> jax.Array:
    """x [B, L, W], memory [B, M, W], mask bool [B, M] -> [B, L, W]."""
    keys = attention.fork(drop_key, 1 + len(self.layers))
    x, _ = self.first(attention.drop(x, self._dropout, keys[0]))
    context, _ = self.attention(x, memory, self.attention.keys(memory), mask)
    for i, layer in enumerate(self.layers):
      both = jnp.concatenate([x, context], axis=-1)
      y, _ = layer(attention.drop(both, self._dropout, keys[1 + i]))
      x = y + x if i else y
    return x

  def start(self, rows: int) -> list[lstm.State]:
    """The state of every layer before the first token."""
    return [layer.start(rows) for layer in (self.first, *self.layers)]

  def step(self, x, states, memory, keys, mask):
    """A token of every beam, x [B, K, W] -> x's, states, weights [B, K, M].

    `states` are of B * K rows. All beams of a sentence read its one memory.
    """

    def through(layer, x, state):
      state = layer.step(x.reshape(-1, x.shape[-1]), state)
      return state.hidden.reshape(*x.shape[:-1], -1), state

    first, *rest = states
    x, first = through(self.first, x, first)
    context, weights = self.attention(x, memory, keys, mask)
    after = [first]
    for i, (layer, state) in enumerate(zip(self.layers, rest, strict=True)):
      y, state = through(layer, jnp.concatenate([x, context], -1), state)
      x = y + x if i else y
      after.append(state)
    return x, after, weights


class GNMT(nnx.Module):
  """Logits of a target from its source, and translations."""

  def __init__(self, size: Size, *, compute: Compute, rngs: nnx.Rngs):
    shape, init = (size.vocabulary, size.width), _uniform(size)
    self.embedding = nnx.Param(init(rngs.params(), shape))
    self.encoder = Encoder(size, compute=compute, rngs=rngs)
    self.decoder = Decoder(size, compute=compute, rngs=rngs)
    self.classifier = nnx.Linear(
      size.width, size.vocabulary, kernel_init=init, bias_init=init,
      dtype=compute.dtype, preferred_element_type=jnp.float32, rngs=rngs,
    )  # fmt: skip
    self._compute = compute

  def __call__(self, source, target, *, drop_key: attention.Key = None):
    """Tokens int32 [B, M] and [B, L] -> logits float32 [B, L, V].

    Both sides begin with START. Logits at a place predict the token after it.
    Dropout is applied if there is a key.
    """
    keys = attention.fork(drop_key if self._compute.dropout else None, 2)
    memory = self.encode(source, drop_key=keys[0])
    x = self.decoder(self._embed(target), memory, source != PAD, keys[1])
    return self.classifier(x)

  def encode(self, source: jax.Array, *, drop_key=None) -> jax.Array:
    """Tokens int32 [B, M] -> memory for the decoder to attend to, [B, M, W]."""
    lengths = (source != PAD).sum(axis=1)
    return self.encoder(self._embed(source), lengths, drop_key)

  def translate(
    self,
    source: jax.Array,
    *,
    beams: int,
    length: int,
    alpha: float,
    coverage: float,
  ) -> beam_search.Found:
    """Tokens int32 [B, M] -> K translations of each; see `search_together`."""
    memory, mask = self.encode(source), source != PAD
    keys = self.decoder.attention.keys(memory)
    rows = source.shape[0]

    def step(tokens, states, position):
      del position
      x = self._embed(tokens.reshape(rows, beams))
      x, states, weights = self.decoder.step(x, states, memory, keys, mask)
      return self.classifier(x).reshape(rows * beams, -1), weights, states

    return beam_search.search_together(
      step,
      self.decoder.start(rows * beams),
      jnp.full(rows, START, jnp.int32),
      beams=beams,
      end=END,
      max_length=length,
      alpha=alpha,
      coverage=coverage,
      memory_length=source.shape[1],
    )

  def _embed(self, tokens: jax.Array) -> jax.Array:
    """Tokens [B, L] -> [B, L, W]; that of padding is never trained."""
    x = self.embedding[...][tokens]
    is_token = (tokens != PAD)[..., None]
    x = jnp.where(is_token, x, jax.lax.stop_gradient(x))
    return x.astype(self._compute.dtype)


def token_losses(
  logits: jax.Array, targets: jax.Array, *, smoothing: float
) -> jax.Array:
  """logits [..., V], targets int32 [...] -> float32 [...], 0 on padding.

  Cross entropy with 1 - `smoothing` on the target and the rest spread over all
  V tokens, the target and padding among them. The loss of a batch is the sum
  over all tokens divided by the number of sentences.
  """
  logits = logits.astype(jnp.float32)
  # A comparison, not a gather: its gradient is no scatter, and it stays local
  # where the vocabulary is split.
  tokens = jnp.arange(logits.shape[-1], dtype=targets.dtype)
  is_target = targets[..., None] == jnp.expand_dims(tokens, range(targets.ndim))
  of_target = jnp.where(is_target, logits, 0).sum(axis=-1)
  wanted = (1 - smoothing) * of_target + smoothing * logits.mean(axis=-1)
  losses = jax.nn.logsumexp(logits, axis=-1) - wanted
  return jnp.where(targets == PAD, 0.0, losses)


# It is as many numbers as L M W of every row; computed again in the backward
# pass, none of them is kept, and what reads them can be fused with them.
@jax.checkpoint
def _scores(query: jax.Array, keys: jax.Array, direction: jax.Array):
  """query [B, L, W], keys [B, M, W], direction [W] -> float32 [B, L, M]."""
  bounded = jnp.tanh(query[:, :, None] + keys[:, None])
  direction = direction.astype(bounded.dtype)[None, None, None]
  return (bounded * direction).sum(axis=-1, dtype=jnp.float32)


def _uniform(size: Size) -> nnx.Initializer:
  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -size.start, size.start)

  return init


def _layer(size: Size, kind: type, features: int, *, compute, rngs):
  init = _uniform(size)
  return kind(
    features,
    size.width,
    kernel_init=init,
    bias_init=init,
    compute=compute.layer,
    rngs=rngs,
  )
