"""Tests of arrays in files: written, verified, read whole and in part."""

import json
import os
import pathlib

from absl.testing import absltest, parameterized
import ml_dtypes
import numpy as np
from safetensors import numpy as safetensors

from input_pipelines.reading import arrays
from tests.input_pipelines.reading import fake_bucket

ARRAYS = {
  'step': np.int32(37),
  'params/conv/kernel': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  'params/half': np.array([[1.5], [-2.0]], ml_dtypes.bfloat16),
  'opt/0/trace/bias': np.array([0.0, -1.5, np.nan, 0.0], np.float64),
  'flags': np.array([True, False]),
  'empty': np.zeros((0, 3), np.uint16),
}
WIDE = np.arange(50, dtype=np.int64).reshape(10, 5)  # 40 bytes a row


class ArraysTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path
    self.path = os.path.join(self.directory, arrays.WEIGHTS)

  def assert_equal(self, got, wanted):
    self.assertEqual(got.keys(), wanted.keys())
    for name, values in wanted.items():
      self.assertEqual(got[name].dtype, values.dtype)
      self.assertEqual(got[name].shape, values.shape)
      self.assertEqual(got[name].tobytes(), values.tobytes())

  def flip(self, name, at):
    """Changes one byte of an array."""
    place = arrays.Arrays(self.path).entries[name].first + at
    data = bytearray(pathlib.Path(self.path).read_bytes())
    data[place] ^= 1
    pathlib.Path(self.path).write_bytes(data)

  def test_every_array_is_read_as_it_was_written_to_the_bit(self):
    arrays.write(self.path, ARRAYS, {'origin': 'ours', 'steps': 3})
    found = arrays.Arrays(self.path)
    self.assert_equal(found, ARRAYS)
    self.assertEqual(found.about, {'origin': 'ours', 'steps': 3})

  def test_other_readers_of_the_format_read_them(self):
    wanted = {name: v for name, v in ARRAYS.items() if name != 'params/half'}
    wanted['step'] = np.asarray(wanted['step'])
    arrays.write(self.path, wanted)
    self.assert_equal(safetensors.load_file(self.path), wanted)

  def test_files_of_other_writers_are_read_and_have_no_digest(self):
    wanted = {'a': WIDE, 'b': np.ones(3, np.float16)}
    safetensors.save_file(wanted, self.path)
    found = arrays.Arrays(self.path)
    self.assert_equal(found, wanted)
    with self.assertRaisesRegex(ValueError, "SHA-256 of 'a' .*not written her"):
      _ = found.digest

  def test_the_order_in_memory_does_not_matter(self):
    values = {'a': np.asfortranarray(WIDE).astype('>i8')}
    arrays.write(self.path, values)
    np.testing.assert_array_equal(arrays.Arrays(self.path)['a'], WIDE)

  @parameterized.parameters(*ARRAYS)
  def test_the_digest_covers_every_array(self, name):
    digest = arrays.write(self.path, ARRAYS)
    self.assertEqual(digest, arrays.write(self.path, ARRAYS, {'of': 'another'}))
    for other in (
      {**ARRAYS, name: np.ones((0, 4), np.uint16)},
      {n if n != name else 'renamed': v for n, v in ARRAYS.items()},
    ):
      self.assertNotEqual(digest, arrays.write(self.path, other))

  def test_the_digest_does_not_depend_on_order_or_number_of_files(self):
    digest = arrays.write(self.path, ARRAYS)
    os.remove(self.path)
    for number, name in enumerate(reversed(ARRAYS)):
      part = os.path.join(self.directory, f'{number}{arrays.SUFFIX}')
      arrays.write(part, {name: ARRAYS[name]})
    found = arrays.Arrays(self.directory)
    self.assert_equal(found, ARRAYS)
    self.assertEqual(found.digest, digest)

  def test_rows_are_read_and_verified_without_the_rest(self):
    arrays.write(self.path, {'a': WIDE}, piece=64)  # not a number of rows
    self.flip('a', at=330)
    found = arrays.Arrays(self.path)
    for first, last in ((0, 8), (3, 4), (2, 2), (7, 8)):
      np.testing.assert_array_equal(
        found.rows('a', first, last), WIDE[first:last]
      )
    for first, last in ((8, 9), (9, 10), (0, 10)):
      with self.assertRaisesRegex(
        arrays.CorruptArrayError, "SHA-256 .* of 'a' .* from byte 320"
      ):
        found.rows('a', first, last)

  @parameterized.parameters(
    (name, at)
    for name, values in ARRAYS.items()
    for at in range(0, values.nbytes, 7)
  )
  def test_no_byte_can_change_unseen(self, name, at):
    arrays.write(self.path, ARRAYS)
    self.flip(name, at)
    found = arrays.Arrays(self.path)
    with self.assertRaises(arrays.CorruptArrayError):
      found[name]

  def test_a_file_that_was_cut_off_is_refused(self):
    arrays.write(self.path, ARRAYS)
    data = pathlib.Path(self.path).read_bytes()
    for length in (0, 4, 8, 60, len(data) // 2, len(data) - 1):
      pathlib.Path(self.path).write_bytes(data[:length])
      with self.assertRaisesRegex(ValueError, 'Expected .*weights.safetensors'):
        arrays.Arrays(self.path)

  @parameterized.parameters(
    {'dtype': 'F31'}, {'shape': [7]}, {'shape': 'x'}, {'data_offsets': [8, 12]}
  )
  def test_a_header_that_is_wrong_is_refused(self, **changes):
    arrays.write(self.path, {'a': np.ones(3, np.float32)})
    data = pathlib.Path(self.path).read_bytes()
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + length])
    header['a'] |= changes
    text = json.dumps(header).encode()
    pathlib.Path(self.path).write_bytes(
      len(text).to_bytes(8, 'little') + text + data[8 + length :]
    )
    with self.assertRaisesRegex(ValueError, 'Expected a header of safetensors'):
      arrays.Arrays(self.path)

  def test_what_the_format_has_no_name_for_is_not_written(self):
    for values in (np.array(['a']), np.zeros(2, np.complex64)):
      with self.assertRaisesRegex(ValueError, "'x' of one of .*, got"):
        arrays.write(self.path, {'x': values})
    self.assertFalse(os.path.exists(self.path))

  def test_weights_are_those_that_the_manifest_names(self):
    digest = arrays.write(self.path, ARRAYS)
    manifest = os.path.join(self.directory, 'manifest.json')
    for named in (digest, '0' * 64):
      pathlib.Path(manifest).write_text(
        json.dumps({'files': {arrays.WEIGHTS: {'arrays': named}}})
      )
      if named == digest:
        self.assertEqual(arrays.of_data_set(self.directory).digest, digest)
    with self.assertRaisesRegex(ValueError, f'digest 0+ .*, got {digest}'):
      arrays.of_data_set(self.directory)

  def test_a_bucket_is_read_by_the_rows_that_are_asked_for(self):
    arrays.write(self.path, {'a': WIDE}, piece=64)
    with fake_bucket.serve(self.directory) as bucket:
      found = arrays.of_data_set(bucket.url)
      np.testing.assert_array_equal(found.rows('a', 3, 5), WIDE[3:5])

  def test_where_there_are_none_it_is_said(self):
    with self.assertRaisesRegex(FileNotFoundError, 'weights.safetensors'):
      arrays.of_data_set(self.directory)
    with self.assertRaisesRegex(FileNotFoundError, r'a file \*.safetensors'):
      arrays.Arrays(self.directory)


if __name__ == '__main__':
  absltest.main()
