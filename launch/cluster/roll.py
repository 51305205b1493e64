"""Tracks ranks: joined, progress, first failure.

Rank 0's supervisor keeps the roll. It takes what the ranks' supervisors say and
answers with what is to be told to all of them; it has no socket and no clock,
times come in as seconds of one that only runs forward.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

# Places where a rank does work of its own, and does not wait for others.
_OWN_WORK = ('input', 'checkpoint')
# Of several faults at about one time the first is the cause, but for those
# that a rank's end brings to others: JAX ends a peer of the lost with SIGABRT.
_BLAME = {
  'died': 0, 'lost': 0, 'refused': 1, 'fatal': 1, 'failed': 2, 'aborted': 3,
}  # fmt: skip

Message = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Bounds:
  """Time limits, in seconds."""

  join: float = 300.0  # until all ranks have come
  startup: float = 3600.0  # one stage before the clock starts
  watchdog: float = 600.0  # one tick after that
  settle: float = 1.0  # until a fault's consequences are known too

  @property
  def silence(self) -> float:
    """Until a rank that is not heard of is lost."""
    return min(self.watchdog, 60.0)

  @property
  def period(self) -> float:
    """Between two beats."""
    return min(1.0, self.watchdog / 10)


@dataclasses.dataclass
class Rank:
  """One rank as the others know it."""

  host: str
  heard: float  # when
  settings: Mapping[str, str] | None = None  # None: it is not ready yet
  tick: int = 0
  running: bool = False
  place: str = 'starting'
  since: float = 0.0  # seconds without any progress
  stopped: bool = False
  finished: bool = False


@dataclasses.dataclass(frozen=True)
class Fault:
  """A failure: its cause and its rank."""

  rank: int
  kind: str
  text: str
  at: float


class Roll:
  """The roll of one job."""

  def __init__(self, processes: int, bounds: Bounds, now: float):
    self._processes = processes
    self._bounds = bounds
    self._began = now
    self._ranks: dict[int, Rank] = {}
    self._faults: list[Fault] = []
    self._refusal = ''
    self._signal: tuple[int, int] | None = None  # number, rank
    self._stage = 'joining'  # then 'running', 'interrupted', 'ended'

  @property
  def ended(self) -> bool:
    """Returns whether the last answer was given."""
    return self._stage == 'ended'

  @property
  def finished(self) -> bool:
    """Returns whether every rank has finished or is gone."""
    gone = {fault.rank for fault in self._faults}
    return all(r.finished or n in gone for n, r in self._ranks.items())

  @property
  def missing(self) -> list[int]:
    """Ranks that have not come."""
    return [r for r in range(self._processes) if r not in self._ranks]

  def join(self, rank: int, message: Message, now: float) -> None:
    """A rank has come and says who it is; its settings follow."""
    new = Rank(message['host'], now)
    before = self._ranks.get(rank)
    if message['processes'] != self._processes:
      self._refusal = (
        f'rank {rank} on {new.host} says that there are '
        f'{message["processes"]} ranks, rank 0 that there are {self._processes}'
      )
    elif not 0 <= rank < self._processes:
      self._refusal = (
        f'rank {rank} on {new.host} does not exist: there are '
        f'{self._processes}, from 0'
      )
    elif before is not None:
      self._refusal = (
        f'rank {rank} joined twice, from {before.host} and {new.host}: each '
        'process needs a rank of its own'
      )
    else:
      self._ranks[rank] = new

  def hear(self, rank: int, message: Message, now: float) -> None:
    """A rank that has joined says something."""
    self._ranks[rank].heard = now
    if message['kind'] == 'beat':
      for name in ('tick', 'running', 'place', 'since', 'stopped'):
        setattr(self._ranks[rank], name, message[name])
    elif message['kind'] == 'settings':
      self._ranks[rank].settings = message['settings']
    elif message['kind'] == 'finished':
      self._ranks[rank].finished = True
    elif message['kind'] == 'interrupt' and self._signal is None:
      self._signal = message['signal'], rank
    elif message['kind'] == 'fault':
      self._fault(rank, message['fault'], message['text'], now)

  def leave(self, rank: int, now: float) -> None:
    """The connection to a rank was closed."""
    if not self._ranks[rank].finished:
      before = ' before all had come' if self._stage == 'joining' else ''
      self._fault(rank, 'lost', f'its connection was closed{before}', now)

  def answer(self, now: float) -> Message | None:
    """Message for all ranks, returned once; None if there is nothing new."""
    if self._stage == 'joining':
      return self._joined(now)
    if self._stage == 'running' and self._signal:
      self._stage = 'interrupted'
      return {'kind': 'interrupt', 'signal': self._signal[0]}
    if self._stage == 'running' and (fault := self._found(now)):
      return self._ended_by(fault)
    return None

  def _joined(self, now: float) -> Message | None:
    if self._signal:
      return self._end('interrupt', signal=self._signal[0])
    if self._refusal:
      return self._end('refuse', text=f'{self._refusal}.')
    if self._faults:  # of one that has refused, or is gone again
      return self._ended_by(self._faults[0])
    unready = [n for n, each in self._ranks.items() if each.settings is None]
    if not self.missing and not unready:
      if different := differences(self._ranks):
        return self._end('refuse', text=f'{different}.')
      self._stage = 'running'
      for each in self._ranks.values():
        each.heard = now  # the first to join had nothing to say
      hosts = [self._ranks[r].host for r in range(self._processes)]
      return {'kind': 'go', 'hosts': hosts}
    if now - self._began < self._bounds.join:
      return None
    late = self.missing or unready
    has = 'has' if len(late) == 1 else 'have'
    lacks = 'not come' if self.missing else 'come but not got ready'
    return self._end(
      'end',
      fault='missing',
      rank=late[0],
      text=f'{listed(late)} of {self._processes} {has} {lacks} after '
      f'{self._bounds.join:g} s.',
    )

  def _found(self, now: float) -> Fault | None:
    for rank, each in self._ranks.items():
      silent = now - each.heard
      if not each.finished and silent > self._bounds.silence:
        text = f'nothing heard of it for {silent:.0f} s, {self._last(rank)}'
        self._fault(rank, 'lost', text, now - self._bounds.settle)
    if self._faults:
      if now - self._faults[0].at < self._bounds.settle:
        return None
      return min(self._faults, key=lambda fault: _BLAME[fault.kind])
    active = {n: r for n, r in self._ranks.items() if not r.finished}
    if not active or not all(self._stale(r) for r in active.values()):
      return None
    late = latest(active)
    return Fault(late, 'late', self._lateness(active, late), now)

  def _stale(self, rank: Rank) -> bool:
    bounds = self._bounds
    return rank.since > (bounds.watchdog if rank.running else bounds.startup)

  def _lateness(self, active: Mapping[int, Rank], late: int) -> str:
    one = active[late]
    text = f'no progress for {one.since:.0f} s, {self._last(late)}'
    if one.stopped:
      text += ', where its process is stopped'
    if len(active) > 1:
      text += '; the others waited'
    return text

  def _last(self, rank: int) -> str:
    each = self._ranks[rank]
    if not each.running:
      return f'last in startup, {each.place}'
    return f'last at tick {each.tick} in {each.place}'

  def _name(self, rank: int) -> str:
    return f'rank {rank} ({self._ranks[rank].host})'

  def _fault(self, rank: int, kind: str, text: str, now: float) -> None:
    if all(fault.rank != rank for fault in self._faults):
      self._faults.append(Fault(rank, kind, text, now))

  def _ended_by(self, fault: Fault) -> Message:
    text = f'{self._name(fault.rank)}: {fault.text}'
    return self._end('end', fault=fault.kind, rank=fault.rank, text=text)

  def _end(self, kind: str, **values) -> Message:
    self._stage = 'ended'
    return {'kind': kind, **values}


def latest(ranks: Mapping[int, Rank]) -> int:
  """The rank for which the others wait.

  A stopped process; else the lowest tick; among equals one that is at work of
  its own while the others wait for it.
  """

  def progress(rank: int):
    each = ranks[rank]
    waits = each.place not in _OWN_WORK
    return not each.stopped, each.running, each.tick, waits, rank

  return min(ranks, key=progress)


def differences(ranks: Mapping[int, Rank]) -> str:
  """Sentence on ranks whose settings differ from rank 0's; '' if none do."""
  first = ranks[0].settings
  found: dict[str, list[int]] = {}
  for rank, each in sorted(ranks.items()):
    words = [
      f'{name}: {each.settings.get(name, "nothing")}, not '
      f'{first.get(name, "nothing")}'
      for name in sorted({*first, *each.settings})
      if each.settings.get(name) != first.get(name)
    ]
    if words:
      found.setdefault('; '.join(words), []).append(rank)
  return '. '.join(
    f'{listed(who)} ({ranks[who[0]].host}) '
    f'{"differs" if len(who) == 1 else "differ"} from rank 0 '
    f'({ranks[0].host}) in {what}'
    for what, who in found.items()
  )


def listed(ranks: Sequence[int]) -> str:
  """[2, 3, 4, 9] -> 'ranks 2 to 4 and 9'."""
  runs: list[list[int]] = []
  for rank in sorted(ranks):
    if runs and rank == runs[-1][-1] + 1:
      runs[-1].append(rank)
    else:
      runs.append([rank])
  words = []
  for run in runs:
    words += [f'{run[0]} to {run[-1]}'] if len(run) > 2 else map(str, run)
  head = 'rank' if len(ranks) == 1 else 'ranks'
  if len(words) == 1:
    return f'{head} {words[0]}'
  return f'{head} {", ".join(words[:-1])} and {words[-1]}'
