"""`play_gnugo`: runs against a program that stands in for GNU Go."""

import collections
import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
from unittest import mock

from absl import flags as absl_flags
from absl.testing import absltest, parameterized
import jax
import pytest

from launch.cluster import resuming
from launch.support import run_flags
from studies.gnugo import go_match, gtp, play_gnugo
from suite import benchmark, hparams
from suite.clock import Moment
from suite.hparams import Division
from suite.run import program, sharding
from suite.run.checkpoint import Checkpoints, Position
from tests import quick
from tests.launch import entrypoint_flags
from tests.models.minigo import go_peer
from tests.studies.gnugo import gtp_program

KOMI = 0.5
NET = {
  'board_size': '5', 'komi': str(KOMI), 'conv_width': '4', 'trunk_layers': '1',
  'fc_width': '4', 'virtual_losses': '2',
}  # fmt: skip
QUICK = ['--games=8', '--readouts=4', '--processes=2']
OF_NET = [*QUICK, *(f'--hp={name}={value}' for name, value in NET.items())]
_Table = go_match.Table
_quickly = mock.patch.object(jax, 'jit', quick.jit)


def setUpModule():
  global _flags
  _flags = entrypoint_flags.define(play_gnugo)
  _quickly.start()


def tearDownModule():
  entrypoint_flags.remove(_flags)
  _quickly.stop()
  _tables.clear()
  _sides.clear()


_Side = play_gnugo._side
_tables, _sides = {}, {}


def _table(side, games):
  """Compiled once for all tests."""
  key = side.settings, games, jax.tree.structure(side.arrays)
  if key not in _tables:
    _tables[key] = _Table(side, games)
  return _tables[key]


def _side():
  """The fresh net is made once for each seed; all nets come from the host.

  Arrays that lie on a device would have a program of their own.
  """
  values = absl_flags.FLAGS
  key = values.seed, values.readouts, tuple(values.hp)
  if values.untrained and key in _sides:
    return _sides[key]
  side = _Side()
  side = dataclasses.replace(side, arrays=jax.device_get(side.arrays))
  if values.untrained:
    _sides[key] = side
  return side


@functools.cache
def _fresh():
  """Size tiny, its hyperparameters, the fresh state of seed 5, and its spec."""
  size = benchmark.get('minigo').size('tiny')
  hp = hparams.override(size.hparams, NET, Division.OPEN)
  task = benchmark.get('minigo').task(hp, size.data)
  spec = program.state_spec(task, sharding.make_mesh(devices=jax.devices()[:1]))
  state = jax.device_put(
    jax.jit(task.init)(jax.random.key(5, impl=program.GENERATOR)),
    jax.tree.map(lambda leaf: leaf.sharding, spec),
  )
  return size, hp, state, spec


@dataclasses.dataclass
class Ran:
  """Outcome of a run."""

  code: int
  out: str
  errors: str
  found: dict  # what the JSON file holds


class _Runs(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.enter_context(mock.patch.object(go_match, 'Table', _table))
    self.enter_context(mock.patch.object(play_gnugo, '_side', _side))

  def run_with(self, habit, *arguments):
    """Runs against a program of that habit; '': as the arguments say."""
    given = []
    if habit:
      given = [f'--gnugo={gtp_program.command(self.folder, habit)}']
    path = os.path.join(self.folder, 'found.json')
    values = absl_flags.FLAGS
    out, errors = io.StringIO(), io.StringIO()
    for name in _flags:
      values[name].unparse()
    values(['play_gnugo', f'--json={path}', *arguments, *given])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
      code = play_gnugo.main()
    found = {}
    if os.path.exists(path):
      found = json.loads(pathlib.Path(path).read_text())
      os.remove(path)
    return Ran(code, out.getvalue(), errors.getvalue(), found)

  def untrained(self, habit, *more):
    return self.run_with(habit, '--untrained', *OF_NET, *more)

  def assert_refused(self, says, *arguments):
    with self.assertRaisesRegex(ValueError, says):
      self.run_with('first', *arguments)


def _points(game):
  return [gtp.point(name, 5) for name in game['moves'].split()]


class PlayedTest(_Runs):
  """One run, from all sides."""

  ran = None

  def setUp(self):
    super().setUp()
    if PlayedTest.ran is None:
      PlayedTest.ran = self.untrained('draws')
    self.games = self.ran.found['list']

  def test_every_opening_is_played_from_both_sides(self):
    self.assertEqual(self.ran.code, 0)
    self.assertLen(self.games, 8)
    played = collections.defaultdict(list)
    for game in self.games:
      played[tuple(game['moves'].split()[:2])].append(game['ours'])
    self.assertLen(played, 4)
    self.assertEqual(list(played.values()), [['black', 'white']] * 4)

  def test_games_are_go_to_their_end_and_counted_as_a_plain_engine_does(self):
    lengths = set()
    for game in self.games:
      peer, moves = go_peer.Game(5), _points(game)
      for move in moves:
        self.assertIn(move, [*peer.legal(), 25])
        peer.play(move)
      self.assertEqual(game['score'], peer.score() - KOMI)
      ours = {'black': 1, 'white': -1}[game['ours']]
      self.assertEqual(game['won'], game['score'] * ours > 0)
      # Nobody passes twice in a row before the end.
      self.assertNotIn('pass pass', game['moves'].removesuffix('pass'))
      lengths.add(len(moves))
    self.assertGreater(len(lengths), 2)

  def test_the_moves_of_the_program_are_its_own(self):
    # What it draws follows from seed, game and ply: the same run is the same.
    self.assertEqual(self.untrained('draws').found, self.ran.found)
    again = self.untrained('draws', '--processes=3').found
    self.assertEqual(again, self.ran.found)
    other = self.untrained('draws', '--seed=1').found
    self.assertNotEqual(other['list'], self.games)

  def test_the_sums_are_those_of_the_games(self):
    found = self.ran.found
    won = [game['ours'] for game in self.games if game['won']]
    self.assertEqual(found['wins'], len(won))
    self.assertEqual(found['win_rate'], len(won) / 8)
    self.assertEqual(found['by_colour']['black']['wins'], won.count('black'))
    self.assertEqual(found['by_colour']['white']['wins'], won.count('white'))
    low, high = found['interval']
    self.assertLess(low, found['win_rate'])
    self.assertGreater(high, found['win_rate'])
    self.assertEqual(found['counted_differently'], 0)
    self.assertEqual(found['board'], 5)
    self.assertEqual(found['komi'], KOMI)

  def test_it_says_who_played_and_that_it_is_not_the_quality(self):
    self.assertIn(
      'an untrained net, 4 readouts, against Stand In 0.1, level 0; 5x5',
      self.ran.out,
    )
    self.assertIn(f'({self.ran.found["wins"]} of 8), 95 %', self.ran.out)
    self.assertIn(play_gnugo.NOTE, self.ran.out)


class HabitsTest(_Runs):
  def test_who_resigns_loses_and_nothing_is_counted(self):
    found = self.untrained('resign').found
    self.assertEqual(found['win_rate'], 1)
    self.assertEqual(found['resigned_by_gnugo'], 8)
    self.assertEqual({game['score'] for game in found['list']}, {None})
    # At its first turn, the third ply or the fourth.
    lengths = [len(game['moves'].split()) for game in found['list']]
    self.assertEqual(lengths, [3, 2] * 4)

  def test_who_counts_otherwise_is_told_of_and_not_believed(self):
    ran, right = self.untrained('counts_wrong'), self.untrained('pass').found
    self.assertEqual(ran.found['wins'], right['wins'])
    self.assertEqual(right['counted_differently'], 0)
    self.assertEqual(ran.found['counted_differently'], 8)
    self.assertEqual(ran.found['other_winner'], 8)
    self.assertIn('it counts 8 differently, and 8 for another', ran.out)

  def test_an_illegal_move_of_the_program_is_an_error_with_the_game(self):
    ran = self.untrained('occupied')
    self.assertEqual((ran.code, ran.found), (1, {}))
    self.assertRegex(
      ran.errors,
      r'error: GNU Go plays ([A-E]\d), which is not legal.\n'
      r'Game \d, GNU Go is (Black|White): .*\1',
    )

  def test_a_move_that_the_program_refuses_is_an_error_with_the_game(self):
    ran = self.untrained('refuses')
    self.assertEqual((ran.code, ran.found), (1, {}))
    self.assertRegex(
      ran.errors,
      r"'play (?:black|white) ([A-E]\d)' with '\? illegal move'.\n"
      r'Game \d, GNU Go is (Black|White): .* \1\n',
    )

  @parameterized.parameters(
    ('dies', "dies ended at the command 'genmove"), ('nonsense', "got 'Z99'")
  )
  def test_a_program_that_fails_ends_the_run(self, habit, says):
    ran = self.untrained(habit)
    self.assertEqual((ran.code, ran.found), (1, {}))
    self.assertRegex(ran.errors, f'error: .*{says}.*\nGame [0-9]')

  def test_ctrl_c_ends_it_and_the_programs(self):
    ran = self.untrained('interrupts', '--processes=1')
    self.assertEqual((ran.code, ran.found), (130, {}))
    self.assertIn('ended by Ctrl-C: there is no result', ran.errors)

  def test_the_program_is_told_the_level_and_to_take_dead_stones_off(self):
    log = pathlib.Path(self.folder) / 'log'
    self.untrained(f'resign:{log}', '--level=7', '--processes=1')
    told = log.read_text().splitlines()
    for words in ('--level 7', '--capture-all-dead', '--chinese-rules'):
      self.assertIn(words, told[0])
    self.assertIn(f'komi {KOMI}', told[1:])


class SidesTest(_Runs):
  def test_the_search_by_random_games_beats_a_program_that_passes(self):
    ran = self.run_with('pass', '--playouts', *OF_NET, '--readouts=8')
    self.assertIn('the search by random games, 8 readouts', ran.out)
    self.assertGreater(ran.found['win_rate'], 0.6)

  def saved(self, *, benchmark_name='minigo'):
    """Checkpoints of the fresh net of seed 5, as launch.train saves them."""
    size, hp, state, spec = _fresh()
    made = dataclasses.replace(benchmark.get('minigo'), name=benchmark_name)
    request = run_flags.Request(made, 'tiny', size, Division.OPEN, hp)
    folder = os.path.join(self.folder, 'checkpoints_0')
    checkpoints = Checkpoints(
      folder, minutes=1, origin=resuming.origin(request, 5, '')
    )
    checkpoints.prepare(spec)
    for steps in (3, 7):
      checkpoints.save(
        state,
        Position(
          steps=steps, ticks=steps, block=1, done=0, evals=[], losses=[],
clock=Moment(0.0, 1.0, float(steps), {}, {}),
          feed={}, saved_by={'processes': 1, 'devices': 1},
          origin=checkpoints.origin,
        ),
      )  # fmt: skip
    checkpoints.close()
    return folder

  def test_the_net_of_a_checkpoint_plays_as_it_did(self):
    folder = self.saved()
    before = sorted(map(str, pathlib.Path(folder).rglob('*')))
    found = self.run_with(
      'first', f'--checkpoint={folder}', *QUICK, '--seed=5'
    ).found
    self.assertEqual(found['player'], f'the net of {folder}, step 7')
    fresh = self.untrained('first', '--seed=5').found
    self.assertEqual(found['list'], fresh['list'])
    self.assertEqual(sorted(map(str, pathlib.Path(folder).rglob('*'))), before)

  def test_one_that_is_broken_is_passed_over_and_left_as_it_is(self):
    folder = self.saved()
    shutil.rmtree(os.path.join(folder, '7', 'state'))
    ran = self.run_with('first', f'--checkpoint={folder}', *QUICK, '--seed=5')
    self.assertEqual(ran.found['player'], f'the net of {folder}, step 3')
    self.assertIn('skipped a checkpoint: step 7', ran.errors)
    self.assertTrue(os.path.isdir(os.path.join(folder, '7')))

  def test_a_run_of_something_else_is_refused(self):
    folder = self.saved(benchmark_name='chess')
    self.assert_refused(
      'expected a run of minigo, size tiny, got one of chess, size tiny',
      f'--checkpoint={folder}',
    )

  def test_a_folder_without_checkpoints_is_refused(self):
    self.assert_refused(
      'Expected a folder of checkpoints', f'--checkpoint={self.folder}'
    )


class RefusedTest(_Runs):
  def test_exactly_one_player_is_needed(self):
    self.assert_refused('to say who plays, got 0 of them')
    self.assert_refused('got 2 of them', '--untrained', '--playouts')

  def test_an_odd_number_of_games_is_refused(self):
    self.assert_refused('even number.*got 7', '--untrained', '--games=7')

  def test_a_checkpoint_has_its_hyperparameters(self):
    self.assert_refused(
      '--hp is not for --checkpoint', '--checkpoint=x', '--hp=komi=0'
    )

  def test_a_board_that_gnugo_does_not_play_on_is_refused(self):
    self.assert_refused(
      'board of 2 to 19 rows.*has 21', '--untrained', '--hp=board_size=21'
    )

  def test_without_gnugo_the_package_is_named(self):
    with self.assertRaisesRegex(ValueError, 'no_such.*apt-get install gnugo'):
      self.run_with('', '--untrained', '--gnugo=no_such')


class OpeningsTest(absltest.TestCase):
  def test_none_comes_back_before_all_have_been(self):
    games = go_match.openings(2 * 72, 3, seed=0)
    seen = collections.Counter(tuple(game.moves) for game in games)
    self.assertLen(seen, 72)
    self.assertEqual(set(seen.values()), {2})
    more = go_match.openings(2 * 72 + 2, 3, seed=0)
    self.assertEqual(more[-1].moves, more[0].moves)

  def test_they_are_drawn_from_the_seed(self):
    first, again, other = (
      [game.moves for game in go_match.openings(40, 5, seed)]
      for seed in (1, 1, 2)
    )
    self.assertEqual(first, again)
    self.assertNotEqual(first, other)

  def test_games_are_numbered_as_they_stand(self):
    games = go_match.openings(6, 5, seed=0)
    self.assertEqual([game.number for game in games], list(range(6)))
    self.assertEqual([game.ours for game in games], [1, -1] * 3)


@pytest.mark.gnugo
class RealTest(_Runs):
  def test_both_play_to_the_end_and_count_alike(self):
    if not gtp.find():
      self.skipTest('GNU Go is not installed.')
    found = self.run_with('', '--untrained', *OF_NET).found
    self.assertStartsWith(found['opponent'], 'GNU Go 3')
    self.assertEqual(found['counted_differently'], 0)
    self.assertLess(found['resigned_by_gnugo'], 8)


if __name__ == '__main__':
  absltest.main()
