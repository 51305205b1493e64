"""The supervisor of a rank: it outlives its worker and knows of the others.

With several processes `launch.train` starts itself again as a worker, which
JAX may abort at any time, and watches it from outside. The supervisors of all
ranks are connected (see `channel`). They meet before the workers start, compare
their settings, hear of every beat, and end together: when a worker dies, raises
or makes no progress, when a host is lost, when a signal comes.
"""

import asyncio
from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
import time
from typing import Any

from launch.cluster import arrival, channel, child, hosts, worker
from launch.cluster import beats as beats_lib
from launch.cluster import place as clusters
from launch.cluster.roll import Bounds, Message, Roll
from launch.support import cli, signals
from suite import files
from suite.run import run_log

# Exit code of a rank whose job was ended by a watchdog (sysexits: EX_TEMPFAIL).
LATE = 75
# From a signal to the end by force. Slurm and Kubernetes take 30 s by default,
# and the log must be completed before.
GRACE_SECONDS = 25.0
_EXIT_SECONDS = 60.0  # from the end of the work to the end of the process
_DUMP_SECONDS = 1.0
# How long a rank that refuses waits to be heard, and how long rank 0 waits to
# tell those who come a little later.
_REFUSED_SECONDS = 10.0
_LINGER_SECONDS = 20.0
_BETWEEN_LOOKS = 0.05
_MOST_STACKS = 4 << 20  # bytes

# How a worker says that it ends -> the fault, as the roll calls it.
_FAULTS = {
  beats_lib.REFUSED: 'refused',
  beats_lib.FAILED: 'failed',
  beats_lib.FATAL: 'fatal',
}


@dataclasses.dataclass(frozen=True)
class Job:
  """Settings of a supervisor: its rank, its worker and its peers."""

  place: clusters.Place
  bounds: Bounds
  # Makes the settings that must be alike on all ranks. ValueError or OSError
  # refuses the job, on all of them.
  settings: Callable[[], Mapping[str, str]]
  output: str  # where stacks go
  log_path: str  # which rank 0's supervisor completes; '': there is none
  # Holds the run while this rank lasts, and gives the descriptor of its lock.
  hold: Callable[[], contextlib.AbstractContextManager[int | None]] = (
    contextlib.nullcontext
  )
  # Moves away what the worker left that ended before its clock started.
  set_aside: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class _Ending:
  """End of this rank: exit code and reason."""

  code: int
  text: str = ''  # for people; and the log's reason
  dump: bool = False  # the worker's stacks first
  refused: bool = False  # nothing was started
  first_lost: bool = False  # rank 0 cannot complete the log


def is_worker() -> bool:
  """Returns whether this process has a supervisor already."""
  return worker.VARIABLE in os.environ


def supervise(job: Job) -> int:
  """Starts this same command as a worker and sees it through; its exit code.

  ValueError if this rank cannot meet the others.
  """
  hosts.check_coordinator(job.place, job.bounds.join)
  with tempfile.TemporaryDirectory(prefix='podium-') as folder:
    return asyncio.run(_Supervisor(job, folder).run())


def alone() -> clusters.Place:
  """The place of a single process that is to be supervised."""
  return clusters.Place('one process', '127.0.0.1:1', 1, 0)


class _Supervisor:
  """One rank's supervisor: what happens comes as events, one after another."""

  def __init__(self, job: Job, folder: str):
    self._job = job
    self._folder = folder
    self._beats = beats_lib.Beats(
      os.path.join(folder, worker.BEATS), create=True
    )
    self._events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    self._arrival = arrival.of(job.place)
    self._hub: channel.Hub | None = None
    self._link: channel.Link | None = None
    self._process: asyncio.subprocess.Process | None = None
    self._stacks = child.unnamed_file()
    self._hosts: list[str] = []  # of the ranks, in their order
    self._log_before: Mapping[str, Any] | None = None  # its end
    self._log_state: tuple[int, ...] | None = None  # then
    self._tasks: list[asyncio.Task] = []
    self._beat = self._beats.read()
    self._began = self._moved = time.monotonic()
    self._heard: float | None = None  # from the hub
    self._refusal = ''  # of this rank
    self._holding = contextlib.ExitStack()
    self._lock: int | None = None
    self._told = self._said_waits = False  # the worker's end; who is late
    self._asked = 0  # the signal that this rank received
    self._signal = 0  # the signal that ends all
    self._deadline = float('inf')
    self._done: int | None = None  # exit code of the finished worker

  async def run(self) -> int:
    """See `supervise`."""
    loop = asyncio.get_running_loop()
    for number in signals.ending():
      loop.add_signal_handler(
        number, self._events.put_nowait, ('signal', number)
      )
    try:
      await self._open_hub()
      ready = self._get_ready()
      self._tasks = [
        asyncio.create_task(self._connect(ready)),
        asyncio.create_task(self._tick()),
      ]
      ending = None
      while ending is None:
        kind, value = await self._events.get()
        ending = await getattr(self, f'_on_{kind}')(value)
      code = await self._conclude(ending)
      await self._linger()
      return code
    finally:
      await self._close()

  async def _open_hub(self) -> None:
    """Rank 0 opens the hub."""
    place = self._job.place
    if place.process != 0:
      return
    try:
      listening = self._arrival.listen()
    except OSError as error:
      host, port = self._arrival.address
      raise ValueError(
        f'Rank 0 cannot listen on {host}:{port} for the other ranks '
        f'({error.strerror}); PODIUM_CONTROL=HOST:PORT names another.'
      ) from None
    roll = Roll(place.processes, self._job.bounds, self._began)
    self._hub = channel.Hub(roll, arrival.token(place))
    await self._hub.listen(listening)

  def _get_ready(self) -> Message:
    """Message that says what this rank brings, or that it refuses."""
    try:
      settings = dict(self._job.settings())
      self._lock = self._holding.enter_context(self._job.hold())
      return {'kind': 'settings', 'settings': settings}
    except (ValueError, OSError) as error:
      self._refusal = str(error)
      return {'kind': 'fault', 'fault': 'refused', 'text': self._refusal}

  async def _connect(self, ready: Message) -> None:
    end = self._began + self._job.bounds.join
    while self._arrival.connection is None:
      if time.monotonic() > end:
        self._events.put_nowait(('unreached', None))
        return
      await asyncio.sleep(_BETWEEN_LOOKS)
    link = await channel.link(
      self._arrival.connection, lambda m: self._events.put_nowait(('said', m))
    )
    link.send(ready)
    self._link = link

  async def _tick(self) -> None:
    while True:
      await asyncio.sleep(self._job.bounds.period)
      self._events.put_nowait(('tick', None))

  async def _on_unreached(self, _) -> _Ending:
    host, port = self._arrival.address
    hint = ''
    if host.startswith(('127.', 'localhost')):
      hint = ' (this is every host itself: is there more than one?)'
    return _Ending(
      LATE,
      f'Rank 0 was not to be reached at {host}:{port} after '
      f'{self._job.bounds.join:g} s{hint}.',
    )

  async def _on_tick(self, _) -> _Ending | None:
    now = time.monotonic()
    if self._hub:
      self._hub.pulse()
    if not self._said_waits and now - self._began > self._job.bounds.join / 30:
      self._say_waits()
    if self._process and self._link:
      self._report(now)
    if self._refusal and now - self._began > _REFUSED_SECONDS:
      return self._refused(self._refusal)
    if now > self._deadline:
      if self._done is not None:
        return _Ending(self._done)
      return self._interrupted(f', did not end within {GRACE_SECONDS:g} s')
    # After a signal rank 0 may have ended first; its peers follow.
    if self._link and not self._signal and self._is_silent(now):
      silent = now - (self._heard or self._began)
      return self._first_lost(f'nothing heard of it for {silent:.0f} s')
    if self._done is not None and self._hub and self._hub.roll.finished:
      return _Ending(self._done) if self._exited else None
    return None

  def _say_waits(self) -> None:
    """Says once for whom this rank waits, where it does."""
    self._said_waits = True
    missing = self._hub.roll.missing if self._hub else []
    if missing or not (self._hub or self._link):
      bound = self._job.bounds.join
      print(arrival.waiting(self._job.place, missing, bound), file=sys.stderr)

  def _is_silent(self, now: float) -> bool:
    """Returns whether the hub is silent, which listens before it can speak."""
    if self._heard is None:
      return (
        now - self._began > self._job.bounds.join + self._job.bounds.silence
      )
    return now - self._heard > self._job.bounds.silence

  def _report(self, now: float) -> None:
    """Sends how far the worker is, or once how it ended."""
    if end := self._beats.ended():
      self._tell(end)
      return
    beat = self._beats.read()
    if beat != self._beat:
      self._beat, self._moved = beat, now
    self._link.send({
      'kind': 'beat',
      **dataclasses.asdict(beat),
      'since': now - self._moved,
      'stopped': beats_lib.stopped(self._process.pid),
    })  # fmt: skip

  def _tell(self, end: beats_lib.End) -> None:
    if self._told:
      return
    self._told = True
    if end.kind == beats_lib.FINISHED:
      self._done = end.code
      self._deadline = time.monotonic() + _EXIT_SECONDS
      self._link.send({'kind': 'finished'})
    else:
      self._fault(_FAULTS[end.kind], end.text)

  def _fault(self, kind: str, text: str) -> None:
    self._told = True
    self._link.send({'kind': 'fault', 'fault': kind, 'text': text})

  @property
  def _exited(self) -> bool:
    return self._process is not None and self._process.returncode is not None

  async def _on_exit(self, code: int) -> _Ending | None:
    if end := self._beats.ended():
      self._tell(end)
    if self._signal:
      return _Ending(128 + self._signal)
    if self._done is not None:
      # Rank 0 has the hub, and stays until all are done.
      return None if self._hub else _Ending(self._done)
    if not self._told:
      aborted = code == -signal.SIGABRT
      self._fault('aborted' if aborted else 'died', _exit_text(code))
    return None  # the hub says what follows

  async def _on_signal(self, number: int) -> _Ending | None:
    again = bool(self._asked)
    self._asked = number
    if again or self._link is None:
      return self._interrupted(', at once')
    self._link.send({'kind': 'interrupt', 'signal': int(number)})
    return None

  async def _on_said(self, message: Message) -> _Ending | None:
    self._heard = time.monotonic()
    return await getattr(self, f'_said_{message["kind"]}')(message)

  async def _said_pulse(self, message: Message) -> None:
    pass

  async def _said_go(self, message: Message) -> None:
    self._hosts = message['hosts']
    if self._completes(first_lost=True):
      self._log_before = run_log.ending(self._job.log_path)
      self._log_state = _state(self._job.log_path)
    environment = {
      **os.environ,
      worker.VARIABLE: f'{self._folder}:{self._stacks}',
      'PODIUM_HOSTS': ','.join(self._hosts),
    }
    self._process = await asyncio.create_subprocess_exec(
      sys.executable,
      *sys.orig_argv[1:],
      env=environment,
      stdin=asyncio.subprocess.DEVNULL,
      start_new_session=True,  # signals reach it through its supervisor
      pass_fds=(self._stacks, *([self._lock] if self._lock else [])),
      preexec_fn=child.ends_with(os.getpid()),
    )
    self._moved = time.monotonic()
    self._tasks.append(asyncio.create_task(self._wait(self._process)))

  async def _wait(self, process: asyncio.subprocess.Process) -> None:
    self._events.put_nowait(('exit', await process.wait()))

  async def _said_refuse(self, message: Message) -> _Ending:
    return self._refused(message['text'])

  def _refused(self, text: str) -> _Ending:
    return _Ending(cli.USAGE_ERROR, self._refusal or text, refused=True)

  async def _said_interrupt(self, message: Message) -> _Ending | None:
    self._signal = self._beats.signal = message['signal']
    several = self._job.place.processes > 1
    if self._process is None or (several and not self._beats.read().running):
      return self._interrupted(' in startup')
    self._deadline = time.monotonic() + GRACE_SECONDS
    if self._asked and not self._exited:
      # JAX listens to SIGTERM alone, and tells all ranks.
      number = signal.SIGTERM if several else self._signal
      with contextlib.suppress(ProcessLookupError):
        self._process.send_signal(number)
    return None

  async def _said_end(self, message: Message) -> _Ending | None:
    mine = message['rank'] == self._job.place.process
    if self._refusal or (message['fault'] == 'refused' and not self._process):
      return self._refused(message['text'])
    if message['fault'] == 'refused':
      own = self._beats.ended()  # which has been said
      said = own is not None and own.kind == beats_lib.REFUSED
      return _Ending(2, '' if said else message['text'])
    if message['fault'] == 'failed' and mine:
      return _Ending(1, message['text'])
    if self._done is not None and self._exited:
      return _Ending(self._done, message['text'])
    if message['fault'] == 'fatal':
      return _Ending(1, message['text'])
    return _Ending(LATE, message['text'], dump=True)

  async def _said_closed(self, _: Message) -> _Ending | None:
    if self._signal:
      return None  # rank 0 has ended first; its peers follow by themselves
    if self._done is not None:
      return None
    if self._refusal:
      return self._refused(self._refusal)
    return self._first_lost('its connection was closed')

  def _first_lost(self, how: str) -> _Ending:
    name = f'rank 0 ({self._hosts[0]})' if self._hosts else 'rank 0'
    return _Ending(LATE, f'{name}: {how}', dump=True, first_lost=True)

  def _interrupted(self, how: str) -> _Ending:
    number = self._signal or self._asked
    name = signal.Signals(number).name
    return _Ending(128 + number, f'interrupted by {name}{how}')

  async def _conclude(self, ending: _Ending) -> int:
    place = self._job.place
    dumped = await self._end_worker(ending.dump)
    if ending.refused:
      return cli.refuse(ending.text)
    if ending.text:
      print(
        f'{ending.text.rstrip(".")}. Rank {place.process} ({hosts.name()}) '
        f'ends, exit code {ending.code}{dumped}.',
        file=sys.stderr,
        flush=True,
      )
    beat = self._beats.read()
    # Rank 0 may be ahead of the worker here.
    begun = beat.begun or (
      ending.first_lost and _state(self._job.log_path) != self._log_state
    )
    if begun and self._done is None:
      self._complete(ending)
      if place.process == 0 and not beat.running:
        self._job.set_aside()
    return ending.code

  def _complete(self, ending: _Ending) -> None:
    """Has the log say why the run ended."""
    if not ending.text or not self._completes(first_lost=ending.first_lost):
      return
    try:
      run_log.complete(self._job.log_path, ending.text, before=self._log_before)
    except (OSError, ValueError) as error:
      print(f'the log could not be completed: {error}', file=sys.stderr)

  def _completes(self, *, first_lost: bool) -> bool:
    """Rank 0 does; in its place rank 1 and the first rank of another host."""
    rank = self._job.place.process
    if rank == 0 or not first_lost:
      return rank == 0
    others = [n for n, host in enumerate(self._hosts) if host != self._hosts[0]]
    return rank in (1, *others[:1])

  async def _end_worker(self, dump: bool) -> str:
    """Ends what still runs; returns words on where its stacks are."""
    if self._process is None:
      return ''
    words = ''
    if dump and not self._exited and not self._told:
      words = await self._dump()
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(self._process.pid, signal.SIGKILL)  # also what it has started
    with contextlib.suppress(TimeoutError):
      await asyncio.wait_for(self._process.wait(), 5)
    return words

  async def _dump(self) -> str:
    for number in (signal.SIGUSR1, signal.SIGCONT):  # it may be stopped
      with contextlib.suppress(ProcessLookupError):
        self._process.send_signal(number)
    await asyncio.sleep(_DUMP_SECONDS)
    stacks = os.pread(self._stacks, _MOST_STACKS, 0)
    if not stacks:
      return ''  # it does not listen yet
    print(stacks.decode(errors='replace'), file=sys.stderr, flush=True)
    path = os.path.join(
      self._job.output, f'stacks_rank{self._job.place.process}.txt'
    )
    try:
      os.makedirs(self._job.output, exist_ok=True)
      files.write_bytes(path, stacks)
    except OSError as error:
      return f'; its stacks could not be written: {error}'
    return f'; where it was is in {path}'

  async def _linger(self) -> None:
    """Tells that all is over to ranks, too, that come a little later."""
    end = self._began + self._job.bounds.join
    end = min(end, time.monotonic() + _LINGER_SECONDS)
    while (
      self._hub
      and self._hub.roll.missing
      and not self._asked  # by a signal, which waits for nobody
      and time.monotonic() < end
    ):
      with contextlib.suppress(TimeoutError):
        kind, value = await asyncio.wait_for(self._events.get(), _BETWEEN_LOOKS)
        self._asked = value if kind == 'signal' else 0

  async def _close(self) -> None:
    self._arrival.give_up()
    if self._link:
      await self._link.close()
    if self._hub:
      await self._hub.close()
    for task in self._tasks:
      task.cancel()
    os.close(self._stacks)
    self._holding.close()


def _state(path: str) -> tuple[int, ...] | None:
  """Facts about a file that a write changes; None if it is not there."""
  with contextlib.suppress(OSError):
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
  return None


def _exit_text(code: int) -> str:
  if code < 0:
    return f'its process was ended by {signal.Signals(-code).name}'
  return f'its process ended unasked, with exit code {code}'
