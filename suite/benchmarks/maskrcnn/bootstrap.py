"""Makes the backbone that Mask R-CNN tiny starts from: it tells shapes apart.

This stands for ImageNet, whose photos show one thing each. The backbone is the
detector's with batch norms, whose moments are folded into a scale and a bias
when it has been trained.
"""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.coco import tiny
from input_pipelines.writing import recipe, weights
from models.maskrcnn import net
from models.parts import layers
from models.parts.functional import Functional
from suite.benchmarks import maskrcnn as benchmark
from suite.benchmarks.maskrcnn import start
from suite.benchmarks.maskrcnn.task import normalised, size_of
from suite.run import classifier
from suite.run.sharding import path_of

STEPS = 400
_SEED = 21
_EPSILON = 1e-5


class Classifier(nnx.Module):
  """The backbone, a mean over places and a layer."""

  def __init__(self, size: net.Size, *, rngs: nnx.Rngs):
    self.backbone = net.Backbone(
      size,
      norm=functools.partial(_TrainedNorm, rngs=rngs),
      dtype=jnp.dtype('float32'),
      rngs=rngs,
    )
    channels = 4 * size.width * 2 ** (len(size.blocks) - 1)
    self.dense = nnx.Linear(channels, len(tiny.SHAPES), rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Images uint8 [N, S, S, 3] -> logits [N, shapes]."""
    sizes = jnp.full((len(images), 2), images.shape[1])
    found = self.backbone(normalised(images, sizes))[-1]
    return self.dense(found.mean(axis=(1, 2)))


class _TrainedNorm(nnx.Module):
  """A batch norm in the place of `net.FrozenNorm`."""

  def __init__(self, channels: int, *, rngs: nnx.Rngs):
    self.norm = layers.GroupedBatchNorm(
      channels, span=None, epsilon=_EPSILON, rngs=rngs
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """[N, H, W, C] -> [N, H, W, C]."""
    return self.norm(x, train=True)


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
    summary='The backbone that Mask R-CNN tiny starts from.',
  )


def train(
  hp: benchmark.Hparams, *, steps: int = STEPS, progress=None
) -> dict[str, np.ndarray]:
  """The backbone's arrays by path, after some steps of AdamW."""
  model = Functional.of(lambda rngs: Classifier(size_of(hp), rngs=rngs))
  params, stats = classifier.train(
    model, tiny.single, seed=_SEED, steps=steps, progress=progress
  )
  return folded(params['backbone'], stats['backbone'])


def folded(params, stats) -> dict[str, np.ndarray]:
  """Arrays of the frozen backbone by path, from those of the trained one."""
  trained = {
    path_of(path): np.asarray(leaf)
    for tree in (params, stats)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  found = {}
  for path, values in trained.items():
    if path.endswith('/kernel'):
      found[f'params/backbone/{path}'] = values
    elif path.endswith('/norm/scale'):
      norm = path.removesuffix('/scale')
      ours = f'stats/backbone/{norm.removesuffix("/norm")}'
      scale = values / np.sqrt(trained[f'{norm}/var'] + _EPSILON)
      found[f'{ours}/scale'] = scale
      shift = trained[f'{norm}/bias'] - trained[f'{norm}/mean'] * scale
      found[f'{ours}/bias'] = shift
  return found
