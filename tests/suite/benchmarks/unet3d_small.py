"""3D U-Net at the size of tests: one level, crops of eight voxels a side."""

import dataclasses

from suite.benchmark import DataSet
from suite.benchmarks import unet3d
from tests.input_pipelines.kits19 import fake_cases

_TINY = unet3d.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=16,
    last_batch='padded',
    warmup_epochs=2,
    volumes=24,
    eval_after=2,
    eval_every=2,
    max_epochs=5,
    eval_batch_size=16,
    eval_slots=32,
    training_input_shape=8,
    validation_input_shape=8,
    filters=(4,),
  ),
  data=DataSet(fake_cases.NAME, train_samples=24, eval_samples=10),
)


def write(data_dir: str) -> None:
  """Writes the data set."""
  fake_cases.write(data_dir, train=24, validation=10)
