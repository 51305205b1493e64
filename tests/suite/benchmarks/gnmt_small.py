"""GNMT at the size of tests: two layers a side, texts of random words."""

import dataclasses

from input_pipelines.text import bpe
from suite.benchmark import DataSet
from suite.benchmarks import gnmt
from tests.input_pipelines.translation import random_pairs

_TINY = gnmt.BENCHMARK.sizes['tiny']
VOCABULARY = bpe.Vocabulary(sorted({*random_pairs.WORDS.split()})).padded(8)
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    subwords=len(VOCABULARY),
    global_batch_size=16,
    max_sequence_length=16,
    buckets=2,
    warmup_steps=3,
    remain_steps=6,
    decay_interval=2,
    eval_batch_size=16,
    eval_lengths=(16,),
    max_epochs=2,
    layers=2,
    width=8,
    longest_translation=6,
  ),
  data=DataSet(random_pairs.NAME, train_samples=200, eval_samples=27),
)
# Each device drops for its own rows.
STILL = {'dropout': 0.0}


def write(data_dir: str) -> None:
  """Writes the data set."""
  random_pairs.write(data_dir, train=200, test=27, vocabulary=VOCABULARY)
