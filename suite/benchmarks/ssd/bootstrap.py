"""Makes the backbone that SSD tiny starts from: it tells single shapes apart.

This stands for ImageNet, whose photos show one thing each. The stages are those
of the detector, but the last halves its input, as a ResNet's does; the detector
keeps its size.
"""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.coco import read as coco
from input_pipelines.coco import tiny
from input_pipelines.writing import recipe, weights
from models import ssd
from models.parts.functional import Functional
from suite.benchmarks import ssd as benchmark
from suite.benchmarks.ssd import start
from suite.benchmarks.ssd.task import size_of
from suite.run import classifier
from suite.run.sharding import path_of

STEPS = 200
_SEED = 21


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
  params, stats = classifier.train(
    model, examples, seed=_SEED, steps=steps, progress=progress
  )
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
  images, labels = tiny.single(rng)
  images = (images / 255 - coco.MEAN_RGB) / coco.STDDEV_RGB
  return images.astype(np.float32), labels
