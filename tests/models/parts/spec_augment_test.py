"""Tests of SpecAugment's masks: widths, places, padding."""

from absl.testing import absltest
import jax
import numpy as np

from models.parts import spec_augment
from tests import quick

ROWS, FRAMES, BANDS = 4000, 60, 12
LENGTHS = np.resize([60, 30, 50, 7], ROWS)


def _masked(**how):
  """The places where ones were masked, bool [B, T, F]."""
  how = {
    'bands': 0, 'narrowest_band': 0, 'widest_band': 4,
    'times': 0, 'shortest_time': 0, 'longest_time': 0.1, **how,
  }  # fmt: skip
  masks = spec_augment.Masks(**how)
  x = np.ones((ROWS, FRAMES, BANDS), np.float32)
  found = quick.jit(masks)(x, LENGTHS, jax.random.key(0))
  return np.asarray(found) == 0


class MasksTest(absltest.TestCase):
  def test_a_mask_of_bands_is_as_likely_to_have_any_width_and_place(self):
    masked = _masked(bands=1)
    self.assertTrue((masked == masked[:, :1]).all())  # at all times
    masked = masked[:, 0]
    width = masked.sum(axis=1)
    shares = np.bincount(width, minlength=6) / ROWS
    np.testing.assert_allclose(shares, [0.2] * 5 + [0], atol=0.03)
    # It is in one piece, and begins anywhere that it fits; but none ends with
    # the last band, for the reference draws by torch.randint(0, BANDS - width).
    first = masked.argmax(axis=1)
    for each in range(1, 5):
      begins = np.bincount(first[width == each], minlength=BANDS)
      self.assertEqual(np.count_nonzero(begins), BANDS - each)
      self.assertEqual(np.flatnonzero(begins).max(), BANDS - each - 1)
    pieces = np.diff(masked.astype(int), axis=1, prepend=0) == 1
    self.assertLessEqual(pieces.sum(axis=1).max(), 1)

  def test_a_mask_of_times_is_a_share_of_its_row_anywhere_in_the_longest(self):
    masked = _masked(times=1)[:, :, 0]
    for length, most in ((60, 6), (30, 3), (50, 5), (7, 1)):
      rows = masked[length == LENGTHS]
      width = rows.sum(axis=1)
      shares = np.bincount(width, minlength=most + 1) / len(rows)
      np.testing.assert_allclose(shares, 1 / (most + 1), atol=0.08)
      # Short rows are masked behind their ends as often.
      self.assertGreater(rows[:, 50:].any(axis=1).mean(), 0.05)
    self.assertEqual(np.flatnonzero(masked.any(axis=0)).max(), 58)

  def test_there_are_as_many_masks_as_asked(self):
    pieces = np.diff(_masked(times=3)[:, :, 0].astype(int), axis=1, prepend=0)
    self.assertEqual((pieces == 1).sum(axis=1).max(), 3)
    self.assertFalse(_masked().any())

  def test_a_mask_as_wide_as_all_bands_hides_them(self):
    masks = spec_augment.Masks(1, 3, 3, 0, 0, 0.5)
    x = np.ones((2, 6, 3), np.float32)
    found = quick.jit(masks)(x, np.full(2, 6, np.int32), jax.random.key(1))
    self.assertFalse(np.asarray(found).any())

  def test_halves_round_as_python_rounds_them(self):
    # 50 frames: 0.03 of them are 1.5, or in float32 a little less.
    masked = _masked(times=1, longest_time=0.03)[LENGTHS == 50, :, 0]
    self.assertEqual(masked.sum(axis=1).max(), 2)

  def test_a_batch_of_padding_has_no_mask_of_times(self):
    masks = quick.jit(spec_augment.Masks(0, 0, 1, 2, 0, 0.5))
    x = np.ones((2, 6, 3), np.float32)
    found = masks(x, np.zeros(2, np.int32), jax.random.key(1))
    np.testing.assert_array_equal(found, x)


if __name__ == '__main__':
  absltest.main()
