r"""Beam search here and in transformers: seconds for the same translations.

Both have the same weights, beams, sources and lengths, in float32, and the
penalty of length is 0, where their scores agree. A random model hardly ever
ends a sentence, so both write `--extra` tokens more than the sources have.

  python studies/beam_search_pytorch.py --width=512 --layers=6 \
    --rows=16 --length=32 --extra=50 --beams=4

It needs what the tests need: pip install -e '.[dev]'. Programs are compiled
before anything is timed, and what is printed is the median of `--repeats`. What
a search could gain at most is what is not multiplying matrices: those products
alone are timed as well.
"""

import os
import statistics
import sys
import time

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models import transformer
from models.parts import attention, functional
from studies import transformer_size
from tests.models.parts import translation_peer

_ROWS = flags.DEFINE_integer('rows', 16, 'Sentences in a batch.')
_LENGTH = flags.DEFINE_integer('length', 32, 'Tokens of the longest source.')
_EXTRA = flags.DEFINE_integer('extra', 50, 'Tokens more than the sources.')
_BEAMS = flags.DEFINE_integer('beams', 4, 'Hypotheses of a sentence.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Batches that are timed.')


def sources(vocabulary: int, rows: int, length: int) -> np.ndarray:
  """int32 [rows, length]: sentences from half the length up, then padding."""
  draws = np.random.default_rng(0)
  tokens = draws.integers(2, vocabulary, (rows, length)).astype(np.int32)
  lengths = draws.integers(length // 2, length + 1, (rows, 1))
  lengths[0] = length
  place = np.arange(length)[None]
  tokens = np.where(place < lengths, tokens, transformer.PAD)
  return np.where(place == lengths - 1, transformer.END, tokens)


def timed(name: str, once) -> tuple[np.ndarray, float]:
  """The result of `once`, and the median of its seconds after a first call."""
  result, seconds = once(), []
  for number in range(_REPEATS.value):
    start = time.perf_counter()
    once()
    seconds.append(time.perf_counter() - start)
    print(f'{name}, batch {number + 1}: {seconds[-1]:.2f} s', flush=True)
  return result, statistics.median(seconds)


def products(size: transformer.Size, rows: int, steps: int):
  """Function that multiplies `rows` by all matrices of a decoder, so often."""
  square, hidden = (size.width, size.width), (size.width, size.ffn)
  # Four of attention to what was written, two of attention to the source.
  shapes = size.layers * [*6 * [square], hidden, hidden[::-1]]
  keys = jax.random.split(jax.random.key(0, impl='rbg'), len(shapes) + 1)
  draw = lambda key, shape: jax.random.normal(key, shape) / shape[0] ** 0.5  # noqa: E731
  matrices = [draw(*each) for each in zip(keys[1:], shapes, strict=True)]
  table = draw(keys[0], (size.vocabulary, size.width))

  @jax.jit
  def run(matrices, table):
    def step(_, x):
      for matrix in matrices:
        x = x @ matrix
      # All logits are needed for it, and nothing is done with it.
      logits = jnp.einsum('RW,VW->RV', x, table)
      return x + 1e-9 * logits.max(axis=1, keepdims=True)

    return jax.lax.fori_loop(0, steps, step, jnp.ones((rows, size.width)))

  return lambda: np.asarray(run(matrices, table))


def compare(size: transformer.Size, source: np.ndarray) -> None:
  """Prints the seconds of either and how many translations are the same."""
  model = functional.Functional.of(
    lambda rngs: transformer.Transformer(
      size, compute=attention.Compute(dropout=0.0), rngs=rngs
    )
  )
  params = transformer_size.weights(size)
  settings = {'beams': _BEAMS.value, 'extra_length': _EXTRA.value}

  @jax.jit
  def translate(params, source):
    module = model.merged(params, {})
    return module.translate(source, alpha=0.0, **settings)

  def here():
    return jax.block_until_ready(translate(params, source))

  longest = source.shape[1] + _EXTRA.value
  peer = translation_peer.arrange(size, params, longest=longest + 1)
  found, ours = timed('here', here)
  other, theirs = timed(
    'transformers',
    lambda: translation_peer.generate(peer, source, **settings),
  )
  best = np.asarray(found.tokens[:, 0])
  same = (best == translation_peer.cut(other, longest)).all(axis=1).mean()
  print(f'{found.steps} steps here, {other.shape[1]} in transformers')
  print(f'{100 * same:.0f} % of the translations are the same')
  print(f'here {ours:.2f} s, transformers {theirs:.2f} s a batch')
  print(f'{theirs / ours:.2f} times as fast')
  beams = source.shape[0] * _BEAMS.value
  _, bare = timed('the products alone', products(size, beams, int(found.steps)))
  print(
    f'the products alone {bare:.2f} s: a search that cost nothing beside them '
    f'would be {theirs / bare:.2f} times as fast'
  )


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  size = transformer_size.size()
  compare(size, sources(size.vocabulary, _ROWS.value, _LENGTH.value))


if __name__ == '__main__':
  app.run(main)
