"""Tests of finding files in archives."""

import hashlib
import io
import os
import tarfile
import tempfile

from absl.testing import absltest, parameterized

from input_pipelines.writing import tar


def _tar(files, *, kind=tarfile.GNU_FORMAT):
  data = io.BytesIO()
  with tarfile.open(fileobj=data, mode='w', format=kind) as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      if content is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
      else:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  return data.getvalue()


class IndexTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    directory = self.enterContext(tempfile.TemporaryDirectory())
    self.path = os.path.join(directory, 'archive.tar')

  def put(self, data):
    with open(self.path, 'wb') as file:
      file.write(data)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

  def found(self, members):
    with open(self.path, 'rb') as file:
      data = file.read()
    return {
      (folder.decode(), name.decode()): data[offset : offset + size]
      for folder, name, offset, size in zip(
        members.folder,
        members.name,
        members.offset,
        members.size,
        strict=True,
      )
    }

  @parameterized.product(
    kind=(tarfile.GNU_FORMAT, tarfile.PAX_FORMAT), checked=(False, True)
  )
  def test_files_are_found_where_they_are(self, kind, checked):
    long = 'x' * 120 + '.JPEG'  # a name that takes a header of its own
    files = {'a.JPEG': b'1' * 700, long: b'2' * 512, 'b.JPEG': b''}
    md5 = self.put(
      _tar(
        {'n1.tar': _tar(files, kind=kind), 'n2.tar': _tar({'c': b'3'})},
        kind=kind,
      )
    )
    members = tar.index(self.path, md5=md5 if checked else None)
    self.assertEqual(
      self.found(members),
      {
        **{('n1', name): content for name, content in files.items()},
        ('n2', 'c'): b'3',
      },
    )

  def test_folders_and_hidden_files_are_none(self):
    self.put(_tar({'folder': None, 'folder/a': b'1', '._a': b'2'}))
    members = tar.index(self.path)
    self.assertEqual(self.found(members), {('', 'folder/a'): b'1'})

  def test_all_bytes_are_checked_those_after_the_archive_too(self):
    md5 = self.put(_tar({'a': b'1'}) + b'\0' * 3_000_000)
    self.assertLen(tar.index(self.path, md5=md5), 1)
    with open(self.path, 'ab') as file:
      file.write(b'1')
    with self.assertRaisesRegex(ValueError, f'Expected the MD5 {md5}'):
      tar.index(self.path, md5=md5)

  def test_progress_ends_with_all_of_the_file(self):
    md5 = self.put(_tar({'a': b'1' * 3_000_000}))
    told = []
    tar.index(self.path, md5=md5, progress=lambda *done: told.append(done))
    size = os.path.getsize(self.path)
    self.assertEqual(told[-1], (size, size))
    self.assertGreaterEqual(len(told), 3)

  @parameterized.parameters(700, 1024, 2600)
  def test_a_file_that_ends_early_is_refused(self, length):
    data = _tar({'a': b'1' * 1500, 'b': b'2' * 1500})
    self.put(data[:length])
    with self.assertRaisesRegex(ValueError, 'whole tar archive'):
      tar.index(self.path)

  def test_what_was_saved_is_loaded(self):
    self.put(_tar({'n1.tar': _tar({'a': b'1'})}))
    members = tar.index(self.path)
    saved = f'{self.path}.npz'
    tar.save(members, saved)
    self.assertEqual(self.found(tar.load(saved)), self.found(members))


if __name__ == '__main__':
  absltest.main()
