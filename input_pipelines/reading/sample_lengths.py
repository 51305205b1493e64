"""Lengths of the samples of a data set, a file beside its records."""

import io

from etils import epath
import numpy as np


def read(path: epath.PathLike, count: int, *, of: str) -> np.ndarray:
  """Two lengths of each of `count` samples, int64 [N, 2].

  Reads no record, so it may be called before the clock runs. ValueError, which
  names `of`, if the file is none of so many, or has lengths below 1.
  """
  path, expected = epath.Path(path), (count, 2)
  try:
    found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise ValueError(
      f'Expected the lengths of {of} in {path}, got: {error}'
    ) from error
  if found.shape != expected or found.min() < 1:
    raise ValueError(
      f'Expected lengths from 1 on, of the shape {expected}, in {path}, got '
      f'{found.shape} from {found.min(initial=0)} on.'
    )
  return found.astype(np.int64)
