"""Arrays beside the records of a data set: NumPy files, mapped into memory.

A file is `<name>_<kind>.npy`. What is taken of it costs the reading of its own
bytes, which stay with the system: nothing is parsed, and nothing copied twice.
"""

from collections.abc import Iterable
import math
import os

from etils import epath
import numpy as np

from input_pipelines.reading import shards

_HEADER = 128  # bytes of a NumPy file before its values, of few axes


def path_of(directory: epath.PathLike, name: str, kind: str) -> str:
  """The file of an array."""
  return os.path.join(os.fspath(directory), f'{name}_{kind}.npy')


def load(path: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """Maps a file; ValueError unless it is such an array, whole."""
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise ValueError(
      f'Expected a NumPy array in {path}, got: {error}'
    ) from error
  if array.shape != shape or array.dtype != dtype:
    raise ValueError(
      f'Expected {np.dtype(dtype)} of the shape {shape} in {path}, got '
      f'{array.dtype} of {array.shape}.'
    )
  return np.asarray(array)


def require_disk(directory: epath.PathLike) -> None:
  """ValueError for a data set in a store, of which nothing can be mapped."""
  if shards.is_remote(directory):
    raise ValueError(
      'Expected a data set on a disk, where its arrays are mapped into memory, '
      f'got {os.fspath(directory)}: copy the directory.'
    )


def verify(
  directory: epath.PathLike,
  kind: str,
  shapes: Iterable[tuple[int, ...]],
  dtype: np.dtype,
) -> None:
  """ValueError unless files of a kind are as many and as long as the arrays.

  Reads names and sizes alone.
  """
  ending, item = path_of('', '', kind), np.dtype(dtype).itemsize
  sizes = shards.sizes(directory)
  found = sorted(size for name, size in sizes.items() if name.endswith(ending))
  expected = sorted(_HEADER + item * math.prod(shape) for shape in shapes)
  if found != expected:
    raise ValueError(
      f'Expected {len(expected)} files *{ending} of {sum(expected)} bytes in '
      f'all in {os.fspath(directory)}, got {len(found)} of {sum(found)}.'
    )
