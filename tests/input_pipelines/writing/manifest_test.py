"""Tests of manifests."""

import hashlib
import json
import os
import tempfile

from absl.testing import absltest, parameterized

from input_pipelines.writing import manifest


class ManifestTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.enterContext(tempfile.TemporaryDirectory())
    self.put('one', b'1' * 5000)
    self.put('two', b'')

  def put(self, name, data):
    with open(os.path.join(self.directory, name), 'wb') as file:
      file.write(data)

  def write(self, **kwargs):
    return manifest.write(self.directory, made={'recipe': 'x'}, **kwargs)

  def test_it_says_size_and_sum_of_every_file_and_how_they_were_made(self):
    told = []
    path = self.write(progress=lambda done, whole: told.append((done, whole)))
    with open(path, encoding='utf-8') as file:
      got = json.load(file)
    self.assertEqual(
      got,
      {
        'format': 1,
        'made': {'recipe': 'x'},
        'files': {
          'one': {
            'bytes': 5000,
            'sha256': hashlib.sha256(b'1' * 5000).hexdigest(),
          },
          'two': {'bytes': 0, 'sha256': hashlib.sha256(b'').hexdigest()},
        },
      },
    )
    self.assertEqual(told[-1], (5000, 5000))
    self.assertEqual(manifest.read(self.directory), got)
    self.assertCountEqual(
      os.listdir(self.directory), ['one', 'two', manifest.NAME]
    )

  def test_known_sums_are_not_read_again(self):
    self.write(sums={'one': 'known'})
    files = manifest.read(self.directory)['files']
    self.assertEqual(files['one']['sha256'], 'known')

  def test_it_can_be_written_again(self):
    self.write()
    self.put('three', b'3')
    self.write()
    self.assertLen(manifest.read(self.directory)['files'], 3)
    manifest.check_sums(self.directory)

  @parameterized.parameters(
    ('one', b'1' * 4999, 'Expected 5000 bytes in .*one'),
    ('one', None, 'missing, as one'),
  )
  def test_another_size_is_noticed_without_reading(self, name, data, error):
    self.write()
    os.remove(os.path.join(self.directory, name))
    if data is not None:
      self.put(name, data)
    with self.assertRaisesRegex(ValueError, error):
      manifest.check_sizes(self.directory)

  def test_one_other_byte_is_noticed_by_the_sums_alone(self):
    self.write()
    self.put('one', b'1' * 4999 + b'2')
    manifest.check_sizes(self.directory)
    with self.assertRaisesRegex(ValueError, 'SHA-256 .* of .*one'):
      manifest.check_sums(self.directory)

  def test_what_lies_beside_the_files_is_no_fault(self):
    self.write()
    self.put('index', b'later')
    manifest.check_sums(self.directory)

  def test_without_a_manifest_there_is_nothing_to_compare(self):
    self.assertIsNone(manifest.read(self.directory))
    with self.assertRaisesRegex(FileNotFoundError, 'manifest.json'):
      manifest.check_sizes(self.directory)

  @parameterized.parameters(
    (b'{', 'Expected JSON'),
    (b'{"format": 2}', 'Expected format 1 .* got 2'),
    (b'[]', 'Expected format 1'),
  )
  def test_a_file_that_is_no_manifest_is_refused(self, data, error):
    self.put(manifest.NAME, data)
    with self.assertRaisesRegex(ValueError, error):
      manifest.read(self.directory)


if __name__ == '__main__':
  absltest.main()
