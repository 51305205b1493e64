"""Logarithms of mel spectra, each band normalised over the utterance.

Source of the steps and their numbers: mlcommons/training, retired_benchmarks/
rnnt/pytorch, common/data/dali/pipeline.py and configs/baseline_v3-1023sp.yaml;
what its operators compute is in NVIDIA DALI, dali/operators/audio and
dali/kernels/{audio,signal}.
"""

import dataclasses
import functools

import numpy as np
from scipy import fft, sparse


@dataclasses.dataclass(frozen=True)
class FrontEnd:
  """Constants of the way from sound to features."""

  rate: int = 16_000  # samples of a second
  bands: int = 80
  window: int = 320  # samples of a frame: 20 ms
  step: int = 160  # samples from one frame to the next
  points: int = 512  # of the Fourier transform
  silence: float = -60.0  # dB below the loudest window
  silence_window: int = 2048  # samples
  dither: float = 1e-5  # deviation of the noise that is added
  emphasis: float = 0.97  # of the sample before, taken away
  floor: float = 1e-20  # of a band's power

  def frames(self, samples: np.ndarray) -> np.ndarray:
    """Frames of sounds of so many samples."""
    return np.asarray(samples) // self.step + 1

  def features(
    self, x: np.ndarray, rng: np.random.Generator | None
  ) -> np.ndarray:
    """Sound float32 [N] -> float32 [frames, bands]; dithered by `rng`."""
    x = self.trimmed(x)
    if rng is not None:
      x = x + np.float32(self.dither) * rng.standard_normal(len(x), np.float32)
    return self.normalised(self.log_mel(self.emphasised(x)))

  def trimmed(self, x: np.ndarray) -> np.ndarray:
    """Without the silence at both ends.

    From the first window that is not silent to the end of the last one.
    ValueError for a sound that is nothing but zeros.
    """
    window = min(self.silence_window, len(x))
    total = np.cumsum(np.square(x, dtype=np.float64))
    power = np.diff(total[window - 1 :], prepend=0.0)
    power[1:] = total[window:] - total[:-window]
    most = power.max(initial=0.0)
    if not most > 0:
      raise ValueError(f'Expected sound, got {len(x)} samples of silence.')
    loud = np.flatnonzero(power >= most * 10 ** (self.silence / 10))
    return x[loud[0] : loud[-1] + window]

  def emphasised(self, x: np.ndarray) -> np.ndarray:
    """Less a share of the sample before; the first is its own."""
    before = np.concatenate([x[:1], x[:-1]])
    return x - np.float32(self.emphasis) * before

  def log_mel(self, x: np.ndarray) -> np.ndarray:
    """[N] -> natural logarithms of the power of each band, [frames, bands].

    Frames are centred on multiples of the step; at both ends the sound is
    reflected, without its first and last sample.
    """
    half = self.window // 2
    padded = np.pad(x, half, mode='reflect' if len(x) > half else 'symmetric')
    frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)
    frames = frames[:: self.step][: self.frames(len(x))]
    spectrum = fft.rfft(frames * _hann(self.window), self.points)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # A sparse product calls no BLAS, whose threads would be those of every
    # thread that makes batches.
    bands = _filters(self.bands, self.points, self.rate) @ power.T
    return np.log(np.maximum(bands.T, np.float32(self.floor)))

  def normalised(self, x: np.ndarray) -> np.ndarray:
    """Each band of mean 0 and deviation 1 over the frames; one of 0 stays 0."""
    x = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.square(x).mean(axis=0, dtype=np.float64))
    deviation[deviation == 0] = 1
    return x / deviation.astype(np.float32)


def mel_filters(bands: int, points: int, rate: int) -> np.ndarray:
  """Triangles of area 1 on Slaney's mel scale, float64 [bands, points / 2 + 1].

  The scale is linear up to 1,000 Hz, and logarithmic from there.
  """
  frequencies = np.fft.rfftfreq(points, 1 / rate)
  corners = _hz(np.linspace(0, _mel(rate / 2), bands + 2))
  low, middle, high = (corners[i : i + bands, None] for i in range(3))
  rising = (frequencies - low) / (middle - low)
  falling = (high - frequencies) / (high - middle)
  return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


_LINEAR = 200 / 3  # Hz of a mel, up to where the scale is logarithmic
_KNEE = 1000.0  # Hz
_STEP = np.log(6.4) / 27  # of the logarithm


def _mel(hz: float) -> float:
  if hz < _KNEE:
    return hz / _LINEAR
  return _KNEE / _LINEAR + np.log(hz / _KNEE) / _STEP


def _hz(mel: np.ndarray) -> np.ndarray:
  knee = _KNEE / _LINEAR
  bent = _KNEE * np.exp(_STEP * (np.maximum(mel, knee) - knee))
  return np.where(mel < knee, mel * _LINEAR, bent)


@functools.cache
def _filters(bands: int, points: int, rate: int) -> sparse.csr_array:
  return sparse.csr_array(mel_filters(bands, points, rate).astype(np.float32))


@functools.cache
def _hann(window: int) -> np.ndarray:
  """DALI's window: samples lie between those of the usual one."""
  place = (np.arange(window) + 0.5) / window
  return (0.5 - 0.5 * np.cos(2 * np.pi * place)).astype(np.float32)
