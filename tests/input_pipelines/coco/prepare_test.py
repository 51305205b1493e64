"""Tests of COCO's preparation, from small files like the official ones."""

import json
import os
import zipfile

from absl.testing import absltest, parameterized
import numpy as np
import tensorflow_datasets as tfds

from input_pipelines import coco
from input_pipelines.coco import annotations, prepare, read
from input_pipelines.reading import dataset
from input_pipelines.writing import recipe, verify
from tests.input_pipelines.coco import fake_coco

COUNTS = {'train': 22, 'validation': 6}


class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.downloads = os.path.join(self.folder, 'downloads', 'some', 'where')
    self.archives = fake_coco.write_zips(self.downloads, COUNTS)
    self.told = []
    self.order = recipe.Order(
      os.path.join(self.folder, 'data'),
      os.path.join(self.folder, 'downloads'),
      progress=lambda name, unit: (
        lambda done, whole: self.told.append((name, unit, done, whole))
      ),
    )

  def build(self):
    images, labels = self.archives
    return prepare.build(self.order, images=images, labels=labels)

  def test_records_hold_all_that_the_annotations_say(self):
    directory = self.build()
    self.assertEqual(directory, f'{self.order.data_dir}/coco2017/1.0.0')
    self.assertEqual(verify.records(directory, COUNTS, prepare.check), 28)
    truth = fake_coco.instances(COUNTS['train'])
    images = {each['id']: each for each in truth['images']}
    seen = []
    for record in dataset.Split(directory, 'train'):
      photo = read.Photo.of(record)
      expected = [x for x in truth['annotations'] if x['image_id'] == photo.id]
      image = images[photo.id]
      seen.append((photo.id, bool(expected)))
      self.assertEqual(photo.size, (image['height'], image['width']))
      number = (photo.id - 100_000) // 9
      self.assertEqual(photo.jpeg, fake_coco.photo(number))
      found = photo.objects(record)
      np.testing.assert_array_equal(
        found.box, np.reshape([x['bbox'] for x in expected], (-1, 4))
      )
      self.assertEqual(found.area.tolist(), [x['area'] for x in expected])
      self.assertEqual(found.crowd.tolist(), [x['iscrowd'] for x in expected])
      ids = [each['id'] for each in fake_coco.CATEGORIES]
      self.assertEqual(
        photo.labels.tolist(),
        [1 + ids.index(x['category_id']) for x in expected],
      )
      self.assertEqual(
        list(record['objects/id'].int64_list.value), [x['id'] for x in expected]
      )
      self.assertEqual(
        list(record['objects/area'].int64_list.value),
        [int(x['area']) for x in expected],
      )
      np.testing.assert_allclose(
        photo.boxes * np.tile(photo.size[::-1], 2),
        np.reshape([corners(*x['bbox']) for x in expected], (-1, 4)),
        rtol=1e-5,
      )  # fmt: skip
      self.assertEqual(
        outlines(record),
        [
          x['segmentation']['counts'] if x['iscrowd'] else x['segmentation']
          for x in expected
        ],
      )
    # Every photo once, those without objects last.
    self.assertCountEqual([each for each, _ in seen], images)
    filled = [has for _, has in seen]
    self.assertEqual(filled, sorted(filled, reverse=True))
    self.assertEqual(sum(filled), fake_coco.with_objects(COUNTS['train']))
    self.assertLen(read.slice_with_objects(directory, 'train'), sum(filled))

  def test_features_are_those_of_tfds_and_more(self):
    """Its coco/2017, version 1.1.0, in object_detection/coco.py."""
    found = dataset.load(self.build()).info.features
    self.assertIsInstance(found['image'], tfds.features.Image)
    objects = found['objects'].feature
    self.assertEqual(
      {name: np.dtype(each.np_dtype) for name, each in objects.items()},
      {
        'area': np.int64, 'bbox': np.float32, 'id': np.int64,
        'is_crowd': np.bool_, 'label': np.int64,
      },
    )  # fmt: skip
    self.assertEqual(objects['label'].names, ['person', 'car', 'cat'])
    self.assertEqual(found['image/id'].np_dtype, np.int64)

  def test_it_resumes_and_checks_no_file_twice(self):
    images, _ = self.archives
    path = os.path.join(self.downloads, images['validation'].file)
    with zipfile.ZipFile(path, 'a') as archive:
      lost = archive.namelist()[-1]
    os.rename(path, f'{path}.whole')
    with (
      zipfile.ZipFile(f'{path}.whole') as whole,
      zipfile.ZipFile(path, 'w') as cut,
    ):
      for name in whole.namelist():
        cut.writestr(name, b'' if name == lost else whole.read(name))
    images['validation'] = fake_coco.archive_of(path)
    with self.assertRaisesRegex(ValueError, os.path.basename(lost)):
      self.build()
    left = os.listdir(f'{self.order.data_dir}/coco2017/1.0.0.incomplete/done')
    self.assertIn('train2017.zip', left)
    self.assertFalse(os.path.exists(f'{self.order.data_dir}/coco2017/1.0.0'))
    self.told.clear()
    with self.assertRaisesRegex(ValueError, os.path.basename(lost)):
      self.build()
    stages = {name for name, *_ in self.told}
    self.assertEmpty({each for each in stages if 'Checking' in each})
    self.assertIn('Writing', stages)

  def test_progress_is_told_by_stage(self):
    self.build()
    size = os.path.getsize(os.path.join(self.downloads, 'train2017.zip'))
    self.assertIn(('Checking train2017.zip', 'bytes', size, size), self.told)
    self.assertEqual(self.told[-1], ('Writing', 'images', 28, 28))

  def test_a_damaged_file_is_noticed_by_its_checksum(self):
    path = os.path.join(self.downloads, 'val2017.zip')
    with open(path, 'r+b') as file:
      file.seek(200)
      file.write(b'xxxx')
    with self.assertRaisesRegex(ValueError, 'SHA-256 .*val2017.zip, got'):
      self.build()

  def test_files_that_are_not_there_are_named(self):
    os.remove(os.path.join(self.downloads, 'train2017.zip'))
    with self.assertRaisesRegex(FileNotFoundError, 'train2017.zip below'):
      self.build()

  def test_a_data_set_with_other_counts_is_no_coco(self):
    with self.assertRaisesRegex(ValueError, '118287 examples'):
      read.verify(
        self.build(),
        images=coco.IMAGES,
        with_objects=coco.WITH_OBJECTS,
        classes=coco.CLASSES,
      )

  def test_sums_and_counts_are_those_that_are_published(self):
    """Of TFDS's list of files, and of the page of COCO."""
    path = tfds.core.tfds_path('url_checksums/coco.txt')
    known = {line.split()[-1]: line.split()[2]
             for line in path.read_text().splitlines()}  # fmt: skip
    for archive in (*prepare.IMAGES.values(), prepare.ANNOTATIONS):
      self.assertEqual(archive.sha256, known[archive.file])
    self.assertEqual(
      (coco.IMAGES, coco.WITH_OBJECTS, coco.CLASSES),
      (
        {'train': 118_287, 'validation': 5000},
        {'train': 117_266, 'validation': 4952},
        80,
      ),
    )


def corners(x, y, width, height):
  return x, y, x + width, y + height


def outlines(record):
  """Polygons of each object, or its runs, from a record."""
  numbers, sizes, polygons = (
    np.frombuffer(b''.join(record[name].bytes_list.value), dtype)
    for name, dtype in (
      ('outlines', '<f8'), ('outline_sizes', '<i4'), ('polygons', '<i4')
    )
  )  # fmt: skip
  pieces = iter(np.split(numbers, np.cumsum(sizes)[:-1]))
  return [
    [next(pieces).tolist() for _ in range(count)]
    if count
    else next(pieces).tolist()
    for count in polygons
  ]


class AnnotationsTest(parameterized.TestCase):
  @parameterized.parameters(
    ('annotations', 'category_id', 2, 'KeyError'),
    ('annotations', 'image_id', 5, 'object 1000 of no image'),
    ('annotations', 'bbox', [1, 2, 3], 'object 1000: a box'),
    ('annotations', 'segmentation', {'counts': [3]}, 'not the runs of'),
    ('annotations', 'segmentation', {'counts': 'Q0'}, 'could not convert'),
    ('images', 'id', 100_000, 'two images of one id'),
    ('images', 'height', None, 'TypeError'),
  )
  def test_faults_are_named(self, part, key, value, message):
    found = fake_coco.instances(6)
    found[part][0][key] = value
    with self.assertRaisesRegex(ValueError, message):
      annotations.parse(json.dumps(found).encode())

  def test_what_is_no_json_is_refused(self):
    with self.assertRaisesRegex(ValueError, "Expected COCO's annotations"):
      annotations.parse(b'{"images": ')


if __name__ == '__main__':
  absltest.main()
