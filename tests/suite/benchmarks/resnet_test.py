"""Tests of the ResNet-50 benchmark; its table is in resnet_spec_test."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import numpy as np

from input_pipelines.reading import dataset
from suite import benchmark
from suite.benchmarks import resnet
from suite.benchmarks.resnet.task import ResNetTask
from suite.clock import Clock
from suite.run import flops, loop, program, sharding
from suite.run.feed import Data
from suite.run.run_log import RunLog
from suite.run.task import Facts, State
from tests.launch import digits_data
from tests.suite.run import fake_task

REFERENCE = resnet.BENCHMARK.sizes['reference']
TINY = resnet.BENCHMARK.sizes['tiny']


def _task(**changes):
  hp = dataclasses.replace(TINY.hparams, **changes)
  return resnet.BENCHMARK.task(hp, TINY.data)


@functools.cache
def _trained(spread='none', parts=1):
  """Losses, the last state on the host, and the compiled step, 8 devices."""
  hp = dataclasses.replace(
    TINY.hparams,
    stage_blocks=(1,),
    stage_width=64,
    image_size=16,
    global_batch_size=64,
    model_bn_span=2,
    warmup_epochs=0,
    base_learning_rate=1.0,
    gradient_accumulation_steps=parts,
  )
  task, mesh = ResNetTask(hp, TINY.data), sharding.make_mesh()
  build = program.Build(spread=spread)
  program.check(task, mesh, build)
  lowered = program.lower(task, mesh, build)
  step = lowered['train_step'][0].compile()
  state, losses = lowered['init'].compile()(np.uint32(3)), []
  for seed in range(3):
    draws = np.random.default_rng(seed)
    batch = {
      'image': draws.integers(0, 256, (64, 16, 16, 3), np.uint8),
      'label': draws.integers(0, 10, 64, np.int32),
      'weight': np.ones(64, np.float32),
    }
    state, metrics = step(state, sharding.put_rows(batch, mesh))
    losses.append(float(metrics['loss']))
  state = jax.device_get(dataclasses.replace(state, key=np.float32(0)))
  counted = flops.total(lowered['train_step'][0])
  return losses, state, step.memory_analysis(), counted


class LayoutTest(parameterized.TestCase):
  """Spread over the data axis, and in parts."""

  @parameterized.parameters(
    {'parts': 4},
    {'spread': 'optimizer'},
    {'spread': 'parameters', 'parts': 4},
  )
  def test_it_changes_no_result_but_for_rounding(self, **how):
    losses, state, _, whole = _trained()
    found, other, _, counted = _trained(**how)
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    # The running moments of batch norm are among the leaves.
    for a, b in zip(*map(jax.tree.leaves, (state, other)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
    self.assertEqual(counted, whole)

  def test_a_step_in_parts_needs_less_memory(self):
    whole, parts = (_trained(parts=n)[2].temp_size_in_bytes for n in (1, 4))
    self.assertLess(parts, 0.9 * whole)

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
    task = ResNetTask(TINY.hparams, TINY.data)
    params, stats = task.init_model(jax.random.key(0, impl='rbg'))
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

  def test_padded_images_do_not_count_towards_accuracy(self):
    task = ResNetTask(TINY.hparams, TINY.data)
    params, stats = task.init_model(jax.random.key(0, impl='rbg'))
    state = State(jnp.zeros((), int), None, params, stats, None)
    batch = {
      'image': np.zeros((8, 28, 28, 3), np.uint8),
      'label': np.zeros(8, np.int32),
      'weight': np.float32([1, 1, 1, 0, 0, 0, 0, 0]),
    }
    # All images are alike, so all labels count as correct or none does.
    predict = jax.jit(task.predict)
    hits = [
      float(
        predict(state, {**batch, 'label': np.full(8, c, np.int32)})['correct']
      )
      for c in range(10)
    ]
    batch['label'] = np.full(8, int(np.argmax(hits)), np.int32)
    got = predict(state, batch)
    self.assertEqual((float(got['correct']), float(got['seen'])), (3.0, 3.0))

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


class RunTest(absltest.TestCase):
  """The real task and pipeline through the real loop, on eight devices."""

  def test_nothing_compiles_on_the_clock_and_no_transfer_is_implicit(self):
    hp = dataclasses.replace(
      TINY.hparams,
      stage_blocks=(1,),
      stage_width=4,
      global_batch_size=512,
      model_bn_span=64,
      max_epochs=2,
    )
    directory = dataset.find(digits_data.data_dir(), 'digits')
    mesh, clock = sharding.make_mesh(), Clock()
    log = RunLog(None, clock)
    log.start('init_start')
    with fake_task.recorded_compiles(lambda: clock.running) as compiles:
      result = loop.run(
        ResNetTask(hp, TINY.data),
        Facts(),
        TINY.target,
        Data(clock, directory, 0, lambda r: sharding.put_rows(r, mesh)),
        mesh=mesh,
        seed=0,
        log=log,
        clock=clock,
      )
    self.assertLen(result.losses, 16)
    self.assertLen(result.evals, 2)
    self.assertNotEmpty(compiles)
    self.assertEqual([event for running, event in compiles if running], [])


if __name__ == '__main__':
  absltest.main()
