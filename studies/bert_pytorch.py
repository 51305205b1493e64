r"""Train steps of BERT here and in transformers' PyTorch: samples a second.

Both start from the same weights and see the same samples; a step is the forward
pass, both losses, the gradients and LAMB, in float32, without dropout. Ours is
made of rows of one sample and of rows that samples share; transformers pads.

  python studies/bert_pytorch.py --width=256 --layers=4 --samples=16

It needs what the tests need: pip install -e '.[dev]'.
"""

import dataclasses
import os
import statistics
import sys
import time

from absl import app, flags, logging
import jax
import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.text import packing
from input_pipelines.wikipedia import read as wikipedia
from models import bert
from suite import benchmark as benchmark_lib
from suite.benchmarks.bert.task import BertTask
from tests.models import bert_peer

_WIDTH = flags.DEFINE_integer('width', 256, 'Of the model; heads are of 64.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Of the model.')
_SAMPLES = flags.DEFINE_integer('samples', 16, 'Of a batch.')
_STEPS = flags.DEFINE_integer('steps', 4, 'Steps that are timed.')
_DEVICE = flags.DEFINE_string('device', 'cpu', "PyTorch's, as cuda.")

_SHARING = 8  # samples that may share a row


def drawn(count: int, length: int, vocabulary: int, seed: int):
  """Samples of lengths as the full data set's: 0.49 of a row on average.

  A fifth is full, the rest even; published are 2.03 samples in a row.
  """
  rng = np.random.default_rng(seed)
  full = rng.random(count) < 0.2
  lengths = np.where(full, length, rng.integers(5, 0.75 * length, count))
  tokens = rng.integers(5, vocabulary, lengths.sum())
  predictions = np.maximum(1, np.round(0.15 * lengths)).astype(np.int64)
  predictions = np.minimum(predictions, int(0.15 * length))
  places = [
    np.sort(rng.choice(n - 2, p, replace=False)) + 1
    for n, p in zip(lengths, predictions, strict=True)
  ]
  return wikipedia.Samples(
    tokens=tokens.astype(np.uint16),
    length=lengths,
    first=lengths // 2,
    predicted=np.concatenate(places).astype(np.uint16),
    labels=rng.integers(5, vocabulary, predictions.sum()).astype(np.uint16),
    predictions=predictions,
    is_random=rng.integers(0, 2, count).astype(np.uint8),
  )


def padded(samples, hp):
  """A batch with a row for each sample."""
  shape = wikipedia.Shape(len(samples), hp.length, hp.predictions)
  every = np.arange(len(samples))
  return wikipedia.fill(samples, every, every, shape, len(samples))


def shared(samples, hp):
  """A batch of the same samples in as few rows as hold them."""
  sides = np.stack([samples.length, np.ones_like(samples.length)], axis=1)
  rows = packing.pack(np.arange(len(samples)), sides, (hp.length, _SHARING))
  counts = np.diff(rows.ends, prepend=0)
  predictions = hp.predictions + (_SHARING + 1) // 2
  shape = wikipedia.Shape(len(rows), hp.length, predictions, _SHARING)
  row = np.repeat(np.arange(len(rows)), counts)
  return wikipedia.fill(samples, rows.members, row, shape, len(rows))


def ours(task, params):
  """A function that takes a step on a batch and returns its loss."""
  state = task.init(jax.random.key(0, impl='rbg'))
  held = [
    dataclasses.replace(state, params=jax.tree.map(jax.numpy.array, params))
  ]
  step = jax.jit(task.train_step, donate_argnums=0)

  def once(batch):
    held[0], metrics = step(held[0], batch)
    return float(metrics['loss'])

  return once


def theirs(size, params, hp):
  """The same of transformers' model, with LAMB by PyTorch's operators."""
  model = bert_peer.peer(size, params).to(_DEVICE.value).train()
  moments = {
    name: [torch.zeros_like(p), torch.zeros_like(p)]
    for name, p in model.named_parameters()
  }
  steps = [0]

  def once(batch):
    wanted = np.full(batch['tokens'].shape, -100)
    for row, col in zip(*np.nonzero(batch['predicted_weight']), strict=True):
      wanted[row, batch['predicted'][row, col]] = batch['labels'][row, col]

    def tensor(values):
      return torch.tensor(values.astype(np.int64), device=_DEVICE.value)

    model.zero_grad()
    loss = model(
      input_ids=tensor(batch['tokens']),
      attention_mask=tensor(batch['segments']),
      token_type_ids=tensor(batch['types']),
      labels=tensor(wanted),
      next_sentence_label=tensor(batch['is_random'][:, 0]),
    ).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), hp.clip_norm)
    steps[0] += 1
    _lamb(model, moments, steps[0], hp)
    return loss.item()

  return once


@torch.no_grad()
def _lamb(model, moments, number, hp):
  rate = hp.base_learning_rate * (1 - (number - 1) / hp.training_steps)
  for name, p in model.named_parameters():
    m, v = moments[name]
    m.lerp_(p.grad, 1 - hp.beta_1)
    v.mul_(hp.beta_2).addcmul_(p.grad, p.grad, value=1 - hp.beta_2)
    root = (v / (1 - hp.beta_2**number)).sqrt_().add_(hp.epsilon)
    update = m / (1 - hp.beta_1**number) / root
    ratio = 1.0
    if 'LayerNorm' not in name and 'bias' not in name:
      update.add_(p, alpha=hp.weight_decay)
      ratio = (p.norm() / update.norm()).item()
    p.add_(update, alpha=-rate * ratio)


def timed(name: str, once, batches) -> float:
  """The median of the seconds of a step, after a first one."""
  losses, seconds = [once(batches[0])], []
  for batch in batches[1:]:
    begun = time.perf_counter()
    losses.append(once(batch))
    seconds.append(time.perf_counter() - begun)
  shown = ', '.join(f'{loss:.4f}' for loss in losses)
  print(
    f'{name}: {statistics.median(seconds):.2f} s, losses {shown}', flush=True
  )
  return statistics.median(seconds)


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  declared = benchmark_lib.get('bert').size('reference')
  hp = dataclasses.replace(
    declared.hparams,
    global_batch_size=_SAMPLES.value,
    width=_WIDTH.value,
    heads=_WIDTH.value // 64,
    ffn=4 * _WIDTH.value,
    layers=_LAYERS.value,
    dropout=0.0,
  )
  task = BertTask(hp, declared.data)
  size = bert.Size(
    hp.vocabulary, hp.length, hp.layers, hp.width, hp.heads, hp.ffn
  )
  params = jax.device_get(task.init_model(jax.random.key(1, impl='rbg'))[0])
  several = [
    drawn(_SAMPLES.value, hp.length, hp.vocabulary, seed)
    for seed in range(_STEPS.value + 1)
  ]
  alone = [padded(each, hp) for each in several]
  together = [shared(each, hp) for each in several]
  most = max(len(batch['weight']) for batch in together)
  together = [
    {k: np.pad(v, [(0, most - len(v))] + [(0, 0)] * (v.ndim - 1))
     for k, v in batch.items()}
    for batch in together
  ]  # fmt: skip
  seconds = [
    timed('PyTorch, padded', theirs(size, params, hp), alone),
    timed('here, padded', ours(task, params), alone),
    timed(f'here, {most} rows', ours(task, params), together),
  ]
  print(
    f'{_SAMPLES.value / seconds[1]:.2f} samples a second padded, '
    f'{seconds[0] / seconds[1]:.2f} times as fast as PyTorch; in shared rows '
    f'{_SAMPLES.value / seconds[2]:.2f}, {seconds[1] / seconds[2]:.2f} times '
    'as many'
  )


if __name__ == '__main__':
  app.run(main)
