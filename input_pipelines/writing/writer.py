"""Writes a data set shard by shard, and resumes where it stopped.

All that is not finished lies in `<directory>.incomplete`:

  made.json  what it is made of and how; resuming with anything else is refused
  done/      a file for every shard that is whole
  data/      the shards, in the end the metadata; moved into place as a whole

so that a directory that looks finished is finished.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import shutil
from typing import Any

from array_record.python import array_record_module
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, naming
from tensorflow_datasets.core.utils import shard_utils

from input_pipelines.reading.shards import ArrayRecords, Part
from input_pipelines.writing import files, manifest, work

# One record a group, so that a single read unpacks no other; JPEGs do not
# shrink.
JPEG_OPTIONS = 'group_size:1,uncompressed'

Example = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Split:
  """Content of a split."""

  name: str
  records: int
  shards: int
  example: Callable[[int], Example]  # called in threads; as TFDS encodes it


class Unfinished:
  """A data set that is being written; made by `begin`."""

  def __init__(self, directory: str, made: Mapping[str, Any]):
    self.directory = directory
    self.made = made

  def path(self, *parts: str) -> str:
    """Path of a file of the unfinished data set."""
    return os.path.join(f'{self.directory}.incomplete', *parts)

  def require_space(self, expected: int) -> None:
    """Raises OSError unless the files, of so many bytes in all, will fit."""
    there = sum(entry.stat().st_size for entry in os.scandir(self.path('data')))
    free = shutil.disk_usage(self.path()).free
    if free < expected - there:
      raise OSError(
        f'Expected {(expected - there) / 1e9:.1f} GB free for '
        f'{self.directory}, got {free / 1e9:.1f} GB.'
      )

  def is_done(self, shard: str) -> bool:
    """Returns whether a shard exists and is complete."""
    return all(
      os.path.exists(self.path(folder, shard)) for folder in ('done', 'data')
    )

  def record_bytes(self, shard: str) -> int:
    """Bytes of the records of a shard, without the format's own."""
    return self.noted(shard)['record_bytes']

  def records(self, shard: str) -> int:
    """Records of a shard."""
    return self.noted(shard)['records']

  @contextlib.contextmanager
  def file(self, name: str) -> Iterator[str]:
    """Yields a path to write a file to; the file is there once this is over."""
    partial = self.path('partial', name)
    yield partial
    files.place(partial, self.path('data', name))

  def note(self, name: str, facts: Mapping[str, Any]) -> None:
    """Notes facts of a file that is there, or of several, as JSON has them."""
    files.write_json(self.path('done', name), facts)

  def noted(self, name: str) -> dict[str, Any] | None:
    """The facts that were noted, or None."""
    try:
      with open(self.path('done', name), encoding='utf-8') as file:
        return json.load(file)
    except FileNotFoundError:
      return None

  @contextlib.contextmanager
  def shard(
    self, name: str, options: str = JPEG_OPTIONS
  ) -> Iterator[Callable[[bytes], None]]:
    """Writes a shard: a function of a record. It is there once this is over."""
    length = count = 0
    with self.file(name) as partial:
      with _writer(partial, options) as write:

        def count_and_write(record: bytes) -> None:
          nonlocal length, count
          write(record)
          length += len(record)
          count += 1

        yield count_and_write
      if count:  # opening it compares the counts
        _ = ArrayRecords([Part(partial, 0, count, count)])[count - 1]
      facts = {
        'records': count,
        'record_bytes': length,
        'sha256': files.digest(partial, 'sha256'),
      }
    self.note(name, facts)

  def finish(
    self, shards: Sequence[str], notes: Mapping[str, Any] | None = None
  ) -> str:
    """Writes the manifest and moves all into place; the metadata is in `data`.

    Args:
      shards: the names of all of them.
      notes: what the manifest is to say beside how the data set was made.

    Returns:
      The directory.
    """
    manifest.write(
      self.path('data'),
      made={**self.made, **(notes or {})},
      sums={shard: self.noted(shard)['sha256'] for shard in shards},
    )
    os.rename(self.path('data'), self.directory)
    shutil.rmtree(self.path())
    return self.directory


def info(
  directory: str,
  *,
  name: str,
  version: str,
  description: str,
  features: Mapping[str, Any],
  module: str,
  facts: Mapping[str, int] | None = None,
  **more: Any,
) -> tfds.core.DatasetInfo:
  """The metadata of a data set whose records stay in the order written.

  `facts` are numbers that `dataset.facts` reads, `more` is for DatasetInfo. The
  name of the module that makes it is among what identifies a data set.
  """
  return tfds.core.DatasetInfo(
    builder=tfds.core.dataset_info.DatasetIdentity(
      name, tfds.core.Version(version), directory, module
    ),
    description=description,
    features=tfds.features.FeaturesDict(features),
    disable_shuffling=True,
    metadata=tfds.core.MetadataDict(**facts) if facts else None,
    **more,
  )


def column(dtype: Any) -> tfds.features.Tensor:
  """A feature of any number of values, kept as their bytes."""
  return tfds.features.Tensor(
    shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES
  )


@contextlib.contextmanager
def begin(directory: str, made: Mapping[str, Any]) -> Iterator[Unfinished]:
  """Begins to write a data set, or resumes one that was stopped.

  Args:
    directory: where the data set goes; nothing may be there yet.
    made: how it is made, as JSON has it. It is kept in the manifest.

  Yields:
    The unfinished data set, which no other process writes meanwhile.
  """
  if os.path.exists(directory):
    raise FileExistsError(
      f'Expected nothing at {directory}, where the data set goes; remove it to '
      'build it again.'
    )
  unfinished = Unfinished(directory, made)
  try:
    for folder in ('data', 'done', 'partial'):
      os.makedirs(unfinished.path(folder), exist_ok=True)
    lock = open(unfinished.path('lock'), 'w')  # noqa: SIM115 - closed below
  except OSError as error:
    raise OSError(
      f'Expected a directory to write to, got {directory}: {error}'
    ) from error
  with lock:
    _lock(lock, directory)
    try:
      _claim(unfinished)
      yield unfinished
    except BaseException:
      _forget_if_nothing_is_done(unfinished)
      raise


def write(
  unfinished: Unfinished,
  info: tfds.core.DatasetInfo,
  splits: Sequence[Split],
  *,
  notes: Mapping[str, Any] | None = None,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> str:
  """Writes the shards that are missing and finishes the data set.

  Args:
    unfinished: the data set.
    info: its metadata; its splits and file format are set here.
    splits: what to write.
    notes: what the manifest is to say beside how the data set was made.
    threads: that write a shard each; None for one a core.
    progress: told of the records.

  Returns:
    The data set's directory.
  """
  info.set_file_format('array_record', override=True)
  serialize = serializer(info)
  shards = [shard for split in splits for shard in _shards(info, split)]
  missing = [shard for shard in shards if not unfinished.is_done(shard.name)]
  whole = sum(shard.records for shard in shards)
  work.each(
    lambda shard, tick: _write(unfinished, shard, serialize, tick),
    missing,
    whole=whole,
    done=whole - sum(shard.records for shard in missing),
    threads=threads,
    progress=progress,
  )
  names = {
    split.name: [shard.name for shard in shards if shard.split is split]
    for split in splits
  }
  return complete(unfinished, info, names, notes)


def complete(
  unfinished: Unfinished,
  info: tfds.core.DatasetInfo,
  shards: Mapping[str, Sequence[str]],
  notes: Mapping[str, Any] | None = None,
) -> str:
  """Finishes a data set whose shards are there, by split; see `write`."""
  info.set_file_format('array_record', override=True)
  splits = [
    tfds.core.SplitInfo(
      name=name,
      shard_lengths=[unfinished.records(shard) for shard in names],
      num_bytes=sum(unfinished.record_bytes(shard) for shard in names),
      filename_template=_template(info, name),
    )
    for name, names in shards.items()
  ]
  info.set_splits(tfds.core.splits.SplitDict(splits))
  info.write_to_directory(unfinished.path('data'))
  return unfinished.finish([*itertools.chain(*shards.values())], notes)


def shard_names(
  info: tfds.core.DatasetInfo, split: str, count: int
) -> list[str]:
  """File names of so many shards of a split."""
  template = _template(info, split)
  return [
    template.sharded_filepath(shard_index=i, num_shards=count).name
    for i in range(count)
  ]


@dataclasses.dataclass(frozen=True)
class _Shard:
  split: Split
  name: str
  first: int  # record of the split
  end: int

  @property
  def records(self) -> int:
    return self.end - self.first


def _shards(info: tfds.core.DatasetInfo, split: Split) -> Iterator[_Shard]:
  first = 0
  ends = shard_utils.get_shard_boundaries(split.records, split.shards)
  names = shard_names(info, split.name, split.shards)
  for name, end in zip(names, ends, strict=True):
    yield _Shard(split, name, first, end)
    first = end


def _write(
  unfinished: Unfinished,
  shard: _Shard,
  serialize: Callable[[Example], bytes],
  tick: work.Tick,
) -> None:
  with unfinished.shard(shard.name) as write:
    for i in range(shard.first, shard.end):
      write(serialize(shard.split.example(i)))
      tick(1)


def _claim(unfinished: Unfinished) -> None:
  """Notes what is being made; raises if something else was begun there."""
  path = unfinished.path('made.json')
  got = json.loads(json.dumps(unfinished.made))
  if not os.path.exists(path):
    files.write_json(path, got)
    return
  with open(path, encoding='utf-8') as file:
    begun = json.load(file)
  differ = sorted(
    key for key in {*begun, *got} if begun.get(key) != got.get(key)
  )
  if differ:
    raise ValueError(
      f'Expected to resume what was begun in {unfinished.path()}, but the '
      f'{" and ".join(differ)} differ: {[begun.get(key) for key in differ]} '
      f'then, {[got.get(key) for key in differ]} now. Remove that directory '
      'to start again.'
    )


def _forget_if_nothing_is_done(unfinished: Unfinished) -> None:
  if os.listdir(unfinished.path('done')):
    return
  if {'data', 'done', 'lock', 'made.json', 'partial'} < {
    *os.listdir(unfinished.path())
  }:
    return  # a file that the builder keeps
  shutil.rmtree(unfinished.path())
  with contextlib.suppress(OSError):  # others lie beside it
    os.rmdir(os.path.dirname(unfinished.directory))


def _lock(file, directory: str) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise BlockingIOError(
      f'Another process is writing {directory} at this moment.'
    ) from error


def serializer(info: tfds.core.DatasetInfo) -> Callable[[Example], bytes]:
  """From the values of an example to a record, as TFDS's own writer does."""
  features = info.features
  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  return lambda example: serializer.serialize_example(
    features.encode_example(example)
  )


def _template(
  info: tfds.core.DatasetInfo, split: str
) -> naming.ShardedFileTemplate:
  return naming.ShardedFileTemplate(
    data_dir=info.data_dir,
    dataset_name=info.name,
    split=split,
    filetype_suffix='array_record',
  )


@contextlib.contextmanager
def _writer(path: str, options: str) -> Iterator[Callable[[bytes], None]]:
  """Writes records to a new file; OSError where it cannot."""
  try:
    writer = array_record_module.ArrayRecordWriter(path, options)
  except (RuntimeError, ValueError) as error:
    raise OSError(f'Cannot write {path}: {error}') from error

  def write(record: bytes) -> None:
    try:
      writer.write(record)
    except (RuntimeError, ValueError) as error:
      raise OSError(f'Cannot write {path}: {error}') from error

  try:
    yield write
  except BaseException:
    with contextlib.suppress(RuntimeError, ValueError):
      writer.close()
    raise
  try:
    writer.close()
  except (RuntimeError, ValueError) as error:
    raise OSError(f'Cannot write {path}: {error}') from error
