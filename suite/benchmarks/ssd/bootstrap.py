"""Makes the backbone that SSD tiny starts from: it tells single shapes apart.

This stands for ImageNet, whose photos show one thing each. The stages are those
of the detector, but the last halves its input, as a ResNet's does; the detector
keeps its size.
"""

import dataclasses

from absl import logging
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.coco import read as coco
from input_pipelines.coco import tiny
from input_pipelines.writing import recipe, weights
from models import ssd
from models.parts.functional import Functional
from suite.benchmarks import ssd as benchmark
from suite.benchmarks.ssd import start
from suite.benchmarks.ssd.task import size_of
from suite.run.sharding import path_of

STEPS = 200
_SEED = 21
_ROWS, _SIDE = 48, 48  # images of a step, and pixels of a side
_SIZES = (12, 40)  # pixels of a shape
_RATE, _DECAY = 3e-3, 1e-3


class Classifier(nnx.Module):
  """The backbone, a mean over places and a layer."""

  def __init__(self, size: ssd.Size, *, rngs: nnx.Rngs):
    strides = (*size.strides[:-1], 2)
    self.backbone = ssd.Backbone(
      dataclasses.replace(size, strides=strides),
      bn_span=None,
      dtype=jnp.dtype('float32'),
      rngs=rngs,
    )
    self.dense = nnx.Linear(size.widths[-1], len(tiny.SHAPES), rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Images [N, S, S, 3] -> logits [N, shapes]."""
    return self.dense(self.backbone(images, train=True).mean(axis=(1, 2)))


def build(order: recipe.Order) -> str:
  """Trains and writes the start; returns its directory."""
  size = benchmark.BENCHMARK.size('tiny')
  found = train(size.hparams, progress=order.stage('Training', 'steps'))
  return weights.write(
    order.data_dir,
    size.start.name,
    start.VERSION,
    found,
    {'steps': STEPS, 'seed': _SEED},
    summary='The backbone that SSD tiny starts from.',
  )


def train(
  hp: benchmark.Hparams, *, steps: int = STEPS, progress=None
) -> dict[str, np.ndarray]:
  """The backbone's arrays by path, after some steps of AdamW."""
  model = Functional.of(lambda rngs: Classifier(size_of(hp), rngs=rngs))
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

  params, stats = model.init(jax.random.key(_SEED))
  opt = optimizer.init(params)
  for number in range(steps):
    images, labels = examples(np.random.default_rng((_SEED, number)))
    params, stats, opt, hits = step(params, stats, opt, images, labels)
    if progress:
      progress(number + 1, steps)
    if number % 50 == 49:
      logging.info('Step %d: %.0f %% right', number + 1, 100 * hits)
  kept = {
    'params': {'backbone': params['backbone']},
    'stats': {'backbone': stats['backbone']},
  }
  return {
    path_of(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(kept)
  }


def examples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Images float32 [N, S, S, 3] of one shape each, normalised, and labels."""
  images, labels = tiny.single(rng, rows=_ROWS, side=_SIDE, sizes=_SIZES)
  images = (images / 255 - coco.MEAN_RGB) / coco.STDDEV_RGB
  return images.astype(np.float32), labels
