"""Writes WMT16 as the GNMT reference prepares it: byte pairs of Moses' words.

The text may be there in any of two forms. Where the reference's own script has
run (download_dataset.sh of mlcommons/training, retired_benchmarks/gnmt), its
files are numbered. Else they are made of the corpora: Moses' tokenizer, which
is a Perl script, cuts the words; pairs that are empty, too long, too unlike in
length or outside of Latin-1 are left out; and 32,000 pairs are joined. Either
way the MD5 sums of what the reference has are checked.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import os
import subprocess

from input_pipelines.reading import batching
from input_pipelines.text import bpe, moses
from input_pipelines.translation import (
  COUNTED_16,
  NAME_16,
  PAIRS_16,
  corpus,
  prepare,
)
from input_pipelines.translation import read as translation
from input_pipelines.writing import downloads, files, recipe, writer

VERSION = prepare.VERSION
SHARDS = 8
MERGES = 32_000
MULTIPLE = 8  # of subwords, some of them made up
MOST_WORDS = 80  # of a sentence to train on
LANGUAGES = prepare.LANGUAGES
# In this order.
TRAIN = (
  'europarl-v7.de-en',
  'commoncrawl.de-en',
  'news-commentary-v11.de-en',
)
TEST = 'newstest2014'
TRAIN_CUT = 'train.tok.clean.bpe.32000'
TEST_CUT = 'newstest2014.tok.bpe.32000.en'
VOCABULARY = 'vocab.bpe.32000'
TOKENIZER = 'tokenizer.perl'
MD5 = {
  f'{TRAIN_CUT}.en': 'b7482095b787264a310d4933d197a134',
  f'{TRAIN_CUT}.de': '409064aedaef5b7c458ff19a7beda462',
  TEST_CUT: 'cb014e2509f86cd81d5a87c240c07464',
  f'{TEST}.de': 'f6c3818b477e4a25cad68b61cc883c17',
}

HOW_TO = """\
The corpora of WMT may be used for research; their pages say what else.
  Either run download_dataset.sh of the reference (mlcommons/training,
  retired_benchmarks/gnmt), and put what it wrote anywhere below {downloads}:
     train.tok.clean.bpe.32000.en and .de, newstest2014.tok.bpe.32000.en,
     newstest2014.de and vocab.bpe.32000
  or put there, unpacked:
     http://www.statmt.org/europarl/v7/de-en.tgz
     http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz
     http://data.statmt.org/wmt16/translation-task/training-parallel-nc-v11.tgz
     newstest2014.en and newstest2014.de, the two sides as plain text, and
     github.com/moses-smt/mosesdecoder, whose tokenizer is run by Perl.
Then run this command again: it checks them and writes the data set."""

_PIECE = 1024  # lines that are cut at a time


@dataclasses.dataclass(frozen=True)
class Cut:
  """Paths of text that is cut into subwords, and of the translated test."""

  train: tuple[str, str]
  test: tuple[str, str]  # subwords, and the translations as they were
  vocabulary: str


@dataclasses.dataclass(frozen=True)
class Raw:
  """Paths of text as it was published, and of the tokenizer."""

  train: Sequence[tuple[str, str]]
  test: tuple[str, str]
  tokenizer: str


def build(
  order: recipe.Order,
  *,
  merges: int = MERGES,
  processes: int | None = None,
) -> str:
  """Writes the data set; returns its directory.

  Args:
    order: where the text is, where the data set goes, and how.
    merges: pairs of symbols that are joined, where the text is not cut yet.
    processes: that number the text; None for one a core, or none for little.
  """
  found = find(order)
  paths = _paths(found)
  made = {
    'recipe': NAME_16,
    'source': downloads.facts(paths),
    'options': {'check_downloads': order.check_downloads, 'merges': merges},
    'versions': recipe.versions(),
  }
  directory = recipe.place(order.data_dir, NAME_16, VERSION)
  with writer.begin(directory, made) as unfinished:
    downloads.check_md5(order, paths, MD5)
    if isinstance(found, Raw):
      size = sum(os.path.getsize(path) for path in paths)
      unfinished.require_space(4 * size)
      found = cut(found, unfinished.path('text'), order, merges=merges)
      downloads.check_md5(order, _paths(found), MD5)
    tell = order.stage('Counting the lines', 'bytes')
    train = corpus.Files([found.train], tell)
    unfinished.require_space(2 * train.size)
    return prepare.write(
      unfinished,
      {'train': train, 'test': corpus.Files([found.test])},
      bpe.read(found.vocabulary).padded(MULTIPLE),
      name=NAME_16,
      description='WMT16 English to German as numbers of subwords.',
      shards={'train': SHARDS, 'test': 1},
      order=order,
      processes=processes,
    )


def find(order: recipe.Order) -> Cut | Raw:
  """Files that exist; FileNotFoundError names missing ones."""
  there = downloads.below(order.downloads)
  translated = f'{TEST}.de'
  names = [*_of(TRAIN_CUT), TEST_CUT, translated, VOCABULARY]
  if all(name in there for name in names):
    source, target, test, *_ = (there[name] for name in names)
    return Cut((source, target), (test, there[translated]), there[VOCABULARY])
  stems = [*TRAIN, TEST]
  lacks = [n for stem in stems for n in _of(stem) if n not in there]
  lacks += [] if TOKENIZER in there else [TOKENIZER]
  if lacks:
    raise FileNotFoundError(
      f'Expected {", ".join(lacks)} below {order.downloads}, or '
      f'{", ".join(n for n in names if n not in there)}.'
    )
  *train, test = (tuple(there[name] for name in _of(stem)) for stem in stems)
  return Raw(train, test, there[TOKENIZER])


def cut(raw: Raw, folder: str, order: recipe.Order, *, merges: int) -> Cut:
  """Makes what the reference's script makes; what is there is not made again.

  Args:
    raw: the text.
    folder: where to put it.
    order: how.
    merges: pairs of symbols that are joined.
  """
  os.makedirs(folder, exist_ok=True)
  place = lambda name: os.path.join(folder, name)  # noqa: E731
  words = [place(f'train.tok.{language}') for language in LANGUAGES]
  clean = [place(f'train.tok.clean.{language}') for language in LANGUAGES]
  test = place('newstest2014.tok.en')
  for side, language in enumerate(LANGUAGES):
    _once(
      [words[side]], _tokenized, raw.tokenizer, language,
      [pair[side] for pair in raw.train], order.threads,
    )  # fmt: skip
  _once([test], _tokenized, raw.tokenizer, 'en', raw.test[:1], order.threads)
  _once(clean, _cleaned, words, order.stage('Cleaning', 'pairs'))
  codes, vocabulary = place('bpe.32000'), place(VOCABULARY)
  _once([codes], _learned, clean, merges, order)
  joins = read_merges(codes)
  pieces = [place(f'{TRAIN_CUT}.{language}') for language in LANGUAGES]
  _once([*pieces, vocabulary], _subwords, clean, joins, order)
  last = place(TEST_CUT)
  _once([last], _cut_lines, test, joins)
  return Cut(tuple(pieces), (last, raw.test[1]), vocabulary)


def read_merges(path: str) -> bpe.Merges:
  """The pairs of a file, one a line after the first."""
  with open(path, encoding='utf-8', newline='\n') as file:
    _, *lines = file.read().split('\n')[:-1]
  return bpe.Merges([tuple(line.split(' ')) for line in lines])


def _of(stem: str) -> list[str]:
  return [f'{stem}.{language}' for language in LANGUAGES]


def _paths(found: Cut | Raw) -> list[str]:
  if isinstance(found, Cut):
    return [*found.train, *found.test, found.vocabulary]
  return [*sum(found.train, ()), *found.test, found.tokenizer]


def _once(paths: Sequence[str], make: Callable[..., None], *args) -> None:
  """Makes files whole or not at all: `make(partial paths, *args)`."""
  if all(os.path.exists(path) for path in paths):
    return
  partial = [f'{path}.partial' for path in paths]
  make(partial, *args)
  for before, after in zip(partial, paths, strict=True):
    files.place(before, after)


def _tokenized(paths, tokenizer, language, texts, threads) -> None:
  """The words of some files, one after the other, as Moses cuts them."""
  command = ['perl', tokenizer, '-q', '-l', language]
  if threads != 1:
    command += ['-threads', str(threads or batching.cores())]
  with open(paths[0], 'wb') as into:
    for text in texts:
      with open(text, 'rb') as file:
        subprocess.run(command, stdin=file, stdout=into, check=True)


def _cleaned(paths, words, progress) -> None:
  """The pairs to train on."""
  both = corpus.Files([tuple(words)])
  with _opened(paths, 'w') as into:
    for first in range(0, len(both), _PIECE):
      end = min(first + _PIECE, len(both))
      for pair in zip(*both.pairs(first, end), strict=True):
        pair = [moses.squeezed(side) for side in pair]
        if moses.is_clean(*pair, most=MOST_WORDS) and all(
          map(moses.is_latin, pair)
        ):
          for file, side in zip(into, pair, strict=True):
            file.write(f'{side}\n')
      if progress:
        progress(end, len(both))


def _learned(paths, clean, merges, order) -> None:
  counts: collections.Counter[str] = collections.Counter()
  for path in clean[::-1]:  # the translations first, as in the reference
    counts.update(bpe.count(_lines(path)))
  found = bpe.learn(counts, merges, progress=order.stage('Joining', 'pairs'))
  _write(paths[0], found.text())


def _subwords(paths, clean, joins, order) -> None:
  """Both sides, cut, and all subwords of both by how often they come."""
  *sides, vocabulary = paths
  counts: collections.Counter[str] = collections.Counter()
  tell = order.stage('Cutting', 'sides')
  for number, (into, path) in enumerate(zip(sides, clean, strict=True)):
    _cut_lines([into], path, joins)
    counts.update(bpe.count(_lines(into)))
    if tell:
      tell(number + 1, len(sides))
  words = bpe.by_frequency(counts)
  _write(vocabulary, ''.join(f'{word}\n' for word in words))


def _cut_lines(paths, path, joins) -> None:
  with _opened(paths, 'w') as (into,):
    for line in _lines(path):
      into.write(' '.join(joins.cut(w for w in line.split(' ') if w)) + '\n')


def _lines(path: str) -> Iterator[str]:
  with open(path, encoding='utf-8', newline='\n') as file:
    for line in file:
      yield line.strip('\r\n ')


def _write(path: str, text: str) -> None:
  with _opened([path], 'w') as (file,):
    file.write(text)


@contextlib.contextmanager
def _opened(paths: Sequence[str], mode: str):
  with contextlib.ExitStack() as stack:
    yield [
      stack.enter_context(open(path, mode, encoding='utf-8', newline='\n'))
      for path in paths
    ]


def _verify(directory: str) -> None:
  translation.verify(directory, **PAIRS_16, counted=COUNTED_16)


RECIPES = (
  recipe.Recipe(
    name=NAME_16,
    summary='WMT16 English to German, 4 million pairs as numbers of subwords',
    licence="research; see the corpora's own pages at statmt.org",
    bytes=600_000_000,
    splits={'train': None, 'test': 1},
    verify=_verify,
    check=lambda features: prepare.check(features, 1 << 16, bpe.EOS),
    build=build,
    needs='six files of parallel text, two of newstest2014, Moses and Perl',
    how_to=HOW_TO,
  ),
)
