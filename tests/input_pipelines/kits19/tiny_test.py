"""Tests of the generated volumes."""

from absl.testing import absltest
import numpy as np

from input_pipelines.kits19 import prepare, read, tiny
from tests import tiny_data


class OrgansTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = tiny_data.directory(tiny.NAME)
    self.volumes = [
      volume
      for split in tiny.VOLUMES
      for volume in read.load(self.directory, split)
    ]

  def test_the_data_set_is_whole(self):
    tiny.verify(self.directory)

  def test_a_case_is_the_same_each_time_and_unlike_the_others(self):
    folder = self.create_tempdir().full_path
    case = tiny.write_case(folder, 0)
    image, _ = prepare.prepared(
      *prepare.load(case), prepare.Preparation(side=tiny.SIDE)
    )
    np.testing.assert_array_equal(image, self.volumes[0].image)
    self.assertLen({v.image[10, 10, :9].tobytes() for v in self.volumes},
                   len(self.volumes))  # fmt: skip

  def test_spacings_are_anisotropic(self):
    folder = self.create_tempdir().full_path
    for number in range(4):
      *_, spacing = prepare.load(tiny.write_case(folder, number))
      self.assertGreater(spacing[0], spacing[1] * 1.1)
      self.assertEqual(spacing[1], spacing[2])

  def test_classes_are_as_rare_as_in_kits19(self):
    labels = [v.label for v in self.volumes]
    organ, tumour = (
      np.mean([(label == c).mean() for label in labels]) for c in (1, 2)
    )
    self.assertBetween(organ, 0.02, 0.08)
    self.assertBetween(tumour, 0.002, 0.01)
    for volume in self.volumes:
      self.assertEqual({box.label for box in volume.boxes}, {1, 2})

  def test_no_threshold_tells_organs_or_tumours_from_what_is_like_them(self):
    best = {1: 0.0, 2: 0.0}
    images = np.concatenate([v.image.ravel() for v in self.volumes])
    labels = np.concatenate([v.label.ravel() for v in self.volumes])
    levels = np.quantile(images, np.linspace(0.5, 1, 26))
    for number in best:
      true = labels == number
      for i, low in enumerate(levels[:-1]):
        for high in levels[i + 1 :]:
          found = (images > low) & (images <= high)
          dice = 2 * (found & true).sum() / (found.sum() + true.sum())
          best[number] = max(best[number], dice)
    self.assertLess(best[1], 0.75)
    self.assertLess(best[2], 0.25)


if __name__ == '__main__':
  absltest.main()
