"""Start weights of Mask R-CNN's backbone: MSRA's ResNet-50, or tiny's own.

The published file is a pickle of Caffe2, which is converted without Caffe2. It
has no moments: its batch norms are a scale and a bias. The backbone of tiny is
made by `bootstrap`.
"""

from collections.abc import Mapping

import numpy as np

from input_pipelines.writing import downloads, published, recipe, weights
from suite.benchmarks import maskrcnn

VERSION = '1.0.0'
FILE = 'R-50.pkl'

HOW_TO = """\
  1. Put R-50.pkl, 103 MB, MSRA's ResNet-50 as Detectron hands it out, in its
     folder ImageNetPretrained/MSRA, anywhere below {downloads}.
  2. Run this command again: it checks the names in it and writes the weights,
     94 MB. No checksum of the file was published.
All submitters start from this file: results from another start do not compare
with theirs."""

_NORM = {'stats/{}/scale': 's', 'stats/{}/bias': 'b'}


def build(order: recipe.Order, *, hp: maskrcnn.Hparams | None = None) -> str:
  """Converts the published file; returns the data set's directory."""
  path = downloads.one(order.downloads, FILE)
  size = maskrcnn.BENCHMARK.size('reference')
  return weights.write(
    order.data_dir,
    size.start.name,
    VERSION,
    converted(published.caffe2(path), hp or size.hparams),
    {'source': FILE},
    summary='The backbone that Mask R-CNN starts from.',
  )


def converted(
  found: Mapping[str, np.ndarray], hp: maskrcnn.Hparams
) -> published.Published:
  """Arrays of Caffe2 -> ours, each made when it is asked for."""
  return published.renamed(found, by_path(hp), FILE)


def by_path(hp: maskrcnn.Hparams) -> dict[str, str]:
  """Path of an array of the backbone -> its name in Caffe2."""
  names = {
    'params/backbone/conv1/kernel': 'conv1_w',
    **_norm('bn1', 'res_conv1_bn'),
  }
  for stage, blocks in enumerate(hp.stage_blocks):
    for block in range(blocks):
      ours, theirs = f'stages/{stage}/{block}', f'res{stage + 2}_{block}'
      branches = {f'conv{n}': f'branch2{c}' for n, c in enumerate('abc', 1)}
      if not block:
        branches['project'] = 'branch1'
      for layer, branch in branches.items():
        kernel = f'params/backbone/{ours}/{layer}/kernel'
        names[kernel] = f'{theirs}_{branch}_w'
        norm = layer.replace('conv', 'bn')
        norm = 'project_bn' if layer == 'project' else norm
        names |= _norm(f'{ours}/{norm}', f'{theirs}_{branch}_bn')
  return names


def _norm(ours: str, theirs: str) -> dict[str, str]:
  return {
    path.format(f'backbone/{ours}'): f'{theirs}_{name}'
    for path, name in _NORM.items()
  }


RECIPES = (
  weights.recipe_of(
    'r50_start',
    "MSRA's ResNet-50, the backbone that Mask R-CNN starts from",
    build,
    licence='MIT (MSRA), Apache 2.0 (Detectron); trained on ImageNet',
    bytes=94_000_000,
    needs='a file of Caffe2, 103 MB',
    how_to=HOW_TO,
  ),
  weights.recipe_of(
    'shapes_start',
    'what Mask R-CNN tiny starts from: made by training for minutes',
    weights.made_by('suite.benchmarks.maskrcnn.bootstrap'),
    bytes=1_000_000,
  ),
)
