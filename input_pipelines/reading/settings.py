"""Settings of reading: threads, processes, records that may be skipped."""

import dataclasses
import threading


class Skips:
  """Counts training records that cannot be read; past a limit they end a run.

  Which records make up a batch is then no longer as the rules have it, so this
  is for the Open division. Evals skip nothing.
  """

  def __init__(self, limit: int):
    if limit < 1:
      raise ValueError(f'Expected to skip a record or more, got {limit}.')
    self.limit = limit
    self._lock = threading.Lock()
    self._records: set[int] = set()

  def count(self, record: int, error: ValueError) -> None:
    """Counts a record, once however often it comes; raises past the limit."""
    with self._lock:
      self._records.add(record)
      count = len(self._records)
    if count > self.limit:
      raise ValueError(
        f'Expected to skip {self.limit} records at most, got {count}: {error}'
      ) from error

  @property
  def records(self) -> list[int]:
    """The records that were skipped so far."""
    with self._lock:
      return sorted(self._records)


@dataclasses.dataclass(frozen=True)
class Reading:
  """Settings of reading: they change the speed of batches, not their content.

  Memory is bounded: of batches that nobody has asked for yet there are at most
  `threads` in this process, or with processes, two a process and one more for
  each of its threads.
  """

  threads: int | None = None  # None: one a core; 0: on demand, in the caller's
  processes: int = 0  # that share the work; 0: threads of this process only
  skips: Skips | None = None  # None: a record that cannot be read is an error

  def __post_init__(self):
    if self.threads is not None and self.threads < 0:
      raise ValueError(f'Expected 0 threads or more, got {self.threads}.')
    if self.processes < 0:
      raise ValueError(f'Expected 0 processes or more, got {self.processes}.')
    if self.processes and self.skips:
      raise ValueError(
        'Expected no worker processes where records may be skipped, got '
        f'{self.processes}: their skips could not be counted.'
      )


DEFAULT_READING = Reading()
