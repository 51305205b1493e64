"""Tests of KiTS19's preparation, with the reference's files as the witness."""

import hashlib
import os
import shutil
from unittest import mock

from absl.testing import absltest, parameterized
import nibabel
import numpy as np
import pytest

from input_pipelines.kits19 import EVAL_CASES, prepare, read, resample
from input_pipelines.reading import dataset, mapped
from input_pipelines.writing import recipe, verify
from tests.input_pipelines.kits19 import fake_cases

# MD5 of the files that preprocess_dataset.py of the reference (mlcommons/
# training, retired_benchmarks/unet3d/pytorch) writes of these cases, with a
# least shape of 8 voxels a side: seed, shape, spacing, image, label.
_OF_REFERENCE = (
  (0, (7, 12, 11), (2.0, 1.0, 1.25),
   '9f261ef1f679f6f11105a0e9a56bb7c6', '34f426d5ab0a230681a8760547337e34'),
  (1, (3, 20, 9), (1.6, 1.2, 1.2),
   'd15dc5b716f86f1eb66f192aff4898a5', 'e02959355fb09dcf7b1e4f73098357f7'),
  (2, (13, 9, 15), (0.75, 0.8, 1.9),
   '42cf27f4bb670cb60d74598706784fe3', '28a4066564864b1fa6080a8189d99404'),
)  # fmt: skip


class ReferenceTest(parameterized.TestCase):
  @parameterized.parameters(*_OF_REFERENCE)
  def test_files_are_those_of_the_reference_byte_for_byte(
    self, seed, shape, spacing, *expected
  ):
    folder = self.create_tempdir().full_path
    case = fake_cases.write_case(
      folder, 'case_00000', *fake_cases.random(seed, shape, spacing)
    )
    arrays = prepare.prepared(
      *prepare.load(case), prepare.Preparation(side=fake_cases.SIDE)
    )
    found = []
    for array in arrays:
      path = os.path.join(folder, 'array.npy')
      np.save(path, array[None])
      with open(path, 'rb') as file:
        found.append(hashlib.md5(file.read()).hexdigest())
    self.assertEqual(found, [*expected])

  @parameterized.parameters(
    ((20, 31, 17), (33, 25, 40)), ((5, 6, 7), (1, 6, 3)), ((9, 9, 9), (9, 4, 9))
  )
  def test_resampling_is_pytorchs_bit_for_bit(self, shape, wanted):
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    image = rng.normal(0, 300, shape).astype(np.float32)
    label = rng.integers(0, 3, shape).astype(np.uint8)
    for array, ours, how in (
      (image, resample.trilinear,
       {'mode': 'trilinear', 'align_corners': True}),
      (label, resample.nearest, {'mode': 'nearest'}),
    ):  # fmt: skip
      theirs = torch.nn.functional.interpolate(
        torch.tensor(array)[None, None], size=wanted, **how
      )
      np.testing.assert_array_equal(ours(array, wanted), theirs[0, 0].numpy())

  def test_published_sums_are_of_two_files_of_each_case(self):
    sums = prepare.published()
    names = {
      f'{prepare.name_of(number)}_{kind}.npy'
      for number in range(210)
      for kind in 'xy'
    }
    self.assertEqual({*sums}, names)
    self.assertLen({*sums.values()}, 420)
    self.assertEqual({len(each) for each in sums.values()}, {32})


class StepsTest(absltest.TestCase):
  def prepared(self, image, label=None, spacing=(1.6, 1.2, 1.2), side=1):
    image = np.asarray(image, np.float32)
    label = np.zeros(image.shape, np.uint8) if label is None else label
    how = prepare.Preparation(side=side)
    return prepare.prepared(image, label, spacing, how)

  def test_intensities_are_cut_off_and_normalised(self):
    image, _ = self.prepared([[[-500.0, -79.0, 101.0, 304.0, 900.0]]])
    least, most = (-79 - 101) / 76.9, (304 - 101) / 76.9
    np.testing.assert_allclose(
      image[0, 0], [least, least, 0, most, most], rtol=1e-6
    )

  def test_the_number_of_voxels_is_rounded_down(self):
    # 2.39 of 1.6 mm, 5.83 and 4.16 of 1.2 mm.
    image, label = self.prepared(np.zeros((5, 7, 5)), spacing=(0.765, 1, 1))
    self.assertEqual(image.shape, (2, 5, 4))
    self.assertEqual(label.shape, (2, 5, 4))

  def test_small_volumes_are_padded_with_their_edges(self):
    image, label = self.prepared(
      np.full((1, 2, 4), 101.0), np.arange(8).reshape(1, 2, 4) % 3, side=5
    )
    self.assertEqual(image.shape, (5, 5, 5))
    # 3 more rows: one in front, two behind.
    np.testing.assert_array_equal(label[0, :, 0], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(label[4, 1], [0, 1, 2, 0, 0])

  def test_boxes_are_around_the_two_largest_pieces_of_a_class(self):
    label = np.zeros((20, 14, 17), np.uint8)
    label[2:6, 3:6, 2:5] = 1
    label[10:20, 4:12, 9:17] = 1
    label[0, 0, 0] = 1  # a third one
    label[7, 7, 7] = 2
    label[8, 8, 8] = 2  # joined by a corner alone: another piece
    expected = (
      [1, 2, 3, 2, 6, 6, 5], [1, 10, 4, 9, 20, 12, 17],
      [2, 7, 7, 7, 8, 8, 8], [2, 8, 8, 8, 9, 9, 9],
    )  # fmt: skip
    self.assertEqual(prepare.boxes(label), [*np.ravel(expected)])
    self.assertEqual(prepare.boxes(0 * label), [])


class BuildTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.enter_context(
      mock.patch.multiple(prepare, CASES=4, EVAL_CASES=(1,), BYTES=0)
    )
    for number in range(4):
      fake_cases.write_case(
        os.path.join(self.folder, 'downloads', 'kits19', 'data'),
        prepare.name_of(number),
        *fake_cases.random(number),
      )
    self.order = recipe.Order(
      os.path.join(self.folder, 'data'), os.path.join(self.folder, 'downloads')
    )

  def build(self, md5=None):
    return prepare.build(self.order, md5=md5 or {})

  def test_cases_are_held_out_by_their_number(self):
    directory = self.build()
    splits = {'train': 3, 'validation': 1}
    read.verify(directory, splits=splits, side=128)
    self.assertEqual(verify.records(directory, splits, prepare.check), 4)
    cases = {
      split: [volume.case for volume in read.load(directory, split)]
      for split in splits
    }
    self.assertEqual(cases['validation'], ['case_00001'])
    self.assertEqual(cases['train'], ['case_00000', 'case_00002', 'case_00003'])
    self.assertLen(EVAL_CASES, 42)

  def test_it_resumes_and_keeps_the_cases_that_are_done(self):
    damaged = os.path.join(
      self.order.downloads, 'kits19/data/case_00003', prepare.FILES[1]
    )
    shutil.copy(damaged, f'{damaged}.whole')
    with open(damaged, 'r+b') as file:
      file.truncate(100)
    with self.assertRaisesRegex(ValueError, 'NIfTI files of case_00003'):
      self.build()
    done = os.listdir(os.path.join(
      self.order.data_dir, 'kits19', '1.0.0.incomplete', 'done'
    ))  # fmt: skip
    self.assertNotIn('case_00003.json', done)
    self.assertNotEmpty(done)
    os.replace(f'{damaged}.whole', damaged)
    prepared = prepare.prepared
    with mock.patch.object(prepare, 'prepared', side_effect=prepared) as again:
      self.assertLen(read.load(self.build(), 'train'), 3)
    self.assertEqual(again.call_count, 4 - len(done))

  def test_labels_of_other_cases_are_refused_and_images_counted(self):
    with self.assertRaisesRegex(ValueError, 'MD5 0+ of the labels of case_00'):
      self.build({'case_00000_y.npy': 32 * '0'})
    sums = {f'case_0000{n}_x.npy': 32 * '0' for n in range(4)}
    directory = self.build(sums)
    with open(os.path.join(directory, 'manifest.json')) as file:
      self.assertIn('"images_as_published": "0 of 4"', file.read())

  def test_missing_cases_are_named(self):
    shutil.rmtree(os.path.join(self.order.downloads, 'kits19/data/case_00002'))
    with self.assertRaisesRegex(FileNotFoundError, 'none of 1, as case_00002'):
      self.build()

  def test_a_label_of_another_shape_or_class_is_refused(self):
    image, label, spacing = fake_cases.random(0)
    for wrong, message in (
      (label[:-1], 'of one shape of odd'), (label + 2, 'classes below 3 .* 4')
    ):  # fmt: skip
      folder = self.create_tempdir().full_path
      case = fake_cases.write_case(folder, 'odd', image, wrong, spacing)
      with self.assertRaisesRegex(ValueError, message):
        prepare.load(case)

  def test_values_in_the_file_are_scaled_as_its_header_says(self):
    folder = self.create_tempdir().full_path
    image, label, spacing = fake_cases.random(0)
    case = fake_cases.write_case(folder, 'scaled', image, label, spacing)
    scaled = nibabel.Nifti1Image(image, np.diag([*spacing, 1.0]))
    scaled.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(scaled, case.image)
    stored = np.asarray(nibabel.load(case.image).dataobj)
    np.testing.assert_array_equal(prepare.load(case)[0], stored)


class FaultsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = fake_cases.write(
      self.create_tempdir().full_path, train=2, validation=1
    )

  def verify(self, side=fake_cases.SIDE, **splits):
    splits = {'train': 2, 'validation': 1, **splits}
    read.verify(self.directory, splits=splits, side=side)

  def path(self, case=0, kind=read.IMAGE):
    return mapped.path_of(self.directory, prepare.name_of(case), kind)

  def test_a_whole_data_set_is_accepted(self):
    self.verify()
    self.assertEqual(
      read.shapes(self.directory, 'validation'),
      [v.image.shape for v in read.load(self.directory, 'validation')],
    )

  def test_a_missing_or_short_volume_is_refused_before_it_is_read(self):
    os.remove(os.path.join(self.directory, 'manifest.json'))
    with open(self.path(), 'r+b') as file:
      file.truncate(200)
    with self.assertRaisesRegex(ValueError, r'3 files \*_x.npy of \d+ bytes'):
      self.verify()
    os.remove(self.path(kind=read.LABEL))
    os.remove(self.path())
    with self.assertRaisesRegex(ValueError, r'3 files .* got 2'):
      self.verify()

  def test_volumes_for_smaller_crops_are_refused(self):
    with self.assertRaisesRegex(ValueError, '16 voxels or more .* got 8'):
      self.verify(side=16)

  def test_another_number_of_volumes_is_refused(self):
    with self.assertRaisesRegex(ValueError, "3 examples in the split 'train'"):
      self.verify(train=3)

  def test_a_volume_of_another_shape_is_refused_with_its_record(self):
    np.save(self.path(1), np.zeros((1, 8, 8, 8), np.float32))
    with self.assertRaisesRegex(
      dataset.CorruptRecordError,
      "Record 1 .*'train'.* Expected float32 of the shape .* got float32",
    ):
      read.load(self.directory, 'train')

  def test_a_box_outside_of_its_volume_is_refused(self):
    record = dataset.Split(self.directory, 'train')[0]
    prepare.check(record)
    record['boxes'].int64_list.value[4] = 99
    with self.assertRaisesRegex(ValueError, 'is not in a volume of'):
      prepare.check(record)
    del record['boxes'].int64_list.value[-1]
    with self.assertRaisesRegex(ValueError, 'numbers of boxes'):
      prepare.check(record)

  def test_a_bucket_is_refused_in_words(self):
    with self.assertRaisesRegex(ValueError, 'copy the directory'):
      read.verify('gs://bucket/kits19/1.0.0', splits={}, side=8)


if __name__ == '__main__':
  absltest.main()
