"""Points that are measured one after another, each in a process of its own.

A point that runs out of memory, ends badly or takes too long is a row with its
reason, and the next one starts.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import Any

from suite.results import speed
from suite.results.speed import Point

MODULE = 'launch.speed'
OUT_OF_MEMORY = 'out of memory'
_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED|[Oo]ut of memory|MemoryError|bad_alloc'
)
_LONGEST_REASON = 160
_GRACE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Spot:
  """A point before it is measured."""

  about: Mapping[str, Any]  # fields of its row, should it fail
  arguments: Sequence[str]  # of launch.speed
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # Arguments with half of the batch, and so on, in case memory is too small.
  smaller: Sequence[Sequence[str]] = ()


def measured(spots: Sequence[Spot], limit: float) -> Iterator[Point]:
  """Measures points in their order, each in `limit` seconds at most."""
  for spot in spots:
    point = _measured(spot, spot.arguments, limit)
    for more in spot.smaller if OUT_OF_MEMORY in point['failed'] else ():
      found = _measured(spot, [*spot.arguments, *more], limit)
      if not found['failed']:
        point = found
      if OUT_OF_MEMORY not in found['failed']:
        break
    yield point


def _measured(spot: Spot, arguments: Sequence[str], limit: float) -> Point:
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'point.json')
    command = [sys.executable, '-m', MODULE, *arguments, f'--json={path}']
    with tempfile.TemporaryFile('w+', errors='replace') as said:
      reason = _run(command, spot.environment, said, limit)
      if not reason and os.path.exists(path):
        (point,) = speed.read(path)
        return point
      said.seek(0)
      return {**spot.about, 'failed': reason or why(said.read())}


def _run(
  command: Sequence[str], environment: Mapping[str, str], said: Any,
  limit: float,
) -> str:  # fmt: skip
  """Runs a command; '' if it ended in time by itself, else what ended it."""
  child = subprocess.Popen(
    command,
    env={**os.environ, **environment},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=said,
    start_new_session=True,  # what it has started ends with it
  )
  try:
    code = child.wait(limit)
  except subprocess.TimeoutExpired:
    return f'ended after {limit:g} s, the --limit'
  finally:
    _end(child)
  if code == -signal.SIGKILL:
    return f'{OUT_OF_MEMORY}: the system has killed it'
  return f'ended by {signal.Signals(-code).name}' if code < 0 else ''


def _end(child: subprocess.Popen) -> None:
  """Ends a process and all that it has started, if they are still there."""
  for number in (signal.SIGTERM, signal.SIGKILL):
    try:
      os.killpg(child.pid, number)
      child.wait(_GRACE_SECONDS)
    except ProcessLookupError:
      return
    except subprocess.TimeoutExpired:
      continue


def why(said: str) -> str:
  """The reason in what a process has said before it failed, in a line."""
  lines = [line.strip() for line in said.splitlines() if line.strip()]
  told = next((t for t in reversed(lines) if _MEMORY.search(t)), '')
  if told:
    return f'{OUT_OF_MEMORY}: {told}'[:_LONGEST_REASON]
  last = lines[-1] if lines else 'it ended and said nothing'
  return last.removeprefix('error: ')[:_LONGEST_REASON]
