"""DLRM-DCNv2 at the size of tests: 700 made-up clicks, tables of 50 rows."""

import dataclasses

from input_pipelines.criteo import tiny
from suite.benchmark import DataSet
from suite.benchmarks import dlrm_dcnv2

LOOKUPS = (3, 3, *(1,) * 20, 4, 1, 1, 2)  # so many that sums travel
TABLES = (
  50, 50, 50, 50, 50, 3, 50, 41, 21, 50, 50, 50, 11, 50, 50, 50, 5, 50, 15, 50,
  50, 50, 50, 50, 50, 37,
)  # fmt: skip
SPEC = tiny.Spec(
  'few_clicks_multi_hot', rows=700, test_rows=43, hots=LOOKUPS, cap=50
)
_TINY = dlrm_dcnv2.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=64,
    epochs_between_evals=0.5,
    eval_batch_size=32,
    tables=TABLES,
    lookups=LOOKUPS,
    whole_table_rows=45,
    bottom_layers=(8, 4),
    cross_layers=1,
    cross_rank=4,
    top_layers=(8, 1),
  ),
  data=DataSet(SPEC.name, SPEC.rows, SPEC.test_rows),
)


def write(data_dir: str) -> None:
  """Writes the data set."""
  tiny.write(data_dir, SPEC)
