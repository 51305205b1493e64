"""Tests of tables that are spread over eight CPU devices."""

import dataclasses
import functools
import math
import re

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from models.parts import exchange
from models.parts import tables as tables_lib
from suite.run import optimizers
from tests import quick
from tests.suite.benchmarks import dlrm_dcnv2_spec_test as spec

DEVICES, ROWS, WIDTH = 8, 64, 8
# Several lookups of a table, some with a width of their own; two are small.
TABLES = tables_lib.Tables((5000, 3, 700, 40, 9000), (3, 1, 2, 2, 1), WIDTH, 50)
# The same, of which sums travel: from groups of 4 devices, or of one; the most
# named tables are in pieces.
SUMS = dataclasses.replace(TABLES, lookups=(9, 1, 4, 2, 3), groups=2)
OF_ONE = dataclasses.replace(SUMS, groups=8)
OPTIMIZERS = {
  'sgd': optimizers.row_sgd(optax.constant_schedule(0.25)),
  'adagrad': optimizers.row_adagrad(
    optax.constant_schedule(0.25), epsilon=1e-8, initial=0.25
  ),
}


def _mesh():
  return Mesh(np.array(jax.devices()).reshape(DEVICES, 1), ('data', 'model'))


def _ids(kind, tables=TABLES, seed=0):
  """Ids [ROWS, lookups]: few often, as clicks have them, of one owner, or 0."""
  draws = np.random.default_rng(seed)
  columns = []
  for size, lookups in zip(tables.sizes, tables.lookups, strict=True):
    found = draws.zipf(1.3, (ROWS, lookups)) - 1
    if kind == 'one owner' and size > 1000:
      # Those of one device in eight, and of few parts of the store.
      near = np.flatnonzero(np.arange(size) * 619 % 1024 < 16)
      found = np.resize(near, (ROWS, lookups))
    if kind == 'one row':
      found = np.zeros_like(found)
    columns.append(np.minimum(found, size - 1))
  return np.concatenate(columns, 1).astype(np.int32)


@functools.cache
def _arrays(tables=TABLES):
  """Multiples of 1/64, whose sums are exact in any order."""
  draws = np.random.default_rng(1)
  store = draws.integers(-64, 64, (tables.store_rows, WIDTH)) / 64
  return jnp.float32(store)


def _gradient(seed=2):
  draws = np.random.default_rng(seed)
  return jnp.float32(draws.integers(-64, 64, (ROWS, 3, WIDTH)) / 64)


@functools.cache
def _step(kind, mesh=None, tables=TABLES):
  """(store, opt), ids, gradient -> vectors, turns, (store, opt); compiled."""
  rows = OPTIMIZERS[kind]

  def apply(stores, ids, values):
    store, opt = stores
    summed = optimizers.sum_rows(ids, values, table_rows=store.shape[0])
    return rows.apply(summed, opt, store)

  def step(stores, ids, gradient):
    vectors, plan = tables.lookup(stores[0], ids, mesh)
    # A gradient follows from what was looked up.
    gradient = gradient - vectors
    after = tables.update(stores, plan, gradient, apply, mesh)
    return vectors, plan.turns, after

  store = jax.ShapeDtypeStruct(_arrays(tables).shape, jnp.float32)
  shapes = (
    (store, jax.eval_shape(rows.init, store)),
    jax.ShapeDtypeStruct(_ids('few', tables).shape, jnp.int32),
    jax.ShapeDtypeStruct(_gradient().shape, jnp.float32),
  )
  if mesh is None:
    return jax.jit(step, donate_argnums=0).lower(*shapes).compile()
  split, same = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
  stores = jax.tree.map(lambda x: split if x.ndim else same, shapes[0])
  return (
    jax.jit(
      step,
      donate_argnums=0,
      in_shardings=(stores, split, split),
      out_shardings=(split, same, stores),
    )
    .lower(*shapes)
    .compile()
  )


def _run(kind, ids, mesh=None, tables=TABLES):
  """A step: vectors, turns, (store, opt)."""
  step, store = _step(kind, mesh, tables), _arrays(tables)
  given = jax.device_put(
    ((store, OPTIMIZERS[kind].init(store)), jnp.asarray(ids), _gradient()),
    step.input_shardings[0],
  )
  given = jax.tree.map(jnp.copy, given)  # the step takes them
  return jax.device_get(step(*given))


class SpreadTest(parameterized.TestCase):
  @parameterized.product(
    tables=(TABLES, SUMS, OF_ONE), ids=('few', 'one owner', 'one row')
  )
  def test_eight_devices_give_exactly_what_one_gives(self, tables, ids):
    ids = _ids(ids, tables)
    whole, spread = (
      _run('adagrad', ids, mesh, tables) for mesh in (None, _mesh())
    )
    np.testing.assert_array_equal(whole[0], spread[0])
    for a, b in zip(*map(jax.tree.leaves, (whole[2], spread[2])), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_sums_travel_where_they_are_fewer_than_rows(self):
    self.assertEqual(
      [t.sums_travel for t in (TABLES, SUMS, OF_ONE)], [False, True, True]
    )
    # 7 lookups of 3 large tables are as many vectors as one for each of 7.
    one = dataclasses.replace(TABLES, lookups=(3, 1, 3, 2, 2))
    self.assertFalse(one.sums_travel)

  def test_an_owner_that_is_asked_for_too_much_answers_in_turns(self):
    for tables in (TABLES, SUMS):
      ids = {kind: _ids(kind, tables) for kind in ('few', 'one owner')}
      turns = {
        kind: _run('adagrad', each, _mesh(), tables)[1]
        for kind, each in ids.items()
      }
      self.assertGreater(turns['one owner'], 1)
      self.assertEqual(turns['few'], 1)

  @parameterized.parameters(None, DEVICES)
  def test_sums_are_those_of_the_rows_of_each_table(self, devices):
    store, small = _arrays(), jnp.ones((43, WIDTH))
    tables = [np.asarray(TABLES.table(t, store, small)) for t in range(5)]
    ids = _ids('few')
    found = _run('adagrad', ids, devices and _mesh())[0]
    columns = np.split(ids, np.cumsum(TABLES.lookups)[:-1], axis=1)
    for place, number in enumerate((0, 2, 4)):
      expected = tables[number][columns[number]].sum(axis=1)
      np.testing.assert_array_equal(found[:, place], expected)

  def test_rows_that_a_batch_does_not_name_stay_bit_for_bit(self):
    ids = _ids('few')
    _, _, (store, opt) = _run('adagrad', ids, _mesh())
    named = TABLES._rows(jnp.asarray(ids), large=True)
    rest = np.setdiff1d(np.arange(len(store)), named)
    np.testing.assert_array_equal(store[rest], _arrays()[rest])
    self.assertEqual({*opt.sums[rest].ravel().tolist()}, {0.25})
    self.assertFalse(np.array_equal(store[np.ravel(named)],
                                    _arrays()[np.ravel(named)]))  # fmt: skip

  @parameterized.parameters(
    ('sgd', None, TABLES),
    ('adagrad', None, TABLES),
    ('adagrad', DEVICES, TABLES),
    ('adagrad', DEVICES, SUMS),
  )
  def test_a_step_copies_no_table(self, kind, devices, tables):
    step = _step(kind, devices and _mesh(), tables)
    share = _arrays(tables).nbytes // (devices or 1)
    buffers = {'sgd': 1, 'adagrad': 2}[kind]
    memory = step.memory_analysis()
    # Donated and updated in place; everything else is smaller than a table.
    self.assertGreaterEqual(memory.alias_size_in_bytes, buffers * share)
    rows = len(_arrays(tables)) // (devices or 1)
    copies = re.findall(
      rf'= f32\[{rows},{WIDTH}\]\S* (copy|dynamic-update-slice)\(',
      step.as_text(),
    )
    self.assertEmpty(copies)

  def test_rows_in_a_row_are_on_different_devices(self):
    for number in (0, 2, 4):
      rows = TABLES._row(number, jnp.arange(64))
      owners = np.asarray(rows) // (TABLES.store_rows // DEVICES)
      counts = np.bincount(owners, minlength=DEVICES)
      self.assertBetween(counts.min(), 6, 8)
      self.assertLessEqual(counts.max(), 10)

  @parameterized.parameters(TABLES, SUMS)
  def test_what_travels_is_little_more_than_ids_and_vectors(self, tables):
    text = _step('adagrad', _mesh(), tables).as_text()
    sent = re.findall(
      r'= (.*) (all-gather|all-reduce|all-to-all|reduce-scatter|'
      r'collective-permute)(?:-start)?\(',
      text,
    )
    sizes = {
      kind: max(
        np.prod([int(n) for n in shape.split(',') if n] or [1])
        for out, k in sent
        if k == kind
        for shape in re.findall(r'\w+\[([\d,]*)\]', out)
      )
      for kind in {kind for _, kind in sent}
    }
    rows = ROWS // DEVICES
    if tables is SUMS:
      # Sums of two groups, of which each has two tables; four devices have
      # terms of each, of all samples.
      self.assertLessEqual(sizes.pop('reduce-scatter'), 2 * rows * 2 * WIDTH)
      self.assertLessEqual(sizes.pop('all-gather'), ROWS * 2 * WIDTH)
      most = max(tables._placement.lookups)
      self.assertEqual(most, 8.5)  # of two pieces: half of 9, and 4
      ids = DEVICES * exchange.capacity(math.ceil(rows * most), 4)
      self.assertLessEqual(
        sizes.pop('all-to-all'), max(ids, 2 * rows * 2 * WIDTH)
      )
    else:
      lookups = rows * 6  # of large tables, on a device
      room = DEVICES * exchange.capacity(lookups, DEVICES)
      self.assertLessEqual(sizes.pop('all-to-all'), room * WIDTH)
    self.assertLessEqual(max(sizes.values()), 1)  # how many turns it takes

  def test_tables_fill_groups_evenly_and_the_most_looked_up_are_cut(self):
    """Those of DLRM-DCNv2: five of 40 M rows, one of them named 100 times."""
    for groups, slots, rows, lookups in ((8, 2, 43.1, 51), (4, 4, 80.5, 66)):
      placed = tables_lib.Tables(
        spec.TABLES, spec.LOOKUPS, WIDTH, 2500, groups=groups
      )._placement
      self.assertEqual(placed.slots, slots)  # 16 sums travel for 15 tables
      self.assertEqual(
        sum(placed.rows), sum(n for n in spec.TABLES if n > 2500)
      )
      self.assertLess(max(placed.rows) / 1e6, rows)
      self.assertEqual(
        (max(placed.lookups), sum(placed.lookups)), (lookups, 194)
      )
      self.assertEqual({*np.flatnonzero(placed.pieces > 1).tolist()}, {20})
      self.assertEqual(placed.pieces[20], 2)

  def test_pieces_are_in_different_groups_and_have_all_rows_once(self):
    for tables in (SUMS, OF_ONE):
      placed = tables._placement
      for number in (0, 2, 4):
        count = placed.pieces[number]
        groups = placed.group[number, :count].tolist()
        self.assertLen({*groups}, count)
        rows = np.asarray(tables._row(number, jnp.arange(tables.sizes[number])))
        self.assertLen(np.unique(rows), tables.sizes[number])
        self.assertEqual(
          {*(rows * len(placed.rows) // tables.store_rows).tolist()}, {*groups}
        )
    self.assertEqual(SUMS._placement.pieces.tolist(), [2, 1, 1, 1, 1])
    self.assertEqual(OF_ONE._placement.pieces.tolist(), [4, 1, 2, 1, 2])

  def test_a_device_of_many_sends_at_most_half_more_than_it_needs(self):
    for lookups in (2_000, 20_000, 500_000):
      for ways in (8, 64, 256):
        if lookups >= 64 * ways:
          sent = ways * exchange.capacity(lookups, ways)
          self.assertBetween(sent, lookups, 1.5 * lookups)


class TablesTest(parameterized.TestCase):
  @parameterized.parameters(TABLES, SUMS, OF_ONE)
  def test_every_table_starts_uniform_up_to_the_root_of_its_rows(self, tables):
    store, small = quick.jit(tables.init)(jax.random.key(3, impl='rbg'))
    for number, rows in enumerate(tables.sizes):
      table = np.asarray(tables.table(number, store, small))
      self.assertEqual(table.shape, (rows, WIDTH))
      self.assertLessEqual(abs(table).max(), rows**-0.5)
      if rows > 100:
        self.assertGreater(abs(table).max(), 0.99 * rows**-0.5)
        self.assertAlmostEqual(table.std() * rows**0.5, 3**-0.5, delta=0.02)
        self.assertGreater(len(np.unique(table)), 0.99 * table.size)

  def test_the_start_is_the_same_on_any_number_of_devices(self):
    split = NamedSharding(_mesh(), P('data'))
    same = NamedSharding(_mesh(), P())
    init = quick.jit(TABLES.init, out_shardings=(split, same))
    key = jax.random.key(3, impl='rbg')
    for a, b in zip(init(key), quick.jit(TABLES.init)(key), strict=True):
      np.testing.assert_array_equal(a, b)

  def test_given_tables_are_found_again(self):
    draws = np.random.default_rng(0)
    given = [
      draws.normal(size=(n, WIDTH)).astype(np.float32) for n in TABLES.sizes
    ]
    for tables in (TABLES, SUMS, OF_ONE):
      packed = tables.packed(given)
      for number, table in enumerate(given):
        np.testing.assert_array_equal(tables.table(number, *packed), table)

  def test_vectors_of_large_and_small_tables_come_in_order(self):
    large = jnp.arange(3.0).reshape(1, 3, 1)
    small = 10 + jnp.arange(2.0).reshape(1, 2, 1)
    merged = TABLES.merged(large, small)
    self.assertEqual(merged.ravel().tolist(), [0, 10, 1, 11, 2])

  def test_tables_that_fit_no_plan_are_refused(self):
    for sizes, lookups, says in (
      ((5, 60), (1,), 'counts of lookups'),
      ((5, 6), (1, 1), 'more than 50 rows'),
      ((60, 70), (1, 1), 'more than 50 rows'),
      ((5, 2**30, 2**30), (1, 1, 1), r'fewer than 2\*\*31'),
    ):
      with self.assertRaisesRegex(ValueError, says):
        tables_lib.Tables(sizes, lookups, WIDTH, 50)


if __name__ == '__main__':
  absltest.main()
