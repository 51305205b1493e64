"""Tests of SSD's augmentation, with the reference as the witness."""

import zlib

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

from input_pipelines.coco import sampled_crop

# What `SSDTransformer` of the reference (mlcommons/training,
# retired_benchmarks/ssd-v1/ssd/utils.py, with torchvision 0.29.1 and Pillow
# 13.0) makes of `cases` with the same draws, and one sample or fifty: CRC-32 of
# all images, how many boxes are left, and their sum.
_OF_REFERENCE = {
  1: (1706147263, 137, (41.67518878332339, 34.879455485381186,
                        94.01951938867569, 88.79722168296576)),
  50: (3354162771, 131, (37.40245535597205, 31.5486723985523,
                         92.48231646418571, 87.33599188178778)),
}  # fmt: skip


def cases(count=60):
  """Images, boxes, labels: small objects, large ones, one at an edge."""
  for number in range(count):
    rng = np.random.default_rng((5, number))
    height, width = rng.integers(30, 60, 2)
    coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize(
      (int(width), int(height)), Image.Resampling.BICUBIC
    )
    objects = rng.integers(1, 5)
    low = rng.uniform(0, 0.6, (objects, 2))
    size = rng.uniform(0.05, 0.9, (objects, 2)) * (1 - low)
    boxes = np.concatenate([low, low + size], axis=1).astype(np.float32)
    yield image, boxes, np.arange(1, objects + 1, dtype=np.int32)


def _augmented(max_samples):
  how = sampled_crop.Augmentation(max_samples, 0.5, 0.125, 0.5, 0.5, 0.05)
  for number, case in enumerate(cases()):
    rng = np.random.default_rng((9, number))
    yield sampled_crop.augment(*case, rng, size=24, how=how)


class AugmentTest(parameterized.TestCase):
  @parameterized.parameters(1, 50)
  def test_images_and_boxes_are_those_of_the_reference(self, max_samples):
    crc, count, total = _OF_REFERENCE[max_samples]
    images, boxes, labels = zip(*_augmented(max_samples), strict=True)
    self.assertEqual(zlib.crc32(np.stack(images).tobytes()), crc)
    self.assertEqual(sum(map(len, labels)), count)
    np.testing.assert_allclose(
      np.concatenate(boxes).astype(np.float64).sum(axis=0), total, rtol=1e-6
    )

  def test_every_object_overlaps_a_crop_and_the_centres_decide(self):
    boxes = np.float32([[0, 0, 0.2, 0.2], [0.4, 0.4, 1, 1]])
    kept = set()
    for seed in range(100):
      rng = np.random.default_rng(seed)
      box, found, labels = sampled_crop.crop(
        boxes, np.array([1, 2]), rng, max_samples=50
      )
      kept.add(tuple(labels.tolist()))
      if box is None:
        np.testing.assert_array_equal(found, boxes)
        continue
      left, top, width, height = box
      self.assertBetween(width / height, 0.5, 2)
      self.assertBetween(min(width, height), 0.3, 1)
      # Nothing sticks out, and undoing the crop gives parts of the objects.
      self.assertTrue(((found >= 0) & (found <= 1 + 1e-6)).all())
      back = found * [width, height, width, height] + [left, top, left, top]
      of = boxes[labels - 1]
      self.assertTrue((back[:, :2] >= of[:, :2] - 1e-6).all())
      self.assertTrue((back[:, 2:] <= of[:, 2:] + 1e-6).all())
    self.assertEqual(kept, {(1,), (2,), (1, 2)})

  def test_a_rule_that_cannot_be_met_gives_way_to_another(self):
    # Of two objects in opposite corners no crop overlaps both by a tenth.
    boxes = np.float32([[0, 0, 0.1, 0.1], [0.9, 0.9, 1, 1]])
    for seed in range(40):
      box, *_ = sampled_crop.crop(
        boxes, np.array([1, 2]), np.random.default_rng(seed), max_samples=1
      )
      if box is not None:
        self.assertGreaterEqual(min(box[2:]), 0.3)

  def test_an_object_without_area_can_be_kept(self):
    boxes = np.float32([[0.5, 0.2, 0.5, 0.8]])
    for seed in range(20):
      _, found, _ = sampled_crop.crop(
        boxes, np.array([1]), np.random.default_rng(seed), max_samples=50
      )
      self.assertLen(found, 1)
      self.assertEqual(found[0, 0], found[0, 2])

  def test_a_mirrored_box_is_mirrored_back(self):
    boxes = np.float32([[0.1, 0.2, 0.5, 0.9]])
    found = sampled_crop.mirrored(boxes)
    np.testing.assert_allclose(found, [[0.5, 0.2, 0.9, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(sampled_crop.mirrored(found), boxes, rtol=1e-6)

  def test_a_shrunken_image_is_the_mean_of_what_it_shows(self):
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    small = sampled_crop.resized(Image.fromarray(stripes), 10)
    self.assertLess(np.abs(small[:, 1:-1].astype(int) - 100).max(), 3)


if __name__ == '__main__':
  absltest.main()
