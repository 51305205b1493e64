"""Tests of MovieLens' steps, from a zip to pairs, by hand."""

import hashlib
import io
import os
import zipfile

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.movielens import prepare
from input_pipelines.movielens import read as movielens
from input_pipelines.writing import recipe, verify

_HEADER = 'userId,movieId,rating,timestamp\n'


def _csv(rows) -> bytes:
  lines = [','.join(map(str, row)) for row in rows]
  return (_HEADER + '\n'.join([*lines, ''])).encode()


def _read(text: bytes):
  return prepare.read_csv(io.BytesIO(text))


def write_zip(folder: str, rows) -> str:
  """Writes a zip as MovieLens' in a folder; returns its MD5."""
  path = os.path.join(folder, prepare.ARCHIVE)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(prepare.FILE, _csv(rows))
  with open(path, 'rb') as file:
    return hashlib.md5(file.read()).hexdigest()


# User 7 rates 30 at the same second as 10, and later in the file.
_ROWS = [
  (7, 20, 3.5, 100),
  (7, 10, 0.5, 300),
  (7, 30, 5.0, 300),
  (2, 30, 1.0, 50),
  (9, 10, 4.0, 900),
  (9, 20, 4.0, 800),
]


class ReadTest(parameterized.TestCase):
  def test_columns_are_the_files_and_the_rating_is_left_out(self):
    ratings = _read(_csv(_ROWS))
    np.testing.assert_array_equal(ratings.user, [7, 7, 7, 2, 9, 9])
    np.testing.assert_array_equal(ratings.item, [20, 10, 30, 30, 10, 20])
    np.testing.assert_array_equal(ratings.time, [100, 300, 300, 50, 900, 800])

  def test_pieces_end_with_a_line(self):
    piece = prepare._PIECE
    try:
      prepare._PIECE = 10
      seen = []
      ratings = prepare.read_csv(
        io.BytesIO(_csv(_ROWS).rstrip()),
        size=7,
        progress=lambda *a: seen.append(a),
      )
    finally:
      prepare._PIECE = piece
    np.testing.assert_array_equal(ratings.item, [20, 10, 30, 30, 10, 20])
    self.assertGreater(len(seen), 2)

  @parameterized.parameters(
    (b'user,item\n1,2\n', "Expected a first line userId.*got b'user"),
    (_HEADER.encode() + b'1,2,3.5,4\n1,2,x,4\n', 'lines 2 to 3, got.*x'),
    (_HEADER.encode() + b'1,2,3.5,4\n1,2,3\n', '4 values in each.*got 7'),
  )
  def test_what_is_no_ratings_file_is_told(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      _read(text)


class HoldOutTest(absltest.TestCase):
  def test_the_steps_by_hand(self):
    data = prepare.hold_out(_read(_csv(_ROWS)), min_ratings=2)
    # User 2 has one rating and goes; 7 becomes 0, 9 becomes 1; 20, 10 and 30
    # become 0, 1 and 2. Held out: 30 of user 7, 10 of user 9.
    self.assertEqual((data.users, data.items), (2, 3))
    np.testing.assert_array_equal(data.user, [0, 0, 1])
    np.testing.assert_array_equal(data.item, [0, 1, 0])
    np.testing.assert_array_equal(data.test_item, [2, 1])

  def test_users_of_twenty_ratings_stay_and_of_nineteen_go(self):
    rows = [(user, i, 1.0, i) for user in (1, 2) for i in range(18 + user)]
    data = prepare.hold_out(_read(_csv([*rows, (3, 99, 1.0, 0)] * 1)))
    self.assertEqual((data.users, data.items, len(data)), (1, 20, 19))

  def test_a_repeated_rating_is_refused(self):
    for rows in ([(1, 5, 1.0, 1)] * 2 + [(1, 6, 1.0, 9)], [(1, 5, 1.0, 1)] * 2):
      with self.assertRaisesRegex(ValueError, 'rate an item once, got 1'):
        prepare.hold_out(_read(_csv(rows)), min_ratings=1)


class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.downloads = self.create_tempdir().full_path
    self.data_dir = self.create_tempdir().full_path
    self.order = recipe.Order(self.data_dir, self.downloads)
    rng = np.random.default_rng(0)
    self.md5 = write_zip(
      self.downloads,
      [
        (user, int(item) + 1, 3.0, int(rng.integers(1000)))
        for user in range(1, 31)
        for item in rng.choice(60, 25, replace=False)
      ],
    )
    self.counts = {'users': 30, 'items': 60, 'train': 30 * 24}

  def test_a_zip_becomes_a_data_set(self):
    directory = prepare.build(self.order, md5=self.md5, **self.counts)
    movielens.verify(directory, **self.counts, test=30)
    found = movielens.load(directory)
    self.assertLen(found, 720)
    count = verify.records(
      directory, {'train': 1, 'test': 1}, lambda f: prepare.check(f, 30, 60)
    )
    self.assertEqual(count, 2)
    with self.assertRaisesRegex(ValueError, r'items in \[0, 59\)'):
      verify.records(
        directory, {'train': 1}, lambda f: prepare.check(f, 30, 59)
      )

  def test_another_zip_is_refused_and_nothing_is_left(self):
    with self.assertRaisesRegex(ValueError, f'the MD5 {prepare.MD5}'):
      prepare.build(self.order)
    self.assertEmpty(os.listdir(os.path.join(self.data_dir)))

  def test_other_counts_are_refused(self):
    with self.assertRaisesRegex(ValueError, '31 users, 60 items and 720'):
      prepare.build(self.order, md5=self.md5, **{**self.counts, 'users': 31})

  def test_a_zip_that_lacks_is_told(self):
    os.remove(os.path.join(self.downloads, prepare.ARCHIVE))
    with self.assertRaisesRegex(FileNotFoundError, 'ml-20m.zip, found nothing'):
      prepare.build(self.order)


if __name__ == '__main__':
  absltest.main()
