"""Clicks a second: parsed, made into batches, scored; beside PyTorch's ways.

JAX_PLATFORMS=cpu python studies/click_speed.py --data_dir=data

Batches are made of the data sets `clicks` and `clicks_multi_hot` on one core,
without threads, in turns with what the references' loaders do with the same
clicks: a mini-batch of int32 is read and taken apart in PyTorch, and the ids of
each table are looked up. Lines are parsed in turns with pandas. The area under
the ROC curve is that of --scores, beside scikit-learn's of a part of them.
Rates are per second of CPU, medians of the turns.
"""

import io
import os
import sys
import tempfile
import time

from absl import app, flags
import numpy as np
import pandas as pd
from sklearn import metrics
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.criteo import lines, multi_hot, read, tiny
from input_pipelines.reading import places
from suite.metrics import auc

_DATA_DIR = flags.DEFINE_string('data_dir', 'data', 'Where `clicks` are.')
_BATCHES = flags.DEFINE_multi_integer('batch', [2048, 65_536], 'Batch sizes.')
_CLICKS = flags.DEFINE_integer(
  'clicks', 1 << 19, 'Clicks that each figure is measured on.'
)
_LINES = flags.DEFINE_integer('lines', 100_000, 'Lines that are parsed.')
_SCORES = flags.DEFINE_integer(
  'scores', read.ROWS['test'], 'Scores whose area is computed.'
)
_SKLEARN = flags.DEFINE_integer('sklearn', 5_000_000, 'Scores for sklearn.')
_TURNS = flags.DEFINE_integer('turns', 5, 'Turns of each candidate.')


class Plain:
  """Clicks as the references read them: a file of int32, label first."""

  def __init__(self, clicks: read.Clicks, directory: str):
    self.file = tempfile.TemporaryFile()  # noqa: SIM115 - of the object
    self.width = 40
    self.rows = clicks.rows('train')
    for run in clicks.runs('train', 0, self.rows):
      self.file.write(run.tobytes())
    facts = clicks.facts
    drawn = multi_hot.read(directory, facts.tables, facts.hots)
    self.tables = [
      None
      if ids is None
      else torch.from_numpy(np.column_stack([np.arange(len(ids)), ids])).int()
      for ids in drawn
    ]

  def batch(self, number: int, size: int):
    """A mini-batch as tensors: dense, offsets, ids, label."""
    self.file.seek(4 * self.width * size * number)
    data = np.frombuffer(self.file.read(4 * self.width * size), np.int32)
    rows = torch.from_numpy(data.copy()).view(-1, self.width)
    dense = torch.log(rows[:, 1:14].float() + 1)
    label = rows[:, 0].float().view(-1, 1)
    ids = rows[:, 14:].long().t()
    if any(table is not None for table in self.tables):
      found = [
        one if table is None else torch.nn.functional.embedding(one, table)
        for one, table in zip(ids, self.tables, strict=True)
      ]
      return dense, torch.cat([each.reshape(-1) for each in found]), label
    offsets = torch.arange(len(rows)).reshape(1, -1).repeat(26, 1)
    return dense, offsets, ids, label


def rate(work, count: int) -> float:
  """Millions a second of CPU of a call that does so many."""
  begin = time.process_time()
  work()
  return count / max(time.process_time() - begin, 1e-9) / 1e6


def show(rates: dict[str, list[float]], unit: str) -> None:
  """Prints the median of each candidate, and the span."""
  for name, found in rates.items():
    print(
      f'{name:52}{np.median(found):9.2f} M {unit} a CPU s, '
      f'{min(found):.2f} to {max(found):.2f}'
    )


def batches() -> None:
  """Compares the batches of both data sets."""
  rates = {}
  for name in ('clicks', 'clicks_multi_hot'):
    directory = places.find(_DATA_DIR.value, name)
    clicks = read.load(directory)
    plain = Plain(clicks, directory)
    for _ in range(_TURNS.value):
      for size in _BATCHES.value:
        steps = max(1, min(_CLICKS.value, plain.rows) // size)
        stream = read.train_batches(
          clicks,
          batch_size=size,
          seed=1,
          shuffle=True,
          drop_last=True,
          threads=0,
        )
        next(stream)
        for what, make in (
          ('ours', lambda _, s=stream: next(s)),
          ('PyTorch', lambda i, p=plain, n=size: p.batch(i, n)),
        ):
          found = rate(
            lambda m=make, n=steps: [*map(m, range(n))], steps * size
          )
          key = f'{name}, batch {size:,}: {what}'
          rates.setdefault(key, []).append(found)
        stream.close()
  show(rates, 'clicks')


def parsing() -> None:
  """Compares the parsing of text."""
  text = tiny.text(tiny.make(_LINES.value, 0))
  piece = text[: text.index(b'\n', 1 << 20) + 1]
  count = piece.count(b'\n')

  def by_pandas():
    frame = pd.read_csv(io.BytesIO(piece), sep='\t', header=None, dtype=str)
    frame = frame.fillna('0')
    for column in range(14):
      frame[column].astype(np.int32)
    for column in range(14, 40):
      frame[column].map(lambda value: int(value, 16))

  rates = {}
  for _ in range(_TURNS.value):
    for name, parse in (
      ('ours', lambda: lines.parse(piece)),
      ('pandas', by_pandas),
    ):
      rates.setdefault(f'lines of text: {name}', []).append(rate(parse, count))
  show(rates, 'lines')


def area() -> None:
  """Times the area under the ROC curve."""
  draws = np.random.default_rng(0)
  labels = draws.random(_SCORES.value) < 0.034
  scores = draws.standard_normal(_SCORES.value, np.float32) + 1.2 * labels
  scores = (1 / (1 + np.exp(3 - scores))).astype(np.float32)
  labels = labels.astype(np.float32)
  ones = np.ones(1 << 20, np.float32)
  total = auc.Auc()
  begin = time.process_time()
  for first in range(0, len(scores), len(ones)):
    piece = slice(first, first + len(ones))
    total.add(scores[piece], labels[piece], ones[: len(scores[piece])])
  added = time.process_time() - begin
  value = total.value()
  seconds = time.process_time() - begin
  print(
    f'area of {len(scores):,} scores: {value:.10f} in {seconds:.2f} CPU s, '
    f'{added:.2f} of it while they come'
  )
  some = slice(0, min(_SKLEARN.value, len(scores)))
  for name, find in (
    ('ours', lambda: auc.roc_auc(scores[some], labels[some])),
    ('scikit-learn', lambda: metrics.roc_auc_score(labels[some], scores[some])),
  ):
    begin = time.process_time()
    value = find()
    seconds = time.process_time() - begin
    print(
      f'area of {some.stop:,} scores by {name}: {value!r} in {seconds:.2f} '
      'CPU s'
    )


def main(argv) -> None:
  del argv
  torch.set_num_threads(1)
  batches()
  parsing()
  area()


if __name__ == '__main__':
  app.run(main)
