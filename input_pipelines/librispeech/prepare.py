"""Prepares LibriSpeech from OpenSLR's archives, or from what TFDS made of them.

An archive is read twice and never unpacked: once for its texts and checksum,
then for its speech, whose FLAC files become records as they are. Texts are in
lower case. Their pieces are found in the texts of all that is trained on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import io
import json
import os
import tarfile
from typing import Any

import numpy as np
import soundfile
from tensorflow_datasets.proto import tf_example_pb2

from input_pipelines import librispeech
from input_pipelines.librispeech import read
from input_pipelines.reading import examples, tfrecord
from input_pipelines.text import pieces
from input_pipelines.writing import downloads, files, recipe, work, writer

VERSION = '1.0.0'
BYTES = 60_000_000_000
# Of the archives, from mlcommons/training, retired_benchmarks/rnnt/pytorch/
# utils/librispeech.csv.
MD5 = {
  'dev-clean.tar.gz': '42e2234ba48799c1f50f24a7926300a1',
  'train-clean-100.tar.gz': '2a93770f6d5c6c964bc36631d331a522',
  'train-clean-360.tar.gz': 'c0e676e450a7ff2f54aeade5171606fa',
  'train-other-500.tar.gz': 'd1a0fd59409feb2c614ce4d30c387708',
}

HOW_TO = """\
LibriSpeech may be used under CC BY 4.0.
  1. Download from https://www.openslr.org/12 to {downloads}:
     dev-clean.tar.gz, train-clean-100.tar.gz, train-clean-360.tar.gz and
     train-other-500.tar.gz, 60 GB; leave them packed.
     Or put TFDS's librispeech there: a folder with its dataset_info.json.
  2. Run this command again: it finds them and writes the data set."""

_SHARD = 1000  # utterances of a shard, at most


@dataclasses.dataclass(frozen=True)
class Spoken:
  """An utterance before it is written."""

  id: str  # speaker-chapter-number
  speech: bytes  # FLAC


@dataclasses.dataclass(frozen=True)
class Source:
  """A set of utterances, which can be read in one order as often as asked."""

  name: str
  # What tells it from another, for a build that is resumed.
  size: int
  # -> texts by id, in the order of the speech. Checks the whole, and tells of
  # the bytes that it has passed.
  texts: Callable[[work.Tick], dict[str, str]]
  speech: Callable[[], Iterator[Spoken]]


def build(
  order: recipe.Order,
  *,
  md5: Mapping[str, str] | None = None,
  size: int = librispeech.PIECES,
) -> str:
  """Writes the data set; returns its directory.

  Args:
    order: where the archives are, where the data set goes, and how.
    md5: archive -> its checksum; by default those that are published.
    size: pieces of the vocabulary.
  """
  if not order.check_downloads:
    md5 = {}
  sources = find(order, MD5 if md5 is None else md5)
  made = {
    'recipe': librispeech.NAME,
    'source': {s.name: s.size for each in sources.values() for s in each},
    'options': {'check_downloads': order.check_downloads},
    'versions': recipe.versions('sentencepiece', 'soundfile'),
  }
  directory = recipe.place(order.data_dir, librispeech.NAME, VERSION)
  with writer.begin(directory, made) as unfinished:
    unfinished.require_space(sum(made['source'].values()))
    return write(
      unfinished,
      sources,
      name=librispeech.NAME,
      description='LibriSpeech: read English speech and its text.',
      size=size,
      order=order,
    )


def find(
  order: recipe.Order, md5: Mapping[str, str]
) -> dict[str, list[Source]]:
  """The sets by split; FileNotFoundError names missing ones."""
  root = os.path.expanduser(order.downloads)
  there: dict[str, str] = {}
  for folder, folders, names in os.walk(root):
    folders.sort()
    for name in names:
      there.setdefault(name, os.path.join(folder, name))
    if 'dataset_info.json' in names and _is_librispeech(folder):
      return _of_tfds(folder)
  wanted = {
    read.TRAIN: [f'{name}.tar.gz' for name in librispeech.TRAIN],
    read.EVAL: [f'{librispeech.EVAL}.tar.gz'],
  }
  lacks = [n for each in wanted.values() for n in each if n not in there]
  if lacks:
    raise FileNotFoundError(
      f'Expected {lacks[0]} below {root}, and {len(lacks) - 1} archives more, '
      'found none.'
    )
  return {
    split: [archive(there[name], md5.get(name, '')) for name in names]
    for split, names in wanted.items()
  }


def archive(path: str, md5: str = '') -> Source:
  """The utterances of a .tar.gz: FLAC files beside files of their texts."""

  def members(file) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode='r|gz') as tape:
      for member in tape:
        if member.isfile() and member.name.endswith(('.flac', '.trans.txt')):
          yield os.path.basename(member.name), tape.extractfile(member).read()

  def texts(tick: work.Tick) -> dict[str, str]:
    found, ids = {}, []
    with open(path, 'rb') as file:
      tape = _Hashed(file, tick)
      try:
        for name, data in members(tape):
          if name.endswith('.flac'):
            ids.append(name.removesuffix('.flac'))
          else:
            for line in data.decode().splitlines():
              key, _, text = line.partition(' ')
              found[key] = text
      except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ValueError(
          f'Expected a whole archive of LibriSpeech, got {path}: {error}'
        ) from error
      if md5:
        downloads.require_md5(path, md5, tape.md5())
    if lacks := [each for each in ids if not found.get(each, '').strip()]:
      raise ValueError(f'Expected a text of {lacks[0]} in {path}, found none.')
    return {each: found[each] for each in ids}

  def speech() -> Iterator[Spoken]:
    with open(path, 'rb') as file:
      for name, data in members(file):
        if name.endswith('.flac'):
          yield Spoken(name.removesuffix('.flac'), data)

  return Source(os.path.basename(path), os.path.getsize(path), texts, speech)


def write(
  unfinished: writer.Unfinished,
  sources: Mapping[str, Sequence[Source]],
  *,
  name: str,
  description: str,
  size: int,
  order: recipe.Order,
) -> str:
  """Writes the shards that are missing, and finishes the data set.

  The vocabulary has `size` pieces. A shard that is there is kept.
  """
  texts = _texts(unfinished, sources, order)
  path = unfinished.path('data', read.VOCABULARY)
  if not os.path.exists(path):
    trained = [t for s in sources[read.TRAIN] for t in texts[s.name].values()]
    with files.replacing(path) as file:
      file.write(pieces.learn(trained, size).model)
  words = pieces.read(path)
  info = _info(unfinished.directory, name, description)
  jobs, shards = [], {}
  for split, each in sources.items():
    counts = [-(-len(texts[s.name]) // _SHARD) for s in each]
    shards[split] = names = writer.shard_names(info, split, sum(counts))
    for source, end, count in zip(
      each, np.cumsum(counts).tolist(), counts, strict=True
    ):
      jobs.append((source, names[end - count : end]))
  whole = sum(len(each) for each in texts.values())
  serialize = writer.serializer(info)
  os.makedirs(unfinished.path('lengths'), exist_ok=True)
  work.each(
    lambda job, tick: _write_source(
      unfinished, *job, texts[job[0].name], words, serialize, tick
    ),
    jobs,
    whole=whole,
    threads=order.threads,
    progress=order.stage('Writing', 'utterances'),
  )
  most = np.ones(2, np.int64)
  for split, names in shards.items():
    lengths = np.concatenate([np.load(_lengths(unfinished, n)) for n in names])
    path = unfinished.path('data', read.LENGTHS.format(split))
    with files.replacing(path) as file:
      np.save(file, lengths.astype(np.int32))
    most = np.maximum(most, lengths.max(axis=0))
  facts = dict(zip(read.FACTS, [len(words), *most.tolist()], strict=True))
  info = _info(unfinished.directory, name, description, facts)
  return writer.complete(unfinished, info, shards)


def check(record: Mapping[str, Any]) -> None:
  """Raises ValueError unless a record holds an utterance."""
  read.utterance(record)


def verify(directory: str) -> None:
  """Raises unless the directory holds all of LibriSpeech that is used."""
  read.verify(
    directory,
    splits=librispeech.UTTERANCES,
    vocabulary_size=librispeech.PIECES,
  )


def _texts(
  unfinished: writer.Unfinished,
  sources: Mapping[str, Sequence[Source]],
  order: recipe.Order,
) -> dict[str, dict[str, str]]:
  """Source -> id -> text, as models hear it; kept for the next time."""
  all_sources = [each for found in sources.values() for each in found]

  def one(source: Source, tick: work.Tick) -> dict[str, str]:
    path = unfinished.path('done', f'{source.name}.texts.json')
    if os.path.exists(path):
      tick(source.size)
      with open(path, encoding='utf-8') as file:
        return json.load(file)
    found = {
      key: text.lower().strip() for key, text in source.texts(tick).items()
    }
    files.write_json(path, found)
    return found

  found = work.each(
    one,
    all_sources,
    whole=sum(source.size for source in all_sources),
    threads=order.threads,
    progress=order.stage('Reading texts', 'bytes'),
  )
  return dict(zip([s.name for s in all_sources], found, strict=True))


def _write_source(
  unfinished: writer.Unfinished,
  source: Source,
  shards: Sequence[str],
  texts: Mapping[str, str],
  words: pieces.Vocabulary,
  serialize: Callable[[writer.Example], bytes],
  tick: work.Tick,
) -> None:
  """Writes the shards of a source that are not there, in its order."""
  speech = source.speech()
  for number, shard in enumerate(shards):
    count = min(_SHARD, len(texts) - number * _SHARD)
    if unfinished.is_done(shard) and os.path.exists(
      _lengths(unfinished, shard)
    ):
      for _ in range(count):
        next(speech)
      tick(count)
      continue
    lengths = np.zeros((count, 2), np.int32)
    with unfinished.shard(shard) as put:
      for row in range(count):
        spoken = next(speech)
        example, lengths[row] = _example(spoken, texts[spoken.id], words)
        put(serialize(example))
        tick(1)
    with files.replacing(_lengths(unfinished, shard)) as file:
      np.save(file, lengths)


def _example(
  spoken: Spoken, text: str, words: pieces.Vocabulary
) -> tuple[writer.Example, tuple[int, int]]:
  """The values of a record, and its samples and symbols."""
  try:
    samples, tokens = len(read.decode(spoken.speech)), words.encode(text)
    speaker, chapter, _ = map(int, spoken.id.split('-'))
  except ValueError as error:
    raise ValueError(
      f'Utterance {spoken.id} cannot be read: {error}'
    ) from error
  if not len(tokens):
    raise ValueError(f'Expected a text of the utterance {spoken.id}, got none.')
  # Evals count errors against the text: it must be what its pieces say.
  if (said := words.decode(tokens)).split() != text.split():
    raise ValueError(
      f'Expected the pieces of utterance {spoken.id} to say {text!r}, got '
      f'{said!r}.'
    )
  example = {
    'speech': spoken.speech,
    'text': text,
    'speaker_id': speaker,
    'chapter_id': chapter,
    'id': spoken.id,
    'tokens': tokens,
  }
  return example, (samples, len(tokens))


def _lengths(unfinished: writer.Unfinished, shard: str) -> str:
  return unfinished.path('lengths', f'{shard}.npy')


def _info(directory: str, name: str, description: str, facts=None):
  return writer.info(
    directory,
    name=name,
    version=VERSION,
    description=description,
    features=read.FEATURES,
    module=__name__,
    facts=facts,
  )


# -- TFDS's librispeech. Its metadata name a feature that needs TensorFlow, so
# the records are read without them.


def _is_librispeech(folder: str) -> bool:
  """Tells TFDS's from others, and from what `build` writes by that name."""
  with open(os.path.join(folder, 'dataset_info.json'), encoding='utf-8') as f:
    info = json.load(f)
  splits = {split['name'] for split in info.get('splits', ())}
  return info.get('name') == librispeech.NAME and read.TRAIN not in splits


def _of_tfds(folder: str) -> dict[str, list[Source]]:
  """TFDS names the sets with '_' for every '-' but the last: train_clean100."""
  sets = {}
  for split, names in (
    (read.TRAIN, librispeech.TRAIN),
    (read.EVAL, (librispeech.EVAL,)),
  ):
    sets[split] = []
    for name in names:
      head, _, tail = name.rpartition('-')
      joint = '' if tail.isdigit() else '_'
      own = f'{head.replace("-", "_")}{joint}{tail}'
      sets[split].append(_tfds_split(folder, own))
  return sets


def _tfds_split(folder: str, name: str) -> Source:
  paths = sorted(
    os.path.join(folder, file)
    for file in os.listdir(folder)
    if f'-{name}.tfrecord-' in file
  )
  if not paths:
    raise FileNotFoundError(
      f'Expected files of the split {name} as TFRecord in {folder}, found none.'
    )

  def features() -> Iterator[Mapping[str, Any]]:
    for path in paths:
      for record in tfrecord.read(path):
        yield tf_example_pb2.Example.FromString(record).features.feature

  def texts(tick: work.Tick) -> dict[str, str]:
    found = {
      _one(each, 'id'): _one(each, 'text') for each in features()
    }  # fmt: skip
    tick(size)
    return found

  def speech() -> Iterator[Spoken]:
    for each in features():
      if each['speech'].WhichOneof('kind') == 'bytes_list':  # "lazy_decode"
        data = examples.one(each, 'speech')
      else:
        samples = examples.values(each, 'speech', np.int64)
        written = io.BytesIO()
        soundfile.write(
          written, samples.astype(np.int16), librispeech.RATE, format='FLAC'
        )
        data = written.getvalue()
      yield Spoken(_one(each, 'id'), data)

  size = sum(map(os.path.getsize, paths))
  return Source(name, size, texts, speech)


def _one(features: Mapping[str, Any], name: str) -> str:
  return examples.one(features, name).decode()


class _Hashed:
  """A file that is hashed as it is read."""

  def __init__(self, file, tick: work.Tick):
    self._file, self._tick = file, tick
    self._digest = hashlib.md5(usedforsecurity=False)

  def read(self, size: int) -> bytes:
    data = self._file.read(size)
    self._digest.update(data)
    self._tick(len(data))
    return data

  def md5(self) -> str:
    """The digest of the whole file, the rest of which is read now."""
    while self.read(1 << 20):
      pass
    return self._digest.hexdigest()


RECIPES = (
  recipe.Recipe(
    name=librispeech.NAME,
    summary='LibriSpeech: 960 hours of read English to train on',
    licence='CC BY 4.0',
    bytes=BYTES,
    splits=librispeech.UTTERANCES,
    verify=verify,
    check=check,
    build=build,
    needs='four archives that are downloaded by hand, 60 GB',
    how_to=HOW_TO,
  ),
)
