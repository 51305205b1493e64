"""Tests of log mel features; transformers' filters are the witness."""

import dataclasses

from absl.testing import absltest, parameterized
import numpy as np
from transformers import audio_utils

from input_pipelines.audio import log_mel

FRONT = log_mel.FrontEnd()


def _sound(samples, seed=0):
  draws = np.random.default_rng(seed)
  return (0.1 * draws.standard_normal(samples)).astype(np.float32)


class FiltersTest(parameterized.TestCase):
  @parameterized.parameters(80, 40)
  def test_they_are_those_of_librosa(self, bands):
    """As transformers states them anew: Slaney's scale and norm."""
    expected = audio_utils.mel_filter_bank(
      257, bands, 0, 8000, 16_000, norm='slaney', mel_scale='slaney'
    )
    found = log_mel.mel_filters(bands, 512, 16_000)
    np.testing.assert_allclose(found, expected.T, atol=1e-9)
    self.assertTrue((found.sum(axis=1) > 0).all())


class StepsTest(parameterized.TestCase):
  def test_silence_at_the_ends_is_cut_off(self):
    """From the first window of 2,048 that is not silent to the last one's end.

    -60 dB of the mean power of a full window are 1e-6 of it.
    """
    x = np.zeros(20_000, np.float32)
    x[9000:12_000] = 0.5
    # Alone in its window, a sample is heard from the square 0.25e-6 x 2048 on.
    x[4000] = 2e-2  # 4e-4, and not 5.12e-4
    np.testing.assert_array_equal(
      FRONT.trimmed(x), x[9000 - 2047 : 12_000 + 2047]
    )
    x[4000] = 3e-2  # 9e-4
    np.testing.assert_array_equal(
      FRONT.trimmed(x), x[4000 - 2047 : 12_000 + 2047]
    )

  def test_windows_are_those_of_a_sum_by_hand(self):
    x = _sound(20_000) * np.hanning(20_000).astype(np.float32) ** 8
    power = np.convolve(np.float64(x) ** 2, np.ones(2048), 'valid')
    loud = np.flatnonzero(power >= 1e-6 * power.max())
    expected = x[loud[0] : loud[-1] + 2048]
    self.assertLess(len(expected), 19_000)
    np.testing.assert_array_equal(FRONT.trimmed(x), expected)

  def test_a_sound_that_is_shorter_than_a_window_stays(self):
    x = _sound(700)
    np.testing.assert_array_equal(FRONT.trimmed(x), x)

  def test_silence_alone_is_refused(self):
    with self.assertRaisesRegex(ValueError, '3000 samples of silence'):
      FRONT.trimmed(np.zeros(3000, np.float32))

  def test_the_first_sample_is_emphasised_by_itself(self):
    found = FRONT.emphasised(np.array([1.0, 1.0, 2.0], np.float32))
    np.testing.assert_allclose(found, [0.03, 0.03, 1.03], rtol=1e-5)

  @parameterized.parameters(16_000, 16_159, 161)
  def test_log_mel_is_that_of_float64_frame_by_frame(self, samples):
    """Frames around multiples of 160, mirrored at the ends."""
    x = _sound(samples)
    found = FRONT.log_mel(x)
    self.assertEqual(found.shape, (samples // 160 + 1, 80))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(320) + 0.5) / 320)
    filters = log_mel.mel_filters(80, 512, 16_000)
    for frame in {0, 1, len(found) // 2, len(found) - 1}:
      at = np.abs(np.arange(160 * frame - 160, 160 * frame + 160))
      at = np.where(at >= samples, 2 * (samples - 1) - at, at)
      power = np.abs(np.fft.rfft(np.float64(x)[at] * window, 512)) ** 2
      np.testing.assert_allclose(
        found[frame], np.log(filters @ power), atol=2e-5
      )

  def test_what_has_no_power_is_the_floor(self):
    found = FRONT.log_mel(np.zeros(1600, np.float32))
    np.testing.assert_allclose(found, np.log(1e-20), rtol=1e-6)

  def test_bands_have_mean_0_and_deviation_1_over_their_own_frames(self):
    draws = np.random.default_rng(1)
    x = draws.normal(5, 3, (40, 4)).astype(np.float32)
    x[:, 2] = 7  # no deviation: nothing to divide by
    found = FRONT.normalised(x)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0)[[0, 1, 3]], 1, rtol=1e-5)
    np.testing.assert_array_equal(found[:, 2], 0)

  def test_all_steps_in_their_order(self):
    rng = np.random.default_rng
    x = np.concatenate([np.zeros(5000), _sound(4000), np.zeros(5000)])
    x = x.astype(np.float32)
    found = FRONT.features(x, rng(3))
    cut = FRONT.trimmed(x)
    noisy = cut + np.float32(1e-5) * rng(3).standard_normal(
      len(cut), np.float32
    )
    expected = FRONT.normalised(FRONT.log_mel(FRONT.emphasised(noisy)))
    np.testing.assert_array_equal(found, expected)
    self.assertEqual(found.dtype, np.float32)
    self.assertLen(found, FRONT.frames(len(cut)))
    other = FRONT.features(x, rng(4))
    self.assertGreater(np.abs(found - other).max(), 0)
    same = dataclasses.replace(FRONT, dither=0.0).features(x, rng(4))
    np.testing.assert_array_equal(same, FRONT.features(x, None))


if __name__ == '__main__':
  absltest.main()
