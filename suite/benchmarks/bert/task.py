"""BERT as a task: its two losses, LAMB, samples that may share rows."""

from collections.abc import Iterable
import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.reading import batching
from input_pipelines.text import packing
from input_pipelines.wikipedia import read as wikipedia
from models import bert
from models.parts import attention
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.bert import METRIC, Hparams, names
from suite.metrics import mean
from suite.run import blocks, lamb, optimizers, sharding
from suite.run.drawn import ONE, Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.supervised import SupervisedTask
from suite.run.task import Batch, Facts, PyTree, State, batch_spec

_FEWEST = 1e-5  # predictions, added to those that a mean is taken over


class BertTask(SupervisedTask):
  """Masked tokens and next sentences; accuracy of the masked tokens."""

  def __init__(self, hp: Hparams, data: DataSet):
    size = bert.Size(
      hp.vocabulary, hp.length, hp.layers, hp.width, hp.heads, hp.ffn
    )
    compute = attention.Compute(
      jnp.dtype(hp.compute_dtype),
      hp.dropout,
      hp.remat,
      hp.unroll,
      hp.attention,
    )
    model = Functional.of(
      lambda rngs: bert.Bert(size, compute=compute, rngs=rngs)
    )
    super().__init__(hp, data, model)
    self.optimizer = lamb.lamb(
      optimizers.absolute_polynomial(
        base=hp.base_learning_rate,
        power=hp.decay_power,
        steps=hp.training_steps,
        warmup_steps=hp.warmup_steps,
        start_warmup_step=hp.start_warmup_step,
      ),
      beta_1=hp.beta_1,
      beta_2=hp.beta_2,
      epsilon=hp.epsilon,
      weight_decay=hp.weight_decay,
      clip_norm=hp.clip_norm,
      skip=bert.NOT_ADAPTED,
      stacked={bert.STACKED: 1},
    )
    self.partition_rules = bert.PARTITION_RULES
    self.parts = hp.gradient_accumulation_steps
    self.reads = ('threads',)
    self.given = ('^params/',)
    self.tensors = names.tensors(hp.layers)
    self._eval_shape = wikipedia.Shape(
      hp.eval_batch_size, hp.length, hp.predictions
    )
    self.eval_specs = [
      batch_spec(hp.eval_batch_size, **self._eval_shape.fields)
    ]
    self._share_by(1)

  def shared_by(self, devices: int) -> 'BertTask':
    """See Task: rows that samples share are padded to be shared in turn."""
    task = copy.copy(self)
    task._share_by(devices)
    return task

  def values(self, spec):
    """See Task; samples fill their rows, and all predictions are made."""
    hp = self._hp
    return {
      'tokens': Values(1, hp.vocabulary, skewed=True),
      'types': Values(0, 2),
      'predicted': Values(0, hp.length),
      'labels': Values(1, hp.vocabulary, skewed=True),
      'predicted_weight': ONE,
      'is_random': Values(0, 2),
    }

  def fitted(self, rows):
    """See Task; samples that share a row have equal parts of it."""
    most = rows['first'].shape[1]
    share = min(most, max(1, round(self._hp.mean_samples_per_row)))
    segments, positions = packing.shared_evenly(rows['tokens'].shape, share)
    number = np.broadcast_to(np.arange(most), rows['first'].shape)
    first = number * (positions.max() + 1) * (number < share)
    return {
      **rows,
      'segments': segments,
      'positions': positions,
      'first': first.astype(np.int32),
      'sample_weight': (number < share).astype(np.float32),
      'weight': np.full_like(rows['weight'], share),
    }

  def contents(self, rows):
    """See Task."""
    return {
      'samples': float(rows['weight'].sum()),
      'tokens': float((rows['segments'] > 0).sum()),
    }

  def loss(self, params, stats, batch, key):
    """Sum of two mean cross entropies, of tokens and of samples; see Task.

    Each is one mean over the whole batch. The weight of a row is the number of
    its samples.
    """
    if key is not None and self.layout.mesh:
      key = attention.RowKey(key, self.layout.mesh, sharding.DATA)
    if 'samples_per_prediction' not in batch:
      batch = _with_ratio(batch)
    (tokens, samples), stats = self._model.apply(
      params, stats, _inputs(batch), drop_key=key
    )
    cross = optax.softmax_cross_entropy_with_integer_labels
    of_tokens = cross(tokens, batch['labels']) * batch['predicted_weight']
    of_samples = cross(samples, batch['is_random']) * batch['sample_weight']
    of_rows = of_tokens.sum(axis=1) * batch['samples_per_prediction']
    of_rows += of_samples.sum(axis=1)
    return of_rows.sum() / jnp.maximum(batch['weight'].sum(), 1.0), (stats, {})

  def train_step(self, state: State, batch: Batch):
    """See Task: parts of a batch have the ratio of the whole one."""
    return super().train_step(state, _with_ratio(batch))

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> sums over the batch: right tokens, tokens and samples."""
    (tokens, _), _ = self._model.apply(
      state.params, state.stats, _inputs(batch)
    )
    weight = batch['predicted_weight'] * batch['weight'][:, None]
    hits = jnp.argmax(tokens, axis=-1) == batch['labels']
    return {
      'correct': jnp.sum(hits * weight),
      'predicted': jnp.sum(weight),
      'samples': jnp.sum(batch['weight']),
    }

  def _accuracy(self, predictions: Iterable[PyTree]) -> dict[str, float]:
    """Right tokens of all, a fraction; RuntimeError unless all were seen."""
    accuracy = mean.over_examples(
      predictions,
      'correct',
      'samples',
      parts='predicted',
      examples=self._data.eval_samples,
      what='samples',
    )
    return {METRIC: accuracy}

  def blocks(self, facts) -> list[blocks.Block]:
    """Evals by samples, which the rules log under the key of epochs."""
    del facts
    hp = self._hp
    return blocks.every_samples(
      hp.samples_between_evals,
      rows=hp.global_batch_size,
      most=hp.max_samples,
      first=hp.first_eval or None,
      key=hp.place_key,
    )

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    hp = self._hp
    wikipedia.verify(
      directory,
      train=self._data.train_samples,
      evaluated=self._data.eval_samples,
      vocabulary=hp.vocabulary,
      length=hp.length,
      predictions=hp.predictions,
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """Reads the samples of the evals; see Task."""
    del facts
    hp, directory, count = self._hp, data.directory, self._data.eval_samples
    split = {'held_out': 'eval', 'first': 'train'}[hp.evaluated_on]
    samples = wikipedia.load(directory, split, count)
    train = wikipedia.train_batches(
      directory,
      self._train_shape,
      batch_size=hp.global_batch_size,
      **data.training,
    )
    return SupervisedFeed(
      train,
      lambda: wikipedia.eval_batches(
        samples, self._eval_shape, count=count, **data.share
      ),
      data.put,
      score=self._accuracy,
      first_step=data.first_step,
    )

  def _share_by(self, devices: int) -> None:
    """Sets the shape of training batches, whose rows all devices share."""
    hp = self._hp
    rows, predictions = hp.global_batch_size, hp.predictions
    if hp.samples_per_row > 1:
      rows = -(-rows // hp.mean_samples_per_row)
      rows = batching.rounded_up(
        int(rows), devices * hp.gradient_accumulation_steps
      )
      # A share of the row's tokens, which each sample may round up by a half.
      predictions += (hp.samples_per_row + 1) // 2
    self._train_shape = wikipedia.Shape(
      rows, hp.length, predictions, hp.samples_per_row
    )
    self.train_specs = [batch_spec(rows, **self._train_shape.fields)]


def _inputs(batch: Batch) -> bert.Inputs:
  packing = attention.Packing(batch['segments'], batch['positions'])
  return bert.Inputs(
    batch['tokens'],
    batch['types'],
    packing,
    batch['predicted'],
    batch['first'],
  )


def _with_ratio(batch: Batch) -> Batch:
  """Adds the samples of the batch over its predictions, to every row.

  A mean over rows by their weight, the samples, is a mean over samples; times
  this it is one over predictions.
  """
  predictions = batch['predicted_weight'].sum() + _FEWEST
  ratio = batch['weight'].sum() / predictions
  each = jnp.broadcast_to(ratio, batch['weight'].shape)
  return {**batch, 'samples_per_prediction': jax.lax.stop_gradient(each)}


make_task = BertTask
