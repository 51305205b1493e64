"""Makes the checkpoint that BERT tiny starts from.

From random weights masked tokens are not learned within minutes: the model
copies the tenth that is not hidden, and guesses the commonest token. So the
positions begin as sines, and the heads of the first layer begin by attending to
one neighbour each; then a few hundred steps of AdamW lead past that plateau.
"""

import dataclasses

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.reading import dataset
from input_pipelines.wikipedia import read as wikipedia
from input_pipelines.wikipedia import tiny
from input_pipelines.writing import recipe, weights
from suite.benchmarks import bert
from suite.benchmarks.bert import start
from suite.benchmarks.bert.task import BertTask
from suite.run.sharding import path_of

STEPS = 250
_SEED = 20
_RATE, _WARMUP, _BETA_2, _DECAY = 2e-3, 100, 0.99, 0.01
_STDDEV = 0.1  # as 0.02 at the width of the full model
_OFFSETS = (-1, 1, -2, 2)  # where the first layer's heads look
_GAIN = 3.0  # of their queries and keys
_AMPLITUDE = 1.4 * _STDDEV  # of the sines


def build(order: recipe.Order) -> str:
  """Trains and writes the start; returns its directory."""
  try:
    directory = dataset.find(order.data_dir, tiny.NAME)
  except FileNotFoundError:
    directory = tiny.build(order.data_dir)
  size = bert.BENCHMARK.size('tiny')
  params = train(
    BertTask(size.hparams, size.data),
    directory,
    progress=order.stage('Training', 'steps'),
  )
  found = {
    f'params/{path_of(path)}': np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  return weights.write(
    order.data_dir,
    size.start.name,
    start.VERSION,
    found,
    {'steps': STEPS, 'seed': _SEED},
    summary='Weights that BERT tiny starts from.',
  )


def train(task, directory: str, *, steps: int = STEPS, progress=None):
  """Parameters after some steps of AdamW, from `primed` ones."""
  hp = bert.BENCHMARK.size('tiny').hparams
  rate = optax.warmup_constant_schedule(0.0, _RATE, _WARMUP)
  task.optimizer = optax.adamw(rate, b2=_BETA_2, weight_decay=_DECAY)
  state = task.init(jax.random.key(_SEED))
  params = primed(state.params, np.random.default_rng(_SEED))
  state = dataclasses.replace(
    state, params=params, opt=task.optimizer.init(params)
  )
  batches = wikipedia.train_batches(
    directory,
    wikipedia.Shape(hp.global_batch_size, hp.length, hp.predictions),
    batch_size=hp.global_batch_size,
    seed=_SEED,
  )
  step = jax.jit(task.train_step, donate_argnums=0)
  for number in range(steps):
    state, metrics = step(state, next(batches))
    if progress:
      progress(number + 1, steps)
    if number % 50 == 0:
      logging.info('Step %d: loss %.3f', number, metrics['loss'])
  batches.close()
  return state.params


def primed(params, rng: np.random.Generator):
  """Parameters whose first layer looks at the neighbours of each token."""

  def draw(path, leaf):
    name = path_of(path)
    if name.endswith(('bias', 'scale')):
      return leaf
    cut = np.clip(rng.normal(size=leaf.shape), -2, 2)
    return jnp.asarray(_STDDEV * cut, jnp.float32)

  params = jax.tree_util.tree_map_with_path(draw, params)
  encoder = params['encoder']
  places, width = encoder['position'].shape
  rates = 1e4 ** (-2 * np.arange(width // 2) / width)
  angles = np.arange(places)[:, None] * rates
  waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
  encoder['position'] = jnp.asarray(
    _AMPLITUDE * waves.reshape(places, width), jnp.float32
  )
  attention = encoder['blocks']['attention']
  # What a head reads is of positions alone; else a token looks for its like.
  depth = attention['query']['kernel'].shape[-1]
  for name in ('word', 'type'):
    encoder[name] = encoder[name].at[:, :depth].set(0.0)
  for name, turns in (('query', True), ('key', False)):
    kernel = attention[name]['kernel']
    first = _turned(kernel.shape[1:], rates if turns else 0 * rates)
    attention[name]['kernel'] = kernel.at[0].set(first)
  return params


def _turned(shape: tuple[int, int, int], rates: np.ndarray) -> jax.Array:
  """Kernel [W, H, D] that turns the fastest waves by the heads' offsets."""
  _, heads, depth = shape
  kernel = np.zeros(shape, np.float32)
  for head, offset in zip(range(heads), _OFFSETS, strict=True):
    for pair in range(depth // 2):
      angle, at = rates[pair] * offset, 2 * pair
      turn = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
      ]
      kernel[at : at + 2, head, at : at + 2] = _GAIN * np.asarray(turn)
  return jnp.asarray(kernel)
