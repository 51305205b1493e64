"""BERT at the size of tests: one layer, texts of random words, packed rows."""

import dataclasses
import os

import jax
import numpy as np

from input_pipelines import wikipedia
from input_pipelines.writing import weights
from suite import benchmark
from suite.benchmark import DataSet, Start
from suite.benchmarks import bert
from suite.run.sharding import path_of
from tests import quick
from tests.input_pipelines.wikipedia import random_text

_TINY = bert.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=32,
    samples_per_row=3,
    mean_samples_per_row=1.1,
    eval_batch_size=16,
    max_samples=256,
    eval_slope=0.0,
    eval_offset=128,
    eval_share=1.0,
    eval_multiple=128,
    dropout=0.1,
    length=random_text.SETTINGS.length,
    predictions=random_text.SETTINGS.predictions,
    vocabulary=len(random_text.TOKENS),
    layers=1,
    width=16,
    heads=2,
    ffn=32,
  ),
  data=DataSet(wikipedia.NAME, train_samples=256, eval_samples=21),
  start=Start('random_start'),
)
# Each device drops for its own rows.
STILL = {'dropout': 0.0}


def write(data_dir: str) -> None:
  """Writes the data set, and random weights as a start."""
  folder = os.path.join(data_dir, 'text')
  os.makedirs(folder)
  random_text.write(data_dir, folder, documents=(70, 90, 12))
  declared = benchmark.get('bert')
  task = declared.task(SIZE.hparams, SIZE.data)
  params, _ = quick.jit(task.init_model)(jax.random.key(3, impl='rbg'))
  found = {
    f'params/{path_of(path)}': np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  weights.write(
    data_dir, SIZE.start.name, '1.0.0', found, {}, summary='Random weights.'
  )
