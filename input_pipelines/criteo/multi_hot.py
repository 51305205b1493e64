"""Several ids for one: a fixed table of them for each value of a column.

The first is the id itself. The others were drawn once, by NumPy's `RandomState`
with seed 0, table after table: another generator would give other data.
"""

from collections.abc import Iterator, Sequence
import os

from etils import epath
import numpy as np

from input_pipelines.reading import mapped
from input_pipelines.writing import work

_SEED = 0
_PIECE = 1 << 22  # numbers that are drawn at once


def names(hots: Sequence[int]) -> list[str]:
  """The files of the drawn ids, of each table with several of them."""
  return [_name(table) for table, hot in enumerate(hots) if hot > 1]


def write(
  folder: str,
  tables: Sequence[int],
  hots: Sequence[int],
  *,
  progress: work.Progress | None = None,
) -> None:
  """Draws the ids of all tables and writes them.

  Args:
    folder: where the files go.
    tables: rows of each.
    hots: ids that stand for one, in each.
    progress: told of the numbers that are drawn.
  """
  draws = np.random.RandomState(_SEED)
  whole = sum(n * (hot - 1) for n, hot in zip(tables, hots, strict=True))
  done = 0
  for table, (rows, hot) in enumerate(zip(tables, hots, strict=True)):
    if hot == 1:
      continue
    file = np.lib.format.open_memmap(
      os.path.join(folder, _name(table)), 'w+', np.int32, (rows, hot - 1)
    )
    step = max(1, _PIECE // (hot - 1))
    for first in range(0, rows, step):
      size = (min(step, rows - first), hot - 1)
      file[first : first + step] = draws.randint(
        0, rows, size=size, dtype=np.int64
      )
      done += size[0] * size[1]
      if progress:
        progress(done, whole)
    file.flush()


def read(
  directory: epath.PathLike, tables: Sequence[int], hots: Sequence[int]
) -> list[np.ndarray | None]:
  """The drawn ids of each table, int32 [rows, hot - 1], on disk; or None."""
  found: list[np.ndarray | None] = []
  for table, (rows, hot) in enumerate(zip(tables, hots, strict=True)):
    if hot == 1:
      found.append(None)
      continue
    path = os.path.join(directory, _name(table))
    found.append(mapped.load(path, (rows, hot - 1), np.int32))
  return found


def columns(hots: Sequence[int]) -> Iterator[slice]:
  """The columns of each table among all ids of a click."""
  end = 0
  for hot in hots:
    yield slice(end, end + hot)
    end += hot


def _name(table: int) -> str:
  return f'multi_hot_{table:02d}.npy'
