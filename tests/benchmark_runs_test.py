"""Facts about a run of every benchmark, on eight CPU devices and on two hosts.

Benchmarks are found by themselves; tests/benchmark_runs.py says what one gives.
"""

import atexit
import collections
import dataclasses
import functools
import os
import shutil
import tempfile
from typing import Any
from unittest import mock

from absl.testing import absltest, parameterized
import jax
import numpy as np
import pytest

from launch import local
from suite import benchmark as benchmark_lib
from suite import files
from suite.clock import Clock
from suite.results import audit
from suite.run import loop, program, sharding
from suite.run.checkpoint import Checkpoints
from suite.run.program import Program, shape_of
from tests import benchmark_runs, ids, quick
from tests.benchmark_runs import SEED, small
from tests.launch import processes
from tests.suite.run import fake_task

_PARTS = 'gradient_accumulation_steps'
_SAVED_EVERY = 3  # steps, from one checkpoint to the next


class _Kept:
  """A feed that keeps the batches that it yields."""

  def __init__(self, feed):
    self._feed = feed
    self.trained, self.evaluated = [], []

  def __getattr__(self, name):
    return getattr(self._feed, name)

  def train_block(self, block, state, maker):
    for batch in self._feed.train_block(block, state, maker):
      self.trained.append(batch)
      yield batch

  def eval_batches(self):
    self.evaluated.clear()
    for batch in self._feed.eval_batches():
      self.evaluated.append(batch)
      yield batch


class _Copies(loop.Watcher):
  """Copies the log as it is when a checkpoint is saved: `<folder>/<step>`."""

  def __init__(self, log_path, folder):
    self._log_path, self._folder = log_path, folder
    self._copies = 0

  def at(self, place, tick):
    if place == 'checkpoint':
      self._copies += _SAVED_EVERY
      shutil.copy(self._log_path, self.copy(self._copies))

  def copy(self, step):
    return os.path.join(self._folder, f'log_{step}.txt')


@dataclasses.dataclass(frozen=True)
class _Whole:
  """A run that nothing disturbs, and what it left."""

  folder: str
  result: loop.Result
  compiles: list[tuple[bool, str]]
  program: Program
  trained: list[Any]  # batches, on the devices
  evaluated: list[Any]  # of the last eval
  copies: _Copies

  @property
  def log_path(self):
    return os.path.join(self.folder, 'log.txt')


@functools.cache
def _whole(name) -> _Whole:
  """The run of a benchmark that most tests look at."""
  each, folder = small(name), tempfile.mkdtemp()
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  task, clock = each.task(), Clock()
  log_path = os.path.join(folder, 'log.txt')
  copies = _Copies(log_path, folder)
  build, opened = Program.build, task.open
  built, feeds = [], []
  task.open = lambda *how: feeds.append(_Kept(opened(*how))) or feeds[0]
  with (
    mock.patch.object(
      Program, 'build', lambda *how: built.append(build(*how)) or built[0]
    ),
    fake_task.recorded_compiles(lambda: clock.running) as compiles,
  ):
    result = each.run(
      task,
      sharding.make_mesh(),
      clock,
      log_path=log_path,
      checkpoints=_checkpoints(folder),
      watcher=copies,
    )
  (feed,) = feeds
  return _Whole(
    folder, result, compiles, *built, feed.trained, feed.evaluated, copies
  )


def _checkpoints(folder):
  place = os.path.join(folder, 'saved')
  return Checkpoints(place, minutes=0, steps=_SAVED_EVERY, keep=True)


@functools.cache
def _task(name):
  """The task of a benchmark; nothing changes it."""
  return small(name).task()


def _open(name, **how):
  """A feed whose batches are host rows."""
  each, clock, task = small(name), Clock(), _task(name)
  clock.start()
  data = each.data(task, clock, **how)
  return task.open(data, task.inspect(each.directory))


def _blocks(name):
  return _task(name).blocks(_task(name).inspect(small(name).directory))


def _rows(batch):
  """The rows of a batch that are no padding, each as bytes."""
  fields = [np.asarray(v) for k, v in sorted(batch.items()) if k != 'weight']
  return [
    b''.join(field[row].tobytes() for field in fields)
    for row in np.flatnonzero(np.asarray(batch['weight']))
  ]


def _is_padded(batch):
  return not np.asarray(batch['weight']).all()


def _fresh(name):
  """A state, which a train step uses up, of the program of the whole run."""
  each, made = small(name), _whole(name).program
  data = each.data(_task(name), Clock())
  return made.fresh_state(SEED, data.start)


class RunTest(parameterized.TestCase):
  @ids.each(benchmark_lib.names())
  def test_nothing_compiles_on_the_clock_with_every_shape(self, name):
    run, task = _whole(name), _task(name)
    for batches, specs in (
      (run.trained, task.train_specs),
      (run.evaluated, task.eval_specs),
    ):
      self.assertEqual({*map(shape_of, batches)}, {*map(shape_of, specs)})
    self.assertNotEmpty(run.compiles)
    self.assertEqual([event for running, event in run.compiles if running], [])

  @ids.each(benchmark_lib.names())
  def test_its_result_counts_steps_samples_and_operations(self, name):
    run, blocks = _whole(name), _blocks(name)
    self.assertLen(run.result.losses, len(run.trained))
    self.assertLen(run.result.evals, len(blocks))
    if blocks[0].samples is not None:
      self.assertEqual(run.result.samples, sum(b.samples for b in blocks))
    self.assertGreater(run.result.flops_per_step, 0)

  @ids.each(benchmark_lib.names())
  def test_the_audit_finds_nothing_but_the_target_that_was_missed(self, name):
    found = audit.examine_log(
      _whole(name).log_path, get=lambda _: small(name).benchmark
    )
    errors = audit.errors(found.findings)
    self.assertEqual([e.rule for e in errors], ['converged'], errors)

  @ids.each(benchmark_lib.names())
  def test_a_run_resumes_bit_for_bit_inside_a_block(self, name):
    whole = _whole(name)
    before, end = (found.step for found in whole.result.evals[-2:])
    saved = os.listdir(os.path.join(whole.folder, 'saved'))
    step = max(int(n) for n in saved if before < int(n) < end)
    folder = self.create_tempdir().full_path
    for left in ('saved', 'saved_data'):
      if os.path.isdir(os.path.join(whole.folder, left)):
        shutil.copytree(
          os.path.join(whole.folder, left), os.path.join(folder, left)
        )
    for later in saved:
      if int(later) > step:
        shutil.rmtree(os.path.join(folder, 'saved', later))
    log_path = os.path.join(folder, 'log.txt')
    shutil.copy(whole.copies.copy(step), log_path)
    clock = Clock()
    with (
      mock.patch.object(Program, 'build', return_value=whole.program),
      fake_task.recorded_compiles(lambda: clock.running) as compiles,
    ):
      result = small(name).run(
        _task(name),
        whole.program.mesh,
        clock,
        log_path=log_path,
        checkpoints=_checkpoints(folder),
        resume=True,
      )
    self.assertEqual(
      benchmark_runs.outcome(result), benchmark_runs.outcome(whole.result)
    )
    self.assertEqual(
      *([e.statistics for e in r.evals] for r in (result, whole.result))
    )
    self.assertEqual([event for running, event in compiles if running], [])

  def test_a_benchmark_without_a_size_of_tests_is_told_where_it_belongs(self):
    with self.assertRaisesRegex(
      ModuleNotFoundError,
      'the size of line .*tests/suite/benchmarks/line_small',
    ):
      small('line')


class FeedTest(parameterized.TestCase):
  """Batches as hosts feed them."""

  @ids.each(benchmark_lib.names())
  def test_every_eval_example_is_seen_once_over_one_host_and_several(
    self, name
  ):
    alone = _whole(name).evaluated
    expected = collections.Counter(r for batch in alone for r in _rows(batch))
    self.assertEqual({*expected.values()}, {1})
    # What sums up over batches may have several rows for an example.
    if not jax.tree.leaves(_task(name).carry.spec):
      self.assertLen(expected, small(name).size.data.eval_samples)
    for hosts in (2, 4):
      found, shapes = collections.Counter(), []
      for host in range(hosts):
        feed = _open(name, host=host, hosts=hosts)
        batches = list(feed.eval_batches())
        feed.close()
        found.update(row for batch in batches for row in _rows(batch))
        shapes.append([
          {key: (hosts * len(v), *v.shape[1:]) for key, v in batch.items()}
          for batch in batches
        ])  # fmt: skip
      self.assertEqual(found, expected)
      # Hosts take part in the same steps.
      whole = [{key: v.shape for key, v in batch.items()} for batch in alone]
      self.assertEqual(shapes, [whole] * hosts)

  @ids.each(benchmark_lib.names())
  def test_hosts_train_on_the_rows_of_one(self, name):
    block = _blocks(name)[0]
    if block.steps is None:
      self.skipTest('Each host makes batches of its own.')
    for hosts in (2, 4):
      feeds = [_open(name, host=host, hosts=hosts) for host in range(hosts)]
      streams = [feed.train_block(block, None, None) for feed in feeds]
      for whole, *parts in zip(
        _whole(name).trained[:4], *streams, strict=False
      ):
        for key, rows in whole.items():
          shared = np.concatenate([part[key] for part in parts])
          np.testing.assert_array_equal(shared, rows)
      for stream, feed in zip(streams, feeds, strict=True):
        stream.close()
        feed.close()


class PaddingTest(parameterized.TestCase):
  def quality(self, name, batches):
    """Quality of a state trained for a few steps, over these eval batches."""
    made, state = _whole(name).program, _fresh(name)
    for batch in _whole(name).trained[:3]:
      state, _ = made.train_step(state, batch)
    outputs, carry = [], made.carry()
    for batch in batches:
      put = sharding.put_rows(batch, made.mesh)
      carry, output = made.predict(state, put, carry)
      outputs.append(program.host_rows(output))
    feed = _open(name)
    try:
      return feed.score(iter(outputs), made)
    finally:
      feed.close()

  @ids.each(benchmark_lib.names())
  def test_padding_counts_nothing_in_an_eval(self, name):
    zeros = [jax.device_get(dict(b)) for b in _whole(name).evaluated]
    self.assertTrue(any(map(_is_padded, zeros)), 'no batch has padding')
    repeated = []
    for batch in zeros:
      real = np.flatnonzero(batch['weight'])
      padded = batch['weight'] == 0
      chosen = np.arange(len(padded))
      chosen[padded] = np.resize(real, padded.sum())
      more = {key: rows[chosen] for key, rows in batch.items()}
      repeated.append({**more, 'weight': batch['weight']})
    expected = self.quality(name, zeros)
    self.assertEqual(self.quality(name, repeated), expected)
    weighted = [
      {**batch, 'weight': np.ones_like(batch['weight'])} for batch in repeated
    ]
    try:
      self.assertNotEqual(self.quality(name, weighted), expected)
    except RuntimeError as error:
      self.assertRegex(str(error), r'Expected .*, got')

  @ids.each(benchmark_lib.names())
  def test_padding_counts_nothing_in_training(self, name):
    padded = next(filter(_is_padded, _whole(name).trained), None)
    if padded is None:
      self.skipTest('Its training batches are full.')
    task = small(name).task(**small(name).still)
    state = jax.device_get(_fresh(name))
    padded = jax.device_get(dict(padded))
    real = {key: rows[padded['weight'] > 0] for key, rows in padded.items()}
    loss = quick.jit(
      lambda params, stats, batch: task.loss(
        params, stats, batch, jax.random.key(0)
      )[0]
    )
    losses = [loss(state.params, state.stats, b) for b in (padded, real)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def _whatever_its_size():
  """While this lasts a leaf is spread whatever its size."""
  return mock.patch.object(sharding, 'SMALL', 0)


@functools.cache
def _trained(name, *, spread='none', parts=1, model=1):
  """Losses and states, first and last, of three steps on eight devices."""
  run, each = _whole(name), small(name)
  changes = {_PARTS: parts} if parts > 1 else {}
  task = each.task(devices=8 // model, **each.still, **changes)
  # Of one shape, the last, which have padded rows where any have.
  shape = shape_of(run.trained[0])
  batches = [b for b in run.trained if shape_of(b) == shape][-3:]
  task.train_specs = [s for s in task.train_specs if shape_of(s) == shape]
  task.eval_specs, task.staged = [], dict
  if spread == 'none' and parts == model == 1 and not each.still:
    made = run.program
  else:
    mesh = sharding.make_mesh(model)
    build = program.Build(quick.OPTIONS, spread=spread)
    with _whatever_its_size():
      made = Program.build(task, mesh, Clock(), build)
  data = each.data(task, Clock())
  state, losses = made.fresh_state(SEED, data.start), []
  first = jax.device_get(dataclasses.replace(state, key=None))
  for batch in batches:
    put = sharding.put_rows(jax.device_get(dict(batch)), made.mesh)
    state, metrics = made.train_step(state, put)
    losses.append(float(metrics['loss']))
  shards = jax.tree.map(lambda x: x.addressable_shards[0].data.shape, state)
  last = jax.device_get(dataclasses.replace(state, key=None))
  return losses, first, last, shards


class LayoutTest(parameterized.TestCase):
  def check(self, name, **how):
    losses, first, last, whole = _trained(name)
    found, _, other, shards = _trained(name, **how)
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    # What training changed is changed alike, but for rounding.
    for part in ('params', 'stats', 'opt', 'frozen', 'average'):
      a, b, c = (
        np.concatenate([
          np.zeros(1),
          *(np.float64(x).ravel() for x in jax.tree.leaves(getattr(s, part))),
        ])
        for s in (first, last, other)
      )  # fmt: skip
      moved, apart = np.linalg.norm(b - a), np.linalg.norm(c - b)
      self.assertLessEqual(apart, 1e-2 * moved, part)
      if part == 'params':
        self.assertGreater(moved, 0)
    return whole, shards

  def parts(self, name):
    """Number of parts that a step can be taken in without changing it: 1, 2."""
    each = small(name)
    return 1 + (hasattr(each.size.hparams, _PARTS) and not each.parts_differ)

  def model_axis(self, name):
    """A size of the model axis that its rules have a use for."""
    rules = _task(name).partition_rules
    return 2 if any('model' in spec for _, spec in rules) else 1

  def check_all_at_once(self, name):
    whole, shards = self.check(
      name,
      spread='parameters',
      model=self.model_axis(name),
      parts=self.parts(name),
    )
    self.assertNotEqual(shards.params, whole.params)

  def test_steps_of_ncf_with_all_spread_beside_a_model_axis_change_nothing(
    self,
  ):
    self.check_all_at_once('ncf')

  @ids.each(benchmark_lib.names())
  @pytest.mark.slow
  def test_steps_in_parts_with_all_spread_beside_a_model_axis_change_nothing(
    self, name
  ):
    self.check_all_at_once(name)

  @ids.each(benchmark_lib.names())
  def test_parameters_can_be_spread_beside_a_model_axis(self, name):
    model = self.model_axis(name)
    task, mesh = small(name).task(devices=8 // model), sharding.make_mesh(model)
    with _whatever_its_size():
      whole, spread = (
        program.layout(task, mesh, program.Build(spread=how)).params
        for how in ('none', 'parameters')
      )
    self.assertNotEqual(jax.tree.leaves(spread), jax.tree.leaves(whole))

  @ids.each(benchmark_lib.names())
  @pytest.mark.slow
  def test_steps_in_parts_change_nothing(self, name):
    if self.parts(name) == 1:
      self.skipTest('Its steps are whole.')
    self.check(name, parts=2)

  @ids.each(benchmark_lib.names())
  @pytest.mark.slow
  def test_a_spread_of_the_optimizer_changes_nothing(self, name):
    if not any(x.ndim for x in jax.tree.leaves(_whole(name).program.state.opt)):
      self.skipTest('Its optimizer has no buffers.')
    whole, shards = self.check(name, spread='optimizer')
    self.assertEqual(shards.params, whole.params)
    self.assertNotEqual(shards.opt, whole.opt)


class HostsTest(parameterized.TestCase):
  def run_by(self, name, places):
    """Losses and evals of a run by processes, one for each place.

    All of them have the same.
    """
    path = os.path.join(self.create_tempdir().full_path, 'found.json')
    started = [
      processes.start('tests.benchmark_runs', name, path, environment=each)
      for each in places
    ]
    for each in started:
      self.addCleanup(each.wait)
      self.addCleanup(each.kill)
    said = [each.communicate(timeout=processes.LONGEST)[1] for each in started]
    self.assertEqual(
      [each.returncode for each in started], [0] * len(places), said
    )
    found, *others = (
      files.read_json(f'{path}.{rank}') for rank in range(len(places))
    )
    for other in others:
      self.assertEqual(other, found)
    return found

  @ids.each(benchmark_lib.names())
  @pytest.mark.slow
  def test_two_processes_train_as_one_with_two_devices_does(self, name):
    if _blocks(name)[0].steps is None:
      self.skipTest('Each host makes batches of its own.')
    two, one = local.places(2, 1), local.places(1, 2)
    # Two terms have one order of summing, so nothing is left to rounding.
    self.assertEqual(self.run_by(name, two), self.run_by(name, one))


if __name__ == '__main__':
  absltest.main()
