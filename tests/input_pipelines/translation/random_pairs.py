"""Sentence pairs of random words: a data set for tests."""

import numpy as np

from input_pipelines.text import subwords
from input_pipelines.translation import corpus, prepare
from input_pipelines.writing import recipe, writer

NAME = 'pairs'
WORDS = 'the dog sees a small cat and 3.5 Hunde, die Katze sieht Größe'
VOCABULARY = subwords.build(subwords.count([WORDS]), size=0, min_count=1)


def lines(count: int, seed: int) -> list[str]:
  """Texts of 0 to 14 words."""
  draws = np.random.default_rng(seed)
  words = WORDS.split()
  return [
    ' '.join(draws.choice(words, draws.integers(15))) for _ in range(count)
  ]


def write(
  data_dir: str, train: int = 200, test: int = 9, vocabulary=VOCABULARY
) -> str:
  """Writes the data set; returns its directory."""
  texts = {
    split: corpus.Texts(lines(n, 2 * n), lines(n, 2 * n + 1))
    for split, n in (('train', train), ('test', test))
  }
  directory = recipe.place(data_dir, NAME, '1.0.0')
  with writer.begin(directory, {}) as unfinished:
    return prepare.write(
      unfinished,
      texts,
      vocabulary,
      name=NAME,
      description='Random words.',
      shards={'train': 2, 'test': 1},
      order=recipe.Order(data_dir, ''),
    )
