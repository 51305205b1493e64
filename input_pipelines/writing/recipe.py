"""Recipes of data sets, and the list of all.

The folders are the registry: the `RECIPES` of any module in them are found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import importlib
from importlib import metadata
import os
import pkgutil
from typing import Any

from input_pipelines.writing import work, writer

# What can change the bytes that are written.
_PACKAGES = (
  'array-record',
  'opencv-python-headless',
  'simplejpeg',
  'tensorflow-datasets',
)


@dataclasses.dataclass(frozen=True)
class Order:
  """Settings for building a data set."""

  data_dir: str
  downloads: str  # where the files lie that have to be fetched by hand
  threads: int | None = None  # None: one a core
  check_downloads: bool = True  # against their known checksums
  change_jpeg: Callable[[bytes], bytes] | None = None
  # A stage of the work, and the unit it is counted in -> its progress.
  progress: Callable[[str, str], work.Progress] | None = None

  def stage(self, name: str, unit: str) -> work.Progress | None:
    """Callback for the progress of one stage."""
    return self.progress(name, unit) if self.progress else None


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A data set: what it is, what it needs, how it is built and checked."""

  name: str  # as in the data directory, with the configuration if it has one
  summary: str
  licence: str
  bytes: int  # on disk, once it is prepared
  # Split -> records; None: as many as the metadata say.
  splits: Mapping[str, int | None]
  # Raises unless a directory holds this data set, whole; reads no record.
  verify: Callable[[str], None]
  # Raises ValueError unless the features of one record can be used.
  check: Callable[[Mapping[str, Any]], None]
  # Builds it and returns its directory. FileNotFoundError: a download lacks.
  build: Callable[[Order], str] | None = None
  needs: str = 'nothing'
  how_to: str = ''  # with {data_dir} and {downloads}
  tfds: str = ''  # the name by which TFDS's own builder can make it
  jpegs: str = ''  # the feature that can have restart markers; empty: none


def known(
  package: str = 'input_pipelines', module: str = ''
) -> dict[str, Recipe]:
  """The recipes in the folders of a package, by name.

  With `module`, only those in modules of that name: what starts a benchmark may
  need a model, so it lies with the benchmark.
  """
  recipes = {}
  for folder in _submodules(package):
    for name in _submodules(folder):
      if module and not name.endswith(f'.{module}'):
        continue
      for recipe in getattr(importlib.import_module(name), 'RECIPES', ()):
        recipes[recipe.name] = recipe
  return dict(sorted(recipes.items()))


def _submodules(package: str) -> list[str]:
  path = getattr(importlib.import_module(package), '__path__', ())
  return [f'{package}.{found.name}' for found in pkgutil.iter_modules(path)]


def versions(*more: str) -> dict[str, str]:
  """Package -> version, of those that can change the bytes of a data set.

  `more` are those that one recipe needs beside the usual ones.
  """
  return {name: metadata.version(name) for name in (*_PACKAGES, *more)}


@contextlib.contextmanager
def generated(
  data_dir: str | os.PathLike,
  name: str,
  version: str,
  *,
  packages: Sequence[str] = (),
) -> Iterator[tuple[writer.Unfinished, Order]]:
  """Begins a data set that is made from nothing but its recipe.

  `packages` are those that it needs beside the usual ones.
  """
  order = Order(os.fspath(data_dir), '')
  made = {'recipe': name, 'versions': versions(*packages)}
  with writer.begin(place(order.data_dir, name, version), made) as unfinished:
    yield unfinished, order


def place(data_dir: str, name: str, version: str) -> str:
  """The directory of a data set in a directory of data sets."""
  return os.path.join(os.path.expanduser(data_dir), name, version)
