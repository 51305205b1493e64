"""Tests of reading records to check them."""

import tempfile
import threading

from absl.testing import absltest

from input_pipelines.imagenet import prepare as imagenet
from input_pipelines.reading import dataset
from input_pipelines.writing import recipe, verify
from tests.input_pipelines.imagenet import fake_imagenet

_LENGTHS = {'train': 300, 'validation': 7}
_GREY = fake_imagenet.jpeg(0)


class RecordsTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    temporary = cls.enterClassContext(tempfile.TemporaryDirectory())
    train = [_GREY] * _LENGTHS['train']
    train[150] = b'\xff\xd8 no image'
    cls.directory = fake_imagenet.write(
      temporary, {'train': train, 'validation': [_GREY] * 7}
    )

  def labels(self, **kwargs):
    """The labels of the records that are read."""
    seen, lock = [], threading.Lock()

    def check(features):
      with lock:
        seen.append(features['label'].int64_list.value[0])

    read = verify.records(self.directory, _LENGTHS, check, **kwargs)
    self.assertLen(seen, read)
    return sorted(seen)

  def test_all_records_are_read_once(self):
    told = []
    labels = self.labels(
      progress=lambda done, whole: told.append((done, whole))
    )
    self.assertEqual(labels, sorted([*range(300), *range(7)]))
    self.assertEqual(told[-1], (307, 307))

  def test_a_sample_is_spread_over_each_split(self):
    self.assertEqual(
      self.labels(sample=4), sorted([0, 99, 199, 299, 0, 2, 4, 6])
    )
    self.assertLen(self.labels(sample=20), 27)

  def test_a_record_that_does_not_decode_is_named(self):
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, "Record 150 of the split 'train'"
    ):
      verify.records(self.directory, _LENGTHS, imagenet.check)

  def test_a_record_that_lacks_a_feature_is_named(self):
    def check(features):
      return features['image'].bytes_list.value[1]

    with self.assertRaisesRegex(dataset.CorruptRecordError, 'Record 0'):
      verify.records(self.directory, {'validation': 1}, check)


class RecipesTest(absltest.TestCase):
  def test_every_recipe_says_what_a_person_needs_to_know(self):
    recipes = recipe.known()
    self.assertIn('digits', recipes)
    self.assertIn('imagenet2012', recipes)
    for name, each in recipes.items():
      self.assertEqual(name, each.name)
      self.assertNotIn('\n', each.summary)
      self.assertTrue(each.licence and each.needs, name)
      self.assertGreater(each.bytes, 0)
      self.assertTrue(each.build or each.tfds or each.how_to, name)
      each.how_to.format(data_dir='', downloads='')

  def test_versions_are_told_of_what_writes_the_bytes(self):
    versions = recipe.versions()
    self.assertIn('array-record', versions)
    self.assertRegex(versions['simplejpeg'], r'\d+\.\d+')


if __name__ == '__main__':
  absltest.main()
