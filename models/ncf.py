"""NeuMF, neural matrix factorisation: scores pairs of a user and an item.

The variant is that of mlcommons/training, recommendation/pytorch in round v0.5:
an elementwise product of two vectors and a perceptron on two others, joined by
a last layer, without dropout or regularisation.

A user's two vectors share a row of one table, that of the product first; so do
an item's. They are looked up together.
"""

from collections.abc import Callable
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

# Tables and their optimizer buffers are split by rows over the model axis; the
# rest is replicated.
PARTITION_RULES = (
  (r'tables/(user|item)$', P('model', None)),
  (r'.*', P()),
)

_TABLE_INIT = nnx.initializers.normal(0.01)


@dataclasses.dataclass(frozen=True)
class Size:
  """Users, items, and widths.

  `layers` begins with the width of the perceptron's input, half from the user
  and half from the item, so four numbers make three layers. Tables are padded
  to a multiple of `row_multiple` rows; the padding is never looked up.
  """

  users: int
  items: int
  mf_width: int
  layers: tuple[int, ...]
  row_multiple: int = 1

  def __post_init__(self):
    counts = (self.users, self.items, self.mf_width, self.row_multiple)
    if min(*counts, *self.layers) < 1 or len(self.layers) < 2:
      raise ValueError(
        'Expected positive sizes and two layers or more, got '
        f'{counts} and {self.layers}.'
      )
    if self.layers[0] % 2:
      raise ValueError(
        "Expected an even input width, half of it the user's, got "
        f'{self.layers[0]}.'
      )

  @property
  def row_width(self) -> int:
    """Numbers in a row of either table."""
    return self.mf_width + self.layers[0] // 2


ML_20M = Size(138_493, 26_744, 64, (256, 256, 128, 64))


class Tables(nnx.Module):
  """A row [mf_width + layers[0] / 2] for every user, and for every item."""

  def __init__(self, size: Size, *, rngs: nnx.Rngs):
    self.user = nnx.Param(_table(size.users, size, rngs))
    self.item = nnx.Param(_table(size.items, size, rngs))


class Tower(nnx.Module):
  """Layers that turn a user's row and an item's row into a logit.

  Computes in `dtype` from float32 parameters; logits are float32.
  """

  def __init__(
    self, size: Size, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs
  ):
    self._mf_width = size.mf_width
    self._dtype = dtype
    self.mlp = nnx.List(
      [
        _linear(width, out, nnx.initializers.glorot_uniform(), dtype, rngs)
        for width, out in zip(size.layers, size.layers[1:], strict=False)
      ]
    )
    self.final = _linear(
      size.mf_width + size.layers[-1],
      1,
      nnx.initializers.lecun_uniform(),
      dtype,
      rngs,
    )

  def __call__(
    self,
    users: jax.Array,
    items: jax.Array,
    *,
    pick: Callable[[jax.Array], jax.Array] = lambda of_items: of_items,
  ) -> jax.Array:
    """Rows of users [..., row] and of items [..., row] -> logits [...].

    The first layer is linear, so its halves for users and items are computed
    apart, once for an item that is in many pairs: with `pick`, `items` is
    [I, row] and `pick` gathers results per item, [I, width], into results per
    pair, [..., width], against which users [..., 1, row] broadcast.
    """
    mf_user, mlp_user = self._parts(users)
    mf_item, mlp_item = self._parts(items)
    first, *rest = self.mlp
    kernel = first.kernel[...].astype(self._dtype)
    half = kernel.shape[0] // 2
    hidden = (
      mlp_user @ kernel[:half]
      + pick(mlp_item @ kernel[half:])
      + _as_last(first.bias[...].astype(self._dtype), users.ndim)
    )
    hidden = jax.nn.relu(hidden)
    for layer in rest:
      hidden = jax.nn.relu(layer(hidden))
    both = jnp.concatenate([mf_user * pick(mf_item), hidden], axis=-1)
    return self.final(both)[..., 0].astype(jnp.float32)

  def _parts(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows = rows.astype(self._dtype)
    return rows[..., : self._mf_width], rows[..., self._mf_width :]


def _table(rows: int, size: Size, rngs: nnx.Rngs) -> jax.Array:
  # Drawn before padding, so that padding changes no draw.
  drawn = _TABLE_INIT(rngs.params(), (rows, size.row_width), jnp.float32)
  return jnp.pad(drawn, ((0, -rows % size.row_multiple), (0, 0)))


def _linear(width: int, out: int, kernel_init, dtype, rngs) -> nnx.Linear:
  """A layer with PyTorch's initial bias: uniform up to width ** -0.5."""
  limit = width**-0.5

  def bias_init(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -limit, limit)

  return nnx.Linear(
    width,
    out,
    kernel_init=kernel_init,
    bias_init=bias_init,
    dtype=dtype,
    rngs=rngs,
  )


def _as_last(vector: jax.Array, ndim: int) -> jax.Array:
  return vector.reshape((1,) * (ndim - 1) + vector.shape)
