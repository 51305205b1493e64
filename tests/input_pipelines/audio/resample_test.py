"""Tests of resampling: the formula in float64, tones, lengths."""

import math

from absl.testing import absltest, parameterized
import numpy as np

from input_pipelines.audio import resample


def _by_formula(x, factor):
  """DALI's: a sinc under a Hann window over 16 samples on either side."""
  made = []
  for number in range(math.ceil(len(x) * factor)):
    place = (number + 0.5) / factor - 0.5
    near = np.arange(math.ceil(place) - 16, math.floor(place) + 17)
    near = near[(near >= 0) & (near < len(x))]
    away = near - place
    hann = 0.5 * (1 + np.cos(np.pi * away / 16))
    made.append(np.sum(x[near] * np.sinc(away) * hann))
  return np.array(made)


class ResampleTest(parameterized.TestCase):
  @parameterized.parameters(0.85, 0.95321, 1.0, 1.0137, 1.15, 2.0)
  def test_it_is_the_formula(self, factor):
    x = np.random.default_rng(0).normal(size=500)
    found = resample.resample(x.astype(np.float32), factor)
    self.assertEqual(found.dtype, np.float32)
    np.testing.assert_allclose(found, _by_formula(x, factor), atol=5e-6)

  def test_a_tone_gets_longer_and_lower(self):
    x = np.sin(2 * np.pi * 0.05 * (np.arange(4000) + 0.5)).astype(np.float32)
    found = resample.resample(x, 1.1)
    self.assertLen(found, 4400)
    place = (np.arange(4400) + 0.5) / 1.1
    inside = slice(50, -50)
    np.testing.assert_allclose(
      found[inside], np.sin(2 * np.pi * 0.05 * place)[inside], atol=1e-3
    )

  def test_a_length_is_rounded_up(self):
    np.testing.assert_array_equal(
      resample.length_of(np.array([100, 101, 7]), np.array([0.85, 0.85, 1.0])),
      [85, 86, 7],
    )
    self.assertLen(resample.resample(np.zeros(101, np.float32), 0.85), 86)

  def test_a_factor_must_be_positive(self):
    with self.assertRaisesRegex(ValueError, 'a positive factor, got 0'):
      resample.resample(np.zeros(4, np.float32), 0)


if __name__ == '__main__':
  absltest.main()
