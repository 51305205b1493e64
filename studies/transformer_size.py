"""Flags of a Transformer's size, and fresh weights, for what times it."""

from absl import flags
import jax

from models import transformer
from models.parts import functional

_WIDTH = flags.DEFINE_integer('width', 512, 'Width of the model.')
_LAYERS = flags.DEFINE_integer('layers', 6, 'Layers of either stack.')
_VOCABULARY = flags.DEFINE_integer('vocabulary', 33_708, 'Tokens.')


def size() -> transformer.Size:
  """Size that the flags ask for, with the usual heads and hidden units."""
  width = _WIDTH.value
  return transformer.Size(
    _VOCABULARY.value, _LAYERS.value, width, max(1, width // 64), 4 * width
  )


def weights(size: transformer.Size):
  """Parameters, always the same."""
  model = functional.Functional.of(
    lambda rngs: transformer.Transformer(size, rngs=rngs)
  )
  params, _ = jax.jit(model.init)(jax.random.key(0, impl='rbg'))
  return params
