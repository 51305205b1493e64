"""Programs of the Go Text Protocol, with one that stands in for GNU Go."""

import functools
import os
import pathlib
import threading
from unittest import mock

from absl.testing import absltest, parameterized
import pytest

from studies.gnugo import gtp
from tests.models.minigo import go_peer
from tests.studies.gnugo import gtp_program

BLACK, WHITE = 1, -1


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    (0, 5, 'A5'), (24, 5, 'E1'), (8, 9, 'J9'), (360, 19, 'T1'), (25, 5, 'pass')
  )
  def test_a_point_has_the_name_that_people_use(self, number, size, name):
    self.assertEqual(gtp.vertex(number, size), name)
    self.assertEqual(gtp.point(name.lower(), size), number)

  @parameterized.parameters('', 'I5', 'F1', 'A0', 'A6', 'AB', 'A', '55')
  def test_a_name_that_the_board_has_not_is_refused(self, name):
    with self.assertRaisesRegex(ValueError, 'board of 5 rows, got'):
      gtp.point(name, 5)


class FindTest(absltest.TestCase):
  def test_a_program_is_found_on_the_path(self):
    folder = self.create_tempdir().full_path
    path = gtp_program.command(folder, 'first')
    self.assertEqual(gtp.find(path), path)
    self.assertIsNone(gtp.find(f'{path}er'))
    with mock.patch.dict(os.environ, {'PATH': folder}):
      self.assertEqual(gtp.find('first'), path)


class _Programs(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def start(self, habit='first', size=5, komi=0.5):
    command = [gtp_program.command(self.folder, habit)]
    engine = gtp.Engine(command, size, komi)
    self.addCleanup(engine.close)
    return engine

  def start_logged(self):
    """An engine, and what returns the commands since it was last asked."""
    log, told = pathlib.Path(self.folder) / 'log', 0
    engine = self.start(f'first:{log}')

    def since():
      nonlocal told
      lines = log.read_text().splitlines()[1:]
      new, told = lines[told:], len(lines)
      return new

    since()
    return engine, since


class EngineTest(_Programs):
  def test_its_moves_are_points_a_pass_or_nothing_for_resigning(self):
    self.assertEqual(self.start().generate(BLACK), 0)
    self.assertEqual(self.start('pass').generate(BLACK), 25)
    self.assertIsNone(self.start('resign').generate(BLACK))

  def test_it_remembers_what_was_played(self):
    engine = self.start()
    engine.play(0, BLACK)
    self.assertEqual(engine.generate(WHITE), 1)
    self.assertEqual(engine.generate(BLACK), 2)
    with self.assertRaisesRegex(gtp.Refused, r"'play white C5'.*illegal"):
      engine.play(2, WHITE)

  def test_only_moves_that_it_lacks_are_sent(self):
    engine, sent = self.start_logged()
    engine.stand_after([3, 7])
    self.assertEqual(sent(), ['play black D5', 'play white C4'])
    engine.generate(BLACK)
    engine.stand_after([3, 7, 0, 25])
    self.assertEqual(sent(), ['genmove black', 'play white pass'])
    engine.stand_after([3, 7, 0, 25])
    self.assertEqual(sent(), [])

  def test_another_game_begins_with_an_empty_board(self):
    engine, sent = self.start_logged()
    engine.stand_after([3, 7, 9])
    sent()
    engine.stand_after([3, 8])
    cleared = ['boardsize 5', 'clear_board', 'komi 0.5']
    moves = ['play black D5', 'play white D4']
    self.assertEqual(sent(), cleared + moves)
    # Back to what was: fewer moves are another game too.
    engine.stand_after([3])
    self.assertEqual(sent(), [*cleared, 'play black D5'])

  @parameterized.parameters((0.5, -0.5), (0, 0.0), (-30, 30.0), (7.5, -7.5))
  def test_a_score_is_blacks(self, komi, score):
    self.assertEqual(self.start(komi=komi).score(), score)

  def test_what_it_draws_follows_from_the_seed(self):
    def drawn(seed):
      engine = self.start('draws')
      engine.set_seed(seed)
      return [engine.generate(colour) for colour in (1, -1, 1, -1)]

    self.assertEqual(drawn(4), drawn(4))
    self.assertNotEqual(drawn(4), drawn(5))

  def test_replies_of_several_lines_stay_together(self):
    engine = self.start()
    self.assertEqual(
      engine.ask('showboard', 'name'), ['two\nlines', 'Stand In']
    )
    self.assertEqual(engine.version(), 'Stand In 0.1')

  def test_after_an_error_the_next_reply_is_the_right_one(self):
    engine = self.start()
    with self.assertRaisesRegex(gtp.Refused, "'juggle' with.*unknown command"):
      engine.ask('name', 'juggle', 'showboard')
    self.assertEqual(engine.ask('version'), ['0.1'])

  def test_a_move_that_is_none_is_refused(self):
    with self.assertRaisesRegex(gtp.Refused, "board of 5 rows, got 'Z99'"):
      self.start('nonsense').generate(BLACK)

  def test_a_program_that_ended_is_named_with_the_command(self):
    engine = self.start('dies')
    with self.assertRaisesRegex(gtp.Ended, "dies ended.*'genmove black'"):
      engine.generate(BLACK)

  def test_a_board_that_it_does_not_play_on_is_refused(self):
    with self.assertRaisesRegex(gtp.Refused, "'boardsize 12'.*unacceptable"):
      self.start(size=12)

  def test_closing_it_wakes_who_waits_for_its_answer(self):
    engine, came = self.start('hangs'), []

    def wait():
      try:
        engine.generate(BLACK)
      except gtp.Ended as error:
        came.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    engine.close()
    thread.join()
    self.assertLen(came, 1)


class PoolTest(_Programs):
  def pool(self, habit='first', programs=2):
    command = [gtp_program.command(self.folder, habit)]
    return gtp.Pool(functools.partial(gtp.Engine, command, 5, 0.5), programs)

  def test_games_that_belong_together_are_always_on_one_program(self):
    with self.pool() as pool:
      found = pool.of_each([0, 1, 2, 3, 5, 6], lambda engine, n: (engine, n))
      self.assertEqual({n: pair[1] for n, pair in found.items()}, {
        n: n for n in (0, 1, 2, 3, 5, 6)
      })  # fmt: skip
      first, second = found[0][0], found[2][0]
      self.assertIsNot(first, second)
      self.assertEqual(
        [found[n][0] for n in (1, 3, 5, 6)], [first, second, first, second]
      )
      again = pool.of_each([3, 0], lambda engine, n: engine)
      self.assertEqual(again, {3: second, 0: first})

  def test_an_error_of_one_comes_out(self):
    with self.pool('dies') as pool, self.assertRaises(gtp.Ended):
      pool.of_each(range(4), lambda engine, n: engine.generate(BLACK))

  def test_if_one_cannot_start_the_others_are_ended(self):
    engines = []

    def make():
      engines.append(self.start(size=5 if not engines else 12))
      return engines[-1]

    with self.assertRaises(gtp.Refused):
      gtp.Pool(make, 2)
    with self.assertRaises(gtp.Ended):
      engines[0].version()


@pytest.mark.gnugo
class GnuGoTest(parameterized.TestCase):
  def start(self):
    if not gtp.find():
      self.skipTest('GNU Go is not installed.')
    engine = gtp.Engine(gtp.gnugo(gtp.find(), level=0), 5, 0.5)
    self.addCleanup(engine.close)
    return engine

  def test_it_takes_dead_stones_off_before_it_passes(self):
    # Black holds the board; White's stones have no liberty to live by.
    engine, game = self.start(), go_peer.Game(5)
    # Of White's moves all but the first two are passes.
    white = [gtp.point('A1', 5), gtp.point('E5', 5), 25, 25, 25, 25, 25]
    black = map(gtp.point, ('C1', 'C2', 'C3', 'C4', 'C5', 'B3', 'D3'), [5] * 7)
    moves = [move for pair in zip(black, white, strict=True) for move in pair]
    for move in moves:
      game.play(move)
    engine.stand_after(moves)
    self.assertLess(game.score(), 25)
    while (move := engine.generate(BLACK)) != 25:
      engine.play(25, WHITE)
      game.play(move)
      game.play(25)
    self.assertEqual(game.score(), 25)
    self.assertEqual(engine.score(), 24.5)

  def test_its_moves_follow_from_the_seed_and_the_position(self):
    def moves(before):
      engine = self.start()
      engine.stand_after(before)
      found = []
      for seed in range(12):
        engine.stand_after([6])
        engine.set_seed(seed)
        found.append(engine.generate(WHITE))
      return found

    self.assertEqual(moves([]), moves([12, 13, 7, 8]))


if __name__ == '__main__':
  absltest.main()
