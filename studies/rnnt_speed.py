r"""RNN-T's parts here and in PyTorch: the front end, the lattice, their memory.

  python studies/rnnt_speed.py --what=input
  python studies/rnnt_speed.py --what=lattice --rows=8
  python studies/rnnt_speed.py --what=memory --rows=16 --frames=321 \
    --symbols=132
  python studies/rnnt_speed.py --what=padding --buckets=1,6,12

Input: CPU milliseconds for a second of speech, step by step, beside soundfile
and PyTorch, which resamples by SciPy to the nearest rate that is a fraction of
twentieths. Lattice: losses and gradients from the same log-chances, beside one
of PyTorch, row after row of the lattice. Memory: bytes that the gradient of the
loss of the joint's numbers needs beside arguments and results, as compiled for
CPUs, with blocks and with all logits at once. Padding: the share of frames of
batches of 1,024 that are padding, on lengths like LibriSpeech's; a batch has
the least of as many shapes as there are buckets.

It needs what the tests need: pip install -e '.[dev]'.
"""

from collections.abc import Callable
import os
import statistics
import sys
import time

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np
from scipy import signal
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.audio import log_mel, resample
from input_pipelines.librispeech import RATE, order, read, tiny
from models.parts import transducer

_WHAT = flags.DEFINE_list('what', ['input'], 'Of these.')
_TURNS = flags.DEFINE_integer('turns', 5, 'Of which medians are taken.')
_SECONDS = flags.DEFINE_float('seconds', 12.0, 'Of an utterance.')
_ROWS = flags.DEFINE_integer('rows', 8, 'Of a batch.')
_FRAMES = flags.DEFINE_integer('frames', 160, 'Of the encoder.')
_SYMBOLS = flags.DEFINE_integer('symbols', 60, 'Of a text.')
_CLASSES = flags.DEFINE_integer('classes', 1024, 'With the blank.')
_JOINT = flags.DEFINE_integer('joint', 512, 'Width.')
_BLOCK = flags.DEFINE_integer('block', 8, 'Frames at a time.')
_BUCKETS = flags.DEFINE_list('buckets', ['1', '6', '12'], 'Numbers of buckets.')

# Quartiles and ends of the seconds of LibriSpeech's training sets, up to 16.7.
_LENGTHS = (1.3, 11.2, 13.9, 15.2, 16.7)
_UTTERANCES = 278_528


def main(argv):
  del argv
  torch.set_num_threads(1)
  for what in _WHAT.value:
    for name, value in _STUDIES[what]().items():
      print(f'{what}: {name}: {value}', flush=True)


def of_input() -> dict[str, str]:
  """CPU milliseconds of each step for a second of speech."""
  rng = np.random.default_rng(0)
  count = int(_SECONDS.value * RATE)
  sound = np.cumsum(rng.normal(size=count)) * np.hanning(count)
  sound = (0.5 * sound / np.abs(sound).max()).astype(np.float32)
  front, data = log_mel.FrontEnd(), tiny.flac(sound)
  slower = resample.resample(sound, 1.07)
  window = torch.hann_window(320)
  filters = torch.tensor(log_mel.mel_filters(80, 512, RATE)).float()

  def theirs():
    x = signal.resample_poly(read.decode(data), 21, 20).astype(np.float32)
    x = torch.from_numpy(x)
    x = x + 1e-5 * torch.randn(len(x))
    x = torch.cat([x[:1], x[1:] - 0.97 * x[:-1]])
    spectrum = torch.stft(
      x, 512, 160, 320, window, return_complex=True, pad_mode='reflect'
    )
    x = torch.log(filters @ spectrum.abs().square() + 1e-20)
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)

  steps: dict[str, Callable] = {
    'decode': lambda: read.decode(data),
    'resample': lambda: resample.resample(sound, 1.07),
    'trim': lambda: front.trimmed(slower),
    'log mel': lambda: front.log_mel(slower),
    'all': lambda: front.features(
      resample.resample(read.decode(data), 1.07), rng
    ),
    'soundfile, SciPy and PyTorch': theirs,
  }
  found = {}
  for name, step in steps.items():
    step()
    milliseconds = 1e3 * _cpu_seconds(step) / _SECONDS.value
    found[name] = f'{milliseconds:.2f} ms ({1e3 / milliseconds:.0f} s a core-s)'
  return found


def of_lattice() -> dict[str, str]:
  """CPU seconds of a loss and its gradients, and how far they are apart."""
  rng = np.random.default_rng(0)
  rows, frames, symbols = _ROWS.value, _FRAMES.value, _SYMBOLS.value
  blank = -np.abs(rng.normal(size=(rows, frames, symbols + 1))).astype('f')
  symbol = -np.abs(rng.normal(size=(rows, frames, symbols))).astype('f')
  lengths = jnp.full(rows, frames), jnp.full(rows, symbols)
  ours = jax.jit(
    jax.value_and_grad(
      lambda b, s: transducer.losses(b, s, *lengths).sum(), argnums=(0, 1)
    )
  )
  theirs = [torch.tensor(each, requires_grad=True) for each in (blank, symbol)]

  def by_torch():
    loss = _lattice(*theirs).sum()
    return loss, torch.autograd.grad(loss, theirs)

  (loss, grads), (other, others) = ours(blank, symbol), by_torch()
  apart = max(
    float(np.abs(np.asarray(a) - b.numpy()).max())
    for a, b in zip(grads, others, strict=True)
  )
  places = rows * frames * (symbols + 1)
  seconds = [
    _cpu_seconds(lambda: jax.block_until_ready(ours(blank, symbol))),
    _cpu_seconds(by_torch),
  ]
  return {
    'losses': f'{float(loss):.3f} and {other.item():.3f}',
    'gradients apart': f'{apart:.1e}',
    'ours': f'{1e9 * seconds[0] / places:.0f} ns a place',
    'PyTorch': f'{1e9 * seconds[1] / places:.0f} ns a place',
  }


def of_memory() -> dict[str, str]:
  """Temporary MiB of the gradient, by blocks and all at once."""
  shape = jax.ShapeDtypeStruct
  rows, frames, symbols = _ROWS.value, _FRAMES.value, _SYMBOLS.value
  width, classes = _JOINT.value, _CLASSES.value
  arguments = (
    shape((rows, frames, width), jnp.float32),
    shape((rows, symbols + 1, width), jnp.float32),
    shape((width, classes), jnp.float32),
    shape((rows, symbols), jnp.int32),
  )

  def join(kernel):
    return lambda frames, texts, key: (
      jax.nn.relu(frames[:, :, None] + texts[:, None]) @ kernel
    )

  def loss(chances):
    blank, said = chances
    return transducer.losses(
      blank, said, jnp.full(rows, frames), jnp.full(rows, symbols)
    ).sum()

  def by_blocks(frames, texts, kernel, symbols):
    return loss(
      transducer.chances(
        join(kernel), frames, texts, symbols,
        blank=classes - 1, block=_BLOCK.value,
      )
    )  # fmt: skip

  def all_at_once(frames, texts, kernel, symbols):
    logs = jax.nn.log_softmax(join(kernel)(frames, texts, None))
    said = jnp.take_along_axis(logs[:, :, :-1], symbols[:, None, :, None], -1)
    return loss((logs[..., -1], said[..., 0]))

  found = {}
  for name, function in (
    ('blocks', by_blocks),
    ('all at once', all_at_once),
  ):
    gradient = jax.jit(jax.grad(function, argnums=(0, 1, 2)))
    compiled = gradient.lower(*arguments).compile()
    size = compiled.memory_analysis().temp_size_in_bytes
    found[name] = f'{size / 2**20:,.0f} MiB'
  return found


def of_padding() -> dict[str, str]:
  """Shares of padding, by buckets and by what they are made of."""
  rng = np.random.default_rng(0)
  quartile = rng.integers(0, 4, _UTTERANCES)
  low, high = (np.array(_LENGTHS)[quartile + n] for n in (0, 1))
  samples = (rng.uniform(low, high) * RATE).astype(np.int64)
  found = {}
  for count in map(int, _BUCKETS.value):
    for by_heard in (False, True):
      speeds = rng.uniform(0.85, 1.15, len(samples)) if by_heard else 1
      heard = np.sort(samples * speeds)
      ends = heard[np.arange(1, count + 1) * len(heard) // count - 1]
      most = ends * (1 if by_heard else 1.15) / 160 + 1
      frames = [int(-(-each // 6) * 6) for each in most[:-1]] + [1926]
      plan = order.Plan(
        samples,
        np.ones_like(samples),
        [order.Shape(each, 132) for each in frames],
        batch_size=1024,
        most_samples=16.7 * RATE,
        bucket_count=count,
        speeds=(0.85, 1.15),
        by_heard=by_heard,
        front_end=log_mel.FrontEnd(),
      )
      made_of = 'as heard' if by_heard else 'on disk'
      found[f'{count} buckets by length {made_of}'] = (
        f'{plan.padding(1):.1%} of frames, shapes {frames}'
      )
  return found


def _lattice(blank: torch.Tensor, symbol: torch.Tensor) -> torch.Tensor:
  """Losses [B] of whole rows: a frame after the other, over all symbols."""
  frames = blank.shape[1]
  said = torch.nn.functional.pad(symbol.cumsum(-1), (1, 0))
  before = said[:, 0]
  for frame in range(1, frames):
    come = before + blank[:, frame - 1] - said[:, frame]
    before = torch.logcumsumexp(come, -1) + said[:, frame]
  return -(before[:, -1] + blank[:, -1, -1])


def _cpu_seconds(step: Callable[[], object]) -> float:
  """Median CPU seconds of a call, of all threads together."""
  found = []
  for _ in range(_TURNS.value):
    begun = time.process_time()
    step()
    found.append(time.process_time() - begun)
  return statistics.median(found)


_STUDIES = {
  'input': of_input,
  'lattice': of_lattice,
  'memory': of_memory,
  'padding': of_padding,
}

if __name__ == '__main__':
  app.run(main)
