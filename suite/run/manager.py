"""Orbax's manager of checkpoints, as runs need it."""

from collections.abc import Callable
import logging
import os
import sys
import threading

import jax
import orbax.checkpoint as ocp


class Manager(ocp.CheckpointManager):
  """Orbax's manager, which leaves preemption to the loop.

  Its own check would disturb the count that all processes agree by.
  """

  def __init__(self, *args, **kwargs):
    self._ended = threading.Event()  # the last write, well or not
    self._ended.set()
    self._failure: BaseException | None = None
    super().__init__(*args, **kwargs)
    self._save_progress_tracker = _Telling(
      self._save_progress_tracker, self._fail
    )

  @property
  def active(self) -> bool:
    """True while one is being written."""
    return not self._ended.is_set()

  def save(self, *args, **kwargs):
    """Starts to write; see Orbax."""
    self._ended.clear()
    try:
      return super().save(*args, **kwargs)
    except BaseException:
      self._ended.set()
      raise

  def written(self, seconds: float) -> BaseException | None:
    """The error of the last write, after at most `seconds` of waiting."""
    # Should Orbax no longer call `_finalize`, its own words count.
    if self._ended.wait(seconds) or not self.is_saving_in_progress():
      if self._failure is None:
        try:
          self.wait_until_finished()  # its thread is at its end
        except Exception as error:  # whatever that met
          self._failure = error
      self._ended.set()
    return self._failure

  def reached_preemption(self, step: int) -> bool:
    """See Orbax."""
    del step
    return False

  def _fail(self, error: BaseException) -> None:
    self._failure = error
    self._ended.set()

  def _finalize(self, *args, **kwargs) -> None:
    try:
      super()._finalize(*args, **kwargs)
    finally:
      self._ended.set()


class _Telling:
  """Orbax's flag of a save in progress, which tells of an error first.

  Orbax's thread lowers the flag at its end, even if it failed, and there waits
  for those of other hosts. When one of them has failed, those never come.
  """

  def __init__(self, flag, tell: Callable[[BaseException], None]):
    self._flag, self._tell = flag, tell

  def get(self) -> bool:
    """See Orbax."""
    return self._flag.get()

  def set(self, value: bool) -> None:
    """See Orbax; waits for all hosts."""
    # It is raised where a run that is ended saves, too: then of that end.
    if not value and (error := sys.exception()) is not None:
      self._tell(error)
    self._flag.set(value)


def state_handler() -> ocp.PyTreeCheckpointHandler:
  """Has each array written, as it is, by the holder of its first copy.

  By default Orbax has every copy write a part of it, and compiles a program for
  each shape to cut those parts, at the first save: on the clock.
  """
  kinds = ocp.type_handlers
  arrays = kinds.ArrayHandler(use_replica_parallel=False)
  return ocp.PyTreeCheckpointHandler(
    type_handler_registry=kinds.create_type_handler_registry(
      (jax.Array, arrays)
    )
  )


def silence() -> None:
  """Keeps errors of Orbax out of what is printed."""
  for name in ('absl', 'asyncio'):
    logging.getLogger(name).addFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
  """False for Orbax, which logs an error once for every array.

  It raises it as well, and `Checkpoints.error` says it in one line.
  """
  unheard = str(record.msg).startswith('Future exception was never retrieved')
  return not unheard and f'{os.sep}orbax{os.sep}' not in record.pathname
