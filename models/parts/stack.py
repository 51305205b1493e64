"""Equal blocks one after the other, which one program runs."""

from collections.abc import Callable

from flax import nnx
import jax

from models.parts import attention


class Stack(nnx.Module):
  """Blocks whose parameters have the layers as their first dimension."""

  def __init__(
    self,
    block: Callable[[nnx.Rngs], nnx.Module],
    layers: int,
    *,
    compute: attention.Compute,
    rngs: nnx.Rngs,
  ):
    """`block` makes one, which is called as `block(x, *shared, drop_key)`."""
    keys = jax.random.split(rngs.params(), layers)
    self.blocks = jax.vmap(lambda key: block(nnx.Rngs(key)))(keys)
    self._layers = layers
    self._compute = compute

  def __call__(self, x: jax.Array, *shared, drop_key) -> jax.Array:
    """x [B, L, W] through every block, each with `shared` and its own key."""

    def body(x, layer):
      block, key = layer
      return block(x, *shared, key), None

    if self._compute.remat:
      body = jax.checkpoint(body)
    keys = attention.split(drop_key, self._layers)
    unroll = min(self._compute.unroll, self._layers)
    x, _ = jax.lax.scan(body, x, (self.blocks, keys), unroll=unroll)
    return x
