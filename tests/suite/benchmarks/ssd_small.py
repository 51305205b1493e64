"""SSD at the size of tests: two stages, two maps, photos of noise."""

import dataclasses

import jax
import numpy as np

from input_pipelines.writing import weights
from suite import benchmark
from suite.benchmark import DataSet, Start
from suite.benchmarks import ssd
from suite.run.sharding import path_of
from tests.input_pipelines.coco import fake_coco

_TINY = ssd.BENCHMARK.sizes['tiny']
_PHOTOS = {'train': 170, 'validation': 13}
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=32,
    warmup_steps=2,
    decay_places=(4, 5),
    max_samples=1,
    model_bn_span=2,
    max_epochs=2,
    eval_batch_size=16,
    most_boxes=4,
    image_size=32,
    stage_blocks=(1, 1),
    stage_widths=(4, 6),
    stage_strides=(1, 2),
    map_between=(4,),
    map_channels=(6,),
    map_strides=(2,),
    box_steps=(8, 16),
    box_scales=(10, 20, 30),
    box_ratios=(1, 1),
    classes=len(fake_coco.CATEGORIES) + 1,
    class_detections=20,
    image_detections=30,
  ),
  data=DataSet(
    fake_coco.NAME,
    *(fake_coco.with_objects(count) for count in _PHOTOS.values()),
  ),
  start=Start('random_backbone'),
)


def write(data_dir: str) -> None:
  """Writes the data set, and a random backbone as a start."""
  fake_coco.write(data_dir, **_PHOTOS)
  task = benchmark.get('ssd').task(SIZE.hparams, SIZE.data)
  params, stats = jax.jit(task.init_model)(jax.random.key(3, impl='rbg'))
  found = {'params': params, 'stats': stats}
  weights.write(
    data_dir,
    SIZE.start.name,
    '1.0.0',
    {
      path_of(path): np.asarray(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(found)
      if '/backbone/' in path_of(path)
    },
    {},
    summary='A random backbone.',
  )
