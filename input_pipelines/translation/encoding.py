"""Encodes sentences in other processes; imports little, to start fast."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
import contextlib
import multiprocessing
from typing import Protocol

import numpy as np

Encoded = tuple[np.ndarray, np.ndarray]  # tokens uint16 [T], lengths int32 [N]


class Vocabulary(Protocol):
  """Subwords by number; 0 pads."""

  file: str  # the name of its file in a data set
  start: tuple[int, ...]  # what a sentence begins with
  end: int

  def __len__(self) -> int: ...

  def encode(self, text: str) -> list[int]:
    """The numbers of a text's subwords, without start and end."""

  def sentence(self, numbers: Iterable[int]) -> str:
    """The text of a model's output, without its end and what follows."""

  def text(self) -> str:
    """The vocabulary as it stands in its file."""


_vocabulary: Vocabulary | None = None


def encode(vocabulary: Vocabulary, lines: Sequence[str]) -> Encoded:
  """The numbers of all lines, each from start to end, and their lengths."""
  tokens, lengths = [], []
  for line in lines:
    before = len(tokens)
    tokens += [*vocabulary.start, *vocabulary.encode(line), vocabulary.end]
    lengths.append(len(tokens) - before)
  return np.array(tokens, np.uint16), np.array(lengths, np.int32)


@contextlib.contextmanager
def encoder(
  vocabulary: Vocabulary, processes: int
) -> Iterator[Callable[[Sequence[str]], Encoded]]:
  """`encode` in other processes, to be called in threads; with 0, in this."""
  if not processes:
    yield lambda lines: encode(vocabulary, lines)
    return
  # Not a fork: other threads may hold locks at this moment.
  context = multiprocessing.get_context('spawn')
  pool = futures.ProcessPoolExecutor(processes, context, _begin, (vocabulary,))
  try:
    yield lambda lines: pool.submit(_encode, lines).result()
  finally:
    pool.shutdown(cancel_futures=True)


def _begin(vocabulary: Vocabulary) -> None:
  global _vocabulary
  _vocabulary = vocabulary


def _encode(lines: Sequence[str]) -> Encoded:
  return encode(_vocabulary, lines)
