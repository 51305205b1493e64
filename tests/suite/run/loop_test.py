"""Tests of the loop and the programs that it runs."""

import dataclasses
import json
import os

from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from suite.run import loop, sharding
from suite.run.program import Program
from suite.run.task import Carry, Facts, Staged
from suite.target import Target
from tests.suite.run import fake_task

TARGET = Target(at_least={'accuracy': 0.9})


class _Maker(fake_task.FakeTask):
  """Its feed makes a step more in each block, and data of the slope."""

  def __init__(self, qualities):
    super().__init__(qualities)
    self._blocks = [
      dataclasses.replace(block, steps=None, samples=None)
      for block in self._blocks
    ]
    self.made = []

  def staged(self):
    return {'make': Staged(lambda state, _: state.params['slope'], {})}

  def rehearse(self, state, maker):
    jax.block_until_ready(maker.call('make', state, {}))

  def open(self, data, facts):
    feed = super().open(data, facts)
    train = feed.train_block

    def train_block(block, state, maker):
      with data.clock.spent_on('making'):
        made = float(jax.device_get(maker.call('make', state, {})))
        self.made.append(made)
        steps = maker.most(1 + len(self.made))
      yield from train(dataclasses.replace(block, steps=steps), state, maker)

    feed.train_block = train_block
    feed.statistics = lambda: {'podium_made': 1 + len(self.made)}
    return feed


class LoopTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.mesh = sharding.make_mesh()
    self.path = os.path.join(self.create_tempdir().full_path, 'log.txt')

  def run_loop(self, task, *, seed=0, watcher=None, now=None):
    self.clock, log = fake_task.ready(self.path, now=now)
    try:
      return loop.run(
        task,
        Facts(),
        TARGET,
        fake_task.data_for(self.clock, self.mesh, seed),
        mesh=self.mesh,
        seed=seed,
        log=log,
        clock=self.clock,
        watcher=watcher,
      )
    finally:
      log.close()

  def lines(self):
    with open(self.path, encoding='utf-8') as file:
      return [json.loads(line.removeprefix(':::MLLOG ')) for line in file]

  def keys(self):
    return [line['key'] for line in self.lines()]

  def test_it_stops_at_the_first_eval_that_meets_the_target(self):
    task = fake_task.FakeTask([0.5, 0.9, 0.95])
    result = self.run_loop(task)
    self.assertEqual(result.status, 'success')
    self.assertLen(result.losses, 6)
    self.assertEqual(
      [(e.at['epoch_num'], e.step) for e in result.evals], [(1, 3), (2, 6)]
    )
    self.assertLess(result.losses[-1], result.losses[0])

  def test_the_log_tells_the_run_in_order(self):
    self.run_loop(fake_task.FakeTask([0.5, 0.9]))
    block = [
      'block_start',
      'block_stop',
      'eval_start',
      'eval_accuracy',
      'eval_stop',
    ]
    self.assertEqual(
      self.keys(),
      ['init_start', 'init_stop', 'run_start', *block, *block, 'run_stop'],
    )
    times = [line['time_ms'] for line in self.lines()]
    self.assertEqual(times, sorted(times))

  def test_the_feed_is_closed_once_when_the_clock_has_stopped(self):
    for qualities in ([0.5, 0.9], [0.5], [0.5, float('nan')]):
      self.path += '.'  # a log each
      task = fake_task.FakeTask(qualities)
      result = self.run_loop(task)
      self.assertEqual(task.closed_at, [(False, result.timed)])

  def test_the_feed_is_closed_after_an_error_too(self):
    task = fake_task.FakeTask([])
    task.blocks = fake_task.FakeTask([0.9]).blocks
    with self.assertRaises(StopIteration):
      self.run_loop(task)
    self.assertEqual([running for running, _ in task.closed_at], [False])

  def test_a_result_counts_the_samples_of_its_steps(self):
    result = self.run_loop(fake_task.FakeTask([0.5, 0.9]))
    self.assertEqual(result.samples, 6 * fake_task.ROWS)
    self.path += '.'
    # A loss that is not finite ends it in the midst of a block.
    task = fake_task.FakeTask([0.5, 0.9], rate=3e37)
    aborted = self.run_loop(task)
    self.assertEqual(aborted.status, 'aborted')
    steps = aborted.samples / fake_task.ROWS
    self.assertBetween(steps, len(aborted.losses), len(aborted.losses) + 2)

  def test_the_log_and_the_result_agree_on_the_time(self):
    result = self.run_loop(fake_task.FakeTask([0.9]))
    at = {line['key']: line['time_ms'] for line in self.lines()}
    timed = (at['run_stop'] - at['run_start']) / 1000
    self.assertAlmostEqual(timed, result.timed, delta=0.0011)
    self.assertAlmostEqual(
      (at['run_start'] - at['init_start']) / 1000, result.startup, delta=0.0011
    )

  def test_the_parts_of_the_time_add_up_to_it(self):
    result = self.run_loop(fake_task.FakeTask([0.5, 0.9]))
    self.assertAlmostEqual(sum(result.timed_parts.values()), result.timed)
    self.assertAlmostEqual(sum(result.startup_parts.values()), result.startup)
    self.assertLessEqual(
      {'build', 'compile', 'warm-up', 'init'}, set(result.startup_parts)
    )
    self.assertEqual(
      set(result.timed_parts), {'input', 'compute', 'eval', 'other'}
    )

  def test_a_spent_budget_is_an_aborted_run(self):
    result = self.run_loop(fake_task.FakeTask([0.5, 0.6]))
    self.assertEqual(result.status, 'aborted')
    self.assertIn('accuracy >= 0.9 not met', result.reason)
    self.assertEqual(self.lines()[-1]['metadata']['status'], 'aborted')

  def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(self):
    task = fake_task.FakeTask([0.5] * 3, steps=40, rate=1e30)
    result = self.run_loop(task)
    self.assertEqual(result.status, 'aborted')
    step = len(result.losses)
    self.assertRegex(result.reason, rf'non-finite loss \(\w+\) at step {step}')
    self.assertTrue(all(np.isfinite(result.losses[:-1])))
    self.assertFalse(np.isfinite(result.losses[-1]))
    self.assertIn(result.reason, self.lines()[-1]['metadata']['reason'])

  def test_a_quality_that_is_not_finite_ends_the_run(self):
    result = self.run_loop(fake_task.FakeTask([float('nan')]))
    self.assertEqual(result.status, 'aborted')
    self.assertIn('quality is not finite', result.reason)

  def test_an_error_is_logged_as_an_abort_and_raised_again(self):
    task = fake_task.FakeTask([0.5])
    task.score = lambda predictions: 1 / 0
    with self.assertRaises(ZeroDivisionError):
      self.run_loop(task)
    self.assertIn('ZeroDivisionError', self.lines()[-1]['metadata']['reason'])

  def test_an_interrupt_during_startup_leaves_an_aborted_log(self):
    class Impatient(loop.Watcher):
      def stage(self, text):
        raise loop.Interrupted('SIGTERM', 15)

    with self.assertRaises(loop.Interrupted):
      self.run_loop(fake_task.FakeTask([0.5]), watcher=Impatient())
    self.assertEqual(self.keys(), ['init_start', 'run_stop'])
    self.assertEqual(
      self.lines()[-1]['metadata']['reason'], 'interrupted by SIGTERM'
    )

  def test_data_can_only_be_opened_on_the_clock(self):
    clock, _ = fake_task.ready()
    data = fake_task.data_for(clock, self.mesh)
    task = fake_task.FakeTask([0.5])
    with self.assertRaisesRegex(RuntimeError, 'nowhere was opened before'):
      task.open(data, Facts())
    clock.start()
    task.open(data, Facts())
    clock.stop()
    with self.assertRaisesRegex(RuntimeError, 'after run_stop'):
      task.open(data, Facts())

  def test_no_row_is_made_before_run_start(self):
    rows_at = {}

    class Notes(loop.Watcher):
      def stage(self, text):
        rows_at[text] = len(task.trained_rows)

    task = fake_task.FakeTask([0.9])
    self.run_loop(task, watcher=Notes())
    self.assertEqual(set(rows_at.values()), {0})
    self.assertNotEmpty(task.trained_rows)

  def test_nothing_compiles_between_run_start_and_run_stop(self):
    with fake_task.recorded_compiles(lambda: self.clock.running) as compiles:
      self.run_loop(fake_task.FakeTask([0.1, 0.5, 0.9]))
    self.assertNotEmpty(compiles)
    self.assertEqual([event for running, event in compiles if running], [])

  def test_an_implicit_transfer_on_the_clock_is_an_error(self):
    class Careless(fake_task.FakeTask):
      def score(self, predictions):
        jnp.sin(np.ones(3))  # numpy handed to JAX: an implicit transfer
        return super().score(predictions)

    with self.assertRaisesRegex(Exception, 'Disallowed host-to-device'):
      self.run_loop(Careless([0.9]))

  def test_the_same_seed_gives_bit_equal_losses_and_another_does_not(self):
    losses = []
    for seed in (1, 1, 2):
      os.path.exists(self.path) and os.remove(self.path)
      losses.append(self.run_loop(fake_task.FakeTask([0.9]), seed=seed).losses)
    self.assertEqual(losses[0], losses[1])
    self.assertNotEqual(losses[0], losses[2])

  def test_the_warm_up_leaves_no_trace_in_the_state(self):
    clock, _ = fake_task.ready()
    task = fake_task.FakeTask([0.9])
    program = Program.build(task, self.mesh, clock)
    cold = program.fresh_state(5)
    program.warm_up(task)
    warm = program.fresh_state(5)
    self.assertEqual(int(warm.step), 0)
    self.assertEqual(float(cold.params['slope']), float(warm.params['slope']))
    self.assertEqual(float(warm.stats['seen']), 0.0)

  def test_a_compiled_step_consumes_its_state(self):
    clock, _ = fake_task.ready()
    program = Program.build(fake_task.FakeTask([0.9]), self.mesh, clock)
    state = program.fresh_state(0)
    zeros = np.zeros(fake_task.ROWS, np.float32)
    batch = sharding.put_rows({'x': zeros, 'weight': zeros}, self.mesh)
    after, _ = program.train_step(state, batch)
    self.assertTrue(state.params['slope'].is_deleted())
    self.assertEqual(int(after.step), 1)

  def test_a_feed_calls_what_its_task_staged(self):
    class Playing(fake_task.FakeTask):
      def staged(self):
        spec = jax.ShapeDtypeStruct((2,), np.float32)
        return {'play': Staged(lambda s, x: s.params['slope'] * x, spec)}

    clock, _ = fake_task.ready()
    program = Program.build(Playing([0.9]), self.mesh, clock)
    state = program.fresh_state(0)
    argument = jax.device_put(
      np.ones(2, np.float32), sharding.replicated(self.mesh)
    )
    got = program.call('play', state, argument)
    np.testing.assert_array_equal(got, [float(state.params['slope'])] * 2)

  def test_a_block_may_have_as_many_steps_as_its_feed_comes_to(self):
    task = _Maker([0.5, 0.9])
    result = self.run_loop(task)
    self.assertLen(result.losses, 2 + 3)
    self.assertEqual([found.step for found in result.evals], [2, 5])
    self.assertEqual(result.samples, 5 * fake_task.ROWS)

  def test_a_feed_makes_its_data_with_the_state_that_the_block_starts_from(
    self,
  ):
    task = _Maker([0.5, 0.9])
    self.run_loop(task)
    first, second = task.made
    self.assertNotEqual(first, second)
    self.assertGreater(self.clock.timed_parts()['making'], 0)

  def test_what_a_feed_says_of_its_data_is_in_the_log_and_the_evals(self):
    result = self.run_loop(_Maker([0.5, 0.9]))
    said = [e for e in self.lines() if e['key'] == 'podium_made']
    self.assertEqual([line['value'] for line in said], [2, 3])
    self.assertEqual([line['metadata']['epoch_num'] for line in said], [1, 2])
    self.assertEqual(
      [found.statistics for found in result.evals],
      [{'podium_made': 2}, {'podium_made': 3}],
    )
    keys = self.keys()
    self.assertEqual(keys[keys.index('podium_made') + 1], 'block_stop')

  def test_a_run_can_end_while_its_feed_makes_data(self):
    class Ends(loop.Watcher):
      def interrupted(self, tick):
        return loop.Interrupted('SIGTERM', 15) if tick == 0 else None

    task = _Maker([0.5])
    with self.assertRaises(loop.Interrupted):
      self.run_loop(task, watcher=Ends())
    self.assertEqual(self.keys()[-1], 'run_stop')

  def test_the_tensors_that_a_task_names_are_initialised_in_the_log(self):
    task = fake_task.FakeTask([0.9])
    task.tensors = ['slope', 'global_step']
    self.run_loop(task)
    said = [e for e in self.lines() if e['key'] == 'weights_initialization']
    self.assertEqual(
      [line['metadata']['tensor'] for line in said], task.tensors
    )

  def test_hosts_agree_when_any_of_them_says_so(self):
    clock, _ = fake_task.ready()
    program = Program.build(fake_task.FakeTask([0.9]), self.mesh, clock)
    self.assertIs(program.any_host(True), True)
    self.assertIs(program.any_host(False), False)

  def test_a_batch_that_the_mesh_does_not_divide_is_refused(self):
    task = fake_task.FakeTask([0.9])
    task.train_specs = [{'x': jax.ShapeDtypeStruct((12,), np.float32)}]
    with self.assertRaisesRegex(ValueError, 'train batch is 12'):
      Program.build(task, self.mesh, fake_task.ready()[0])

  def test_predictions_are_scored_while_later_batches_are_computed(self):
    class Streams(fake_task.FakeTask):
      def score(self, predictions):
        first = next(predictions)
        self.fed_at_first = self.fed
        return super().score([first, *predictions])

      def open(self, data, facts):
        feed = super().open(data, facts)
        batches = feed.eval_batches
        self.fed = 0

        def eval_batches():
          for _ in range(5):
            for batch in batches():
              self.fed += 1
              yield batch

        feed.eval_batches = eval_batches
        return feed

    task = Streams([0.9])
    self.run_loop(task)
    self.assertEqual(task.fed, 10)
    self.assertEqual(task.fed_at_first, loop.IN_FLIGHT + 1)

  def test_a_score_that_leaves_predictions_is_an_error(self):
    class Leaves(fake_task.FakeTask):
      def score(self, predictions):
        return super().score([next(predictions)])

    with self.assertRaisesRegex(RuntimeError, 'consume all predictions'):
      self.run_loop(Leaves([0.9]))

  def test_windows_of_one_sample_are_summed_over_batches_on_the_devices(self):
    class Windows(fake_task.FakeTask):
      """Two batches hold the windows of a sample; the host gets their sum."""

      carry = Carry(
        {
          'sum': jax.ShapeDtypeStruct((fake_task.ROWS,), np.float32),
          'windows': jax.ShapeDtypeStruct((), np.int32),
        },
        {'sum': sharding.ROWS, 'windows': P()},
      )

      def predict(self, state, batch):
        return batch['x'] * batch['weight']

      def combine(self, carry, found):
        summed, windows = carry['sum'] + found, carry['windows'] + 1
        ends = windows % 2 == 0
        kept = {'sum': jnp.where(ends, 0, summed), 'windows': windows}
        return kept, {'sample': jnp.where(ends, summed, 0).sum(), 'ends': ends}

      def score(self, predictions):
        self.samples = [float(p['sample']) for p in predictions if p['ends']]
        return self.quality()

    task = Windows([0.5, 0.9])
    self.run_loop(task)
    # 16 rows of 1, then 4 of them, in each of two evals.
    self.assertEqual(task.samples, [20.0])

  def test_rows_may_stay_with_the_host_that_fed_them(self):
    class Stays(fake_task.FakeTask):
      outputs = sharding.ROWS

      def predict(self, state, batch):
        return {'x': batch['x'], 'weight': batch['weight']}

      def open(self, data, facts):
        feed = super().open(data, facts)
        feed.score = self.counted
        return feed

      def counted(self, predictions, maker):
        rows = np.concatenate([p['weight'] for p in predictions])
        self.shares = maker.total([rows.sum(), 2**40 + 1.5, *range(40)])
        return self.quality()

    task = Stays([0.9])
    self.run_loop(task)
    # One host: what it has is the sum, in float64.
    wanted = [fake_task.ROWS + 4, 2**40 + 1.5, *range(40)]
    np.testing.assert_array_equal(task.shares, wanted)

  def test_padded_rows_of_an_eval_carry_no_weight(self):
    task = fake_task.FakeTask([0.9])
    self.run_loop(task)
    self.assertEqual(task.evaluated, fake_task.ROWS + 4)


if __name__ == '__main__':
  absltest.main()
