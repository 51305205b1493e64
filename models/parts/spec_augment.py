"""SpecAugment: bands and times of a spectrogram that are masked at random."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Masks:
  """Number and widths of the masks of a row.

  A width is a whole number, as likely as any other in its range. That of times
  is up to a share of the row's own frames.
  """

  bands: int
  narrowest_band: int
  widest_band: int
  times: int
  shortest_time: int
  longest_time: float  # of the row's frames

  def __call__(
    self, x: jax.Array, lengths: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Spectrograms [B, T, F] of `lengths` int32 [B], zero where a mask is.

    A mask of times begins anywhere in the longest row's frames: one of a short
    row may lie behind its end. As in the reference no mask ends with the last
    place, for its `randint` excludes the bound that it is given. Source:
    SpecAugment in mlcommons/training, retired_benchmarks/rnnt/pytorch/common/
    data/features.py.
    """
    rows, frames, bands = x.shape
    keys = jax.random.split(key, 4)
    # A product of float32 would round some halves the other way.
    most = np.round(self.longest_time * np.arange(frames + 1)).astype(np.int32)
    widest = jnp.asarray(most)[lengths]
    masked = _spans(
      keys[:2], (rows, self.bands), self.narrowest_band,
      jnp.full(rows, self.widest_band), jnp.int32(bands), bands,
    )[:, None]  # fmt: skip
    masked |= _spans(
      keys[2:], (rows, self.times), self.shortest_time,
      widest, lengths.max(), frames,
    )[:, :, None]  # fmt: skip
    return jnp.where(masked, 0, x)


def _spans(keys, shape, narrowest, widest, room, size) -> jax.Array:
  """True for places in any of a row's spans, bool [B, size].

  `shape` is [B, N], for N spans a row of `narrowest` to `widest` [B] places,
  which lie in the first `room`, but end before its last unless they fill it.
  """
  width = jax.random.randint(keys[0], shape, narrowest, widest[:, None] + 1)
  begins = jnp.maximum(room - width, 1)
  first = jax.random.randint(keys[1], shape, 0, begins)[..., None]
  place = jnp.arange(size)[None, None]
  inside = (place >= first) & (place < first + width[..., None])
  return inside.any(axis=1)
