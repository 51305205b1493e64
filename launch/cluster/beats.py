"""Progress of a worker, in a file that its supervisor reads.

Both map the file into memory, so that a beat costs no system call. A reader may
see half of a beat; it looks again soon, and only asks whether anything moved.
"""

import dataclasses
import mmap
import os
import struct

# Where things lie in the file: the worker's beat, the signal that the
# supervisor has passed on, and how the worker ended.
_BEAT, _BEAT_AT = struct.Struct('<q?32s'), 0
_SIGNAL, _SIGNAL_AT = struct.Struct('<i'), 64
_END, _END_AT = struct.Struct('<iiH'), 128
_BYTES = 4096
_LONGEST = _BYTES - _END_AT - _END.size

_STARTING = 'starting'  # until the worker says more

# FATAL: as FAILED, but of what would fail again, such as a full disk.
FINISHED, REFUSED, FAILED, FATAL = 1, 2, 3, 4


@dataclasses.dataclass(frozen=True)
class Beat:
  """Progress of a worker."""

  tick: int  # steps and batches of evals; before the clock starts, stages
  running: bool  # whether the clock has started
  place: str  # 'input', 'compute', ...; before that a stage of startup

  @property
  def begun(self) -> bool:
    """Says that the worker has begun the run, and so its log."""
    return self.running or self.place != _STARTING


@dataclasses.dataclass(frozen=True)
class End:
  """Exit that a worker announces before it ends."""

  kind: int  # FINISHED, REFUSED, FAILED or FATAL
  code: int  # exit code
  text: str


class Beats:
  """One worker's beats; the worker writes them and its supervisor reads."""

  def __init__(self, path: str, *, create: bool = False):
    if create:
      with open(path, 'wb') as file:
        file.write(bytes(_BYTES))
    with open(path, 'r+b') as file:
      self._map = mmap.mmap(file.fileno(), _BYTES)
    self._names: dict[str, bytes] = {}
    self._stages = 0
    if create:
      self.stage(_STARTING)

  def stage(self, text: str) -> None:
    """Startup has reached stage `text`."""
    self._stages += 1
    _BEAT.pack_into(self._map, _BEAT_AT, self._stages, False, text.encode())

  def at(self, place: str, tick: int) -> None:
    """The run is in `place`, with `tick` steps and eval batches behind it."""
    name = self._names.get(place)
    if name is None:
      name = self._names[place] = place.encode()
    _BEAT.pack_into(self._map, _BEAT_AT, tick, True, name)

  def end(self, kind: int, code: int, text: str = '') -> None:
    """Says once how the worker ends; what was said first stays."""
    if self.ended() is None:
      words = text.encode()[:_LONGEST]
      start = _END_AT + _END.size
      self._map[start : start + len(words)] = words
      _END.pack_into(self._map, _END_AT, kind, code, len(words))

  def read(self) -> Beat:
    """The last beat."""
    tick, running, place = _BEAT.unpack_from(self._map, _BEAT_AT)
    return Beat(tick, running, place.rstrip(b'\0').decode(errors='replace'))

  def ended(self) -> End | None:
    """The announced end."""
    kind, code, length = _END.unpack_from(self._map, _END_AT)
    if not kind:
      return None
    start = _END_AT + _END.size
    words = self._map[start : start + length]
    return End(kind, code, words.decode(errors='replace'))

  @property
  def signal(self) -> int:
    """The signal that ends the run; 0: none."""
    return _SIGNAL.unpack_from(self._map, _SIGNAL_AT)[0]

  @signal.setter
  def signal(self, number: int) -> None:
    _SIGNAL.pack_into(self._map, _SIGNAL_AT, number)


def stopped(pid: int) -> bool:
  """Returns whether a process is stopped (SIGSTOP); False where unknown."""
  try:
    with open(os.path.join('/proc', str(pid), 'stat'), 'rb') as file:
      return file.read().rpartition(b')')[2].split()[0] in (b'T', b't')
  except (OSError, IndexError):
    return False
