"""The transducer's loss: the chance of a text over all of its alignments.

An alignment goes from frame to frame by blanks, and says a symbol of the text
between two of them. With B rows, T frames and U symbols there are T (U + 1)
places; at each the model gives a distribution over V classes, and an alignment
is a path from the first place to the last. Graves, arXiv:1211.3711.
"""

# B rows, T frames, U symbols of a text, V classes, D numbers of a place before
# its logits, K frames of a block, N diagonals.

from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.parts import attention

# Logits [B, K, U + 1, V] of frames [B, K, D] and texts so far [B, U + 1, D].
Join = Callable[[jax.Array, jax.Array, attention.Key], jax.Array]

_IMPOSSIBLE = -1e30  # logarithm of a chance; minus infinity has no gradient


def losses(
  blank: jax.Array,
  symbol: jax.Array,
  frames: jax.Array,
  symbols: jax.Array,
) -> jax.Array:
  """Minus the logarithm of the chance of each row's text: float32 [B].

  Places of one diagonal, those with the same sum of frame and symbols, do not
  depend on each other: the loop is over diagonals, T + U of them.

  Args:
    blank: logarithm of the chance of a blank at each place, [B, T, U + 1].
    symbol: of the next symbol of the text, [B, T, U].
    frames: of each row, int32 [B]; less than one counts as one.
    symbols: of each row's text, int32 [B], from 0 to U.
  """
  frames = jnp.maximum(frames, 1)
  width = blank.shape[2]
  symbol = jnp.pad(
    symbol, ((0, 0), (0, 0), (0, 1)), constant_values=_IMPOSSIBLE
  )

  def diagonal(before, each):
    to_next_frame, to_next_symbol = each
    said = jnp.pad(
      (before + to_next_symbol)[:, :-1],
      ((0, 0), (1, 0)),
      constant_values=_IMPOSSIBLE,
    )
    after = jnp.logaddexp(before + to_next_frame, said)
    return after, after

  first = jnp.where(jnp.arange(width)[None] == 0, 0.0, _IMPOSSIBLE)
  first = jnp.broadcast_to(first, (blank.shape[0], width))
  steps = [_by_diagonal(each)[:-1] for each in (blank, symbol)]
  _, reached = jax.lax.scan(diagonal, first, tuple(steps))
  reached = jnp.concatenate([first[None], reached])  # [N, B, U + 1]
  row = jnp.arange(blank.shape[0])
  last = blank[row, frames - 1, symbols]
  return -(reached[frames - 1 + symbols, row, symbols] + last)


def chances(
  join: Join,
  frames: jax.Array,
  texts: jax.Array,
  symbols: jax.Array,
  *,
  blank: int,
  block: int,
  drop_key: attention.Key = None,
) -> tuple[jax.Array, jax.Array]:
  """Logarithms of the chances that `losses` needs, without all logits at once.

  Logits are made, and in the backward pass made again, for a few frames at a
  time.

  Args:
    join: gives logits; its key, if there is one, is of its block alone.
    frames: [B, T, D].
    texts: what is before each symbol, and the whole text, [B, U + 1, D].
    symbols: int32 [B, U], padded with any class.
    blank: the class that is no symbol.
    block: frames at a time.
    drop_key: where `join` drops.

  Returns:
    Of blanks float32 [B, T, U + 1], of the texts' symbols float32 [B, T, U].
  """
  rows, length, _ = frames.shape
  count = -(-length // block)
  frames = jnp.pad(frames, ((0, 0), (0, count * block - length), (0, 0)))
  blocks = frames.reshape(rows, count, block, -1).swapaxes(0, 1)
  # Of what follows the whole text nothing is asked but a blank.
  wanted = jnp.pad(symbols, ((0, 0), (0, 1)))

  @jax.checkpoint
  def of_block(each):
    frames, key = each
    return _picked(join(frames, texts, key), wanted, blank)

  keys = attention.split(drop_key, count)
  found = jax.lax.map(of_block, (blocks, keys))
  blanks, said = (
    x.swapaxes(0, 1).reshape(rows, count * block, -1)[:, :length] for x in found
  )
  return blanks, said[:, :, :-1]


def _picked(
  logits: jax.Array, symbols: jax.Array, blank: int
) -> tuple[jax.Array, jax.Array]:
  """Log-chances of the blank and the symbols, [B, K, U + 1] both."""
  logits = logits.astype(jnp.float32)
  total = jax.nn.logsumexp(logits, axis=-1)
  # A comparison, not a gather: its gradient is no scatter.
  classes = jnp.arange(logits.shape[-1])[None, None, None]
  is_symbol = symbols[:, None, :, None] == classes
  said = jnp.where(is_symbol, logits, 0.0).sum(axis=-1)
  return logits[..., blank] - total, said - total


def _by_diagonal(x: jax.Array) -> jax.Array:
  """[B, T, W] -> [T + W - 1, B, W]: row n holds the places t + u = n.

  Where a diagonal has no place there is no chance.
  """
  rows, length, width = x.shape
  x = jnp.pad(
    x.swapaxes(1, 2),
    ((0, 0), (0, 0), (0, width)),
    constant_values=_IMPOSSIBLE,
  )
  # Rows that are one number shorter than they were written begin one later
  # each.
  count = length + width - 1
  x = x.reshape(rows, -1)[:, : width * count].reshape(rows, width, count)
  return jnp.transpose(x, (2, 0, 1))
