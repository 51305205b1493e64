"""Tests of leaves that are not trained, and of averages that evals use."""

import dataclasses
import functools

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from suite.clock import Moment
from suite.run import program, sharding
from suite.run.checkpoint import Checkpoints, Position
from suite.run.program import Build, Program
from suite.run.task import Staged
from tests.suite.run import fake_task

ROWS, WIDTH, KEPT = 64, 128, 0.75
FROZEN = ('^params/base/', '^stats/base$')
SPREADS = ('none', 'optimizer', 'parameters')


class TwoLayers(fake_task.FakeTask):
  """A base and a head; the base's statistics would move too."""

  def __init__(self, frozen=FROZEN, *, average=False, parts=1):
    super().__init__([0.9])
    self.frozen, self.parts = frozen, parts
    self.optimizer = optax.adam(1e-2)
    if average:
      self.average = optax.constant_schedule(KEPT)
    self.train_specs = self.eval_specs = [
      {
        'x': jax.ShapeDtypeStruct((ROWS, WIDTH), np.float32),
        'weight': jax.ShapeDtypeStruct((ROWS,), np.float32),
      }
    ]

  def init_model(self, key):
    base, head = (
      jax.random.normal(each, (WIDTH, WIDTH)) / 10
      for each in jax.random.split(key)
    )
    params = {'base': {'kernel': base}, 'head': {'kernel': head}}
    return params, {'base': jnp.ones(()), 'head': jnp.zeros(())}

  def loss(self, params, stats, batch, key):
    del key
    y = jnp.tanh(batch['x'] @ params['base']['kernel'] * stats['base'])
    loss = jnp.mean((y @ params['head']['kernel'] - 1) ** 2)
    moved = {name: 0.9 * value + 0.1 * loss for name, value in stats.items()}
    return loss, (moved, {})

  def predict(self, state, batch):
    del batch
    return {'params': state.params, 'stats': state.stats}

  def staged(self):
    spec = jax.ShapeDtypeStruct((WIDTH,), np.float32)
    return {
      'apply': Staged(lambda s, x: x @ s.params['base']['kernel'], spec),
    }


def batch(mesh, seed):
  x = np.random.default_rng(seed).normal(size=(ROWS, WIDTH))
  rows = {'x': x.astype(np.float32), 'weight': np.ones(ROWS, np.float32)}
  return sharding.put_rows(rows, mesh)


@functools.cache
def built(frozen=FROZEN, average=False, spread='none', parts=1):
  task, mesh = TwoLayers(frozen, average=average, parts=parts), _mesh()
  return Program.build(task, mesh, fake_task.ready()[0], Build(spread=spread))


@functools.cache
def _mesh():
  return sharding.make_mesh()


def trained(made, steps=3):
  """States after each step, and the losses."""
  state, states, losses = made.fresh_state(1), [], []
  for step in range(steps):
    state, metrics = made.train_step(state, batch(_mesh(), step))
    losses.append(float(metrics['loss']))
    states.append(jax.device_get(dataclasses.replace(state, key=None)))
  return states, losses, state


def assert_equal(first, second, assertion=np.testing.assert_array_equal):
  jax.tree.map(assertion, first, second)


class FrozenTest(parameterized.TestCase):
  @parameterized.product(spread=SPREADS, parts=(1, 4))
  def test_it_stays_to_the_bit_and_the_rest_is_trained(self, spread, parts):
    made = built(spread=spread, parts=parts)
    before = jax.device_get(made.fresh_state(1).frozen)
    (*_, after), losses, _ = trained(made)
    assert_equal(after.frozen, before)
    self.assertEqual(after.frozen['stats'], {'base': 1.0, 'head': None})
    self.assertLess(losses[-1], losses[0])
    self.assertGreater(after.stats['head'], 0)
    # Without this declaration it does change, so there was something to hold.
    (*_, free), _, _ = trained(built(frozen=()))
    base = before['params']['base']['kernel']
    self.assertGreater(np.abs(free.params['base']['kernel'] - base).max(), 0.01)

  def test_the_rest_learns_as_with_an_optimizer_that_moves_nothing_else(self):
    states, losses, _ = trained(built())
    task = TwoLayers(('^stats/base$',))
    labels = {'base': {'kernel': 'held'}, 'head': {'kernel': 'trained'}}
    task.optimizer = optax.multi_transform(
      {'held': optax.set_to_zero(), 'trained': task.optimizer}, labels
    )
    other = Program.build(task, _mesh(), fake_task.ready()[0])
    wanted, other_losses, _ = trained(other)
    np.testing.assert_allclose(losses, other_losses, rtol=1e-6)
    np.testing.assert_allclose(
      states[-1].params['head']['kernel'],
      wanted[-1].params['head']['kernel'],
      rtol=1e-5,
      atol=1e-6,
    )

  def test_the_optimizer_keeps_nothing_of_it(self):
    moments = built().state.opt[0].mu
    self.assertEqual(jax.tree.leaves(moments), [moments['head']['kernel']])
    self.assertIsNone(moments['base']['kernel'])

  @parameterized.parameters(*SPREADS)
  def test_each_device_keeps_an_eighth_where_parameters_are_spread(
    self, spread
  ):
    kernel = built(spread=spread).fresh_state(1).frozen['params']['base']
    rows = WIDTH // 8 if spread == 'parameters' else WIDTH
    shape = kernel['kernel'].addressable_shards[0].data.shape
    self.assertEqual(shape[0] * shape[1], rows * WIDTH)

  def test_rules_lay_it_out(self):
    task = TwoLayers()
    task.partition_rules = (
      (r'^frozen/params/base/kernel$', P('model', None)),
      (r'.*', P()),
    )
    mesh = sharding.make_mesh(2)
    states = program.layout(task, mesh)
    self.assertEqual(
      states.frozen['params']['base']['kernel'].spec, P('model', None)
    )

  @parameterized.parameters(*SPREADS)
  def test_evals_and_staged_functions_see_it_in_its_place(self, spread):
    made = built(spread=spread)
    state = made.fresh_state(1)
    base = state.frozen['params']['base']['kernel']
    _, found = made.predict(state, batch(_mesh(), 0), made.carry())
    np.testing.assert_array_equal(found['params']['base']['kernel'], base)
    np.testing.assert_array_equal(
      found['params']['head']['kernel'], state.params['head']['kernel']
    )
    self.assertEqual(found['stats'], {'base': 1.0, 'head': 0.0})
    one = sharding.put_same(np.eye(1, WIDTH, dtype=np.float32)[0], _mesh())
    np.testing.assert_allclose(made.call('apply', state, one), base[0])

  def test_a_pattern_that_matches_nothing_is_refused(self):
    with self.assertRaisesRegex(ValueError, r"got \['\^params/bsae/'\]"):
      program.abstract_state(TwoLayers(['^params/bsae/']))


class AverageTest(parameterized.TestCase):
  @parameterized.product(spread=SPREADS, frozen=((), FROZEN))
  def test_it_follows_the_parameters(self, spread, frozen):
    made = built(average=True, spread=spread, frozen=frozen)
    wanted = jax.device_get(made.fresh_state(1).params)
    states, _, _ = trained(made)
    for state in states:
      wanted = jax.tree.map(
        lambda a, p: KEPT * a + (1 - KEPT) * p, wanted, state.params
      )
      assert_equal(
        state.average, wanted,
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
      )  # fmt: skip

  def test_the_training_is_the_same_without(self):
    states, losses, _ = trained(built(average=True))
    without, same, _ = trained(built())
    self.assertEqual(losses, same)
    assert_equal(states[-1].params, without[-1].params)
    self.assertEqual(without[-1].average, {})

  @parameterized.parameters(*SPREADS)
  def test_evals_use_it_and_what_is_staged_does_not(self, spread):
    made = built(average=True, spread=spread, frozen=())
    _, _, state = trained(made)
    _, found = made.predict(state, batch(_mesh(), 0), made.carry())
    assert_equal(found['params'], jax.device_get(state.average))
    one = sharding.put_same(np.eye(1, WIDTH, dtype=np.float32)[0], _mesh())
    np.testing.assert_allclose(
      made.call('apply', state, one), state.params['base']['kernel'][0]
    )

  @parameterized.parameters('optimizer', 'parameters')
  def test_each_device_keeps_an_eighth_as_of_the_optimizer(self, spread):
    average = built(average=True, spread=spread).state.average
    kernel = average['head']['kernel']
    self.assertEqual(
      np.prod(kernel.sharding.shard_shape(kernel.shape)), WIDTH * WIDTH // 8
    )


class ResumeTest(parameterized.TestCase):
  @parameterized.parameters(*SPREADS)
  def test_both_come_back_from_a_checkpoint_and_training_goes_on_alike(
    self, spread
  ):
    made = built(average=True, spread=spread)
    _, _, state = trained(made)
    checkpoints = Checkpoints(self.create_tempdir().full_path, minutes=1)
    self.addCleanup(checkpoints.close)
    checkpoints.prepare(made.state)
    moment = Moment(**{field.name: 0.0 for field in dataclasses.fields(Moment)})
    position = Position(
      steps=3, ticks=3, block=0, done=3, evals=[], losses=[], clock=moment,
      feed={}, saved_by={}, origin={},
    )  # fmt: skip
    checkpoints.save(state, position)
    self.assertTrue(checkpoints.finish())
    restored = checkpoints.restore(lambda number: number).state
    self.assertEqual(jax.tree.structure(restored), jax.tree.structure(state))
    ends = []
    for each in (state, restored):
      after, _ = made.train_step(each, batch(_mesh(), 9))
      ends.append(jax.device_get(dataclasses.replace(after, key=None)))
    assert_equal(*ends)


if __name__ == '__main__':
  absltest.main()
