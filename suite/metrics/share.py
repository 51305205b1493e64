"""Share of the eval examples that a model gets right, each seen once."""

from collections.abc import Iterable, Mapping
from typing import Any


def of_all(
  predictions: Iterable[Mapping[str, Any]],
  right: str,
  seen: str,
  *,
  examples: int,
  what: str,
) -> float:
  """Weighted counts by batch, named `right` and `seen` -> a fraction.

  RuntimeError, which calls them `what`, unless `examples` were seen in all.
  """
  hits = counted = 0.0
  for each in predictions:
    hits += float(each[right])
    counted += float(each[seen])
  if counted != examples:
    raise RuntimeError(
      f'Expected an eval over {examples} {what}, each once, got {counted:g}.'
    )
  return hits / counted
