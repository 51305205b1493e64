"""Tests of the ResNet-50 benchmark; its table is in resnet_spec_test."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from suite import benchmark
from suite.benchmarks import resnet
from suite.benchmarks.resnet.task import ResNetTask
from suite.run import flops, program, sharding
from suite.run.task import Facts
from tests import quick

REFERENCE = resnet.BENCHMARK.sizes['reference']
TINY = resnet.BENCHMARK.sizes['tiny']


def _task(**changes):
  hp = dataclasses.replace(TINY.hparams, **changes)
  return resnet.BENCHMARK.task(hp, TINY.data)


class AccumulationTest(parameterized.TestCase):
  def test_a_step_in_parts_needs_less_memory_for_the_same_operations(self):
    hp = dataclasses.replace(
      TINY.hparams,
      stage_blocks=(1,),
      stage_width=64,
      image_size=16,
      global_batch_size=64,
      model_bn_span=2,
    )
    memory, counted = [], []
    for parts in (1, 4):
      task = ResNetTask(
        dataclasses.replace(hp, gradient_accumulation_steps=parts), TINY.data
      )
      step = program.lower(task, sharding.make_mesh())['train_step'][0]
      compiled = step.compile(quick.OPTIONS)
      memory.append(compiled.memory_analysis().temp_size_in_bytes)
      counted.append(flops.total(step))
    self.assertLess(memory[1], 0.9 * memory[0])
    self.assertEqual(*counted)

  @parameterized.parameters(
    ({'gradient_accumulation_steps': 3}, 'got 3 .*size is 128, .*span is 32'),
    ({'gradient_accumulation_steps': 8}, 'got 8 .*size is 128, .*span is 32'),
    ({'gradient_accumulation_steps': 0}, 'got 0 '),
  )
  def test_parts_that_do_not_fit_are_refused(self, changes, says):
    with self.assertRaisesRegex(ValueError, says):
      _task(**changes)

  def test_groups_are_what_batch_norm_spans_and_no_part_cuts_them(self):
    hp = dataclasses.replace(TINY.hparams, gradient_accumulation_steps=4)
    task = ResNetTask(hp, TINY.data)
    self.assertEqual((task.row_group, task.parts), (32, 4))
    with self.assertRaisesRegex(ValueError, 'would cut groups of 32'):
      program.check(task, sharding.make_mesh())


class ResNetTaskTest(parameterized.TestCase):
  def test_evals_come_every_four_epochs_after_the_offset(self):
    # The rules: every 4 epochs, the first after 1, 2, 3 or 4.
    task = ResNetTask(REFERENCE.hparams, REFERENCE.data)
    at = [block.at['epoch_num'] for block in task.blocks(Facts())]
    self.assertEqual(at[:3], [3, 7, 11])
    self.assertEqual(at[-1], 47)

  def test_an_epoch_ends_with_the_batch_that_holds_its_last_image(self):
    data = benchmark.DataSet('digits', train_samples=100, eval_samples=10)
    hp = dataclasses.replace(TINY.hparams, global_batch_size=32, max_epochs=4)
    steps = [block.steps for block in ResNetTask(hp, data).blocks(Facts())]
    self.assertEqual(steps, [4, 3, 3, 3])  # 100, 200, 300, 400 images of 32

  def test_the_loss_is_cross_entropy_against_smoothed_labels(self):
    hp = dataclasses.replace(TINY.hparams, stage_blocks=(1,), stage_width=8)
    task = ResNetTask(hp, TINY.data)
    params, stats = jax.jit(task.init_model)(jax.random.key(0, impl='rbg'))
    draws = np.random.default_rng(0)
    batch = {
      'image': draws.integers(0, 256, (32, 28, 28, 3), np.uint8),
      'label': draws.integers(0, 10, 32, np.int32),
      'weight': np.ones(32, np.float32),
    }
    loss, _ = jax.jit(task.loss)(params, stats, batch, jax.random.key(0))
    pixels = batch['image'] - np.float32([123.68, 116.78, 103.94])
    apply = jax.jit(functools.partial(task._model.apply, train=True))
    logits, _ = apply(params, stats, jnp.asarray(pixels))
    logs = np.float64(logits) - np.log(
      np.exp(np.float64(logits)).sum(-1, keepdims=True)
    )
    labels = 0.9 * np.eye(10)[batch['label']] + 0.1 / 10
    self.assertAlmostEqual(float(loss), -(labels * logs).sum(-1).mean(), 4)

  def test_accuracy_is_over_every_held_out_image_or_it_is_an_error(self):
    task = ResNetTask(TINY.hparams, TINY.data)
    halves = [{'correct': 450, 'seen': 500.0}, {'correct': 500, 'seen': 500.0}]
    self.assertEqual(task._accuracy(halves), {'accuracy': 0.95})
    with self.assertRaisesRegex(RuntimeError, '1000 images.*got 500'):
      task._accuracy(halves[:1])

  @parameterized.parameters(
    ({'model_bn_span': 48}, 'model_bn_span to be a divisor of .*got 48 '),
    ({'global_batch_size': 0}, 'global_batch_size to be positive'),
    ({'eval_offset': 1}, r'eval_offset .*got 1 \(epochs_between_evals is 1'),
    ({'compute_dtype': 'float16'}, 'compute_dtype to be'),
  )
  def test_hyperparameters_that_do_not_fit_each_other_are_refused(
    self, changes, says
  ):
    with self.assertRaisesRegex(ValueError, says):
      _task(**changes)

  def test_bfloat16_compute_keeps_parameters_and_moments_in_float32(self):
    hp = dataclasses.replace(TINY.hparams, compute_dtype='bfloat16')
    task = ResNetTask(hp, TINY.data)
    params, stats = jax.eval_shape(
      task.init_model, jax.eval_shape(lambda: jax.random.key(0))
    )
    kinds = {leaf.dtype for leaf in jax.tree.leaves((params, stats))}
    self.assertEqual(kinds, {np.dtype(np.float32)})


if __name__ == '__main__':
  absltest.main()
