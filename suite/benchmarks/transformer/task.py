"""The Transformer as a task: its loss, its translations, buckets or packing."""

from collections.abc import Sequence
import copy
import dataclasses

import jax.numpy as jnp
import numpy as np

from input_pipelines.reading import batching
from input_pipelines.text import buckets, packing
from input_pipelines.translation import read as translation
from models import transformer
from models.parts import attention, beam_search
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.transformer import METRIC, Hparams
from suite.metrics import bleu
from suite.run import blocks, optimizers, sharding
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, Spec, State, batch_spec


@dataclasses.dataclass(frozen=True)
class PairFacts(Facts):
  """Plan of the batches, from the lengths of the sentences."""

  plan: buckets.Plan


# Every row of the one matrix moves in every step, so they are the same.
_OPTIMIZERS = {'adam': optimizers.adam_tf, 'lazy_adam': optimizers.adam_tf}


class TransformerTask(SupervisedTask):
  """Translation; BLEU of the translations that beam search finds."""

  def __init__(self, hp: Hparams, data: DataSet):
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
    model = Functional.of(
      lambda rngs: transformer.Transformer(size, compute=compute, rngs=rngs)
    )
    super().__init__(hp, data, model)
    self.optimizer = _OPTIMIZERS[hp.opt_name](
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
    self.reads = ('threads',)
    self.outputs = sharding.ROWS
    self._shapes = _shapes(hp)
    self._share_by(1)
    self.eval_specs = [
      batch_spec(hp.eval_batch_size, source=(np.int32, length), id=np.int32)
      for length in hp.eval_lengths
    ]

  def shared_by(self, devices: int) -> 'TransformerTask':
    """See Task: batches are padded, so any devices train the same rows."""
    task = copy.copy(self)
    task._share_by(devices)
    return task

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
    """-> the best translations, int32 [B, T], their sentences, and weights."""
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

  def blocks(self, facts: PairFacts) -> list[blocks.Block]:
    """Epochs as long as the lengths of the pairs make them."""
    return blocks.each_epoch(
      self._hp.max_epochs,
      every=self._hp.epochs_between_evals,
      steps=facts.plan.steps,
      samples=facts.plan.pairs,
    )

  def inspect(self, directory: str) -> PairFacts:
    """See Task."""
    hp = self._hp
    translation.verify(
      directory,
      train=self._data.train_samples,
      test=self._data.eval_samples,
      subwords=hp.subwords,
      longest=hp.eval_lengths[-1],
    )
    return self.facts_of(translation.train_lengths(directory))

  def facts_of(self, lengths: np.ndarray) -> PairFacts:
    """Plans batches by the tokens of both sides of all pairs, int [N, 2]."""
    hp = self._hp
    how = {'max_length': hp.max_sequence_length, 'method': hp.length_method}
    if hp.batching == 'packing':
      plan = packing.Packed(lengths, self._shapes[0], **how)
    else:
      plan = buckets.Bucketed(lengths, self._shapes, **how)
    # The rows that a step of each shape trains, without padding.
    rows = [shape.rows for shape in self._shapes]
    return PairFacts(plan, logged={'podium_trained_rows': rows})

  def open(self, data: Data, facts: PairFacts) -> Feed:
    """Reads all pairs, and the texts of the evals; see Task."""
    directory = data.directory
    source = translation.load(directory, 'test').source
    pairs = translation.load(directory, 'train')
    return _Feed(
      translation.vocabulary(directory),
      translation.load_texts(directory).target,
      translation.train_batches(
        pairs,
        facts.plan,
        row_multiple=self._row_multiple,
        **data.training,
      ),
      lambda: translation.eval_batches(
        source,
        self._hp.eval_lengths,
        batch_size=self._hp.eval_batch_size,
        **data.share,
      ),
      data.put,
      first_step=data.first_step,
    )

  def _share_by(self, devices: int) -> None:
    """Sets the shapes of training batches, whose rows all devices share."""
    hp, fewest = self._hp, min(shape.rows for shape in self._shapes)
    self._row_multiple = devices * hp.gradient_accumulation_steps
    if fewest < self._row_multiple:
      raise ValueError(
        f'Expected {self._row_multiple} rows or more in every batch, for '
        f'{devices} devices and {hp.gradient_accumulation_steps} parts of a '
        f'step, got {fewest}: raise global_batch_size.'
      )
    self.train_specs = [
      _train_spec(
        hp, shape, batching.rounded_up(shape.rows, self._row_multiple)
      )
      for shape in self._shapes
    ]


class _Feed(SupervisedFeed):
  """Holds the vocabulary and the references for scoring translations.

  Each host counts the n-grams of the sentences that it fed.
  """

  def __init__(self, vocabulary, references: Sequence[str], *args, **how):
    super().__init__(*args, **how)
    self._vocabulary = vocabulary
    self._references = references

  def score(self, predictions, maker):
    """BLEU, a fraction; RuntimeError unless every sentence was seen once."""
    counts, seen = np.zeros(bleu.COUNTS), []
    for each in predictions:
      for row in np.flatnonzero(each['weight']):
        number = int(each['id'][row])
        text = self._vocabulary.sentence(each['tokens'][row])
        counts += bleu.count(self._references[number], text)
        seen.append(number)
    # Of N numbers below N that differ the sum is known, over all hosts too.
    repeats = len(seen) - len(set(seen))
    *counts, rows, numbers, repeats = maker.total(
      [*counts, len(seen), sum(seen), repeats]
    )
    wanted = len(self._references)
    if (rows, numbers, repeats) != (wanted, wanted * (wanted - 1) / 2, 0):
      raise RuntimeError(
        f'Expected a translation of each of {wanted} sentences, got {rows:.0f} '
        f'of {rows - repeats:.0f}.'
      )
    return {METRIC: bleu.of_counts(counts)}


def _shapes(hp: Hparams) -> tuple[buckets.Shape, ...]:
  multiple = hp.row_multiple
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
      f'for {multiple} rows of {length}, got {hp.global_batch_size}.'
    )
  return (buckets.Shape(rows, length, length),)


def _train_spec(hp: Hparams, shape: buckets.Shape, rows: int) -> Spec:
  names = ['', '_segment', '_position'] if hp.batching == 'packing' else ['']
  fields = {
    f'{side}{name}': (np.int32, getattr(shape, side))
    for side in translation.SIDES
    for name in names
  }
  return batch_spec(rows, **fields)


make_task = TransformerTask
