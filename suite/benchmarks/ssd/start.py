"""Start weights of SSD's backbone: torchvision's ResNet-34, or tiny's own.

The published file is converted without PyTorch. Its last stage, which SSD has
not, is left out. The backbone of tiny is made by `bootstrap`.
"""

from collections.abc import Mapping

import numpy as np

from input_pipelines.writing import (
  downloads,
  files,
  published,
  recipe,
  weights,
)
from suite.benchmarks import ssd

VERSION = '1.0.0'
# PyTorch names the files of its hub by the first digits of their SHA-256.
FILE, SHA256_PREFIX = 'resnet34-333f7ec4.pth', '333f7ec4'

HOW_TO = """\
  1. Put resnet34-333f7ec4.pth, 87 MB, the ResNet-34 of torchvision that was
     trained on ImageNet, anywhere below {downloads}; it is at
     download.pytorch.org/models.
  2. Run this command again: it checks it and writes the weights, 33 MB.
All submitters start from this file: results from another start do not compare
with theirs."""

_NORM = {
  'params/{}/scale': 'weight',
  'params/{}/bias': 'bias',
  'stats/{}/mean': 'running_mean',
  'stats/{}/var': 'running_var',
}


def build(
  order: recipe.Order,
  *,
  prefix: str = SHA256_PREFIX,
  hp: ssd.Hparams | None = None,
) -> str:
  """Converts the published file; returns the data set's directory."""
  path = downloads.one(order.downloads, FILE)
  if order.check_downloads:
    _check(path, prefix)
  size = ssd.BENCHMARK.size('reference')
  return weights.write(
    order.data_dir,
    size.start.name,
    VERSION,
    converted(published.pytorch(path), hp or size.hparams),
    {'source': FILE},
    summary='The backbone that SSD starts from.',
  )


def converted(
  found: Mapping[str, np.ndarray], hp: ssd.Hparams
) -> published.Published:
  """Arrays of torchvision -> ours, each made when it is asked for."""
  return published.renamed(found, by_path(hp), FILE)


def by_path(hp: ssd.Hparams) -> dict[str, str]:
  """Path of an array of the backbone -> its name in torchvision."""
  names = {
    'params/backbone/conv1/kernel': 'conv1.weight',
    **_norm('bn1', 'bn1'),
  }
  channels = hp.stage_widths[0]
  for stage, (blocks, width, stride) in enumerate(
    zip(hp.stage_blocks, hp.stage_widths, hp.stage_strides, strict=True)
  ):
    for block in range(blocks):
      ours, theirs = f'stages/{stage}/{block}', f'layer{stage + 1}.{block}'
      for number in (1, 2):
        kernel = f'params/backbone/{ours}/conv{number}/kernel'
        names[kernel] = f'{theirs}.conv{number}.weight'
        names |= _norm(f'{ours}/bn{number}', f'{theirs}.bn{number}')
      if not block and (stride != 1 or width != channels):
        kernel = f'params/backbone/{ours}/project/kernel'
        names[kernel] = f'{theirs}.downsample.0.weight'
        names |= _norm(f'{ours}/project_bn', f'{theirs}.downsample.1')
    channels = width
  return names


def _norm(ours: str, theirs: str) -> dict[str, str]:
  return {
    path.format(f'backbone/{ours}'): f'{theirs}.{name}'
    for path, name in _NORM.items()
  }


def _check(path: str, prefix: str) -> None:
  digest = files.digest(path, 'sha256')
  if not digest.startswith(prefix):
    raise ValueError(
      f'Expected a SHA-256 that begins with {prefix} of {path}, as its name '
      f'says, got {digest}: download it again.'
    )


RECIPES = (
  weights.recipe_of(
    'resnet34_start',
    "torchvision's ResNet-34, the backbone that SSD starts from",
    build,
    licence='BSD-3-Clause, of torchvision; trained on ImageNet',
    bytes=33_000_000,
    needs='a file of PyTorch, 87 MB',
    how_to=HOW_TO,
  ),
  weights.recipe_of(
    'scenes_start',
    'what SSD tiny starts from: made by training for a minute',
    weights.made_by('suite.benchmarks.ssd.bootstrap'),
    bytes=400_000,
  ),
)
