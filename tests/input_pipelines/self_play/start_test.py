"""Tests of the start of runs of MiniGo: written, checked, read again."""

import json
import os
import pathlib
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.reading import arrays, dataset
from input_pipelines.self_play import replay
from input_pipelines.self_play import start as minigo_start
from input_pipelines.writing import manifest

ABOUT = {'origin': 'ours', 'commit': 'abc', 'win_rate': 0.25}
# 0 and 255 at the ends: bytes that a text would lose.
WEIGHTS = {
  'step': np.int32(37),
  'params/conv/kernel': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  'opt/0/trace/bias': np.array([0.0, -1.5, np.nan, 0.0], np.float32),
}
FIELDS = {
  'planes': ('|u1', (5,)),
  'visits': ('<u2', (3,)),
  'ply': ('<i2', ()),
}


def game(number, plies=4):
  """One whose positions say which it is; without plies it has none."""
  rows = {
    'planes': np.full((plies, 5), number, np.uint8),
    'visits': np.full((plies, 3), 256 * number, np.uint16),
    'ply': np.arange(plies, dtype=np.int16),
  }
  winner = np.int8(1 if number % 3 else -1)
  return replay.Game(rows if plies else {}, {'winner': winner})


def played(*counts, first=3):
  """Games by generation, so many of each; every seventh has no position."""
  return [
    (first + nth, game(number, plies=number % 7))
    for nth, count in enumerate(counts)
    for number in range(10 * nth, 10 * nth + count)
  ]


class MinigoStartTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.data_dir = self.create_tempdir().full_path

  def written(self, games=None, weights=None, about=None):
    games = played(6, 5) if games is None else games
    return minigo_start.write(
      self.data_dir, '3x3', weights or WEIGHTS, games, about or ABOUT
    )

  def assert_game_equal(self, got, wanted):
    self.assertEqual(got.rows.keys(), wanted.rows.keys())
    for name, values in wanted.rows.items():
      np.testing.assert_array_equal(got.rows[name], values, strict=True)
    self.assertEqual(got.end['winner'], wanted.end['winner'])
    self.assertEqual(got.end['winner'].dtype, np.int8)

  def test_it_is_found_as_a_data_set_by_its_board(self):
    directory = self.written()
    self.assertEqual(dataset.find(self.data_dir, 'minigo_start/3x3'), directory)
    self.assertEqual(os.listdir(os.path.dirname(directory)), ['3.0.0'])

  def test_weights_come_back_to_the_bit(self):
    found = arrays.of_data_set(self.written())
    self.assertEqual(found.keys(), WEIGHTS.keys())
    for name, values in WEIGHTS.items():
      self.assertEqual(found[name].dtype, values.dtype)
      self.assertEqual(found[name].shape, values.shape)
      self.assertEqual(found[name].tobytes(), values.tobytes())

  def test_games_come_back_as_they_were_in_order(self):
    wanted = played(6, 5)
    found = list(minigo_start.games(self.written(wanted)))
    self.assertEqual([n for n, _ in found], [n for n, _ in wanted])
    for (_, got), (_, expected) in zip(found, wanted, strict=True):
      self.assert_game_equal(got, expected)

  @parameterized.parameters(1, 2, 4)
  def test_hosts_share_the_games_of_every_generation(self, hosts):
    directory, of_each = self.written(played(6, 5, 7)), {}
    for host in range(hosts):
      for number, found in minigo_start.games(directory, host, hosts):
        of_each.setdefault(number, [[] for _ in range(hosts)])
        of_each[number][host].append(found)
    self.assertEqual(list(of_each), [3, 4, 5])
    for nth, (number, shares) in enumerate(of_each.items()):
      wanted = played(6, 5, 7)
      wanted = [each for of, each in wanted if of == number]
      for host, share in enumerate(shares):
        self.assertLen(share, len(range(host, (6, 5, 7)[nth], hosts)))
        for got, expected in zip(share, wanted[host::hosts], strict=True):
          self.assert_game_equal(got, expected)

  def test_some_generations_are_read_alone(self):
    found = minigo_start.games(self.written(), generations=[4, 9])
    self.assertEqual({number for number, _ in found}, {4})

  def test_a_window_takes_the_games(self):
    sampling = replay.Sampling(generations=2, games=4, share=1.0)
    window = replay.Window(sampling, seed=1)
    window.restore(minigo_start.games(self.written()))
    self.assertEqual(window.newest, 4)
    self.assertNotEmpty(window.sample().chosen)

  def test_a_target_alone_is_a_start(self):
    directory = self.written(games=[])
    minigo_start.verify(directory)
    self.assertEqual(dataset.find(self.data_dir, 'minigo_start/3x3'), directory)
    self.assertEmpty(list(minigo_start.games(directory)))
    with self.assertRaisesRegex(ValueError, r'games or more .*got \{\}'):
      minigo_start.verify(directory, generations=[3])

  def test_it_says_what_it_is_about_and_which_fields_it_has(self):
    found = minigo_start.about(self.written())
    self.assertEqual({name: found[name] for name in ABOUT}, ABOUT)
    self.assertEqual(found['fields']['visits'], ['<u2', [3]])
    self.assertEqual(found['generations'], {3: 6, 4: 5})

  @parameterized.parameters(('ours', False), ('official', True))
  def test_only_the_official_one_makes_results_comparable(self, origin, is_it):
    directory = self.written(about={'origin': origin})
    self.assertEqual(
      minigo_start.logged(directory),
      {'podium_start_origin': origin, 'podium_comparable': is_it},
    )

  def test_the_fingerprint_covers_every_value_and_what_it_is_about(self):
    def found(**changes):
      self.data_dir = self.create_tempdir().full_path
      return dataset.fingerprint(self.written(**changes))

    other_games = played(6, 5)
    other_games[-2][1].rows['ply'][-1] += 1
    other_weights = {**WEIGHTS, 'step': np.int32(38)}
    prints = {
      found(),
      found(weights=other_weights),
      found(games=other_games),
      found(about={**ABOUT, 'win_rate': 0.5}),
    }
    self.assertLen(prints, 4)
    self.assertIn(found(), prints)

  def test_what_a_task_expects_is_verified_without_reading_a_record(self):
    directory = self.written()
    for path in pathlib.Path(directory).glob('*array_record*'):
      path.write_bytes(bytes(path.stat().st_size))  # of the same size
    minigo_start.verify(directory, fields=FIELDS, generations=[3, 4], games=5)

  @parameterized.parameters(
    ({'generations': [3, 4], 'games': 6}, '6 games or more.*4: 5'),
    ({'generations': [2, 3]}, r'generations \[2, 3\]'),
    (
      {'generations': [3], 'fields': {'planes': ('|u1', (6,))}},
      r"'planes' \|u1 \(6,\).*\[5\]",
    ),
  )
  def test_what_does_not_fit_the_task_is_named(self, wanted, says):
    directory = self.written()
    with self.assertRaisesRegex(ValueError, says):
      minigo_start.verify(directory, **wanted)

  def test_other_weights_of_the_same_shape_are_refused(self):
    directory = self.written()
    path = pathlib.Path(directory) / arrays.WEIGHTS
    size, before = path.stat().st_size, dataset.fingerprint(directory)
    about = arrays.Arrays(path).about
    arrays.write(str(path), {**WEIGHTS, 'step': np.int32(38)}, about)
    self.assertEqual(path.stat().st_size, size)
    for use in (minigo_start.verify, arrays.of_data_set, dataset.fingerprint):
      with self.assertRaisesRegex(ValueError, 'with the digest .* are others'):
        use(directory)
    manifest.write(directory, made={})  # the owner says that it is meant
    minigo_start.verify(directory)
    self.assertNotEqual(dataset.fingerprint(directory), before)

  def test_a_missing_shard_is_named(self):
    directory = self.written()
    (shard,) = pathlib.Path(directory).glob('*-games.array_record*')
    shard.unlink()
    with self.assertRaisesRegex(ValueError, 'games.array_record'):
      minigo_start.verify(directory)

  def test_another_data_set_is_refused(self):
    directory = self.written()
    path = pathlib.Path(directory) / 'dataset_info.json'
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, 'description': 'Digits.\n[1]'}))
    with self.assertRaisesRegex(ValueError, 'to say what it is about'):
      minigo_start.verify(directory)

  def test_a_record_is_checked_by_itself(self):
    split = dataset.Split(self.written(), 'games')
    record = split[1]
    minigo_start.check(record)
    del record['shape'].bytes_list.value[-1]
    with self.assertRaises(ValueError):
      minigo_start.check(record)

  def test_a_record_that_lost_bytes_is_named(self):
    directory = self.written()
    original = minigo_start._arrays

    def cut(split, number, record):
      data = record['data'].bytes_list.value
      if number == 2:
        data[-1] = data[-1][:-1]
      return original(split, number, record)

    with (
      mock.patch.object(minigo_start, '_arrays', cut),
      self.assertRaisesRegex(
        dataset.CorruptRecordError, "Record 2 of the split 'games'"
      ),
    ):
      list(minigo_start.games(directory))

  @parameterized.parameters(
    ({'about': {'origin': 'mine'}}, "'official' or 'ours', got 'mine'"),
    ({'games': [*played(2), (2, game(1))]}, 'the oldest first'),
    (
      {'games': [(3, game(1)), (3, replay.Game(
        {'ply': np.zeros(2, np.int16)}, {'winner': np.int8(1)}
      ))]},
      "Expected games of .*'visits'.*got .*'ply'",
    ),
  )  # fmt: skip
  def test_what_is_no_start_is_not_written(self, given, says):
    with self.assertRaisesRegex(ValueError, says):
      self.written(**given)
    self.assertFalse(
      os.path.exists(os.path.join(self.data_dir, 'minigo_start'))
    )


if __name__ == '__main__':
  absltest.main()
