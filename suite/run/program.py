"""All compilation, ahead of time and from shapes; and the warm-up on zeros."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import dataclasses
import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import orbax.checkpoint as ocp

from suite.clock import Clock
from suite.run import flops, held, sharding, start
from suite.run.sharding import Layout
from suite.run.start import Weights
from suite.run.task import Batch, Spec, Staged, State, Task

# Counter-based and quick to compile: a jitted ResNet-50 init takes a third of
# the compile time that the default generator needs.
GENERATOR = 'rbg'

_EXCHANGED = 16  # numbers that hosts exchange in one call

_LONGEST_MS = 24 * 3_600_000  # of a wait for others, which a watchdog bounds

# Programs that are compiled at the same time; each takes gigabytes.
_MOST_COMPILED = 16

# What is split over the data axis though a task's rules leave it whole.
SPREADS = ('none', 'optimizer', 'parameters')


@dataclasses.dataclass(frozen=True)
class Build:
  """Layout of programs over the devices, and their compilation."""

  # XLA's options by name, handed to its compiler, which refuses unknown ones.
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  # none: nothing more than the rules say. optimizer: the optimizer's buffers,
  # so that each device updates its share of the parameters, and all fetch them
  # from each other. parameters: these too; they are fetched when they are used.
  spread: str = 'none'
  # Whether rows that belong together may be on several hosts.
  groups_across_hosts: bool = False
  # Programs, at most; None: one for each core of the machine.
  compiled_at_once: int | None = None

  def __post_init__(self):
    if self.spread not in SPREADS:
      raise ValueError(
        f'spread must be one of {", ".join(SPREADS)}, not {self.spread!r}.'
      )


@dataclasses.dataclass(frozen=True)
class ByShape:
  """One function of a state and a batch, compiled for each shape of a batch."""

  programs: Sequence[Callable[[State, Batch], Any]]
  specs: Sequence[Spec]  # of the batch that each takes

  def __call__(self, state: State, batch: Batch, *more: Any) -> Any:
    """Runs the program for this batch."""
    return self.programs[self.which(batch)](state, batch, *more)

  def which(self, batch: Batch) -> int:
    """The number of the program for a batch; ValueError if there is none."""
    if len(self.programs) == 1:
      return 0  # it checks the shape itself
    found = self._numbers.get(shape_of(batch))
    if found is None:
      known = ', '.join(label(spec) for spec in self.specs)
      raise ValueError(
        f'Expected a batch of one of the shapes {known}, got {label(batch)}.'
      )
    return found

  @functools.cached_property
  def _numbers(self) -> Mapping[Any, int]:
    return {shape_of(spec): n for n, spec in enumerate(self.specs)}


@dataclasses.dataclass(frozen=True)
class Program:
  """A task's compiled functions; nothing compiles after it is built."""

  mesh: Mesh
  state: State  # shape, dtype and sharding of every leaf
  init: Callable[[jax.Array], State]  # seed, uint32 [] -> what is not given
  train_step: ByShape  # state, batch -> (state, {metric: jax.Array []})
  predict: ByShape  # state, batch, carry -> (carry, output); takes the carry
  staged: Mapping[str, Callable[[State, Any], Any]]
  # uint32 [devices, W], a row a device -> the same, all of it on each device.
  exchange: Callable[[jax.Array], jax.Array]
  # Of each train step, on all devices; see `flops.total`.
  flops: Sequence[float | None]
  carry: Callable[[], Any] = dict  # -> what an eval begins with

  @classmethod
  def build(
    cls, task: Task, mesh: Mesh, clock: Clock, build: Build | None = None
  ) -> 'Program':
    """Compiles all that a run of `task` on `mesh` needs; touches no data."""
    build = build or Build()
    check(task, mesh, build)
    with clock.spent_on('build'):
      state = abstract_state(task)  # traced once: it takes a second
      lowered = lower(task, mesh, build, state)
      counted = [flops.total(step) for step in lowered['train_step']]
    with clock.spent_on('compile'):
      compiled = _compiled(lowered, build)
    return cls(
      mesh=mesh,
      state=state_spec(task, mesh, build, state),
      train_step=ByShape(compiled.pop('train_step'), task.train_specs),
      predict=ByShape(compiled.pop('predict'), task.eval_specs),
      flops=counted,
      **compiled,
    )

  def fresh_state(self, seed: int, weights: Weights | None = None) -> State:
    """The initial state that `seed` gives, and the weights it starts from.

    Leaves that are given (see `Task.given`) are zero without them.
    """
    made = self.init(sharding.put_same(np.uint32(seed), self.mesh))
    return start.fill(made, self.state, weights)

  def warm_up(self, task: Task) -> None:
    """Runs everything once, on zeros, and throws the results away.

    All hosts call it, and none begins before the last has compiled: Gloo gives
    up a collective that some reach half a minute later than others.
    """
    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key='compiled', timeout_ms=_LONGEST_MS)
    state = self.fresh_state(0)
    task.rehearse(state, self)
    for spec in self.predict.specs:
      zeros = self._zeros(spec), self.carry()
      jax.block_until_ready(self.predict(state, *zeros))
    for spec in self.train_step.specs:
      state, metrics = self.train_step(state, self._zeros(spec))
      jax.block_until_ready((state, metrics))
    self.any_host(False)

  def any_host(self, flag: bool) -> bool:
    """True on every host if it is on any; waits for all."""
    return bool(self.most(int(flag)))

  def most(self, number: int) -> int:
    """Returns the largest number, below 2**53, that any host has; see Maker."""
    return int(self._exchanged(np.asarray([number]))[:, 0].max())

  def total(self, numbers: Sequence[float]) -> np.ndarray:
    """Sums float64 numbers [N] over all hosts; see Maker."""
    numbers = np.asarray(numbers, np.float64)
    every = [
      self._exchanged(numbers[first : first + _EXCHANGED])[self._speakers]
      for first in range(0, len(numbers), _EXCHANGED)
    ]
    return np.concatenate(every, axis=1)[:, : len(numbers)].sum(axis=0)

  def _exchanged(self, numbers: np.ndarray) -> np.ndarray:
    """This host's numbers [N] -> those of every device, float64 [devices, M].

    They travel as their bits: devices have no float64. M is _EXCHANGED.
    """
    padded = np.zeros(_EXCHANGED)
    padded[: len(numbers)] = numbers
    local = np.tile(padded.view(np.uint32), (len(self.mesh.local_devices), 1))
    rows = sharding.put_rows({'numbers': local}, self._flat)['numbers']
    found = np.ascontiguousarray(jax.device_get(self.exchange(rows)))
    return found.view(np.float64)

  @functools.cached_property
  def _speakers(self) -> list[int]:
    """A device, by its place in the flat mesh, for each share of the rows."""
    places = {}
    for place, device in enumerate(self._flat.devices):
      share, _ = sharding.host_share(self.mesh, device.process_index)
      places.setdefault(share, place)
    return [places[share] for share in sorted(places)]

  def call(self, name: str, state: State, argument: Any) -> Any:
    """Runs what the task staged under `name`."""
    return self.staged[name](state, argument)

  @property
  def _flat(self) -> Mesh:
    return _flat(self.mesh)

  def _zeros(self, spec: Spec) -> Batch:
    _, share = sharding.host_share(self.mesh)
    return sharding.put_rows(
      {
        name: np.zeros((s.shape[0] // share, *s.shape[1:]), s.dtype)
        for name, s in spec.items()
      },
      self.mesh,
    )


def check(task: Task, mesh: Mesh, build: Build | None = None) -> None:
  """ValueError if the task can't be split over the mesh as `build` wants it."""
  if found := list(faults(task, mesh, build or Build())):
    raise ValueError(' '.join(found))


def faults(task: Task, mesh: Mesh, build: Build) -> Iterator[str]:
  """Reasons why a task can't be split over the mesh as `build` wants it."""
  for check in _checks(task, mesh, build):
    try:
      check()
    except ValueError as error:
      yield str(error)


def _checks(
  task: Task, mesh: Mesh, build: Build
) -> Iterator[Callable[[], Any]]:
  whole = functools.partial(sharding.check_batch, mesh=mesh)
  for spec in task.eval_specs:
    yield functools.partial(whole, 'The eval batch', rows_of(spec))
  for name, staged in task.staged().items():
    if staged.argument == sharding.ROWS:
      for n in sorted({leaf.shape[0] for leaf in jax.tree.leaves(staged.spec)}):
        yield functools.partial(whole, f'What {name!r} takes', n)
  for spec in task.train_specs:
    yield functools.partial(_check_train, task, rows_of(spec), mesh, build)
  if build.spread != 'none':
    yield functools.partial(layout, task, mesh, build)


def _check_train(task: Task, rows: int, mesh: Mesh, build: Build) -> None:
  set_by = f' (see {task.rows_set_by})' if task.rows_set_by else ''
  sharding.check_batch(f'The train batch{set_by}', rows, mesh)
  sharding.check_parts(rows, task.parts, task.row_group, mesh)
  if not build.groups_across_hosts:
    sharding.check_groups('The train batch', rows, task.row_group, mesh)


def host_rows(tree: Any) -> Any:
  """Fetches arrays as numpy arrays; where rows are split over hosts, its own.

  So `sharding.put_rows` is undone. Waits for the devices.
  """
  arrays, structure = jax.tree.flatten(tree)
  whole = [a for a in arrays if a.is_fully_addressable or a.is_fully_replicated]
  fetched = iter(jax.device_get(whole))  # all at once
  is_whole = {id(array) for array in whole}
  return jax.tree.unflatten(
    structure,
    [
      next(fetched) if id(array) in is_whole else _host_rows(array)
      for array in arrays
    ],
  )


def _host_rows(array: jax.Array) -> np.ndarray:
  # A model axis has the same rows on several devices.
  by_row = {
    shard.index[0].start or 0: shard.data for shard in array.addressable_shards
  }
  shards = jax.device_get([by_row[start] for start in sorted(by_row)])
  return np.concatenate(shards)


def rows_of(spec: Spec) -> int:
  """The rows of a batch."""
  return max(leaf.shape[0] for leaf in spec.values())


def bytes_of(spec: Spec) -> int:
  """The bytes of a batch."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in spec.values())


def shape_of(batch: Batch | Spec) -> frozenset[tuple[str, tuple[int, ...]]]:
  """The shape of each field of a batch."""
  return frozenset((name, leaf.shape) for name, leaf in batch.items())


def label(batch: Batch | Spec) -> str:
  """The shape of the largest field of a batch, as '64x31'."""
  largest = max(batch.values(), key=lambda leaf: math.prod(leaf.shape))
  return 'x'.join(str(size) for size in largest.shape)


def _compiled(lowered: dict[str, Any], build: Build) -> dict[str, Any]:
  """Compiles all programs, several at once where there are cores for it."""
  stages, structure = jax.tree.flatten(
    lowered, is_leaf=lambda x: hasattr(x, 'compile')
  )

  def one(stage):
    return stage.compile(compiler_options=dict(build.options) or None)

  # In the same order on all hosts, which may share what they find out.
  threads = min(build.compiled_at_once or os.cpu_count() or 1, _MOST_COMPILED)
  with futures.ThreadPoolExecutor(threads) as pool:
    return jax.tree.unflatten(structure, pool.map(one, stages))


def abstract_state(task: Task) -> State:
  """The shapes of a state, found without making one."""
  return jax.eval_shape(_seeded(task), _SEED)


_SEED = jax.ShapeDtypeStruct((), np.uint32)


def _seeded(task: Task) -> Callable[[jax.Array], State]:
  return lambda seed: task.init(jax.random.key(seed, impl=GENERATOR))


def layout(task: Task, mesh: Mesh, build: Build | None = None) -> State:
  """The sharding of every leaf of a state: by the rules, then the spread.

  ValueError where the rules do not fit the task, or the spread splits nothing.
  """
  return _states(task, abstract_state(task), mesh, build or Build())


def state_spec(
  task: Task, mesh: Mesh, build: Build | None = None, state: State | None = None
) -> State:
  """Shape, dtype and sharding of every leaf; `state` as `lower` takes it."""
  state = state or abstract_state(task)
  return jax.tree.map(
    lambda leaf, placed: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=placed
    ),
    state,
    _states(task, state, mesh, build or Build()),
  )


def _states(task: Task, state: State, mesh: Mesh, build: Build) -> State:
  ruled = sharding.from_rules(state, task.partition_rules, mesh)
  if build.spread == 'none':
    return ruled
  spread = dataclasses.replace(
    ruled,
    opt=sharding.spread(state.opt, ruled.opt, mesh),
    average=sharding.spread(state.average, ruled.average, mesh),
  )
  if build.spread == 'parameters':
    spread = dataclasses.replace(
      spread,
      params=sharding.spread(state.params, ruled.params, mesh),
      frozen=sharding.spread(state.frozen, ruled.frozen, mesh),
    )
  if spread == ruled:
    raise ValueError(
      f'A spread of {build.spread} splits nothing: expected leaves of '
      f'{sharding.SMALL} elements or more that the rules leave whole and '
      f'{mesh.shape[sharding.DATA]} devices divide.'
    )
  return spread


def _inside(task: Task, state: State, mesh: Mesh, build: Build) -> Layout:
  """Places of arrays inside a train step."""
  if build.spread == 'none':
    return Layout(mesh)
  ruled = _states(task, state, mesh, Build())
  updated = sharding.spread(state.params, ruled.params, mesh)
  return Layout(mesh, ruled.params, updated, ruled.frozen)


def lower(
  task: Task, mesh: Mesh, build: Build | None = None, state: State | None = None
) -> dict[str, Any]:
  """Every program of a run, lowered from shapes, by its name in `Program`.

  Of the train step and of `predict` there is a list, one for each shape of a
  batch, in the order of the task's specs. The mesh may be of devices that are
  not there (an ahead-of-time topology). `state` is that of `abstract_state`,
  where it is known already.
  """
  build = build or Build()
  state = state or abstract_state(task)
  states = _states(task, state, mesh, build)
  task = task.laid_out(_inside(task, state, mesh, build))
  same = sharding.replicated(mesh)
  exchanged = jax.ShapeDtypeStruct((mesh.size, 2 * _EXCHANGED), jnp.uint32)
  programs = {
    'init': jax.jit(
      lambda seed: start.made(_seeded(task)(seed), task.given),
      in_shardings=same,
      out_shardings=start.made(states, task.given),
    ).lower(_SEED),
    'train_step': [
      _train_step(task, spec, state, states, mesh) for spec in task.train_specs
    ],
    'predict': [
      _predict(task, spec, state, states, mesh) for spec in task.eval_specs
    ],
    'staged': {
      name: _staged(task, staged, state, states, mesh)
      for name, staged in task.staged().items()
    },
    'exchange': jax.jit(
      lambda numbers: numbers,
      in_shardings=sharding.split_rows(_flat(mesh)),
      out_shardings=sharding.replicated(_flat(mesh)),
    ).lower(exchanged),
  }
  if jax.tree.leaves(task.carry.spec):
    programs['carry'] = jax.jit(
      lambda: jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), task.carry.spec
      ),
      out_shardings=_placed(task.carry.layout, mesh),
    ).lower()
  return programs


def _train_step(
  task: Task, spec: Spec, state: State, states: State, mesh: Mesh
) -> Any:
  rows, same = sharding.split_rows(mesh), sharding.replicated(mesh)
  return jax.jit(
    task.train_step,
    in_shardings=(states, rows),
    out_shardings=(states, same),
    donate_argnums=0,
  ).lower(state, dict(spec))


def _predict(
  task: Task, spec: Spec, state: State, states: State, mesh: Mesh
) -> Any:
  carry = _placed(task.carry.layout, mesh)

  def predict(state, batch, carry):
    return task.combine(carry, task.predict(state, batch))

  return jax.jit(
    _fetching(task, predict, averaged=True),
    in_shardings=(states, sharding.split_rows(mesh), carry),
    out_shardings=(carry, _placed(task.outputs, mesh)),
    donate_argnums=2,
  ).lower(state, dict(spec), task.carry.spec)


def _staged(
  task: Task, staged: Staged, state: State, states: State, mesh: Mesh
) -> Any:
  return jax.jit(
    _fetching(task, staged.function),
    in_shardings=(states, _placed(staged.argument, mesh)),
    out_shardings=_placed(staged.result, mesh),
    donate_argnums=1 if staged.donated else (),
  ).lower(state, staged.spec)


def _placed(specs: Any, mesh: Mesh) -> Any:
  """A sharding for each of the PartitionSpecs in a tree."""
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, spec),
    specs,
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )


def _fetching(
  task: Task, function: Callable[..., Any], *, averaged: bool = False
) -> Callable[..., Any]:
  """Wraps `function(state, ...)` to get the whole of the model.

  Parameters that are spread are fetched, and what is frozen is in its place.
  `averaged` takes the running mean of the parameters where there is one.
  """

  @functools.wraps(function)
  def fetched(state, *arguments):
    averages = averaged and task.average is not None
    params = task.layout.for_loss(state.average if averages else state.params)
    model = {'params': params, 'stats': state.stats}
    if task.frozen:
      frozen = task.layout.frozen_for_loss(state.frozen)
      model = held.put_back(model, frozen)
    return function(dataclasses.replace(state, **model), *arguments)

  return fetched


def _flat(mesh: Mesh) -> Mesh:
  return Mesh(mesh.devices.reshape(-1), (sharding.DATA,))
