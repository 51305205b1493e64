"""Tests of crops: their distribution, what is done to them, their order."""

import dataclasses

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.kits19 import prepare, read, windows
from input_pipelines.reading import batching
from tests.input_pipelines.kits19 import fake_cases

PLAIN = read.Cropping(
  side=8,
  oversampling=0.4,
  flip=0.0,
  scale=0.0,
  scale_by=(0.7, 1.3),
  noise=0.0,
  noise_deviation=0.1,
)
# How often a crop of 8 voxels a side begins at each place of each axis, of
# 40,000 that RandBalancedCrop of the reference (data_loading/pytorch_loader.py)
# drew of the volume below.
_OF_REFERENCE = (
  (0.0990, 0.1055, 0.1050, 0.0778, 0.0749, 0.0776, 0.0798, 0.0783, 0.0504,
   0.0512, 0.1003, 0.1002),
  (0.1404, 0.1465, 0.1472, 0.1524, 0.2278, 0.1297, 0.0560),
  (0.1260, 0.1144, 0.1149, 0.0965, 0.0974, 0.0942, 0.0940, 0.0925, 0.0689,
   0.1010),
)  # fmt: skip


def volume(label, image=None) -> read.Volume:
  """A volume with the boxes of its label."""
  numbers = np.reshape(prepare.boxes(label), (-1, 7)).tolist()
  boxes = tuple(read.Box(n[0], tuple(n[1:4]), tuple(n[4:])) for n in numbers)
  if image is None:
    image = np.arange(label.size, dtype=np.float32).reshape(label.shape)
  return read.Volume('case', image, label, boxes)


def _two_classes():
  label = np.zeros((20, 14, 17), np.uint8)
  label[2:6, 3:6, 2:5] = 1
  label[10:20, 4:12, 9:17] = 1  # longer than a crop, and at the end
  label[0, 0, 0] = 1
  label[7, 7, 7] = 2
  return volume(label)


class CroppingTest(parameterized.TestCase):
  def test_crops_begin_where_those_of_the_reference_do(self):
    found, rng = _two_classes(), np.random.default_rng(0)
    corners = np.array([PLAIN.corner(found, rng) for _ in range(20_000)])
    for axis, expected in enumerate(_OF_REFERENCE):
      often = np.bincount(corners[:, axis], minlength=len(expected)) / 20_000
      # Six deviations of the difference of two such shares, 0.0026 each.
      np.testing.assert_allclose(often, expected, atol=0.016)

  def test_without_foreground_a_crop_may_be_anywhere_but_in_the_last_place(
    self,
  ):
    empty, rng = (
      volume(np.zeros((10, 8, 9), np.uint8)),
      np.random.default_rng(1),
    )
    always = dataclasses.replace(PLAIN, oversampling=1.0)
    corners = np.array([always.corner(empty, rng) for _ in range(100)])
    self.assertEqual(corners.min(axis=0).tolist(), [0, 0, 0])
    self.assertEqual(corners.max(axis=0).tolist(), [1, 0, 0])

  def test_a_rare_class_is_as_likely_as_a_large_one(self):
    found, rng = _two_classes(), np.random.default_rng(2)
    always = dataclasses.replace(PLAIN, oversampling=1.0)
    rare = 0
    for _ in range(2000):
      cut = tuple(slice(c, c + 8) for c in always.corner(found, rng))
      rare += (found.label[cut] == 2).any()
    # Half of the crops are around it, and some of the others have it too.
    self.assertBetween(rare / 2000, 0.5, 0.8)

  def filled(self, cropping, seed=0, found=None):
    found = found or _two_classes()
    image = np.zeros((8, 8, 8), np.float32)
    label = np.zeros((8, 8, 8), np.uint8)
    cropping.fill(found, np.random.default_rng(seed), image, label)
    return image, label

  def test_image_and_label_are_of_the_same_voxels_mirrored_or_not(self):
    found, mirrored = _two_classes(), np.zeros(3)
    flipping = dataclasses.replace(PLAIN, flip=1 / 3)
    for seed in range(600):
      image, label = self.filled(flipping, seed)
      voxels = image.astype(int)  # their numbers
      np.testing.assert_array_equal(label, found.label.ravel()[voxels])
      for axis in range(3):
        steps = np.unique(np.diff(voxels, axis=axis))
        self.assertLen(steps, 1)
        mirrored[axis] += steps[0] < 0
    np.testing.assert_allclose(mirrored / 600, 1 / 3, atol=0.08)

  def test_an_image_is_scaled_by_one_more_than_is_drawn(self):
    always = dataclasses.replace(PLAIN, scale=1.0)
    flat = volume(np.zeros((8, 8, 8), np.uint8), np.ones((8, 8, 8), np.float32))
    drawn = [self.filled(always, seed, flat)[0] for seed in range(300)]
    factors = np.array([image.flat[0] for image in drawn])
    np.testing.assert_allclose([np.ptp(i) for i in drawn], 0)
    self.assertBetween(factors.min(), 1.7, 1.72)
    self.assertBetween(factors.max(), 2.28, 2.3)
    self.assertAlmostEqual(factors.mean(), 2.0, delta=0.04)

  def test_noise_has_a_deviation_of_its_own_for_each_crop(self):
    always = dataclasses.replace(PLAIN, noise=1.0)
    flat = volume(np.zeros((8, 8, 8), np.uint8), np.ones((8, 8, 8), np.float32))
    drawn = [self.filled(always, seed, flat)[0] for seed in range(300)]
    deviations = np.array([image.std() for image in drawn])
    self.assertLess(deviations.max(), 0.11)
    self.assertAlmostEqual(deviations.mean(), 0.05, delta=0.006)
    self.assertAlmostEqual(np.mean(drawn), 1, delta=0.001)

  def test_scale_and_noise_come_in_a_tenth_of_the_crops(self):
    both = dataclasses.replace(PLAIN, scale=0.1, noise=0.1)
    flat = volume(np.zeros((8, 8, 8), np.uint8), np.ones((8, 8, 8), np.float32))
    drawn = [self.filled(both, seed, flat)[0] for seed in range(2000)]
    scaled = np.mean([image.mean() > 1.5 for image in drawn])
    noisy = np.mean([np.ptp(image) > 0 for image in drawn])
    np.testing.assert_allclose([scaled, noisy], 0.1, atol=0.03)


class BatchesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    directory = fake_cases.write(
      self.create_tempdir().full_path, train=5, validation=2
    )
    self.volumes = read.load(directory, 'train')
    self.held_out = read.load(directory, 'validation')

  def stream(self, count, **how):
    how = {'batch_size': 4, 'seed': 3, 'last': 'padded', 'threads': 0, **how}
    batches = read.train_batches(
      self.volumes,
      dataclasses.replace(PLAIN, flip=1 / 3, scale=0.1, noise=0.1),
      **how,
    )
    return [next(batches) for _ in range(count)]

  def same(self, found, expected):
    for ours, theirs in zip(found, expected, strict=True):
      for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)

  def test_a_stream_resumes_in_the_middle_with_any_threads(self):
    whole = self.stream(6)
    self.same(self.stream(3, first_step=3, threads=2), whole[3:])

  def test_hosts_side_by_side_read_what_one_host_reads(self):
    parts = [self.stream(4, host=host, hosts=2) for host in range(2)]
    joined = [
      {name: np.concatenate([each[name] for each in pair]) for name in pair[0]}
      for pair in zip(*parts, strict=True)
    ]
    self.same(joined, self.stream(4))

  def test_padding_is_zero_and_two_epochs_have_other_crops(self):
    first, second, third, _ = self.stream(4)
    self.assertEqual(second['weight'].tolist(), [1, 0, 0, 0])
    self.assertEqual(np.abs(second['image'][1:]).max(), 0)
    self.assertEqual(first['image'].dtype, np.float32)
    self.assertEqual(first['label'].dtype, np.uint8)
    self.assertFalse(np.array_equal(first['image'], third['image']))

  def test_windows_hold_the_volume_and_a_frame_of_minus_2_2(self):
    shapes = [v.image.shape for v in self.held_out]
    lanes = windows.Lanes(shapes, side=8, lanes=2, batch_size=4)
    found = list(read.eval_batches(self.held_out, lanes, threads=0))
    self.assertLen(found, lanes.steps)
    counted = np.zeros(2)
    for batch in found:
      for row in np.flatnonzero(batch['weight']):
        label = batch['label'][row]
        image = self.held_out[batch['volume'][row]].image
        known = label != windows.IGNORED
        counted[batch['volume'][row]] += known.sum()
        outside = batch['image'][row] == np.float32(read.PAD)
        self.assertFalse((known & outside).any())
        self.assertTrue(np.isin(batch['image'][row][~outside], image).all())
    kept = [
      np.prod([windows.axis_of(size, 8).size for size in shape])
      for shape in shapes
    ]
    self.assertEqual(counted.tolist(), kept)

  def test_a_batch_must_be_shared_evenly(self):
    with self.assertRaisesRegex(ValueError, 'share evenly'):
      self.stream(1, hosts=3)
    with self.assertRaisesRegex(ValueError, 'a batch of 5 or less'):
      self.stream(1, batch_size=6, last=batching.DROPPED)


if __name__ == '__main__':
  absltest.main()
