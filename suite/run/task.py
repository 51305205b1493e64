"""A learning problem as pure functions, and the state that training carries."""

import abc
from collections.abc import Callable, Mapping, Sequence
import copy
import dataclasses
from typing import Any

import jax
from jax.sharding import PartitionSpec
import numpy as np
import optax

from suite.run import accumulation, held
from suite.run.blocks import Block
from suite.run.drawn import Rows, Values
from suite.run.feed import Data, Feed, Maker
from suite.run.sharding import Layout

PyTree = Any
Batch = Mapping[str, jax.Array]  # 'weight' is 0 on padded rows
Spec = Mapping[str, jax.ShapeDtypeStruct]  # global shapes

_WHOLE = PartitionSpec()  # the same on every device


def batch_spec(rows: int, **fields: Any) -> Spec:
  """Spec of a batch, 'weight' added: image=(np.uint8, 28, 28, 3), id=np.int32.

  A field is a dtype, or a tuple of one and the shape of a row.
  """
  fields = {**fields, 'weight': np.float32}
  spec = {}
  for name, field in fields.items():
    kind, *shape = field if isinstance(field, tuple) else (field,)
    spec[name] = jax.ShapeDtypeStruct((rows, *shape), kind)
  return spec


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """Everything a step carries to the next; every leaf a jax.Array."""

  step: jax.Array  # int32 [], steps done
  key: jax.Array  # the run's key; a step's is `fold_in(key, step)`
  params: PyTree
  stats: PyTree  # what the model keeps beside its parameters, not trained
  opt: PyTree
  # {'params': ..., 'stats': ...} that stay as they are: see `Task.frozen`.
  frozen: PyTree = dataclasses.field(default_factory=dict, kw_only=True)
  # Running mean of the parameters: see `Task.average`.
  average: PyTree = dataclasses.field(default_factory=dict, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Staged:
  """`function(state, argument)` that a feed calls on the clock.

  It is compiled ahead of time for `spec`, the shapes of `argument`, which are
  global. A PartitionSpec for all of the argument, or a tree of them for parts
  of it, says how it is split over the mesh, and another how the result is; by
  default neither is. What is `donated` is used up by the call.
  """

  function: Callable[[State, PyTree], PyTree]
  spec: PyTree
  argument: PyTree = _WHOLE
  result: PyTree = _WHOLE
  donated: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
  """Facts of a data set, read from its metadata before the clock starts.

  A task whose blocks depend on more than this has a subclass of its own.
  """

  logged: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, kw_only=True
  )  # for the log, by key


@dataclasses.dataclass(frozen=True)
class Carry:
  """Arrays that stay on the devices from one batch of an eval to the next.

  Each eval begins with zeros. A PartitionSpec for all of `spec`, which holds
  global shapes, or a tree of them says how they are split over the mesh.
  """

  spec: PyTree = dataclasses.field(default_factory=dict)
  layout: PyTree = _WHOLE


class Task(abc.ABC):
  """A learning problem as pure functions; `open` is its only way to data.

  No call changes a task: everything that a data set adds is in its `Facts`, or
  in the `Feed` that `open` returns.

  Attributes:
    optimizer: applied by the default `train_step`.
    partition_rules: (path regex, PartitionSpec) pairs; see `sharding`.
    train_specs: {field: shape and dtype} of a global training batch; several
      where batches have several shapes, and then each has a train step.
    eval_specs: the same of a global eval batch.
    outputs: a PartitionSpec for all that an eval hands to the host, or a tree
      of them. By default every host gets all; `sharding.ROWS` leaves each row
      with the host that fed it.
    carry: arrays that an eval carries from batch to batch; see `combine`.
    reads: fields of `input_pipelines.reading.batching.Reading` that its feed
      supports; others are refused before a run starts.
    frozen: regexes of paths, as '^params/backbone/'. What they match of what
      `init_model` returns is not trained: there is no gradient of it, no state
      of the optimizer, and what `loss` returns of it is dropped. `loss`,
      `predict` and staged functions get it in its place nevertheless.
    average: share of the running mean of the parameters that a step keeps, by
      the step's number from 0. Evals use that mean. None: there is none.
    given: regexes of paths of leaves that a run starts from weights with, as
      '^(params|stats)/'; frozen or not, a leaf has its path in `init_model`.
      These leaves are read and not initialised, and the weights hold no others.
    parts: a train step is done in so many; see `suite.run.accumulation`.
    row_group: consecutive rows of a training batch that belong together, as
      those that batch norm normalises by moments of their own.
    tensors: what the log calls the tensors that are initialised, where it names
      them.
    rows_set_by: the hyperparameter that the rows of a batch follow from, where
      that is not plain; for messages.
    layout: where arrays lie inside a train step; set by `laid_out`.
  """

  optimizer: optax.GradientTransformation
  partition_rules: Sequence[tuple[str, PartitionSpec]]
  train_specs: Sequence[Spec]
  eval_specs: Sequence[Spec]
  outputs: PyTree = _WHOLE
  carry: Carry = Carry()
  reads: Sequence[str] = ()
  frozen: Sequence[str] = ()
  average: optax.Schedule | None = None
  given: Sequence[str] = ()
  parts: int = 1
  row_group: int = 1
  tensors: Sequence[str] = ()
  rows_set_by: str = ''
  layout: Layout = Layout()

  @abc.abstractmethod
  def init_model(self, key: jax.Array) -> tuple[PyTree, PyTree]:
    """Returns fresh `(params, stats)`."""

  @abc.abstractmethod
  def loss(
    self, params: PyTree, stats: PyTree, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
    """Returns the loss [] and `(stats, metrics)`, metrics being scalars.

    Loss and metrics are means over the rows by their weight. With several parts
    so must the stats be, or what moves towards such means: each part starts
    from the same stats, and the step ends with their mean.
    """

  @abc.abstractmethod
  def predict(self, state: State, batch: Batch) -> PyTree:
    """The device half of an eval: the output for one batch."""

  def combine(self, carry: PyTree, found: PyTree) -> tuple[PyTree, PyTree]:
    """Adds what `predict` found to the carry -> the carry and the host's part.

    By default the host gets what was found. A task that sums over the batches
    of a sample declares `carry` and returns from here what is complete. Runs on
    the devices, in one program with `predict`.
    """
    return carry, found

  @abc.abstractmethod
  def blocks(self, facts: Facts) -> Sequence[Block]:
    """The budget: every block of training that a run may do, in order."""

  @abc.abstractmethod
  def open(self, data: Data, facts: Facts) -> Feed:
    """The first touch of data; called once the clock runs."""

  def inspect(self, directory: str) -> Facts:
    """Reads the facts of a data set, and refuses one of another task.

    Called before the clock starts, so it may read metadata only. Raises
    ValueError or OSError in words.
    """
    del directory
    return Facts()

  def values(self, spec: Spec) -> Mapping[str, Values]:
    """Values of fields of a batch of that spec, where they matter to a step.

    Its speed is measured without data too, on what `drawn.draw` makes of them.
    Fields that this batch lacks are ignored.
    """
    del spec
    return {}

  def fitted(self, rows: Rows) -> Rows:
    """Drawn rows, with fields that depend on each other as in data."""
    return rows

  def contents(self, rows: Rows) -> dict[str, float]:
    """Amounts that the rows of a training batch hold, 'samples' first."""
    return {'samples': float((rows['weight'] > 0).sum())}

  def shared_by(self, devices: int) -> 'Task':
    """The same task, with batches that so many devices can share.

    By default it is as it is, and batches must have rows for all of them.
    """
    del devices
    return self

  def staged(self) -> Mapping[str, Staged]:
    """Functions that feeds call on the clock, by name."""
    return {}

  def rehearse(self, state: State, maker: Maker) -> None:  # noqa: B027
    """Runs what is staged once, before the clock starts, to warm it up."""

  def init(self, key: jax.Array) -> State:
    """A fresh state; `key` is used up."""
    model_key, run_key = jax.random.split(key)
    params, stats = self.init_model(model_key)
    model, frozen = {'params': params, 'stats': stats}, {}
    if self.frozen:
      model, frozen = held.take(model, self.frozen)
      if not jax.tree.leaves(model['params']):
        raise ValueError(
          f'Expected parameters to train, got none: {self.frozen} freezes all.'
        )
    return State(
      step=jax.numpy.zeros((), jax.numpy.int32),
      key=run_key,
      **model,
      opt=self.optimizer.init(model['params']),
      frozen=frozen,
      average={} if self.average is None else model['params'],
    )

  def laid_out(self, layout: Layout) -> 'Task':
    """A copy whose train step keeps to `layout`."""
    task = copy.copy(self)
    task.layout = layout
    return task

  def train_step(
    self, state: State, batch: Batch
  ) -> tuple[State, dict[str, jax.Array]]:
    """One step of the optimizer -> the next state and scalar metrics."""
    frozen = self.layout.frozen_for_loss(state.frozen)
    gradient = jax.value_and_grad(self._loss_of_trained, has_aux=True)
    params = self.layout.for_loss(state.params)

    def means(part, key):
      (loss, (stats, metrics)), grads = gradient(
        params, state.stats, frozen, part, key
      )
      grads = self.layout.for_update(grads)
      return (grads, stats, {'loss': loss, **metrics}), ()

    key = jax.random.fold_in(state.key, state.step)
    (grads, stats, metrics), _ = accumulation.in_parts(
      means, batch, key, parts=self.parts, layout=self.layout
    )
    params = self.layout.for_update(state.params)
    updates, opt = self.optimizer.update(grads, state.opt, params)
    params, average = optax.apply_updates(params, updates), state.average
    if self.average is not None:
      moved = 1 - self.average(state.step)
      average = jax.tree.map(lambda a, p: a + moved * (p - a), average, params)
    after = State(
      step=state.step + 1,
      key=state.key,
      params=params,
      stats=stats,
      opt=opt,
      frozen=state.frozen,
      average=average,
    )
    return after, metrics

  def _loss_of_trained(self, params, stats, frozen, batch, key):
    """`loss`, given and returning what is trained beside what is frozen."""
    if not frozen:
      return self.loss(params, stats, batch, key)
    whole = held.put_back({'params': params, 'stats': stats}, frozen)
    loss, (stats, metrics) = self.loss(**whole, batch=batch, key=key)
    return loss, (held.without(stats, frozen['stats']), metrics)
