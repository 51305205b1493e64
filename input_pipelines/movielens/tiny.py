"""Ratings of made-up users with MovieLens' schema: a small MovieLens.

Every user has a taste, every item a character, both of a few latent factors,
and every item a popularity that falls off as in MovieLens. A user rates items
without repeat, by

  P(user rates item) ~ exp(popularity[item] + taste[user] . character[item])

at times in random order, so that the last one, which is held out, is of the
same process as the others. The ratings then take MovieLens' own steps.
"""

import os

import numpy as np

from input_pipelines.movielens import prepare as of_movielens
from input_pipelines.movielens import read as movielens
from input_pipelines.writing import recipe

NAME = 'interactions'
VERSION = of_movielens.VERSION
USERS = 2000
ITEMS = 1000
ROWS = {'train': 98_689, 'test': USERS}

_SEED = 0
_FACTORS = 4
_TASTE = 3.0  # standard deviation of taste . character
_POPULARITY = 1.3  # exponent of its fall with the rank
_MEAN_RATINGS = 50
_SHARDS = 2


def build(data_dir: str | os.PathLike) -> str:
  """Writes the data set into a directory of data sets.

  Args:
    data_dir: the directory that holds the data sets; made if it is not there.

  Returns:
    The data set's own directory, `<data_dir>/interactions/<version>`.
  """
  with recipe.generated(data_dir, NAME, VERSION) as (unfinished, order):
    return of_movielens.write(
      unfinished,
      of_movielens.hold_out(ratings()),
      name=NAME,
      description='Generated choices of items, by latent factors.',
      shards=_SHARDS,
      order=order,
    )


def verify(directory: str | os.PathLike) -> None:
  """Raises unless the directory holds this data set, whole."""
  movielens.verify(directory, users=USERS, items=ITEMS, **ROWS)


def ratings() -> of_movielens.Ratings:
  """The ratings, as a file of MovieLens has them: sorted by user and item."""
  rng = np.random.default_rng(_SEED)
  chosen = _choose(scores(), _counts(rng), rng)
  user, item = np.nonzero(chosen)
  # Numbers with gaps, as MovieLens' are; users begin at 1.
  names = np.sort(rng.choice(np.arange(1, 10 * ITEMS), ITEMS, replace=False))
  time = 10**9 + rng.permutation(len(user))
  return of_movielens.Ratings(user + 1, names[item], time)


def scores() -> np.ndarray:
  """The logarithm of how likely users rate items, float64 [USERS, ITEMS]."""
  rng = np.random.default_rng(_SEED + 1)
  taste = rng.normal(size=(USERS, _FACTORS))
  character = rng.normal(size=(ITEMS, _FACTORS))
  popularity = -_POPULARITY * np.log(rng.permutation(ITEMS) + 10.0)
  return popularity + taste @ character.T * (_TASTE / np.sqrt(_FACTORS))


def _counts(rng: np.random.Generator) -> np.ndarray:
  """Ratings of each user, int64 [USERS]: skewed, and 20 or more."""
  most = _MEAN_RATINGS - of_movielens.MIN_RATINGS
  return of_movielens.MIN_RATINGS + rng.geometric(1 / most, USERS)


def _choose(
  scores: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Draws items without repeat by their likelihood: bool [USERS, ITEMS].

  The largest of scores with Gumbel noise are such a draw.
  """
  noisy = scores + rng.gumbel(size=scores.shape)
  ranks = np.argsort(np.argsort(-noisy, axis=1), axis=1)
  return ranks < counts[:, None]


RECIPES = (
  recipe.Recipe(
    name=NAME,
    summary='choices of 2000 made-up users among 1000 items, as MovieLens',
    licence='none needed; it is generated',
    bytes=1_000_000,
    splits={name: movielens.records(n) for name, n in ROWS.items()},
    verify=verify,
    check=lambda features: of_movielens.check(features, USERS, ITEMS),
    build=lambda order: build(order.data_dir),
  ),
)
