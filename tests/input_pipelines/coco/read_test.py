"""Tests of batches of COCO's schema."""

import io

from absl.testing import absltest, parameterized
import numpy as np
from PIL import Image

from input_pipelines.coco import prepare, read, sampled_crop
from input_pipelines.reading import dataset
from tests import session
from tests.input_pipelines.coco import fake_coco

HOW = read.Preprocessing(
  24, 6, sampled_crop.Augmentation(2, 0.5, 0.125, 0.5, 0.5, 0.05)
)
TRAIN, VALIDATION = 22, 10


def _directory():
  folder = session.once(
    'coco_photos',
    lambda folder: fake_coco.write(folder, train=TRAIN, validation=VALIDATION),
  )
  return f'{folder}/{fake_coco.NAME}/{prepare.VERSION}'


def _train(seed=3, **how):
  return read.train_batches(
    read.slice_with_objects(_directory(), 'train'),
    preprocessing=HOW,
    seed=seed,
    batch_size=8,
    **how,
  )


def _evaluation(**how):
  return list(
    read.eval_batches(
      read.slice_with_objects(_directory(), 'validation'),
      preprocessing=HOW,
      batch_size=4,
      **how,
    )
  )


class TrainTest(absltest.TestCase):
  def test_batches_have_padded_objects(self):
    batch = next(_train())
    self.assertEqual(
      {name: (each.shape, each.dtype.name) for name, each in batch.items()},
      {
        'image': ((8, 24, 24, 3), 'uint8'),
        'boxes': ((8, 6, 4), 'float32'),
        'labels': ((8, 6), 'int32'),
        'weight': ((8,), 'float32'),
      },
    )
    real = batch['labels'] > 0
    self.assertTrue(real[:, 0].all())  # none is without objects
    self.assertEqual(batch['labels'].max(), 3)
    self.assertFalse(batch['boxes'][~real].any())
    np.testing.assert_array_equal(
      batch['boxes'][real][:, 2:] >= batch['boxes'][real][:, :2], True
    )

  def test_a_row_depends_on_seed_and_place_alone(self):
    whole = [batch for batch, _ in zip(_train(), range(5), strict=False)]
    (late,) = (
      batch for batch, _ in zip(_train(first_step=4), 'a', strict=False)
    )
    for hosts in (2, 4):
      parts = [
        next(_train(host=host, hosts=hosts, first_step=4))
        for host in range(hosts)
      ]
      for name, rows in whole[4].items():
        np.testing.assert_array_equal(rows, late[name])
        shared = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(rows, shared)
    other = next(_train(seed=4))
    self.assertTrue((other['image'] != whole[0]['image']).any())

  def test_an_image_is_another_in_the_next_epoch(self):
    steps = fake_coco.with_objects(TRAIN)  # of eight rows: eight epochs
    batches = [batch for batch, _ in zip(_train(), range(steps), strict=False)]
    rows = {image.tobytes() for batch in batches for image in batch['image']}
    self.assertLen(rows, 8 * steps)

  def test_more_objects_than_there_is_room_for_are_an_error(self):
    how = read.Preprocessing(24, 1, HOW.augmentation)
    split = read.slice_with_objects(_directory(), 'train')
    batches = read.train_batches(split, preprocessing=how, seed=1, batch_size=8)
    with self.assertRaisesRegex(
      dataset.CorruptRecordError, 'Expected 1 objects, got'
    ):
      next(batches)


class EvalTest(absltest.TestCase):
  def test_each_photo_with_objects_is_seen_once_as_it_is(self):
    found = {}
    for batch in _evaluation():
      for row in np.flatnonzero(batch['weight']):
        self.assertNotIn(int(batch['id'][row]), found)
        found[int(batch['id'][row])] = batch['image'][row], batch['size'][row]
    numbers = [n for n in range(VALIDATION) if n % 4 != 3]
    self.assertCountEqual(found, map(fake_coco.id_of, numbers))
    for number in numbers:
      image, size = found[fake_coco.id_of(number)]
      self.assertEqual(tuple(size), fake_coco.size(number)[::-1])
      photo = Image.open(io.BytesIO(fake_coco.photo(number))).convert('RGB')
      np.testing.assert_array_equal(
        image, photo.resize((24, 24), Image.Resampling.BILINEAR)
      )

  def test_hosts_share_the_photos(self):
    alone = np.concatenate([batch['id'] for batch in _evaluation()])
    parts = [_evaluation(host=host, hosts=2) for host in range(2)]
    shared = np.concatenate(
      [each['id'] for pair in zip(*parts, strict=True) for each in pair]
    )
    np.testing.assert_array_equal(shared, alone)

  def test_the_truth_is_that_of_the_annotations(self):
    found = read.ground_truth(dataset.Split(_directory(), 'validation'))
    expected = fake_coco.instances(VALIDATION)['annotations']
    ids = [each['id'] for each in fake_coco.CATEGORIES]
    self.assertCountEqual(
      zip(
        found.image.tolist(), found.label.tolist(),
        map(tuple, found.box.tolist()), found.area.tolist(),
        found.crowd.tolist(), strict=True,
      ),
      [
        (
          x['image_id'], 1 + ids.index(x['category_id']), tuple(x['bbox']),
          x['area'], bool(x['iscrowd']),
        )
        for x in expected
      ],
    )  # fmt: skip


class FaultsTest(parameterized.TestCase):
  def record(self):
    return dataset.Split(_directory(), 'train')[1]

  @parameterized.parameters(
    ('objects/bbox', 'float_list', 'numbers of boxes'),
    ('boxes', 'bytes_list', "'boxes'"),
    ('areas', 'bytes_list', "'areas'"),
    ('outlines', 'bytes_list', "'outlines'"),
    ('objects/is_crowd', 'int64_list', 'flags of crowds'),
    ('image/height', 'int64_list', "'image/height'"),
  )
  def test_a_record_that_lacks_something_is_refused(self, name, kind, message):
    record = self.record()
    prepare.check(record)
    getattr(record[name], kind).value.pop()
    with self.assertRaisesRegex(ValueError, message):
      prepare.check(record)

  def test_a_photo_that_ends_early_or_has_another_size_is_refused(self):
    record = self.record()
    jpeg = record['image'].bytes_list.value[0]
    record['image'].bytes_list.value[0] = jpeg[: len(jpeg) // 2]
    with self.assertRaisesRegex(ValueError, 'a whole JPEG, got'):
      prepare.check(record)
    record['image'].bytes_list.value[0] = b'GIF'
    with self.assertRaisesRegex(ValueError, 'a whole JPEG, got'):
      prepare.check(record)
    record['image'].bytes_list.value[0] = fake_coco.photo(50)
    with self.assertRaisesRegex(ValueError, r'image of \(\d+, \d+\), height'):
      prepare.check(record)

  @parameterized.parameters(
    ({'with_objects': {'train': 3}}, "3 images with objects in 'train'"),
    ({'classes': 4}, '4 classes in .*, got 3'),
    ({'most_boxes': 3}, 'most_boxes of 4 or more'),
    ({'images': {'train': 21}}, '21 examples'),
  )
  def test_another_data_set_is_refused(self, changes, message):
    how = {
      'with_objects': {
        'train': fake_coco.with_objects(TRAIN),
        'validation': fake_coco.with_objects(VALIDATION),
      },
      'classes': 3,
      'most_boxes': 4,
    }
    read.verify(_directory(), **how)
    with self.assertRaisesRegex(ValueError, message):
      read.verify(_directory(), **{**how, **changes})


if __name__ == '__main__':
  absltest.main()
