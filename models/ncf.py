"""NeuMF, neural matrix factorisation: whether a user cares for an item.

The variant is that of mlcommons/training, recommendation/pytorch in round v0.5:
a product of two vectors beside a perceptron on two others, joined by one last
layer, without dropout and regularisation.

Every user has one row of one table, the part for the product first, and so has
every item: what is looked up together lies together.
"""

from collections.abc import Callable
import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

# A table is split by rows over the model axis, and its optimizer's buffers as
# the table is; the rest is on every device.
PARTITION_RULES = (
  (r'tables/(user|item)$', P('model', None)),
  (r'.*', P()),
)

_TABLE_INIT = nnx.initializers.normal(0.01)


@dataclasses.dataclass(frozen=True)
class Size:
  """Users, items, and widths.

  `layers` begins with the width of the perceptron's input, half of it from the
  user and half from the item, so four numbers make three layers. Tables are
  padded to a multiple of `row_multiple` rows; nothing looks those up.
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
        'Expected positive sizes and two layers or more; came '
        f'{counts} and {self.layers}.'
      )
    if self.layers[0] % 2:
      raise ValueError(
        "Expected an even input width, half of it the user's; came "
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
  """What is done with a user's row and an item's: their logit.

  Computes in `dtype` from parameters in float32; logits are float32.
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

    The first layer is a sum of what it makes of the user and of the item, so
    each is computed once where it is in many pairs: with `pick`, `items` is
    [I, row] and `pick` turns what was computed for each, [I, width], into what
    each pair needs, [..., width], against which users [..., 1, row] broadcast.
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
  # Drawn before it is padded, so the padding changes no draw.
  drawn = _TABLE_INIT(rngs.params(), (rows, size.row_width), jnp.float32)
  return jnp.pad(drawn, ((0, -rows % size.row_multiple), (0, 0)))


def _linear(width: int, out: int, kernel_init, dtype, rngs) -> nnx.Linear:
  """A layer whose bias starts as in PyTorch: uniform up to width ** -0.5."""
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
