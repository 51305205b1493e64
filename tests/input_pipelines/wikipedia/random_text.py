"""Text of random words, in files as those of Wikipedia, and its vocabulary."""

from collections.abc import Sequence
import os
import random

from input_pipelines.text import wordpiece
from input_pipelines.wikipedia import prepare, samples
from input_pipelines.writing import recipe

NAME = 'random_text'
# Among them: an accent, a capital sigma at an end, a character for private use,
# one that does not print, and one that is a word by itself.
_WORDS = (
  'unaffable', 'Runs', 'the', 'gold', 'rune', 'ün', 'ΣΟΦΟΣ', 'a\ue000',
  'g\u200bold', '中the', 'a.',
)  # fmt: skip
TOKENS = (
  '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'un', '##aff', '##able', 'run',
  '##s', '##e', 'the', 'gold', 'a', '.', 'σοφος', '中',
)  # fmt: skip
VOCABULARY = wordpiece.Vocabulary(TOKENS)
SETTINGS = samples.Settings(length=24, predictions=4, passes=2)


def lines(documents: int, seed: int) -> list[str]:
  """A sentence a line, documents apart; words that no vocabulary has too."""
  rng, found = random.Random(seed), []
  for _ in range(documents):
    for _ in range(rng.randint(1, 6)):
      words = rng.choices(_WORDS, k=rng.randint(1, 9))
      found.append(' '.join(words))
    found += [''] * rng.randint(1, 2)
  return found


def write_text(folder: str, *, documents: Sequence[int]) -> list[str]:
  """Writes part-00000-of-0000N and so on, eval.txt and vocab.txt."""
  count = len(documents) - 1
  names = [f'part-{i:05d}-of-{count:05d}' for i in range(count)] + ['eval.txt']
  for seed, (name, number) in enumerate(zip(names, documents, strict=True)):
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
      file.writelines(f'{line}\n' for line in lines(number, seed))
  with open(os.path.join(folder, 'vocab.txt'), 'w', encoding='utf-8') as file:
    file.writelines(f'{token}\n' for token in TOKENS)
  return names


def write(
  data_dir: str,
  folder: str,
  *,
  documents: Sequence[int] = (20, 30, 12),
  evaluated: int = 21,
  settings: samples.Settings = SETTINGS,
) -> str:
  """Writes the data set from such text; returns its directory."""
  write_text(folder, documents=documents)
  return prepare.build(
    recipe.Order(data_dir, folder),
    md5={},
    parts=len(documents) - 1,
    evaluated=evaluated,
    settings=settings,
    processes=0,
  )
