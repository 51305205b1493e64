"""Tests of building ImageNet from archives."""

import hashlib
import itertools
import os
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.imagenet import prepare as imagenet
from input_pipelines.images import decode
from input_pipelines.reading import dataset
from input_pipelines.writing import manifest, recipe
from tests.input_pipelines.imagenet import fake_archives, fake_imagenet


class ArchivesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.enterContext(tempfile.TemporaryDirectory())
    self.downloads = os.path.join(self.root, 'downloads')
    self.data_dir = os.path.join(self.root, 'data')

  def build(self, archives, **order):
    order = {'threads': 2, **order}
    return imagenet.build(
      recipe.Order(self.data_dir, self.downloads, **order), archives
    )

  def archive(self, split):
    return os.path.join(self.downloads, imagenet.ARCHIVES[split].file)

  def examples(self, directory, split):
    """File name -> (label, image)."""
    source = dataset.Split(directory, split)
    rows = [source[i] for i in range(len(source))]
    return {
      row['file_name'].bytes_list.value[0].decode(): (
        row['label'].int64_list.value[0],
        row['image'].bytes_list.value[0],
      )
      for row in rows
    }


class BuildTest(ArchivesTest):
  def test_every_image_is_there_with_the_label_of_its_class(self):
    directory = self.build(fake_archives.write(self.downloads))
    found = self.examples(directory, 'train')
    self.assertLen(found, 22)
    # n01440764 is class 0, n01739381 is 59, n02105855 is 230.
    for folder, label in (
      ('n01440764', 0),
      ('n01739381', 59),
      ('n02105855', 230),
    ):
      for name, image in fake_archives.train()[folder].items():
        self.assertEqual(found[name][0], label)
        if name not in (fake_archives.PNG, fake_archives.CMYK):
          self.assertEqual(found[name][1], image)

  def test_validation_images_have_the_labels_of_their_names_in_order(self):
    directory = self.build(fake_archives.write(self.downloads))
    found = self.examples(directory, 'validation')
    labels = [found[name][0] for name in sorted(found)]
    # The first of the published list, as n01751748, n09193705, n02105855, ...
    self.assertEqual(labels, [65, 970, 230, 809, 516, 57, 334])

  def test_records_are_in_the_order_of_hashes_of_split_and_name(self):
    directory = self.build(fake_archives.write(self.downloads))
    for split, names in (
      ('validation', fake_archives.validation()),
      ('train', itertools.chain(*fake_archives.train().values())),
    ):
      self.assertEqual(
        [*self.examples(directory, split)],
        sorted(
          names,
          key=lambda name, split=split: hashlib.md5(
            f'{split}{name}'.encode(), usedforsecurity=False
          ).digest(),
        ),
      )

  def test_stragglers_become_rgb(self):
    found = self.examples(
      self.build(fake_archives.write(self.downloads)), 'train'
    )
    self.assertNotEqual(found[fake_archives.PNG][1], fake_archives.png())
    png = decode.decode(found[fake_archives.PNG][1]).astype(int)
    error = np.abs(png - fake_imagenet.photo(1))
    self.assertLess(error.mean(), 8)  # one pixel of colour for four
    cmyk = decode.decode(found[fake_archives.CMYK][1]).astype(int)
    picture = 255 - fake_imagenet.photo(2).astype(int)
    self.assertLess(np.abs(cmyk - picture * (255 - 40) / 255).mean(), 8)

  def test_splits_are_described_exactly(self):
    directory = self.build(fake_archives.write(self.downloads))
    splits = dataset.load(directory).info.splits
    self.assertEqual([*splits['train'].shard_lengths], [7, 8, 7])
    self.assertEqual([*splits['validation'].shard_lengths], [2, 3, 2])
    for name, split in splits.items():
      source = dataset.Split(directory, name)
      length = sum(len(source._records[i]) for i in range(len(source)))
      self.assertEqual(split.num_bytes, length)

  def test_the_manifest_is_right_and_says_how_it_was_made(self):
    archives = fake_archives.write(self.downloads)
    directory = self.build(archives)
    manifest.check_sums(directory)
    made = manifest.read(directory)['made']
    self.assertEqual(made['recipe'], 'imagenet2012')
    self.assertEqual(
      made['md5'], {each.file: each.md5 for each in archives.values()}
    )
    self.assertIn('tensorflow-datasets', made['versions'])

  def test_every_jpeg_can_be_changed_on_the_way(self):
    archives = fake_archives.write(self.downloads)
    directory = self.build(archives, change_jpeg=lambda jpeg: jpeg + b'!')
    for _, image in self.examples(directory, 'train').values():
      self.assertEqual(image[-1:], b'!')
      self.assertEqual(image[:2], b'\xff\xd8')

  def test_nothing_is_left_beside_it(self):
    directory = self.build(fake_archives.write(self.downloads))
    self.assertEqual(os.listdir(os.path.dirname(directory)), ['5.1.0'])

  def test_progress_is_told_by_stage(self):
    told = []
    self.build(
      fake_archives.write(self.downloads),
      progress=lambda name, unit: lambda d, w: told.append((name, unit, d, w)),
    )
    size = os.path.getsize(self.archive('train'))
    reading = 'Reading ILSVRC2012_img_train.tar'
    self.assertIn((reading, 'bytes', size, size), told)
    self.assertEqual(told[-1], ('Writing', 'images', 29, 29))


class RefusalTest(ArchivesTest):
  def test_archives_that_are_not_there_are_named(self):
    archives = fake_archives.write(self.downloads)
    os.remove(self.archive('validation'))
    with self.assertRaisesRegex(FileNotFoundError, 'ILSVRC2012_img_val.tar'):
      self.build(archives)
    self.assertFalse(os.path.exists(self.data_dir))

  def test_a_damaged_archive_is_noticed_by_its_checksum(self):
    archives = fake_archives.write(self.downloads)
    with open(self.archive('train'), 'r+b') as file:
      file.seek(5000)
      file.write(b'xxxx')
    with self.assertRaisesRegex(ValueError, 'MD5 .*img_train.tar'):
      self.build(archives)
    self.assertEqual(os.listdir(self.data_dir), [])

  def test_a_truncated_archive_is_noticed_without_checksums(self):
    archives = fake_archives.write(self.downloads)
    size = os.path.getsize(self.archive('train'))
    os.truncate(self.archive('train'), size // 2)
    with self.assertRaisesRegex(ValueError, 'img_train.tar'):
      self.build(archives, check_downloads=False)

  def test_a_wrong_count_is_noticed(self):
    fake_archives.write(self.downloads)
    with self.assertRaisesRegex(
      ValueError, 'Expected 1281167 images in .*train.tar, got 22'
    ):
      self.build(imagenet.ARCHIVES, check_downloads=False)

  def test_what_is_no_tar_is_named(self):
    archives = fake_archives.write(self.downloads)
    with open(self.archive('train'), 'wb') as file:
      file.write(b'not a tar' * 1000)
    with self.assertRaisesRegex(ValueError, 'whole tar archive.*train.tar'):
      self.build(archives, check_downloads=False)

  @parameterized.parameters(b'GIF89a....', b'', b'\xff\xd8\xff\xe0')
  def test_an_image_that_is_none_is_named(self, image):
    of_train = fake_archives.train()
    of_train['n01440764']['n01440764_0.JPEG'] = image
    archives = fake_archives.write(self.downloads, of_train=of_train)
    with self.assertRaisesRegex(ValueError, 'n01440764_0.JPEG in .*train.tar'):
      self.build(archives)

  def test_a_disk_that_is_too_small_is_noticed_before_anything_is_read(self):
    archives = fake_archives.write(self.downloads)
    usage = mock.Mock(free=1000)
    with (
      mock.patch('shutil.disk_usage', return_value=usage),
      mock.patch.object(imagenet.tar, 'index', side_effect=AssertionError),
      self.assertRaisesRegex(OSError, 'GB free'),
    ):
      self.build(archives)

  def test_an_unknown_class_is_refused(self):
    archives = fake_archives.write(
      self.downloads,
      of_train={'n99999999': {'n99999999_1.JPEG': fake_imagenet.jpeg(1)}},
      shards=1,
    )
    with self.assertRaisesRegex(ValueError, 'n99999999'):
      self.build(archives)


class InterruptionTest(ArchivesTest):
  def stop_after(self, images_before):
    """A change of JPEGs that is interrupted after so many."""
    seen = []

    def change(jpeg):
      if len(seen) == images_before:
        raise KeyboardInterrupt
      seen.append(jpeg)
      return jpeg

    change.__qualname__ = 'change'
    return change

  def test_a_stopped_build_goes_on_and_ends_in_the_same_bytes(self):
    archives = fake_archives.write(self.downloads, shards=4)
    changes = [self.stop_after(12), self.stop_after(100)]
    with self.assertRaises(KeyboardInterrupt):
      self.build(archives, threads=1, change_jpeg=changes[0])
    self.assertEqual(
      os.listdir(os.path.join(self.data_dir, 'imagenet2012')),
      ['5.1.0.incomplete'],
    )
    with self.assertRaises(FileNotFoundError):
      dataset.find(self.data_dir, 'imagenet2012')

    told = []
    with mock.patch.object(imagenet.tar, 'index', side_effect=AssertionError):
      directory = self.build(
        archives,
        threads=1,
        change_jpeg=changes[1],
        progress=lambda name, unit: lambda d, w: told.append(d),
      )
    self.assertGreaterEqual(told[0], 10)  # two shards of 5 or 6 were whole
    once = os.path.join(self.root, 'once')
    at_once = imagenet.build(
      recipe.Order(once, self.downloads, change_jpeg=self.stop_after(100)),
      archives,
    )
    self.assertEqual(self.contents(directory), self.contents(at_once))

  def test_going_on_otherwise_is_refused(self):
    archives = fake_archives.write(self.downloads, shards=4)
    with self.assertRaises(KeyboardInterrupt):
      self.build(archives, threads=1, change_jpeg=self.stop_after(12))
    with self.assertRaisesRegex(ValueError, 'options differ'):
      self.build(archives)
    os.utime(self.archive('train'))
    with self.assertRaisesRegex(ValueError, 'source differ'):
      self.build(archives, change_jpeg=self.stop_after(100))

  def contents(self, directory):
    found = {}
    for name in os.listdir(directory):
      with open(os.path.join(directory, name), 'rb') as file:
        found[name] = file.read()
    return found


class RealArchivesTest(absltest.TestCase):
  def test_the_numbers_are_those_of_the_publishers_and_of_tfds(self):
    self.assertEqual(
      [(a.images, a.shards) for a in imagenet.ARCHIVES.values()],
      [(1281167, 1024), (50000, 64)],
    )

  def test_tfds_would_choose_as_many_shards(self):
    from tensorflow_datasets.core.utils import shard_utils

    # The archives' sizes, as published; a tar adds about 1 KB an image.
    for archive, size in (('train', 147897477120), ('validation', 6744924160)):
      of = imagenet.ARCHIVES[archive]
      size -= 1000 * of.images
      self.assertEqual(
        shard_utils.ShardConfig.calculate_number_shards(size, of.images),
        of.shards,
      )


class CheckTest(absltest.TestCase):
  def test_labels_names_and_pixels_are_checked(self):
    directory = fake_imagenet.write(
      self.enterContext(tempfile.TemporaryDirectory()), {'train': 3}
    )
    features = dataset.Split(directory, 'train')[2]
    imagenet.check(features)
    with self.assertRaisesRegex(ValueError, r'label in \[0, 2\), got \[2\]'):
      imagenet.check(features, classes=2)
    features['image'].bytes_list.value[0] = b'\xff\xd8nothing'
    with self.assertRaises(ValueError):
      imagenet.check(features)


if __name__ == '__main__':
  absltest.main()
