"""Tests of COCO's average precision, with pycocotools as the judge."""

import contextlib
import io

from absl.testing import absltest, parameterized
import numpy as np

from suite.metrics import coco


def _objects(rng, images=12, classes=4):
  """Objects in most images; some are crowds, some there twice, some flat."""
  count = rng.poisson(3.5, images) * (rng.random(images) < 0.8)
  image = np.repeat(100 + 7 * np.arange(images), count)
  box = rng.uniform(2, 60, (len(image), 4)).round(2)
  box[::9, 2] = 0
  box[3::11] = box[2::11][: len(box[3::11])]
  return coco.Objects(
    image=image,
    label=rng.integers(1, classes + 1, len(image)),
    box=box,
    area=np.prod(box[:, 2:], axis=1) * rng.uniform(0.3, 1, len(image)),
    crowd=rng.random(len(image)) < 0.1,
  )


def _found(rng, truth, classes=4, noise=3.0, tied=False):
  """The objects a little off, now and then twice, and boxes of nothing."""
  chosen = rng.integers(0, len(truth.image), 2 * len(truth.image))
  box = truth.box[chosen] + rng.normal(0, noise, (len(chosen), 4))
  box[:, 2:] = np.maximum(box[:, 2:], 0)
  label = np.where(
    rng.random(len(chosen)) < 0.8,
    truth.label[chosen],
    rng.integers(1, classes + 1, len(chosen)),
  )
  score = rng.random(len(chosen))
  if tied:
    score = score.round(1)
  return coco.Found(
    truth.image[chosen], label, box.astype(np.float32),
    score.astype(np.float32),
  )  # fmt: skip


def _judged(truth, found):
  """AP by pycocotools, which knows nothing of how ours is fed."""
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  with contextlib.redirect_stdout(io.StringIO()):
    wanted = COCO()
    wanted.dataset = {
      'images': [{'id': int(n)} for n in np.unique(truth.image)],
      'categories': [{'id': n} for n in range(1, 6)],
      'annotations': [
        {
          'id': n + 1, 'image_id': int(truth.image[n]),
          'category_id': int(truth.label[n]), 'bbox': truth.box[n].tolist(),
          'area': float(truth.area[n]), 'iscrowd': int(truth.crowd[n]),
        }
        for n in range(len(truth.image))
      ],
    }  # fmt: skip
    wanted.createIndex()
    got = wanted.loadRes([
      {
        'image_id': int(found.image[n]), 'category_id': int(found.label[n]),
        'bbox': np.float64(found.box[n]).tolist(),
        'score': float(found.score[n]),
      }
      for n in range(len(found.image))
    ])  # fmt: skip
    scored = COCOeval(wanted, got, 'bbox')
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
  return scored.stats[0]


class BoxTest(parameterized.TestCase):
  @parameterized.parameters(
    {'seed': 0}, {'seed': 1, 'noise': 0.5}, {'seed': 2, 'tied': True},
    {'seed': 3, 'noise': 0.0}, {'seed': 4, 'noise': 12.0}, {'seed': 5},
  )  # fmt: skip
  def test_it_is_that_of_pycocotools_to_the_last_bit(self, seed, **how):
    rng = np.random.default_rng(seed)
    truth = _objects(rng)
    found = _found(rng, truth, **how)
    value = coco.box_ap(truth, found)
    self.assertBetween(value, 0.01, 0.99)
    self.assertEqual(value, _judged(truth, found))

  def test_more_than_a_hundred_boxes_of_a_class_do_not_count(self):
    rng = np.random.default_rng(7)
    truth = _objects(rng, images=1, classes=1)
    while not len(truth.image):
      truth = _objects(rng, images=1, classes=1)
    many = coco.Found(
      np.repeat(truth.image[:1], 130),
      np.ones(130, int),
      rng.uniform(0, 60, (130, 4)).astype(np.float32),
      np.linspace(1, 0.5, 130, dtype=np.float32),
    )
    last = coco.Found(
      *(np.concatenate([a, b]) for a, b in (
        (many.image, truth.image), (many.label, truth.label),
        (many.box, truth.box.astype(np.float32)),
        (many.score, np.full(len(truth.image), 0.1, np.float32)),
      ))
    )  # fmt: skip
    self.assertEqual(coco.box_ap(truth, last), coco.box_ap(truth, many))

  def test_nothing_found_is_nothing_and_boxes_that_are_none_do_not_matter(self):
    rng = np.random.default_rng(8)
    truth = _objects(rng)
    found = _found(rng, truth)
    none = coco.Found(*(x[:0] for x in vars(found).values()))
    self.assertEqual(coco.box_ap(truth, none), 0.0)
    broken = coco.Found(
      np.append(found.image, found.image[0]),
      np.append(found.label, found.label[0]),
      np.append(found.box, [[np.inf, 0, np.nan, 1]], axis=0),
      np.append(found.score, 1.0),
    )
    self.assertEqual(coco.box_ap(truth, broken), coco.box_ap(truth, found))
    empty = coco.Objects(*(x[:0] for x in vars(truth).values()))
    with self.assertRaisesRegex(ValueError, 'that are no crowds, got none'):
      coco.box_ap(empty, found)

  def test_all_found_is_one(self):
    truth = _objects(np.random.default_rng(1))
    keep = ~truth.crowd & (truth.box[:, 2] > 0)
    truth = coco.Objects(*(x[keep] for x in vars(truth).values()))
    found = coco.Found(
      truth.image, truth.label, truth.box, np.ones(len(truth.image))
    )
    self.assertAlmostEqual(coco.box_ap(truth, found), 1.0)


class GatheredTest(absltest.TestCase):
  def batch(self, ids, weight, scores):
    rows = len(ids)
    return {
      'id': np.array(ids),
      'weight': np.float32(weight),
      'scores': np.float32(scores),
      'boxes': np.arange(8.0 * rows).reshape(rows, 2, 4),
      'labels': np.full((rows, 2), 3),
    }

  def test_padding_of_rows_and_of_detections_is_left_out(self):
    found = coco.gathered(
      [
        self.batch([5, 9], [1, 1], [[0.5, 0.0], [0.9, 0.8]]),
        self.batch([7, 5], [1, 0], [[0.0, 0.0], [0.9, 0.8]]),
      ],
      images=3,
    )
    self.assertEqual(found.image.tolist(), [5, 9, 9])
    np.testing.assert_allclose(found.score, [0.5, 0.9, 0.8])
    self.assertEqual(found.box[:, 0].tolist(), [0, 8, 12])

  def test_an_image_that_is_missing_or_there_twice_ends_an_eval(self):
    one = self.batch([5, 9], [1, 1], np.ones((2, 2)))
    with self.assertRaisesRegex(RuntimeError, 'over 3 images, .* got 2'):
      coco.gathered([one], images=3)
    with self.assertRaisesRegex(RuntimeError, 'got 4, of which 2'):
      coco.gathered([one, one], images=4)


if __name__ == '__main__':
  absltest.main()
