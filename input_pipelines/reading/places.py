"""Finds the directory of a prepared data set."""

import os
import re

from etils import epath

INFO = 'dataset_info.json'
_VERSION = re.compile(r'\d+\.\d+\.\d+$')


def find(data_dir: epath.PathLike, name: str) -> str:
  """Finds the newest version of a prepared data set.

  Args:
    data_dir: the directory that holds the data sets; the directory of the data
      set itself, or of a version of it, is understood too.
    name: `name` or `name/config`, with or without a `/version`; '' is none, of
      what makes its own data.

  Returns:
    The directory that holds the metadata and the shards; '' of no data set.
  """
  if not name:
    return ''
  given = epath.Path(data_dir).expanduser()
  root = _itself(given, name) or given / name
  versions = _versions(root)
  if (root / INFO).exists():
    return os.fspath(root)
  if versions:
    return os.fspath(root / versions[-1])
  configs = [p.name for p in _children(root) if _versions(p)]
  if configs:
    raise ValueError(
      f'Expected one of the configurations {sorted(configs)} of {name!r}, as '
      f'{name}/{min(configs)}, got {name!r} alone.'
    )
  raise FileNotFoundError(
    f'Expected a prepared data set {name!r} in {data_dir}, found none.'
    f'{_nearby(given, name)} Prepare it with: python -m launch.prepare_data '
    f'--dataset={name} --data_dir={data_dir}'
  )


def _itself(given: epath.Path, name: str) -> epath.Path | None:
  """`given`, where it is already the data set or a version of it."""
  parts = [part for part in name.split('/') if not _VERSION.match(part)]
  bare = given.parent if _VERSION.match(given.name) else given
  if list(bare.parts[-len(parts) :]) != parts:
    return None
  return given if (given / INFO).exists() or _versions(given) else None


def _nearby(given: epath.Path, name: str) -> str:
  """' Did you mean ...?' where it lies a folder further down or up."""
  for folder in (*_children(given), given.parent):
    if _versions(folder / name):
      return f' Did you mean --data_dir={os.fspath(folder)}?'
  return ''


def _children(root: epath.Path) -> list[epath.Path]:
  return [p for p in root.iterdir() if p.is_dir()] if root.is_dir() else []


def _versions(root: epath.Path) -> list[str]:
  """The prepared versions under a directory, oldest first."""
  names = [
    p.name
    for p in _children(root)
    if _VERSION.match(p.name) and (p / INFO).exists()
  ]
  return sorted(names, key=lambda name: [int(n) for n in name.split('.')])
