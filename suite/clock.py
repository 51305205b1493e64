"""The clock: startup, the timed run, and where the time of each went.

There is no way to pause it: the rules forbid that, so evals count, and so does
the time between the end of one process and the start of the next.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import time

RESTART = 'restart'  # the part that time lost by a restart is booked to


def wall_time() -> Callable[[], float]:
  """Seconds since the epoch that never run backwards."""
  offset = time.time() - time.monotonic()
  return lambda: offset + time.monotonic()


@dataclasses.dataclass(frozen=True)
class Moment:
  """All that a clock holds at one moment, for another process to resume from.

  Times are seconds since the epoch, parts seconds.
  """

  created: float
  started: float
  at: float
  startup: Mapping[str, float]
  timed: Mapping[str, float]


class Clock:
  """Counts from its creation: first startup, then, after `start`, the run."""

  def __init__(self, now: Callable[[], float] | None = None):
    self.now = now or wall_time()
    self.created = self.now()
    self._started: float | None = None
    self._stopped: float | None = None
    self._parts: tuple[dict[str, float], dict[str, float]] = ({}, {})
    self._spending: str | None = None
    self._since = 0.0  # that it is booked to this part

  @property
  def started(self) -> float | None:
    """Time of the start of the run, in seconds; None before."""
    return self._started

  @property
  def running(self) -> bool:
    """Says that the timed run is on."""
    return self._started is not None and self._stopped is None

  def require_running(self, what: str) -> None:
    """Raises RuntimeError naming `what` unless the timed run is on."""
    if not self.running:
      when = 'after run_stop' if self._stopped else 'before run_start'
      raise RuntimeError(f'{what} {when}: data belongs on the clock.')

  def start(self) -> float:
    """Ends startup and starts the run; returns the time, in seconds."""
    if self._started is not None:
      raise RuntimeError('The clock was started already; it starts once.')
    self._started = self.now()
    return self._started

  def moment(self) -> Moment:
    """Snapshot of the clock; the run must be on."""
    self.require_running('The clock was asked for its moment')
    startup, timed = ({**parts} for parts in self._parts)
    return Moment(self.created, self._started, self.now(), startup, timed)

  def resume(self, moment: Moment) -> float:
    """Resumes from `moment` of a previous process, as if it had never stopped.

    All since then was lost, the startup of this process too, and counts: it is
    booked to 'restart'. Returns these seconds.
    """
    if self._started is not None:
      raise RuntimeError('The clock was started already; it starts once.')
    lost = self.now() - moment.at
    if lost < 0:
      raise ValueError(
        f'Expected a time after that of the checkpoint, got one {-lost:.1f} s '
        'before it: set the clock of this machine.'
      )
    self.created, self._started = moment.created, moment.started
    self._parts = ({**moment.startup}, {**moment.timed})
    self._parts[1][RESTART] = self._parts[1].get(RESTART, 0.0) + lost
    return lost

  def stop(self) -> float:
    """Ends the run for good; returns the time, in seconds."""
    self.require_running('The clock was stopped')
    self._stopped = self.now()
    return self._stopped

  @contextlib.contextmanager
  def spent_on(self, part: str) -> Iterator[None]:
    """Books the time of the `with` body to `part`.

    What another part takes inside of it is booked to that one alone.
    """
    around = self._spending
    self._spend(part)
    try:
      yield
    finally:
      self._spend(around)

  def _spend(self, part: str | None) -> None:
    """Books the time up to now, and what follows to `part`."""
    now = self.now()
    if self._spending:
      parts = self._parts[self._started is not None]
      booked = parts.get(self._spending, 0.0)
      parts[self._spending] = booked + now - self._since
    self._spending, self._since = part, now

  @property
  def startup(self) -> float:
    """Seconds from creation to the start of the run (or to now)."""
    return (self._started or self.now()) - self.created

  @property
  def timed(self) -> float:
    """Seconds of the run, so far or in all; 0 before it starts."""
    if self._started is None:
      return 0.0
    return (self._stopped or self.now()) - self._started

  def startup_parts(self) -> dict[str, float]:
    """Seconds of startup by part, 'other' included: they add up to it."""
    return _with_other(self._parts[0], self.startup)

  def timed_parts(self) -> dict[str, float]:
    """Seconds of the run by part, 'other' included: they add up to it."""
    return _with_other(self._parts[1], self.timed)

  def time_to_quality(self, allowance: float) -> float:
    """Seconds of the run, plus what startup took beyond its allowance."""
    return time_to_quality(self.timed, self.startup, allowance)


def time_to_quality(timed: float, startup: float, allowance: float) -> float:
  """The score of a run, in seconds: startup counts beyond its allowance."""
  return timed + max(0.0, startup - allowance)


def _with_other(parts: dict[str, float], total: float) -> dict[str, float]:
  return {**parts, 'other': total - sum(parts.values())}
