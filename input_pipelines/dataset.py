"""Finds, checks, opens and evicts a TFDS data set directory.

A data set lies in `<data_dir>/<name>/<version>` or, where it has
configurations, in `<data_dir>/<name>/<config>/<version>`, and is read through
the metadata beside its files. The class that once built it is not needed, nor
is TensorFlow.
"""

from collections.abc import Mapping, Sequence
import hashlib
import os
import re

from etils import epath
from google.protobuf import json_format, message
import tensorflow_datasets as tfds
from tensorflow_datasets.core import decode
from tensorflow_datasets.proto import tf_example_pb2

_INFO = 'dataset_info.json'
_FEATURES = 'features.json'
_VERSION = re.compile(r'\d+\.\d+\.\d+$')
_SPARE_FILES = 256  # what the process may open beside the shards of a split
_MOST_FILES = 65536


class CorruptRecordError(ValueError):
  """A record that cannot be read; the message says which."""


def find(data_dir: epath.PathLike, name: str) -> str:
  """The directory of the newest version of a prepared data set.

  Args:
    data_dir: the directory that holds the data sets.
    name: `name` or `name/config`, with or without a `/version`.

  Returns:
    The directory that holds the metadata and the shards.
  """
  root = epath.Path(data_dir).expanduser() / name
  versions = _versions(root)
  if (root / _INFO).exists():
    return os.fspath(root)
  if versions:
    return os.fspath(root / versions[-1])
  configs = [p.name for p in _children(root) if _versions(p)]
  if configs:
    raise ValueError(
      f'Expected one of the configurations {sorted(configs)} of {name!r}, as '
      f'{name}/{min(configs)}, came {name!r} alone.'
    )
  raise FileNotFoundError(
    f'Expected a prepared data set {name!r} in {data_dir}, found none. Prepare '
    f'it with: python -m launch.prepare_data --dataset={name} '
    f'--data_dir={data_dir}'
  )


def load(directory: epath.PathLike) -> tfds.core.DatasetBuilder:
  """The metadata of a data set directory; reads no record."""
  path = epath.Path(directory)
  if not path.is_dir():
    raise FileNotFoundError(f'Expected a data set in {path}, found nothing.')
  missing = [f for f in (_INFO, _FEATURES) if not (path / f).exists()]
  if missing:
    raise ValueError(
      f'Expected a TFDS data set in {path}, found no {" and no ".join(missing)}'
      ' (a data set lies in <data_dir>/<name>/<version>).'
    )
  try:
    return tfds.builder_from_directory(path)
  except (ValueError, KeyError, json_format.ParseError) as error:
    raise ValueError(
      f'Expected TFDS metadata in {path}, came: {error}'
    ) from error


def verify(directory: epath.PathLike, *, splits: Mapping[str, int]) -> None:
  """Raises unless all the splits are there, whole and readable by index.

  Args:
    directory: a data set's directory.
    splits: split -> the number of records it must have.
  """
  info = load(directory).info
  if info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
    raise ValueError(
      f'Expected files in the format array_record in {directory}, came '
      f'{info.file_format.value}: prepare the data set with '
      "file_format='array_record'."
    )
  there = {p.name: p for p in epath.Path(directory).iterdir()}
  for name, records in splits.items():
    if name not in info.splits:
      raise ValueError(
        f'Expected a split {name!r} in {directory}, there are '
        f'{sorted(info.splits)}.'
      )
    split = info.splits[name]
    if split.num_examples != records:
      raise ValueError(
        f'Expected {records} examples in the split {name!r} of {directory}, '
        f'came {split.num_examples}.'
      )
    _verify_files(directory, split.filenames, there)


class Split:
  """The records of one split by index, as parsed Examples; safe in threads."""

  def __init__(self, directory: epath.PathLike, split: str):
    builder = load(directory)
    self.directory = os.fspath(directory)
    self.name = split
    try:
      files = len(builder.info.splits[split].filenames)
    except (KeyError, ValueError) as error:
      raise ValueError(
        f'Expected a split of {directory}, came {split!r}; there are '
        f'{sorted(builder.info.splits)}.'
      ) from error
    _allow_open_files(files)
    self._records: Sequence[bytes] = builder.as_data_source(
      split, deserialize_method=decode.DeserializeMethod.RAW_BYTES
    )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int):
    """The features of a record, by name, as protocol buffers.

    Parsed here rather than by TFDS's features, which take three times as long.
    """
    try:
      record = self._records[index]
      return tf_example_pb2.Example.FromString(record).features.feature
    except (ValueError, RuntimeError, message.DecodeError) as error:
      raise self.corrupt(index, error) from error

  def corrupt(self, index: int, why: object) -> CorruptRecordError:
    """The error that says which record cannot be used, to be raised."""
    return CorruptRecordError(
      f'Record {index} of the split {self.name!r} in {self.directory} cannot '
      f'be read: {why}'
    )


def fingerprint(directory: epath.PathLike) -> str:
  """A short hash of the metadata and of the names and sizes of the files.

  It tells data sets apart in a log, cheaply; it does not prove that no byte
  changed.
  """
  path = epath.Path(directory)
  digest = hashlib.sha256()
  for name in (_INFO, _FEATURES):
    digest.update((path / name).read_bytes())
  for file in sorted(path.iterdir()):
    if file.name not in (_INFO, _FEATURES):
      digest.update(f'{file.name} {file.stat().length}\n'.encode())
  return digest.hexdigest()[:16]


def evict(directory: epath.PathLike) -> bool:
  """Asks the system to forget the cached pages of a data set's files.

  The rules have caches cleared before a run. Pages that another process maps
  stay, and a file system in memory keeps all of them.

  Returns:
    Whether the system could be asked, for every file.
  """
  if not hasattr(os, 'posix_fadvise') or not os.path.isdir(directory):
    return False
  for entry in os.scandir(directory):
    if entry.is_file() and not _evict_file(entry.path):
      return False
  return True


def _evict_file(path: str) -> bool:
  file = os.open(path, os.O_RDONLY)
  try:
    os.fsync(file)  # a page that is not on the disk yet cannot be dropped
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
  except OSError:
    return False
  finally:
    os.close(file)
  return True


def _verify_files(directory, names: Sequence[str], there: Mapping) -> None:
  missing = sorted(set(names) - set(there))
  if missing:
    raise ValueError(
      f'Expected {len(names)} files {missing[0]} and the like in {directory}, '
      f'{len(missing)} of them missing.'
    )
  empty = sorted(n for n in names if not there[n].stat().length)
  if empty:
    raise ValueError(
      f'Expected records in {directory}, {len(empty)} files are empty, the '
      f'first {empty[0]}.'
    )


def _children(root: epath.Path) -> list[epath.Path]:
  return [p for p in root.iterdir() if p.is_dir()] if root.is_dir() else []


def _versions(root: epath.Path) -> list[str]:
  """The prepared versions under a directory, oldest first."""
  names = [
    p.name
    for p in _children(root)
    if _VERSION.match(p.name) and (p / _INFO).exists()
  ]
  return sorted(names, key=lambda name: [int(n) for n in name.split('.')])


def _allow_open_files(shards: int) -> None:
  """Raises the soft limit: a reader keeps each of its shards open.

  ImageNet has 1024 shards, which is also the usual soft limit.
  """
  try:
    import resource  # Unix only
  except ImportError:
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if resource.RLIM_INFINITY in (soft, hard):
    allowed = _MOST_FILES
  else:
    allowed = min(hard, _MOST_FILES)
  if allowed < shards + _SPARE_FILES:
    raise OSError(
      f'Expected to be allowed {shards + _SPARE_FILES} open files, for '
      f'{shards} shards, came a limit of {allowed} (ulimit -Hn).'
    )
  if soft != resource.RLIM_INFINITY and soft < allowed:
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
