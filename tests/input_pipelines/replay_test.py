"""Tests of the replay window: which games, which positions, in which order."""

import dataclasses

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines import replay

SAMPLING = replay.Sampling(generations=3, games=20, share=0.5)
PLIES = 12


def game(number, plies=PLIES, winner=1):
  """One whose positions say which game and ply they are."""
  rows = {
    'planes': np.full((plies, 4), number, np.uint8),
    'ply': np.arange(plies, dtype=np.int16),
  }
  return replay.Game(rows if plies else {}, {'winner': np.int8(winner)})


def window(sampling=SAMPLING, **kwargs):
  return replay.Window(sampling, **{'seed': 7, **kwargs})


def filled(some, generation, numbers, plies=PLIES):
  for number in numbers:
    some.add(game(number, plies), generation)
  return some.close()


def places_of(sample, rows=8):
  """(game, ply) of each position, in the order of training."""
  return [
    (int(planes[0]), int(ply))
    for batch in sample.batches(rows, sample.steps(rows))
    for planes, ply in zip(batch['planes'], batch['ply'], strict=True)
  ]


class WindowTest(parameterized.TestCase):
  def test_it_holds_the_last_generations_and_no_older_one(self):
    some = window(dataclasses.replace(SAMPLING, share=1.0))
    for generation in range(5):
      numbers = range(40 * generation, 40 * generation + 20)
      sample = filled(some, generation, numbers)
      first = max(0, generation - 2)
      games = {number // 40 for number, _ in places_of(sample)}
      self.assertEqual(games, set(range(first, generation + 1)))

  def test_of_too_many_games_exactly_so_many_are_kept_by_chance(self):
    times = np.zeros(60)
    for seed in range(200):
      some = window(dataclasses.replace(SAMPLING, share=1.0), seed=seed)
      sample = filled(some, 0, range(60), plies=1)
      kept = {number for number, _ in places_of(sample, 1)}
      self.assertLen(kept, 20)
      times[list(kept)] += 1
    # 200 times a third, with a deviation of 6.7.
    self.assertBetween(times.min(), 67 - 34, 67)
    self.assertBetween(times.max(), 67, 67 + 34)
    self.assertAlmostEqual(times[:20].mean(), times[40:].mean(), delta=6)

  def test_positions_are_kept_with_their_probability_anew_each_time(self):
    some = window(replay.Sampling(generations=2, games=100, share=0.3))
    first = places_of(filled(some, 0, range(100)), 1)
    again = places_of(filled(some, 1, range(100, 200)), 1)
    deviation = (0.3 * 0.7 * 1200) ** 0.5
    self.assertAlmostEqual(len(first), 360, delta=4 * deviation)
    old = [place for place in again if place[0] < 100]
    self.assertAlmostEqual(len(old), 360, delta=4 * deviation)
    self.assertNotEqual(sorted(old), sorted(first))
    self.assertLen(set(again), len(again))

  def test_all_generations_are_shuffled_together(self):
    some = window()
    for generation in range(3):
      numbers = range(40 * generation, 40 * generation + 20)
      sample = filled(some, generation, numbers)
    places = places_of(sample)
    quarter = [number // 40 for number, _ in places[: len(places) // 4]]
    self.assertGreater(min(np.bincount(quarter, minlength=3)), 10)
    steps = np.diff([ply for _, ply in places])
    self.assertLess((steps == 1).mean(), 0.2)

  def test_the_tail_that_fills_no_batch_is_dropped(self):
    sample = filled(window(), 0, range(20))
    n = len(sample.chosen)
    self.assertEqual(sample.steps(7), n // 7)
    self.assertLen(places_of(sample, 7), n // 7 * 7)
    with self.assertRaisesRegex(ValueError, f'at most {n // 7} batches of 7'):
      list(sample.batches(7, n // 7 + 1))

  def test_every_position_carries_the_outcome_of_its_game(self):
    some = window(dataclasses.replace(SAMPLING, share=1.0))
    for number in range(20):
      some.add(game(number, winner=1 if number % 3 else -1), 0)
    for batch in some.close().batches(8, 30):
      wanted = np.where(batch['planes'][:, 0] % 3, 1, -1)
      np.testing.assert_array_equal(batch['outcome'], wanted)
      self.assertEqual(batch['outcome'].dtype, np.int8)

  def test_all_symmetries_are_drawn(self):
    sample = filled(window(dataclasses.replace(SAMPLING, share=1.0)), 0,
                    range(20))  # fmt: skip
    counts = np.bincount(sample.symmetry, minlength=8)
    self.assertLen(counts, 8)
    self.assertGreater(counts.min(), 10)
    batch = next(sample.batches(8, 1))
    np.testing.assert_array_equal(batch['symmetry'], sample.symmetry[:8])

  def test_seed_generation_and_host_say_all(self):
    def run(generation=4, **kwargs):
      sample = filled(window(**kwargs), generation, range(30))
      return places_of(sample), sample.symmetry.tolist()

    self.assertEqual(run(), run())
    for other in ({'seed': 8}, {'generation': 5}):
      self.assertNotEqual(run(), run(**other))
    hosts = [
      filled(window(host=host, hosts=2), 4, range(30)) for host in range(2)
    ]
    self.assertNotEqual(places_of(hosts[0]), places_of(hosts[1]))

  def test_hosts_share_the_games_of_a_generation(self):
    shares = [window(host=host, hosts=3).missing for host in range(3)]
    self.assertEqual(sum(shares), 20)
    self.assertLessEqual(max(shares) - min(shares), 1)

  def test_memory_is_bounded_by_games_and_plies(self):
    some = window()
    a_position = 4 + 2 + 1  # planes, ply, outcome
    most = 3 * 20 * PLIES * a_position
    for generation in range(5):
      for number in range(50):
        some.add(game(number), generation)
        self.assertLessEqual(some.bytes, most)
      some.close()
    self.assertEqual(some.bytes, most)

  def test_games_without_a_recorded_position_count_as_games(self):
    some = window()
    for number in range(19):
      some.add(game(number, plies=0), 0)
    some.add(game(19), 0)
    self.assertEqual(some.missing, 0)
    self.assertEqual({number for number, _ in places_of(some.close(), 1)}, {19})

  def test_a_generation_is_not_closed_before_it_has_its_games(self):
    some = window()
    for number in range(19):
      some.add(game(number), 0)
    self.assertEqual(some.missing, 1)
    with self.assertRaisesRegex(ValueError, '20 games of gen.*0.*came 19'):
      some.close()
    with self.assertRaisesRegex(ValueError, 'generation 0.*came one of 1'):
      some.add(game(1), 1)

  def test_a_generation_without_positions_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'recorded positions; none of the'):
      filled(window(), 0, range(20), plies=0)

  @parameterized.parameters(
    ({'hosts': 21, 'host': 0}, 'a game on each host'),
    ({'hosts': 2, 'host': 2}, 'host of 0 to 1; came 2'),
  )
  def test_hosts_that_do_not_fit_are_refused(self, hosts, says):
    with self.assertRaisesRegex(ValueError, says):
      window(**hosts)

  @parameterized.parameters({'share': 0.0}, {'share': 1.1}, {'generations': 0})
  def test_a_sampling_that_does_not_fit_is_refused(self, **change):
    with self.assertRaisesRegex(ValueError, 'share in'):
      window(dataclasses.replace(SAMPLING, **change))


def records(*places, fields):
  """Of each place a list of rows, as a call hands them over."""
  most = 3
  found = {name: np.zeros((len(places), most), np.int32) for name in fields}
  for place, rows in enumerate(places):
    for at, row in enumerate(rows):
      for name, value in zip(fields, row, strict=True):
        found[name][place, at] = value
  return {**found, 'count': np.array([len(rows) for rows in places])}


def positions(*places):
  return records(*places, fields=('game', 'ply'))


def ends(*places):
  return records(*places, fields=('game', 'winner'))


class OpenGamesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.open = replay.OpenGames(places=2, most_positions=4)

  def test_a_game_has_its_positions_of_all_calls_and_no_others(self):
    self.assertEmpty(
      self.open.add(positions([(0, 1), (0, 2)], [(0, 5)]), ends([], []))
    )
    self.assertEqual(self.open.positions, 3)
    games = self.open.add(
      positions([(0, 3), (1, 0), (2, 0)], []),
      ends([(0, 1), (1, -1)], [(0, -1)]),
    )
    self.assertEqual(
      [game.rows['ply'].tolist() for game in games], [[1, 2, 3], [0], [5]]
    )
    self.assertEqual([int(game.end['winner']) for game in games], [1, -1, -1])
    self.assertEqual(self.open.positions, 1)
    (last,) = self.open.add(positions([], []), ends([(2, 1)], []))
    self.assertEqual(last.rows['ply'].tolist(), [0])

  def test_a_game_may_have_no_positions(self):
    (only,) = self.open.add(positions([], []), ends([], [(0, 1)]))
    self.assertEmpty(only.rows)

  def test_it_keeps_nothing_of_the_arrays_that_it_was_given(self):
    given = positions([(0, 1)], [])
    self.open.add(given, ends([], []))
    given['ply'][:] = 99
    (game,) = self.open.add(positions([], []), ends([(0, 1)], []))
    self.assertEqual(game.rows['ply'].tolist(), [1])

  def test_records_that_do_not_follow_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'game 0 at place 1; came some.* 1'):
      self.open.add(positions([], [(1, 0)]), ends([], []))
    with self.assertRaisesRegex(ValueError, 'end of game 0 at place 0; .* 2'):
      self.open.add(positions([], []), ends([(2, 1)], []))

  def test_a_game_longer_than_any_is_refused(self):
    call = positions([(0, 1), (0, 2), (0, 3)], [])
    self.open.add(call, ends([], []))
    with self.assertRaisesRegex(ValueError, 'at most 4 positions.*came 6'):
      self.open.add(call, ends([], []))

  def test_records_of_other_places_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'2 places; .* shape \(1,\)'):
      self.open.add(positions([]), ends([]))


if __name__ == '__main__':
  absltest.main()
