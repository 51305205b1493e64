"""RNN-T: speech recognition by a transducer of LSTMs, and its greedy decoding.

The variant is that of mlcommons/training, retired_benchmarks/rnnt (pytorch/
rnnt/model.py, common/rnn.py, rnnt/decoder.py). An encoder of two LSTMs, which
then takes frames two by two, and of three more reads the speech; two LSTMs read
the symbols so far; and what joins them gives a distribution over the symbols
and a blank, which goes on to the next frame.
"""

# B rows, T frames, U symbols, F features of a frame, W width of the encoder,
# P of the prediction, J of the joint, V classes.

import dataclasses
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from models.parts import attention, lstm, transducer

PARTITION_RULES = ((r'.*', P()),)

# What the rules call the tensors that are initialised.
TENSORS = (
  'pre_rnn', 'post_rnn', 'pred_embed', 'dec_rnn', 'joint_pred', 'joint_enc',
  'joint_net',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
  """Widths and layers; the blank comes after the `symbols`."""

  features: int  # of a frame, as it comes in
  symbols: int
  width: int
  before: int  # layers of the encoder before frames are stacked
  after: int
  stack: int  # frames that become one
  prediction: int  # width
  prediction_layers: int
  joint: int  # width

  def __post_init__(self):
    if min(dataclasses.astuple(self)) < 1:
      raise ValueError(f'Expected positive sizes, got {self}.')

  @property
  def blank(self) -> int:
    """The class that is no symbol."""
    return self.symbols


FULL = Size(240, 1023, 1024, 2, 3, 2, 512, 2, 512)


@dataclasses.dataclass(frozen=True)
class Start:
  """The start of LSTMs: `scale` times PyTorch's, with a forget bias."""

  scale: float = 0.5
  forget: float = 1.0


START = Start()


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings that change how the model is computed, not its parameters.

  Parameters, gates, logits and the loss are float32; products are of `dtype`.
  Logits are made for `block` frames at a time.
  """

  dtype: jnp.dtype = jnp.float32
  encoder_dropout: float = 0.1
  prediction_dropout: float = 0.3
  joint_dropout: float = 0.3
  remat: bool = False
  unroll: int = 1
  kernel: str = lstm.SCAN
  block: int = 8

  @property
  def layer(self) -> lstm.Compute:
    """Settings of how an LSTM is computed."""
    return lstm.Compute(self.dtype, self.remat, self.unroll, self.kernel)


class Layers(nnx.Module):
  """LSTMs one after the other, each with dropout after it."""

  def __init__(
    self,
    features: int,
    width: int,
    count: int,
    *,
    dropout: float,
    start: Start,
    compute: Compute,
    rngs: nnx.Rngs,
  ):
    uniform = _uniform(width, start.scale)
    self.layers = nnx.List(
      lstm.LSTM(
        width if i else features,
        width,
        kernel_init=uniform,
        bias_init=_forgetting(uniform, start.forget * start.scale),
        second_bias_init=_forgetting(uniform, 0.0),
        compute=compute.layer,
        rngs=rngs,
      )
      for i in range(count)
    )
    self._dropout = dropout

  def __call__(self, x: jax.Array, drop_key: attention.Key) -> jax.Array:
    """[B, T, F] -> [B, T, W]."""
    keys = attention.fork(drop_key if self._dropout else None, len(self.layers))
    for layer, key in zip(self.layers, keys, strict=True):
      x = attention.drop(layer(x)[0], self._dropout, key)
    return x

  def begin(self, rows: int) -> list[lstm.State]:
    """The state of each layer before the first place."""
    return [layer.start(rows) for layer in self.layers]

  def step(self, x: jax.Array, states: list[lstm.State]):
    """One place: x [B, F] and states -> [B, W] and the states after it."""
    after = []
    for layer, state in zip(self.layers, states, strict=True):
      after.append(layer.step(x, state))
      x = after[-1].hidden
    return x, after


class Encoder(nnx.Module):
  """LSTMs over the speech; halfway, frames are taken two by two."""

  def __init__(
    self, size: Size, *, start: Start, compute: Compute, rngs: nnx.Rngs
  ):
    made = functools.partial(
      Layers,
      dropout=compute.encoder_dropout,
      start=start,
      compute=compute,
      rngs=rngs,
    )
    self.before = made(size.features, size.width, size.before)
    self.after = made(size.stack * size.width, size.width, size.after)
    self._stack = size.stack

  def __call__(self, x: jax.Array, lengths: jax.Array, drop_key: attention.Key):
    """x [B, T, F], lengths int32 [B] -> [B, T / stack, W] and lengths.

    What a layer says behind a row's end is zeroed before frames are stacked:
    else the last frame of a row would depend on the padding of its batch, which
    in the reference it does.
    """
    keys = attention.fork(drop_key, 2)
    x = self.before(x, keys[0])
    is_frame = jnp.arange(x.shape[1])[None] < lengths[:, None]
    x = self.stacked(jnp.where(is_frame[..., None], x, 0))
    return self.after(x, keys[1]), spliced_lengths(lengths, self._stack)

  def stacked(self, x: jax.Array) -> jax.Array:
    """Frames [B, T, W] side by side: [B, T / stack, stack W], T rounded up."""
    return spliced(x, self._stack)


class Prediction(nnx.Module):
  """LSTMs over the symbols so far; before the first one comes a zero."""

  def __init__(
    self, size: Size, *, start: Start, compute: Compute, rngs: nnx.Rngs
  ):
    shape = (size.symbols, size.prediction)
    self.embedding = nnx.Param(jax.random.normal(rngs.params(), shape))
    self.layers = Layers(
      size.prediction,
      size.prediction,
      size.prediction_layers,
      dropout=compute.prediction_dropout,
      start=start,
      compute=compute,
      rngs=rngs,
    )

  def __call__(self, symbols: jax.Array, drop_key: attention.Key) -> jax.Array:
    """int32 [B, U] -> what is before each, and after all, [B, U + 1, P]."""
    x = jnp.pad(self.embedding[...][symbols], ((0, 0), (1, 0), (0, 0)))
    return self.layers(x, drop_key)

  def step(self, symbols: jax.Array, states: list[lstm.State]):
    """int32 [B] -> [B, P] and the states after it."""
    return self.layers.step(self.embedding[...][symbols], states)

  def begin(self, rows: int):
    """[B, P] before the first symbol, and the states then."""
    zero = jnp.zeros((rows, self.embedding.shape[1]), jnp.float32)
    return self.layers.step(zero, self.layers.begin(rows))


class Joint(nnx.Module):
  """A sum of what the speech and the symbols say, and logits of it."""

  def __init__(self, size: Size, *, compute: Compute, rngs: nnx.Rngs):
    def linear(features: int, width: int, **how) -> nnx.Linear:
      init = _uniform(features)
      return nnx.Linear(
        features, width, kernel_init=init, bias_init=init,
        dtype=compute.dtype, rngs=rngs, **how,
      )  # fmt: skip

    self.of_speech = linear(size.width, size.joint)
    self.of_symbols = linear(size.prediction, size.joint)
    self.classes = linear(
      size.joint, size.symbols + 1, preferred_element_type=jnp.float32
    )
    self._dropout = compute.joint_dropout

  def __call__(
    self, frames: jax.Array, texts: jax.Array, drop_key: attention.Key
  ) -> jax.Array:
    """Frames [B, T, J] and texts [B, U + 1, J] -> float32 [B, T, U + 1, V]."""
    x = nnx.relu(frames[:, :, None] + texts[:, None])
    x = attention.drop(x, self._dropout, drop_key if self._dropout else None)
    return self.classes(x)


class RNNT(nnx.Module):
  """The loss of texts given their speech, and texts that it hears."""

  def __init__(
    self,
    size: Size,
    *,
    start: Start = START,
    compute: Compute,
    rngs: nnx.Rngs,
  ):
    how = {'compute': compute, 'rngs': rngs}
    self.encoder = Encoder(size, start=start, **how)
    self.prediction = Prediction(size, start=start, **how)
    self.joint = Joint(size, **how)
    self._size = size
    self._block = compute.block

  def __call__(
    self,
    speech: jax.Array,
    lengths: jax.Array,
    symbols: jax.Array,
    counts: jax.Array,
    *,
    drop_key: attention.Key = None,
  ) -> jax.Array:
    """The loss of each row, float32 [B]: minus log of the chance of its text.

    Args:
      speech: [B, T, F].
      lengths: frames of each row, int32 [B].
      symbols: int32 [B, U], padded with any symbol.
      counts: symbols of each row, int32 [B].
      drop_key: dropout is applied if there is one.
    """
    keys = attention.fork(drop_key, 3)
    frames, lengths = self.encoder(speech, lengths, keys[0])
    texts = self.prediction(symbols, keys[1])
    blank, said = transducer.chances(
      self.joint,
      self.joint.of_speech(frames),
      self.joint.of_symbols(texts),
      symbols,
      blank=self._size.blank,
      block=self._block,
      drop_key=keys[2],
    )
    return transducer.losses(blank, said, lengths, counts)

  def logits(self, speech, lengths, symbols) -> tuple[jax.Array, jax.Array]:
    """All logits float32 [B, T, U + 1, V] and frames of each row [B]."""
    frames, lengths = self.encoder(speech, lengths, None)
    texts = self.joint.of_symbols(self.prediction(symbols, None))
    return self.joint(self.joint.of_speech(frames), texts, None), lengths

  def transcribe(
    self, speech: jax.Array, lengths: jax.Array, *, per_frame: int, most: int
  ) -> tuple[jax.Array, jax.Array]:
    """The likeliest symbol at each place in turn, for all rows at once.

    A row goes on to the next frame at a blank, or once a frame has given
    `per_frame` symbols; it ends with its frames, or where it has more than
    `most` symbols when a frame begins.

    Args:
      speech: [B, T, F].
      lengths: int32 [B].
      per_frame: symbols that a frame gives at most.
      most: see above.

    Returns:
      Symbols int32 [B, most + per_frame], padded with 0, and how many of them
      each row has, int32 [B].
    """
    rows = jnp.arange(speech.shape[0])
    frames, lengths = self.encoder(speech, lengths, None)
    frames = self.joint.of_speech(frames)

    def is_live(now):
      begins = now['given'] == 0
      full = begins & (now['count'] > most)
      return (now['frame'] < lengths) & ~full

    def step(now):
      live = is_live(now)
      frame = frames[rows, jnp.minimum(now['frame'], frames.shape[1] - 1)]
      text = self.joint.of_symbols(now['text'])
      logits = self.joint(frame[:, None], text[:, None], None)[:, 0, 0]
      best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
      says = live & (best != self._size.blank)
      symbol = jnp.minimum(best, self._size.symbols - 1)
      text, states = self.prediction.step(symbol, now['states'])
      kept = jax.tree.map(
        lambda new, old: jnp.where(says[:, None], new, old),
        {'text': text, 'states': states},
        {name: now[name] for name in ('text', 'states')},
      )
      at = jnp.where(says, now['count'], most + per_frame)
      found = now['found'].at[rows, at].set(symbol, mode='drop')
      given = now['given'] + says
      goes_on = live & (~says | (given >= per_frame))
      return kept | {
        'found': found,
        'count': now['count'] + says,
        'given': jnp.where(goes_on, 0, given),
        'frame': now['frame'] + goes_on,
      }

    begun = self._begun(speech.shape[0], most + per_frame)
    end = jax.lax.while_loop(lambda now: is_live(now).any(), step, begun)
    return end['found'], end['count']

  def _begun(self, rows: int, most: int) -> dict[str, Any]:
    """The state of `transcribe` before the first frame."""
    text, states = self.prediction.begin(rows)
    zero = jnp.zeros(rows, jnp.int32)
    return {
      'text': text,  # before the next symbol
      'states': states,
      'found': jnp.zeros((rows, most), jnp.int32),
      'count': zero,  # of those found
      'given': zero,  # by this frame
      'frame': zero,
    }


def spliced(x: jax.Array, count: int) -> jax.Array:
  """Frames [B, T, F] side by side: [B, T / count, count F], T rounded up."""
  rows, length, features = x.shape
  x = jnp.pad(x, ((0, 0), (0, -length % count), (0, 0)))
  return x.reshape(rows, -1, count * features)


def spliced_lengths(lengths: jax.Array, count: int) -> jax.Array:
  """Frames of each row, int32 [B], once `count` of them are one."""
  return -(-lengths // count)


def _uniform(features: int, scale: float = 1.0) -> nnx.Initializer:
  """Uniform up to the inverse root of `features`, then scaled."""
  most = scale * features**-0.5

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -most, most)

  return init


def _forgetting(init: nnx.Initializer, bias: float) -> nnx.Initializer:
  """A bias [4 W] whose second quarter, of the forget gate, is `bias`."""

  def made(key, shape, dtype=jnp.float32):
    width = shape[0] // 4
    return init(key, shape, dtype).at[width : 2 * width].set(bias)

  return made
