"""RNN-T at the size of tests: one layer each, noise that says random words."""

import dataclasses
import os

from suite.benchmark import DataSet
from suite.benchmarks import rnnt
from tests.input_pipelines.librispeech import fake_speech

_TINY = rnnt.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    global_batch_size=16,
    warmup_epochs=1,
    hold_epochs=1,
    max_duration=0.43,
    utterances=70,
    num_buckets=2,
    train_frames=(30, 51),
    train_symbols=(8, 8),
    joint_block=4,
    max_epochs=2,
    eval_batch_size=16,
    eval_frames=(30, 48),
    symbols_per_frame=2,
    most_symbols=6,
    freq_max=2,
    bands=8,
    pieces=fake_speech.PIECES,
    layers_before=1,
    encoder_width=8,
    prediction_width=4,
    joint_width=8,
  ),
  data=DataSet(
    fake_speech.NAME,
    train_samples=sum(fake_speech.COUNTS.values())
    - fake_speech.COUNTS['dev-clean'],
    eval_samples=fake_speech.COUNTS['dev-clean'],
  ),
)
# Each device drops for its own rows, and masks are drawn for all.
STILL = {
  'encoder_dropout': 0.0,
  'prediction_dropout': 0.0,
  'joint_dropout': 0.0,
  'freq_masks': 0,
  'time_masks': 0,
}


def write(data_dir: str) -> None:
  """Writes the data set."""
  folder = os.path.join(data_dir, 'archives')
  os.makedirs(folder)
  fake_speech.write(data_dir, folder)
