"""Makes samples of documents: two sentences, some of their tokens hidden.

The steps and the order in which random numbers are drawn are those of
create_pretraining_data.py in mlcommons/training, retired_benchmarks/bert, so
that one text and one seed give its samples, one by one. What it calls a
sentence is a line of the text, and a document is what lies between empty lines.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import random
from typing import Protocol

import numpy as np

_SPECIAL = 3  # tokens of a sample beside its sentences
_SHORT = 0.1  # share of documents with another target than the longest
_RANDOM_NEXT = 0.5
_MASKED, _KEPT = 0.8, 0.5  # the second is of what is not masked
_TRIES = 10  # for another document than the sample's own

Document = Sequence[Sequence[int]]  # its sentences, of tokens


class Vocabulary(Protocol):
  """Numbers of the tokens that have a meaning of their own."""

  cls: int
  sep: int
  mask: int

  def __len__(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Settings:
  """Numbers that samples are made by; the defaults are the reference's."""

  length: int = 512  # tokens of a sample, at most
  predictions: int = 76  # of a sample, at most
  share: float = 0.15  # of the tokens, that are predicted
  passes: int = 10  # through all documents
  seed: int = 12345


@dataclasses.dataclass(frozen=True)
class Sample:
  """[CLS], a sentence, [SEP], another one, [SEP]."""

  tokens: np.ndarray  # uint16 [L], some of them hidden
  first: int  # tokens up to the first [SEP], that one included
  predicted: np.ndarray  # uint16 [P], places, rising
  labels: np.ndarray  # uint16 [P], tokens that were there
  is_random: bool  # whether the second sentence is of anywhere


def make(
  documents: list[Document], vocabulary: Vocabulary, settings: Settings
) -> list[Sample]:
  """All samples of some documents, shuffled; shuffles the documents as well."""
  maker = _Maker(vocabulary, settings)
  maker.rng.shuffle(documents)
  samples = []
  for _ in range(settings.passes):
    for number in range(len(documents)):
      samples += maker.of_document(documents, number)
  maker.rng.shuffle(samples)
  return samples


def picked(count: int, most: int) -> list[int]:
  """Which of `count` samples evals are made on: as many as `most`."""
  ratio = count / most
  return [int(number * ratio) for number in range(most)]


class _Maker:
  """The random numbers of a text, and what is made by them."""

  def __init__(self, vocabulary: Vocabulary, settings: Settings):
    self.rng = random.Random(settings.seed)
    self._vocabulary = vocabulary
    self._settings = settings

  def of_document(
    self, documents: Sequence[Document], number: int
  ) -> Iterator[Sample]:
    """The samples of one pass through a document."""
    document, rng = documents[number], self.rng
    most = self._settings.length - _SPECIAL
    # One target for the whole document and pass.
    target = rng.randint(2, most) if rng.random() < _SHORT else most
    chunk: list[Sequence[int]] = []
    length = i = 0
    while i < len(document):
      chunk.append(document[i])
      length += len(document[i])
      if i == len(document) - 1 or length >= target:
        end = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        first = _joined(chunk[:end])
        is_random = len(chunk) == 1 or rng.random() < _RANDOM_NEXT
        if is_random:
          second = self._elsewhere(documents, number, target - len(first))
          i -= len(chunk) - end  # what was not used comes again
        else:
          second = _joined(chunk[end:])
        yield self._sample(*self._cut(first, second, most), is_random)
        chunk, length = [], 0
      i += 1

  def _elsewhere(
    self, documents: Sequence[Document], number: int, target: int
  ) -> list[int]:
    """Sentences of another document, until they are as long as the target."""
    rng, tokens = self.rng, []
    for _ in range(_TRIES):
      other = rng.randint(0, len(documents) - 1)
      if other != number:
        break
    document = documents[other]
    for sentence in document[rng.randint(0, len(document) - 1) :]:
      tokens += sentence
      if len(tokens) >= target:
        break
    return tokens

  def _cut(
    self, first: list[int], second: list[int], most: int
  ) -> tuple[list[int], list[int]]:
    """Drops tokens of the longer one, at either end, until both fit."""
    random_, ends = self.rng.random, [[0, len(first)], [0, len(second)]]
    lengths = [len(first), len(second)]
    while sum(lengths) > most:
      longer = 0 if lengths[0] > lengths[1] else 1
      if random_() < 0.5:
        ends[longer][0] += 1
      else:
        ends[longer][1] -= 1
      lengths[longer] -= 1
    return first[slice(*ends[0])], second[slice(*ends[1])]

  def _sample(
    self, first: list[int], second: list[int], is_random: bool
  ) -> Sample:
    """Puts two sentences together and hides some of their tokens."""
    of, rng, settings = self._vocabulary, self.rng, self._settings
    tokens = [of.cls, *first, of.sep, *second, of.sep]
    middle = len(first) + 1
    places = [*range(1, middle), *range(middle + 1, len(tokens) - 1)]
    rng.shuffle(places)
    count = max(1, round(len(tokens) * settings.share))
    hidden, found = list(tokens), []
    for place in places[: min(settings.predictions, count)]:
      if rng.random() < _MASKED:
        hidden[place] = of.mask
      elif rng.random() >= _KEPT:
        hidden[place] = rng.randint(0, len(of) - 1)
      found.append(place)
    found.sort()
    return Sample(
      np.asarray(hidden, np.uint16),
      middle + 1,
      np.asarray(found, np.uint16),
      np.asarray([tokens[place] for place in found], np.uint16),
      is_random,
    )


def _joined(sentences: Sequence[Sequence[int]]) -> list[int]:
  return [token for sentence in sentences for token in sentence]
