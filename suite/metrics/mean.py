"""Mean of a quantity over the eval examples, each seen once."""

from collections.abc import Iterable, Mapping
from typing import Any


def over_examples(
  predictions: Iterable[Mapping[str, Any]],
  total: str,
  seen: str,
  *,
  examples: int,
  what: str,
  parts: str | None = None,
) -> float:
  """Sums by batch, named `total`, and weights, named `seen` -> their mean.

  Of the number of right answers that is the fraction of right ones. Where an
  example has several, `parts` names how many there are, and it is their mean.

  RuntimeError, which calls them `what`, unless `examples` were seen in all.
  """
  summed = counted = divided = 0.0
  for each in predictions:
    summed += float(each[total])
    counted += float(each[seen])
    divided += float(each[parts or seen])
  if counted != examples:
    raise RuntimeError(
      f'Expected an eval over {examples} {what}, each once, got {counted:g}.'
    )
  return summed / divided
