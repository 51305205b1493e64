"""Clicks as a task: loss, AUC, and steps that update the rows of a batch."""

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipelines.criteo import read as criteo
from models import dlrm
from models.parts.functional import Functional
from models.parts.tables import Tables
from suite.benchmark import DataSet
from suite.benchmarks.dlrm import Hparams
from suite.metrics import auc
from suite.run import accumulation, blocks, optimizers
from suite.run.drawn import Values
from suite.run.feed import Data, Feed, SupervisedFeed
from suite.run.task import Batch, Facts, PyTree, State, Task, batch_spec

# What the rate never falls below: LRPolicyScheduler in dlrm_s_pytorch.py.
MIN_RATE = 1e-7
PARTS = ('store', 'whole')  # of the parameters


class ClicksTask(Task):
  """Predicts clicks from counts and categories; area under the ROC curve.

  Subclasses set the model, the optimizer and what is particular of the data.
  """

  first_epoch = 0  # what the log calls the start of a run
  shuffles = False  # whether batches come in another order than on disk
  keeps_rest = False  # whether an epoch ends with a batch that is not full

  def __init__(
    self,
    hp: Any,
    data: DataSet,
    *,
    lookups: tuple[int, ...],
    rows: optimizers.RowOptimizer,
    groups: int = 1,
    cross_layers: int = 0,
    cross_rank: int = 1,
  ):
    """Raises ValueError where the hyperparameters do not fit each other."""
    self._hp = hp
    self._data = data
    self._lookups = lookups
    self._rows = rows
    self._tables = Tables(
      hp.tables, lookups, hp.bottom_layers[-1], hp.whole_table_rows, groups
    )
    size = dlrm.Size(
      self._tables,
      hp.counts,
      hp.bottom_layers,
      hp.top_layers,
      cross_layers,
      cross_rank,
    )
    self._layers = Functional.of(
      lambda rngs: dlrm.Interaction(
        size, dtype=jnp.dtype(hp.compute_dtype), rngs=rngs
      )
    )
    self.optimizer = optax.GradientTransformation(self._init_optimizer, None)
    self.partition_rules = dlrm.PARTITION_RULES
    self.reads = ('threads',)
    self.parts = hp.gradient_accumulation_steps
    self.train_specs = [self._spec(hp.global_batch_size)]
    self.eval_specs = [self._spec(hp.eval_batch_size)]

  def _spec(self, rows: int):
    return batch_spec(
      rows,
      dense=(np.float32, self._hp.counts),
      ids=(np.int32, sum(self._lookups)),
      label=np.float32,
    )

  def values(self, spec):
    """See Task; counts are logarithms, and a few ids make up most clicks."""
    return {
      'dense': Values(0.0, 4.0),
      'ids': Values(0, np.repeat(self._hp.tables, self._lookups), skewed=True),
      'label': Values(0, 2),
    }

  def _init_optimizer(self, params):
    """A state of each part: only one of them is updated by rows."""
    return {part: self._rows.init(params[part]) for part in PARTS}

  def init_model(self, key):
    """See Task."""
    of_tables, of_layers = jax.random.split(key)
    store, small = self._tables.init(of_tables)
    layers, stats = self._layers.init(of_layers)
    return {'store': store, 'whole': {**layers, 'small': small}}, stats

  def loss(self, params, stats, batch, key):
    """Mean binary cross entropy over rows that are not padding; see Task."""
    del key  # nothing random inside the model
    large, _ = self._lookup(params, batch)
    return self._loss(params['whole'], large, stats, batch), (stats, {})

  def train_step(self, state: State, batch: Batch):
    """Gradients of the vectors that the batch looks up, never of a table."""
    params, layout = state.params, self.layout
    large, plan = self._lookup(params, batch)
    whole = layout.for_loss(params['whole'], 'whole')
    gradient = jax.value_and_grad(self._loss, argnums=(0, 1))

    def means(part, key):
      del key  # nothing random
      loss, (of_whole, of_large) = gradient(
        whole, part['large'], state.stats, part
      )
      return (loss, layout.for_update(of_whole, 'whole')), of_large

    (loss, of_whole), of_large = accumulation.in_parts(
      means, {**batch, 'large': large}, state.key, parts=self.parts,
      layout=layout,
    )  # fmt: skip
    updated, opt = self._rows.apply(
      of_whole,
      state.opt['whole'],
      layout.for_update(params['whole'], 'whole'),
    )
    store, of_store = self._tables.update(
      (params['store'], state.opt['store']),
      plan,
      of_large,
      self._update_rows,
      layout.mesh,
    )
    after = dataclasses.replace(
      state,
      step=state.step + 1,
      params={'store': store, 'whole': updated},
      opt={'store': of_store, 'whole': opt},
    )
    return after, {'loss': loss}

  def _update_rows(self, stores, rows, gradients):
    """An update of some rows; gradients of one row are summed first."""
    store, opt = stores
    summed = optimizers.sum_rows(rows, gradients, table_rows=store.shape[0])
    return self._rows.apply(summed, opt, store)

  def predict(self, state: State, batch: Batch) -> PyTree:
    """-> {'score': [B], 'label': [B], 'weight': [B]}; scores are logits."""
    large, _ = self._lookup(state.params, batch)
    logits, _ = self._layers.apply(
      state.params['whole'], state.stats, batch['dense'], batch['ids'], large
    )
    return {
      'score': logits,
      'label': batch['label'],
      'weight': batch['weight'],
    }

  def _auc(self, predictions: Iterable[PyTree]) -> dict[str, float]:
    """AUC of all test samples; RuntimeError unless each was seen."""
    examples = self._data.eval_samples
    return {'AUC': auc.over_examples(predictions, examples=examples)}

  def blocks(self, facts) -> list[blocks.Block]:
    """Evals after equal parts of the only epoch."""
    del facts
    rows = self._hp.global_batch_size
    return blocks.in_fractions(
      round(1 / self._hp.epochs_between_evals),
      steps=criteo.steps_per_epoch(
        self._data.train_samples, rows, drop_last=not self.keeps_rest
      ),
      rows=rows,
      before=self.first_epoch,
    )

  def inspect(self, directory: str) -> Facts:
    """See Task."""
    criteo.verify(
      directory,
      train=self._data.train_samples,
      test=self._data.eval_samples,
      tables=self._hp.tables,
      hots=self._lookups,
    )
    return Facts()

  def open(self, data: Data, facts: Facts) -> Feed:
    """See Task."""
    del facts
    clicks = criteo.load(data.directory)
    return SupervisedFeed(
      criteo.train_batches(
        clicks,
        batch_size=self._hp.global_batch_size,
        shuffle=self.shuffles,
        drop_last=not self.keeps_rest,
        **data.training,
      ),
      lambda: criteo.eval_batches(
        clicks,
        batch_size=self._hp.eval_batch_size,
        threads=data.threads,
        **data.share,
      ),
      data.put,
      score=self._auc,
      first_step=data.first_step,
    )

  def _lookup(self, params, batch):
    return self._tables.lookup(params['store'], batch['ids'], self.layout.mesh)

  def _loss(self, whole, large, stats, batch) -> jax.Array:
    logits, _ = self._layers.apply(
      whole, stats, batch['dense'], batch['ids'], large
    )
    each = optax.sigmoid_binary_cross_entropy(logits, batch['label'])
    weight = batch['weight']
    return jnp.sum(each * weight) / jnp.maximum(jnp.sum(weight), 1.0)


class DlrmTask(ClicksTask):
  """DLRM: dot products, SGD; batches of the epoch come in random order."""

  first_epoch = 1  # from round v1.1 on; before, and in the next model, 0
  shuffles = True
  keeps_rest = True
  tensors = (
    'embeddings',
    *(f'bottom_mlp_dense{n}' for n in (1, 2, 3)),
    *(f'top_mlp_dense{n}' for n in (1, 2, 3, 4, 5)),
  )

  def __init__(self, hp: Hparams, data: DataSet):
    """See ClicksTask."""
    self.rate = warmup_hold_decay(
      base=hp.base_learning_rate,
      decay_from=hp.sgd_base_learning_rate,
      power=hp.decay_power,
      warmup_steps=hp.warmup_steps,
      decay_start=hp.decay_start_steps,
      decay_steps=hp.decay_steps,
    )
    super().__init__(
      hp,
      data,
      lookups=(1,) * len(hp.tables),
      rows=optimizers.row_sgd(self.rate),
    )


def warmup_hold_decay(
  *,
  base: float,
  warmup_steps: int,
  decay_start: int,
  decay_steps: int,
  decay_from: float | None = None,
  power: int = 2,
) -> Callable[[jax.Array], jax.Array]:
  """A line up to `base`, what it reached, then a power of what remains.

  This is LRPolicyScheduler of the reference, which counts steps from 1: step s
  of a warmup of W has base s / W, and the last that is part of it is W - 1, so
  the rate that is held is base (W - 1) / W. The decay from step `decay_start`
  lasts `decay_steps`; its last rate stays. Without a decay the rate is `base`
  once the warmup is over. The schedule's argument is s - 1.
  """
  decay_from = base if decay_from is None else decay_from
  held = base
  if decay_steps and warmup_steps > 1:
    held = base * (warmup_steps - 1) / warmup_steps

  def schedule(count):
    step = jnp.asarray(count, jnp.float32) + 1
    rate = jnp.where(
      step < warmup_steps, base * step / max(warmup_steps, 1), held
    )
    if not decay_steps:
      return rate
    done = jnp.minimum(step - decay_start, decay_steps - 1)
    decayed = decay_from * ((decay_steps - done) / decay_steps) ** power
    return jnp.where(step < decay_start, rate, jnp.maximum(MIN_RATE, decayed))

  return schedule


def make_task(hp: Hparams, data: DataSet) -> DlrmTask:
  """The task of a run."""
  return DlrmTask(hp, data)
