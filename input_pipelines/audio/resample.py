"""Resampling by any factor, with a windowed sinc."""

import functools
import math

import cv2
import numpy as np

LOBES = 16  # of the sinc, on either side: DALI's at its default quality of 50
_DEGREE = 7  # of the polynomials; they are off by 1e-6 at most


def length_of(samples: np.ndarray, factor: np.ndarray) -> np.ndarray:
  """Samples of sounds once they are resampled: as many times `factor`."""
  return np.ceil(np.asarray(samples) * np.asarray(factor)).astype(np.int64)


def resample(x: np.ndarray, factor: float) -> np.ndarray:
  """float32 [N] -> float32 [ceil(N factor)], of the same time.

  Sample n of the result lies at (n + 0.5) / factor - 0.5 of the given ones. It
  is a sum of those that are less than 16 away, weighed by a sinc under a Hann
  window; outside there is silence. Where the factor is below 1 nothing is
  filtered first, so what the new rate cannot carry is folded back.

  Source: NVIDIA DALI, dali/kernels/signal/resampling.h, by which the reference
  decodes; it takes weights from a table, with an error of 4e-5.

  The weight of a sample is a polynomial of how far behind the one before it a
  place lies. So all samples are filtered once for each power, and a place needs
  as many numbers as there are powers.
  """
  if not factor > 0:
    raise ValueError(f'Expected a positive factor, got {factor}.')
  padded = np.pad(np.asarray(x, np.float32), LOBES)[None]
  place = (np.arange(length_of(len(x), factor)) + 0.5) / factor - 0.5
  whole = np.floor(place)
  share = (place - whole - 0.5).astype(np.float32)
  at = whole.astype(np.int64) + LOBES
  made = np.zeros(len(place), np.float32)
  one = np.ones(1, np.float32)
  for weights in _polynomials():
    filtered = cv2.sepFilter2D(
      padded, cv2.CV_32F, weights, one,
      anchor=(LOBES - 1, 0), borderType=cv2.BORDER_CONSTANT,
    )  # fmt: skip
    made *= share
    made += filtered[0][at]
  return made


@functools.cache
def _polynomials() -> np.ndarray:
  """Weights of the 32 samples around a place, float32 [8, 32].

  Coefficients of powers of how far behind the middle of two samples a place
  lies, from -1/2 to 1/2, the highest power first.
  """
  nodes = np.polynomial.chebyshev.chebpts1(4 * _DEGREE) / 2
  away = np.arange(2 * LOBES)[None] - (LOBES - 1) - (nodes[:, None] + 0.5)
  hann = 0.5 * (1 + np.cos(math.pi * away / LOBES))
  weights = np.where(np.abs(away) < LOBES, np.sinc(away) * hann, 0)
  powers = np.vander(nodes, _DEGREE + 1)
  return np.linalg.lstsq(powers, weights)[0].astype(np.float32)
