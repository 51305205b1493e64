"""Pairs of sentences as numbers of subwords: WMT, and any set of its schema.

A record holds a few thousand pairs. All of a split is read into memory, 0.6 GB
for WMT17; batches are cut from it while they are asked for. How long every
sentence is stands in a file of its own, so that the number of steps and their
shapes are known without a record being read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import dataclasses
import os

from etils import epath
import grain
import numpy as np

from input_pipelines.reading import (
  batching,
  dataset,
  examples,
  sample_lengths,
)
from input_pipelines.text import bpe, buckets, subwords
from input_pipelines.translation import PAIRS, encoding

SUBWORDS = 33_708
BLOCK = 4096  # pairs of a record, the last one of a split excepted
LENGTHS = 'train_lengths.npy'
SIDES = ('source', 'target')
# Pairs of both splits, the size of the vocabulary, and the tokens of the
# longest sentence that evals translate.
FACTS = (*PAIRS, 'subwords', 'longest_source')

_MOST_STEPS = 2**62


@dataclasses.dataclass(frozen=True)
class Side:
  """The sentences of one language, each with its end."""

  tokens: np.ndarray  # uint16 [T], sentence after sentence
  ends: np.ndarray  # int64 [N], where each ends

  def __len__(self) -> int:
    return len(self.ends)

  def __getitem__(self, index: int) -> np.ndarray:
    """The tokens of one sentence, uint16 [L]."""
    return self.tokens[self.ends[index - 1] if index else 0 : self.ends[index]]

  @property
  def lengths(self) -> np.ndarray:
    """Tokens of each sentence, int64 [N]."""
    return np.diff(self.ends, prepend=0)

  def gather(
    self, sentences: np.ndarray, most: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Some sentences, int64 [M]: their tokens int32 [t], lengths int64 [M].

    Each is cut after `most` tokens.
    """
    first = np.where(sentences > 0, self.ends[sentences - 1], 0)
    lengths = np.minimum(self.ends[sentences] - first, most)
    at = np.repeat(first, lengths) + _within(lengths)
    return self.tokens[at].astype(np.int32), lengths


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Sentences and their translations."""

  source: Side
  target: Side

  def __len__(self) -> int:
    return len(self.source)


@dataclasses.dataclass(frozen=True)
class Texts:
  """Sentences and their translations as they were before they were numbered."""

  source: Sequence[str]
  target: Sequence[str]


def load(directory: epath.PathLike, split: str) -> Pairs:
  """Reads the pairs of a split; all of them, into memory."""
  expected = facts(directory)[split]
  blocks = list(_blocks(directory, split))
  if (got := sum(len(block.pairs) for block in blocks)) != expected:
    raise ValueError(
      f'Expected {expected} pairs in {split!r} of {os.fspath(directory)}, got '
      f'{got}.'
    )
  return Pairs(*(_joined(blocks, side) for side in SIDES))


def load_texts(directory: epath.PathLike, split: str = 'test') -> Texts:
  """Reads the texts of a split; only evals have them."""
  blocks = list(_blocks(directory, split))
  texts = {
    side: [text for b in blocks for text in getattr(b.texts, side)]
    for side in SIDES
  }
  expected = facts(directory)[split]
  for side, got in texts.items():
    if len(got) != expected:
      raise ValueError(
        f'Expected {expected} {side} texts in {split!r} of '
        f'{os.fspath(directory)}, got {len(got)}.'
      )
  return Texts(**texts)


def vocabulary(directory: epath.PathLike) -> encoding.Vocabulary:
  """The vocabulary of a data set, of the kind whose file there is."""
  directory = epath.Path(directory)
  if (path := directory / bpe.Vocabulary.file).exists():
    return bpe.read(path)
  return subwords.read(directory / subwords.Vocabulary.file)


def train_lengths(directory: epath.PathLike) -> np.ndarray:
  """Tokens of both sides of all pairs to train on, ends included: int64 [N, 2].

  Reads metadata alone, so it may be called before the clock runs.
  """
  path = epath.Path(directory) / LENGTHS
  count = facts(directory)['train']
  return sample_lengths.read(path, count, of='sentences')


def facts(directory: epath.PathLike) -> dict[str, int]:
  """Metadata: a number for each of `FACTS`."""
  return dataset.facts(directory, FACTS)


def verify(
  directory: epath.PathLike,
  *,
  train: int | None = None,
  test: int | None = None,
  subwords: int | None = None,
  longest: int | None = None,
  counted: int | None = None,
) -> None:
  """Raises unless a directory holds so many pairs; reads metadata alone.

  What is None may be any number. `longest` is what the tokens of a sentence
  that evals translate may be at most. Of pairs to train on, those with a side
  of more than `counted` tokens do not count.
  """
  got = facts(directory)
  if longest is not None and got['longest_source'] > longest:
    raise ValueError(
      f'Expected sentences of {longest} tokens or fewer to translate, got one '
      f'of {got["longest_source"]} in {os.fspath(directory)}: evals leave '
      'nothing out.'
    )
  expected = {'train': train, 'test': test, 'subwords': subwords}
  if counted is not None:
    lengths = train_lengths(directory)
    got = {**got, 'train': int((lengths.max(axis=1) <= counted).sum())}
  dataset.require_facts(directory, got, expected, 'pairs')
  got = facts(directory)
  dataset.verify(directory, splits={name: records(got[name]) for name in PAIRS})
  train_lengths(directory)
  words = vocabulary(directory)
  if len(words) != got['subwords']:
    raise ValueError(
      f'Expected {got["subwords"]} subwords in {words.file} of '
      f'{os.fspath(directory)}, got {len(words)}.'
    )


def records(pairs: int) -> int:
  """The records that so many pairs take."""
  return -(-pairs // BLOCK)


def of_tokens(target: np.ndarray) -> np.ndarray:
  """Weights of rows: their tokens."""
  return (target != 0).sum(axis=1)


def of_sentences(target: np.ndarray) -> np.ndarray:
  """Weights of rows: 1, and 0 for padding."""
  return target.any(axis=1)


def train_batches(
  pairs: Pairs,
  plan: buckets.Plan,
  *,
  seed: int,
  host: int = 0,
  hosts: int = 1,
  first_step: int = 0,
  row_multiple: int = 1,
  threads: int | None = None,
  weigh: Callable[[np.ndarray], np.ndarray] = of_tokens,
) -> Iterator[batching.Batch]:
  """This host's rows of the training batches, without end.

  At a step all hosts have rows of the same shape, one of `plan.shapes`. Its
  `steps` make an epoch; the first step of the next one begins it.

  Args:
    pairs: to train on.
    plan: which of them make up a batch: buckets.Bucketed or packing.Packed.
    seed: from 0 on; orders the pairs.
    host: which of the `hosts` this is.
    hosts: how many share the rows of a batch.
    first_step: through all epochs, at which a resumed run starts.
    row_multiple: rows of padding fill a batch up to a multiple of this.
    threads: that make batches ahead; None for one a core, 0 for none.
    weigh: gives the weight of each row [B], of its target int32 [B, T].

  Returns:
    An iterator, which can be closed, of batches, B = rows / hosts: `source`
    int32 [B, S] and `target` int32 [B, T], padded with 0, and `weight` float32
    [B], by default the tokens of the target, 0 for a row of padding. Where
    several pairs share a row, also `source_segment` and `target_segment` of the
    same shapes, int32, the pair's number in its row from 1 on and 0 for
    padding, and `source_position` and `target_position`, int32, from 0 on in
    each pair.
  """
  shares = {
    shape: batching.Share(
      batching.rounded_up(shape.rows, row_multiple), host, hosts
    )
    for shape in plan.shapes
  }

  def read(step: int) -> batching.Batch:
    group = plan.group(seed, step)
    first = shares[group.shape].first(0)
    rows = shares[group.shape].rows
    mine = slice(*np.searchsorted(group.row, (first, first + rows)))
    return _fill(
      pairs,
      group.members[mine],
      group.row[mine] - first,
      dataclasses.replace(group.shape, rows=rows),
      most=plan.max_length,
      packed=plan.packed,
      weigh=weigh,
    )

  steps = grain.MapDataset.range(_MOST_STEPS)
  reading = batching.Reading(threads=threads)
  return batching.batches(steps, read, first_step=first_step, reading=reading)


def eval_batches(
  source: Side,
  lengths: Sequence[int],
  *,
  batch_size: int,
  host: int = 0,
  hosts: int = 1,
) -> Iterator[batching.Batch]:
  """This host's rows of one pass: every sentence once, the longest first.

  A batch has the smallest of the lengths that holds its longest sentence. No
  sentence is ever cut.

  Args:
    source: the sentences to translate.
    lengths: that batches may have, rising.
    batch_size: over all hosts.
    host: which of the `hosts` this is.
    hosts: how many share the batch.

  Yields:
    Batches, B = batch_size / hosts: `source` int32 [B, L], padded with 0, `id`
    int32 [B], the sentence's number, and `weight` float32 [B], 0 for a row of
    padding, which is all 0. All hosts get as many.
  """
  got = source.lengths
  if got.max() > lengths[-1]:
    raise ValueError(
      f'Expected sentences of {lengths[-1]} tokens or fewer, got one of '
      f'{got.max()}: evals leave nothing out.'
    )
  share = batching.Share(batch_size, host, hosts)
  order = np.argsort(-got, kind='stable')
  for first in range(0, len(order), batch_size):
    longest = got[order[first]]
    length = lengths[int(np.searchsorted(lengths, longest))]
    end = min(first + batch_size, len(order))
    begin = first + share.first(0)
    mine = order[min(begin, end) : min(begin + share.rows, end)]
    numbers = np.zeros(share.rows, np.int32)
    numbers[: len(mine)] = mine
    tokens, counts = source.gather(mine, length)
    batch = {'source': batching.zeros((share.rows, length), np.int32)}
    row = np.repeat(np.arange(len(mine)), counts)
    batch['source'][row, _within(counts)] = tokens
    weight = (np.arange(share.rows) < len(mine)).astype(np.float32)
    yield batch | {'id': numbers, 'weight': weight}


def block_of(
  features: Mapping, subwords: int, end: int = subwords.EOS
) -> 'Block':
  """The pairs of one record; ValueError if they are none.

  Args:
    features: of a record, by name.
    subwords: how many there are.
    end: the one that ends a sentence.
  """
  sides = {}
  for side in SIDES:
    tokens = examples.values(features, side, np.uint16)
    lengths = examples.values(features, f'{side}_length', np.int32)
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    if not len(lengths) or lengths.min() < 1 or ends[-1] != len(tokens):
      raise ValueError(
        f'Expected {side} sentences of {len(tokens)} tokens in all, got '
        f'{len(lengths)} of {ends[-1] if len(ends) else 0}.'
      )
    if (tokens[ends - 1] != end).any() or tokens.max() >= subwords:
      raise ValueError(
        f'Expected {side} tokens below {subwords}, {end} at the end of each '
        f'sentence, got up to {tokens.max()}.'
      )
    sides[side] = Side(tokens, ends)
  if len(sides['source']) != len(sides['target']):
    raise ValueError(
      'Expected as many sentences as translations, got '
      f'{len(sides["source"])} and {len(sides["target"])}.'
    )
  texts = {
    side: [t.decode() for t in features[f'{side}_text'].bytes_list.value]
    for side in SIDES
  }
  return Block(Pairs(**sides), Texts(**texts))


@dataclasses.dataclass(frozen=True)
class Block:
  """Content of a record."""

  pairs: Pairs
  texts: Texts  # none in training


def _blocks(directory: epath.PathLike, name: str) -> Iterator[Block]:
  """The records of a split, read by several threads."""
  words = vocabulary(directory)
  split = dataset.Split(directory, name)

  def read(record: int) -> Block:
    features = split[record]
    try:
      return block_of(features, len(words), words.end)
    except (ValueError, UnicodeDecodeError) as error:
      raise split.corrupt(record, error) from error

  with futures.ThreadPoolExecutor(batching.default_threads()) as pool:
    try:
      yield from pool.map(read, range(len(split)))
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _joined(blocks: Sequence[Block], name: str) -> Side:
  sides = [getattr(block.pairs, name) for block in blocks]
  lengths = np.concatenate([side.lengths for side in sides])
  tokens = np.concatenate([side.tokens for side in sides])
  return Side(tokens.astype(np.uint16, copy=False), np.cumsum(lengths))


def _within(lengths: np.ndarray) -> np.ndarray:
  """0, 1, ... for each of some lengths, one after the other: int64 [sum]."""
  ends = np.cumsum(lengths)
  return np.arange(ends[-1] if len(ends) else 0) - np.repeat(
    ends - lengths, lengths
  )


def _fill(
  pairs: Pairs,
  members: np.ndarray,
  row: np.ndarray,
  shape: buckets.Shape,
  *,
  most: int,
  packed: bool,
  weigh: Callable[[np.ndarray], np.ndarray],
) -> batching.Batch:
  """Pairs, int64 [M], side by side in their rows, int64 [M], rising."""
  batch = {}
  counts = np.bincount(row, minlength=shape.rows)
  nth = _within(counts)  # of its row, [M]
  for name in SIDES:
    tokens, lengths = getattr(pairs, name).gather(members, most)
    ends = np.cumsum(lengths)
    # Where a pair begins in its row: after the tokens of those before it.
    first = np.where(nth > 0, (ends - lengths)[np.arange(len(row)) - nth], 0)
    column = np.where(nth > 0, ends - lengths - first, 0)
    within = _within(lengths)
    size = (shape.rows, getattr(shape, name))
    at = np.repeat(row * size[1] + column, lengths) + within
    columns = {name: tokens}
    if packed:
      columns[f'{name}_segment'] = np.repeat(nth + 1, lengths)
      columns[f'{name}_position'] = within
    for column_name, values in columns.items():
      batch[column_name] = batching.zeros(size, np.int32)
      batch[column_name].reshape(-1)[at] = values
  weight = weigh(batch['target'])
  return batch | {'weight': weight.astype(np.float32)}
