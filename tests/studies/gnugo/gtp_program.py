"""A program that speaks the Go Text Protocol, and plays as it is told to.

python tests/studies/gnugo/gtp_program.py HABIT [what GNU Go would be told]

HABIT is how it plays, as `Program` says: `first` is the first legal point that
is no own eye. Of HABIT:LOG it writes what it is told into the file LOG.
"""

import os
import pathlib
import random
import signal
import stat
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))

from tests.models.minigo import go_peer

_COLUMNS = 'ABCDEFGHJ'


class Program:
  """The board, and the answers."""

  def __init__(self, habit: str):
    self.habit = habit
    self.komi = 0.0
    self.rng = random.Random(0)
    self.game = go_peer.Game(5)

  def answer(self, command: str, *words: str) -> str:
    """A reply, or ValueError with the text of an error."""
    known = getattr(self, f'do_{command}', None)
    if known is None:
      raise ValueError('unknown command')
    return known(*words) or ''

  def do_name(self):
    return 'Stand In'

  def do_version(self):
    return '0.1'

  def do_boardsize(self, size):
    if not 2 <= int(size) <= len(_COLUMNS):
      raise ValueError('unacceptable size')
    self.game = go_peer.Game(int(size))

  def do_clear_board(self):
    self.game = go_peer.Game(self.game.size)

  def do_komi(self, komi):
    self.komi = float(komi)

  def do_set_random_seed(self, seed):
    self.rng = random.Random(int(seed))

  def do_play(self, colour, name):
    size = self.game.size
    point = size**2
    if name != 'pass':
      point = (size - int(name[1:])) * size + _COLUMNS.index(name[0])
    if self.habit == 'refuses' and self.game.stones.count(0) < size**2 - 1:
      raise ValueError('illegal move')
    self._play(colour, point)

  def do_genmove(self, colour):
    game = self.game
    free = [p for p in game.legal() if not game.fills_eye(p)]
    point = {
      'first': free[0] if free else game.size**2,
      'draws': self.rng.choice([*free, game.size**2]),
      'occupied': next((p for p, s in enumerate(game.stones) if s), 0),
    }.get(self.habit, game.size**2)
    if self.habit == 'dies':
      sys.exit(3)
    if self.habit in ('hangs', 'interrupts'):
      if self.habit == 'interrupts':
        os.kill(os.getppid(), signal.SIGINT)
      sys.stdin.read()
    if self.habit in ('resign', 'nonsense'):
      return {'resign': 'resign', 'nonsense': 'Z99'}[self.habit]
    if self.habit != 'occupied':
      self._play(colour, point)
    if point == game.size**2:
      return 'PASS'
    row, column = divmod(point, game.size)
    return f'{_COLUMNS[column]}{game.size - row}'

  def do_final_score(self):
    score = self.game.score() - self.komi
    if self.habit == 'counts_wrong':
      score = -score
    return f'{"B" if score > 0 else "W"}+{abs(score)}' if score else '0'

  def do_showboard(self):
    return 'two\nlines'

  def _play(self, colour, point):
    game = self.game
    game.to_play = {'black': 1, 'white': -1}[colour]
    if point < game.size**2:
      after = game.after(point, game.to_play)
      if not after or tuple(after) in game.seen:
        raise ValueError('illegal move')
    game.play(point)


def command(folder: str, habit: str) -> str:
  """A program in `folder` that plays so, as GNU Go is called."""
  path = os.path.join(folder, habit.partition(':')[0])
  with open(path, 'w') as file:
    file.write(f'#!/bin/sh\nexec {sys.executable} {__file__} {habit} "$@"\n')
  os.chmod(path, stat.S_IRWXU)
  return path


def main() -> None:
  """Answers until there is nothing more to read."""
  habit, _, log = sys.argv[1].partition(':')
  program = Program(habit)
  if log:
    pathlib.Path(log).write_text(f'{" ".join(sys.argv[2:])}\n')
  for line in sys.stdin:
    if log:
      with open(log, 'a') as file:
        file.write(line)
    try:
      reply = f'= {program.answer(*line.split())}'
    except ValueError as error:
      reply = f'? {error}'
    print(f'{reply}\n', flush=True)


if __name__ == '__main__':
  main()
