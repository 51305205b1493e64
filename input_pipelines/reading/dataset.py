"""Finds, checks, opens and evicts a TFDS data set directory.

A data set lies in `<data_dir>/<name>/<version>` or, where it has
configurations, in `<data_dir>/<name>/<config>/<version>`, and is read through
the metadata beside its files. The class that once built it is not needed, nor
is TensorFlow. Files are ArrayRecord or TFRecord, on a disk or in a bucket.
"""

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import json
import os

from etils import epath
from google.protobuf import json_format, message
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines.reading import arrays, shards, tfrecord
from input_pipelines.reading.places import INFO
from input_pipelines.reading.places import find as find

CorruptRecordError = shards.CorruptRecordError

_FEATURES = 'features.json'
_BLOCK = 65536  # bytes; ArrayRecord fills its last one up
_SPARE_FILES = 256  # what the process may open beside the shards of a split
_MOST_FILES = 65536


def load(directory: epath.PathLike) -> tfds.core.DatasetBuilder:
  """The metadata of a data set directory; reads no record."""
  path = epath.Path(directory)
  if not path.is_dir():
    raise FileNotFoundError(f'Expected a data set in {path}, found nothing.')
  missing = [f for f in (INFO, _FEATURES) if not (path / f).exists()]
  if missing:
    raise ValueError(
      f'Expected a TFDS data set in {path}, found no {" and no ".join(missing)}'
      ' (a data set lies in <data_dir>/<name>/<version>).'
    )
  try:
    return tfds.builder_from_directory(path)
  except (ValueError, KeyError, json_format.ParseError) as error:
    raise ValueError(
      f'Expected TFDS metadata in {path}, got: {error}'
    ) from error


def verify(
  directory: epath.PathLike,
  *,
  splits: Mapping[str, int],
  features: Mapping[str, type] | None = None,
) -> None:
  """Raises unless all the splits are there, whole and readable by index.

  Reads metadata, names and sizes, but no record. Where a manifest lies beside
  the files, their names and sizes must be those in it.

  Args:
    directory: a data set's directory.
    splits: split -> the number of records it must have.
    features: name -> kind, of all features of a record; None: any.
  """
  info = load(directory).info
  if features is not None:
    expected = {name: kind.__name__ for name, kind in features.items()}
    got = {name: type(kind).__name__ for name, kind in info.features.items()}
    if got != expected:
      raise ValueError(
        f'Expected the features {expected} in {directory}, got {got}.'
      )
  _format(info, directory)
  sizes = shards.sizes(directory)
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
        f'got {split.num_examples}.'
      )
    _verify_files(directory, split.filenames, sizes)
  if info.file_format is tfds.core.FileFormat.TFRECORD:
    _verify_index(directory, info, splits, sizes)
  else:
    _verify_blocks(directory, info, splits, sizes)
  _verify_manifest(directory, sizes)


def facts(directory: epath.PathLike, names: Iterable[str]) -> dict[str, int]:
  """Numbers that a data set's metadata hold beside TFDS's own, by name."""
  metadata = load(directory).info.metadata or {}
  found = {name: metadata.get(name) for name in names}
  if lacks := sorted(name for name, value in found.items() if value is None):
    raise ValueError(
      f'Expected the numbers of {", ".join(lacks)} in metadata.json of '
      f'{os.fspath(directory)}, got {dict(metadata)}.'
    )
  return found


def require_facts(
  directory: epath.PathLike,
  got: Mapping[str, int],
  expected: Mapping[str, int | None],
  unit: str,
) -> None:
  """ValueError unless facts are as expected; None: any number will do.

  `unit` is what splits count, for the message: 'pairs'.
  """
  splits = load(directory).info.splits
  for name, value in expected.items():
    if value not in (None, got[name]):
      what = f'{unit} in {name!r}' if name in splits else name
      raise ValueError(
        f'Expected {value} {what} of {os.fspath(directory)}, got {got[name]}.'
      )


class Split:
  """The records of one split by index, as parsed Examples.

  Safe in threads, and picklable: a worker process opens the files itself.
  """

  def __init__(self, directory: epath.PathLike, split: str):
    """`split` may be a slice, as 'train[10%:30%]'."""
    info = load(directory).info
    self.directory = os.fspath(directory)
    self.name = split
    try:
      parts = shards.parts_of(info.splits[split].file_instructions)
    except (KeyError, ValueError, AssertionError) as error:
      raise ValueError(
        f'Expected a split of {directory}, got {split!r}; there are '
        f'{sorted(info.splits)}, or slices of them that are not empty.'
      ) from error
    if not parts:
      raise ValueError(
        f'Expected records in the split {split!r} of {directory}, got none.'
      )
    if not shards.is_remote(directory):
      allow_open_files(len(parts))
    self._records: shards.Records
    if _format(info, directory) is tfds.core.FileFormat.TFRECORD:
      _require_index(directory, info)
      self._records = tfrecord.Source(directory, parts)
    else:
      self._records = shards.ArrayRecords(parts)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int):
    """The features of a record, by name, as protocol buffers.

    Parsed here rather than by TFDS's features, which take three times as long.
    """
    return self._parsed(index, self._records[index])

  def records(self, indices: Iterable[int]) -> list:
    """The features of several records in the order asked.

    From a store they are fetched at the same time; from a disk, as if one by
    one.
    """
    indices = list(indices)
    found = self._records.__getitems__(indices)
    return [
      self._parsed(index, record)
      for index, record in zip(indices, found, strict=True)
    ]

  def corrupt(self, index: int, why: object) -> CorruptRecordError:
    """The error that says which record cannot be used, to be raised."""
    return CorruptRecordError(
      f'Record {index} of the split {self.name!r} in {self.directory} '
      f'({self._records.where(index)}) cannot be read: {why}'
    )

  def _parsed(self, index: int, record: bytes):
    try:
      return tf_example_pb2.Example.FromString(record).features.feature
    except message.DecodeError as error:
      raise self.corrupt(index, error) from error


def fingerprint(directory: epath.PathLike) -> str:
  """A short hash of the metadata and of the names and sizes of the files.

  It tells data sets apart in a log, cheaply; it does not prove that no byte
  changed. Of start weights it has the digest. What only describes the other
  files, an index or a manifest, does not count. No data set, '', has 'none'.
  """
  if not directory:
    return 'none'
  path = epath.Path(directory)
  digest = hashlib.sha256()
  for name in (INFO, _FEATURES):
    digest.update((path / name).read_bytes())
  for name, size in sorted(shards.sizes(directory).items()):
    if name == arrays.WEIGHTS:
      digest.update(f'{name} {arrays.of_data_set(path).digest}\n'.encode())
    elif name not in (INFO, _FEATURES, shards.MANIFEST, tfrecord.INDEX):
      digest.update(f'{name} {size}\n'.encode())
  return digest.hexdigest()[:16]


def allow_open_files(shards: int) -> None:
  """Raises the soft limit: a reader keeps each of its shards open.

  ImageNet has 1024 shards, which is also the usual soft limit. OSError where
  the hard limit is lower.
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
      f'{shards} shards, got a limit of {allowed} (ulimit -Hn).'
    )
  if soft != resource.RLIM_INFINITY and soft < allowed:
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def evict(directory: epath.PathLike) -> bool:
  """Asks the system to forget the cached pages of a data set's files.

  The rules have caches cleared before a run. Pages that another process maps
  stay, and a file system in memory keeps all of them. Of a data set in a store
  the system holds no pages.

  Returns:
    Whether the system could be asked, for every file.
  """
  if not directory or shards.is_remote(directory):
    return True
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


def _format(info, directory) -> tfds.core.FileFormat:
  """The format of the files, one of those that can be read by index."""
  known = (tfds.core.FileFormat.ARRAY_RECORD, tfds.core.FileFormat.TFRECORD)
  if info.file_format not in known:
    raise ValueError(
      f'Expected files in the format array_record or tfrecord in {directory}, '
      f'got {info.file_format.value}: prepare the data set with '
      "file_format='array_record'."
    )
  return info.file_format


def _verify_files(directory, names: Sequence[str], sizes: Mapping) -> None:
  missing = sorted(set(names) - set(sizes))
  if missing:
    raise ValueError(
      f'Expected {len(names)} files {missing[0]} and the like in {directory}, '
      f'{len(missing)} of them missing.'
    )
  empty = sorted(n for n in names if not sizes[n])
  if empty:
    raise ValueError(
      f'Expected records in {directory}, {len(empty)} files are empty, the '
      f'first {empty[0]}.'
    )
  if shards.is_remote(directory):
    return
  paths = [os.path.join(directory, name) for name in sorted(names)]
  closed = [path for path in paths if not os.access(path, os.R_OK)]
  if closed:
    raise PermissionError(
      f'Expected to be allowed to read {closed[0]}, and {len(closed)} of '
      f'{len(paths)} files are not for this user: chmod a+r.'
    )


def _verify_blocks(directory, info, splits: Iterable[str], sizes) -> None:
  """An ArrayRecord file is a number of whole blocks."""
  for split in splits:
    for name in info.splits[split].filenames:
      if sizes[name] % _BLOCK:
        raise ValueError(
          f'Expected a multiple of {_BLOCK} bytes in {name} of {directory}, '
          f'got {sizes[name]}: the file was cut off.'
        )


def _verify_index(directory, info, splits: Iterable[str], sizes) -> None:
  """The index is that of the files, and has as many records as the metadata."""
  _require_index(directory, info)
  index = tfrecord.read_index(directory)
  indexed, counts = index.sizes(), index.counts()
  for split in splits:
    found = info.splits[split]
    for name, records in zip(found.filenames, found.shard_lengths, strict=True):
      got = (sizes[name], records)
      if (indexed.get(name), counts.get(name)) != got:
        raise ValueError(
          f'Expected {indexed.get(name)} bytes and {counts.get(name)} records '
          f'in {name} of {directory}, as in {tfrecord.INDEX}, got {got[0]} '
          f'bytes, and {got[1]} records in the metadata: the file was cut off '
          'or changed. Where it is as it should be, remove the index and run: '
          f'{_command(info, directory)}'
        )


def _require_index(directory, info) -> None:
  if not (epath.Path(directory) / tfrecord.INDEX).exists():
    raise ValueError(
      f'Expected {tfrecord.INDEX} beside the TFRecord files of {directory}, '
      f'found none. Make it with: {_command(info, directory)}'
    )


def _command(info, directory) -> str:
  """The command that prepares, and so completes, a data set."""
  name = os.path.dirname(info.full_name)  # with the configuration, no version
  data_dir = os.fspath(directory).rstrip('/').removesuffix(f'/{info.full_name}')
  return f'python -m launch.prepare_data --dataset={name} --data_dir={data_dir}'


def _verify_manifest(directory, sizes: Mapping[str, int]) -> None:
  """The manifest, where there is one, has the files as they are."""
  if shards.MANIFEST not in sizes:
    return
  path = epath.Path(directory) / shards.MANIFEST
  try:
    files = json.loads(path.read_text())['files']
    expected = {name: int(each['bytes']) for name, each in files.items()}
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'Expected a manifest of files in {path}, got one without: {error!r}'
    ) from error
  for name, size in sorted(expected.items()):
    if sizes.get(name) != size:
      raise ValueError(
        f'Expected {size} bytes in {name} of {directory}, as in '
        f'{shards.MANIFEST}, got {sizes.get(name, "no such file")}.'
      )
