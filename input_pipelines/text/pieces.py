"""Pieces of words that SentencePiece finds, and texts as their numbers."""

from collections.abc import Iterable, Sequence
import io

from etils import epath
import numpy as np
import sentencepiece

UNKNOWN = 0


class Vocabulary:
  """A model of SentencePiece; 0 is the piece of what it does not know."""

  def __init__(self, model: bytes):
    self.model = model
    try:
      self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise ValueError(
        f'Expected a model of SentencePiece, got: {error}'
      ) from error

  def __len__(self) -> int:
    return len(self._pieces)

  def encode(self, text: str) -> np.ndarray:
    """A text as numbers of pieces, uint16 [N]; ValueError for an unknown one.

    An unknown piece, as a character that no text of the vocabulary had, would
    be trained as if it were a symbol.
    """
    numbers = np.asarray(self._pieces.encode(text), np.uint16)
    if (numbers == UNKNOWN).any():
      raise ValueError(f'Expected pieces of a known text, got {text!r}.')
    return numbers

  def decode(self, numbers: Sequence[int]) -> str:
    """The text that numbers of pieces stand for."""
    return self._pieces.decode(np.asarray(numbers).tolist())


def learn(texts: Iterable[str], size: int) -> Vocabulary:
  """Finds pieces as the reference does.

  A unigram model of `size` pieces for all characters, without marks for the
  ends of a text; whatever else SentencePiece can be told is as it comes.
  ValueError where the texts give fewer pieces.
  Source: mlcommons/training, retired_benchmarks/rnnt/pytorch/scripts/
  create_sentencepieces.sh.
  """
  written = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts),
      model_writer=written,
      vocab_size=size,
      character_coverage=1.0,
      bos_id=-1,
      eos_id=-1,
      model_type='unigram',
      minloglevel=2,
    )
  except RuntimeError as error:
    raise ValueError(
      f'Expected texts with {size} pieces, got: {error}'
    ) from error
  return Vocabulary(written.getvalue())


def read(path: epath.PathLike) -> Vocabulary:
  """Reads a vocabulary that was written as its model."""
  try:
    return Vocabulary(epath.Path(path).read_bytes())
  except (OSError, ValueError) as error:
    raise ValueError(
      f'Expected a vocabulary in {path}, got: {error}'
    ) from error
