r"""Padding of BERT's batches, and samples a second of CPU to fill them.

python studies/bert_rows.py --batch=512

Lengths are drawn as those of the full data set are: a fifth of the samples is
full, and 1.96 of them have room in 512 tokens; 2.03 are published. One window
of 16 batches is put into rows, dealt out and filled, by one thread.
"""

import os
import sys
import time

from absl import app, flags
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.text import packing
from input_pipelines.wikipedia import read as wikipedia
from studies import bert_pytorch

_BATCH = flags.DEFINE_integer('batch', 512, 'Samples of a batch.')
_SHARING = flags.DEFINE_integer('samples_per_row', 8, 'At most.')

_BATCHES, _LENGTH, _PREDICTIONS, _TOKENS = 16, 512, 76, 30_522


def main(argv):
  del argv
  count = _BATCH.value * _BATCHES
  samples = bert_pytorch.drawn(count, _LENGTH, _TOKENS, seed=0)
  every = np.arange(count)

  begun = time.process_time()
  sides = np.stack([samples.length, np.ones_like(samples.length)], axis=1)
  rows = packing.pack(every, sides, (_LENGTH, _SHARING.value))
  counts = np.diff(rows.ends, prepend=0)
  dealt = packing.deal(counts, _BATCHES, _BATCH.value)
  most = max(map(len, dealt))
  more = (_SHARING.value + 1) // 2
  shape = wikipedia.Shape(most, _LENGTH, _PREDICTIONS + more, _SHARING.value)
  for each in dealt:
    members = np.concatenate([
      rows.members[rows.ends[row] - counts[row] : rows.ends[row]]
      for row in each
    ])  # fmt: skip
    row = np.repeat(np.arange(len(each)), counts[each])
    wikipedia.fill(samples, members, row, shape, most)
  shared = time.process_time() - begun

  begun = time.process_time()
  shape = wikipedia.Shape(_BATCH.value, _LENGTH, _PREDICTIONS)
  for members in np.split(every, _BATCHES):
    wikipedia.fill(
      samples, members, np.arange(_BATCH.value), shape, _BATCH.value
    )
  alone = time.process_time() - begun

  tokens = samples.length.sum()
  for name, number, seconds in (
    ('rows of one sample', count, alone),
    ('shared rows', _BATCHES * most, shared),
  ):
    print(
      f'{name}: {1 - tokens / (number * _LENGTH):.1%} padding, '
      f'{count / number:.2f} samples a row, '
      f'{count / seconds:,.0f} samples a second of CPU'
    )


if __name__ == '__main__':
  app.run(main)
