"""Utterances that make up the batch of a step, and the shape it is padded to.

Both follow from the seed, the step and how long utterances are, so they are the
same on all hosts and known before any speech is read.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from input_pipelines.audio import log_mel, resample
from input_pipelines.text import buckets


@dataclasses.dataclass(frozen=True)
class Shape:
  """The most that a row of a batch holds."""

  frames: int
  symbols: int


@dataclasses.dataclass(frozen=True)
class Group:
  """The utterances of a global batch."""

  shape: Shape
  members: np.ndarray  # int64 [B], of all
  speeds: np.ndarray  # float64 [B], that samples are multiplied by


@dataclasses.dataclass(frozen=True)
class Epoch:
  """All of an epoch: a row a step."""

  members: np.ndarray  # int64 [S, B]
  speeds: np.ndarray  # float64 [S, B]
  shapes: np.ndarray  # int64 [S], numbers of shapes


def choose(
  shapes: Sequence[Shape], frames: np.ndarray, symbols: np.ndarray
) -> np.ndarray:
  """Numbers of the first shapes that hold so much, int64 [N].

  Shapes rise in both. ValueError where the last is too small.
  """
  found = np.zeros(len(frames), np.int64)
  for name, most in (('frames', frames), ('symbols', symbols)):
    ends = [getattr(shape, name) for shape in shapes]
    if most.max(initial=0) > ends[-1]:
      raise ValueError(
        f'Expected utterances of {ends[-1]} {name} or fewer, got one of '
        f'{most.max()}: the longest shape of a batch must hold all; raise the '
        f'last of train_{name}, or in evals of eval_{name}.'
      )
    found = np.maximum(found, np.searchsorted(ends, most))
  return found


class Plan:
  """Full batches of utterances of like length, in random order.

  Utterances are sorted by length and cut into buckets of equally many; each is
  shuffled, what is left over of whole batches is dropped at random, and batches
  are shuffled. That is BucketingSampler of mlcommons/training,
  retired_benchmarks/rnnt/pytorch/common/data/dali/sampler.py, which sorts by
  the lengths on disk. With `by_heard` it is the lengths after the change of
  speed, which waste less padding.
  """

  def __init__(
    self,
    samples: np.ndarray,
    symbols: np.ndarray,
    shapes: Sequence[Shape],
    *,
    batch_size: int,
    most_samples: float,
    bucket_count: int,
    speeds: tuple[float, float],
    by_heard: bool,
    front_end: log_mel.FrontEnd,
  ):
    """Lengths of all utterances, int64 [N]; longer ones are left out.

    ValueError unless there is a batch, and the shapes hold every utterance at
    its slowest.
    """
    self._kept = np.flatnonzero(samples <= most_samples)
    self._samples = samples[self._kept].astype(np.int64)
    self._symbols = symbols[self._kept].astype(np.int64)
    self.steps = len(self._kept) // batch_size
    if not self.steps:
      raise ValueError(
        f'Expected utterances for a batch of {batch_size}, got '
        f'{len(self._kept)} of {most_samples:g} samples or fewer.'
      )
    self.utterances = self.steps * batch_size
    self.shapes = tuple(shapes)
    self._front_end, self._buckets = front_end, bucket_count
    self._speeds, self._by_heard = speeds, by_heard
    slowest = self._frames(self._samples, speeds[1])
    choose(self.shapes, slowest, self._symbols)
    self._epochs = buckets.Epochs(self.epoch)

  @property
  def kept(self) -> int:
    """Utterances that are not too long."""
    return len(self._kept)

  def group(self, seed: int, step: int) -> Group:
    """The batch of a step, counted from 0 over all epochs. Safe in threads."""
    epoch, step = divmod(step, self.steps)
    found = self._epochs(seed, epoch)
    return Group(
      self.shapes[found.shapes[step]], found.members[step], found.speeds[step]
    )

  def epoch(self, seed: int, epoch: int) -> Epoch:
    """Everything about an epoch, by its number from 0."""
    rng = np.random.default_rng((seed, epoch))
    count = len(self._kept)
    speeds = rng.uniform(*self._speeds, count)
    keys = self._samples * speeds if self._by_heard else self._samples
    order = np.concatenate([
      rng.permutation(bucket)
      for bucket in np.array_split(
        np.argsort(keys, kind='stable'), self._buckets
      )
    ])  # fmt: skip
    dropped = rng.choice(count, count - self.utterances, replace=False)
    order = np.delete(order, dropped).reshape(self.steps, -1)
    order = rng.permutation(order, axis=0)
    frames = self._frames(self._samples[order], speeds[order]).max(axis=1)
    shapes = choose(self.shapes, frames, self._symbols[order].max(axis=1))
    return Epoch(self._kept[order], speeds[order], shapes)

  def padding(self, seed: int, epochs: int = 1) -> float:
    """The share of frames that are padding, before silence is trimmed."""
    real = padded = 0
    for number in range(epochs):
      found = self.epoch(seed, number)
      place = np.searchsorted(self._kept, found.members)
      real += self._frames(self._samples[place], found.speeds).sum()
      ends = np.array([shape.frames for shape in self.shapes])[found.shapes]
      padded += ends.sum() * found.members.shape[1]
    return 1 - real / padded

  def _frames(self, samples: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    return self._front_end.frames(resample.length_of(samples, speeds))
