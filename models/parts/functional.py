"""The bridge between a module and arrays: `init` and `apply` as functions."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import nnx
import jax


@dataclasses.dataclass(frozen=True)
class Functional:
  """A module taken apart, so that only `jax.*` transforms ever meet it.

  Both trees hold plain arrays: flattening wrapped variables would cost more
  than dispatching a small step.
  """

  build: Callable[[nnx.Rngs], nnx.Module]
  graph: nnx.GraphDef

  @classmethod
  def of(cls, build: Callable[[nnx.Rngs], nnx.Module]) -> 'Functional':
    """Learns the structure of what `build` makes; allocates nothing."""
    graph, _, stats = _split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    if jax.tree.leaves(nnx.filter_state(stats, nnx.RngState)):
      raise ValueError(
        'Expected a module that is handed its random keys when it is called; '
        'got one that stores an nnx.Rngs of its own.'
      )
    return cls(build, graph)

  def init(self, key: jax.Array) -> tuple[Any, Any]:
    """Draws new parameters; returns `(params, stats)`."""
    _, params, stats = _split(self.build(nnx.Rngs(key)))
    return nnx.as_pure(params), nnx.as_pure(stats)

  def apply(self, params, stats, *args, **kwargs) -> tuple[Any, Any]:
    """Calls the module; returns `(output, stats)`, stats as it left them."""
    module = self.merged(params, stats)
    output = module(*args, **kwargs)
    return output, nnx.as_pure(_split(module)[2])

  def merged(self, params, stats) -> nnx.Module:
    """The module itself, to call another of its methods inside a transform."""
    return nnx.merge(self.graph, params, stats)


def _split(module: nnx.Module):
  """The structure, what is trained, and every other state."""
  return nnx.split(module, nnx.Param, ...)
