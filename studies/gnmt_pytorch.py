r"""GNMT here and in the reference's PyTorch: seconds of a step and of an eval.

Both start from the same weights and see the same batches, in float32 and
without dropout, so that losses and translations can be compared; a step is the
forward pass, the loss, the gradients, the clip and Adam. LSTM layers are timed
beside torch.nn.LSTM.

  git clone https://github.com/mlcommons/training
  python studies/gnmt_pytorch.py --parts=lstm,step,decode \
    --reference=training/retired_benchmarks/gnmt/pytorch

`--parts=lstm` needs no reference. Of the reference's search one division is
made one of integers, which PyTorch 0.4 did by itself; nothing else is changed.
It needs what the tests need: pip install -e '.[dev]'. Here and there take
turns, and what is printed are medians.
"""

import functools
import os
import pathlib
import statistics
import sys
import time
import types

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models import gnmt
from models.parts import functional, lstm
from suite.run import optimizers

_PARTS = flags.DEFINE_list('parts', ['lstm'], 'Of lstm, step and decode.')
_REFERENCE = flags.DEFINE_string('reference', None, 'Its folder pytorch/.')
_VOCABULARY = flags.DEFINE_integer('vocabulary', 552, 'Tokens.')
_LAYERS = flags.DEFINE_integer('layers', 3, 'Layers of either side.')
_WIDTH = flags.DEFINE_integer('width', 64, 'Width.')
_ROWS = flags.DEFINE_integer('rows', 64, 'Sentences in a batch.')
_LENGTH = flags.DEFINE_integer('length', 30, 'Tokens of a side.')
_BEAMS = flags.DEFINE_integer('beams', 5, 'Hypotheses of a sentence.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Turns that are timed.')
_DEVICE = flags.DEFINE_string('device', 'cpu', "PyTorch's: cpu or cuda.")

RATE = 1e-3


def batch(vocabulary: int, rows: int, length: int) -> np.ndarray:
  """Both sides int32 [2, rows, length], the longest rows first."""
  draws = np.random.default_rng(0)
  sides = draws.integers(4, vocabulary, (2, rows, length)).astype(np.int32)
  lengths = np.sort(draws.integers(length // 2, length + 1, rows))[::-1]
  lengths[0] = length
  place = np.arange(length)[None]
  sides[:, :, 0] = gnmt.START
  sides = np.where(place == lengths[:, None] - 1, gnmt.END, sides)
  return np.where(place < lengths[:, None], sides, gnmt.PAD).astype(np.int32)


def reference(folder: str) -> types.SimpleNamespace:
  """The reference's classes: GNMT, LabelSmoothing and SequenceGenerator."""
  if not folder:
    raise app.UsageError(
      'Expected --reference=DIR/retired_benchmarks/gnmt/pytorch.'
    )
  sys.path.insert(0, folder)
  compliance = types.ModuleType('mlperf_compliance')
  log = types.ModuleType('mlperf_compliance.mlperf_log')
  log.__getattr__ = lambda name: name  # the keys of its log
  compliance.mlperf_log = log
  sys.modules |= {
    'mlperf_compliance': compliance, 'mlperf_compliance.mlperf_log': log,
  }  # fmt: skip
  from seq2seq import utils

  utils.gnmt_print = lambda *args, **how: None
  from seq2seq.models.gnmt import GNMT
  from seq2seq.train.smoothing import LabelSmoothing

  path = pathlib.Path(folder, 'seq2seq', 'inference', 'beam_search.py')
  text = path.read_text().replace('index / beam_size', 'index // beam_size')
  search = {'__name__': 'beam_search'}
  exec(compile(text, str(path), 'exec'), search)
  return types.SimpleNamespace(
    GNMT=GNMT, LabelSmoothing=LabelSmoothing,
    SequenceGenerator=search['SequenceGenerator'],
  )  # fmt: skip


def theirs(known, size: gnmt.Size, params) -> torch.nn.Module:
  """The reference's model with the weights of ours."""
  named, tensor = {}, lambda values: torch.tensor(np.array(values))

  def layer(name, values, suffix=''):
    for ours, their in _NAMES.items():
      named[f'{name}.{their}_l0{suffix}'] = tensor(np.transpose(values[ours]))

  encoder, decoder = params['encoder'], params['decoder']
  layer('encoder.rnn_layers.0', encoder['first']['forward'])
  layer('encoder.rnn_layers.0', encoder['first']['backward'], '_reverse')
  layer('decoder.att_rnn.rnn', decoder['first'])
  for i in range(size.layers - 1):
    layer(f'encoder.rnn_layers.{i + 1}', encoder['layers'][i])
    layer(f'decoder.rnn_layers.{i}', decoder['layers'][i])
  attention, at = decoder['attention'], 'decoder.att_rnn.attn.'
  named[f'{at}linear_att'] = tensor(attention['direction'])
  named[f'{at}normalize_scalar'] = tensor(attention['scale'])
  named[f'{at}normalize_bias'] = tensor(attention['bias'])
  named[f'{at}linear_q.weight'] = tensor(attention['query']['kernel']).T
  named[f'{at}linear_k.weight'] = tensor(attention['key']['kernel']).T
  for side in ('encoder', 'decoder'):
    named[f'{side}.embedder.weight'] = tensor(params['embedding'])
  head = params['classifier']
  named['decoder.classifier.classifier.weight'] = tensor(head['kernel']).T
  named['decoder.classifier.classifier.bias'] = tensor(head['bias'])
  model = known.GNMT(
    size.vocabulary, size.width, size.layers, 0.0, batch_first=True
  )
  model.load_state_dict(named)
  return model.to(_DEVICE.value)


_NAMES = {
  'input_kernel': 'weight_ih', 'hidden_kernel': 'weight_hh',
  'input_bias': 'bias_ih', 'hidden_bias': 'bias_hh',
}  # fmt: skip


def turns(name: str, here, there) -> None:
  """Prints the medians of both, which take turns after a first time."""
  here(), there()
  seconds = [], []
  for _ in range(_REPEATS.value):
    for once, into in zip((here, there), seconds, strict=True):
      start = time.perf_counter()
      once()
      into.append(time.perf_counter() - start)
  ours, their = map(statistics.median, seconds)
  print(
    f'{name}: here {1e3 * ours:.1f} ms, PyTorch {1e3 * their:.1f} ms, '
    f'{their / ours:.2f} times as fast', flush=True,
  )  # fmt: skip


def compare_layer(rows: int, length: int, width: int) -> None:
  """An LSTM layer, forward and back."""
  x = np.random.default_rng(0).normal(size=(rows, length, width))
  x = x.astype(np.float32)
  uniform = jax.nn.initializers.uniform(0.1)
  model = functional.Functional.of(
    lambda rngs: lstm.LSTM(
      width, width, kernel_init=uniform, bias_init=uniform,
      compute=lstm.Compute(), rngs=rngs,
    )
  )  # fmt: skip
  params, _ = model.init(jax.random.key(0))

  @jax.jit
  def gradients(params, x):
    loss = lambda params, x: model.apply(params, {}, x)[0][0].sum()  # noqa: E731
    return jax.grad(loss, argnums=(0, 1))(params, x)

  layer = torch.nn.LSTM(width, width, batch_first=True).to(_DEVICE.value)
  given = torch.tensor(x, requires_grad=True, device=_DEVICE.value)
  held = jnp.asarray(x)

  def there():
    layer.zero_grad()
    layer(given)[0].sum().backward()
    return given.grad.sum().item()

  turns(
    f'LSTM of {width}, {rows} rows of {length}',
    lambda: jax.block_until_ready(gradients(params, held)),
    there,
  )


def compare_step(known, size: gnmt.Size, model, params) -> None:
  """A train step; the losses of both are printed as well."""
  source, target = batch(size.vocabulary, _ROWS.value, _LENGTH.value)
  optimizer = optax.chain(
    optax.clip_by_global_norm(5.0),
    optimizers.adam_tf(lambda _: RATE, beta_1=0.9, beta_2=0.999, epsilon=1e-8),
  )

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, opt):
    def loss(params):
      logits, _ = model.apply(params, {}, source, target[:, :-1])
      losses = gnmt.token_losses(logits, target[:, 1:], smoothing=0.1)
      return losses.sum() / len(source)

    value, grads = jax.value_and_grad(loss)(params)
    updates, opt = optimizer.update(grads, opt, params)
    return optax.apply_updates(params, updates), opt, value

  ours = [jax.tree.map(jnp.array, params), optimizer.init(params)]
  other = theirs(known, size, params)
  adam = torch.optim.Adam(other.parameters(), lr=RATE)
  criterion, losses = known.LabelSmoothing(gnmt.PAD, 0.1), ([], [])
  tokens = [torch.tensor(s).long().to(_DEVICE.value) for s in (source, target)]
  lengths = (tokens[0] != 0).sum(1)

  def here():
    ours[:], loss = (found := step(*ours))[:2], found[2]
    losses[0].append(float(loss))

  def there():
    adam.zero_grad()
    logits = other(tokens[0], lengths, tokens[1][:, :-1])
    loss = criterion(
      logits.reshape(-1, size.vocabulary), tokens[1][:, 1:].reshape(-1)
    )
    (loss / len(source)).backward()
    torch.nn.utils.clip_grad_norm_(other.parameters(), 5.0)
    adam.step()
    losses[1].append(loss.item() / len(source))

  turns('train step', here, there)
  print(f'first and last losses: {[(x[0], x[-1]) for x in losses]}')


def compare_decode(known, size: gnmt.Size, model, params) -> None:
  """Translations of a batch, all of 149 tokens: a random model ends none."""
  source, _ = batch(size.vocabulary, _ROWS.value, _LENGTH.value)

  @jax.jit
  def translate(params):
    found = model.merged(params, {}).translate(
      source, beams=_BEAMS.value, length=149, alpha=0.6, coverage=0.1
    )
    return found.tokens[:, 0]

  other = theirs(known, size, params).eval()
  search = known.SequenceGenerator(
    other, _BEAMS.value, 150, cuda=_DEVICE.value == 'cuda'
  )
  tokens = torch.tensor(source).long().to(_DEVICE.value)
  lengths = (tokens != 0).sum(1)
  start = torch.full((len(source) * _BEAMS.value, 1), gnmt.START)
  last = {}

  def there():
    with torch.no_grad():
      context = [other.encode(tokens, lengths), lengths.clone(), None]
      last['there'] = search.beam_search(
        len(source), start.to(_DEVICE.value), context
      )[0]

  def here():
    last['here'] = np.asarray(translate(params))

  turns(f'translations of {len(source)} sentences', here, there)
  found = last['there'].cpu().numpy()[:, 1:]
  behind = np.cumsum(found == gnmt.END, 1) - (found == gnmt.END) > 0
  same = (np.where(behind, 0, found) == last['here']).all(axis=1).mean()
  print(f'{100 * same:.0f} % of the translations are the same')


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  size = gnmt.Size(_VOCABULARY.value, _LAYERS.value, _WIDTH.value, 0.4)
  if 'lstm' in _PARTS.value:
    compare_layer(_ROWS.value, _LENGTH.value, _WIDTH.value)
  if not {'step', 'decode'} & {*_PARTS.value}:
    return
  known = reference(_REFERENCE.value)
  model = functional.Functional.of(
    lambda rngs: gnmt.GNMT(
      size, compute=gnmt.Compute(dropout=0.0), rngs=rngs
    )
  )  # fmt: skip
  params, _ = model.init(jax.random.key(0, impl='rbg'))
  if 'step' in _PARTS.value:
    compare_step(known, size, model, params)
  if 'decode' in _PARTS.value:
    compare_decode(known, size, model, params)


if __name__ == '__main__':
  app.run(main)
