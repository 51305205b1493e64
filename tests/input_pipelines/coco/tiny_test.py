"""Tests of the generated scenes."""

import collections

from absl.testing import absltest
import numpy as np

from input_pipelines.coco import prepare, read, tiny
from input_pipelines.reading import dataset
from input_pipelines.writing import verify
from tests import session

IMAGES = {'train': 200, 'validation': 30}  # of more in the data set


class ScenesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    folder = session.once(
      'coco_scenes', lambda folder: tiny.build(folder, images=IMAGES)
    )
    self.directory = f'{folder}/{tiny.NAME}/{tiny.VERSION}'

  def truth(self, split):
    return read.ground_truth(dataset.Split(self.directory, split))

  def test_records_can_be_used(self):
    verify.records(self.directory, IMAGES, prepare.check)
    with self.assertRaisesRegex(ValueError, '1600 examples'):
      tiny.verify(self.directory)

  def test_scenes_without_objects_are_counted(self):
    """A scene begins with the draw of its kind, and else has an object."""
    for images in (IMAGES, tiny.IMAGES):
      expected = {
        split: sum(
          np.random.default_rng((0, len(split), number)).random() >= 0.03
          for number in range(count)
        )
        for split, count in images.items()
      }
      if images is IMAGES:
        facts = [read.count_key(split) for split in images]
        found = dataset.facts(self.directory, facts)
        self.assertEqual([*found.values()], [*expected.values()])
    self.assertEqual(tiny.WITH_OBJECTS, expected)

  def test_scenes_have_structure(self):
    found = self.truth('train')
    counts = collections.Counter(found.image.tolist())
    self.assertGreater(IMAGES['train'], len(counts))  # some are empty
    self.assertGreater(max(counts.values()), 6)  # some are crowded
    self.assertBetween(found.crowd.sum(), 2, 20)
    labels = np.bincount(found.label[~found.crowd], minlength=6)[1:]
    self.assertGreater(labels.min(), 0.7 * labels.max())
    longer = found.box[:, 2:].max(axis=1)
    self.assertLess(longer.min(), 8)
    self.assertGreater(longer.max(), 40)
    # What others hide is no part of an object.
    filled = found.area / np.prod(found.box[:, 2:], axis=1)
    self.assertLess(filled.min(), 0.35)

  def test_a_scene_is_the_same_each_time_and_unlike_the_others(self):
    def scene(number):
      return tiny.scene(np.random.default_rng((0, 5, number)))[0].tobytes()

    self.assertEqual(scene(1), scene(1))
    self.assertLen({scene(number) for number in range(5)}, 5)

  def test_evals_show_scenes_that_training_has_not(self):
    jpegs = [
      {read.Photo.of(record).jpeg
       for record in dataset.Split(self.directory, f'{split}[:30]')}
      for split in IMAGES
    ]  # fmt: skip
    self.assertEmpty(jpegs[0] & jpegs[1])

  def test_runs_and_polygons_are_of_the_mask(self):
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    self.assertEqual(tiny.runs(mask), [9, 2, 2, 2, 5])
    self.assertEqual(tiny.runs(~mask), [0, 9, 2, 2, 2, 5])
    (polygon,) = tiny.polygons(mask)
    x, y = np.reshape(polygon, (-1, 2)).T
    np.testing.assert_allclose([x.min(), x.max()], [2, 4], atol=0.13)
    np.testing.assert_allclose([y.min(), y.max()], [1, 3], atol=0.13)


if __name__ == '__main__':
  absltest.main()
