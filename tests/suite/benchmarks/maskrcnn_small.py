"""Mask R-CNN at the size of tests: two stages, three maps, photos of noise."""

import dataclasses

import jax
import numpy as np

from input_pipelines.writing import weights
from suite import benchmark
from suite.benchmark import DataSet, Start
from suite.benchmarks import maskrcnn
from suite.run.sharding import path_of
from tests.input_pipelines.coco import fake_coco

_TINY = maskrcnn.BENCHMARK.sizes['tiny']
_PHOTOS = {'train': 50, 'validation': 13}
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=8,
    warmup_steps=2,
    decay_steps=(6, 8),
    num_image_candidates=12,
    max_epochs=2,
    eval_batch_size=8,
    most_objects=4,
    object_mask_side=8,
    min_image_size=32,
    max_image_size=64,
    stage_blocks=(1, 1),
    width=2,
    pyramid_channels=4,
    anchor_sizes=(8, 16, 32),
    anchor_ratios=(0.5, 1.0),
    hidden=8,
    box_side=2,
    mask_channels=(4,),
    mask_side=2,
    samples=1,
    canonical_size=32.0,
    classes=len(fake_coco.CATEGORIES) + 1,
    anchor_samples=16,
    train_before_nms=12,
    train_after_nms=12,
    eval_before_nms=12,
    eval_after_nms=12,
    eval_proposals=12,
    region_samples=8,
    image_detections=6,
  ),
  data=DataSet(
    fake_coco.NAME,
    fake_coco.with_objects(_PHOTOS['train']),
    _PHOTOS['validation'],
  ),
  start=Start('random_backbone'),
)
PARTS_DIFFER = 'Anchors and regions are drawn by the key of a part.'


def write(data_dir: str) -> None:
  """Writes the data set, and a random backbone as a start."""
  fake_coco.write(data_dir, **_PHOTOS)
  task = benchmark.get('maskrcnn').task(SIZE.hparams, SIZE.data)
  params, stats = jax.eval_shape(task.init_model, jax.random.key(0))
  specs = jax.tree_util.tree_leaves_with_path(
    {'params': params, 'stats': stats}
  )
  rng = np.random.default_rng(3)
  weights.write(
    data_dir,
    SIZE.start.name,
    '1.0.0',
    {
      path_of(path): rng.normal(size=spec.shape).astype(np.float32) / 4
      for path, spec in specs
      if '/backbone/' in path_of(path)
    },
    {},
    summary='A random backbone.',
  )
