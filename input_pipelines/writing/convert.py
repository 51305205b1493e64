"""Rewrites a TFDS data set as ArrayRecord, shard by shard.

Shards, their records and the order of these stay as they are. Run again after
an interruption, it resumes where it was; see `writing` for how.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

from etils import epath
import tensorflow_datasets as tfds

from input_pipelines.reading import dataset, shards, tfrecord
from input_pipelines.writing import files, manifest, work, writer

_INFO = 'dataset_info.json'
# What describes the source's files alone.
_DESCRIBING = {_INFO, manifest.NAME, tfrecord.INDEX}
_AT_ONCE = 64  # records that are read, and counted, together
_ROOM = 1.05  # what the new files may take, of what the old ones or records do

Change = Callable[[bytes], bytes]


def convert(
  source: epath.PathLike,
  target: epath.PathLike,
  *,
  change: Change | None = None,
  uncompressed: bool = False,
  made: Mapping[str, Any] | None = None,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> str:
  """Rewrites a data set as ArrayRecord.

  Args:
    source: a data set's directory, of TFRecord or ArrayRecord files, on a disk
      or in a bucket.
    target: the directory to make, on a disk.
    change: maps every serialized Example; called in threads.
    uncompressed: leaves out the compression, by which JPEGs gain nothing.
    made: what the manifest is to say beside the source and these options. It
      has to tell apart one `change` from another: what was begun with one is
      not gone on with by another.
    threads: that rewrite a shard each; None for one a core.
    progress: told of the records.

  Returns:
    The target.
  """
  source, target = os.fspath(source), os.fspath(target)
  if shards.is_remote(target):
    raise ValueError(f'Expected a directory on a disk to fill, got {target}.')
  info = dataset.load(source).info
  options = 'group_size:1' + (',uncompressed' if uncompressed else '')
  plan = {
    'source': source,
    'source_fingerprint': dataset.fingerprint(source),
    'options': options,
    'changed': change is not None,
    **(made or {}),
  }
  jobs = _jobs(source, info)
  with writer.begin(target, plan) as unfinished:
    unfinished.require_space(_expected_bytes(source, info, uncompressed))
    _rewrite(unfinished, jobs, change, options, threads, progress)
    if dataset.fingerprint(source) != plan['source_fingerprint']:
      raise ValueError(
        f'Expected {source} to stay as it was, it changed meanwhile. Remove '
        f'{unfinished.path()} to start again.'
      )
    _write_metadata(source, unfinished, jobs)
    return unfinished.finish([job.name for job in jobs])


@dataclasses.dataclass(frozen=True)
class _Job:
  """One shard."""

  split: str
  source: str  # its path
  name: str  # of the new file
  records: int


def _jobs(source: str, info: tfds.core.DatasetInfo) -> list[_Job]:
  """The shards; refuses a source that lacks one."""
  sizes = shards.sizes(source)
  jobs = []
  for split in info.splits.values():
    new = split.filename_template.replace(filetype_suffix='array_record')
    for i, records in enumerate(split.shard_lengths):
      paths = [
        template.sharded_filepath(shard_index=i, num_shards=split.num_shards)
        for template in (split.filename_template, new)
      ]
      size = sizes.get(paths[0].name)
      if size is None or (records and not size):
        raise ValueError(
          f'Expected {records} records in {paths[0]}, got '
          f'{"no such file" if size is None else "an empty file"}.'
        )
      jobs.append(_Job(split.name, os.fspath(paths[0]), paths[1].name, records))
  return jobs


def _expected_bytes(
  source: str, info: tfds.core.DatasetInfo, uncompressed: bool
) -> int:
  """About how much the new files take, at most."""
  if uncompressed:
    return int(_ROOM * info.dataset_size)
  return int(_ROOM * sum(shards.sizes(source).values()))


def _rewrite(
  unfinished: writer.Unfinished,
  jobs: Sequence[_Job],
  change: Change | None,
  options: str,
  threads: int | None,
  progress: work.Progress | None,
) -> None:
  """Rewrites the shards that are not done."""
  left = [job for job in jobs if not unfinished.is_done(job.name)]
  whole = sum(job.records for job in jobs)
  work.each(
    lambda job, tick: _rewrite_shard(unfinished, job, change, options, tick),
    left,
    whole=whole,
    done=whole - sum(job.records for job in left),
    threads=threads,
    progress=progress,
  )


def _rewrite_shard(
  unfinished: writer.Unfinished,
  job: _Job,
  change: Change | None,
  options: str,
  tick: work.Tick,
) -> None:
  count = 0
  with unfinished.shard(job.name, options) as write:
    for count, record in enumerate(_records(job), 1):
      write(_changed(job, count - 1, record, change) if change else record)
      if not count % _AT_ONCE:
        tick(_AT_ONCE)
    if count != job.records:
      raise shards.CorruptRecordError(
        f'Expected {job.records} records in {job.source}, got {count}.'
      )
  tick(count % _AT_ONCE)


def _records(job: _Job) -> Iterator[bytes]:
  """The records of a shard from first to last."""
  if '.array_record' not in os.path.basename(job.source):
    yield from tfrecord.read(job.source)
    return
  part = shards.Part(job.source, 0, job.records, job.records)
  source = shards.ArrayRecords([part])
  for first in range(0, job.records, _AT_ONCE):
    end = min(first + _AT_ONCE, job.records)
    yield from source.__getitems__(range(first, end))


def _changed(job: _Job, number: int, record: bytes, change: Change) -> bytes:
  try:
    return change(record)
  except ValueError as error:
    raise shards.CorruptRecordError(
      f'Record {number} of {job.source} cannot be changed: {error}'
    ) from error


def _write_metadata(
  source: str, unfinished: writer.Unfinished, jobs: Sequence[_Job]
) -> None:
  """All that lies beside the shards, with the format and sizes changed."""
  place = unfinished.path('data')
  root = epath.Path(source)
  old = {os.path.basename(job.source) for job in jobs}
  for name in shards.sizes(source).keys() - old - _DESCRIBING:
    with open(os.path.join(place, name), 'wb') as file:
      file.write((root / name).read_bytes())
  info = json.loads((root / _INFO).read_text())
  for key in ('file_format', 'alternativeFileFormats'):
    info.pop(key, None)
  info['fileFormat'] = 'array_record'
  for split in info['splits']:
    split.pop('num_bytes', None)
    split['numBytes'] = str(
      sum(
        unfinished.record_bytes(job.name)
        for job in jobs
        if job.split == split['name']
      )
    )
  files.write_json(os.path.join(place, _INFO), info)
