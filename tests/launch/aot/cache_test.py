"""Tests of keeping what compilers said."""

import os

from absl.testing import absltest, parameterized

from launch.aot import cache

_FACTS = {'error': '', 'text': 'HloModule m', 'seconds': 1.5}


class CacheTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path
    self.cache = cache.Cache(self.directory)
    self.name = cache.key('program', 'v5e-8')

  def _path(self):
    ((folder, _, (file,)),) = [
      each for each in os.walk(self.directory) if each[2]
    ]
    return os.path.join(folder, file)

  def test_what_is_kept_is_found_by_another(self):
    self.cache.keep(self.name, _FACTS)
    self.assertEqual(cache.Cache(self.directory).find(self.name), _FACTS)

  def test_what_is_not_kept_is_not_found(self):
    self.assertIsNone(self.cache.find(self.name))

  def test_every_part_makes_another_key(self):
    self.assertEqual(cache.key('a', {'x': 1}), cache.key('a', {'x': 1}))
    keys = {cache.key(*parts) for parts in (('a', 'b'), ('ab',), ('a', 'c'))}
    self.assertLen(keys, 3)

  @parameterized.parameters('', '{', '[]', '{"name": 1}')
  def test_what_is_broken_is_ignored_and_replaced(self, content):
    self.cache.keep(self.name, _FACTS)
    with open(self._path(), 'w', encoding='utf-8') as file:
      file.write(content)
    self.assertIsNone(self.cache.find(self.name))
    self.cache.keep(self.name, _FACTS)
    self.assertEqual(self.cache.find(self.name), _FACTS)

  def test_a_text_that_was_changed_is_ignored(self):
    self.cache.keep(self.name, _FACTS)
    other = cache.key('other')
    self.cache.keep(other, _FACTS | {'text': 'HloModule n'})
    found = {
      os.path.basename(path): path
      for folder, _, names in os.walk(self.directory)
      for path in (os.path.join(folder, name) for name in names)
    }
    # One program's file in the place of another's.
    os.replace(found[f'{other}.gz'], found[f'{self.name}.gz'])
    self.assertIsNone(self.cache.find(self.name))

  def test_without_a_directory_nothing_is_kept(self):
    nowhere = cache.Cache('')
    nowhere.keep(self.name, _FACTS)
    self.assertIsNone(nowhere.find(self.name))


if __name__ == '__main__':
  absltest.main()
