"""Writes samples of Wikipedia, from its cleaned text or from TFRecords.

The text lies in 500 parts and a file of held-out articles; the benchmark's
samples are made of it, part by part, by a process a core. TFRecords hold these
samples, as the reference writes them. Either way a part becomes a shard, and a
build that was stopped resumes with the next part.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
from typing import Any

from google.protobuf import message
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines.reading import batching, examples, tfrecord
from input_pipelines.text import wordpiece
from input_pipelines.wikipedia import EVAL, NAME, samples
from input_pipelines.wikipedia import read as wikipedia
from input_pipelines.writing import downloads, files, recipe, work, writer

VERSION = '1.0.0'
PARTS = 500
VOCABULARY = 'vocab.txt'
EVAL_TEXT, EVAL_RECORDS = 'eval.txt', 'eval_10k'
MD5 = {
  VOCABULARY: '64800d5d8528ce344256daf115d4965e',
  EVAL_TEXT: '2a220f790517261547b1b45ed3ada07a',
  'part-00000-of-00500': 'a64a7c31eff5cd38ae6d94f7a6229dab',
  'part-00499-of-00500': 'b3b087ad24e3770d879a351664cebc5a',
}
TOKENS = 30_522

HOW_TO = """\
The text of Wikipedia is under CC BY-SA.
  1. Put into {downloads}, in any folder below it, vocab.txt and either
     the cleaned text, 502 files of 13 GB: part-00000-of-00500 and so on, and
     eval.txt, which MLCommons' downloader has as
     bert-preprocessed-wikipedia-dataset (training.mlcommons-storage.org);
     or TFRecords that the reference made of it, 390 GB: the same parts, and
     eval_10k.
  2. Run this command again: it checks them and writes the data set, 100 GB.
     From text a part takes about two minutes of a core and 0.7 GB of memory."""

_FEATURES = {
  'tokens': np.uint16,
  'length': np.uint16,
  'first': np.uint16,
  'predicted': np.uint16,
  'labels': np.uint16,
  'predictions': np.uint16,
  'is_random': np.uint8,
}


@dataclasses.dataclass(frozen=True)
class Part:
  """Source of a shard."""

  path: str
  picked: int | None = None  # samples, of all that a text gives


def build(
  order: recipe.Order,
  *,
  md5: Mapping[str, str] = MD5,
  parts: int = PARTS,
  evaluated: int = EVAL,
  settings: samples.Settings = samples.Settings(),  # noqa: B008 - frozen
  processes: int | None = None,
) -> str:
  """Writes the data set; returns its directory.

  Args:
    order: where the files are, where the data set goes, and how.
    md5: file -> its checksum, of those that are known.
    parts: of the training data.
    evaluated: samples that evals are made on.
    settings: by which samples are made of text.
    processes: that make them; None for one a core, 0 for this one alone.
  """
  vocabulary, by_split = find(order, parts=parts, evaluated=evaluated)
  directory = recipe.place(order.data_dir, NAME, VERSION)
  paths = [vocabulary, *(p.path for each in by_split.values() for p in each)]
  made = {
    'recipe': NAME,
    'source': downloads.facts(paths),
    'settings': dataclasses.asdict(settings),
    'options': {'check_downloads': order.check_downloads},
    'versions': recipe.versions(),
  }
  with writer.begin(directory, made) as unfinished:
    texts = [path for path in paths if not is_tfrecord(path)]
    downloads.check_md5(order, texts, md5)
    words = wordpiece.read(vocabulary)
    return write(
      unfinished,
      by_split,
      words,
      name=NAME,
      description='Masked sentences of the English Wikipedia of 2020-01-01.',
      settings=settings,
      order=order,
      processes=batching.cores() if processes is None else processes,
    )


def find(
  order: recipe.Order, *, parts: int, evaluated: int
) -> tuple[str, dict[str, list[Part]]]:
  """The vocabulary and the parts of each split; FileNotFoundError."""
  there = downloads.below(order.downloads)
  wanted = [f'part-{i:05d}-of-{parts:05d}' for i in range(parts)]
  lacks = [name for name in (VOCABULARY, *wanted) if name not in there]
  if EVAL_TEXT not in there and EVAL_RECORDS not in there:
    lacks.append(f'{EVAL_TEXT} or {EVAL_RECORDS}')
  if lacks:
    raise FileNotFoundError(
      f'Expected {lacks[0]} below {order.downloads}, and {len(lacks) - 1} '
      'files more, found none.'
    )
  held_out = there.get(EVAL_RECORDS) or there[EVAL_TEXT]
  return there[VOCABULARY], {
    'train': [Part(there[name]) for name in wanted],
    'eval': [Part(held_out, evaluated)],
  }


def write(
  unfinished: writer.Unfinished,
  by_split: Mapping[str, Sequence[Part]],
  vocabulary: wordpiece.Vocabulary,
  *,
  name: str,
  description: str,
  settings: samples.Settings,
  order: recipe.Order,
  processes: int = 0,
) -> str:
  """Writes every part that is not there yet, and finishes the data set."""
  info = _info(unfinished.directory, name, description, {})
  shards = {
    split: writer.shard_names(info, split, len(parts))
    for split, parts in by_split.items()
  }
  jobs = [
    job
    for split, parts in by_split.items()
    for job in zip(shards[split], parts, strict=True)
  ]
  missing = [job for job in jobs if not unfinished.is_done(job[0])]
  os.makedirs(unfinished.path('counts'), exist_ok=True)
  with _called(processes) as call:

    def do(job: tuple[str, Part], tick: work.Tick) -> None:
      call(_write_part, unfinished, *job, vocabulary, settings, name)
      tick(1)

    work.each(
      do,
      missing,
      whole=len(jobs),
      done=len(jobs) - len(missing),
      threads=max(1, processes),
      progress=order.stage('Making samples', 'files'),
    )
  counts = {
    split: np.concatenate([np.load(_counts(unfinished, n)) for n in names])
    for split, names in shards.items()
  }
  path = unfinished.path('data', wikipedia.COUNTS)
  with files.replacing(path) as file:
    np.save(file, counts['train'])
  _place_vocabulary(unfinished, vocabulary)
  facts = {split: int(each.sum()) for split, each in counts.items()}
  facts |= {
    'vocabulary': len(vocabulary),
    'length': settings.length,
    'predictions': settings.predictions,
  }
  info = _info(unfinished.directory, name, description, facts)
  return writer.complete(unfinished, info, shards)


def of_text(
  path: str, vocabulary: wordpiece.Vocabulary, settings: samples.Settings
) -> list[samples.Sample]:
  """All samples of a text with a sentence a line, documents set apart."""
  documents: list[list[list[int]]] = [[]]
  # As the reference reads it: a line ends at '\n' alone, and what is no UTF-8
  # is left out.
  with open(path, encoding='utf-8', errors='ignore', newline='\n') as file:
    for lines in _several(map(str.strip, file), 4096):
      for line, tokens in zip(lines, vocabulary.encode(lines), strict=True):
        if not line:
          documents.append([])
        if tokens:
          documents[-1].append(tokens)
  documents = [each for each in documents if each]
  if not documents:
    raise ValueError(f'Expected sentences in {path}, got none.')
  return samples.make(documents, vocabulary, settings)


def of_records(
  path: str, settings: samples.Settings
) -> Iterator[samples.Sample]:
  """The samples of a file of TFRecords, as the reference writes them."""
  for number, record in enumerate(tfrecord.read(path)):
    try:
      features = tf_example_pb2.Example.FromString(record).features.feature
      yield sample_of(features, settings)
    except (ValueError, message.DecodeError) as error:
      raise ValueError(
        f'Record {number} of {path} cannot be read: {error}'
      ) from error


def sample_of(
  features: Mapping[str, Any], settings: samples.Settings
) -> samples.Sample:
  """The part of a record that is no padding; ValueError for another record."""
  length, most = (settings.length,), (settings.predictions,)

  def numbers(name: str, shape: tuple[int, ...], dtype: type = np.int64):
    return examples.values(features, name, dtype, shape)

  count = _leading(numbers('input_mask', length), 'input_mask')
  types = numbers('segment_ids', length)
  weight = numbers('masked_lm_weights', most, np.float32)
  predicted = _leading(weight, 'masked_lm_weights')
  first = count - _leading(types[:count][::-1], 'segment_ids')
  return samples.Sample(
    tokens=numbers('input_ids', length)[:count].astype(np.uint16),
    first=first,
    predicted=numbers('masked_lm_positions', most)[:predicted].astype(
      np.uint16
    ),
    labels=numbers('masked_lm_ids', most)[:predicted].astype(np.uint16),
    is_random=bool(numbers('next_sentence_labels', (1,))[0]),
  )


def is_tfrecord(path: str) -> bool:
  """Returns whether a file begins with a record."""
  try:
    next(tfrecord.read(path))
  except (ValueError, StopIteration):
    return False
  return True


def example(block: Sequence[samples.Sample]) -> writer.Example:
  """The values of a record that holds some samples."""

  def column(values: Iterable[Any], name: str) -> np.ndarray:
    return np.fromiter(values, _FEATURES[name])

  return {
    'tokens': np.concatenate([each.tokens for each in block]),
    'predicted': np.concatenate([each.predicted for each in block]),
    'labels': np.concatenate([each.labels for each in block]),
    'length': column((len(each.tokens) for each in block), 'length'),
    'first': column((each.first for each in block), 'first'),
    'predictions': column((len(e.predicted) for e in block), 'predictions'),
    'is_random': column((each.is_random for each in block), 'is_random'),
  }


def check(features: Mapping[str, Any], tokens: int = TOKENS) -> None:
  """Raises ValueError unless a record holds samples of such tokens."""
  found = wikipedia.samples_of(features)
  most = max(found.tokens.max(), found.labels.max())
  if most >= tokens:
    raise ValueError(f'Expected tokens in [0, {tokens}), got {most}.')


def _write_part(
  unfinished: writer.Unfinished,
  shard: str,
  part: Part,
  vocabulary: wordpiece.Vocabulary,
  settings: samples.Settings,
  name: str,
) -> None:
  """Writes one shard, in any process."""
  serialize = writer.serializer(_info(unfinished.directory, name, '', {}))
  found: Iterable[samples.Sample]
  if is_tfrecord(part.path):
    found = of_records(part.path, settings)
  else:
    found = of_text(part.path, vocabulary, settings)
    if part.picked:
      chosen = samples.picked(len(found), part.picked)
      found = [found[number] for number in chosen]
  counts = []
  with unfinished.shard(shard) as write_record:
    for block in _several(found, wikipedia.BLOCK):
      write_record(serialize(example(block)))
      counts.append(len(block))
    path = _counts(unfinished, shard)
    with open(path, 'wb') as file:
      np.save(file, np.asarray(counts, np.uint8))


def _counts(unfinished: writer.Unfinished, shard: str) -> str:
  """Path of the samples of every record of a shard, until all are done."""
  return unfinished.path('counts', f'{shard}.npy')


def _several(values: Iterable[Any], count: int) -> Iterator[list[Any]]:
  values = iter(values)
  while some := list(itertools.islice(values, count)):
    yield some


def _leading(values: np.ndarray, name: str) -> int:
  """Number of leading ones, before zeros; ValueError for anything else."""
  count = int(np.count_nonzero(values))
  if not (values[:count] == 1).all():
    raise ValueError(f'Expected ones and then zeros in {name!r}, got others.')
  return count


@contextlib.contextmanager
def _called(processes: int) -> Iterator[Callable]:
  """Calls functions in other processes, from threads; with 0, in this one."""
  if not processes:
    yield lambda function, *args: function(*args)
    return
  # Not a fork: other threads may hold locks at this moment.
  context = multiprocessing.get_context('spawn')
  pool = futures.ProcessPoolExecutor(processes, context)
  try:
    yield lambda function, *args: pool.submit(function, *args).result()
  finally:
    pool.shutdown(cancel_futures=True)


def _place_vocabulary(
  unfinished: writer.Unfinished, vocabulary: wordpiece.Vocabulary
) -> None:
  path = unfinished.path('data', wikipedia.VOCABULARY)
  with files.replacing(path) as file:
    file.writelines(f'{token}\n'.encode() for token in vocabulary.tokens)


def _info(
  directory: str, name: str, description: str, facts: Mapping[str, int]
) -> tfds.core.DatasetInfo:
  return writer.info(
    directory,
    name=name,
    version=VERSION,
    description=description,
    features={key: writer.column(kind) for key, kind in _FEATURES.items()},
    module=__name__,
    facts=facts,
  )


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='masked sentences of the English Wikipedia, 155 million samples',
    licence='CC BY-SA, of the text',
    bytes=102_000_000_000,
    splits={'train': None, 'eval': wikipedia.records(EVAL)},
    verify=functools.partial(
      wikipedia.verify, evaluated=EVAL, vocabulary=TOKENS
    ),
    check=check,
    build=build,
    needs='502 files of text, 13 GB, and a vocabulary',
    how_to=HOW_TO,
  ),
)
