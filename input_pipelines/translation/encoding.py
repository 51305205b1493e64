"""Encodes sentences in other processes; imports little, to start fast."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import contextlib
import multiprocessing

import numpy as np

from input_pipelines.text import subwords

Encoded = tuple[np.ndarray, np.ndarray]  # tokens uint16 [T], lengths int32 [N]

_vocabulary: subwords.Vocabulary | None = None


def encode(vocabulary: subwords.Vocabulary, lines: Sequence[str]) -> Encoded:
  """The numbers of all lines, each with EOS at its end, and their lengths."""
  tokens, lengths = [], []
  for line in lines:
    before = len(tokens)
    tokens += vocabulary.encode(line)
    tokens.append(subwords.EOS)
    lengths.append(len(tokens) - before)
  return np.array(tokens, np.uint16), np.array(lengths, np.int32)


@contextlib.contextmanager
def encoder(
  vocabulary: subwords.Vocabulary, processes: int
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


def _begin(vocabulary: subwords.Vocabulary) -> None:
  global _vocabulary
  _vocabulary = vocabulary


def _encode(lines: Sequence[str]) -> Encoded:
  return encode(_vocabulary, lines)
