"""Trains small classifiers, whose backbones tiny detectors start from."""

from collections.abc import Callable
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import optax

_RATE, _DECAY = 3e-3, 1e-3


def train(
  model: Any,
  examples: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
  *,
  seed: int,
  steps: int,
  progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, Any]:
  """Parameters and moments after some steps of AdamW.

  `model` is a Functional that makes logits of images; `examples` draws these
  and their labels.
  """
  optimizer = optax.adamw(
    optax.cosine_decay_schedule(_RATE, steps), weight_decay=_DECAY
  )

  def loss(params, stats, images, labels):
    logits, stats = model.apply(params, stats, images)
    cross = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1) == labels).mean()
    return cross.mean(), (stats, hits)

  @jax.jit
  def step(params, stats, opt, images, labels):
    grads, (stats, hits) = jax.grad(loss, has_aux=True)(
      params, stats, images, labels
    )
    updates, opt = optimizer.update(grads, opt, params)
    return optax.apply_updates(params, updates), stats, opt, hits

  params, stats = model.init(jax.random.key(seed))
  opt = optimizer.init(params)
  for number in range(steps):
    images, labels = examples(np.random.default_rng((seed, number)))
    params, stats, opt, hits = step(params, stats, opt, images, labels)
    if progress:
      progress(number + 1, steps)
    if number % 50 == 49:
      logging.info('Step %d: %.0f %% right', number + 1, 100 * hits)
  return params, stats
