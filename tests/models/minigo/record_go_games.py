"""Records random games with GNU Go's legal moves and scores, for the tests.

python tests/models/minigo/record_go_games.py   (Debian: apt-get install gnugo)

A player takes any of the moves that GNU Go lists, now and then passes, and in
every other game does not fill their own eyes, so that some games end in order
and others are long and wild, with many captures and repeated positions. Of each
game is kept: the moves, up to two passes in a row or the limit; a digest of the
legal sets of both colours in each of its positions; GNU Go's score without
komi; and which stones it held for dead.

The file is written beside and renamed. Its members, for each size: `moves_<n>`
uint16, one game after the other; `lengths_<n>` int32; `digests_<n>` uint64;
`scores_<n>` int16; `dead_<n>` bool [games, points].
"""

import hashlib
import os
import pathlib
import random
import sys
import time

from absl import app, flags
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))

from studies.gnugo import gtp
from tests.models.minigo import gnugo, go_peer

FIXTURE = pathlib.Path(__file__).parent / 'data' / 'go_games.npz'
# Size -> longest game, in plies.
LONGEST = {5: 120, 9: 240, 19: 600}
# After 500 plies GNU Go begins to forget positions, and so superko.
JUDGED = 500


def digest(legal_sets: list[np.ndarray]) -> int:
  """64 bits of bool [2, P] for each position of a game: Black's and White's."""
  packed = np.packbits(np.stack(legal_sets[:JUDGED])).tobytes()
  return int.from_bytes(hashlib.sha256(packed).digest()[:8], 'little')


def keeps_eyes(game: int) -> bool:
  """Returns whether the players of the game do not fill their own eyes."""
  return game % 2 == 0


def random_game(judge: gnugo.GnuGo, rng: random.Random, keep_eyes: bool):
  """Moves, and the legal sets before each of them and after the last."""
  size, board = judge.size, go_peer.Game(judge.size)
  judge.clear()
  moves, sets, passes = [], [], 0
  while True:
    legal = {colour: judge.legal(colour) for colour in (1, -1)}
    sets.append(np.zeros((2, size**2), bool))
    sets[-1][0, legal[1]] = sets[-1][1, legal[-1]] = True
    if passes == 2 or len(moves) == LONGEST[size]:
      return moves, sets
    choice = legal[board.to_play]
    if keep_eyes:
      choice = [point for point in choice if not board.fills_eye(point)]
    if not choice or rng.random() < 0.01:
      choice = [size**2]
    move = rng.choice(choice)
    passes = passes + 1 if move == size**2 else 0
    judge.play(move, board.to_play)
    board.play(move)
    moves.append(move)


def record(size: int, games: int, seed: int) -> dict[str, np.ndarray]:
  """The arrays of one board size."""
  rng, found, begun = random.Random(f'{seed} {size}'), [], time.monotonic()
  with gnugo.GnuGo(size) as judge:
    for game in range(games):
      moves, sets = random_game(judge, rng, keeps_eyes(game))
      dead = np.zeros(size**2, bool)
      dead[judge.dead()] = True
      found.append((moves, digest(sets), judge.score(), dead))
      if (game + 1) % max(1, games // 10) == 0:
        seconds = time.monotonic() - begun
        print(
          f'{size}x{size}: {game + 1} of {games}, {seconds:.0f} s', flush=True
        )
  moves, digests, scores, dead = zip(*found, strict=True)
  return {
    f'moves_{size}': np.concatenate([np.array(m, np.uint16) for m in moves]),
    f'lengths_{size}': np.array([len(m) for m in moves], np.int32),
    f'digests_{size}': np.array(digests, np.uint64),
    f'scores_{size}': np.array(scores, np.int16),
    f'dead_{size}': np.stack(dead),
  }


def define_flags() -> None:
  """Not when this is imported: a test does, and others have such flags."""
  flags.DEFINE_list('games', ['2000', '300', '24'], 'On 5x5, 9x9, 19x19.')
  flags.DEFINE_string('output', str(FIXTURE), 'The file to write.')
  flags.DEFINE_integer('seed', 0, 'Of the random moves.')


def main(argv):
  """Plays, and writes the file."""
  del argv
  if not gtp.find():
    raise app.UsageError('Expected the program gnugo; it is not installed.')
  arrays = {}
  for size, games in zip(LONGEST, flags.FLAGS.games, strict=True):
    arrays |= record(size, int(games), flags.FLAGS.seed)
  beside = f'{flags.FLAGS.output}.part'
  with open(beside, 'wb') as file:
    np.savez_compressed(file, **arrays)
  os.replace(beside, flags.FLAGS.output)
  print(f'{flags.FLAGS.output}: {os.path.getsize(flags.FLAGS.output):,} bytes')


if __name__ == '__main__':
  define_flags()
  app.run(main)
