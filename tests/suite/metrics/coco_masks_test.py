"""Tests of masks in their images, and of their average precision."""

import contextlib
import io
import zlib

from absl.testing import absltest
import numpy as np
from pycocotools import mask as coco_mask

from suite.metrics import coco, coco_masks

# CRC-32 of the areas, int32, of the masks below as `paste_mask_in_image` of the
# reference has them (mlcommons/training, retired_benchmarks/maskrcnn); of those
# made here no pixel differed from its own.
_AREAS_OF_REFERENCE = 417312395


def _decoded(found):
  return np.asarray(coco_mask.decode(found), bool)


def _masks(rng, count):
  """Masks, boxes within an image, some of a point, and sizes of images."""
  for number in range(count):
    height, width = (int(rng.integers(20, 90)) for _ in range(2))
    if number % 2:
      mask = rng.random((28, 28)).astype(np.float32)
    else:
      coarse = rng.standard_normal((7, 7)).repeat(4, 0).repeat(4, 1)
      mask = (1 / (1 + np.exp(-3 * coarse))).astype(np.float32)
    low = rng.uniform(0, 60, 2) * [width / 90, height / 90]
    high = np.minimum(low + rng.uniform(0, 70, 2), [width - 1, height - 1])
    yield mask, np.float32([*low, *high]), (height, width)


class PastedTest(absltest.TestCase):
  def test_masks_are_those_of_the_reference(self):
    found = [
      _decoded(coco_masks.pasted(*each)).sum()
      for each in _masks(np.random.default_rng(4), 300)
    ]
    digest = zlib.crc32(np.array(found, np.int32).tobytes())
    self.assertEqual(digest, _AREAS_OF_REFERENCE)

  def test_a_mask_fills_its_box_to_a_pixel(self):
    found = _decoded(
      coco_masks.pasted(np.ones((28, 28)), [10.0, 4, 17, 9], (12, 30))
    )
    self.assertTrue(found[5:9, 11:17].all())
    found[3:11, 9:19] = False
    self.assertFalse(found.any())
    for box in ([-30.0, 0, -20, 5], [40, 0, 50, 5]):
      found = coco_masks.pasted(np.ones((28, 28)), box, (12, 30))
      self.assertFalse(_decoded(found).any())


class ApTest(absltest.TestCase):
  def data(self):
    """Discs, and the same ones moved a little."""
    rng = np.random.default_rng(6)
    rows, columns = np.mgrid[:60, :80]

    def disc(y, x, r):
      inside = np.hypot(rows - y, columns - x) < r
      return coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))

    image = np.repeat([3, 5, 9], 6)
    places = rng.uniform(15, 45, (18, 2))
    sizes = rng.uniform(4, 14, 18)
    each = zip(*places.T, sizes, strict=True)
    outlines = [disc(*how) for how in each]
    moved = zip(*(places + rng.normal(0, 1.5, (18, 2))).T, sizes, strict=True)
    masks = [disc(*how) for how in moved]
    truth = coco.Objects(
      image, rng.integers(1, 3, 18), np.zeros((18, 4)),
      np.array([float(coco_mask.area(m)) for m in outlines]),
      np.arange(18) % 7 == 3,
    )  # fmt: skip
    found = coco.Found(
      image, truth.label, np.zeros((18, 4)), rng.random(18).round(1)
    )
    return truth, outlines, dict.fromkeys((3, 5, 9), (60, 80)), found, masks

  def test_it_is_that_of_pycocotools_to_the_last_bit(self):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, outlines, sizes, found, masks = self.data()
    with contextlib.redirect_stdout(io.StringIO()):
      wanted = COCO()
      wanted.dataset = {
        'images': [{'id': n, 'height': 60, 'width': 80} for n in sizes],
        'categories': [{'id': n} for n in (1, 2)],
        'annotations': [
          {
            'id': n + 1, 'image_id': int(truth.image[n]),
            'category_id': int(truth.label[n]), 'bbox': [0, 0, 1, 1],
            'area': truth.area[n], 'iscrowd': int(truth.crowd[n]),
            'segmentation': outlines[n],
          }
          for n in range(len(outlines))
        ],
      }  # fmt: skip
      wanted.createIndex()
      got = wanted.loadRes([
        {
          'image_id': int(found.image[n]), 'category_id': int(found.label[n]),
          'score': found.score[n], 'segmentation': masks[n],
        }
        for n in range(len(masks))
      ])  # fmt: skip
      judge = COCOeval(wanted, got, 'segm')
      judge.evaluate()
      judge.accumulate()
      judge.summarize()
    ours = coco.mask_ap(truth, outlines, sizes, found, masks)
    self.assertBetween(ours, 0.1, 0.9)
    self.assertEqual(ours, float(judge.stats[0]))

  def test_nothing_found_is_nothing(self):
    truth, outlines, sizes, found, _ = self.data()
    nothing = coco.Found(*(v[:0] for v in vars(found).values()))
    self.assertEqual(coco.mask_ap(truth, outlines, sizes, nothing, []), 0.0)


if __name__ == '__main__':
  absltest.main()
