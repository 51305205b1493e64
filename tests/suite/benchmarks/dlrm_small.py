"""DLRM at the size of tests: 700 made-up clicks."""

import dataclasses

from input_pipelines.criteo import tiny
from suite.benchmark import DataSet
from suite.benchmarks import dlrm

TABLES = (
  312, 153, 130, 101, 154, 3, 93, 41, 21, 251, 234, 220, 11, 61, 121, 51, 5, 58,
  15, 292, 247, 286, 269, 114, 61, 37,
)  # fmt: skip
SPEC = tiny.Spec('few_clicks', rows=700, test_rows=43)
_TINY = dlrm.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=64,
    warmup_steps=3,
    decay_start_steps=6,
    decay_steps=4,
    epochs_between_evals=0.5,
    eval_batch_size=32,
    tables=TABLES,
    whole_table_rows=100,
    bottom_layers=(8, 4),
    top_layers=(8, 1),
  ),
  data=DataSet(SPEC.name, SPEC.rows, SPEC.test_rows),
)


def write(data_dir: str) -> None:
  """Writes the data set."""
  tiny.write(data_dir, SPEC)
