"""Facts of every benchmark and size; they are found by themselves."""

import ast
from collections.abc import Iterator
import functools
import importlib
import pathlib
import re

from absl.testing import absltest, parameterized
import jax
import numpy as np
import pytest

from suite import benchmark as benchmark_lib
from suite import hparams
from suite.run import drawn, sharding
from suite.run.program import abstract_state, check
from tests import benchmark_runs, ids

_FOLDER = 'suite.benchmarks'
_SHARED = re.compile(r'suite\.benchmarks\.(\w+)\.task')


def _made(name, size_name):
  benchmark = benchmark_lib.get(name)
  size = benchmark.size(size_name)
  return benchmark.task(size.hparams, size.data, devices=8)


# Its model is traced when it is made, which takes a second.
_task = functools.cache(_made)


@functools.cache
def _state(name, size_name):
  return abstract_state(_task(name, size_name))


@functools.cache
def _facts(name):
  """Those of the data set of tests, from which blocks follow."""
  each = benchmark_runs.small(name)
  return each.task().inspect(each.directory)


def _reads(folder: pathlib.Path) -> Iterator[str]:
  """Names of hyperparameters that the modules of a benchmark read.

  Rules and log keys of the declaration do not count: what only they read
  changes nothing. What the modules of another benchmark do for it counts.
  """
  declaring = ('__init__.py', 'hparams.py', 'broken.py')
  for path in folder.glob('*.py'):
    if path.name in declaring:
      continue
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.ImportFrom) and node.module == _FOLDER:
        for alias in node.names:  # modules that benchmarks share
          yield from _read_in(folder.parent / f'{alias.name}.py')
      if isinstance(node, ast.ImportFrom):
        name = _SHARED.fullmatch(node.module or '')
        if name and name[1] != folder.name:
          yield from _reads(folder.parent / name[1])
      if isinstance(node, ast.Attribute):
        owner = ast.unparse(node.value).rpartition('.')[2]
        if owner.strip('_') in ('hp', 'hparams'):
          yield node.attr


def _read_in(path):
  """The hyperparameters that a file reads; none if there is no such file."""
  text = path.read_text(encoding='utf-8') if path.is_file() else ''
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Attribute):
      owner = ast.unparse(node.value).rpartition('.')[2]
      if owner.strip('_') in ('hp', 'hparams'):
        yield node.attr


class BenchmarksTest(parameterized.TestCase):
  @ids.each_size()
  def test_the_reference_hyperparameters_are_legal_in_closed(self, name, size):
    reference = benchmark_lib.get(name).size(size).hparams
    self.assertEmpty(hparams.closed_faults(reference, reference))

  @ids.each_size()
  def test_every_hyperparameter_says_what_it_is(self, name, size):
    for each in hparams.declared(benchmark_lib.get(name).size(size).hparams):
      self.assertRegex(each.help, r'\.$', each.name)

  @ids.each(benchmark_lib.names())
  def test_every_hyperparameter_changes_something(self, name):
    module = importlib.import_module(f'suite.benchmarks.{name}')
    read = {*_reads(pathlib.Path(module.__file__).parent)}
    for size in module.BENCHMARK.sizes.values():
      declared = {each.name for each in hparams.declared(size.hparams)}
      self.assertEmpty(declared - read, 'declared, but nothing reads them')

  def test_a_value_that_only_its_declaration_reads_is_found(self):
    folder = pathlib.Path(self.create_tempdir())
    (folder / '__init__.py').write_text('key = lambda hp: hp.name')
    (folder / 'task.py').write_text('a = self._hp.rate * x.name + hp.steps')
    self.assertEqual(sorted(_reads(folder)), ['rate', 'steps'])

  @ids.each_size()
  def test_no_two_hyperparameters_share_a_log_key(self, name, size):
    found = hparams.declared(benchmark_lib.get(name).size(size).hparams)
    keys = [each.key for each in found if each.key]
    self.assertLen(set(keys), len(keys))

  @ids.each_size()
  def test_every_partition_rule_matches_a_leaf(self, name, size):
    task = _task(name, size)
    sharding.from_rules(
      _state(name, size), task.partition_rules, sharding.make_mesh()
    )

  @ids.each_size()
  def test_its_batches_split_over_eight_devices(self, name, size):
    check(_task(name, size), sharding.make_mesh())

  @ids.each(benchmark_lib.names())
  def test_a_step_keeps_the_shapes_of_the_state(self, name):
    first, *_ = benchmark_lib.get(name).sizes
    self.check_step(name, first)

  @ids.each_size()
  @pytest.mark.slow
  def test_a_step_of_any_size_keeps_the_shapes_of_the_state(self, name, size):
    self.check_step(name, size)

  def check_step(self, name, size):
    task = _task(name, size)
    state = _state(name, size)
    after, metrics = jax.eval_shape(
      task.train_step, state, dict(task.train_specs[0])
    )
    self.assertEqual(jax.tree.leaves(after), jax.tree.leaves(state))
    self.assertEqual(metrics['loss'].shape, ())

  @ids.each_size()
  def test_its_blocks_follow_each_other_without_a_gap(self, name, size):
    benchmark = benchmark_lib.get(name)
    before = benchmark.starts_after(benchmark.size(size).hparams)
    blocks = _task(name, size).blocks(_facts(name))
    self.assertNotEmpty(blocks)
    for block in blocks:
      if block.steps is not None:
        self.assertGreater(block.steps, 0)
    if 'samples_count' in blocks[0].at:
      ends = [block.stop['samples_count'] for block in blocks]
      starts = [block.start['samples_count'] for block in blocks]
      self.assertEqual(starts, [0, *ends[:-1]])
      self.assertEqual([b.at['samples_count'] for b in blocks], ends)
      return
    for block in blocks:
      self.assertEqual(set(block.stop), {'first_epoch_num'})
    ends = [
      round(b.start['first_epoch_num'] + b.start['epoch_count'], 9)
      for b in blocks
    ]
    starts = [b.start['first_epoch_num'] for b in blocks]
    # Whole epochs count from 1, fractions from 0.
    one = blocks[0].start['epoch_count'] == round(
      blocks[0].start['epoch_count']
    )
    self.assertEqual(starts, [before + one, *ends[:-1]])
    places = [end - one for end in ends]
    self.assertEqual([b.at['epoch_num'] for b in blocks], places)

  @ids.each_size()
  def test_what_a_data_set_adds_to_a_task_is_in_its_facts_alone(
    self, name, size
  ):
    task = _made(name, size)
    before = dict(vars(task))
    task.blocks(_facts(name))
    self.assertEqual(vars(task), before)

  def test_an_unknown_benchmark_or_size_is_refused_with_the_nearest(self):
    with self.assertRaisesRegex(ValueError, "did you mean 'resnet'"):
      benchmark_lib.get('resnet50')
    with self.assertRaisesRegex(ValueError, "did you mean 'tiny'"):
      benchmark_lib.get('resnet').size('tinny')


class DrawnTest(parameterized.TestCase):
  @ids.each_size()
  def test_values_are_those_of_fields_that_there_are(self, name, size):
    task = _task(name, size)
    specs = [*task.train_specs, *task.eval_specs]
    declared = {field for spec in specs for field in task.values(spec)}
    self.assertEmpty(declared - {field for spec in specs for field in spec})

  @ids.each(benchmark_lib.names())
  def test_batches_have_the_shape_and_the_values_that_are_declared(self, name):
    task = _task(name, 'tiny')
    for spec in [*task.train_specs, *task.eval_specs]:
      rows = drawn.draw(task, spec, seed=0)
      self.assertEqual(
        {field: (leaf.shape, leaf.dtype) for field, leaf in rows.items()},
        {field: (leaf.shape, leaf.dtype) for field, leaf in spec.items()},
      )
      self.assertTrue(all(np.isfinite(leaf).all() for leaf in rows.values()))
      self.assertTrue((rows['weight'] > 0).all())
      for field, values in task.values(spec).items():
        if field in rows:
          low, high = np.asarray(values.low), np.asarray(values.high)
          self.assertTrue((rows[field] >= low).all(), field)
          reached = rows[field] <= high - (1 if values.whole else 0)
          self.assertTrue(reached.all(), field)
      if spec in task.train_specs:
        (unit, amount), *_ = task.contents(rows).items()
        self.assertEqual(unit, 'samples')
        self.assertGreaterEqual(amount, len(rows['weight']))

  def test_hosts_draw_their_shares_of_a_batch(self):
    task = _task(benchmark_lib.names()[0], 'tiny')
    (spec, *_) = task.train_specs
    whole, half, other = (
      drawn.draw(task, spec, seed=seed, share=share)
      for seed, share in ((0, 1), (1, 2), (2, 2))
    )
    self.assertEqual(len(whole['weight']), 2 * len(half['weight']))
    self.assertFalse(jax.tree.all(jax.tree.map(np.array_equal, half, other)))


if __name__ == '__main__':
  absltest.main()
