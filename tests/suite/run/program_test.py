"""Tests of how programs are laid out over devices, on 8 CPU devices."""

import dataclasses
import functools
import re
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from suite.run import flops, program, sharding
from suite.run.program import Build
from tests.suite.run import fake_task

ROWS, WIDTH = 64, 128
WHOLE = ((r'.*', P()),)
SPREADS = ('none', 'optimizer', 'parameters')
KERNEL = WIDTH * 2 * WIDTH * 4  # bytes of the one large parameter


class Wide(fake_task.FakeTask):
  """Two layers and Adam; `seen` is a running mean over the rows."""

  def __init__(self, parts=1, row_group=1, rules=WHOLE):
    super().__init__([0.9])
    self.optimizer = optax.adam(1e-3)
    self.parts, self.row_group, self.partition_rules = parts, row_group, rules
    self.train_specs = self.eval_specs = [
      {
        'x': jax.ShapeDtypeStruct((ROWS, WIDTH), np.float32),
        'weight': jax.ShapeDtypeStruct((ROWS,), np.float32),
      }
    ]

  def init_model(self, key):
    kernel = jax.random.normal(key, (WIDTH, 2 * WIDTH)) / 10
    params = {'kernel': kernel, 'last': jnp.ones(2 * WIDTH) / 10}
    return params, {'seen': jnp.zeros(())}

  def loss(self, params, stats, batch, key):
    del key
    y = jnp.tanh(batch['x'] @ params['kernel']) @ params['last']
    weight = batch['weight'] / batch['weight'].sum()
    seen = 0.9 * stats['seen'] + 0.1 * (weight * y).sum()
    return (weight * (y - 1) ** 2).sum(), ({'seen': seen}, {'y': seen})

  def predict(self, state, batch):
    return jnp.sum(batch['x'] @ state.params['kernel'])


def _batch(seed):
  draws = np.random.default_rng(seed)
  return {
    'x': draws.normal(size=(ROWS, WIDTH)).astype(np.float32),
    'weight': (np.arange(ROWS) < ROWS - 11).astype(np.float32),
  }


@dataclasses.dataclass(frozen=True)
class Run:
  """Three steps of a compiled program."""

  losses: list
  state: object  # on the host
  shards: object  # of the state's leaves on the first device
  compiled: object  # the train step
  predicted: float
  flops: float


@functools.cache
def _run(spread='none', parts=1, model=1, rules=WHOLE):
  task, mesh = Wide(parts, rules=rules), sharding.make_mesh(model)
  build = Build(spread=spread)
  program.check(task, mesh, build)
  lowered = program.lower(task, mesh, build)
  step = lowered['train_step'][0].compile()
  state = lowered['init'].compile()(np.uint32(1))
  losses = []
  for _ in range(3):
    state, metrics = step(state, sharding.put_rows(_batch(0), mesh))
    losses.append(float(metrics['loss']))
  predict = lowered['predict'][0].compile()
  return Run(
    losses,
    jax.device_get(dataclasses.replace(state, key=np.float32(0))),
    jax.tree.map(lambda x: x.addressable_shards[0].data.shape, state),
    step,
    float(predict(state, sharding.put_rows(_batch(9), mesh), {})[1]),
    flops.total(lowered['train_step'][0]),
  )


def _sent(compiled, kind):
  """Floats in the results of all collectives of a kind."""
  lines = re.findall(rf'= (.*) {kind}(?:-start)?\(', compiled.as_text())
  shapes = re.findall(r'f32\[([\d,]*)\]', ' '.join(lines))
  return sum(np.prod([int(n) for n in s.split(',') if n]) for s in shapes)


class ByShapeTest(absltest.TestCase):
  """A task whose batches have two shapes."""

  def setUp(self):
    super().setUp()
    self.task = task = Wide()
    (spec,) = task.train_specs
    task.train_specs = [spec, _rows(spec, 2 * ROWS)]
    self.mesh, self.clock = sharding.make_mesh(), fake_task.ready()[0]
    self.program = program.Program.build(task, self.mesh, self.clock)

  def test_nothing_runs_before_all_hosts_have_compiled(self):
    def never(*, key, timeout_ms):
      del key, timeout_ms
      raise TimeoutError('the others still compile')

    ran = mock.Mock()
    with (
      mock.patch.object(
        program.ocp.multihost, 'get_barrier_sync_fn', lambda: never
      ),
      mock.patch.object(program.Program, 'fresh_state', ran),
      self.assertRaisesRegex(TimeoutError, 'still compile'),
    ):
      self.program.warm_up(self.task)
    ran.assert_not_called()

  def test_a_batch_is_trained_on_by_the_program_for_its_shape(self):
    self.program.warm_up(self.task)
    for rows, number in ((ROWS, 0), (2 * ROWS, 1)):
      batch = {
        'weight': np.ones(rows, np.float32),
        'x': np.ones((rows, WIDTH), np.float32),
      }
      batch = sharding.put_rows(batch, self.mesh)
      self.assertEqual(self.program.train_step.which(batch), number)
      state = self.program.fresh_state(1)
      state, metrics = self.program.train_step(state, batch)
      self.assertTrue(np.isfinite(metrics['loss']))
    small, large = self.program.flops
    self.assertEqual(large, 2 * small)

  def test_a_batch_of_another_shape_is_refused_with_those_there_are(self):
    spec = _rows(self.program.train_step.specs[0], 24)
    shapes = f'{ROWS}x{WIDTH}, {2 * ROWS}x{WIDTH}, got 24x{WIDTH}'
    with self.assertRaisesRegex(ValueError, shapes):
      self.program.train_step.which(spec)


def _rows(spec, rows):
  return {
    name: jax.ShapeDtypeStruct((rows, *each.shape[1:]), each.dtype)
    for name, each in spec.items()
  }


class SpreadTest(parameterized.TestCase):
  @parameterized.product(spread=SPREADS, parts=(1, 4))
  def test_a_layout_changes_no_result_but_for_rounding(self, spread, parts):
    plain, got = _run(), _run(spread, parts)
    np.testing.assert_allclose(got.losses, plain.losses, rtol=1e-5)
    self.assertLess(got.losses[-1], got.losses[0])
    self.assertAlmostEqual(got.predicted, plain.predicted, places=2)
    for a, b in zip(
      *(jax.tree.leaves(run.state) for run in (got, plain)), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)

  def test_each_device_keeps_an_eighth_of_what_is_spread(self):
    whole, eighth = (WIDTH, 2 * WIDTH), (WIDTH, 2 * WIDTH // 8)
    for spread, params, moments in zip(
      SPREADS, (whole, whole, eighth), (whole, eighth, eighth), strict=True
    ):
      shards = _run(spread).shards
      self.assertEqual(shards.params['kernel'], params)
      self.assertEqual(shards.opt[0].mu['kernel'], moments)
      self.assertEqual(shards.opt[0].nu['kernel'], moments)
      self.assertEqual(shards.opt[0].nu['last'], (2 * WIDTH,))  # small

  def test_a_device_needs_less_memory_by_what_the_others_keep(self):
    used = {
      spread: _run(spread).compiled.memory_analysis() for spread in SPREADS
    }
    arguments = {s: used[s].argument_size_in_bytes for s in SPREADS}
    saved = KERNEL * 7 // 8
    self.assertEqual(arguments['none'] - arguments['optimizer'], 2 * saved)
    self.assertEqual(arguments['none'] - arguments['parameters'], 3 * saved)

  def test_gradients_are_added_up_over_the_parts_an_eighth_on_each(self):
    whole, eighth = (
      _run(spread, parts=4).compiled.memory_analysis().temp_size_in_bytes
      for spread in ('none', 'optimizer')
    )
    self.assertLess(eighth, whole - KERNEL * 3 // 4)

  def test_devices_send_what_they_updated_and_no_moments(self):
    kernel, small = KERNEL // 4, 4 * WIDTH + 16
    for spread, gathered in zip(SPREADS, (0, kernel, kernel), strict=True):
      compiled = _run(spread).compiled
      self.assertEqual(_sent(compiled, 'all-gather'), gathered, spread)
      # Gradients are added up once, on CPU whole.
      added = _sent(compiled, 'all-reduce')
      self.assertBetween(added, kernel // 8, kernel + small, spread)
      for kind in ('collective-permute', 'all-to-all'):
        self.assertLess(_sent(compiled, kind), kernel, spread)

  @parameterized.parameters('optimizer', 'parameters')
  def test_it_splits_what_the_rules_of_a_model_axis_leave(self, spread):
    rules = ((r'kernel$', P(None, 'model')), (r'.*', P()))
    got = _run(spread, model=2, rules=rules)
    self.assertEqual(
      got.shards.opt[0].mu['kernel'], (WIDTH // 4, 2 * WIDTH // 2)
    )
    rows = WIDTH // 4 if spread == 'parameters' else WIDTH
    self.assertEqual(got.shards.params['kernel'], (rows, WIDTH))
    np.testing.assert_allclose(got.losses, _run().losses, rtol=1e-5)

  def test_a_spread_that_splits_nothing_is_refused(self):
    mesh = sharding.make_mesh()
    small = fake_task.FakeTask([0.9])
    for check in (program.check, program.lower):
      with self.assertRaisesRegex(
        ValueError, 'optimizer splits nothing.*8 dev'
      ):
        check(small, mesh, Build(spread='optimizer'))
    alone = sharding.make_mesh(devices=jax.devices()[:1])
    with self.assertRaisesRegex(ValueError, 'splits nothing.* 1 devices'):
      program.check(Wide(), alone, Build(spread='parameters'))

  def test_an_unknown_spread_is_refused(self):
    with self.assertRaisesRegex(ValueError, "none, optimizer.*not 'params'"):
      Build(spread='params')

  def test_a_rule_that_matches_nothing_is_refused_with_a_spread_too(self):
    task = Wide(rules=((r'kernle$', P('model')), (r'.*', P())))
    with self.assertRaisesRegex(ValueError, 'match nothing.*kernle'):
      program.check(task, sharding.make_mesh(), Build(spread='optimizer'))


class PartsTest(parameterized.TestCase):
  def test_the_flops_of_a_step_in_parts_are_those_of_the_whole(self):
    whole = _run().flops
    products = 2 * 2 * ROWS * 2 * WIDTH * WIDTH  # forward, and for the kernel
    self.assertBetween(whole, products, 1.05 * products)
    self.assertEqual(_run(parts=4).flops, whole)
    self.assertEqual(_run('parameters', 1).flops, whole)
    self.assertEqual(_run('parameters', 4).flops, whole)

  def test_parts_that_do_not_divide_the_rows_of_a_device_are_refused(self):
    with self.assertRaisesRegex(
      ValueError, '3 parts does not divide the 8 row'
    ):
      program.check(Wide(parts=3), sharding.make_mesh())

  def test_parts_that_cut_groups_are_refused(self):
    program.check(Wide(parts=2, row_group=4), sharding.make_mesh())
    with self.assertRaisesRegex(ValueError, '4 of the 8 rows.*groups of 8'):
      program.check(Wide(parts=2, row_group=8), sharding.make_mesh())


@dataclasses.dataclass(frozen=True)
class Device:
  """One that is not there, of some host."""

  id: int
  process_index: int
  platform: str = 'none'


class GroupsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    devices = [Device(i, process_index=i // 4) for i in range(8)]
    self.mesh = Mesh(np.array(devices).reshape(8, 1), ('data', 'model'))

  def test_groups_may_cross_devices_but_not_hosts(self):
    program.check(Wide(row_group=32), self.mesh)
    says = 'groups of 64 rows.* each has 32 rows.*fits: 32.*groups_across_hosts'
    with self.assertRaisesRegex(ValueError, says):
      program.check(Wide(row_group=64), self.mesh)

  def test_groups_may_cross_hosts_when_asked_to(self):
    program.check(
      Wide(row_group=64), self.mesh, Build(groups_across_hosts=True)
    )


if __name__ == '__main__':
  absltest.main()
