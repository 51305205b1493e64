"""NeuMF as a task: its loss, its ranks, interactions with fresh negatives."""

from collections.abc import Iterable, Iterator
import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.movielens import read as movielens
from models import ncf
from models.parts.functional import Functional
from suite.benchmark import DataSet
from suite.benchmarks.ncf import Hparams
from suite.metrics import mean
from suite.run import accumulation, blocks, optimizers
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.task import Batch, Facts, PyTree, State, Task, batch_spec

# Evals have the same candidates in all runs, as in the reference.
EVAL_SEED = 0

_TABLES = ('user', 'item')


class NcfTask(Task):
  """Predicts the items that a user picks; hit rate of the held-out item."""

  def __init__(self, hp: Hparams, data: DataSet):
    """Raises ValueError where the hyperparameters do not fit the data."""
    if data.eval_samples > hp.users:
      raise ValueError(
        'Expected at least as many users as held-out items, got users='
        f'{hp.users} and eval_samples {data.eval_samples}.'
      )
    self._hp = hp
    self._data = data
    samples = (1 + hp.negatives) * data.train_samples
    self._steps_per_epoch = -(-samples // hp.global_batch_size)
    size = ncf.Size(
      hp.users, hp.items, hp.mf_width, hp.mlp_layers, hp.table_row_multiple
    )
    self._tables = Functional.of(lambda rngs: ncf.Tables(size, rngs=rngs))
    self._tower = Functional.of(
      lambda rngs: ncf.Tower(size, dtype=jnp.dtype(hp.compute_dtype), rngs=rngs)
    )
    self.optimizer = optax.adam(
      hp.base_learning_rate, b1=hp.beta_1, b2=hp.beta_2, eps=hp.epsilon
    )
    self.partition_rules = ncf.PARTITION_RULES
    self.reads = ('threads',)
    self.parts = hp.gradient_accumulation_steps
    self.train_specs = [
      batch_spec(
        hp.global_batch_size, user=np.int32, item=np.int32, label=np.float32
      )
    ]
    self.eval_specs = [
      batch_spec(
        hp.eval_batch_size,
        user=np.int32,
        item=(np.int32, self._candidates),
        valid=(np.bool_, self._candidates),
      )
    ]

  def values(self, spec):
    """See Task; of five items four are negatives, which all are as often."""
    return {
      'user': Values(0, self._hp.users),
      'item': Values(0, self._hp.items),
      'label': Values(0, 2),
    }

  @property
  def _candidates(self) -> int:
    return self._hp.eval_negatives + 1

  def init_model(self, key):
    """See Task."""
    of_tables, of_tower = jax.random.split(key)
    tables, _ = self._tables.init(of_tables)
    tower, stats = self._tower.init(of_tower)
    named = {name: tables[name] for name in _TABLES}
    return {'tables': named, 'tower': tower}, stats

  def loss(self, params, stats, batch, key):
    """Mean binary cross entropy over rows that are not padding; see Task."""
    del key  # nothing random inside the model
    rows = {name: params['tables'][name][batch[name]] for name in _TABLES}
    return self._loss(params['tower'], rows, stats, batch), (stats, {})

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> {'hits': [], 'users': []}, weighted counts of the batch.

    Ties and NaN scores count against the held-out item, so a model that gives
    all items the same score has no hits.
    """
    tables, tower = state.params['tables'], state.params['tower']
    scores, _ = self._tower.apply(
      tower,
      state.stats,
      tables['user'][batch['user']][:, None, :],
      tables['item'],
      pick=lambda of_items: of_items[batch['item']],
    )
    # Logits, not sigmoids: those are equal in float32 from about 17 on.
    positive, others = scores[:, -1:], scores[:, :-1]
    ahead = batch['valid'][:, :-1] & ~(others < positive)
    rank = 1 + jnp.sum(ahead, axis=-1)
    hits = (rank <= self._hp.hit_rank) & jnp.isfinite(scores[:, -1])
    return {
      'hits': jnp.sum(hits * batch['weight']),
      'users': jnp.sum(batch['weight']),
    }

  def _hit_rate(self, predictions: Iterable[PyTree]) -> dict[str, float]:
    """Hit rate, a fraction; RuntimeError unless every user was seen."""
    rate = mean.over_examples(
      predictions,
      'hits',
      'users',
      examples=self._data.eval_samples,
      what='users',
    )
    return {self.metric: rate}

  @property
  def metric(self) -> str:
    """Name of the quality: HR@10."""
    return f'HR@{self._hp.hit_rank}'

  def blocks(self, facts) -> list[blocks.Block]:
    """An eval after every epoch, or every few of them.

    The reference has one more eval, before the first epoch. It cannot end a run
    and would cost time on the clock, so it is left out.
    """
    del facts
    hp, steps = self._hp, self._steps_per_epoch
    return blocks.each_epoch(
      hp.max_epochs,
      every=hp.epochs_between_evals,
      steps=steps,
      samples=steps * hp.global_batch_size,
    )

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    movielens.verify(
      directory,
      users=self._hp.users,
      items=self._hp.items,
      train=self._data.train_samples,
      test=self._data.eval_samples,
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """Reads all interactions and draws the candidates; see Task."""
    del facts
    hp = self._hp
    interactions = movielens.load(data.directory)
    candidates = movielens.eval_candidates(
      interactions, seed=EVAL_SEED, negatives=hp.eval_negatives
    )
    return _Feed(
      self._train_rows(interactions, **data.training),
      lambda: movielens.eval_batches(
        interactions,
        candidates,
        batch_size=hp.eval_batch_size,
        valid=movielens.distinct(interactions, candidates),
        **data.share,
      ),
      data.put,
      score=self._hit_rate,
      first_step=data.first_step,
    )

  def _train_rows(self, interactions, first_step=0, **how) -> Iterator[Any]:
    """Epoch after epoch, each with negatives of its own."""
    hp = self._hp
    epochs_done, in_epoch = divmod(first_step, self._steps_per_epoch)
    for epoch in itertools.count(1 + epochs_done):
      yield from movielens.train_epoch(
        interactions,
        epoch=epoch,
        first_step=in_epoch if epoch == 1 + epochs_done else 0,
        batch_size=hp.global_batch_size,
        negatives=hp.negatives,
        reject=hp.reject_positives,
        **how,
      )

  def _loss(self, tower, rows, stats, batch) -> jax.Array:
    logits, _ = self._tower.apply(tower, stats, rows['user'], rows['item'])
    each = optax.sigmoid_binary_cross_entropy(logits, batch['label'])
    weight = batch['weight']
    return jnp.sum(each * weight) / jnp.maximum(jnp.sum(weight), 1.0)


class LazyNcfTask(NcfTask):
  """The same with lazy Adam, whose step costs what its batch costs."""

  def __init__(self, hp: Hparams, data: DataSet):
    """See NcfTask."""
    super().__init__(hp, data)
    self.optimizer = optimizers.lazy_adam(
      optax.constant_schedule(hp.base_learning_rate),
      beta_1=hp.beta_1,
      beta_2=hp.beta_2,
      epsilon=hp.epsilon,
    )

  def train_step(self, state, batch):
    """Gradients of the rows that the batch names, never of a table.

    So tables stay where they lie: fetching their rows costs less than they do.
    """
    tables, tower = state.params['tables'], state.params['tower']
    gathered = self.layout.for_loss(tower, 'tower')
    gradient = jax.value_and_grad(self._loss, argnums=(0, 1))

    def means(part, key):
      del key  # nothing random
      rows = {name: tables[name][part[name]] for name in _TABLES}
      loss, (of_tower, of_rows) = gradient(gathered, rows, state.stats, part)
      return (loss, self.layout.for_update(of_tower, 'tower')), of_rows

    (loss, of_tower), of_rows = accumulation.in_parts(
      means, batch, state.key, parts=self.parts, layout=self.layout
    )
    summed = {
      name: optimizers.sum_rows(
        batch[name], of_rows[name], table_rows=tables[name].shape[0]
      )
      for name in _TABLES
    }
    params, opt = self.optimizer.apply(
      {'tables': summed, 'tower': of_tower},
      state.opt,
      {'tables': tables, 'tower': self.layout.for_update(tower, 'tower')},
    )
    after = dataclasses.replace(
      state, step=state.step + 1, params=params, opt=opt
    )
    return after, {'loss': loss}


class _Feed(SupervisedFeed):
  """Candidates never change, so they stay on the devices from the first eval.

  At full size they are 0.7 GB over all devices, and finding the repeats in them
  takes longer than scoring them.
  """

  _kept: list[Any] | None = None

  def eval_batches(self):
    """See Feed."""
    if self._kept is None:
      self._kept = list(super().eval_batches())
    return iter(self._kept)

  def close(self):
    """See Feed."""
    self._kept = None
    super().close()


def make_task(hp: Hparams, data: DataSet) -> NcfTask:
  """The task of a run, by its optimizer."""
  kinds = {'adam': NcfTask, 'lazy_adam': LazyNcfTask}
  return kinds[hp.opt_name](hp, data)
