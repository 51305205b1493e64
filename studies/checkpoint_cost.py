r"""Cost of checkpoints: their share of a run, and a save's blocking part.

python studies/checkpoint_cost.py --megabytes=300 --directory=/tmp/saved

Saves a state while a loop computes on it, once for every `--every` steps, and
prints for each: seconds a save blocks the loop and takes in all, seconds that
the steps take while it is written and while nothing is, and the share of a
run's time that follows for that cadence and for the default one.
"""

import dataclasses
import os
import shutil
import statistics
import sys
import tempfile
import time

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from suite.clock import Clock
from suite.run import sharding
from suite.run.checkpoint import Checkpoints, Position
from suite.run.task import State

_MEGABYTES = flags.DEFINE_integer('megabytes', 300, 'Size of the state.')
_EVERY = flags.DEFINE_multi_integer(
  'every', [5, 20], 'Steps from one checkpoint to the next.'
)
_SAVES = flags.DEFINE_integer('saves', 4, 'Checkpoints of each cadence.')
_LEAVES = flags.DEFINE_integer('leaves', 100, 'Arrays that the state is of.')
_DIRECTORY = flags.DEFINE_string(
  'directory', '', 'Folder on the disk to write to; by default a temporary one.'
)
_MINUTES = 10.0  # the default cadence


def _state(mesh) -> State:
  """A state of equal matrices, replicated, float32."""
  same = sharding.replicated(mesh)
  rows = max(1, (_MEGABYTES.value << 20) // (_LEAVES.value * 4096))
  draw = np.random.default_rng(0)
  params = [
    jax.device_put(draw.normal(size=(rows, 1024)).astype(np.float32), same)
    for _ in range(_LEAVES.value)
  ]
  step = jax.device_put(np.int32(0), same)
  key = jax.device_put(jax.random.key(0, impl='rbg'), same)
  return State(step=step, key=key, params=params, stats={}, opt={})


def _step(state: State) -> State:
  """Touches every element, and multiplies matrices for a while."""
  params = [p * 0.999 + 1e-3 * jnp.tanh(p) for p in state.params]
  square = params[0][:256, :256]
  for _ in range(20):
    square = jnp.tanh(square @ square)
  params[0] = params[0].at[:256, :256].add(1e-3 * square)
  return dataclasses.replace(state, step=state.step + 1, params=params)


def _position(clock: Clock, steps: int) -> Position:
  losses = [0.1] * 20_000
  return Position(
    steps, steps, 0, steps, [], losses, clock.moment(), {'step': steps}, {}, {}
  )


def _measure(every: int, step, state, clock, folder) -> tuple[list, State]:
  """[(seconds blocked, in all)], and of steps beside and between saves."""
  checkpoints = Checkpoints(folder, steps=every)
  spec = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  checkpoints.prepare(spec)
  blocked, writing, beside, alone = [], [], [], []
  done = 0
  for _ in range(_SAVES.value):
    saved_at = written_at = None
    for n in range(every):
      before = time.perf_counter()
      state = jax.block_until_ready(step(state))
      took = time.perf_counter() - before
      busy = saved_at is not None and written_at is None
      (beside if busy else alone).append(took)
      done += 1
      if n == 0:
        before = time.perf_counter()
        checkpoints.finish()
        checkpoints.save(state, _position(clock, done))
        saved_at = before
        blocked.append(time.perf_counter() - before)
      elif busy and not checkpoints.writing():
        written_at = time.perf_counter()
        writing.append(written_at - saved_at)
    if written_at is None:
      checkpoints.finish()
      writing.append(time.perf_counter() - saved_at)
  checkpoints.close()
  shutil.rmtree(folder, ignore_errors=True)
  return [blocked, writing, beside, alone], state


def _middle(values) -> float:
  return statistics.median(values) if values else float('nan')


def main(argv) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)  # Orbax tells of every file
  mesh = sharding.make_mesh()
  state = _state(mesh)
  clock = Clock()
  clock.start()
  step = jax.jit(_step, donate_argnums=0).lower(state).compile()
  state = jax.block_until_ready(step(state))
  folder = _DIRECTORY.value or tempfile.mkdtemp()
  size = sum(p.nbytes for p in state.params) / 2**20
  print(f'state of {size:.0f} MiB in {_LEAVES.value} arrays, into {folder}')
  for every in _EVERY.value:
    place = os.path.join(folder, f'every_{every}')
    found, state = _measure(every, step, state, clock, place)
    blocked, writing, beside, alone = map(_middle, found)
    slower = max(0.0, sum(found[2]) - alone * len(found[2])) / _SAVES.value
    cost = blocked + slower
    print(
      f'every {every} steps of {alone:.3f} s: a save blocks {blocked:.2f} s of '
      f'{writing:.2f} s in all; steps beside it take {beside:.3f} s; '
      f'{cost:.2f} s a save, {cost / (cost + every * alone):.1%} of the run, '
      f'{cost / (60 * _MINUTES):.2%} at one in {_MINUTES:g} min',
      flush=True,
    )
  if not _DIRECTORY.value:
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
  app.run(main)
