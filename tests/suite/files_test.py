"""Files of others are read in bounded time and memory, and never written to."""

import json
import os
import pathlib
import signal

from absl.testing import absltest, parameterized

from launch.jobs import description
from suite import files
from suite.results import records
from suite.results.convergence import curves

_READERS = {
  'run': ('run_0.json', records.read_run),
  'runs': ('run_0.json', lambda path: records.read_runs(path.parent)),
  'score': ('score.json', lambda path: records.read_score(path.parent)),
  'job': ('job.yaml', lambda path: description.read(os.fspath(path))),
  'scaling job': ('job.yaml', description.read_fields),
  'curves': ('curves.csv', lambda path: curves.read(path, ['accuracy'])),
}


def _pipe(path):
  os.mkfifo(path)


def _link_to_zeros(path):
  path.symlink_to('/dev/zero')


def _folder(path):
  path.mkdir()


def _huge(path):
  path.touch()
  os.truncate(path, 1 << 40)  # no disk has it all


def _no_text(path):
  path.write_bytes(b'\xff\xfe\x00')


def _brackets(path):
  path.write_text('[' * 100_000)


def _closed_brackets(path):
  path.write_text('[' * 900 + ']' * 900)


class ReadersTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    signal.alarm(60)  # ends a test that waits for a pipe
    self.addCleanup(signal.alarm, 0)

  @parameterized.product(
    reader=list(_READERS),
    plant=[_pipe, _link_to_zeros, _folder, _huge, _no_text, _brackets,
           _closed_brackets],
  )  # fmt: skip
  def test_what_is_no_small_text_is_refused_by_name(self, reader, plant):
    name, read = _READERS[reader]
    plant(self.folder / name)
    with self.assertRaisesRegex(ValueError, name):
      read(self.folder / name)

  @parameterized.parameters(
    '\n'.join(['a: &a [x, x]', *(
      f'{b}: &{b} [*{a}, *{a}, *{a}]'
      for a, b in zip('abcdefgh', 'bcdefghi', strict=True)
    )]),
    'a: &a {x: 1}\nb: {<<: [*a, *a]}',
    'a: &a [*a]',
  )  # fmt: skip
  def test_aliases_of_yaml_expand_to_nothing(self, text):
    path = self.folder / 'job.yaml'
    path.write_text(text)
    with self.assertRaisesRegex(ValueError, r'job.yaml.*got the alias \*a'):
      description.read(str(path))

  @parameterized.parameters('NaN', '-Infinity')
  def test_numbers_that_json_lacks_are_refused(self, text):
    path = self.folder / 'run_0.json'
    path.write_text(f'{{"seed": {text}}}')
    with self.assertRaisesRegex(ValueError, f'run_0.json.*got {text}'):
      files.read_json(path)

  def test_a_link_to_a_file_is_followed_unless_it_may_not_be(self):
    (self.folder / 'file').write_text('text')
    (self.folder / 'link').symlink_to('file')
    self.assertEqual(files.read_text(self.folder / 'link'), 'text')
    with self.assertRaises(OSError):
      files.read_bytes(self.folder / 'link', 4, links=False)

  def test_the_limits_themselves_are_allowed(self):
    deep = '[' * files.MAX_DEPTH + ']' * files.MAX_DEPTH
    (self.folder / 'file').write_text(deep)
    self.assertEqual(files.read_json(self.folder / 'file'), json.loads(deep))
    size = len(deep)
    self.assertLen(files.read_bytes(self.folder / 'file', size), size)
    (self.folder / 'file').write_text(f'[{deep}]')
    with self.assertRaisesRegex(ValueError, 'nested at most'):
      files.read_json(self.folder / 'file')


class WriteTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    signal.alarm(60)
    self.addCleanup(signal.alarm, 0)

  def test_a_link_and_a_pipe_where_a_file_goes_are_replaced(self):
    other = self.folder / 'other'
    other.write_text('mine')
    for name in ('a', 'a.partial'):
      (self.folder / name).symlink_to(other)
    for name in ('b', 'b.partial'):
      os.mkfifo(self.folder / name)
    for name in ('a', 'b'):
      files.write_text(str(self.folder / name), 'text')
      self.assertFalse((self.folder / name).is_symlink())
      self.assertEqual((self.folder / name).read_text(), 'text')
    self.assertEqual(other.read_text(), 'mine')

  def test_a_link_where_the_file_is_written_at_first_is_not_followed(self):
    other = self.folder / 'other'
    other.write_text('mine')
    guessed = str(self.folder / 'guessed')
    os.symlink(other, guessed)
    self.enter_context(
      absltest.mock.patch.object(files, 'partial_path', lambda _: guessed)
    )
    with self.assertRaises(FileExistsError):
      files.write_text(str(self.folder / 'a'), 'text')
    self.assertEqual(other.read_text(), 'mine')

  def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(self):
    path = str(self.folder / 'a')
    files.write_text(path, 'before')
    self.enter_context(
      absltest.mock.patch.object(os, 'fsync', side_effect=OSError('full'))
    )
    with self.assertRaisesRegex(OSError, 'full'):
      files.write_text(path, 'after')
    self.assertEqual(pathlib.Path(path).read_text(), 'before')
    self.assertEqual(os.listdir(self.folder), ['a'])


if __name__ == '__main__':
  absltest.main()
