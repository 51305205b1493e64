"""Reads the records of a data set and checks that they can be used."""

from collections.abc import Callable, Mapping
import itertools
from typing import Any

import numpy as np

from input_pipelines.reading import dataset
from input_pipelines.writing import work

_RECORDS_A_PIECE = 256


def records(
  directory: str,
  splits: Mapping[str, int],
  check: Callable[[Mapping[str, Any]], None],
  *,
  sample: int | None = None,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> int:
  """Raises dataset.CorruptRecordError if a record is not as it should be.

  Args:
    directory: a data set's directory.
    splits: split -> its number of records.
    check: raises ValueError unless the features of a record can be used.
    sample: of each split so many records are read, spread evenly; None: all.
    threads: that read; None for one a core.
    progress: told of the records.

  Returns:
    The number of records that were read.
  """
  pieces = []
  for name, length in splits.items():
    chosen = _spread(length, sample)
    cuts = range(_RECORDS_A_PIECE, len(chosen), _RECORDS_A_PIECE)
    split = dataset.Split(directory, name)
    pieces += zip(
      itertools.repeat(split), np.split(chosen, list(cuts)), strict=False
    )
  whole = sum(len(indices) for _, indices in pieces)
  work.each(
    lambda piece, tick: _check(*piece, check, tick),
    pieces,
    whole=whole,
    threads=threads,
    progress=progress,
  )
  return whole


def _spread(length: int, sample: int | None) -> np.ndarray:
  """Indices of `sample` records, the first and the last among them: int [N]."""
  if sample is None or sample >= length:
    return np.arange(length)
  return np.linspace(0, length - 1, sample).astype(int)


def _check(
  split: dataset.Split,
  indices: np.ndarray,
  check: Callable[[Mapping[str, Any]], None],
  tick: work.Tick,
) -> None:
  for i in indices.tolist():
    features = split[i]
    try:
      check(features)
    except (ValueError, IndexError, KeyError) as error:
      raise split.corrupt(i, error) from error
    tick(1)
