"""Tests of the replay window: which games, which positions, in which order."""

import dataclasses
import os

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.self_play import replay

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


class KeptTest(parameterized.TestCase):
  def kept(self, generations=5):
    """A window whose generations were kept, and where."""
    some, directory = window(), self.create_tempdir().full_path
    for generation in range(generations):
      numbers = range(40 * generation, 40 * generation + 20)
      sample = filled(some, generation, numbers)
      some.keep(directory)
    return some, sample, directory

  def test_what_was_kept_is_the_same_window_again(self):
    _, sample, directory = self.kept()
    again = window()
    again.recall(directory, 4)
    self.assertEqual(again.newest, 4)
    self.assertEqual(places_of(again.sample()), places_of(sample))

  def test_no_more_is_kept_than_the_window_holds(self):
    *_, directory = self.kept()
    self.assertEqual(
      sorted(os.listdir(directory)),
      [f'generation_{n}_host_0_of_1.npz' for n in (2, 3, 4)],
    )

  def test_it_joins_what_a_run_started_from(self):
    some, *_ = self.kept(2)
    again, directory = window(), self.create_tempdir().full_path
    again.restore((g, one) for g, one in some.games() if g == 0)
    filled(some, 2, range(80, 100))
    for number in (1, 2):
      source = window()
      source.restore((g, one) for g, one in some.games() if g == number)
      source.keep(directory)
    again.recall(directory, 2)
    self.assertEqual(places_of(again.sample()), places_of(some.sample()))

  def test_first_batches_can_be_left_out(self):
    _, sample, _ = self.kept()
    whole = list(sample.batches(8, 5))
    rest = list(sample.batches(8, 5, 2))
    self.assertLen(rest, 3)
    for one, other in zip(whole[2:], rest, strict=True):
      for name in one:
        np.testing.assert_array_equal(one[name], other[name])

  @parameterized.parameters('missing', 'cut off', 'of another host')
  def test_a_file_that_cannot_be_read_is_named(self, fault):
    *_, directory = self.kept()
    path = os.path.join(directory, 'generation_3_host_0_of_1.npz')
    again = window(host=1, hosts=2) if fault == 'of another host' else window()
    if fault == 'missing':
      os.remove(path)
    if fault == 'cut off':
      with open(path, 'r+b') as file:
        file.truncate(100)
    with self.assertRaisesRegex(ValueError, 'games of generation [23] of this'):
      again.recall(directory, 4)


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

  def test_closed_generations_are_taken_out_and_put_in_again(self):
    some = window()
    for generation in range(2, 6):
      for number in range(40 * generation, 40 * generation + 20):
        some.add(game(number, plies=number % PLIES, winner=-1), generation)
      sample = some.close()
    games = list(some.games())
    self.assertEqual([n for n, _ in games], [3] * 20 + [4] * 20 + [5] * 20)
    other = window()
    other.restore(games)
    self.assertEqual(other.newest, 5)
    self.assertEqual(other.bytes, some.bytes)
    again = other.sample()
    self.assertEqual(places_of(again), places_of(sample))
    np.testing.assert_array_equal(again.symmetry, sample.symmetry)
    self.assertEqual({int(b['outcome'][0]) for b in again.batches(8, 3)}, {-1})

  def test_what_is_put_in_keeps_the_bounds(self):
    most = 3 * 20 * PLIES * 7
    some = window(dataclasses.replace(SAMPLING, share=1.0))
    some.restore(
      (generation, game(number))
      for generation in range(5)
      for number in range(40 * generation, 40 * generation + 33)
    )
    self.assertEqual(some.bytes, most)
    places = places_of(some.sample(), 1)
    self.assertLen({number for number, _ in places}, 60)
    self.assertEqual({number // 40 for number, _ in places}, {2, 3, 4})
    self.assertNotEqual({n % 40 for n, _ in places}, {*range(20)})

  def test_the_next_generation_follows_on_what_was_put_in(self):
    some = window()
    some.restore(
      (generation, game(1)) for generation in (6, 7) for _ in range(20)
    )
    filled(some, 8, range(20))
    filled(some, 9, range(20))
    self.assertEqual({number for number, _ in some.games()}, {7, 8, 9})

  @parameterized.parameters(
    ([3] * 19, '20 games of generation 3.*got 19'),
    ([3] * 20 + [4] * 5, '20 games of generation 4.*got 5'),
    ([3] * 20 + [2] * 20, 'rising generations, got 2 after 3'),
  )
  def test_generations_that_are_no_window_are_not_put_in(self, numbers, says):
    with self.assertRaisesRegex(ValueError, says):
      window().restore((number, game(1)) for number in numbers)

  def test_nothing_is_drawn_of_an_empty_window(self):
    self.assertIsNone(window().newest)
    with self.assertRaisesRegex(ValueError, 'closed generation'):
      window().sample()

  def test_games_are_held_out_by_chance_and_do_not_count(self):
    sampling = dataclasses.replace(SAMPLING, games=300, share=1.0, holdout=0.25)
    some, played = window(sampling), 0
    while some.missing:
      some.add(game(0), 4)
      played += 1
    # 400 wanted, with a deviation of 12.
    self.assertBetween(played, 400 - 48, 400 + 48)
    self.assertEqual(some.seen, 300)
    other, again = window(sampling, seed=8), 0
    while other.missing:
      other.add(game(0), 4)
      again += 1
    self.assertNotEqual(played, again)
    some.close()
    # What was played before was held out then.
    some = window(sampling)
    some.restore((4, game(0)) for _ in range(300))

  def test_a_generation_is_not_closed_before_it_has_its_games(self):
    some = window()
    for number in range(19):
      some.add(game(number), 0)
    self.assertEqual(some.missing, 1)
    with self.assertRaisesRegex(ValueError, '20 games of gen.*0.*got 19'):
      some.close()
    with self.assertRaisesRegex(ValueError, 'generation 0.*got one of 1'):
      some.add(game(1), 1)

  def test_a_generation_without_positions_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'got none in the 20 games'):
      filled(window(), 0, range(20), plies=0)

  @parameterized.parameters(
    ({'hosts': 21, 'host': 0}, 'a game on each host'),
    ({'hosts': 2, 'host': 2}, 'host of 0 to 1, got 2'),
  )
  def test_hosts_that_do_not_fit_are_refused(self, hosts, says):
    with self.assertRaisesRegex(ValueError, says):
      window(**hosts)

  @parameterized.parameters(
    {'share': 0.0}, {'share': 1.1}, {'generations': 0}, {'holdout': 1.0}
  )
  def test_a_sampling_that_does_not_fit_is_refused(self, **change):
    with self.assertRaisesRegex(ValueError, 'share in'):
      window(dataclasses.replace(SAMPLING, **change))


def records(*places, fields):
  """Lists of rows, one a place, as a call hands them over."""
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
    with self.assertRaisesRegex(ValueError, 'game 0 at place 1, got some.* 1'):
      self.open.add(positions([], [(1, 0)]), ends([], []))
    with self.assertRaisesRegex(
      ValueError, 'end of game 0 at place 0, got .* 2'
    ):
      self.open.add(positions([], []), ends([(2, 1)], []))

  def test_a_game_longer_than_any_is_refused(self):
    call = positions([(0, 1), (0, 2), (0, 3)], [])
    self.open.add(call, ends([], []))
    with self.assertRaisesRegex(ValueError, 'at most 4 positions.*got 6'):
      self.open.add(call, ends([], []))

  def test_records_of_other_places_are_refused(self):
    with self.assertRaisesRegex(ValueError, r'2 places, got .* shape \(1,\)'):
      self.open.add(positions([]), ends([]))


if __name__ == '__main__':
  absltest.main()
