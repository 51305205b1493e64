r"""Train steps of the Transformer here and in PyTorch: seconds of each.

Both start from the same weights and see the same batches; either step is the
forward pass, the loss, the gradients and Adam. Dropout is off, so that the
losses can be compared, unless `--dropout` is given.

  python studies/transformer_pytorch.py --dtypes=float32,bfloat16 \
    --width=512 --layers=6 --rows=16 --length=64

It needs what the tests need: pip install -e '.[dev]'.
"""

import functools
import math
import os
import statistics
import sys
import time

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models import transformer
from models.parts import attention, functional
from studies import transformer_size
from suite.run import optimizers
from tests.models import modules_peer

_DTYPES = flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Of compute.')
_ROWS = flags.DEFINE_integer('rows', 16, 'Sentence pairs in a batch.')
_LENGTH = flags.DEFINE_integer('length', 64, 'Tokens of either side.')
_UNROLL = flags.DEFINE_integer('unroll', 1, 'Layers in a turn of our scan.')
_DROPOUT = flags.DEFINE_float('dropout', 0.0, 'Share dropped, by both.')
_STEPS = flags.DEFINE_integer('steps', 5, 'Steps that are timed.')

RATE, BETAS, EPSILON = 1e-4, (0.9, 0.997), 1e-9


def batch(vocabulary: int, rows: int, length: int):
  """Source and target int32 [rows, length], the last quarter padded in half."""
  draws = np.random.default_rng(0)
  sides = draws.integers(2, vocabulary, (2, rows, length)).astype(np.int32)
  sides[:, rows // 2 :, -(length // 4) :] = transformer.PAD
  return sides


def ours(size: transformer.Size, dtype: str, params):
  """A function that takes a step on (source, target) and returns its loss."""
  compute = attention.Compute(
    dtype=jnp.dtype(dtype), dropout=_DROPOUT.value, unroll=_UNROLL.value
  )
  model = functional.Functional.of(
    lambda rngs: transformer.Transformer(size, compute=compute, rngs=rngs)
  )
  optimizer = optimizers.adam_tf(
    lambda count: RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON
  )

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, opt, source, target, key):
    def loss(params):
      logits, _ = model.apply(params, {}, source, target, drop_key=key)
      losses = transformer.token_losses(logits, target, smoothing=0.1)
      return losses.sum() / (target != transformer.PAD).sum()

    value, grads = jax.value_and_grad(loss)(params)
    updates, opt = optimizer.update(grads, opt)
    return optax.apply_updates(params, updates), opt, value

  params = jax.tree.map(jnp.array, params)  # a copy: the step consumes it
  held = [params, optimizer.init(params)]
  key = jax.random.key(0, impl='rbg') if _DROPOUT.value else None

  def once(source, target):
    *held[:], loss = step(*held, source, target, key)
    return float(loss)

  return once


def theirs(size: transformer.Size, dtype: str, params):
  """The same of PyTorch's modules, under autocast where it is bfloat16."""
  peer = modules_peer.Peer(size, params, dropout=_DROPOUT.value)
  peer.train()
  optimizer = torch.optim.Adam(
    peer.parameters(), lr=RATE, betas=BETAS, eps=EPSILON
  )
  cast = functools.partial(
    torch.autocast, 'cpu', dtype=torch.bfloat16, enabled=dtype == 'bfloat16'
  )

  def once(source, target):
    optimizer.zero_grad()
    with cast():
      logits = peer(torch.tensor(source), torch.tensor(target))
    loss = modules_peer.loss(logits.float(), torch.tensor(target), 0.1)
    loss.backward()
    optimizer.step()
    return loss.item()

  return once


def timed(name: str, once, source, target) -> float:
  """The median of the seconds of a step, after a first one."""
  losses, seconds = [once(source, target)], []
  for _ in range(_STEPS.value):
    start = time.perf_counter()
    losses.append(once(source, target))
    seconds.append(time.perf_counter() - start)
    print(f'{name}: {seconds[-1]:.2f} s, loss {losses[-1]:.5f}', flush=True)
  if not math.isfinite(losses[-1]):
    raise RuntimeError(f'Expected losses that are numbers, got {losses}.')
  return statistics.median(seconds)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  size = transformer_size.size()
  params = transformer_size.weights(size)
  source, target = batch(size.vocabulary, _ROWS.value, _LENGTH.value)
  for dtype in _DTYPES.value:
    seconds = [
      timed(f'{dtype}, {name}', make(size, dtype, params), source, target)
      for name, make in (('PyTorch', theirs), ('here', ours))
    ]
    tokens = int((target != transformer.PAD).sum())
    print(
      f'{dtype}: here {tokens / seconds[1]:.0f} target tokens a second, '
      f'{seconds[0] / seconds[1]:.2f} times as fast as PyTorch'
    )


if __name__ == '__main__':
  app.run(main)
