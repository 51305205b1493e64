"""All compilation, ahead of time and from shapes; and the warm-up on zeros."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from suite import sharding
from suite.clock import Clock
from suite.task import Batch, Spec, State, Task

# Counter-based and quick to compile: a jitted ResNet-50 init takes a third of
# the compile time that the default generator needs.
GENERATOR = 'rbg'


@dataclasses.dataclass(frozen=True)
class Build:
  """How programs are laid out over the devices and compiled."""

  # XLA's options by name, handed to its compiler, which refuses unknown ones.
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Program:
  """A task's compiled functions; nothing compiles after it is built."""

  mesh: Mesh
  init: Callable[[jax.Array], State]  # seed, uint32 [] -> state
  train_step: Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]
  predict: Callable[[State, Batch], Any]
  staged: Mapping[str, Callable[[State, Any], Any]]
  votes: Callable[[jax.Array], jax.Array]
  train_spec: Spec
  eval_spec: Spec
  flops_per_step: float | None  # of the compiled train step, all devices

  @classmethod
  def build(
    cls, task: Task, mesh: Mesh, clock: Clock, build: Build | None = None
  ) -> 'Program':
    """Compiles all that a run of `task` on `mesh` needs; touches no data."""
    build = build or Build()
    check(task, mesh)
    with clock.spent_on('build'):
      lowered = lower(task, mesh, build)
    with clock.spent_on('compile'):
      compiled = jax.tree.map(
        lambda low: low.compile(compiler_options=dict(build.options) or None),
        lowered,
        is_leaf=lambda x: hasattr(x, 'compile'),
      )
    return cls(
      mesh=mesh,
      train_spec=task.train_spec,
      eval_spec=task.eval_spec,
      flops_per_step=_flops(compiled['train_step'], mesh),
      **compiled,
    )

  def fresh_state(self, seed: int) -> State:
    """The initial state that `seed` gives."""
    return self.init(sharding.put_same(np.uint32(seed), self.mesh))

  def warm_up(self) -> None:
    """Runs everything once on zeros and throws the results away."""
    state = self.fresh_state(0)
    predictions = self.predict(state, self._zeros(self.eval_spec))
    state, metrics = self.train_step(state, self._zeros(self.train_spec))
    jax.block_until_ready((predictions, state, metrics))
    self.any_host(False)

  def any_host(self, flag: bool) -> bool:
    """Whether any host says so; every host gets the same answer, and waits."""
    local = np.full(len(self.mesh.local_devices), flag, np.int32)
    rows = sharding.put_rows({'vote': local}, self._flat)['vote']
    return bool(jax.device_get(self.votes(rows)))

  def call(self, name: str, state: State, argument: Any) -> Any:
    """Runs what the task staged under `name`."""
    return self.staged[name](state, argument)

  @property
  def _flat(self) -> Mesh:
    return _flat(self.mesh)

  def _zeros(self, spec: Spec) -> Batch:
    share = jax.process_count()
    return sharding.put_rows(
      {
        name: np.zeros((s.shape[0] // share, *s.shape[1:]), s.dtype)
        for name, s in spec.items()
      },
      self.mesh,
    )


def check(task: Task, mesh: Mesh) -> None:
  """ValueError if the task's batches can't be split over the mesh."""
  for name, spec in (('train', task.train_spec), ('eval', task.eval_spec)):
    rows = {leaf.shape[0] for leaf in spec.values()}
    sharding.check_batch(f'The {name} batch', max(rows), mesh)


def abstract_state(task: Task) -> State:
  """The shapes of a state, found without making one."""
  return jax.eval_shape(_seeded(task), _SEED)


_SEED = jax.ShapeDtypeStruct((), np.uint32)


def _seeded(task: Task) -> Callable[[jax.Array], State]:
  return lambda seed: task.init(jax.random.key(seed, impl=GENERATOR))


def lower(task: Task, mesh: Mesh, build: Build | None = None) -> dict[str, Any]:
  """Every program of a run, lowered from shapes, by its name in `Program`.

  The mesh may be of devices that are not there (an ahead-of-time topology).
  """
  del build  # its options are the compiler's
  state = abstract_state(task)
  states = sharding.from_rules(state, task.partition_rules, mesh)
  rows, same = sharding.split_rows(mesh), sharding.replicated(mesh)
  votes = jax.ShapeDtypeStruct((mesh.size,), jnp.int32)
  return {
    'init': jax.jit(
      _seeded(task), in_shardings=same, out_shardings=states
    ).lower(_SEED),
    'train_step': jax.jit(
      task.train_step,
      in_shardings=(states, rows),
      out_shardings=(states, same),
      donate_argnums=0,
    ).lower(state, dict(task.train_spec)),
    'predict': jax.jit(
      task.predict, in_shardings=(states, rows), out_shardings=same
    ).lower(state, dict(task.eval_spec)),
    'staged': {
      name: jax.jit(
        staged.function, in_shardings=(states, same), out_shardings=same
      ).lower(state, staged.spec)
      for name, staged in task.staged().items()
    },
    'votes': jax.jit(
      jnp.max,
      in_shardings=sharding.split_rows(_flat(mesh)),
      out_shardings=sharding.replicated(_flat(mesh)),
    ).lower(votes),
  }


def _flat(mesh: Mesh) -> Mesh:
  return Mesh(mesh.devices.reshape(-1), (sharding.DATA,))


def _flops(compiled: Any, mesh: Mesh) -> float | None:
  costs = compiled.cost_analysis() or {}
  flops = costs.get('flops', 0.0)
  return flops * mesh.size if flops > 0 else None
