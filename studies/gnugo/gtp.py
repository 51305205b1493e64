"""Programs that play Go and speak the Go Text Protocol, such as GNU Go.

Points are numbered row by row from the top left; size * size is the pass.
Colours are 1 (Black) and -1 (White).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
import contextlib
import os
import shutil
import subprocess
from typing import TypeVar

T = TypeVar('T')

COLOURS = {1: 'black', -1: 'white'}
_COLUMNS = 'ABCDEFGHJKLMNOPQRSTUVWXYZ'


class Refused(ValueError):
  """The program refused a command, or its reply is invalid."""


class Ended(OSError):
  """The program has ended."""


def find(program: str = 'gnugo') -> str | None:
  """Path of a program, if installed; Debian keeps games off the usual path."""
  path = os.environ.get('PATH', os.defpath)
  return shutil.which(program, path=f'{path}{os.pathsep}/usr/games')


def gnugo(program: str, *, level: int | None = None) -> list[str]:
  """Command of GNU Go: positional superko, no suicide, area scoring.

  It captures dead stones before it passes, as boards are scored as they stand.
  After 500 plies it starts to forget positions, and so superko.
  """
  return [
    *(program, '--mode', 'gtp', '--chinese-rules', '--capture-all-dead'),
    *('--positional-superko', '--forbid-suicide', '--seed', '1'),
    *(() if level is None else ('--level', str(level))),
  ]


def vertex(point: int, size: int) -> str:
  """Name of a point, for people and the protocol: 'A1' is bottom left."""
  if point == size**2:
    return 'pass'
  row, column = divmod(point, size)
  return f'{_COLUMNS[column]}{size - row}'


def point(vertex: str, size: int) -> int:
  """Point of that name; ValueError if the board has none."""
  name = vertex.strip().upper()
  if name == 'PASS':
    return size**2
  column = _COLUMNS.find(name[:1]) if name else -1
  row = size - int(name[1:]) if name[1:].isdecimal() else -1
  if not (0 <= column < size and 0 <= row < size):
    raise ValueError(
      f'Expected a point of a board of {size} rows, got {vertex!r}.'
    )
  return row * size + column


class Engine:
  """Running program with a board of its own."""

  def __init__(self, command: Sequence[str], size: int, komi: float):
    """Starts it; OSError or `Refused` if it does not support the board."""
    self.size = size
    self._komi = komi
    self._played: list[str] = []  # the commands that led to its position
    # Ctrl-C goes to this process, which ends it.
    self._process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    try:
      self.clear()
    except BaseException:
      self.close()
      raise

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def close(self) -> None:
    """Ends it; a thread that waits for a reply gets `Ended`."""
    self.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(BrokenPipeError):
        pipe.close()

  def kill(self) -> None:
    """Ends it without waiting."""
    self._process.kill()

  def version(self) -> str:
    """Name and version."""
    return ' '.join(self.ask('name', 'version'))

  def clear(self) -> None:
    """Clears the board."""
    self._played = []
    self.ask(f'boardsize {self.size}', 'clear_board', f'komi {self._komi:g}')

  def play(self, point: int, colour: int) -> None:
    """Plays a move of that colour."""
    self._advance([self._move(point, colour)])

  def stand_after(self, moves: Sequence[int]) -> None:
    """Sets up the position after `moves`, the first of which is Black's.

    Moves that it has played already are not played again.
    """
    wanted = [self._move(move, 1 - 2 * (n % 2)) for n, move in enumerate(moves)]
    known = len(self._played)
    if wanted[:known] != self._played:
      self.clear()
      known = 0
    self._advance(wanted[known:])

  def generate(self, colour: int) -> int | None:
    """Has it play a move of its own, and returns it; None: it resigns."""
    (reply,) = self.ask(f'genmove {COLOURS[colour]}')
    if reply.lower() == 'resign':
      return None
    try:
      found = point(reply, self.size)
    except ValueError as error:
      raise Refused(f'No move: {error}') from None
    self._played.append(self._move(found, colour))
    return found

  def set_seed(self, seed: int) -> None:
    """Sets its random seed, by a command of GNU Go alone."""
    self.ask(f'set_random_seed {seed}')

  def score(self) -> float:
    """Black's area minus White's and komi, without stones it considers dead."""
    (reply,) = self.ask('final_score')
    if reply == '0':
      return 0.0
    sign = {'B': 1, 'W': -1}.get(reply[:1])
    try:
      return sign * float(reply[2:])
    except (TypeError, ValueError):
      raise Refused(f"Expected a score such as 'B+3.5', got {reply!r}.") from (
        None
      )

  def ask(self, *commands: str) -> list[str]:
    """Replies, without '='; `Refused` if one of them is an error."""
    try:
      self._process.stdin.write(''.join(f'{each}\n' for each in commands))
      self._process.stdin.flush()
    except (BrokenPipeError, ValueError):
      raise self._ended(commands[0]) from None
    replies = [self._reply(command) for command in commands]
    for command, reply in zip(commands, replies, strict=True):
      if not reply.startswith('='):
        raise Refused(f'It answers {command!r} with {reply!r}.')
    return [reply[1:].strip() for reply in replies]

  def _advance(self, commands: Sequence[str]) -> None:
    if commands:
      self.ask(*commands)
      self._played += commands

  def _move(self, point: int, colour: int) -> str:
    return f'play {COLOURS[colour]} {vertex(point, self.size)}'

  def _reply(self, command: str) -> str:
    """Next reply: lines up to an empty one."""
    lines: list[str] = []
    while (line := self._line(command)).strip() or not lines:
      lines += [line.strip()] if line.strip() else []
    return '\n'.join(lines)

  def _line(self, command: str) -> str:
    try:
      line = self._process.stdout.readline()
    except ValueError:  # closed by another thread
      line = ''
    if not line:
      raise self._ended(command)
    return line

  def _ended(self, command: str) -> Ended:
    name = os.path.basename(self._process.args[0])
    return Ended(f'{name} ended at the command {command!r}.')


class Pool:
  """A few programs that play many games, both games of an opening on one.

  A game is always played by the same program, in the same order, so that moves
  do not depend on which program is the fastest.
  """

  def __init__(self, make: Callable[[], Engine], programs: int):
    with contextlib.ExitStack() as stack:
      self._engines = [stack.enter_context(make()) for _ in range(programs)]
      self._ends = stack.pop_all()
    self._threads = futures.ThreadPoolExecutor(programs)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    # All at once and first: threads wait, and Ctrl-C may be pressed again.
    for engine in self._engines:
      engine.kill()
    self._ends.close()
    self._threads.shutdown()

  def version(self) -> str:
    """Name and version of the programs, which are all the same."""
    return self._engines[0].version()

  def of_each(
    self, games: Iterable[int], function: Callable[[Engine, int], T]
  ) -> dict[int, T]:
    """Calls `function(engine, game)` for each of `games`, by number."""
    shares: list[list[int]] = [[] for _ in self._engines]
    for game in games:
      shares[game // 2 % len(shares)].append(game)

    def run(engine: Engine, share: list[int]) -> list[tuple[int, T]]:
      return [(game, function(engine, game)) for game in share]

    found = self._threads.map(run, self._engines, shares)
    return dict(pair for pairs in found for pair in pairs)
