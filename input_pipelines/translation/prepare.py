"""Writes parallel text as numbers of subwords, from files or a TFDS data set.

First the vocabulary, unless one is given: it is found in samples of the text.
Then every block of pairs is encoded, by a process a core, and kept; a build
that was stopped resumes with the next. At last the blocks become the records of
a TFDS data set.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from input_pipelines.reading import batching, dataset
from input_pipelines.text import subwords
from input_pipelines.translation import NAME, corpus, encoding
from input_pipelines.translation import read as translation
from input_pipelines.writing import downloads, files, recipe, work, writer

VERSION = '1.0.0'
SHARDS = 8
LANGUAGES = ('en', 'de')
# In this order.
TRAIN = ('news-commentary-v12.de-en', 'commoncrawl.de-en', 'europarl-v7.de-en')
TEST = 'newstest2014'
VOCABULARY = 'vocab.translate_ende_wmt32k.32768.subwords'
MD5 = {
  f'{TEST}.en': 'dabf51a9c02b2235632f3cee75c72d49',
  f'{TEST}.de': 'f6c3818b477e4a25cad68b61cc883c17',
  VOCABULARY: '0067c33184fa284ef6dc422dffcf8088',
}
# TFDS's: its training split has more corpora than the reference.
TFDS_TRAIN = 'wmt17_translate/de-en'
TFDS_TEST = 'wmt14_translate/de-en'
# Of the vocabulary that is built where there is no file of one.
SIZE, MIN_COUNT, SAMPLE = 32768, 6, 1_000_000

HOW_TO = """\
The corpora of WMT may be used for research; their pages say what else.
  1. Download and unpack, anywhere below {downloads}:
     http://data.statmt.org/wmt17/translation-task/training-parallel-nc-v12.tgz
     http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz
     http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz
     of each of them the two files of de-en are needed. Put there, too,
     newstest2014.en and newstest2014.de as the reference has them, and
     vocab.translate_ende_wmt32k.32768.subwords from the reference; without it a
     vocabulary is built, which Closed does not allow.
  2. Run this command again: it checks them and writes the data set.
Where {data_dir} has the TFDS data sets wmt17_translate/de-en and
wmt14_translate/de-en, they are used for what is not in {downloads}; but the
first has more corpora than the reference, so Closed does not allow it."""

_SMALL = 100_000  # pairs; fewer are encoded before a process has started


@dataclasses.dataclass(frozen=True)
class Found:
  """Paths of the text and the vocabulary."""

  train: Sequence[tuple[str, str]] | str  # files, or a TFDS directory
  test: tuple[str, str] | str
  vocabulary: str | None

  @property
  def paths(self) -> list[str]:
    """All files."""
    found = [] if isinstance(self.train, str) else [*sum(self.train, ())]
    found += [] if isinstance(self.test, str) else [*self.test]
    return found + ([self.vocabulary] if self.vocabulary else [])


def build(
  order: recipe.Order,
  *,
  md5: Mapping[str, str] = MD5,
  size: int = SIZE,
  min_count: int | None = MIN_COUNT,
  processes: int | None = None,
) -> str:
  """Writes the data set; returns its directory.

  Args:
    order: where the text is, where the data set goes, and how.
    md5: file -> its checksum, of those that are known.
    size: of a vocabulary that is built, where `min_count` is None.
    min_count: how often its subwords have to come.
    processes: that encode; None for one a core, or none for little text.
  """
  found = find(order)
  directory = recipe.place(order.data_dir, NAME, VERSION)
  made = made_of(order, found, size=size, min_count=min_count)
  with writer.begin(directory, made) as unfinished:
    downloads.check_md5(order, found.paths, md5)
    tell = order.stage('Counting the lines', 'bytes')
    train = _open(found.train, 'train', tell)
    test = _open(found.test, 'test', None)
    unfinished.require_space(2 * train.size)
    if found.vocabulary:
      vocabulary = subwords.read(found.vocabulary)
    else:
      vocabulary = find_vocabulary(
        unfinished, train, order, size=size, min_count=min_count
      )
    return write(
      unfinished,
      {'train': train, 'test': test},
      vocabulary,
      name=NAME,
      description='WMT17 English to German as numbers of subwords.',
      shards={'train': SHARDS, 'test': 1},
      order=order,
      processes=processes,
    )


def find(order: recipe.Order) -> Found:
  """Files that exist; FileNotFoundError names missing ones."""
  there = downloads.below(order.downloads)

  def pair(stem: str) -> tuple[str, str] | None:
    paths = [there.get(f'{stem}.{language}') for language in LANGUAGES]
    return tuple(paths) if all(paths) else None

  train = [pair(stem) for stem in TRAIN]
  if not all(train):
    lacks = ', '.join(s for s, p in zip(TRAIN, train, strict=True) if not p)
    if any(train):
      raise FileNotFoundError(
        f'Expected the files .en and .de of {lacks} below {order.downloads}, '
        'as of the others.'
      )
    train = _tfds(order, TFDS_TRAIN, f'{lacks} below {order.downloads}')
  test = pair(TEST) or _tfds(order, TFDS_TEST, f'{TEST}.en and .de')
  return Found(train, test, there.get(VOCABULARY))


def made_of(
  order: recipe.Order, found: Found, *, size: int, min_count: int | None
) -> dict[str, Any]:
  """Sources of a data set, for its manifest."""
  source: dict[str, Any] = {**downloads.facts(found.paths)}
  for split, where in (('train', found.train), ('test', found.test)):
    if isinstance(where, str):
      source[split] = {'fingerprint': dataset.fingerprint(where)}
  options: dict[str, Any] = {'check_downloads': order.check_downloads}
  if not found.vocabulary:
    options['vocabulary'] = {
      'size': size,
      'min_count': min_count,
      'sample': SAMPLE,
    }
  return {
    'recipe': NAME,
    'source': source,
    'options': options,
    'versions': recipe.versions(),
  }


def find_vocabulary(
  unfinished: writer.Unfinished,
  train: corpus.Corpus,
  order: recipe.Order,
  *,
  size: int,
  min_count: int | None = None,
  sample: int = SAMPLE,
) -> subwords.Vocabulary:
  """Builds a vocabulary from samples of a corpus, or reads the one begun with.

  Args:
    unfinished: the data set that it is for.
    train: the corpus.
    order: how.
    size: of the vocabulary, to within 1 %, where `min_count` is None.
    min_count: how often a subword has to come.
    sample: characters of each file, or of each language.
  """
  path = unfinished.path(subwords.Vocabulary.file)
  if os.path.exists(path):
    return subwords.read(path)
  found = subwords.build(
    subwords.count(train.samples(sample)),
    size=size,
    min_count=min_count,
    progress=order.stage('Finding subwords', 'pieces'),
  )
  _place_text(path, found.text())
  return found


def write(
  unfinished: writer.Unfinished,
  corpora: Mapping[str, corpus.Corpus],
  vocabulary: encoding.Vocabulary,
  *,
  name: str,
  description: str,
  shards: Mapping[str, int],
  order: recipe.Order,
  processes: int | None = None,
) -> str:
  """Writes text as a TFDS data set; returns its directory.

  Args:
    unfinished: where to, of `writer.begin`.
    corpora: of 'train' and 'test'; the texts of the latter are kept.
    vocabulary: by which they are encoded.
    name: of the data set.
    description: for its metadata.
    shards: split -> the number of them.
    order: how.
    processes: that encode; None for one a core, or none for little text.
  """
  if len(vocabulary) > 1 << 16:
    raise ValueError(
      f'Expected {1 << 16} subwords or fewer, got {len(vocabulary)}.'
    )
  _place_text(unfinished.path('data', vocabulary.file), vocabulary.text())
  _encode(unfinished, corpora, vocabulary, order, processes)
  _write_lengths(unfinished, len(corpora['train']))
  splits = []
  for split, pairs in corpora.items():
    records = translation.records(len(pairs))
    example = _example(unfinished, split, pairs if split == 'test' else None)
    splits.append(
      writer.Split(split, records, min(shards[split], records), example)
    )
  facts = {split: len(pairs) for split, pairs in corpora.items()}
  test = _lengths(unfinished, 'test', facts['test'])
  facts['longest_source'] = int(test[:, 0].max())
  return writer.write(
    unfinished,
    _info(
      unfinished.directory,
      name,
      description,
      facts | {'subwords': len(vocabulary)},
    ),
    splits,
    threads=order.threads,
    progress=order.stage('Writing', 'blocks'),
  )


def check(
  features: Mapping[str, Any],
  subwords: int = translation.SUBWORDS,
  end: int = subwords.EOS,
) -> None:
  """Raises ValueError unless a record holds pairs of such subwords."""
  translation.block_of(features, subwords, end)


def _tfds(order: recipe.Order, name: str, instead: str) -> str:
  try:
    return dataset.find(order.data_dir, name)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'Expected {instead}, or {name} in {order.data_dir}; found neither.'
    ) from error


def _open(
  where: Sequence | str, split: str, progress: work.Progress | None
) -> corpus.Corpus:
  if isinstance(where, str):
    return corpus.Tfds(where, split, LANGUAGES)
  paths = [where] if isinstance(where[0], str) else where
  return corpus.Files(paths, progress)


def _place_text(path: str, text: str) -> None:
  with files.replacing(path) as file:
    file.write(text.encode())


def _encoded(unfinished: writer.Unfinished, split: str, block: int) -> str:
  """Path of a block of a split until it is written."""
  return unfinished.path('encoded', f'{split}-{block:06d}.npz')


def _encode(
  unfinished: writer.Unfinished,
  corpora: Mapping[str, corpus.Corpus],
  vocabulary: encoding.Vocabulary,
  order: recipe.Order,
  processes: int | None,
) -> None:
  """Encodes the blocks that are not there yet."""
  os.makedirs(unfinished.path('encoded'), exist_ok=True)
  whole = sum(map(len, corpora.values()))
  if processes is None:
    processes = (order.threads or batching.cores()) if whole > _SMALL else 0
  missing, done = [], 0
  for split, pairs in corpora.items():
    for block in range(translation.records(len(pairs))):
      first = block * translation.BLOCK
      end = min(first + translation.BLOCK, len(pairs))
      if os.path.exists(_encoded(unfinished, split, block)):
        done += end - first
      else:
        missing.append((split, block, first, end))
  with encoding.encoder(vocabulary, processes) as encode:

    def do(each: tuple[str, int, int, int], tick: work.Tick) -> None:
      split, block, first, end = each
      columns = {}
      sides = corpora[split].pairs(first, end)
      for side, lines in zip(translation.SIDES, sides, strict=True):
        columns[side], columns[f'{side}_length'] = encode(lines)
      path = _encoded(unfinished, split, block)
      with files.replacing(path) as file:
        np.savez(file, **columns)
      tick(end - first)

    work.each(
      do,
      missing,
      whole=whole,
      done=done,
      threads=max(1, processes),
      progress=order.stage('Encoding', 'pairs'),
    )


def _write_lengths(unfinished: writer.Unfinished, pairs: int) -> None:
  """The tokens of both sides of all pairs to train on, in a file."""
  lengths = _lengths(unfinished, 'train', pairs)
  if lengths.max() < 1 << 16:
    lengths = lengths.astype(np.uint16)
  path = unfinished.path('data', translation.LENGTHS)
  with files.replacing(path) as file:
    np.save(file, lengths)


def _lengths(
  unfinished: writer.Unfinished, split: str, pairs: int
) -> np.ndarray:
  """The tokens of both sides of all pairs of a split, int [N, 2]."""
  found = []
  for block in range(translation.records(pairs)):
    with np.load(_encoded(unfinished, split, block)) as columns:
      sides = [columns[f'{side}_length'] for side in translation.SIDES]
      found.append(np.stack(sides, axis=1))
  return np.concatenate(found)


def _example(
  unfinished: writer.Unfinished, split: str, texts: corpus.Corpus | None
) -> Callable[[int], writer.Example]:
  def example(block: int) -> writer.Example:
    with np.load(_encoded(unfinished, split, block)) as columns:
      features = dict(columns)
    first = block * translation.BLOCK
    end = first + len(features['source_length'])
    kept = texts.pairs(first, end) if texts else ([], [])
    for side, lines in zip(translation.SIDES, kept, strict=True):
      features[f'{side}_text'] = lines
    return features

  return example


def _info(
  directory: str, name: str, description: str, facts: Mapping[str, int]
) -> tfds.core.DatasetInfo:
  features: dict[str, Any] = {}
  for side in translation.SIDES:
    features[side] = writer.column(np.uint16)
    features[f'{side}_length'] = writer.column(np.int32)
    features[f'{side}_text'] = tfds.features.Sequence(tfds.features.Text())
  return writer.info(
    directory,
    name=name,
    version=VERSION,
    description=description,
    module=__name__,
    features=features,
    facts=facts,
  )


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='WMT17 English to German, 4.6 million pairs as numbers of subwords',
    licence="research; see the corpora's own pages at statmt.org",
    bytes=600_000_000,
    splits={'train': None, 'test': 1},
    verify=translation.verify,
    check=check,
    build=build,
    needs='six files of parallel text, two of newstest2014 and a vocabulary',
    how_to=HOW_TO,
  ),
)
