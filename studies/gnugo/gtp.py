"""Programs that play Go and speak the Go Text Protocol: GNU Go, and its like.

A point is a number, row by row from the top left; size * size is the pass.
Colours are 1, Black, and -1, White.
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
  """The program did not do what it was asked for, or what it said is no use."""


class Ended(OSError):
  """The program is not there any more."""


def find(program: str = 'gnugo') -> str | None:
  """Its path, if it is installed; Debian keeps games off the usual path."""
  path = os.environ.get('PATH', os.defpath)
  return shutil.which(program, path=f'{path}{os.pathsep}/usr/games')


def gnugo(program: str, *, level: int | None = None) -> list[str]:
  """GNU Go's command: positional superko, no suicide, area counting.

  It takes dead stones off the board before it passes, for boards are counted as
  they stand. It begins to forget positions, and so superko, after 500 plies.
  """
  return [
    *(program, '--mode', 'gtp', '--chinese-rules', '--capture-all-dead'),
    *('--positional-superko', '--forbid-suicide', '--seed', '1'),
    *(() if level is None else ('--level', str(level))),
  ]


def vertex(point: int, size: int) -> str:
  """The point as people and the protocol call it: 'A1' is bottom left."""
  if point == size**2:
    return 'pass'
  row, column = divmod(point, size)
  return f'{_COLUMNS[column]}{size - row}'


def point(vertex: str, size: int) -> int:
  """The point of that name; ValueError if the board has none."""
  name = vertex.strip().upper()
  if name == 'PASS':
    return size**2
  column = _COLUMNS.find(name[:1]) if name else -1
  row = size - int(name[1:]) if name[1:].isdecimal() else -1
  if not (0 <= column < size and 0 <= row < size):
    raise ValueError(
      f'Expected a point of a board of {size} rows; came {vertex!r}.'
    )
  return row * size + column


class Engine:
  """A running program, with a board of its own."""

  def __init__(self, command: Sequence[str], size: int, komi: float):
    """Starts it; OSError or `Refused` if it will not play on such a board."""
    self.size = size
    self._komi = komi
    self._played: list[str] = []  # the commands that led to its position
    # Ctrl-C is for who started it, who ends it.
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
    """Ends it; whoever waits for its answer gets `Ended`."""
    self.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(BrokenPipeError):
        pipe.close()

  def kill(self) -> None:
    """Ends it, and does not wait."""
    self._process.kill()

  def version(self) -> str:
    """Its name and version."""
    return ' '.join(self.ask('name', 'version'))

  def clear(self) -> None:
    """An empty board."""
    self._played = []
    self.ask(f'boardsize {self.size}', 'clear_board', f'komi {self._komi:g}')

  def play(self, point: int, colour: int) -> None:
    """A move of that colour."""
    self._advance([self._move(point, colour)])

  def stand_after(self, moves: Sequence[int]) -> None:
    """Its board is that after `moves` from the start, the first one Black's.

    Those that it has played already are not played again.
    """
    wanted = [self._move(move, 1 - 2 * (n % 2)) for n, move in enumerate(moves)]
    known = len(self._played)
    if wanted[:known] != self._played:
      self.clear()
      known = 0
    self._advance(wanted[known:])

  def generate(self, colour: int) -> int | None:
    """Its own move, which it plays; None: it resigns."""
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
    """What it draws from now on follows from `seed`; GNU Go's own command."""
    self.ask(f'set_random_seed {seed}')

  def score(self) -> float:
    """Black's area less White's and komi, without stones it holds for dead."""
    (reply,) = self.ask('final_score')
    if reply == '0':
      return 0.0
    sign = {'B': 1, 'W': -1}.get(reply[:1])
    try:
      return sign * float(reply[2:])
    except (TypeError, ValueError):
      raise Refused(f"Expected a score such as 'B+3.5', came {reply!r}.") from (
        None
      )

  def ask(self, *commands: str) -> list[str]:
    """The replies, without their '='; `Refused` if one of them is an error."""
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
    """The next one: lines up to an empty one."""
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
  """A few programs that play many games, two that belong together on one.

  A game is always played by the same program, in the same order, so that what
  is played does not depend on which is the quickest.
  """

  def __init__(self, make: Callable[[], Engine], programs: int):
    with contextlib.ExitStack() as stack:
      self._engines = [stack.enter_context(make()) for _ in range(programs)]
      self._ends = stack.pop_all()
    self._threads = futures.ThreadPoolExecutor(programs)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    # All at once and first: threads wait, and Ctrl-C may come again.
    for engine in self._engines:
      engine.kill()
    self._ends.close()
    self._threads.shutdown()

  def version(self) -> str:
    """Of the programs, which are all the same."""
    return self._engines[0].version()

  def of_each(
    self, games: Iterable[int], function: Callable[[Engine, int], T]
  ) -> dict[int, T]:
    """`function(engine, game)` of each of `games`, which are numbers."""
    shares: list[list[int]] = [[] for _ in self._engines]
    for game in games:
      shares[game // 2 % len(shares)].append(game)

    def run(engine: Engine, share: list[int]) -> list[tuple[int, T]]:
      return [(game, function(engine, game)) for game in share]

    found = self._threads.map(run, self._engines, shares)
    return dict(pair for pairs in found for pair in pairs)
