"""When a run is saved and restored, as all of its hosts agree."""

from collections.abc import Callable
import dataclasses
import enum
from typing import Any

import jax

from suite.clock import Clock
from suite.run.checkpoint import (
  WAIT_SECONDS,
  Checkpoints,
  Failed,
  Position,
  Restored,
  Write,
)


class Verdict(enum.IntEnum):
  """Decision at the end of a block; the largest vote counts for all hosts."""

  CONTINUE = 0
  SAVE = 1
  FAILED = 2  # a checkpoint could not be written
  MET = 3


class Saver:
  """Saves and restores a run at the moments that its hosts agree on.

  Without `checkpoints` it saves nothing, and hosts agree on the target alone.
  One that cannot be written is tried again when the next is due, unless the
  checkpoints are strict; every host knows of it before any waits for another.
  """

  def __init__(
    self,
    checkpoints: Checkpoints | None,
    most: Callable[[int], int],
    clock: Clock,
    warn: Callable[[str], None] = lambda text: None,
  ):
    """`most` gives every host the largest number that any of them has.

    `warn` is told, on each host, of what does not end the run.
    """
    self._checkpoints = checkpoints
    self._most = most
    self._clock = clock
    self._warn = warn

  @property
  def saves(self) -> bool:
    """True if any checkpoints are to be saved."""
    return bool(self._checkpoints and self._checkpoints.saves)

  def prepare(self, spec: Any) -> None:
    """Compiles what is needed for states of `spec`; see Checkpoints."""
    with self._clock.spent_on('compile'):
      self._checkpoints.prepare(spec)
    if self.saves and (text := self._checkpoints.shortage()):
      self._warn(text)

  def started(self, now: float) -> None:
    """The run starts or resumes at `now`, in seconds."""
    if self._checkpoints:
      self._checkpoints.started(now)

  def restore(self) -> Restored:
    """Restores the newest good checkpoint, the same on all hosts."""
    with self._clock.spent_on('restore'):
      return self._checkpoints.restore(self._most)

  def due_at(self, step: int) -> bool:
    """True if training step `step`, counted from 1, is followed by one."""
    return bool(self._checkpoints and self._checkpoints.due_at(step))

  def agree(self, *, met: bool, last: bool) -> Verdict:
    """Agrees on what follows a block; raises `Failed` as `save` does.

    Args:
      met: this host found the target met.
      last: no block follows.
    """
    wish = Verdict.CONTINUE
    if met:
      wish = Verdict.MET
    elif self._checkpoints and not last:
      if self._checkpoints.failed():
        wish = Verdict.FAILED
      elif self._checkpoints.due(self._clock.now()):
        wish = Verdict.SAVE
    verdict = Verdict(self._most(wish))
    if verdict == Verdict.FAILED:
      self._set_back()
      return Verdict.CONTINUE
    return verdict

  def save(self, state: Any, position: Position) -> Failed | None:
    """Starts to write a checkpoint, when the previous one is done.

    Returns the error of one that could not be begun; raises it where the
    checkpoints are strict, and the error of the previous one, too.
    """
    with self._clock.spent_on('checkpoint'):
      if not self._all_written():
        self._set_back()
      # Orbax waits for other hosts: none may come alone.
      if self._most(int(self._checkpoints.unwritable() is not None)):
        return self._set_back()
      origin = self._checkpoints.origin
      try:
        self._checkpoints.save(
          state, dataclasses.replace(position, origin=origin)
        )
      except Failed:
        if jax.process_count() > 1:
          raise  # others wait for this one inside of Orbax
        return self._set_back()
    return None

  def leave(self, state: Any, position: Position) -> int:
    """Writes a last checkpoint -> its steps; raises `Failed`."""
    error = self.save(state, position)
    with self._clock.spent_on('checkpoint'):
      if error is None and not self._all_written():
        error = self._checkpoints.error()
    if error is not None:
      raise error
    return position.steps

  def remove(self) -> None:
    """Removes the checkpoints of a finished run; see Checkpoints."""
    if self._checkpoints:
      self._all_written()
      self._checkpoints.remove()

  def _set_back(self) -> Failed:
    """Warns of a checkpoint that could not be written, or raises its error."""
    if self._checkpoints.strict:
      raise self._checkpoints.error()
    error = self._checkpoints.set_back()
    self._warn(
      f'{error} Training goes on, and the next is tried when it is due.'
    )
    return error

  def _all_written(self) -> bool:
    """Waits until no host writes, or one has failed; True if none has.

    No host waits alone: one that failed never comes to where Orbax's threads
    wait for each other.
    """
    state = Write.ACTIVE
    while state == Write.ACTIVE:
      state = Write(self._most(self._checkpoints.written(WAIT_SECONDS)))
    return state == Write.DONE
