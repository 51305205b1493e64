"""Tests of the random crops against the reference's distribution."""

import dataclasses

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.images import crops

_REFERENCE = crops.Crops(
  area=(0.05, 1.0), aspect=(0.75, 1.33), attempts=100, min_covered=0.1
)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Quantiles of 200000 boxes of tf.image.sample_distorted_bounding_box (2.21),
# with the object box [0, 0, 1, 1] and the constants above, by image size.
_GOLDEN = {
  (375, 500): {
    'area': (0.1182, 0.2070, 0.3529, 0.5393, 0.7755),
    'aspect': (0.7801, 0.8987, 1.0442, 1.1875, 1.3016),
    'height': (147, 196, 255, 316, 364),
    'y': (1, 16, 44, 91, 167),
    'x': (9, 47, 103, 174, 274),
  },
  (500, 333): {
    'area': (0.1159, 0.1914, 0.3122, 0.4639, 0.6572),
    'aspect': (0.7778, 0.8911, 1.0344, 1.1806, 1.3000),
    'height': (134, 174, 222, 274, 357),
    'y': (12, 61, 125, 199, 293),
    'x': (1, 13, 37, 77, 141),
  },
  (100, 400): {
    'area': (0.1056, 0.1314, 0.1681, 0.2114, 0.2760),
    'aspect': (0.7841, 0.9114, 1.0588, 1.1970, 1.3036),
    'height': (62, 72, 82, 91, 99),
    'y': (0, 2, 6, 14, 26),
    'x': (15, 78, 156, 235, 300),
  },
}


def _draw(height, width, count, rules=_REFERENCE, *, seed=1, first=0):
  sizes = np.tile([height, width], (count, 1))
  return rules.draw(sizes, seed=seed, first=first)


class ReferenceTest(parameterized.TestCase):
  @parameterized.parameters(*_GOLDEN)
  def test_boxes_are_distributed_as_the_reference_draws_them(self, *size):
    height, width = size
    y, x, h, w = _draw(height, width, 50000).T
    ours = {
      'area': h * w / (height * width),
      'aspect': w / h,
      'height': h,
      'y': y,
      'x': x,
    }
    for name, golden in _GOLDEN[size].items():
      for q, value in zip(_QUANTILES, golden, strict=True):
        # The share of our values up to the quantile must be about q. Integers
        # come in lumps, so the value itself may fall to either side.
        with self.subTest(f'{name}, quantile {q}'):
          slack = 5e-5 if name in ('area', 'aspect') else 0
          self.assertLess(np.mean(ours[name] < value - slack), q + 0.012)
          self.assertGreater(np.mean(ours[name] <= value + slack), q - 0.012)

  def test_the_small_sizes_come_as_often_as_in_the_reference(self):
    boxes = _draw(28, 28, 50000)
    _, _, h, w = boxes.T
    # Of 200000 of the reference's boxes: 196 sizes, 0.31 % the whole image,
    # mean area 0.4300, mean offsets 4.778 and 4.569.
    self.assertLen(np.unique(boxes[:, 2:], axis=0), 196)
    self.assertBetween(np.mean((h == 28) & (w == 28)), 0.0023, 0.0039)
    self.assertAlmostEqual(np.mean(h * w) / 784, 0.4300, delta=0.004)
    self.assertAlmostEqual(boxes[:, 0].mean(), 4.778, delta=0.08)
    self.assertAlmostEqual(boxes[:, 1].mean(), 4.569, delta=0.08)

  # Shares of the sizes in 200000 of the reference's boxes, by area range.
  @parameterized.parameters(
    {
      'size': (5, 7),
      'area': (0.3, 0.6),
      'golden': {
        (4, 4): 0.416,
        (4, 5): 0.212,
        (3, 4): 0.140,
        (5, 4): 0.118,
        (4, 3): 0.113,
      },
    },
    {
      'size': (9, 8),
      'area': (0.2, 0.4),
      'golden': {
        (4, 5): 0.352,
        (5, 4): 0.244,
        (4, 4): 0.216,
        (5, 5): 0.188,
      },
    },
  )
  def test_sizes_that_rounding_carries_out_of_range_are_mended(
    self, size, area, golden
  ):
    rules = dataclasses.replace(_REFERENCE, area=area)
    sizes = _draw(*size, 50000, rules)[:, 2:]
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    self.assertEqual({tuple(kind) for kind in kinds}, set(golden))
    for kind, count in zip(kinds, counts, strict=True):
      self.assertAlmostEqual(count / 50000, golden[tuple(kind)], delta=0.01)

  def test_rounding_at_the_smallest_sizes_is_the_references(self):
    boxes = _draw(3, 4, 50000)
    _, _, h, w = boxes.T
    # Of the reference's: 5 sizes, 14.25 % the whole image, mean area 0.5713.
    self.assertLen(np.unique(boxes[:, 2:], axis=0), 5)
    self.assertBetween(np.mean((h == 3) & (w == 4)), 0.135, 0.15)
    self.assertAlmostEqual(np.mean(h * w) / 12, 0.5713, delta=0.006)


class CropsTest(parameterized.TestCase):
  @parameterized.parameters((375, 500), (28, 28), (1, 1), (2, 1), (333, 40))
  def test_boxes_lie_within_the_image_and_cover_enough_of_it(self, *size):
    height, width = size
    y, x, h, w = _draw(height, width, 2000).T
    self.assertTrue(np.all((y >= 0) & (x >= 0) & (h >= 1) & (w >= 1)))
    self.assertTrue(np.all((y + h <= height) & (x + w <= width)))
    self.assertGreaterEqual((10 * h * w).min(), height * width)

  def test_an_image_with_no_fitting_crop_is_taken_whole(self):
    # 10 x 13 pixels are the most that fit, 6.5 % of the image.
    boxes = _draw(10, 200, 50)
    np.testing.assert_array_equal(boxes, np.tile([0, 0, 10, 200], (50, 1)))

  def test_what_must_be_covered_is_a_bound_of_its_own(self):
    tight = crops.Crops((0.05, 1.0), (0.75, 1.33), 100, 0.5)
    loose = crops.Crops((0.05, 1.0), (0.75, 1.33), 100, 0.0)
    areas = [np.prod(_draw(100, 100, 999, r)[:, 2:], 1) for r in (tight, loose)]
    self.assertGreaterEqual(areas[0].min(), 5000)
    self.assertLess(areas[1].min(), 700)

  def test_fewer_attempts_leave_more_images_whole(self):
    once = crops.Crops((0.05, 1.0), (0.75, 1.33), 1, 0.5)
    _, _, h, w = _draw(100, 100, 999, once).T
    self.assertGreater(np.mean((h == 100) & (w == 100)), 0.3)

  def test_a_box_depends_on_the_seed_and_the_position_alone(self):
    sizes = np.random.default_rng(0).integers(1, 99, (64, 2))
    sizes[::9] = (3, 90)  # needs many attempts
    together = _REFERENCE.draw(sizes, seed=2**32 - 1, first=1000)
    apart = [
      _REFERENCE.draw(sizes[i : i + n], seed=2**32 - 1, first=1000 + i)
      for i, n in ((0, 1), (1, 30), (31, 33))
    ]
    np.testing.assert_array_equal(np.concatenate(apart), together)

  def test_another_seed_or_position_draws_another_box(self):
    boxes = _draw(300, 400, 100, seed=1)
    for other in ({'seed': 2}, {'seed': 1, 'first': 100}):
      same = np.all(_draw(300, 400, 100, **other) == boxes, axis=1)
      self.assertLess(same.mean(), 0.05)

  @parameterized.parameters(
    ({'area': (0, 1)}, 'area'),
    ({'area': (0.5, 0.4)}, 'area'),
    ({'area': (0.5, 1.1)}, 'area'),
    ({'aspect': (0, 1)}, 'aspect'),
    ({'aspect': (2, 1)}, 'aspect'),
    ({'attempts': 0}, 'attempt'),
    ({'min_covered': 1.5}, 'cover'),
  )
  def test_impossible_rules_are_refused(self, change, what):
    rules = {
      'area': (0.1, 1),
      'aspect': (1, 2),
      'attempts': 1,
      'min_covered': 0.1,
    }
    with self.assertRaisesRegex(ValueError, what):
      crops.Crops(**{**rules, **change})


class FlipsTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.3, 0.5, 1.0)
  def test_rows_are_mirrored_as_often_as_asked(self, probability):
    mirrored = crops.flips(20000, probability, seed=3, first=0)
    self.assertAlmostEqual(mirrored.mean(), probability, delta=0.015)

  def test_a_flip_says_nothing_about_the_crop(self):
    mirrored = crops.flips(20000, 0.5, seed=3, first=0)
    boxes = _draw(300, 300, 20000, seed=3)
    for column in boxes.T:
      self.assertLess(abs(np.corrcoef(mirrored, column)[0, 1]), 0.03)


if __name__ == '__main__':
  absltest.main()
