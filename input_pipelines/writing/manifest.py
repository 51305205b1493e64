"""The manifest of a data set: size and SHA-256 of every file, how it was made.

It lies beside the files as `manifest.json`, and names the digest of start
weights. A data set that others prepared has none until one is written.
"""

from collections.abc import Mapping
import json
import os
from typing import Any

from input_pipelines.reading import arrays, shards
from input_pipelines.writing import files, work

NAME = shards.MANIFEST
FORMAT = 1


def write(
  directory: str,
  *,
  made: Mapping[str, Any],
  sums: Mapping[str, str] | None = None,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> str:
  """Writes the manifest of the files that lie in a directory, in one step.

  Args:
    directory: a data set's own, local directory.
    made: how the data set was made, as JSON has it: recipe, options, versions,
      source.
    sums: file -> SHA-256 in hex, where known; the others are read.
    threads: that read; None for one a core.
    progress: told of the bytes read.

  Returns:
    The path of the manifest.
  """
  sizes = _sizes(directory)
  sums = dict(sums or {})
  unknown = {name: size for name, size in sizes.items() if name not in sums}
  sums.update(_read_sums(directory, unknown, threads, progress))
  facts = {
    name: {'bytes': size, 'sha256': sums[name]} for name, size in sizes.items()
  }
  if arrays.WEIGHTS in facts:
    weights = arrays.Arrays(os.path.join(directory, arrays.WEIGHTS))
    facts[arrays.WEIGHTS]['arrays'] = weights.digest
  path = os.path.join(directory, NAME)
  files.write_json(path, {'format': FORMAT, 'made': made, 'files': facts})
  return path


def read(directory: str) -> dict[str, Any] | None:
  """The manifest of a directory; None where there is none."""
  path = os.path.join(directory, NAME)
  try:
    with open(path, encoding='utf-8') as file:
      manifest = json.load(file)
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise ValueError(f'Expected JSON in {path}, got: {error}') from error
  got = manifest.get('format') if isinstance(manifest, dict) else manifest
  if got != FORMAT:
    raise ValueError(f'Expected format {FORMAT} in {path}, got {got!r}.')
  return manifest


def check_sizes(directory: str) -> None:
  """Raises unless the manifest's files are there and as long; reads none.

  What lies beside them is no fault.
  """
  expected = {name: file['bytes'] for name, file in _files(directory).items()}
  got = _sizes(directory)
  if missing := expected.keys() - got.keys():
    raise ValueError(
      f'Expected the {len(expected)} files of the manifest in {directory}, '
      f'{len(missing)} are missing, as {min(missing)}.'
    )
  for name, size in expected.items():
    if got[name] != size:
      raise ValueError(
        f'Expected {size} bytes in {os.path.join(directory, name)}, as in the '
        f'manifest, got {got[name]}.'
      )


def check_sums(
  directory: str,
  *,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> None:
  """Raises unless every byte is what it was when the manifest was written."""
  check_sizes(directory)
  facts = _files(directory)
  sizes = {name: file['bytes'] for name, file in facts.items()}
  sums = _read_sums(directory, sizes, threads, progress)
  for name, got in sums.items():
    if got != facts[name]['sha256']:
      raise ValueError(
        f'Expected the SHA-256 {facts[name]["sha256"]} of '
        f'{os.path.join(directory, name)}, as in the manifest, got {got}.'
      )


def _files(directory: str) -> dict[str, dict[str, Any]]:
  manifest = read(directory)
  if manifest is None:
    raise FileNotFoundError(f'Expected {NAME} in {directory}, found none.')
  return manifest['files']


def _sizes(directory: str) -> dict[str, int]:
  """Name -> bytes of the files, but the manifest's, sorted."""
  sizes = {
    entry.name: entry.stat().st_size
    for entry in os.scandir(directory)
    if entry.is_file() and not entry.name.startswith(NAME)
  }
  return dict(sorted(sizes.items()))


def _read_sums(
  directory: str,
  sizes: Mapping[str, int],
  threads: int | None,
  progress: work.Progress | None,
) -> dict[str, str]:
  """File -> its SHA-256, read by several threads."""
  sums = work.each(
    lambda name, tick: files.digest(
      os.path.join(directory, name), 'sha256', tick
    ),
    list(sizes),
    whole=sum(sizes.values()),
    threads=threads,
    progress=progress,
  )
  return dict(zip(sizes, sums, strict=True))
