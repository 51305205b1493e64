"""LAMB: Adam whose step has the length of the weights, variable by variable."""

from collections.abc import Mapping
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from suite.run import optimizers, sharding


def clipped(grads: Any, norm: float) -> Any:
  """Gradients scaled down until their global norm is at most `norm`.

  Of gradients that are one global array each, as in a train step, it is the
  norm after the reduction over devices; of gradients of a part, before it.
  """
  if math.isinf(norm):
    return grads
  scale = norm / jnp.maximum(optax.tree.norm(grads), norm)
  return jax.tree.map(lambda g: g * scale, grads)


def lamb(
  schedule: optax.Schedule,
  *,
  beta_1: float,
  beta_2: float,
  epsilon: float,
  weight_decay: float,
  clip_norm: float = math.inf,
  skip: str | None = None,
  stacked: Mapping[str, int] | None = None,
) -> optax.GradientTransformation:
  """Layer-wise adaptive moments: Adam whose step is as long as the weights.

      g <- g / max(1, |all g| / clip_norm)
      m <- beta_1 m + (1 - beta_1) g
      v <- beta_2 v + (1 - beta_2) g^2
      u = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
      u <- u + weight_decay w
      w <- w - rate (|w| / |u|) u

  A ratio is that of one variable, and where a norm is 0 it is 1. Paths that
  match `skip` have ratio 1 and no decay. Layers that lie in one array, and
  parts of a layer that do, are variables of their own: `stacked` maps a regex
  of paths to how many of the first dimensions number them; the first that
  matches counts. `optax.lamb` has the same core and none of this.

  Source: LAMBOptimizer in mlcommons/training,
  retired_benchmarks/bert/lamb_optimizer_v1.py. There the clip is part of it by
  clip_by_global_norm_after_gradient_allreduce; by default each replica clips
  its own gradients before they are added, which is `clipped` of each and no
  `clip_norm`.
  """
  optimizers.check_adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
  if weight_decay < 0 or not clip_norm > 0:
    raise ValueError(
      'Expected weight_decay >= 0 and clip_norm > 0, got '
      f'{weight_decay} and {clip_norm}.'
    )
  decayed = optimizers.decay_mask(skip)
  adam = optax.scale_by_adam(beta_1, beta_2, epsilon)

  def init(params):
    decayed(params)  # Fails here, not in the first step.
    _stacked(stacked, params)
    return adam.init(params)

  def update(grads, state, params=None):
    if params is None:
      raise ValueError(
        'Expected the parameters beside the gradients, got None.'
      )
    rate = schedule(state.count)
    moved, state = adam.update(clipped(grads, clip_norm), state)

    def step(decays, first, u, w):
      if not decays:
        return -rate * u
      u = u + weight_decay * w
      axes = tuple(range(first, u.ndim))
      norms = [
        jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (w, u)
      ]
      usual = (norms[0] > 0) & (norms[1] > 0)
      # Where a norm is 0 the quotient is not used; it must not be NaN.
      ratio = jnp.where(usual, norms[0] / jnp.where(usual, norms[1], 1.0), 1.0)
      return -rate * ratio * u

    updates = jax.tree.map(
      step, decayed(params), _stacked(stacked, params), moved, params
    )
    return updates, state

  return optax.GradientTransformation(init, update)


def _stacked(stacked: Mapping[str, int] | None, params):
  """First dimensions that number variables, in a tree like `params`."""
  used = set()

  def first(path, _):
    for pattern, dimensions in (stacked or {}).items():
      if re.search(pattern, sharding.path_of(path)):
        used.add(pattern)
        return dimensions
    return 0

  found = jax.tree_util.tree_map_with_path(first, params)
  if idle := [*((stacked or {}).keys() - used)]:
    raise ValueError(f'Expected {idle} to match a parameter path; none does.')
  return found
