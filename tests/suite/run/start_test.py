"""Tests of runs that start from weights, on 8 CPU devices."""

import dataclasses
import os
import pathlib

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from input_pipelines.reading import arrays
from suite.run import loop, program, sharding, start
from suite.run.program import Build, Program
from suite.run.task import Facts
from suite.target import Target
from tests.suite.run import fake_task

WIDTH = 128
WHOLE = ((r'.*', P()),)
WEIGHTS = {
  'params/kernel': np.arange(2 * WIDTH * WIDTH, dtype=np.float32).reshape(
    WIDTH, 2 * WIDTH
  ),
  'params/last': np.linspace(0, 1, 2 * WIDTH, dtype=np.float32),
  'step': np.int32(70),
}


class FromWeights(fake_task.FakeTask):
  """Starts from what `given` says; everything is random otherwise."""

  def __init__(self, given=('^params/', '^step$'), rules=WHOLE, frozen=()):
    super().__init__([0.9])
    self.given, self.partition_rules = given, rules
    self.frozen = frozen
    self.optimizer = optax.adam(1e-3)
    self.average = optax.constant_schedule(0.9)

  def init_model(self, key):
    kernel = jax.random.normal(key, (WIDTH, 2 * WIDTH))
    last = jax.random.normal(key, (2 * WIDTH,))
    return {'kernel': kernel, 'last': last}, {'seen': jnp.zeros(())}

  def loss(self, params, stats, batch, key):
    del key
    y = jnp.tanh(jnp.outer(batch['x'], params['kernel'][0])) @ params['last']
    loss = jnp.mean(batch['weight'] * (y - 1) ** 2)
    return loss, ({'seen': stats['seen'] + loss}, {})


class StartTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, arrays.WEIGHTS)
    arrays.write(self.path, WEIGHTS)
    self.weights = arrays.Arrays(self.path)

  def run_loop(self, task, weights):
    mesh = sharding.make_mesh()
    clock, log = fake_task.ready()
    data = fake_task.data_for(clock, mesh)
    data = dataclasses.replace(data, start=weights)
    return loop.run(
      task, Facts(), Target(at_least={'accuracy': 0.5}), data,
      mesh=mesh, seed=3, log=log, clock=clock,
    )  # fmt: skip

  @parameterized.parameters(
    ('none', 1), ('optimizer', 1), ('parameters', 1), ('parameters', 2)
  )
  def test_a_run_starts_from_them_however_they_are_laid_out(
    self, spread, model
  ):
    rules = WHOLE
    if model > 1:
      rules = ((r'kernel$', P(None, 'model')), *rules)
    task, mesh = FromWeights(rules=rules), sharding.make_mesh(model)
    built = Program.build(
      task, mesh, fake_task.ready()[0], Build(spread=spread)
    )
    state = built.fresh_state(3, self.weights)
    for name, tree in (('params', state.params), ('average', state.average)):
      for leaf, values in tree.items():
        wanted = WEIGHTS[f'params/{leaf}']
        np.testing.assert_array_equal(values, wanted, name, strict=True)
    self.assertEqual(int(state.step), 70)
    jax.tree.map(
      lambda leaf, spec: self.assertEqual(leaf.sharding, spec.sharding),
      state, built.state,
    )  # fmt: skip
    # Steps use the state up, so no two devices may share memory of the host.
    batch, copy = (
      built._zeros(task.train_specs[0]),
      jax.tree.map(jnp.copy, state),
    )
    for _ in range(2):
      state, _ = built.train_step(state, batch)
      copy, _ = built.train_step(copy, batch)
    for leaf, other in zip(*map(jax.tree.leaves, (state, copy)), strict=True):
      if leaf.dtype != state.key.dtype:
        for a, b in zip(
          leaf.addressable_shards, other.addressable_shards, strict=True
        ):
          np.testing.assert_array_equal(a.data, b.data)

  def test_the_key_and_what_is_not_given_are_of_the_seed(self):
    task, mesh = FromWeights(given=['^params/last$']), sharding.make_mesh()
    built = Program.build(task, mesh, fake_task.ready()[0])
    first, other = (built.fresh_state(n, self.weights) for n in (3, 4))
    self.assertFalse((first.params['kernel'] == other.params['kernel']).any())
    self.assertTrue((first.params['last'] == other.params['last']).all())
    self.assertEqual(int(first.step), 0)

  def test_nothing_that_is_given_is_initialised(self):
    for given, random in (((), True), (('^params/',), False)):
      task = FromWeights(given)
      task.optimizer = optax.sgd(0.1)  # Adam's moments have the same shape
      lowered = program.lower(task, sharding.make_mesh())
      text = lowered['init'].compile().as_text()
      self.assertEqual(f'f32[{WIDTH},{2 * WIDTH}]' in text, random)

  def test_a_process_reads_the_rows_that_its_devices_need(self):
    index = (slice(4, 8), slice(None)), (slice(12, 16), slice(None))
    self.assertEqual(start.span(index, 24), (4, 16))
    self.assertEqual(start.span([(slice(None), slice(0, 2))], 24), (0, 24))

  def test_the_whole_run_starts_from_them(self):
    zero = dict(WEIGHTS, **{'params/last': np.zeros(2 * WIDTH, np.float32)})
    arrays.write(self.path, zero)
    result = self.run_loop(FromWeights(), arrays.Arrays(self.path))
    self.assertEqual(result.losses[0], 1.0)

  @parameterized.parameters(
    ({'params/last': None}, "'params/last' float32 .256,. .* got none"),
    ({'params/last': np.ones(3, np.float32)}, r'got float32 \(3,\)'),
    ({'params/last': np.ones(2 * WIDTH)}, 'got float64'),
  )
  def test_weights_that_do_not_fit_are_refused(self, changes, says):
    changed = {
      name: values
      for name, values in {**WEIGHTS, **changes}.items()
      if values is not None
    }
    arrays.write(self.path, changed)
    with self.assertRaisesRegex(ValueError, says):
      self.run_loop(FromWeights(), arrays.Arrays(self.path))

  def test_a_run_that_needs_weights_does_not_start_without(self):
    with self.assertRaisesRegex(ValueError, 'start weights with .* got none'):
      self.run_loop(FromWeights(), None)

  def test_weights_do_not_depend_on_what_is_frozen(self):
    task = FromWeights(frozen=['^params/kernel$'])
    built = Program.build(task, sharding.make_mesh(), fake_task.ready()[0])
    start.check(self.weights, built.state, task.given)
    state = built.fresh_state(3, self.weights)
    kernel = state.frozen['params']['kernel']
    np.testing.assert_array_equal(kernel, WEIGHTS['params/kernel'])
    self.assertIsNone(state.params['kernel'])

  def test_arrays_that_nothing_reads_are_refused(self):
    for given in ([], ['^params/']):
      state = program.abstract_state(FromWeights(given))
      with self.assertRaisesRegex(ValueError, r'the task reads, got .*step, '):
        start.check(self.weights, state, given)

  def test_a_str_in_place_of_a_list_is_refused(self):
    state = program.abstract_state(FromWeights())
    with self.assertRaisesRegex(ValueError, r"the str '\^params/'"):
      start.check(self.weights, state, '^params/')
    with self.assertRaisesRegex(ValueError, r"the str '\^params/last'"):
      program.abstract_state(FromWeights(frozen='^params/last'))

  def test_a_task_that_freezes_all_parameters_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'parameters to train, got none'):
      program.abstract_state(FromWeights(frozen=['^params/']))

  def test_a_pattern_that_matches_nothing_is_refused(self):
    with self.assertRaisesRegex(
      ValueError, r"match a leaf, got \['\^parms/'\]"
    ):
      self.run_loop(FromWeights(['^parms/']), self.weights)

  def test_a_changed_byte_is_noticed_before_the_clock_starts(self):
    data = bytearray(pathlib.Path(self.path).read_bytes())
    data[-300] ^= 1
    pathlib.Path(self.path).write_bytes(data)
    with self.assertRaises(arrays.CorruptArrayError):
      self.run_loop(FromWeights(), arrays.Arrays(self.path))


if __name__ == '__main__':
  absltest.main()
