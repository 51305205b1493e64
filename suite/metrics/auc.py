"""Area under the ROC curve, exact, of as many scores as there are."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_PIECE = 1 << 20  # scores whose places are looked up at once


class Auc:
  """Collects scores, 4 bytes each, and counts the pairs in right order.

  That is the area below the curve by trapezoids: a pair of equal scores counts
  half. Pairs are counted as integers, so the value is the nearest float64.
  """

  def __init__(self):
    self._scores = [[], []]  # of label 0, of label 1: pieces, float32 [N]

  def add(
    self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
  ) -> int:
    """Adds the rows [B] of weight 1, and none of weight 0 -> how many.

    Raises ValueError for a score that is NaN, or another label or weight than
    0 and 1.
    """
    for name, values in (('labels', labels), ('weights', weights)):
      if not ((values == 0) | (values == 1)).all():
        raise ValueError(f'Expected {name} of 0 or 1, got others.')
    scores = np.asarray(scores, np.float32)
    if missing := np.count_nonzero(np.isnan(scores) & (weights == 1)):
      raise ValueError(
        f'Expected scores that can be put in order, got {missing} NaN of '
        f'{len(scores)}: the model diverged.'
      )
    for label, pieces in enumerate(self._scores):
      pieces.append(scores[(labels == label) & (weights == 1)])
    return np.count_nonzero(weights)

  def value(self) -> float:
    """The area; ValueError where one of the labels has no score."""
    negative, positive = (_joined(pieces) for pieces in self._scores)
    if not len(negative) or not len(positive):
      raise ValueError(
        'Expected scores of both labels, got '
        f'{len(negative)} of label 0 and {len(positive)} of label 1.'
      )
    negative.sort()
    positive.sort()  # neighbours then find their places in the same pages
    below_twice = 0
    for first in range(0, len(positive), _PIECE):
      piece = positive[first : first + _PIECE]
      for side in ('left', 'right'):
        below_twice += int(np.searchsorted(negative, piece, side).sum())
    return below_twice / (2 * len(negative) * len(positive))


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
  """The area of scores [N] and their labels, 0 or 1, [N]."""
  found = Auc()
  found.add(scores, labels, np.ones(len(labels)))
  return found.value()


def over_examples(
  predictions: Iterable[Mapping[str, Any]], *, examples: int
) -> float:
  """The area of batches with `score`, `label` and `weight`, each [B].

  RuntimeError unless `examples` were seen in all.
  """
  found, seen = Auc(), 0
  for each in predictions:
    seen += found.add(each['score'], each['label'], each['weight'])
  if seen != examples:
    raise RuntimeError(
      f'Expected an eval over {examples} clicks, each once, got {seen}.'
    )
  return found.value()


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
  """The pieces in one array [N]; only this one is left."""
  joined = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
  pieces[:] = [joined]
  return joined
