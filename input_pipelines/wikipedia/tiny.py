"""95 articles of Wikipedia with the full data set's schema: a small Wikipedia.

The package gensim ships the beginning of a dump of the English Wikipedia in
MediaWiki's format. Its articles are made into samples by the full data set's
steps, with a vocabulary of its own, which is little more than the letters; ten
articles are held out. So that samples of few tokens have several sentences, and
some of them padding, a paragraph is a document here, and a clause a sentence.
"""

import bz2
import importlib.util
import itertools
import os
import random
import re

from input_pipelines.text import wordpiece
from input_pipelines.wikipedia import dump, prepare, samples
from input_pipelines.wikipedia import read as wikipedia
from input_pipelines.writing import recipe

NAME = 'articles'
TRAIN, EVAL = 19_105, 1000
TOKENS = 290
SETTINGS = samples.Settings(length=128, predictions=20, passes=1)

_DUMP = (
  'test/test_data/'
  'enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2'
)
_HELD_OUT = 10  # articles
_CLAUSE = re.compile(r'(?<=[,;:.!?)]) (?=\S.{24})')
_PARTS = 4


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets; returns its own."""
  with recipe.generated(data_dir, NAME, prepare.VERSION) as (unfinished, order):
    held_out, train = _articles()
    texts = (s for each in train for part in each.paragraphs for s in part)
    vocabulary = wordpiece.train(texts, TOKENS)
    os.makedirs(unfinished.path('text'), exist_ok=True)

    def part(name: str, articles: list[dump.Article]) -> prepare.Part:
      path = unfinished.path('text', name)
      with open(path, 'w', encoding='utf-8') as file:
        for paragraph in itertools.chain(*(a.paragraphs for a in articles)):
          clauses = _CLAUSE.split(' '.join(paragraph))
          file.writelines(f'{clause}\n' for clause in [*clauses, ''])
      return prepare.Part(path, EVAL if name == 'eval' else None)

    parts = [part(str(i), train[i::_PARTS]) for i in range(_PARTS)]
    return prepare.write(
      unfinished,
      {'train': parts, 'eval': [part('eval', held_out)]},
      vocabulary,
      name=NAME,
      description='Articles of Wikipedia, CC BY-SA, that gensim ships.',
      settings=SETTINGS,
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  wikipedia.verify(
    directory,
    train=TRAIN,
    evaluated=EVAL,
    vocabulary=TOKENS,
    length=SETTINGS.length,
    predictions=SETTINGS.predictions,
  )


def _articles() -> tuple[list[dump.Article], list[dump.Article]]:
  """The articles that are held out, and the others."""
  found = importlib.util.find_spec('gensim')
  if found is None:
    raise ImportError(
      'Expected the package gensim, which ships a dump of Wikipedia, found '
      "none: install it with pip install 'podium-bench[tiny]'."
    )
  (folder,) = found.submodule_search_locations
  with bz2.open(os.path.join(folder, _DUMP)) as file:
    articles = list(dump.articles(file))
  random.Random(SETTINGS.seed).shuffle(articles)
  return articles[:_HELD_OUT], articles[_HELD_OUT:]


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='masked sentences of 95 articles of Wikipedia',
    licence='CC BY-SA, of the text, which the package gensim ships',
    bytes=7_000_000,
    splits={'train': None, 'eval': wikipedia.records(EVAL)},
    verify=verify,
    check=lambda features: prepare.check(features, TOKENS),
    build=lambda order: build(order.data_dir),
  ),
)
