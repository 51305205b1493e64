"""Start weights of BERT: the published checkpoint, or one of tiny's own.

The checkpoint is converted without TensorFlow; its moments are left out, for a
run starts with moments of 0. That of tiny is made by `bootstrap`.
"""

from collections.abc import Callable, Mapping
import functools
import os

import numpy as np

from input_pipelines.writing import downloads, published, recipe, weights
from suite.benchmarks import bert
from suite.benchmarks.bert import names

VERSION = '1.0.0'
CHECKPOINT = 'model.ckpt-28252'
MD5 = {
  f'{CHECKPOINT}.index': 'f97de3ae180eb8d479555c939d50d048',
  f'{CHECKPOINT}.data-00000-of-00001': '50797acd537880bfb5a7ade80d976129',
}
# Of the 10,000 samples, by the reference's README from v1.0 on;
# studies/bert_start.py measures it.
ACCURACY = 0.34085

HOW_TO = """\
  1. Put model.ckpt-28252.index and model.ckpt-28252.data-00000-of-00001 of the
     folder tf1_ckpt, 4 GB, anywhere below {downloads}; the reference's
     dataset.md says where MLCommons keeps them.
  2. Run this command again: it checks them and writes the weights, 1.3 GB."""


def build(order: recipe.Order, *, md5: Mapping[str, str] = MD5) -> str:
  """Converts the published checkpoint; returns the data set's directory."""
  prefix = _find(order)
  folder = os.path.dirname(prefix)
  paths = [os.path.join(folder, name) for name in md5]
  downloads.check_md5(order, paths, md5)
  hp = bert.BENCHMARK.size('reference').hparams
  return weights.write(
    order.data_dir,
    bert.BENCHMARK.size('reference').start.name,
    VERSION,
    converted(published.tensorflow(prefix), layers=hp.layers, heads=hp.heads),
    {'source': CHECKPOINT},
    summary='The checkpoint that BERT starts from.',
  )


def converted(
  found: Mapping[str, np.ndarray], *, layers: int, heads: int
) -> published.Published:
  """Arrays of the reference -> ours, each made when it is asked for."""

  def made(path: str, variables: list[str]) -> np.ndarray:
    values = [_shaped(path, found[name], heads) for name in variables]
    return np.stack(values) if '/blocks/' in path else values[0]

  by_path = names.by_path(layers)
  lacks = [n for each in by_path.values() for n in each if n not in found]
  if lacks:
    raise ValueError(
      f'Expected {lacks[0]} and {len(lacks) - 1} other variables in the '
      'checkpoint, got none.'
    )
  readers: dict[str, Callable[[], np.ndarray]] = {
    f'params/{path}': functools.partial(made, path, variables)
    for path, variables in by_path.items()
  }
  return published.Published(readers)


def _shaped(path: str, values: np.ndarray, heads: int) -> np.ndarray:
  """A variable with heads as a dimension, and [in, out] as all others."""
  if path.endswith('attention/output/kernel'):
    return values.reshape(heads, -1, values.shape[-1])
  if path.endswith(('query/kernel', 'key/kernel', 'value/kernel')):
    return values.reshape(len(values), heads, -1)
  if path.endswith(('query/bias', 'key/bias', 'value/bias')):
    return values.reshape(heads, -1)
  return values.T if path == 'next/kernel' else values


def _find(order: recipe.Order) -> str:
  """The checkpoint's path without its ending; FileNotFoundError."""
  root = os.path.expanduser(order.downloads)
  for folder, folders, files in os.walk(root):
    folders.sort()
    if {*MD5} <= {*files}:
      return os.path.join(folder, CHECKPOINT)
  raise FileNotFoundError(
    f'Expected {" and ".join(MD5)} in a folder below {root}, found none.'
  )


RECIPES = (
  weights.recipe_of(
    'bert_start',
    'the checkpoint that BERT starts from',
    build,
    licence='Apache-2.0, of the reference',
    bytes=1_345_000_000,
    needs='the checkpoint of TensorFlow 1, 4 GB',
    how_to=HOW_TO,
  ),
  weights.recipe_of(
    'articles_start',
    'what BERT tiny starts from: made by training for a minute',
    weights.made_by('suite.benchmarks.bert.bootstrap'),
    bytes=600_000,
    needs='the data set articles, which it makes where it is not there',
  ),
)
