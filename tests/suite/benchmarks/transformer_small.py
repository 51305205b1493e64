"""The Transformer at the size of tests: one layer, texts of random words."""

import dataclasses

from suite.benchmark import DataSet
from suite.benchmarks import transformer
from tests.input_pipelines.translation import random_pairs

_TINY = transformer.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    subwords=len(random_pairs.VOCABULARY),
    subword_multiple=2,
    global_batch_size=512,
    max_sequence_length=16,
    bucket_first=9,
    bucket_scale=2.0,
    row_multiple=16,
    packed_row_length=32,
    eval_batch_size=8,
    eval_lengths=(4, 48),
    max_epochs=2,
    layers=1,
    width=16,
    heads=2,
    ffn=32,
    extra_length=3,
  ),
  data=DataSet(random_pairs.NAME, train_samples=120, eval_samples=9),
)
# Each device drops for its own rows.
STILL = {'dropout': 0.0}


def write(data_dir: str) -> None:
  """Writes the data set."""
  random_pairs.write(data_dir, train=120, test=9)
