"""Tests of batches with outlines: sizes, shapes, masks, evals."""

import io
import itertools

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from input_pipelines.coco import outlined, outlines, prepare
from input_pipelines.reading import dataset
from tests import session
from tests.input_pipelines.coco import fake_coco

HOW = outlined.Preprocessing(
  min_size=30, max_size=50, most_objects=5, mask_side=16, flip=0.5
)
TRAIN, VALIDATION = 22, 10


def _directory():
  folder = session.once(
    'coco_photos',
    lambda folder: fake_coco.write(folder, train=TRAIN, validation=VALIDATION),
  )
  return f'{folder}/{fake_coco.NAME}/{prepare.VERSION}'


def _train(seed=3, **how):
  return outlined.train_batches(
    _directory(), preprocessing=HOW, seed=seed, batch_size=4, **how
  )


def _is_wide(number):
  width, height = fake_coco.size(number)
  return width > height


class SizeTest(parameterized.TestCase):
  @parameterized.parameters(
    # Of the reference's Resize.get_size with 800 and 1333, as height, width.
    ((480, 640), (800, 1066)),
    ((640, 480), (1066, 800)),
    ((427, 640), (800, 1199)),
    ((500, 500), (800, 800)),
    ((333, 640), (694, 1333)),
    ((640, 333), (1333, 694)),
    ((800, 1000), (800, 1000)),
    ((200, 640), (417, 1334)),
  )
  def test_sizes_are_those_of_the_reference(self, size, expected):
    found = outlined.resized_size(size, min_size=800, max_size=1333)
    self.assertEqual(found, expected)

  def test_every_size_fits_the_batch(self):
    how = outlined.Preprocessing(800, 1333, 100, 112, 0.5)
    self.assertEqual(how.shape(True), (800, 1344))
    self.assertEqual(how.shape(False), (1344, 800))
    for height in range(40, 700, 7):
      for width in range(40, 700, 11):
        found = outlined.resized_size(
          (height, width), min_size=800, max_size=1333
        )
        shape = how.shape(width > height)
        self.assertTrue(all(a <= b for a, b in zip(found, shape, strict=True)))


class TrainTest(absltest.TestCase):
  def test_batches_are_of_wide_images_or_of_others(self):
    numbers = [n for n in range(TRAIN) if n % 4 != 3]
    wide = sum(map(_is_wide, numbers))
    self.assertBetween(wide, 1, len(numbers) - 1)
    batches = [b for b, _ in zip(_train(), range(len(numbers)), strict=False)]
    shapes = [batch['image'].shape for batch in batches]
    self.assertEqual({*shapes}, {(4, 32, 64, 3), (4, 64, 32, 3)})
    self.assertEqual(shapes.count((4, 32, 64, 3)), wide)
    for batch in batches:
      height, width = batch['image'].shape[1:3]
      self.assertTrue((batch['size'] <= [height, width]).all())
      for image, (h, w) in zip(batch['image'], batch['size'], strict=True):
        self.assertFalse(image[h:].any() or image[:, w:].any())

  def test_a_row_depends_on_seed_and_place_alone(self):
    whole = [batch for batch, _ in zip(_train(), range(7), strict=False)]
    for first in (0, 3, 6):
      late = next(_train(first_step=first))
      parts = [
        next(_train(host=host, hosts=2, first_step=first)) for host in (0, 1)
      ]
      for name, rows in whole[first].items():
        np.testing.assert_array_equal(rows, late[name])
        shared = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(rows, shared)

  def test_masks_lie_where_their_boxes_do_mirrored_or_not(self):
    """The first outline of a photo is its box, in pixels that count from 0."""
    seen = set()
    for batch, _ in zip(_train(), range(12), strict=False):
      for row in range(4):
        box, frame = (batch[name][row, 0] for name in ('boxes', 'frames'))
        mask, (_, width) = batch['masks'][row, 0], batch['size'][row]
        self.assertTrue(mask.all())
        # The box ends a pixel of the photo before its outline.
        scale = frame[2:] - frame[:2] - (box[2:] - box[:2])
        flipped = box[0] > frame[0] + 0.1
        seen.add(bool(flipped))
        edge = frame[0] + scale[0] if flipped else frame[0]
        self.assertAlmostEqual(float(box[0]), float(edge), delta=1e-3)
        self.assertAlmostEqual(float(box[1]), float(frame[1]), delta=1e-3)
        self.assertLess(box[2], width)
    self.assertEqual(seen, {False, True})

  def test_crowds_and_objects_without_area_are_left_out(self):
    """Every third photo has a crowd; every third one object is flat."""
    kept = set()
    for batch, _ in zip(_train(), range(12), strict=False):
      kept |= {*(batch['labels'] > 0).sum(axis=1).tolist()}
    self.assertEqual(kept, {1, 2, 3})

  def test_more_objects_than_there_is_room_for_are_an_error(self):
    how = outlined.Preprocessing(30, 50, 1, 16, 0.5)
    batches = outlined.train_batches(
      _directory(), preprocessing=how, seed=1, batch_size=8
    )
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, 'Expected 1 objects, got'
    ):
      for _ in range(4):
        next(batches)


class EvalTest(absltest.TestCase):
  def test_every_photo_is_seen_once(self):
    found = {}
    for batch in outlined.eval_batches(
      _directory(), 'validation', preprocessing=HOW, batch_size=4
    ):
      for row in np.flatnonzero(batch['weight']):
        self.assertNotIn(int(batch['id'][row]), found)
        found[int(batch['id'][row])] = {k: v[row] for k, v in batch.items()}
    self.assertCountEqual(found, map(fake_coco.id_of, range(VALIDATION)))
    for number in range(VALIDATION):
      row = found[fake_coco.id_of(number)]
      width, height = fake_coco.size(number)
      self.assertEqual(row['original'].tolist(), [height, width])
      expected = outlined.resized_size(
        (height, width), min_size=30, max_size=50
      )
      self.assertEqual(tuple(row['size']), expected)
      photo = Image.open(io.BytesIO(fake_coco.photo(number))).convert('RGB')
      np.testing.assert_array_equal(
        row['image'][: expected[0], : expected[1]],
        photo.resize(expected[::-1], Image.Resampling.BILINEAR),
      )

  def test_outlines_are_those_of_the_annotations(self):
    truth = outlined.ground_truth(dataset.Split(_directory(), 'validation'))
    found = list(
      zip(
        truth.objects.image.tolist(),
        [each.segmentation() for each in truth.outlines],
        strict=True,
      )
    )
    things = fake_coco.instances(VALIDATION)['annotations']
    expected = [(each['image_id'], each['segmentation']) for each in things]
    self.assertCountEqual(found, expected)


class OutlineTest(absltest.TestCase):
  def test_a_mask_is_what_coco_draws_of_polygons(self):
    """And seen from a box 28 cells wide, nearly what COCO draws there."""
    rng = np.random.default_rng(5)
    overlaps = []
    for _ in range(60):
      turns = np.sort(rng.uniform(0, 2 * np.pi, 12))
      radius = rng.uniform(0.5, 1, 12) * 40
      points = (
        60 + np.stack([np.cos(turns), np.sin(turns)], 1) * radius[:, None]
      )
      one = outlines.Outline((points.reshape(-1),), np.zeros(0), (120, 120))
      frame = one.frame()
      np.testing.assert_array_equal(
        frame, [*points.min(axis=0), *points.max(axis=0)]
      )
      mask = one.raster(frame, 112)
      low, extent = frame[:2], frame[2:] - frame[:2]
      scaled = (points - low) / extent
      drawn = coco_mask.frPyObjects([(112 * scaled).ravel().tolist()], 112, 112)
      np.testing.assert_array_equal(mask, coco_mask.decode(drawn)[..., 0])
      small = coco_mask.frPyObjects([(28 * scaled).ravel().tolist()], 28, 28)
      small = coco_mask.decode(small)[..., 0] > 0
      middles = (4 * np.arange(28) + 2).astype(int)
      seen = mask[np.ix_(middles, middles)] > 0
      overlaps.append((small & seen).sum() / (small | seen).sum())
    self.assertGreater(np.mean(overlaps), 0.97)

  def test_runs_are_read_column_by_column(self):
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2] = mask[2, 3:6] = True
    runs = [len(list(g)) for _, g in itertools.groupby(mask.T.reshape(-1))]
    one = outlines.Outline((), np.array(runs, np.float64), (5, 7))
    np.testing.assert_array_equal(one.frame(), [2, 1, 6, 4])
    found = one.raster(one.frame(), 12)
    expected = mask[1:4, 2:6].repeat(4, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(found, expected)


if __name__ == '__main__':
  absltest.main()
