"""Scores of moves in a search, and the noise at its root."""

# B games, A actions.

import math

import jax
import jax.numpy as jnp

# Added to the score of illegal moves.
ILLEGAL = -1000.0
# Weight of exploration, twice that of AlphaZero.
_BASE = 19652.0
_INIT = 1.25
# Tries of a draw of noise; see `_log_gamma`.
_TRIES = 6


def u_scale(visits: jax.Array) -> jax.Array:
  """Weight of exploration at nodes with `visits` int32 [...]."""
  return 2.0 * (jnp.log1p((1.0 + visits.astype(jnp.float32)) / _BASE) + _INIT)


def action_scores(
  *,
  visits: jax.Array,
  totals: jax.Array,
  priors: jax.Array,
  sign: jax.Array,
  weight: jax.Array,
) -> jax.Array:
  """Scores of moves for player `sign` [B]: all [B, A] -> float32 [B, A].

  Q * sign + `weight` [B] * P / (1 + N), where Q = W / (1 + N); priors below 0
  mark illegal moves.
  """
  count = 1.0 + visits.astype(jnp.float32)
  value = sign[:, None] * totals / count
  explore = weight[:, None] * jnp.maximum(priors, 0.0) / count
  return value + explore + jnp.where(priors < 0, ILLEGAL, 0.0)


def root_noise(key: jax.Array, legal: jax.Array, alpha: float) -> jax.Array:
  """Dirichlet noise over legal bool [B, A] -> float32 [B, A], 0 elsewhere."""
  # In logarithms, since most of it is below the smallest float32.
  draws = _log_gamma(key, alpha, legal.shape)
  return jnp.where(legal, jax.nn.softmax(draws, axis=-1, where=legal), 0.0)


def _log_gamma(key: jax.Array, alpha: float, shape) -> jax.Array:
  """Logarithms of draws from Gamma(alpha), alpha > 0: float32 of a shape.

  Rejection sampling (Marsaglia and Tsang, 2000), with a fixed number of tries
  at once, each accepted with a probability of 0.95, so that one draw in 4e8
  accepts none and is the mode. `jax.random.loggamma` repeats until all draws
  are accepted, with a key for each: nested loops that took a fifth of the time
  that self-play on 5x5 spent outside the net.
  """
  of_tries, of_accepting, of_boost = jax.random.split(key, 3)
  tries = (_TRIES, *shape)
  # A draw of Gamma(alpha + 1), which `boost` turns into one of Gamma(alpha).
  d = alpha + 1.0 - 1.0 / 3.0
  x = jax.random.normal(of_tries, tries)
  cube = (1.0 + x / math.sqrt(9.0 * d)) ** 3
  log_cube = jnp.log(jnp.maximum(cube, jnp.finfo(jnp.float32).tiny))
  log_u = jnp.log1p(-jax.random.uniform(of_accepting, tries))
  bound = 0.5 * x**2 + d - d * cube + d * log_cube
  accepted = (cube > 0) & (log_u < bound)
  first = jnp.argmax(accepted, axis=0, keepdims=True)
  drawn = jnp.take_along_axis(log_cube, first, axis=0)[0]
  drawn = jnp.where(accepted.any(axis=0), drawn, 0.0)
  boost = jnp.log1p(-jax.random.uniform(of_boost, shape)) / alpha
  return math.log(d) + drawn + boost
