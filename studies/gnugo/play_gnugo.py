r"""Plays a net of MiniGo against GNU Go, an independent measure.

python -m studies.gnugo.play_gnugo --checkpoint=DIR/checkpoints_0 --level=0
python -m studies.gnugo.play_gnugo --size=tiny --untrained
python -m studies.gnugo.play_gnugo --size=tiny --playouts

The player is the net of the newest checkpoint of a run (launch.train keeps
some with --keep_checkpoints), an untrained net, or the opponent that values
positions by random games. It searches as in the evals of the benchmark: the
most visited move, no noise. Each opening of two random plies is played from
both sides. Komi, area scoring and superko are those of the benchmark, and our
own engine decides who won. GNU Go captures dead stones before it passes:
otherwise it would lose games that it had won, as boards are scored as they
stand. All games advance together, so that a search is one call for all of them.
Exit code: 0 played, 1 an engine called a move illegal or GNU Go ended, 2
refused before the first move, 130 ended by Ctrl-C.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import functools
import os
import shutil
import sys
import tempfile
import time
from typing import Any

from absl import flags as absl_flags
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from launch.support import cli
from launch.support.progress import LiveLine
from models.minigo import go, self_play
from models.minigo import net as minigo
from models.minigo.self_play import MatchSettings
from models.parts.functional import Functional
from studies.gnugo import go_match, gtp
from studies.gnugo.go_match import Game, Side
from suite import benchmark as benchmark_lib
from suite import files, hparams, names
from suite.benchmark import Benchmark, Size
from suite.benchmarks.minigo import settings as minigo_settings
from suite.hparams import Division
from suite.results.report.format import duration
from suite.run import checkpoint, program, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.task import State

FLAGS = absl_flags.FLAGS

NOTE = 'This is not the quality of the benchmark, which has its own opponent.'
_BOARDS = range(2, 20)  # rows that GNU Go supports
_SECONDS_BETWEEN = 30.0  # between lines of progress in a file
_INTERRUPTED = 130


def define_flags() -> None:
  """The flags of this program."""
  absl_flags.DEFINE_enum('benchmark', 'minigo', ['minigo'], 'Which benchmark.')
  absl_flags.DEFINE_string('size', 'tiny', 'Which of its sizes.')
  absl_flags.DEFINE_multi_string(
    'hp',
    [],
    'A hyperparameter as name=value; may be given again. Those of a checkpoint '
    'are its own.',
  )
  absl_flags.DEFINE_string(
    'checkpoint', '', 'Folder of checkpoints: OUTPUT/checkpoints_RUN.'
  )
  absl_flags.DEFINE_bool('untrained', False, 'Plays the fresh net of --seed.')
  absl_flags.DEFINE_bool('playouts', False, 'Plays the search without a net.')
  absl_flags.DEFINE_integer(
    'readouts',
    None,
    "Visits of a search; by default those of the benchmark's eval.",
    lower_bound=1,
  )
  absl_flags.DEFINE_integer(
    'level', 0, "GNU Go's strength.", lower_bound=0, upper_bound=10
  )
  absl_flags.DEFINE_integer('games', 256, 'Even.', lower_bound=2)
  absl_flags.DEFINE_integer(
    'seed', 0, 'Of openings, and all else that is drawn.',
    lower_bound=0, upper_bound=2**32 - 1,
  )  # fmt: skip
  absl_flags.DEFINE_string('gnugo', 'gnugo', 'The program, or its path.')
  absl_flags.DEFINE_integer(
    'processes',
    None,
    'GNU Gos at once; by default one a core, at most 16.',
    lower_bound=1,
  )
  absl_flags.DEFINE_string('json', '', 'File for the result and all moves.')


def main() -> int:
  """Plays, and prints who won; see the module."""
  _check_flags()
  try:
    return _played(gtp.gnugo(_program(), level=FLAGS.level), _side())
  except KeyboardInterrupt:
    print('\nended by Ctrl-C: there is no result', file=sys.stderr)
    return _INTERRUPTED
  except go_match.Broken as error:
    print(f'error: {error}', file=sys.stderr)
    return 1


def _played(command: Sequence[str], side: Side) -> int:
  rules = side.settings.rules
  games = go_match.openings(FLAGS.games, rules.size, FLAGS.seed)
  make = functools.partial(gtp.Engine, command, rules.size, rules.komi)
  programs = FLAGS.processes or min(os.cpu_count() or 1, 16)
  progress = Progress(len(games))
  with gtp.Pool(make, programs) as pool:
    opponent = f'{pool.version()}, level {FLAGS.level}'
    table = go_match.Table(side, len(games))
    table.begin(side.arrays, FLAGS.seed)
    go_match.play(games, table, pool, FLAGS.seed, progress.tell)
  found = result(games, side, opponent, FLAGS.seed)
  progress.clear()
  if FLAGS.json:
    files.write_json(FLAGS.json, found)
  for line in lines(found):
    print(line)
  print(f'It took {duration(progress.seconds)}.')
  return 0


class Progress:
  """Line of progress that is redrawn; in a file, one line now and then."""

  def __init__(self, games: int):
    self._games = games
    self._line = LiveLine(sys.stdout)
    self._began = self._told = time.monotonic()

  @property
  def seconds(self) -> float:
    """Seconds since the start."""
    return time.monotonic() - self._began

  def tell(self, ply: int, going: int) -> None:
    """Shows that `going` games continue after `ply`, counted from 0."""
    text = (
      f'{ply + 1} plies, {self._games - going} of {self._games} games over, '
      f'{duration(self.seconds)}'
    )
    self._line.show(text)
    now = time.monotonic()
    if now - self._told >= _SECONDS_BETWEEN and not sys.stdout.isatty():
      self._line.keep(text)
      self._told = now

  def clear(self) -> None:
    """Removes the line."""
    self._line.clear()


def result(
  games: list[Game], side: Side, opponent: str, seed: int
) -> dict[str, Any]:
  """Result of the games, for the JSON file."""
  rules = side.settings.rules
  ended = [game for game in games if not game.resigned]
  by_colour = {
    name: _wins([game for game in games if game.ours == colour])
    for name, colour in (('black', go.BLACK), ('white', go.WHITE))
  }
  return {
    'note': NOTE,
    'player': side.name,
    'size': FLAGS.size,
    'readouts': side.settings.readouts,
    'opponent': opponent,
    'board': rules.size,
    'komi': rules.komi,
    'seed': seed,
    **_wins(games),
    'by_colour': by_colour,
    'resigned_by_gnugo': len(games) - len(ended),
    'counted_differently': sum(g.score != g.their_score for g in ended),
    'other_winner': sum(
      np.sign(g.score).item() != np.sign(g.their_score).item() for g in ended
    ),
    'list': [_listed(game, rules.size) for game in games],
  }


def _wins(games: list[Game]) -> dict[str, Any]:
  """Counts wins; draws are none. The interval assumes independent games."""
  wins = sum(game.winner == game.ours for game in games)
  bounds = stats.binomtest(wins, len(games)).proportion_ci(0.95, 'wilson')
  return {
    'games': len(games),
    'wins': wins,
    'draws': sum(game.winner == 0 for game in games),
    'win_rate': wins / len(games),
    'interval': [float(bounds.low), float(bounds.high)],
  }


def _listed(game: Game, size: int) -> dict[str, Any]:
  return {
    'ours': gtp.COLOURS[game.ours],
    'won': game.winner == game.ours,
    'resigned_by_gnugo': game.resigned,
    'score': game.score,
    'score_of_gnugo': game.their_score,
    'moves': ' '.join(gtp.vertex(move, size) for move in game.moves),
  }


def lines(found: Mapping[str, Any]) -> list[str]:
  """Lines of the result for people."""
  black, white = found['by_colour']['black'], found['by_colour']['white']
  low, high = found['interval']
  ended = found['games'] - found['resigned_by_gnugo']
  return [
    f'{found["player"]}, {found["readouts"]} readouts, against '
    f'{found["opponent"]}; {found["board"]}x{found["board"]}, komi '
    f'{found["komi"]:g}, seed {found["seed"]}',
    f'win rate {found["win_rate"]:.1%} ({found["wins"]} of {found["games"]}), '
    f'95 % interval {low:.1%} to {high:.1%}',
    f'as Black {black["wins"]} of {black["games"]}, '
    f'as White {white["wins"]} of {white["games"]}',
    f'GNU Go resigned {found["resigned_by_gnugo"]}; of the other {ended} it '
    f'counts {found["counted_differently"]} differently, and '
    f'{found["other_winner"]} for another winner',
    NOTE,
  ]


def _check_flags() -> None:
  given = [bool(FLAGS.checkpoint), FLAGS.untrained, FLAGS.playouts]
  if sum(given) != 1:
    raise ValueError(
      'Expected one of --checkpoint=FOLDER, --untrained and --playouts, to say '
      f'who plays, got {sum(given)} of them.'
    )
  if FLAGS.checkpoint and FLAGS.hp:
    raise ValueError('--hp is not for --checkpoint, which has its own.')
  if FLAGS.games % 2:
    raise ValueError(
      f'--games: expected an even number, for each opening is played from both '
      f'sides, got {FLAGS.games}.'
    )


def _program() -> str:
  found = gtp.find(FLAGS.gnugo)
  if not found:
    raise ValueError(
      f'Expected the program {FLAGS.gnugo}, which is not installed. On Debian: '
      'apt-get install gnugo. Elsewhere: --gnugo=PATH.'
    )
  return found


def _side() -> Side:
  """Player chosen by the flags."""
  benchmark = benchmark_lib.get(FLAGS.benchmark)
  size = benchmark.size(FLAGS.size)
  if FLAGS.checkpoint:
    with tempfile.TemporaryDirectory() as folder:
      copied = Checkpoints(_copied(FLAGS.checkpoint, folder), minutes=0)
      with contextlib.closing(copied):
        return _of_checkpoint(benchmark, size, copied)
  changes = names.assignments('hp', FLAGS.hp)
  hp = hparams.override(size.hparams, changes, Division.OPEN)
  if FLAGS.playouts:
    settings = _settings(hp, hp.opponent_readouts)
    return Side(
      'the search by random games',
      None,
      lambda _: self_play.of_playouts(settings.rules),
      settings,
    )
  settings, task = (
    _settings(hp, hp.eval_readouts),
    benchmark.task(hp, size.data),
  )
  state = jax.jit(
    lambda seed: task.init(jax.random.key(seed, impl=program.GENERATOR))
  )(np.uint32(FLAGS.seed))
  return _of_net('an untrained net', hp, state, settings)


def _settings(hp: minigo_settings.Hparams, readouts: int) -> MatchSettings:
  """Settings of the eval, with the readouts of --readouts."""
  readouts = FLAGS.readouts or readouts
  hp = dataclasses.replace(
    hp, eval_readouts=readouts, opponent_readouts=readouts
  )
  if hp.board_size not in _BOARDS:
    raise ValueError(
      f'Expected a board of {_BOARDS[0]} to {_BOARDS[-1]} rows, as GNU Go '
      f'plays on; size {FLAGS.size} has {hp.board_size}.'
    )
  return minigo_settings.match_settings(hp)


def _of_net(
  name: str,
  hp: minigo_settings.Hparams,
  state: State,
  settings: MatchSettings,
) -> Side:
  size, dtype = minigo_settings.net_size(hp), jnp.dtype(hp.compute_dtype)
  net = Functional.of(
    lambda rngs: minigo.Minigo(size, bn_span=None, dtype=dtype, rngs=rngs)
  )

  def player(arrays):
    params, stats = arrays
    return self_play.of_net(
      lambda planes: net.apply(params, stats, planes, train=False)[0], settings
    )

  return Side(name, (state.params, state.stats['net']), player, settings)


def _copied(path: str, folder: str) -> str:
  """Copy of the complete checkpoints, as a run may still write to `path`."""
  steps = [name for name in os.listdir(path) if name.isdigit()]
  if not steps:
    raise ValueError(f'Expected a folder of checkpoints, not {path!r}.')
  for step in steps:
    shutil.copytree(os.path.join(path, step), os.path.join(folder, step))
  return folder


def _of_checkpoint(
  benchmark: Benchmark, size: Size, checkpoints: Checkpoints
) -> Side:
  position = checkpoints.newest()
  if position is None:
    raise checkpoint.Failed(
      f'Expected a checkpoint that can be read in {FLAGS.checkpoint}.'
    )
  hp = _hparams_of(position.origin, size.hparams)
  settings, task = (
    _settings(hp, hp.eval_readouts),
    benchmark.task(hp, size.data),
  )
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  checkpoints.prepare(program.state_spec(task, mesh))
  restored = checkpoints.restore(lambda number: number)
  for note in restored.passed_over:
    print(f'skipped a checkpoint: {note}', file=sys.stderr)
  name = f'the net of {FLAGS.checkpoint}, step {restored.position.steps}'
  return _of_net(name, hp, restored.state, settings)


def _hparams_of(origin: Mapping[str, Any], like: Any) -> Any:
  """Hyperparameters of the run that wrote a checkpoint."""
  found = f'{origin.get("benchmark")}, size {origin.get("size")}'
  asked = f'{FLAGS.benchmark}, size {FLAGS.size}'
  if found != asked:
    raise ValueError(
      f'{FLAGS.checkpoint}: expected a run of {asked}, got one of {found}.'
    )
  values = origin['hyperparameters']
  known = {field.name for field in dataclasses.fields(like)}
  if known != set(values):
    raise ValueError(
      f'{FLAGS.checkpoint}: expected the hyperparameters of this version, got '
      f'a difference in {", ".join(sorted(known ^ set(values)))}.'
    )
  return type(like)(
    **{
      name: tuple(value) if isinstance(value, list) else value
      for name, value in values.items()
    }
  )


if __name__ == '__main__':
  cli.run(main, define=define_flags)
