"""GNU Go over the Go Text Protocol, as a judge of legal moves and of scores."""

import os
import shutil
import subprocess

_COLUMNS = 'ABCDEFGHJKLMNOPQRSTUVWXYZ'
_COLOURS = {1: 'black', -1: 'white'}


def find() -> str | None:
  """The program, if it is installed; Debian keeps it off the usual path."""
  path = os.environ.get('PATH', os.defpath)
  return shutil.which('gnugo', path=f'{path}{os.pathsep}/usr/games')


class GnuGo:
  """A running GNU Go, with positional superko, no suicide, area counting."""

  def __init__(self, size: int):
    self.size = size
    self._process = subprocess.Popen(
      [
        *(find(), '--mode', 'gtp', '--chinese-rules', '--seed', '1'),
        *('--positional-superko', '--forbid-suicide'),
        *('--boardsize', str(size), '--komi', '0'),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.clear()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()

  def clear(self) -> None:
    """An empty board."""
    self._ask(f'boardsize {self.size}')
    self._ask('clear_board')
    self._ask('komi 0')

  def play(self, point: int, colour: int) -> None:
    """A move, of Black (1) or White (-1); size * size is the pass."""
    self._ask(f'play {_COLOURS[colour]} {self._name(point)}')

  def legal(self, colour: int) -> list[int]:
    """Points where the colour may play, ascending, without the pass."""
    names = self._ask(f'all_legal {_COLOURS[colour]}').split()
    return sorted(self._point(name) for name in names if name != 'PASS')

  def score(self) -> float:
    """Black's area less White's, dead stones taken off."""
    reply = self._ask('final_score')
    if reply == '0':
      return 0.0
    return {'B': 1, 'W': -1}[reply[0]] * float(reply[2:])

  def dead(self) -> list[int]:
    """Stones that it holds for dead, ascending."""
    names = self._ask('final_status_list dead').split()
    return sorted(self._point(name) for name in names)

  def _ask(self, command: str) -> str:
    self._process.stdin.write(f'{command}\n')
    self._process.stdin.flush()
    lines = []
    while (line := self._process.stdout.readline()).strip() or not lines:
      if not line:
        raise EOFError(f'GNU Go ended at the command {command!r}.')
      lines += [line.strip()] if line.strip() else []
    reply = '\n'.join(lines)
    if not reply.startswith('='):
      raise ValueError(f'GNU Go refused {command!r}: {reply!r}.')
    return reply[1:].strip()

  def _name(self, point: int) -> str:
    if point == self.size**2:
      return 'pass'
    row, column = divmod(point, self.size)
    return f'{_COLUMNS[column]}{self.size - row}'

  def _point(self, name: str) -> int:
    row = self.size - int(name[1:])
    return row * self.size + _COLUMNS.index(name[0])
