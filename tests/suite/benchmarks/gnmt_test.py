"""Tests of the GNMT benchmark; its table is in gnmt_spec_test."""

import dataclasses

from absl.testing import absltest, parameterized
import jax
import numpy as np

from input_pipelines.translation import read as translation
from models import gnmt as model
from suite import hparams
from suite.benchmarks import gnmt
from suite.benchmarks.gnmt import broken
from suite.benchmarks.gnmt.task import GNMTTask
from suite.clock import Clock
from suite.hparams import Division
from suite.run.feed import Data
from tests import benchmark_runs
from tests.suite.benchmarks import gnmt_small

REFERENCE = gnmt.BENCHMARK.sizes['reference']
SMALL, DATA = gnmt_small.SIZE.hparams, gnmt_small.SIZE.data


def setUpModule():
  global DIRECTORY
  DIRECTORY = benchmark_runs.small('gnmt').directory


def _task(**changes):
  return GNMTTask(dataclasses.replace(SMALL, **changes), DATA)


def _batches(task, count):
  """The first host batches of a run."""
  clock = Clock()
  clock.start()
  feed = task.open(
    Data(clock, DIRECTORY, 7, lambda rows: rows), task.inspect(DIRECTORY)
  )
  block = task.blocks(task.inspect(DIRECTORY))[0]
  block = dataclasses.replace(block, steps=count)
  found = list(feed.train_block(block, None, None))
  feed.close()
  return found


class RulesTest(parameterized.TestCase):
  def test_any_devices_train_the_rows_of_the_reference(self):
    task = GNMTTask(REFERENCE.hparams, REFERENCE.data)
    for devices, rows in ((1, 128), (48, 144), (128, 128)):
      shapes = [s['source'].shape for s in task.shared_by(devices).train_specs]
      self.assertEqual(shapes, [(rows, n) for n in (9, 19, 29, 39, 50)])
    with self.assertRaisesRegex(ValueError, '256 rows or more .*, got 128'):
      task.shared_by(256)

  def test_nvidias_kernel_is_for_one_device(self):
    task = _task(lstm_kernel='cudnn')
    task.shared_by(1)
    with self.assertRaisesRegex(ValueError, 'one device .*, got 2: use'):
      task.shared_by(2)

  @parameterized.parameters(
    ({'compute_dtype': 'float16'}, "float32, bfloat16, got 'float16'"),
    ({'eval_lengths': ()}, 'eval_lengths to be one length or more'),
    ({'max_epochs': 0}, 'max_epochs is 0'),
    ({'lstm_kernel': 'fast'}, "scan, cudnn, got 'fast'"),
  )
  def test_what_does_not_fit_is_refused(self, changes, message):
    hp = dataclasses.replace(SMALL, **changes)
    with self.assertRaisesRegex(ValueError, message):
      gnmt.BENCHMARK.task(hp, DATA)

  def test_another_data_set_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'Expected 32320 subwords'):
      GNMTTask(
        dataclasses.replace(SMALL, subwords=32_320), DATA
      ).inspect(DIRECTORY)  # fmt: skip
    fewer = dataclasses.replace(DATA, train_samples=100)
    with self.assertRaisesRegex(ValueError, "Expected 100 pairs in 'train'"):
      GNMTTask(SMALL, fewer).inspect(DIRECTORY)

  def test_steps_follow_the_batch_where_a_recipe_is_scaled(self):
    scales = {d.name: d.scales for d in hparams.declared(SMALL) if d.scales}
    self.assertEqual(
      {*scales},
      {
        'base_learning_rate', 'warmup_steps', 'remain_steps', 'decay_interval',
        'gradient_accumulation_steps',
      },
    )  # fmt: skip

  def test_the_data_sets_pairs_count_up_to_the_length_of_published_logs(self):
    lengths = translation.train_lengths(DIRECTORY)
    counted = int((lengths.max(axis=1) <= 9).sum())
    self.assertLess(counted, DATA.train_samples)
    translation.verify(DIRECTORY, train=counted, counted=9)
    with self.assertRaisesRegex(ValueError, f'got {counted}'):
      translation.verify(DIRECTORY, train=counted + 1, counted=9)

  def test_closed_refuses_another_dropout(self):
    with self.assertRaisesRegex(ValueError, 'dropout .*Closed fixes'):
      hparams.override(REFERENCE.hparams, {'dropout': '0.1'}, Division.CLOSED)


class LossTest(absltest.TestCase):
  def test_it_is_the_sum_over_tokens_and_the_mean_over_sentences(self):
    task = _task(dropout=0.0)
    params, _ = jax.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    (batch,) = _batches(task, 1)
    rows = len(batch['weight'])
    np.testing.assert_array_equal(batch['weight'], np.ones(rows))
    self.assertTrue((batch['source'][:, 0] == model.START).all())
    self.assertTrue((batch['target'][:, 0] == model.START).all())
    padded = {
      name: np.concatenate([values, np.zeros_like(values[:5])])
      for name, values in batch.items()
    }

    @jax.jit
    def losses(batch):
      target = batch['target']
      logits = task._model.merged(params, {})(batch['source'], target[:, :-1])
      each = model.token_losses(logits, target[:, 1:], smoothing=0.1)
      return task.loss(params, {}, batch, None)[0], each

    loss, each = losses(batch)
    tokens = (batch['target'][:, 1:] != 0).sum()
    self.assertEqual((np.asarray(each) > 0).sum(), tokens)
    self.assertAlmostEqual(float(loss), float(each.sum()) / rows, places=4)
    alone, _ = losses(padded)
    self.assertAlmostEqual(float(alone), float(loss), places=4)


class BrokenTest(parameterized.TestCase):
  @parameterized.parameters(*broken.VARIANTS)
  def test_a_variant_trains_another_program(self, name):
    """But for the learning rate, which is no part of the loss."""

    def program(name):
      change, context = broken.VARIANTS[name]
      with context():
        task = GNMTTask(change(SMALL), DATA)
        params, _ = jax.eval_shape(task.init_model, jax.random.key(0))
        spec = dict(task.train_specs[0])
        return str(jax.make_jaxpr(task.loss)(params, {}, spec, None))

    same = name == 'reference' or name.startswith('learning rate')
    self.assertEqual(program(name) == program('reference'), same)


if __name__ == '__main__':
  absltest.main()
