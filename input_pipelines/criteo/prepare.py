"""Writes clicks from day files as the two versions of the benchmark have them.

Days are parsed to columns, columns numbered, clicks brought to their places by
way of buckets on disk, and buckets written as shards. What was done stays when
the work is stopped, and memory holds a piece of a day, a bucket for each
thread, and the tables of values that it has room for.

The versions differ in almost every step:

  one id a table         values modulo 40,000,000, then numbered from 0 on;
                         negative integers are 0, then ln(x + 1); shuffled in
                         two passes
  several ids a table    numbered from 2 on, then modulo the size of the table;
                         integers count from the least of the day, which is 2,
                         then ln(x); shuffled by NumPy's seed 0, in float32

so an id from 2**24 on that the second trains with is the nearest float32, while
those of the last day are as they were numbered.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import shutil
from typing import Any

import numpy as np

from input_pipelines.criteo import (
  COUNTS,
  checksums,
  days,
  multi_hot,
  numbering,
  read,
  shuffle,
)
from input_pipelines.writing import downloads, files, recipe, work, writer

VERSION = '1.0.0'
CAP = 40_000_000  # rows of a table at most

HOW_TO = """\
Criteo's 1 TB click logs may be used for research (CC BY-NC-SA 4.0).
  1. Download day_0.gz to day_23.gz, 342 GB, from
     https://ailab.criteo.com/ressources/criteo-1tb-click-logs-dataset-for-mlperf
     into {downloads}. They may be unpacked, to day_0 and so on, or not.
  2. Run this command again: it writes the data set. Stopped, it resumes."""

_SEED = 0
_BYTES_A_CLICK = 325  # of the files at their most, beside the day files
_SHARDS = {'train': 2048, 'test': 64}  # a thread holds two copies of one


@dataclasses.dataclass(frozen=True)
class Version:
  """Data set that a version of the benchmark makes of the same clicks."""

  name: str  # of the data set
  hots: tuple[int, ...] = read.ONE_HOT
  cap: int = CAP  # rows of a table at most
  # MD5 of the files that the reference writes, by name; see `checksums`.
  published: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def several(self) -> bool:
    """True where a value stands for several ids: the second version."""
    return self.hots != read.ONE_HOT

  @property
  def limit(self) -> int:
    """Values are taken modulo this before they are numbered."""
    return 2**32 if self.several else self.cap

  @property
  def log_offset(self) -> int:
    """Integers enter as ln(x + this)."""
    return 0 if self.several else 1

  def tables(self, distinct: Sequence[int]) -> tuple[int, ...]:
    """Rows of the tables of columns with so many different values."""
    return tuple(min(number, self.cap) for number in distinct)

  def counts(self, counts: np.ndarray, least: int) -> np.ndarray:
    """Integers as they are stored, int32 [N, 13]; `least` is the day's."""
    return counts - (least - 2) if self.several else np.maximum(counts, 0)

  def numbers(self, numbers: np.ndarray, *, train: bool) -> np.ndarray:
    """Numbers as the reference has them, from those from 0 on: [N, 26]."""
    if not self.several:
      return numbers
    numbers = numbers + np.uint32(2)
    return numbers.astype(np.float32) if train else numbers

  def ids(self, numbers: np.ndarray, tables: Sequence[int]) -> np.ndarray:
    """Ids of such numbers: int32 [N, 26]."""
    if not self.several:
      return numbers
    return numbers % np.asarray(tables, np.int32)

  def places(
    self,
    rows: Sequence[int],
    folder: str,
    progress: work.Progress | None = None,
  ) -> Iterator[np.ndarray]:
    """The places of the clicks of each day to train on, uint32 [rows]."""
    if self.several:
      return shuffle.seeded(rows, _SEED, folder, progress)
    return shuffle.two_pass(rows, _SEED)


ONE_HOT = Version(read.NAME)
MULTI_HOT = Version(
  read.MULTI_HOT_NAME, read.HOTS, published=checksums.PUBLISHED
)


def build(
  order: recipe.Order,
  version: Version,
  *,
  rows: Mapping[str, int] | None = None,
  tables: Sequence[int] | None = None,
  shards: Mapping[str, int] = _SHARDS,
  made: Mapping[str, Any] | None = None,
) -> str:
  """Writes the data set from day files; returns its directory.

  Args:
    order: where the files are, where the data set goes, and how.
    version: which.
    rows: clicks of each split that it must come to; None: any.
    tables: rows of tables that it must come to; None: any.
    shards: of each split at most.
    made: what the manifest is to say of the day files; None: names and sizes.
  """
  paths = days.find(os.path.expanduser(order.downloads))
  made = {
    'recipe': version.name,
    'source': downloads.facts(paths) if made is None else made,
    'versions': recipe.versions(),
  }
  directory = recipe.place(order.data_dir, version.name, VERSION)
  with writer.begin(directory, made) as unfinished:
    facts = _filled(unfinished)
    if facts is None:
      if rows and not os.path.exists(unfinished.path(_DAYS)):
        unfinished.require_space(_BYTES_A_CLICK * sum(rows.values()))
      facts = _facts(unfinished, version, paths, rows, tables, order)
      _fill(unfinished, version, facts, shards, order)
    records = _arrays(unfinished, version, facts, shards, order)
    return writer.write(
      unfinished,
      writer.info(
        directory,
        name=version.name,
        version=VERSION,
        description='Clicks on advertisements, in the schema of Criteo.',
        module=__name__,
        features=read.FEATURES,
        facts=dataclasses.asdict(facts),
      ),
      [
        writer.Split(name, len(found), 1, found.__getitem__)
        for name, found in records.items()
      ],
      threads=order.threads,
    )


def recipe_of(
  version: Version,
  *,
  summary: str,
  bytes: int,
  rows: Mapping[str, int],
  tables: Sequence[int],
  shards: Mapping[str, int] = _SHARDS,
  **fields: Any,
) -> recipe.Recipe:
  """The recipe of a data set of so many clicks and these tables."""
  return recipe.Recipe(
    name=version.name,
    summary=summary,
    bytes=bytes,
    splits={
      name: len(read.layout(number, shards[name]))
      for name, number in rows.items()
    },
    verify=lambda directory: read.verify(
      directory, tables=tables, hots=version.hots, **rows
    ),
    check=lambda features: read.check(features, tables),
    **fields,
  )


_DAYS, _NUMBERS, _BUCKETS = 'days', 'numbers', 'buckets'
_FILLED = 'filled.json'


def _filled(unfinished: writer.Unfinished) -> read.Facts | None:
  """Facts of a data set whose clicks are all in their buckets."""
  try:
    with open(unfinished.path(_FILLED), encoding='utf-8') as file:
      return read.Facts(
        **{
          name: tuple(value) if isinstance(value, list) else value
          for name, value in json.load(file).items()
        }
      )
  except FileNotFoundError:
    return None


def _facts(
  unfinished: writer.Unfinished,
  version: Version,
  paths: Sequence[str],
  rows: Mapping[str, int] | None,
  tables: Sequence[int] | None,
  order: recipe.Order,
) -> read.Facts:
  """Parses the days, numbers their columns and draws what ids stand for."""
  parsed = days.parse(
    paths,
    unfinished.path(_DAYS),
    threads=order.threads,
    progress=order.stage('Parsing the days', 'bytes'),
  )
  of_days = [day.rows for day in parsed]
  # Evals have the first half of the last day, the other half is not used.
  got = {'train': sum(of_days[:-1]), 'test': -(-of_days[-1] // 2)}
  if rows is not None and got != dict(rows):
    raise ValueError(f'Expected {dict(rows)} clicks, got {got}.')
  distinct = numbering.number(
    parsed,
    unfinished.path(_NUMBERS),
    limit=version.limit,
    threads=order.threads,
    progress=order.stage('Numbering the values', 'values'),
  )
  facts = read.Facts(
    **got,
    tables=version.tables(distinct),
    hots=version.hots,
    log_offset=version.log_offset,
  )
  if tables is not None and facts.tables != tuple(tables):
    raise ValueError(
      f'Expected tables of {tuple(tables)} rows, got {facts.tables}.'
    )
  if version.several:
    multi_hot.write(
      unfinished.path('data'),
      facts.tables,
      facts.hots,
      progress=order.stage('Drawing the ids', 'ids'),
    )
  return facts


def _fill(
  unfinished: writer.Unfinished,
  version: Version,
  facts: read.Facts,
  shards: Mapping[str, int],
  order: recipe.Order,
) -> None:
  """Brings the clicks to their buckets; removes the columns."""
  folders = [unfinished.path(name) for name in (_DAYS, _NUMBERS)]
  parsed = days.parsed(folders[0])
  of_days = [day.rows for day in parsed[:-1]]  # to train on
  ids_of = numbering.numbered(parsed, folders[1])

  def clicks(number: int, first: int, end: int) -> np.ndarray:
    day = parsed[number]
    found = day.clicks(first, end, ids_of)
    rows = np.empty(end - first, shuffle.ROW)
    rows['label'] = found.label
    rows['counts'] = version.counts(found.counts, day.least)
    train = number < len(parsed) - 1
    rows['ids'] = version.numbers(found.ids, train=train)
    return rows

  def places():
    yield from version.places(
      of_days, unfinished.path(), order.stage('Drawing the places', 'clicks')
    )
    yield np.arange(facts.train, facts.train + facts.test, dtype=np.uint32)

  buckets = _buckets(unfinished, facts, shards)
  buckets.fill(
    places(),
    clicks,
    threads=order.threads,
    progress=order.stage('Shuffling', 'clicks'),
  )
  if version.published and order.check_downloads:
    checksums.check(
      buckets,
      of_days,
      version.published,
      threads=order.threads,
      progress=order.stage('Comparing the MD5 sums', 'clicks'),
    )
  files.write_json(unfinished.path(_FILLED), dataclasses.asdict(facts))
  for folder in folders:
    shutil.rmtree(folder)


def _buckets(
  unfinished: writer.Unfinished, facts: read.Facts, shards: Mapping[str, int]
) -> shuffle.Buckets:
  """A bucket for each file, those of the test clicks last."""
  sizes = [
    size
    for split in read.ROWS
    for size in read.layout(getattr(facts, split), shards[split])
  ]
  return shuffle.Buckets(unfinished.path(_BUCKETS), np.cumsum(sizes))


def _arrays(
  unfinished: writer.Unfinished,
  version: Version,
  facts: read.Facts,
  shards: Mapping[str, int],
  order: recipe.Order,
) -> dict[str, list[dict[str, Any]]]:
  """Writes the files that are not there -> their records, by split."""
  buckets = _buckets(unfinished, facts, shards)
  all_files = [
    (split, number, rows)
    for split in read.ROWS
    for number, rows in enumerate(
      read.layout(getattr(facts, split), shards[split])
    )
  ]

  def write(file: int, tick: work.Tick) -> tuple[str, dict[str, Any]]:
    split, number, rows = all_files[file]
    name = read.path_of('', split, number)
    found = unfinished.noted(name)
    if found is None:
      clicks = _rows(buckets.read(file), version, facts)
      with unfinished.file(name) as path:
        np.save(path, clicks, allow_pickle=False)
      found = {
        key: np.asarray(value).tolist()
        for key, value in read.described(clicks).items()
      }
      unfinished.note(name, found)
    tick(rows)
    return split, found

  found = work.each(
    write,
    range(len(all_files)),
    whole=facts.train + facts.test,
    threads=order.threads,
    progress=order.stage('Writing', 'clicks'),
  )
  return {
    split: [record for of_split, record in found if of_split == split]
    for split in read.ROWS
  }


def _rows(
  clicks: np.ndarray, version: Version, facts: read.Facts
) -> np.ndarray:
  """Clicks of a bucket as a file has them: int32 [N, 40]."""
  rows = np.empty((len(clicks), read.ROW), np.int32)
  rows[:, 0] = clicks['label']
  rows[:, 1 : 1 + COUNTS] = clicks['counts']
  rows[:, 1 + COUNTS :] = version.ids(clicks['ids'], facts.tables)
  return rows


def _of_criteo(
  version: Version, tables: Sequence[int], summary: str, bytes: int
) -> recipe.Recipe:
  return recipe_of(
    version,
    summary=summary,
    bytes=bytes,
    rows=read.ROWS,
    tables=tables,
    licence='CC BY-NC-SA 4.0 (Criteo AI Lab)',
    build=lambda order: build(order, version, rows=read.ROWS, tables=tables),
    needs='24 files that are downloaded by hand, 342 GB, and 1.4 TB of room',
    how_to=HOW_TO,
  )


RECIPES = (
  _of_criteo(
    ONE_HOT,
    read.TABLES,
    "Criteo's clicks of 24 days: 4.2 G to train on, tables of 188 M rows",
    686_000_000_000,
  ),
  _of_criteo(
    MULTI_HOT,
    read.MULTI_HOT_TABLES,
    'the same clicks with 214 ids each, of tables of 204 M rows',
    709_000_000_000,
  ),
)
