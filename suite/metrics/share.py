"""The share of eval examples that a model gets right, each seen once."""

from collections.abc import Mapping, Sequence
from typing import Any


def of_all(
  predictions: Sequence[Mapping[str, Any]],
  right: str,
  seen: str,
  *,
  examples: int,
  what: str,
) -> float:
  """Weighted counts by batch, named `right` and `seen` -> a fraction.

  RuntimeError unless `examples` were seen in all; `what` they are called.
  """
  counted = sum(float(p[seen]) for p in predictions)
  if counted != examples:
    raise RuntimeError(
      f'An eval is over {examples} {what}, each once; this one saw {counted:g}.'
    )
  return sum(float(p[right]) for p in predictions) / counted
