"""GNMT as a task: its loss by sentence, its schedule, its translations."""

import math

import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.text import buckets
from input_pipelines.translation import COUNTED_16
from input_pipelines.translation import read as translation
from models import gnmt
from models.parts import attention, lstm
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks import translations
from suite.benchmarks.gnmt import METRIC, Hparams
from suite.metrics import bleu
from suite.run import optimizers, sharding
from suite.run.task import Batch, PyTree, State


class GNMTTask(translations.TranslationTask):
  """Translation; BLEU of the translations that beam search finds."""

  metric = METRIC
  weigh = staticmethod(translation.of_sentences)
  counted = COUNTED_16
  quality = staticmethod(bleu.printed)

  def __init__(self, hp: Hparams, data: DataSet):
    size = gnmt.Size(hp.subwords, hp.layers, hp.width, hp.start_range)
    compute = gnmt.Compute(
      jnp.dtype(hp.compute_dtype),
      hp.dropout,
      hp.remat,
      hp.unroll,
      hp.lstm_kernel,
    )
    model = Functional.of(
      lambda rngs: gnmt.GNMT(size, compute=compute, rngs=rngs)
    )
    shapes = buckets.equal_shapes(
      hp.global_batch_size, hp.max_sequence_length, count=hp.buckets
    )
    super().__init__(hp, data, model, shapes)
    schedule = optimizers.exponential_warmup(
      base=hp.base_learning_rate,
      warmup_steps=hp.warmup_steps if hp.alt_warmup else 0,
      remain_steps=hp.remain_steps if hp.alt_decay else math.inf,
      decay_interval=hp.decay_interval,
      decay_steps=hp.decay_steps,
      decay_factor=hp.decay_factor,
    )
    self.optimizer = optax.chain(
      optax.clip_by_global_norm(hp.clip_norm),
      optimizers.adam_tf(
        schedule, beta_1=hp.beta_1, beta_2=hp.beta_2, epsilon=hp.epsilon
      ),
    )
    self.partition_rules = gnmt.PARTITION_RULES

  def shared_by(self, devices: int) -> 'GNMTTask':
    """See TranslationTask."""
    if devices > 1 and self._hp.lstm_kernel == lstm.CUDNN:
      raise ValueError(
        f'Expected one device for the kernel {lstm.CUDNN}, got {devices}: use '
        f'lstm_kernel={lstm.SCAN}.'
      )
    return super().shared_by(devices)

  def loss(self, params, stats, batch, key):
    """Smoothed cross entropy: the sum over tokens, the mean over sentences.

    See Task. The weight of a row is 1, whatever its length.
    """
    if key is not None and self.layout.mesh:
      key = attention.RowKey(key, self.layout.mesh, sharding.DATA)
    target = batch['target']
    logits, stats = self._model.apply(
      params, stats, batch['source'], target[:, :-1], drop_key=key
    )
    losses = gnmt.token_losses(
      logits, target[:, 1:], smoothing=self._hp.label_smoothing
    )
    sentences = jnp.maximum(batch['weight'].sum(), 1.0)
    return losses.sum() / sentences, (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> the best translations, int32 [B, T], their sentences, and weights."""
    hp = self._hp
    found = self._model.merged(state.params, state.stats).translate(
      batch['source'],
      beams=hp.beams,
      length=hp.longest_translation,
      alpha=hp.length_exponent,
      coverage=hp.coverage_factor,
    )
    kept = {name: batch[name] for name in ('id', 'weight')}
    return kept | {'tokens': found.tokens[:, 0]}

  def plan(self, lengths: np.ndarray) -> buckets.Plan:
    """See TranslationTask."""
    return buckets.Full(
      lengths, self._shapes, max_length=self._hp.max_sequence_length
    )


make_task = GNMTTask
