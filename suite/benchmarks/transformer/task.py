"""The Transformer as a task: its loss, its translations, buckets or packing."""

import jax.numpy as jnp
import numpy as np

from input_pipelines.text import buckets, packing
from input_pipelines.translation import read as translation
from models import transformer
from models.parts import attention, beam_search
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks import translations
from suite.benchmarks.transformer import METRIC, Hparams
from suite.run import optimizers, sharding
from suite.run.task import Batch, PyTree, State, batch_spec

_PAIRS_PER_ROW = 8  # of WMT in rows of 256 tokens, about
# Every row of the one matrix moves in every step, so they are the same.
_OPTIMIZERS = {'adam': optimizers.adam_tf, 'lazy_adam': optimizers.adam_tf}


class TransformerTask(translations.TranslationTask):
  """Translation; BLEU of the translations that beam search finds."""

  metric = METRIC

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
    super().__init__(hp, data, model, _shapes(hp))
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

  def fitted(self, rows):
    """See Task; where pairs share rows, each fills a part of one."""
    rows = super().fitted(rows)
    for side in translation.SIDES:
      if f'{side}_segment' in rows:
        segment, position = packing.shared_evenly(
          rows[side].shape, _PAIRS_PER_ROW
        )
        rows |= {f'{side}_segment': segment, f'{side}_position': position}
    return rows

  def contents(self, rows):
    """See Task."""
    found = super().contents(rows)
    if 'source_segment' in rows:
      found['samples'] = float(rows['source_segment'].max(axis=1).sum())
    return found

  def plan(self, lengths: np.ndarray) -> buckets.Plan:
    """See TranslationTask."""
    hp = self._hp
    how = {'max_length': hp.max_sequence_length, 'method': hp.length_method}
    if hp.batching == 'packing':
      return packing.Packed(lengths, self._shapes[0], **how)
    return buckets.Bucketed(lengths, self._shapes, **how)

  def train_spec(self, shape: buckets.Shape, rows: int):
    """See TranslationTask: rows that pairs share say which is where."""
    spec = super().train_spec(shape, rows)
    if self._hp.batching != 'packing':
      return spec
    return spec | batch_spec(
      rows,
      **{
        f'{side}_{name}': (np.int32, getattr(shape, side))
        for side in translation.SIDES
        for name in ('segment', 'position')
      },
    )


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


make_task = TransformerTask
