"""Tests of the boxes that detectors start from."""

from absl.testing import absltest, parameterized
import numpy as np

from models.parts import anchors


def of_ssd300():
  """Those of the reference of SSD."""
  return anchors.default_boxes(
    (38, 19, 10, 5, 3, 1),
    image=300,
    steps=(8, 16, 32, 64, 100, 300),
    scales=(21, 45, 99, 153, 207, 261, 315),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
  )


class DefaultBoxesTest(absltest.TestCase):
  def test_those_of_ssd300(self):
    """Sums of `dboxes300_coco`, train.py and utils.py of the reference."""
    found = of_ssd300()
    self.assertEqual((found.shape, found.dtype), ((8732, 4), np.float32))
    np.testing.assert_allclose(
      found.astype(np.float64).sum(axis=0),
      [4443.146674670279, 4443.146674670279, 1171.9676781445742,
       1171.9676781445742],
      rtol=1e-12,
    )  # fmt: skip
    np.testing.assert_array_equal(
      found[[0, 1, 38]],
      np.float32(
        [
          [4 / 300, 4 / 300, 0.07, 0.07],
          [12 / 300, 4 / 300, 0.07, 0.07],
          [4 / 300, 12 / 300, 0.07, 0.07],
        ]
      ),
    )
    # The last cell has boxes of 2:1 and 1:2, 1.23 long before they are cut off.
    np.testing.assert_allclose(
      found[-2:],
      [[0.5, 0.5, 1, 0.87 / np.sqrt(2)], [0.5, 0.5, 0.87 / np.sqrt(2), 1]],
      rtol=1e-6,
    )


class PixelAnchorsTest(parameterized.TestCase):
  @parameterized.parameters(
    # From `generate_anchors` of the reference of Mask R-CNN.
    (4, 32, [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]),
    (8, 64, [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]]),
    (64, 512, [[-332, -152, 395, 215], [-224, -224, 287, 287],
               [-148, -328, 211, 391]]),
  )  # fmt: skip
  def test_those_of_detectron(self, stride, size, expected):
    found = anchors.pixel_anchors(
      (2, 3), stride=stride, size=size, ratios=(0.5, 1, 2)
    )
    self.assertEqual((found.shape, found.dtype), ((18, 4), np.float32))
    np.testing.assert_array_equal(found[:3], expected)
    # Cells follow row by row.
    np.testing.assert_array_equal(
      found[3:6] - found[:3], np.tile([stride, 0, stride, 0], (3, 1))
    )
    np.testing.assert_array_equal(
      found[9:12] - found[:3], np.tile([0, stride, 0, stride], (3, 1))
    )


if __name__ == '__main__':
  absltest.main()
