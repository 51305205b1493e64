"""NCF at the size of tests: 60 users who picked 24 of 48 items each."""

import dataclasses

import numpy as np

from input_pipelines.movielens import prepare
from input_pipelines.writing import recipe, writer
from suite.benchmark import DataSet
from suite.benchmarks import ncf

USERS, ITEMS, PICKED = 60, 48, 24
_TINY = ncf.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    users=USERS,
    items=ITEMS,
    mf_width=8,
    mlp_layers=(16, 8),
    global_batch_size=1024,
    eval_batch_size=32,
    eval_negatives=30,
    table_row_multiple=8,
    max_epochs=2,
  ),
  data=DataSet('picks', USERS * (PICKED - 1), USERS),
)


def write(data_dir: str) -> None:
  """Writes the data set: random picks; each user's last is held out."""
  draws = np.random.default_rng(5)
  items = np.concatenate(
    [draws.choice(ITEMS, PICKED, replace=False) for _ in range(USERS)]
  )
  users = np.repeat(np.arange(USERS), PICKED)
  ratings = prepare.Ratings(users, items, np.arange(len(users)))
  directory = recipe.place(data_dir, SIZE.data.name, prepare.VERSION)
  with writer.begin(directory, {}) as unfinished:
    prepare.write(
      unfinished,
      prepare.hold_out(ratings),
      name=SIZE.data.name,
      description='Random picks.',
      shards=1,
      order=recipe.Order(data_dir, ''),
    )
