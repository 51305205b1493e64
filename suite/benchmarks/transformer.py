"""Transformer big on WMT17, English to German: translation."""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines import buckets, packing, translation
from models import attention, beam_search, transformer
from models.functional import Functional
from suite import optimizers, sharding
from suite.benchmark import Benchmark, DataSet, Size
from suite.feed import Block, Data, Feed, SupervisedFeed
from suite.hparams import (
  POSITIVE,
  Rule,
  accumulation_steps,
  compute_dtype,
  fixed,
  one_of,
  require_positive,
  tunable,
)
from suite.metrics import bleu
from suite.target import Target
from suite.task import Batch, PyTree, Spec, State, Task

METRIC = 'BLEU'

_METHOD = {'method': lambda hp: hp.length_method}


def _beta(*in_v06: float) -> Rule:
  """What a beta may be: free in round v0.7, one of a few in round v0.6."""
  return Rule(
    f'at least 0 and below 1, in round v0.6 one of {in_v06}',
    lambda value, hp: (
      0 <= value < 1 and (hp.closed_round != 'v0.6' or value in in_v06)
    ),
  )


@dataclasses.dataclass(frozen=True)
class Hparams:
  """The defaults are the reference's: 4096 tokens a step, as for one GPU.

  Rules of rounds v0.6 and v0.7, which leave batch size, learning rate, warmup,
  betas and the treatment of long sentences free; reference: mlcommons/training,
  retired_benchmarks/transformer/tensorflow.
  """

  global_batch_size: int = tunable(
    4096,
    'Tokens of a side in a step, at most, padding included.',
    key='global_batch_size',
    rule=POSITIVE,
  )
  opt_name: str = tunable(
    'adam',
    'Optimizer: adam or lazy_adam; with one matrix for all, they are the same.',
    key='opt_name',
    rule=one_of('adam', 'lazy_adam'),
  )
  base_learning_rate: float = tunable(
    2.0,
    'Learning rate, before the roots of width and step divide it.',
    key='opt_base_learning_rate',
    rule=POSITIVE,
  )
  warmup_steps: int = tunable(
    16000,
    'Steps until the learning rate is highest.',
    key='opt_learning_rate_warmup_steps',
    rule=POSITIVE,
  )
  beta_1: float = tunable(
    0.9,
    'Decay of the mean gradient.',
    key='opt_adam_beta_1',
    rule=_beta(0.86, 0.9),
  )
  beta_2: float = tunable(
    0.997,
    'Decay of the mean square.',
    key='opt_adam_beta_2',
    rule=_beta(0.92, 0.98, 0.997),
  )
  epsilon: float = fixed(
    1e-9, 'Added to the root of the mean square.', key='opt_adam_epsilon'
  )
  max_sequence_length: int = tunable(
    256,
    'Tokens of a side of a pair to train on, at most.',
    key='max_sequence_length',
    beside=_METHOD,
    rule=POSITIVE,
  )
  length_method: str = tunable(
    buckets.DISCARD,
    'What becomes of longer pairs in training: discard or truncate.',
    rule=one_of(*buckets.METHODS),
  )
  batching: str = tunable(
    'buckets',
    'buckets: pairs of like length make a batch. packing: pairs share rows.',
    rule=one_of('buckets', 'packing'),
  )
  bucket_first: int = tunable(
    8, 'The first bucket is of pairs shorter than this.', rule=POSITIVE
  )
  bucket_scale: float = tunable(
    1.1,
    'How much longer the pairs of a bucket are than those of the one before.',
    rule=Rule('1 or more', lambda value, _: value >= 1),
  )
  packed_row_length: int = tunable(
    256, 'Tokens of a side of a row that pairs share.', rule=POSITIVE
  )
  row_multiple: int = tunable(
    8,
    'Rows of a batch are rounded down to a multiple of this, which the devices '
    'that share a batch must divide; 1 in the reference, for one GPU.',
    rule=POSITIVE,
  )
  gradient_accumulation_steps: int = accumulation_steps()
  compute_dtype: str = compute_dtype(
    'Of products; parameters, softmax and logits stay float32.'
  )
  remat: bool = tunable(
    False,
    'Whether layers are computed again for gradients, to need less memory.',
  )
  unroll: int = tunable(
    1, 'Layers in one turn of the loop over them.', rule=POSITIVE
  )
  subword_multiple: int = tunable(
    1,
    'The matrix has a multiple of so many rows, for a model axis to divide.',
    rule=POSITIVE,
  )
  closed_round: str = fixed('v0.7', 'The round whose Closed rules hold.')
  epochs_between_evals: int = fixed(1, 'Epochs from one eval to the next.')
  max_epochs: int = tunable(
    10, 'The run ends here if the target is not met.', rule=POSITIVE
  )
  eval_batch_size: int = tunable(
    32, 'Sentences that are translated together.', rule=POSITIVE
  )
  eval_lengths: tuple[int, ...] = tunable(
    (32, 64, 128, 256),
    'Tokens that a batch of an eval may be padded to; the last holds all.',
    rule=Rule('rising', lambda value, _: list(value) == sorted(set(value))),
  )
  beams: int = fixed(4, 'Translations that are kept while one is written.')
  length_exponent: float = fixed(
    0.6, 'How much a longer translation may be less probable.'
  )
  extra_length: int = fixed(
    50, 'Tokens that a translation may have more than the longest source.'
  )
  dropout: float = fixed(0.1, 'Share of numbers that are dropped in training.')
  label_smoothing: float = fixed(
    0.1, 'Share of the probability that the other subwords are to get.'
  )
  subwords: int = fixed(33708, 'Of the vocabulary, with padding and the end.')
  layers: int = fixed(6, 'Of the encoder, and as many of the decoder.')
  width: int = fixed(1024, 'Of a token inside the model.')
  heads: int = fixed(16, 'Of attention.')
  ffn: int = fixed(4096, 'Hidden units of the feed-forward layers.')


class TransformerTask(Task):
  """How well are sentences translated? BLEU of what beam search finds."""

  def __init__(self, hp: Hparams, data: DataSet):
    """Raises ValueError where the hyperparameters do not fit each other."""
    _require_sound(hp)
    self._hp = hp
    self._data = data
    multiple = hp.subword_multiple
    size = transformer.Size(
      vocabulary=-(-hp.subwords // multiple) * multiple,
      layers=hp.layers,
      width=hp.width,
      heads=hp.heads,
      ffn=hp.ffn,
    )
    compute = attention.Compute(
      jnp.dtype(hp.compute_dtype), hp.dropout, hp.remat, hp.unroll
    )
    self._model = Functional.of(
      lambda rngs: transformer.Transformer(size, compute=compute, rngs=rngs)
    )
    self.optimizer = optimizers.adam_tf(
      optimizers.inverse_sqrt_warmup(
        base=hp.base_learning_rate,
        width=hp.width,
        warmup_steps=hp.warmup_steps,
      ),
      beta_1=hp.beta_1,
      beta_2=hp.beta_2,
      epsilon=hp.epsilon,
    )
    self.partition_rules = transformer.PARTITION_RULES
    self.parts = hp.gradient_accumulation_steps
    self.rows_set_by = 'row_multiple'
    self._shapes = _shapes(hp)
    self.train_specs = [_train_spec(hp, shape) for shape in self._shapes]
    self.eval_specs = [_eval_spec(hp, length) for length in hp.eval_lengths]
    self._plan: buckets.Plan | None = None
    self._references: translation.Texts | None = None
    self._vocabulary = None

  def init_model(self, key):
    """See Task."""
    return self._model.init(key)

  def loss(self, params, stats, batch, key):
    """Smoothed cross entropy, the mean over the target's tokens; see Task.

    The weight of a row is the number of its tokens.
    """
    if key is not None and self.layout.mesh:
      key = attention.RowKey(key, self.layout.mesh, sharding.DATA)
    packed = {}
    if self._hp.batching == 'packing':
      packed = {
        f'{side}_packing': transformer.Packing(
          batch[f'{side}_segment'], batch[f'{side}_position']
        )
        for side in translation.SIDES
      }
    logits, stats = self._model.apply(
      params, stats, batch['source'], batch['target'], **packed, drop_key=key
    )
    losses = transformer.token_losses(
      logits, batch['target'], smoothing=self._hp.label_smoothing
    )
    tokens = jnp.maximum(batch['weight'].sum(), 1.0)
    return losses.sum() / tokens, (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> the best translations, int32 [B, T], whose they are, and weights."""
    model = self._model.merged(state.params, state.stats)
    found = model.translate(
      batch['source'],
      beams=self._hp.beams,
      alpha=self._hp.length_exponent,
      extra_length=self._hp.extra_length,
      bar=beam_search.best,  # only the best one is taken
    )
    kept = {name: batch[name] for name in ('id', 'weight')}
    return kept | {'tokens': found.tokens[:, 0]}

  def score(self, predictions: Sequence[PyTree]) -> dict[str, float]:
    """BLEU, a fraction; RuntimeError unless every sentence was seen once."""
    found = translations(predictions, self._data.eval_samples)
    sentences = [self._vocabulary.sentence(tokens) for tokens in found]
    return {METRIC: bleu.bleu(self._references.target, sentences)}

  def blocks(self) -> list[Block]:
    """A block an epoch, as long as the lengths of the pairs make it.

    RuntimeError before `verify_data`, which learns them.
    """
    if self._plan is None:
      raise RuntimeError(
        'The steps of an epoch follow from the lengths of the sentences, which '
        'verify_data reads; it was not called.'
      )
    return [
      Block(
        steps=self._plan.steps,
        samples=self._plan.pairs,
        start={'first_epoch_num': epoch, 'epoch_count': 1},
        stop={'first_epoch_num': epoch},
        at={'epoch_num': epoch},
      )
      for epoch in range(1, self._hp.max_epochs + 1)
    ]

  def verify_data(self, directory: str) -> None:
    """See Task; also plans the batches by the lengths of the sentences."""
    hp = self._hp
    translation.verify(
      directory,
      train=self._data.train_samples,
      test=self._data.eval_samples,
      subwords=hp.subwords,
      longest=hp.eval_lengths[-1],
    )
    self.plan_by(translation.train_lengths(directory))

  def plan_by(self, lengths: np.ndarray) -> None:
    """Plans batches by the tokens of both sides of all pairs, int [N, 2]."""
    hp = self._hp
    how = {'max_length': hp.max_sequence_length, 'method': hp.length_method}
    if hp.batching == 'packing':
      self._plan = packing.Packed(lengths, self._shapes[0], **how)
    else:
      self._plan = buckets.Bucketed(lengths, self._shapes, **how)

  def open(self, data: Data) -> Feed:
    """Reads all pairs, and the texts of the evals; see Task."""
    directory = data.directory
    self._vocabulary = translation.vocabulary(directory)
    self._references = translation.load_texts(directory)
    source = translation.load(directory, 'test').source
    pairs = translation.load(directory, 'train')
    hosts = {'host': data.host, 'hosts': data.hosts}
    threads = {'threads': data.reading.threads} if data.reading else {}
    return SupervisedFeed(
      translation.train_batches(
        pairs,
        self._plan,
        seed=data.seed,
        first_step=data.first_step,
        **hosts,
        **threads,
      ),
      lambda: translation.eval_batches(
        source,
        self._hp.eval_lengths,
        batch_size=self._hp.eval_batch_size,
        **hosts,
      ),
      data.put,
      first_step=data.first_step,
    )


def translations(
  predictions: Sequence[PyTree], sentences: int
) -> list[np.ndarray]:
  """The tokens of each sentence, in order, from all batches' predictions.

  RuntimeError unless every sentence was seen once.
  """
  found = {}
  seen = 0
  for each in predictions:
    for row in np.flatnonzero(each['weight']):
      found[int(each['id'][row])] = each['tokens'][row]
      seen += 1
  if seen != sentences or sorted(found) != list(range(sentences)):
    raise RuntimeError(
      f'Expected translations of {sentences} sentences, came {seen} of '
      f'{len(found)}.'
    )
  return [found[number] for number in range(sentences)]


def _shapes(hp: Hparams) -> tuple[buckets.Shape, ...]:
  multiple = hp.row_multiple * hp.gradient_accumulation_steps
  if hp.batching == 'buckets':
    return buckets.shapes(
      hp.global_batch_size,
      hp.max_sequence_length,
      first=hp.bucket_first,
      scale=hp.bucket_scale,
      multiple=multiple,
    )
  length = hp.packed_row_length
  rows = hp.global_batch_size // length // multiple * multiple
  if not rows:
    raise ValueError(
      f'Expected a global_batch_size of {multiple * length} tokens or more, '
      f'for {multiple} rows of {length}, came {hp.global_batch_size}.'
    )
  return (buckets.Shape(rows, length, length),)


def _train_spec(hp: Hparams, shape: buckets.Shape) -> Spec:
  names = ['', '_segment', '_position'] if hp.batching == 'packing' else ['']
  spec = {
    f'{side}{name}': jax.ShapeDtypeStruct(
      (shape.rows, getattr(shape, side)), np.int32
    )
    for side in translation.SIDES
    for name in names
  }
  return spec | {'weight': jax.ShapeDtypeStruct((shape.rows,), np.float32)}


def _eval_spec(hp: Hparams, length: int) -> Spec:
  rows = hp.eval_batch_size
  return {
    'source': jax.ShapeDtypeStruct((rows, length), np.int32),
    'id': jax.ShapeDtypeStruct((rows,), np.int32),
    'weight': jax.ShapeDtypeStruct((rows,), np.float32),
  }


def _require_sound(hp: Hparams) -> None:
  require_positive(
    hp,
    'global_batch_size',
    'max_sequence_length',
    'row_multiple',
    'gradient_accumulation_steps',
    'subword_multiple',
    'max_epochs',
    'eval_batch_size',
    'beams',
    'packed_row_length',
  )
  lengths = list(hp.eval_lengths)
  if not lengths or lengths[0] < 1 or lengths != sorted(set(lengths)):
    raise ValueError(f'eval_lengths must be positive and rise, not {lengths}.')
  for name, choices in (
    ('opt_name', ('adam', 'lazy_adam')),
    ('length_method', buckets.METHODS),
    ('batching', ('buckets', 'packing')),
    ('compute_dtype', ('float32', 'bfloat16')),
  ):
    if (came := getattr(hp, name)) not in choices:
      raise ValueError(
        f'{name} must be one of {", ".join(choices)}, not {came!r}.'
      )
  if hp.batching == 'packing' and hp.max_sequence_length > hp.packed_row_length:
    raise ValueError(
      f'packed_row_length {hp.packed_row_length} must hold a sentence of '
      f'max_sequence_length {hp.max_sequence_length}.'
    )


TINY = dataclasses.replace(
  Hparams(),
  global_batch_size=1024,
  base_learning_rate=0.8,
  warmup_steps=200,
  beta_2=0.98,
  max_sequence_length=31,
  bucket_first=20,
  bucket_scale=1.6,
  max_epochs=8,
  eval_batch_size=200,
  eval_lengths=(32,),
  extra_length=10,
  subwords=602,
  layers=2,
  width=96,
  heads=4,
  ffn=256,
)

# All pairs, and what is translated, which is the same in both rounds.
_WMT17 = DataSet(
  translation.NAME,
  train_samples=translation.PAIRS['train'],
  eval_samples=translation.PAIRS['test'],
)

BENCHMARK = Benchmark(
  name='transformer',
  runs=10,
  dropped=1,
  task=TransformerTask,
  sizes={
    'reference': Size(
      hparams=Hparams(),
      target=Target(at_least={METRIC: 0.25}),
      ruleset='0.7.0',
      data=_WMT17,
    ),
    # Official logs of that round have a format of their own, so this is ours.
    'v0.6': Size(
      hparams=dataclasses.replace(Hparams(), closed_round='v0.6'),
      target=Target(at_least={METRIC: 0.25}),
      ruleset='podium-transformer-v0.6',
      data=_WMT17,
    ),
    'tiny': Size(
      hparams=TINY,
      target=Target(at_least={METRIC: 0.875}),
      ruleset='podium-tiny-1',
      data=DataSet('phrases', train_samples=5000, eval_samples=600),
    ),
  },
)
