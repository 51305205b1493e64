"""Checkpoints: a run's state and position, saved to resume from.

A checkpoint is complete or it is not restored. Orbax writes it to a temporary
folder and renames that, and the state that is read must have the fingerprint
that was made on the devices before it was saved.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import enum
import hashlib
import json
import os
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from suite import files
from suite.clock import Moment
from suite.run import manager
from suite.run.fingerprint import fingerprint

KEPT = 2  # the newest may turn out to be unreadable

# A wait for a write is cut into parts, after each of which the hosts vote.
WAIT_SECONDS = 1.0
_PROBE = 1 << 16  # bytes, as a disk must take to be worth trying


class Failed(OSError):
  """A checkpoint could not be written, or none could be read."""


class FailedElsewhere(Failed):
  """The same, for a reason that another process knows."""


class Write(enum.IntEnum):
  """State of the last write; the largest vote counts for all hosts."""

  DONE = 0
  ACTIVE = 1
  FAILED = 2


@dataclasses.dataclass(frozen=True)
class Position:
  """Position of a run, beside its state; plain values, which JSON holds."""

  steps: int  # training steps done
  ticks: int  # steps and batches of evals done
  block: int  # of the budget, from 0; the one to resume in
  done: int  # steps of that block; all of them: its eval is next
  evals: Sequence[Mapping[str, Any]]
  losses: Sequence[float]  # of every step, in order
  clock: Moment
  feed: Mapping[str, Any]  # `Feed.position`
  saved_by: Mapping[str, int]  # {'processes': 4, 'devices': 8}
  # Identifies the run: one with another origin is another run.
  origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def as_json(self) -> dict[str, Any]:
    """Returns plain values; losses, maybe a million, as base64 of float64."""
    losses = np.asarray(self.losses, '<f8').tobytes()
    return {
      **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
      'losses': base64.b64encode(losses).decode('ascii'),
      'clock': dataclasses.asdict(self.clock),
    }

  @classmethod
  def of_json(cls, values: Mapping[str, Any]) -> 'Position':
    """Reads what `as_json` returned."""
    losses = np.frombuffer(base64.b64decode(values['losses']), '<f8')
    clock = Moment(**values['clock'])
    return cls(**{**values, 'losses': losses.tolist(), 'clock': clock})


@dataclasses.dataclass(frozen=True)
class Restored:
  """A state as it was saved, and its position."""

  state: Any
  position: Position
  # Newer checkpoints that were not restored, and why.
  passed_over: Sequence[str]


class Checkpoints:
  """Checkpoints of one run, in a directory that all its processes see.

  All processes call the same methods in the same order.
  """

  def __init__(
    self,
    directory: str,
    *,
    minutes: float = 10.0,
    steps: int = 0,
    keep: bool = False,
    strict: bool = False,
    origin: Mapping[str, Any] | None = None,
  ):
    """Touches nothing on disk.

    Args:
      directory: where they lie, or will.
      minutes: from one to the next at the end of a block; 0: none there.
      steps: from one to the next, in the middle of a block too; 0: none there.
      keep: False removes them when the run has ended by itself.
      strict: a run ends where one cannot be written.
      origin: goes into every `Position`.
    """
    self.directory = os.path.abspath(directory)
    self.minutes = minutes
    self.steps = steps
    self.keep = keep
    self.strict = strict
    self.origin = dict(origin or {})
    self._opened: manager.Manager | None = None
    self._count = 0  # of those that were opened; alike in all processes
    self._spec: Any = None
    self._fingerprint: Callable[[Any], jax.Array] | None = None
    self._latest: int | None = None  # steps of the newest one
    self._error: Exception | None = None
    self._saved_at = 0.0

  @property
  def saves(self) -> bool:
    """True if any are to be saved."""
    return bool(self.minutes or self.steps)

  @property
  def beside(self) -> str:
    """Directory where a feed keeps its data."""
    return files.beside_checkpoints(self.directory)

  def prepare(self, spec: Any) -> None:
    """Compiles what is needed for states of `spec`, before the clock starts.

    `spec` has the shape, dtype and sharding of every leaf.
    """
    self._spec = spec
    of_leaves = jax.tree.map(lambda leaf: leaf.sharding, spec)
    whole = jax.sharding.NamedSharding(
      jax.tree.leaves(of_leaves)[0].mesh, jax.sharding.PartitionSpec()
    )
    lowered = jax.jit(
      fingerprint, in_shardings=(of_leaves,), out_shardings=whole
    ).lower(spec)
    self._fingerprint = lowered.compile()
    if self.saves:
      self._manager()

  def shortage(self) -> str:
    """Warning of a disk with too little room; '' where there is enough.

    Only process 0 looks. As they are compressed, they may fit nevertheless.
    """
    if jax.process_index():
      return ''
    sizes = [
      leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._spec)
    ]
    # The oldest goes when the newest is written.
    needed = (KEPT + 1 - self.count()) * sum(sizes)
    free = _free(self.directory)
    if free is None or needed <= free:
      return ''
    return (
      f'Checkpoints of {_bytes(sum(sizes))}, of which {KEPT} are kept '
      f'while another is written, may not fit into {self.directory}, where '
      f'{_bytes(free)} are free.'
    )

  def unwritable(self) -> OSError | None:
    """The error that a small file meets in the directory."""
    try:
      os.makedirs(self.directory, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.directory, buffering=0) as file:
        file.write(bytes(_PROBE))
        os.fsync(file.fileno())
    except OSError as error:
      self._error = self._error or error
      return error
    return None

  def started(self, now: float) -> None:
    """The run starts or resumes at `now`, in seconds."""
    self._saved_at = now

  def due(self, now: float) -> bool:
    """True if a block that ends at `now`, in seconds, is followed by one."""
    return self.minutes > 0 and now - self._saved_at >= 60.0 * self.minutes

  def due_at(self, step: int) -> bool:
    """True if training step `step`, counted from 1, is followed by one."""
    return self.steps > 0 and step % self.steps == 0

  def failed(self) -> bool:
    """True if writing one failed; does not wait for it."""
    return self.written(0.0) == Write.FAILED

  def writing(self) -> bool:
    """True while one is being written."""
    return self.written(0.0) == Write.ACTIVE

  def written(self, seconds: float) -> Write:
    """State of the last write on this host, after at most `seconds`.

    Of a failure it tells at once, though Orbax's thread may yet wait for the
    threads of other hosts.
    """
    if self._opened is None:
      return Write.DONE
    self._error = self._error or self._opened.written(seconds)
    if self._error is not None:
      return Write.FAILED
    return Write.ACTIVE if self._opened.active else Write.DONE

  def finish(self) -> bool:
    """Waits until nothing is being written here; True if that went well."""
    while (state := self.written(WAIT_SECONDS)) == Write.ACTIVE:
      pass
    return state == Write.DONE

  def error(self) -> Failed:
    """The error of a failed write, in words; removes its files."""
    self._drop_uncommitted()
    kept = self._steps()
    last = (
      f'the last good one is of step {kept[-1]}' if kept else 'none is there'
    )
    kind = Failed if self._error else FailedElsewhere
    got = _brief(self._error) if self._error else 'an error elsewhere'
    return kind(
      f'Expected to write a checkpoint into {self.directory}, got {got} '
      f'({last}).'
    )

  def set_back(self) -> Failed:
    """Forgets a write that failed here or elsewhere -> `error`.

    All processes call it. The next one is tried anew: threads of this one may
    wait for those of other hosts for ever, and are left to do so.
    """
    error = self.error()
    kept = self._steps()
    self._latest = kept[-1] if kept else None
    self._opened = self._error = None
    return error

  def save(self, state: Any, position: Position) -> None:
    """Starts to write; returns when the state may be changed.

    Waits for one that is still being written. Raises `Failed`.
    """
    if position.steps == self._latest:
      return
    with jax.transfer_guard('allow'):
      marks = jax.device_get(self._fingerprint(state)).tolist()
      self._write(state, {'fingerprint': marks, **position.as_json()})
    self._latest = position.steps
    self._saved_at = position.clock.at

  def _write(self, state: Any, values: Mapping[str, Any]) -> None:
    content = {'position': values, 'sha256': _digest(values)}
    items = ocp.args.Composite(
      state=ocp.args.PyTreeSave(state), position=ocp.args.JsonSave(content)
    )
    try:
      self._manager().save(values['steps'], args=items, force=True)
    except Exception as error:  # many kinds: of disks, of threads
      self._error = error
      raise self.error() from error

  def count(self) -> int:
    """Number of checkpoints, readable or not."""
    return len(self._steps())

  def newest(self) -> Position | None:
    """Position of the newest readable one; reads no state."""
    for step in reversed(self._steps()):
      try:
        return self._position(step)[0]
      except Failed:
        continue
    return None

  def restore(self, most: Callable[[int], int]) -> Restored:
    """Restores the newest one that is whole; `Failed`, naming all, if none is.

    `most` gives every process the largest number that any of them has. Deletes
    broken ones.
    """
    passed_over: list[str] = []
    for step in reversed(self._steps()):
      try:
        state, position = self._restored(step, most)
      except Failed as error:
        passed_over.append(f'step {step}: {error}')
        continue
      for broken in [each for each in self._steps() if each > step]:
        self._manager().delete(broken)
      self._latest = step
      return Restored(state, position, passed_over)
    raise Failed(
      f'Expected a checkpoint to resume from in {self.directory}, got '
      f'{"; ".join(passed_over) or "none"}.'
    )

  def _restored(self, step: int, most) -> tuple[Any, Position]:
    """Restores one; every process votes the same times, whichever fails."""
    error = state = position = None
    try:
      position, marks = self._position(step)
      state = self._state(step)
    except Failed as found:
      error = found
    if most(int(error is not None)):
      raise error or Failed('another process cannot read it')
    with jax.transfer_guard('allow'):
      found = jax.device_get(self._fingerprint(state)).tolist()
    if found != marks:
      other = sum(a != b for a, b in zip(found, marks, strict=False))
      raise Failed(
        f'its state is not the one that was saved: {other} of {len(marks)} '
        'arrays differ'
      )
    return state, position

  def _state(self, step: int) -> Any:
    items = ocp.args.Composite(
      state=ocp.args.PyTreeRestore(
        item=self._spec,
        restore_args=ocp.checkpoint_utils.construct_restore_args(self._spec),
      )
    )
    try:
      with jax.transfer_guard('allow'):
        state = self._manager().restore(step, args=items)['state']
        return jax.tree.map(_as_key, self._spec, state)
    except Exception as error:  # what a broken file leads to
      raise Failed(f'its state cannot be read: {_brief(error)}') from error

  def _position(self, step: int) -> tuple[Position, list[int]]:
    items = ocp.args.Composite(position=ocp.args.JsonRestore())
    try:
      content = self._manager().restore(step, args=items)['position']
      values = dict(content['position'])
      if content['sha256'] != _digest(values):
        raise ValueError('its position is not the one that was saved')
      marks = values.pop('fingerprint')
      return Position.of_json(values), marks
    except Exception as error:  # what a broken file leads to
      raise Failed(f'its position cannot be read: {_brief(error)}') from error

  def remove(self) -> None:
    """Deletes them all, unless they are to be kept."""
    self.close()
    if not self.keep and jax.process_index() == 0:
      for directory in (self.directory, self.beside):
        shutil.rmtree(directory, ignore_errors=True)

  def close(self) -> None:
    """Waits for what is being written, and ends the threads."""
    # After a failure they may wait for those of other hosts, which never come.
    if self.finish() and self._opened is not None:
      self._opened.close()
    self._opened = None

  def _steps(self) -> list[int]:
    if self._opened is None and not os.path.isdir(self.directory):
      return []
    self._manager().reload()
    return sorted(self._manager().all_steps())

  def _manager(self) -> manager.Manager:
    if self._opened is None:
      manager.silence()
      # Not left to Orbax, which removes in a thread that nobody can wait for.
      self._drop_uncommitted()
      self._count += 1
      self._opened = manager.Manager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=KEPT,
          # Threads of one that was given up may wait in its barriers for ever.
          multiprocessing_options=ocp.options.MultiprocessingOptions(
            barrier_sync_key_prefix=f'podium_{self._count}'
          ),
        ),
        item_handlers={
          'state': manager.state_handler(),
          'position': ocp.JsonCheckpointHandler(),
        },
      )
    return self._opened

  def _drop_uncommitted(self) -> None:
    """Removes what was never finished, as when a process was killed.

    On a full disk the log needs the room for its last line.
    """
    if jax.process_index() or not os.path.isdir(self.directory):
      return
    for name in os.listdir(self.directory):
      if not name.isdigit():
        path = os.path.join(self.directory, name)
        shutil.rmtree(path, ignore_errors=True)


def _free(path: str) -> int | None:
  """Bytes free where a folder lies, or will; None where that is not known."""
  while not os.path.exists(path) and os.path.dirname(path) != path:
    path = os.path.dirname(path)
  try:
    return shutil.disk_usage(path).free
  except OSError:
    return None


def _bytes(number: int) -> str:
  unit, each = next(
    (unit, each)
    for unit, each in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3))
    if number >= each or unit == 'kB'
  )
  return f'{number / each:,.1f} {unit}'


def processes() -> dict[str, int]:
  """Processes and devices of this run."""
  return {'processes': jax.process_count(), 'devices': jax.device_count()}


def _as_key(spec: jax.ShapeDtypeStruct, leaf: jax.Array) -> jax.Array:
  """Makes a random key of its bits, which are what was written."""
  if not jnp.issubdtype(spec.dtype, jax.dtypes.prng_key):
    return leaf
  impl = jax.random.key_impl(jnp.empty((), spec.dtype))
  return jax.random.wrap_key_data(leaf, impl=impl)


def _digest(values: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _brief(error: Exception) -> str:
  """An error of a library in one line; the system's message is first."""
  text = ' '.join(str(error).split())
  said = [os.strerror(number) for number in files.DISK_ERRORS]
  said = ''.join(f'{each}: ' for each in said if each in text)
  return f'{said}{type(error).__name__}: {text[:200]}'
