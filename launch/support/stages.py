"""Progress of a long job: amount done, rate, time left; and how to stop it."""

from collections.abc import Callable
import shlex
import signal
import sys
import time
from typing import TextIO

from launch.support.live_line import LiveLine
from suite.results.report.format import duration

# A terminal's line is redrawn this often; a file gets a line this often.
_SECONDS_LIVE = 0.5
_SECONDS_PLAIN = 30.0
_PREFIXES = ((1e9, 'GB'), (1e6, 'MB'), (1e3, 'kB'))


class Stage:
  """Shows one stage of a job; called with the amount done and the whole."""

  def __init__(self, name: str, unit: str, out: TextIO | None = None):
    """`unit` is a plural; 'bytes' are shown as MB or GB."""
    self._name = name
    self._unit = unit
    self._out = out or sys.stdout
    self._line = LiveLine(self._out)
    self._every = _SECONDS_LIVE if self._out.isatty() else _SECONDS_PLAIN
    self._began = self._told = time.monotonic()
    self._first: int | None = None  # done before this process
    self._over = False

  def __call__(self, done: int, whole: int) -> None:
    now = time.monotonic()
    if self._first is None:
      self._first = done
    if self._over:
      return
    if done >= whole:
      self._over = True
      self._line.keep(self._text(done, whole, now))
    elif now - self._told >= self._every:
      self._told = now
      show = self._line.show if self._out.isatty() else self._line.keep
      show(self._text(done, whole, now))

  def _text(self, done: int, whole: int, now: float) -> str:
    seconds = now - self._began
    new = done - self._first
    rate = new / seconds if seconds > 0 else 0.0
    if done >= whole:
      end = f'in {duration(seconds)}'
    elif rate:
      end = f'{duration((whole - done) / rate)} left'
    else:
      end = 'starting'
    return (
      f'{self._name}: {amount(done, self._unit)} of '
      f'{amount(whole, self._unit)}, {amount(round(rate), self._unit)}/s, {end}'
    )


def amount(number: int, unit: str) -> str:
  """'1,281,167 images', '138.0 GB'."""
  if unit != 'bytes':
    return f'{number:,} {unit}'
  for factor, prefix in _PREFIXES:
    if number >= factor:
      return f'{number / factor:.1f} {prefix}'
  return f'{number} bytes'


def until_stopped(work: Callable[[], int], *, module: str, kept: str) -> int:
  """Runs `work`; returns its exit code, or 130 for Ctrl-C and SIGTERM.

  Stopped, it prints what is `kept` and the command that resumes.
  """

  def as_ctrl_c(number, frame):
    del number, frame
    raise KeyboardInterrupt

  signal.signal(signal.SIGTERM, as_ctrl_c)
  try:
    return work()
  except KeyboardInterrupt:
    again = shlex.join(['python', '-m', module, *sys.argv[1:]])
    print(f'\nStopped. {kept}; resume with:\n  {again}', file=sys.stderr)
    return 128 + signal.SIGINT
