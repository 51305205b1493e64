r"""Accuracy of BERT's masked tokens before the first step.

python studies/bert_start.py --size=tiny --data_dir=data

The published checkpoint must have 0.34085 of them right (the reference's
README, from v1.0 on): the model, its checkpoint and the data are then those of
the reference.
"""

import dataclasses
import os
import sys

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax

from input_pipelines.reading import dataset
from launch.support import start as start_lib
from suite import benchmark as benchmark_lib
from suite.benchmarks.bert import METRIC, start
from suite.clock import Clock
from suite.run import program, sharding
from suite.run.feed import Data

_SIZE = flags.DEFINE_string('size', 'reference', 'Of the benchmark.')
_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where its data lies.')
_BATCH = flags.DEFINE_integer('batch', 0, 'Samples at once; 0: as declared.')

_TOLERANCE = 5e-5


def measure(size, data_dir: str) -> float:
  """The accuracy of the weights that a size starts from."""
  task = benchmark_lib.get('bert').task(size.hparams, size.data)
  directory = dataset.find(data_dir, size.data.name)
  facts = task.inspect(directory)
  weights = start_lib.weights(size, task, data_dir)
  mesh, clock = sharding.make_mesh(devices=jax.devices()[:1]), Clock()
  made = program.Program.build(task, mesh, clock, program.Build())
  state = made.fresh_state(0, weights)
  clock.start()
  data = Data(clock, directory, 0, lambda rows: sharding.put_rows(rows, mesh))
  feed = task.open(data, facts)

  def outputs(carry):
    for batch in feed.eval_batches():
      carry, output = made.predict(state, batch, carry)
      yield program.host_rows(output)

  try:
    return feed.score(outputs(made.carry()), made)[METRIC]
  finally:
    feed.close()


def main(argv):
  del argv
  size = benchmark_lib.get('bert').size(_SIZE.value)
  if _BATCH.value:
    hp = dataclasses.replace(size.hparams, eval_batch_size=_BATCH.value)
    size = dataclasses.replace(size, hparams=hp)
  found = measure(size, _DATA_DIR.value)
  print(f'{METRIC}: {found:.5f}')
  if _SIZE.value != 'tiny' and abs(found - start.ACCURACY) > _TOLERANCE:
    sys.exit(f'FAILED: expected {start.ACCURACY}, got {found:.5f}')


if __name__ == '__main__':
  app.run(main)
