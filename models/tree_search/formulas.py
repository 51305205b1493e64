"""The formulas by which a search prefers one move to another."""

# B games, A actions.

import jax
import jax.numpy as jnp

# What is added to the score of an illegal move.
ILLEGAL = -1000.0
# Of the weight of exploration, as in AlphaZero, which has half of it.
_BASE = 19652.0
_INIT = 1.25


def u_scale(visits: jax.Array) -> jax.Array:
  """How much exploration weighs at nodes of `visits` int32 [...]."""
  return 2.0 * (jnp.log1p((1.0 + visits.astype(jnp.float32)) / _BASE) + _INIT)


def action_scores(
  *,
  visits: jax.Array,
  totals: jax.Array,
  priors: jax.Array,
  sign: jax.Array,
  weight: jax.Array,
) -> jax.Array:
  """What `sign` [B] thinks of its moves: all [B, A] -> float32 [B, A].

  Q * sign + `weight` [B] * P / (1 + N), where Q = W / (1 + N); priors below 0
  are of illegal moves.
  """
  count = 1.0 + visits.astype(jnp.float32)
  value = sign[:, None] * totals / count
  explore = weight[:, None] * jnp.maximum(priors, 0.0) / count
  return value + explore + jnp.where(priors < 0, ILLEGAL, 0.0)


def root_noise(key: jax.Array, legal: jax.Array, alpha: float) -> jax.Array:
  """Dirichlet noise over legal bool [B, A] -> float32 [B, A], 0 elsewhere."""
  # In logarithms, since most of it is below what a float32 can hold.
  draws = jax.random.loggamma(key, jnp.float32(alpha), legal.shape)
  return jnp.where(legal, jax.nn.softmax(draws, axis=-1, where=legal), 0.0)
