"""Batches drawn at random, to measure steps without data."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

Rows = dict[str, np.ndarray]  # one host's rows of a batch


@dataclasses.dataclass(frozen=True)
class Values:
  """Values that a field of a batch has in data, or close to them.

  Bounds broadcast to a row, so columns may have bounds of their own. Integers
  give whole numbers, whatever the field's dtype, and `high` is not reached.
  """

  low: Any
  high: Any
  # Whole numbers near `low` come most: n has a chance like 1 / (n - low + 1),
  # as words and products have when they are numbered by how often they come.
  skewed: bool = False

  @property
  def whole(self) -> bool:
    """Says that all values are whole numbers."""
    bounds = np.asarray(self.low), np.asarray(self.high)
    return all(np.issubdtype(each.dtype, np.integer) for each in bounds)

  def draw(
    self, generator: np.random.Generator, shape: tuple[int, ...], dtype: Any
  ) -> np.ndarray:
    """An array of these values; ValueError where there are none."""
    low, high = np.asarray(self.low), np.asarray(self.high)
    if not (low < high if self.whole else low <= high).all():
      raise ValueError(f'Expected values between bounds, got {self}.')
    if not self.whole:
      found = generator.uniform(low, high, shape)
    elif self.skewed:
      share = generator.random(shape)
      found = low - 1 + np.floor((high - low + 1.0) ** share)
    else:
      # Images of a large batch would be gigabytes in another type.
      is_number = np.issubdtype(dtype, np.floating)
      kind = np.int64 if is_number else dtype
      found = generator.integers(low, high, shape, kind)
    return found.astype(dtype, copy=False)


ONE = Values(1.0, 1.0)


def draw(
  task: Any, spec: Mapping[str, Any], *, seed: int, share: int = 1
) -> Rows:
  """One of `share` equal parts of a drawn batch of a `suite.run.task.Task`.

  A field without declared values has noise if it is of floats, else zeros; a
  flag is set; weights are 1.
  """
  generator = np.random.default_rng(seed)
  values = {'weight': ONE, **task.values(spec)}
  rows: Rows = {}
  for name, leaf in spec.items():
    shape = (leaf.shape[0] // share, *leaf.shape[1:])
    if name in values:
      rows[name] = values[name].draw(generator, shape, leaf.dtype)
    elif np.issubdtype(leaf.dtype, np.floating):
      noise = generator.standard_normal(shape, np.float32)
      rows[name] = noise.astype(leaf.dtype, copy=False)
    else:
      rows[name] = np.full(shape, leaf.dtype == np.bool_, leaf.dtype)
  return task.fitted(rows)
