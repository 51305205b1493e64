"""Speech and its text: from FLAC on disk to batches of features.

A record is an utterance. How long each is lies beside the records, so batches
are planned before any speech is read.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import io
import os
from typing import Any

from etils import epath
import grain
import numpy as np
import soundfile
import tensorflow_datasets as tfds

from input_pipelines.audio import log_mel, resample
from input_pipelines.librispeech import RATE, order
from input_pipelines.reading import (
  batching,
  dataset,
  examples,
  sample_lengths,
)
from input_pipelines.text import pieces

TRAIN, EVAL = 'train', 'dev_clean'
SPLITS = (TRAIN, EVAL)
# Samples and symbols of each utterance of a split, int32 [N, 2]; in metadata,
# the most of both, and how many symbols there are.
LENGTHS = 'lengths_{}.npy'
VOCABULARY = 'pieces.model'
FACTS = ('pieces', 'most_samples', 'most_symbols')

# TFDS's schema of LibriSpeech, the speech as it is published, and the numbers
# of the text's pieces.
FEATURES = {
  'speech': tfds.features.Text(),
  'text': tfds.features.Text(),
  'speaker_id': np.int64,
  'chapter_id': np.int64,
  'id': tfds.features.Text(),
  'tokens': tfds.features.Tensor(
    shape=(None,), dtype=np.uint16, encoding=tfds.features.Encoding.BYTES
  ),
}

_MOST_STEPS = 2**40
_EVAL_SEED = 2**32  # not one that a run can have


@dataclasses.dataclass(frozen=True)
class Utterance:
  """An utterance as it is on disk."""

  sound: np.ndarray  # float32 [N], from -1 to 1
  tokens: np.ndarray  # uint16 [U]
  text: str


def train_batches(
  split: dataset.Split,
  plan: order.Plan,
  front_end: log_mel.FrontEnd,
  *,
  batch_size: int,
  seed: int,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  Yields batches, B = batch_size / hosts: `speech` float32 [B, T, bands] and
  `frames` int32 [B], `symbols` int32 [B, U] and `count` int32 [B], and `weight`
  float32 [B] of ones. T and U are those of a shape of the plan.
  """
  share = batching.Share(batch_size, host, hosts)

  def read(step: int) -> batching.Batch:
    group, first = plan.group(seed, step), share.first(0)
    batch = _blank(share.rows, group.shape, front_end)
    mine = slice(first, first + share.rows)
    members = group.members[mine].tolist()
    for row, record in enumerate(_records(split, members)):
      with record.naming():
        found = utterance(record.features)
        sound = resample.resample(found.sound, group.speeds[mine][row])
        rng = np.random.default_rng((seed, step, first + row))
        _fill(batch, row, front_end.features(sound, rng), found.tokens)
    return {**batch, 'weight': np.ones(share.rows, np.float32)}

  steps = grain.MapDataset.range(_MOST_STEPS)
  reading = batching.Reading(threads)
  return batching.batches(steps, read, first_step=first_step, reading=reading)


def eval_batches(
  split: dataset.Split,
  lengths: np.ndarray,
  shapes: Sequence[int],
  front_end: log_mel.FrontEnd,
  *,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
  threads: int | None = None,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every utterance once, the longest first.

  Args:
    split: the utterances.
    lengths: samples and symbols of each, int [N, 2].
    shapes: frames that batches may have, rising.
    front_end: what makes features.
    batch_size: over all hosts.
    host: which of the `hosts` this is.
    hosts: how many share the batch.
    threads: that make batches ahead.

  Yields:
    Batches, B = batch_size / hosts: `speech` and `frames` as in training, `id`
    int32 [B], the utterance's number, and `weight` float32 [B], 0 for a row of
    padding, which is all 0. All hosts get as many.
  """
  share = batching.Share(batch_size, host, hosts)
  frames = front_end.frames(lengths[:, 0])
  by_length = np.argsort(-frames, kind='stable')
  chosen = order.choose(
    [order.Shape(each, 1) for each in shapes],
    frames[by_length[::batch_size]],
    np.zeros(-(-len(frames) // batch_size), np.int64),
  )

  def read(step: int) -> batching.Batch:
    begin = share.first(step)
    mine = by_length[begin : begin + share.rows].tolist()
    shape = order.Shape(shapes[chosen[step]], 0)
    batch = _blank(share.rows, shape, front_end)
    for row, record in enumerate(_records(split, mine)):
      with record.naming():
        rng = np.random.default_rng((_EVAL_SEED, record.number))
        sound = utterance(record.features).sound
        _fill(batch, row, front_end.features(sound, rng))
    numbers = np.zeros(share.rows, np.int32)
    numbers[: len(mine)] = mine
    weight = (np.arange(share.rows) < len(mine)).astype(np.float32)
    kept = {name: batch[name] for name in ('speech', 'frames')}
    return {**kept, 'id': numbers, 'weight': weight}

  steps = grain.MapDataset.range(len(chosen))
  return batching.batches(steps, read, reading=batching.Reading(threads))


def utterance(features: Mapping[str, Any]) -> Utterance:
  """The utterance of a record; ValueError if it is none."""
  tokens = examples.values(features, 'tokens', np.uint16)
  return Utterance(
    decode(examples.one(features, 'speech')),
    tokens,
    examples.one(features, 'text').decode(),
  )


def decode(data: bytes) -> np.ndarray:
  """FLAC -> float32 [N], from -1 to 1; ValueError for anything else."""
  try:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
      if (file.samplerate, file.channels) != (RATE, 1):
        raise ValueError(
          f'Expected one channel of {RATE} samples a second, got '
          f'{file.channels} of {file.samplerate}.'
        )
      sound, expected = file.read(dtype='float32'), file.frames
  except (soundfile.LibsndfileError, TypeError) as error:
    raise ValueError(f'Expected FLAC, got: {error}') from error
  if len(sound) != expected or not expected:
    raise ValueError(
      f'Expected {expected} samples of sound, one or more, got {len(sound)}.'
    )
  return sound


def texts(directory: epath.PathLike) -> list[str]:
  """The texts of the evals, by the number of the utterance."""
  split = dataset.Split(directory, EVAL)
  found = []
  for record in _records(split, range(len(split))):
    with record.naming():
      found.append(examples.one(record.features, 'text').decode())
  return found


def vocabulary(directory: epath.PathLike) -> pieces.Vocabulary:
  """The pieces that texts are made of."""
  return pieces.read(epath.Path(directory) / VOCABULARY)


def lengths(directory: epath.PathLike, split: str) -> np.ndarray:
  """Samples and symbols of all utterances of a split, int64 [N, 2].

  Reads metadata alone, so it may be called before the clock runs.
  """
  path = epath.Path(directory) / LENGTHS.format(split)
  count = dataset.load(directory).info.splits[split].num_examples
  return sample_lengths.read(path, count, of='utterances')


def verify(
  directory: epath.PathLike,
  *,
  splits: Mapping[str, int],
  vocabulary_size: int,
) -> None:
  """Raises unless a directory holds such a data set, whole; reads no record.

  Args:
    directory: a data set's directory.
    splits: split -> its utterances.
    vocabulary_size: pieces of the vocabulary.
  """
  dataset.verify(directory, splits=splits, features=_kinds())
  facts = dataset.facts(directory, FACTS)
  dataset.require_facts(directory, facts, {'pieces': vocabulary_size}, 'pieces')
  for split in splits:
    lengths(directory, split)
  if not (epath.Path(directory) / VOCABULARY).exists():
    raise ValueError(
      f'Expected {VOCABULARY} in {os.fspath(directory)}, found none.'
    )


@functools.cache
def _kinds() -> dict[str, type]:
  features = tfds.features.FeaturesDict(FEATURES)
  return {name: type(feature) for name, feature in features.items()}


def _records(
  split: dataset.Split, numbers: Sequence[int]
) -> Iterator[examples.Record]:
  for number, features in zip(numbers, split.records(numbers), strict=True):
    yield examples.Record(split, number, features)


def _blank(
  rows: int, shape: order.Shape, front_end: log_mel.FrontEnd
) -> batching.Batch:
  size = (rows, shape.frames, front_end.bands)
  return {
    'speech': batching.zeros(size, np.float32),
    'frames': batching.zeros((rows,), np.int32),
    'symbols': batching.zeros((rows, shape.symbols), np.int32),
    'count': batching.zeros((rows,), np.int32),
  }


def _fill(
  batch: batching.Batch,
  row: int,
  features: np.ndarray,
  tokens: np.ndarray | tuple[()] = (),
) -> None:
  batch['speech'][row, : len(features)] = features
  batch['frames'][row] = len(features)
  batch['symbols'][row, : len(tokens)] = tokens
  batch['count'][row] = len(tokens)
